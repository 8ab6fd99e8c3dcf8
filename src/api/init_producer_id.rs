//! InitProducerId v0–5. v3 (KIP-360) lets a producer raise its epoch and go on. With a transactional
//! id, the instance before is fenced and what it left open is aborted, in the same step.
//!
//! Ids come in blocks from the metadata quorum; a block is used up before the next is asked for,
//! and what is left of one is lost at a restart, so no id is ever handed out twice.

use std::sync::{Arc, Mutex, PoisonError};

use braid_protocol::ErrorCode;
use braid_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use braid_raft::command::AllocateProducerIds;

use super::Broker;
use super::transactions::{STATE_SIZE_BYTES, coordinates, has_topic, refusal_code};
use crate::txn::decide::Init;
use crate::txn::{Identity, Refusal};

/// Ids in a block, as in Kafka.
const BLOCK_IDS: u32 = 1000;

/// The block that ids are taken from.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    fn take(&self) -> Option<i64> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// Makes a fetched block the current one. If two requests fetched one each, the ids of the
    /// earlier block are lost, which only leaves a gap.
    fn refill(&self, block: std::ops::Range<i64>) {
        *self.block.lock().unwrap_or_else(PoisonError::into_inner) = block;
    }
}

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let (id, epoch) = (request.producer_id.0, request.producer_epoch);
    match (id, epoch) {
        // Kafka answers a non-transactional producer with a fresh id, whatever it had before.
        (-1, -1) => {}
        (id, epoch) if id >= 0 && epoch >= 0 => {}
        _ => return refused(ErrorCode::INVALID_REQUEST),
    }
    if let Some(transactional_id) = &request.transactional_id {
        let expected = (id >= 0).then_some(Identity { producer_id: id, epoch });
        let asked = Init { timeout_ms: request.transaction_timeout_ms, expected, spare: None };
        return transactional(broker, transactional_id, asked).await;
    }
    match next_id(broker).await {
        Some(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        None => refused(ErrorCode::COORDINATOR_NOT_AVAILABLE),
    }
}

async fn transactional(broker: &Arc<Broker>, id: &str, mut asked: Init) -> InitProducerIdResponse {
    if !has_topic(broker).await {
        return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    if !coordinates(broker, id) {
        return refused(ErrorCode::NOT_COORDINATOR);
    }
    broker.partitions.room(STATE_SIZE_BYTES).await;
    let mut outcome = broker.transactions.init(id, asked);
    if matches!(outcome, Err(Refusal::NeedsProducerId)) {
        asked.spare = next_id(broker).await;
        outcome = broker.transactions.init(id, asked);
    }
    match outcome {
        Ok((who, end)) => match broker.partitions.wait_durable(end).await {
            Ok(()) => InitProducerIdResponse::default()
                .with_producer_id(ProducerId(who.producer_id))
                .with_producer_epoch(who.epoch),
            Err(_) => refused(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        },
        Err(refusal) => refused(refusal_code(&refusal, true)),
    }
}

/// A producer id that nobody had before.
pub(super) async fn next_id(broker: &Arc<Broker>) -> Option<i64> {
    loop {
        if let Some(id) = broker.producer_ids.take() {
            return Some(id);
        }
        match broker.metadata.propose(AllocateProducerIds { count: BLOCK_IDS }).await {
            Ok(Ok(block)) => broker.producer_ids.refill(block.first..block.end),
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot allocate producer ids");
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot allocate producer ids");
                return None;
            }
        }
    }
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code.0)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
