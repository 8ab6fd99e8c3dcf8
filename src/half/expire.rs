//! A round of expiry: the copies that go to the discard topic, read and made beside the owner.

use bytes::Bytes;

use super::event::Expiry;
use super::id::TransactionId;
use super::payload;
use super::targets::{Target, Targets};
use crate::env::Clock;
use crate::model::QueueId;
use crate::partition::Partitions;

/// What a round has to append. A half without a copy could not be read; the others go on.
#[derive(Debug)]
pub(super) struct Copies {
    /// The queue of the discard topic, if it can be had.
    pub(super) discard: Option<QueueId>,
    pub(super) copies: Vec<(TransactionId, Option<Bytes>)>,
}

pub(super) async fn copy(
    partitions: &Partitions,
    targets: &dyn Targets,
    clock: &dyn Clock,
    round: Vec<(TransactionId, (Expiry, u16))>,
) -> Copies {
    let Some(Target { queue, log_append_time, compression }) = targets.discard().await else {
        return Copies { discard: None, copies: Vec::new() };
    };
    let mut copies = Vec::with_capacity(round.len());
    for (id, (reason, checks)) in round {
        let copy = copy_of(partitions, id, reason, checks).await;
        let copy = match (copy, compression) {
            (Some(copy), Some(compression)) => payload::compressed(&copy, compression).ok(),
            (copy, _) => copy,
        };
        let now_ms = log_append_time.then(|| clock.wall_ms());
        let copy = copy.map(|copy| match now_ms {
            Some(now_ms) => payload::stamped(&copy, now_ms),
            None => copy,
        });
        copies.push((id, copy));
    }
    Copies { discard: Some(queue), copies }
}

async fn copy_of(
    partitions: &Partitions,
    id: TransactionId,
    reason: Expiry,
    checks: u16,
) -> Option<Bytes> {
    let half = payload::half(partitions, id).await.ok()?;
    let half = payload::message_of(id, half).ok()?;
    match payload::discarded(&half, reason, checks) {
        Ok(copy) => Some(copy),
        Err(error) => {
            tracing::error!(transaction_id = %id, %error, "a half message cannot be discarded");
            None
        }
    }
}
