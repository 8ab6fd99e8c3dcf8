//! AddOffsetsToTxn v0–4: a group joins a transaction, by its partition of `__consumer_offsets`.

use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::Broker;
use super::create_topics::OFFSETS_TOPIC;
use super::transactions::{SPREAD, STATE_SIZE_BYTES, coordinates, coordinates_group, refusal_code};
use crate::txn::Identity;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let who = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let home = (OFFSETS_TOPIC, broker.groups.partition_for(&request.group_id));
    if !coordinates(broker, &request.transactional_id) {
        let code = ErrorCode::NOT_COORDINATOR;
        return AddOffsetsToTxnResponse::default().with_error_code(code.0);
    }
    if !coordinates_group(broker, &request.group_id) {
        tracing::warn!(transactional_id = %request.transactional_id.0, "{SPREAD}");
        let code = ErrorCode::INVALID_TXN_STATE;
        return AddOffsetsToTxnResponse::default().with_error_code(code.0);
    }
    broker.partitions.room(STATE_SIZE_BYTES).await;
    let code = match broker.transactions.add(&request.transactional_id, who, &[home]) {
        Ok(end) => match broker.partitions.wait_durable(end).await {
            Ok(()) => ErrorCode::NONE,
            Err(_) => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        },
        Err(refusal) => refusal_code(&refusal, false),
    };
    AddOffsetsToTxnResponse::default().with_error_code(code.0)
}
