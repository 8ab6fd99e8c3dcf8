//! Proposals that arrive while one is being synced go into the log together as the next entry:
//! one task takes what has queued up, reserves the room, and hands it to openraft, which takes one
//! entry per write and sync. Room is reserved before openraft sees the entry, because to openraft
//! a full disk is the end, while to the broker it is a refusal that passes.

use std::time::Duration;

use openraft::Raft;
use openraft::error::{ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use braid_base::model::BrokerId;

use crate::command::MetadataCommand;
use crate::log_store::{LogStore, Room};
use crate::outcome::Outcome;
use crate::types::{Proposal, TypeConfig};

/// Longest encoded command.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;
/// Commands put into one entry before the batch closes, and their bytes.
const BATCH_COMMANDS_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes that frame, entry and batch add to a command, generously.
const OVERHEAD_BYTES: usize = 256;

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProposeError {
    /// Nobody was found in time who leads the quorum. Nothing happened; it may be tried again.
    #[error("the metadata quorum has no leader that this node can reach")]
    NotLeader {
        /// Who does, if known.
        leader: Option<BrokerId>,
    },
    /// The disk has no room for the command. Nothing happened; it may be tried again later.
    #[error("the metadata log's disk is full")]
    DiskFull,
    /// The command is longer than any command may be.
    #[error("the command takes {size_bytes} bytes; the most is {COMMAND_BYTES_MAX}")]
    TooLarge {
        /// Its length.
        size_bytes: usize,
    },
    /// The node is shutting down, or has failed: whether the command took effect is unknown.
    #[error("the metadata node has stopped")]
    Stopped,
    /// The leader of the quorum was lost on the way: whether the command took effect is unknown.
    #[error("the leader of the metadata quorum did not answer; the change may or may not be made")]
    Interrupted,
}

/// A command that waits for its turn.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) command: MetadataCommand,
    pub(crate) encoded: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Result<(Outcome, u64), ProposeError>>,
}

/// The task: takes proposals until all its senders are gone. An answer that takes longer than
/// `patience` is not waited for: in a quorum of several, a leader that was cut off never gets one.
pub(crate) async fn run(
    raft: Raft<TypeConfig>,
    log: LogStore,
    patience: Option<Duration>,
    mut queue: mpsc::Receiver<Pending>,
) {
    // The command that did not fit the last batch leads the next.
    let mut carried: Option<Pending> = None;
    loop {
        let first = match carried.take() {
            Some(pending) => pending,
            None => match queue.recv().await {
                Some(pending) => pending,
                None => return,
            },
        };
        let mut bytes = first.encoded.len() + OVERHEAD_BYTES;
        let mut batch = vec![first];
        while batch.len() < BATCH_COMMANDS_MAX
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.encoded.len() + OVERHEAD_BYTES;
            if bytes > BATCH_BYTES_MAX {
                carried = Some(next);
                break;
            }
            batch.push(next);
        }
        write(&raft, &log, patience, batch).await;
    }
}

async fn write(
    raft: &Raft<TypeConfig>,
    log: &LogStore,
    patience: Option<Duration>,
    batch: Vec<Pending>,
) {
    let bytes: usize = batch.iter().map(|it| it.encoded.len() + OVERHEAD_BYTES).sum();
    let room = if batch.iter().all(|it| may_use_spare(&it.command)) {
        Room::Spare
    } else {
        Room::Ordinary
    };
    let (commands, replies): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|it| ((it.command, it.encoded), it.reply)).unzip();
    let result = match log.reserve(bytes as u64, room).await {
        Ok(()) => propose_within(raft, patience, Proposal::new(commands)).await,
        Err(error) if error.is_full() => Err(ProposeError::DiskFull),
        Err(error) => {
            tracing::error!(%error, "the metadata log cannot be written");
            // The log is closed now; trying to write tells openraft, which then tells everyone.
            propose(raft, Proposal::new(commands)).await
        }
    };
    // A proposer that went away does not wait for its answer.
    match result {
        Ok((outcomes, index)) => {
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                drop(reply.send(Ok((outcome, index))));
            }
        }
        Err(error) => {
            for reply in replies {
                drop(reply.send(Err(error.clone())));
            }
        }
    }
}

/// Whether a full disk must not refuse the command: a broker cannot start without it, or it is
/// how an operator makes room.
fn may_use_spare(command: &MetadataCommand) -> bool {
    match command {
        MetadataCommand::ClusterInit(_)
        | MetadataCommand::RegisterBroker(_)
        | MetadataCommand::FenceBroker(_)
        | MetadataCommand::ChangeSyncSet(_)
        | MetadataCommand::ElectLeaders(_)
        | MetadataCommand::StartBroker(_)
        | MetadataCommand::DrainBroker(_)
        | MetadataCommand::AdmitDirectory(_)
        | MetadataCommand::DeleteTopics(_)
        | MetadataCommand::SetTopicConfigs(_)
        | MetadataCommand::SetBrokerConfigs(_) => true,
        MetadataCommand::CreateTopics(_)
        | MetadataCommand::CreateShards(_)
        | MetadataCommand::CreatePartitions(_)
        | MetadataCommand::AllocateProducerIds(_)
        | MetadataCommand::SetResourceConfigs(_) => false,
    }
}

async fn propose_within(
    raft: &Raft<TypeConfig>,
    patience: Option<Duration>,
    proposal: Proposal,
) -> Result<(Vec<Outcome>, u64), ProposeError> {
    match patience {
        None => propose(raft, proposal).await,
        Some(patience) => timeout(patience, propose(raft, proposal))
            .await
            .unwrap_or(Err(ProposeError::Interrupted)),
    }
}

async fn propose(
    raft: &Raft<TypeConfig>,
    proposal: Proposal,
) -> Result<(Vec<Outcome>, u64), ProposeError> {
    match raft.client_write(proposal).await {
        Ok(response) => Ok((response.data.0, response.log_id.index)),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            let leader = forward.leader_id.and_then(|id| i32::try_from(id).ok()).map(BrokerId);
            Err(ProposeError::NotLeader { leader })
        }
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(_))) => {
            unreachable!("a command changes no membership")
        }
        Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped),
    }
}
