//! EndTxn v0–5: commits or aborts. From v5 on the producer's epoch is raised by every end, and the
//! answer tells the new one (KIP-890). Answered when the end is on disk, and the offsets with it.

use std::sync::Arc;

use braid_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};
use braid_protocol::records::Marker;
use braid_protocol::{ErrorCode, RequestHeader, feature};

use super::Broker;
use super::init_producer_id::next_id;
use super::transactions::{STATE_SIZE_BYTES, refusal_code, spawn_commit};
use crate::txn::decide::End;
use crate::txn::{Ended, Identity, Refusal};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    request: EndTxnRequest,
) -> EndTxnResponse {
    let marker = if request.committed { Marker::Commit } else { Marker::Abort };
    let who = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let raises = feature::end_txn_raises_epoch(header.api_version);
    broker.partitions.room(STATE_SIZE_BYTES).await;
    let mut asked = End { who, marker, raises, spare: None };
    let mut outcome = broker.transactions.end(&request.transactional_id, asked);
    if matches!(outcome, Err(Refusal::NeedsProducerId)) {
        asked.spare = next_id(broker).await;
        outcome = broker.transactions.end(&request.transactional_id, asked);
    }
    match outcome {
        Ok(ended) => done(broker, ended).await,
        Err(refusal) => refused(refusal_code(&refusal, true)),
    }
}

async fn done(broker: &Arc<Broker>, ended: Ended) -> EndTxnResponse {
    let Ended { who, end, to_commit } = ended;
    // The log keeps their order, so one wait covers the end and its offsets.
    let committed = match to_commit {
        Some(to_commit) => spawn_commit(broker, to_commit).await.is_ok(),
        None => true,
    };
    if broker.partitions.wait_durable(end).await.is_err() || !committed {
        return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    EndTxnResponse::default()
        .with_producer_id(ProducerId(who.producer_id))
        .with_producer_epoch(who.epoch)
}

fn refused(code: ErrorCode) -> EndTxnResponse {
    EndTxnResponse::default()
        .with_error_code(code.0)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
