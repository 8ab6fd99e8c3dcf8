//! Takes proposals to whoever leads the quorum: to this node's own log, or over to another node.
//!
//! What arrives while one batch is under way is the next batch. A batch that certainly had no effect
//! (nobody led, the leader could not be reached) is tried again for a while; one that may have had
//! an effect is never repeated, since a command is not always the same twice.

use std::sync::Arc;
use std::time::Duration;

use braid_base::env::Net;
use braid_base::model::BrokerId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::controller::Controller;
use crate::network::link::{CallError, Link};
use crate::network::message::{Proposed, Request, Response};
use crate::proposer::{Pending, ProposeError};

/// For how long a proposal looks for a leader.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the leader may take to answer; longer than it waits for its own log.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Before the leader is looked for again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Commands of a batch, and their bytes.
const BATCH_COMMANDS_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The task: takes proposals until all their senders are gone.
pub(crate) async fn run(
    net: Arc<dyn Net>,
    controller: Arc<Controller>,
    mut queue: mpsc::Receiver<Pending>,
) {
    let mut link: Option<Link> = None;
    let mut carried: Option<Pending> = None;
    loop {
        let first = match carried.take() {
            Some(pending) => pending,
            None => match queue.recv().await {
                Some(pending) => pending,
                None => return,
            },
        };
        let mut bytes = first.encoded.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_COMMANDS_MAX
            && let Ok(next) = queue.try_recv()
        {
            if bytes + next.encoded.len() > BATCH_BYTES_MAX {
                carried = Some(next);
                break;
            }
            bytes += next.encoded.len();
            batch.push(next);
        }
        take_to_leader(&net, &controller, &mut link, batch).await;
    }
}

async fn take_to_leader(
    net: &Arc<dyn Net>,
    controller: &Controller,
    link: &mut Option<Link>,
    mut batch: Vec<Pending>,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leader = controller.leader();
        let answers = match leader {
            None => None,
            Some(own) if own == controller.member.node_id => Some(here(controller, &batch).await),
            Some(other) => there(net, controller, link, other, &batch).await,
        };
        if let Some(answers) = answers {
            let mut again = Vec::new();
            for (pending, answer) in batch.into_iter().zip(answers) {
                match answer {
                    // Nothing happened: the leader changed in between.
                    Err(ProposeError::NotLeader { .. }) => again.push(pending),
                    answer => drop(pending.reply.send(answer)),
                }
            }
            batch = again;
        }
        if batch.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            for pending in batch {
                drop(pending.reply.send(Err(ProposeError::NotLeader { leader })));
            }
            return;
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Proposes to this node's own log.
async fn here(controller: &Controller, batch: &[Pending]) -> Vec<Proposed> {
    let mut waiting = Vec::with_capacity(batch.len());
    for pending in batch {
        let (reply, answer) = oneshot::channel();
        let (command, encoded) = (pending.command.clone(), pending.encoded.clone());
        // A queue that is gone drops the reply, which its reader notices.
        drop(controller.proposals.send(Pending { command, encoded, reply }).await);
        waiting.push(answer);
    }
    let mut answers = Vec::with_capacity(waiting.len());
    for answer in waiting {
        answers.push(answer.await.unwrap_or(Err(ProposeError::Stopped)));
    }
    answers
}

/// Proposes to another node; none if it certainly did not happen.
async fn there(
    net: &Arc<dyn Net>,
    controller: &Controller,
    link: &mut Option<Link>,
    leader: BrokerId,
    batch: &[Pending],
) -> Option<Vec<Proposed>> {
    let link = match link {
        Some(link) if link.target() == leader => link,
        _ => link.insert(Link::new(net, &controller.member, leader)),
    };
    let commands = batch.iter().map(|pending| pending.encoded.clone()).collect();
    match link.call(&Request::Propose(commands), ANSWER_WITHIN).await {
        Ok(Response::Proposed(answers)) if answers.len() == batch.len() => Some(answers),
        Ok(Response::NotLeader(_) | Response::Unready(_)) | Err(CallError::Unreached { .. }) => {
            None
        }
        Ok(other) => {
            tracing::error!(?other, "an answer to another question");
            Some(batch.iter().map(|_| Err(ProposeError::Interrupted)).collect())
        }
        Err(error @ CallError::Unanswered { .. }) => {
            tracing::debug!(%error, "whether proposals took effect is unknown");
            Some(batch.iter().map(|_| Err(ProposeError::Interrupted)).collect())
        }
    }
}
