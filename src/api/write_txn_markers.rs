//! WriteTxnMarkers v1: ends a transaction on single partitions. The broker ends its own in one
//! step with their state; this is for tools that abort one which no coordinator knows any more.

use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use braid_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use braid_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use braid_protocol::records::{BatchHeader, Marker};

use super::Broker;
use super::error::append_code;
use super::respond::queue_of;
use crate::model::QueueId;
use crate::store::{Class, Part};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let mut markers = Vec::with_capacity(request.markers.len());
    for asked in request.markers {
        markers.push(one(broker, asked).await);
    }
    WriteTxnMarkersResponse::default().with_markers(markers)
}

async fn one(broker: &Arc<Broker>, asked: WritableTxnMarker) -> WritableTxnMarkerResult {
    let image = broker.metadata.image();
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let of_image = image.topic(&topic.name).map(AsRef::as_ref);
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in &topic.partition_indexes {
            let written = match queue_of(of_image, *index) {
                Ok(queue) => write(broker, queue, &asked).await,
                Err(code) => Err(code),
            };
            let code = written.err().unwrap_or(ErrorCode::NONE);
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

async fn write(
    broker: &Broker,
    queue: QueueId,
    asked: &WritableTxnMarker,
) -> Result<(), ErrorCode> {
    let marker = if asked.transaction_result { Marker::Commit } else { Marker::Abort };
    let now_ms = broker.env.clock.wall_ms();
    let producer = (asked.producer_id.0, asked.producer_epoch);
    let batch = marker
        .batch(producer, asked.coordinator_epoch, now_ms)
        .map_err(|_| ErrorCode::INVALID_REQUEST)?;
    let header = BatchHeader::parse(&batch).map_err(|_| ErrorCode::INVALID_REQUEST)?;
    broker.partitions.room(batch.len()).await;
    let part = Part { queue, batch: &batch, header: &header };
    let appended = broker
        .partitions
        .append_all(now_ms, Class::System, &[part])
        .map_err(|error| append_code(&error))?;
    let Some(appended) = appended.first() else { return Ok(()) };
    let durable = broker.partitions.wait_durable(appended.end).await;
    durable.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)
}
