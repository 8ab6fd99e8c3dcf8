//! WriteTxnMarkers v1–2: ends a transaction on single partitions. The broker ends its own in one
//! step with their state; this is for tools that abort one which no coordinator knows any more. From
//! v2 on a marker says which transaction.version it is of: with 2 its epoch has to be a raised one.
//! Errors: NOT_LEADER_OR_FOLLOWER, INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, UNKNOWN_TOPIC_OR_PARTITION,
//! INVALID_TXN_STATE for a commit of a transaction that its producer has under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::messages::WriteTxnMarkersResponse;
use braid_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use braid_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use braid_protocol::records::Marker;
use braid_protocol::transactions::WriteTxnMarkers;

use super::Broker;
use super::respond::queue_of;
use super::transactions::{STATE_SIZE_BYTES, produce_code};
use crate::txn::{COORDINATOR_EPOCH, Identity, Mark, MarkedPartition, Refusal};

/// From this one on every end raises the epoch.
const RAISING_VERSION: i8 = 2;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    asked: WriteTxnMarkers,
) -> WriteTxnMarkersResponse {
    let versions = asked.transaction_versions.into_iter().chain(std::iter::repeat(0));
    let mut markers = Vec::with_capacity(asked.request.markers.len());
    for (asked, version) in asked.request.markers.into_iter().zip(versions) {
        markers.push(one(broker, asked, version).await);
    }
    WriteTxnMarkersResponse::default().with_markers(markers)
}

async fn one(
    broker: &Arc<Broker>,
    asked: WritableTxnMarker,
    transaction_version: i8,
) -> WritableTxnMarkerResult {
    let mark = Mark {
        marker: if asked.transaction_result { Marker::Commit } else { Marker::Abort },
        producer: Identity { producer_id: asked.producer_id.0, epoch: asked.producer_epoch },
        coordinator_epoch: asked.coordinator_epoch,
        raises: transaction_version >= RAISING_VERSION,
    };
    // Of a transaction that ended with one of these markers.
    let mut ended = BTreeMap::new();
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in &topic.partition_indexes {
            let is_ended = ended
                .get(topic.name.as_str())
                .is_some_and(|partitions: &BTreeSet<i32>| partitions.contains(index));
            let code = if is_ended {
                ErrorCode::NONE
            } else {
                match write(broker, (&topic.name, *index), mark).await {
                    Ok(partitions) => {
                        ended.extend(partitions);
                        ErrorCode::NONE
                    }
                    Err(code) => code,
                }
            };
            partitions.push(
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(*index)
                    .with_error_code(code.0),
            );
        }
        topics.push(
            WritableTxnMarkerTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    WritableTxnMarkerResult::default().with_producer_id(asked.producer_id).with_topics(topics)
}

/// Writes one marker; the partitions of a transaction that ended as a whole.
async fn write(
    broker: &Broker,
    (topic, partition): (&str, i32),
    mark: Mark,
) -> Result<BTreeMap<Arc<str>, BTreeSet<i32>>, ErrorCode> {
    let image = broker.metadata.image();
    let queue = queue_of(broker, &image, image.topic(topic).map(AsRef::as_ref), partition)?;
    if mark.coordinator_epoch < COORDINATOR_EPOCH {
        return Err(ErrorCode::TRANSACTION_COORDINATOR_FENCED);
    }
    broker.partitions.room(STATE_SIZE_BYTES).await;
    let at = MarkedPartition { topic, partition, queue };
    let marked = broker.transactions.mark(&at, mark).map_err(|refusal| code(&refusal))?;
    let durable = broker.partitions.wait_durable(marked.end).await;
    durable.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
    Ok(marked.partitions)
}

fn code(refusal: &Refusal) -> ErrorCode {
    produce_code(refusal, true, false)
}
