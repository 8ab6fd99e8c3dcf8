//! AddPartitionsToTxn v0–5. Up to v3 a client's, about one transaction; from v4 on a broker's, about
//! several, which it may only want verified. If one partition cannot be added none is, and the
//! others are answered with OPERATION_NOT_ATTEMPTED.

use std::sync::Arc;

use braid_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use braid_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use braid_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use braid_protocol::{ErrorCode, RequestHeader, feature};

use super::Broker;
use super::respond::{is_internal, queue_of};
use super::transactions::{SPREAD, STATE_SIZE_BYTES, coordinates, refusal_code};
use crate::txn::Identity;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let batched = feature::add_partitions_is_batched(header.api_version);
    let mut results = Vec::with_capacity(request.transactions.len());
    for asked in request.transactions {
        let topic_results = one(broker, &asked, batched).await;
        results.push(
            AddPartitionsToTxnResult::default()
                .with_transactional_id(asked.transactional_id)
                .with_topic_results(topic_results),
        );
    }
    AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
}

async fn one(
    broker: &Arc<Broker>,
    asked: &AddPartitionsToTxnTransaction,
    batched: bool,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let image = broker.metadata.image();
    let who = Identity { producer_id: asked.producer_id.0, epoch: asked.producer_epoch };
    let id = asked.transactional_id.as_str();
    let check = |topic: &str, partition: i32| {
        if is_internal(topic) {
            return ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        }
        let topic = image.topic(topic).map(AsRef::as_ref);
        match queue_of(broker, &image, topic, partition) {
            Ok(_) => ErrorCode::NONE,
            Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) => {
                tracing::warn!(transactional_id = id, "{SPREAD}");
                ErrorCode::INVALID_TXN_STATE
            }
            Err(code) => code,
        }
    };
    if !coordinates(broker, id) {
        return answer(asked, |_, _| ErrorCode::NOT_COORDINATOR);
    }
    if batched && asked.verify_only {
        return answer(asked, |topic, partition| {
            match broker.transactions.verify(id, who, (topic, partition)) {
                Ok(()) => ErrorCode::NONE,
                Err(refusal) => refusal_code(&refusal, true),
            }
        });
    }
    let wanted: Vec<(&str, i32)> = asked
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.as_str(), *index)))
        .collect();
    if wanted.iter().any(|(topic, partition)| check(topic, *partition) != ErrorCode::NONE) {
        return answer(asked, |topic, partition| match check(topic, partition) {
            ErrorCode::NONE => ErrorCode::OPERATION_NOT_ATTEMPTED,
            code => code,
        });
    }
    broker.partitions.room(STATE_SIZE_BYTES).await;
    let code = match broker.transactions.add(id, who, &wanted) {
        Ok(end) => match broker.partitions.wait_durable(end).await {
            Ok(()) => ErrorCode::NONE,
            Err(_) => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        },
        Err(refusal) => refusal_code(&refusal, batched),
    };
    answer(asked, |_, _| code)
}

fn answer(
    asked: &AddPartitionsToTxnTransaction,
    code: impl Fn(&str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let topic = |topic: &braid_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter().map(|index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code(&topic.name, *index).0)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    };
    asked.topics.iter().map(topic).collect()
}
