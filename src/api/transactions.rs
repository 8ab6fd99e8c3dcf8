//! What the handlers about transactions share: codes, the topic of states, and the work that goes
//! on behind them (late transactions, offsets of committed ones).

use std::sync::Arc;
use std::time::Duration;

use braid_protocol::ErrorCode;
use tokio::sync::watch;

use super::Broker;
use super::create_topics::{OFFSETS_TOPIC, auto_create};
use super::error::append_code;
use crate::group::{CommitPartition, CommitRequest, CommitTopic, GroupError};
use crate::partition::partition_for;
use crate::store::AppendError;
use crate::txn::{GroupOffsets, Refusal, ToCommit};

/// The topic of transactional ids.
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// How often late transactions are looked for. Kafka looks every ten seconds; a reader of
/// committed records waits for them.
const TICK: Duration = Duration::from_secs(1);
/// Before what failed is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Bytes that an end may take in the log, before it is known how many partitions it has.
pub(super) const STATE_SIZE_BYTES: usize = 64 * 1024;

/// The code of a refusal, for a client that knows PRODUCER_FENCED; versions that do not know it
/// are seen to when the answer is made fit.
pub(super) fn refusal_code(refusal: &Refusal, has_abortable: bool) -> ErrorCode {
    match refusal {
        Refusal::Loading => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        Refusal::NoTopic | Refusal::NeedsProducerId => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        Refusal::InvalidId => ErrorCode::INVALID_REQUEST,
        Refusal::InvalidTimeout => ErrorCode::INVALID_TRANSACTION_TIMEOUT,
        Refusal::UnknownMapping => ErrorCode::INVALID_PRODUCER_ID_MAPPING,
        Refusal::Fenced => ErrorCode::PRODUCER_FENCED,
        Refusal::Concurrent => ErrorCode::CONCURRENT_TRANSACTIONS,
        Refusal::NotInTransaction if has_abortable => ErrorCode::TRANSACTION_ABORTABLE,
        Refusal::NotInTransaction | Refusal::InvalidState => ErrorCode::INVALID_TXN_STATE,
        Refusal::TooLarge => ErrorCode::RECORD_LIST_TOO_LARGE,
        Refusal::Append(error) => coordinator_code(error),
    }
}

/// The code of a state that the log did not take: nearly all of these pass.
pub(super) fn coordinator_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::TooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
        AppendError::Fenced { .. } | AppendError::Elsewhere(_) => ErrorCode::NOT_COORDINATOR,
        AppendError::UnknownQueue(_)
        | AppendError::NotTheBatch { .. }
        | AppendError::Rejected(_)
        | AppendError::DiskFull
        | AppendError::SegmentNotReady
        | AppendError::NoMemory
        | AppendError::Damaged { .. }
        | AppendError::Failed(_) => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}

/// The code of a batch that may not join a transaction.
pub(super) fn produce_code(refusal: &Refusal, joins: bool, has_abortable: bool) -> ErrorCode {
    match refusal {
        // Producers know no coordinator on this path; they try again on this.
        Refusal::Loading | Refusal::NoTopic | Refusal::NeedsProducerId => {
            ErrorCode::NOT_ENOUGH_REPLICAS
        }
        Refusal::Concurrent if !joins => ErrorCode::NOT_ENOUGH_REPLICAS,
        Refusal::Fenced => ErrorCode::INVALID_PRODUCER_EPOCH,
        Refusal::TooLarge => ErrorCode::INVALID_TXN_STATE,
        Refusal::Append(error) => append_code(error),
        Refusal::InvalidId
        | Refusal::InvalidTimeout
        | Refusal::UnknownMapping
        | Refusal::Concurrent
        | Refusal::InvalidState
        | Refusal::NotInTransaction => refusal_code(refusal, has_abortable),
    }
}

/// What a transaction that reaches over several brokers is told.
pub(super) const SPREAD: &str = "The transaction reaches beyond one broker, which is not built yet: all \
     its partitions, and the groups whose offsets it commits, must be on the broker that coordinates it.";

/// Whether this broker coordinates a transactional id. A node alone coordinates all of them.
pub(super) fn coordinates(broker: &Broker, id: &str) -> bool {
    leads_home(broker, TRANSACTIONS_TOPIC, id)
}

/// Whether this broker coordinates a group.
pub(super) fn coordinates_group(broker: &Broker, group: &str) -> bool {
    leads_home(broker, OFFSETS_TOPIC, group)
}

fn leads_home(broker: &Broker, topic: &str, key: &str) -> bool {
    if !broker.metadata.is_one_of_several() {
        return true;
    }
    let image = broker.metadata.image();
    let Some(topic) = image.topic(topic) else { return false };
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let home = topic.partition(partition_for(key, count));
    home.is_some_and(|home| broker.leads(&image, home))
}

/// Makes the topic of states unless it is there; says whether it is.
pub(super) async fn has_topic(broker: &Arc<Broker>) -> bool {
    if broker.metadata.image().topic(TRANSACTIONS_TOPIC).is_none() {
        auto_create(broker, &[TRANSACTIONS_TOPIC.to_owned()]).await;
    }
    broker.metadata.image().topic(TRANSACTIONS_TOPIC).is_some()
}

/// Reads the transactions back, finishes what was committed, and looks for late ones until the
/// broker stops.
pub(crate) async fn watch_over(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    loop {
        match broker.transactions.load().await {
            Ok(()) => break,
            Err(error) => tracing::error!(%error, "transactions cannot be served yet"),
        }
        if pause(&mut stopping, TICK).await {
            return;
        }
    }
    for prepared in broker.transactions.prepared() {
        spawn_commit(&broker, prepared);
    }
    while !pause(&mut stopping, TICK).await {
        broker.transactions.tick();
    }
}

/// Waits, and says whether the broker stops.
async fn pause(stopping: &mut watch::Receiver<bool>, length: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => false,
        _ = stopping.wait_for(|stopping| *stopping) => true,
    }
}

/// Writes the offsets of a committed transaction, whether or not its client still waits. The
/// receiver learns when they are durable.
pub(super) fn spawn_commit(
    broker: &Arc<Broker>,
    to_commit: ToCommit,
) -> tokio::sync::oneshot::Receiver<()> {
    let (done, committed) = tokio::sync::oneshot::channel();
    let of_task = Arc::clone(broker);
    let task = async move {
        if commit(&of_task, &to_commit).await {
            let _gone = done.send(());
        }
    };
    drop(broker.env.spawner.critical("transaction's offsets", task));
    committed
}

/// Says whether it is done: not if the broker stops before.
async fn commit(broker: &Broker, to_commit: &ToCommit) -> bool {
    let mut stopping = broker.stopping.clone();
    for (group, offsets) in &to_commit.offsets {
        loop {
            match broker.groups.commit_of_transaction(request(broker, group, offsets)).await {
                Ok(_) => break,
                Err(GroupError::InvalidCommitOffsetSize) => {
                    tracing::error!(%group, "a transaction's offsets do not fit into the log");
                    break;
                }
                Err(error) => tracing::debug!(%group, %error, "offsets are written later"),
            }
            if pause(&mut stopping, RETRY_AFTER).await {
                return false;
            }
        }
    }
    loop {
        match broker.transactions.committed(to_commit) {
            // It need not be durable: a restart would write the same once more.
            Ok(_) => return true,
            Err(Refusal::Append(error)) => tracing::debug!(%error, "completed later"),
            Err(error) => {
                tracing::warn!(transactional_id = &*to_commit.id, %error, "not completed");
                return true;
            }
        }
        if pause(&mut stopping, RETRY_AFTER).await {
            return false;
        }
    }
}

fn request(broker: &Broker, group: &str, offsets: &GroupOffsets) -> CommitRequest {
    let image = broker.metadata.image();
    let mut topics: Vec<CommitTopic> = Vec::new();
    for ((name, partition), pending) in offsets {
        // Offsets of a topic that is gone, or of another that had its name, are nobody's.
        if image.topic(name).is_none_or(|topic| topic.id != pending.topic_id) {
            continue;
        }
        let offset = CommitPartition {
            partition: *partition,
            offset: pending.offset,
            leader_epoch: pending.leader_epoch,
            metadata: Some(pending.metadata.to_string()),
        };
        match topics.last_mut().filter(|last| *last.name == **name) {
            Some(last) => last.partitions.push(offset),
            None => topics.push(CommitTopic {
                name: name.to_string(),
                topic_id: pending.topic_id,
                partitions: vec![offset],
            }),
        }
    }
    CommitRequest {
        group_id: group.to_owned(),
        generation: -1,
        member_id: String::new(),
        group_instance_id: None,
        retention_ms: -1,
        topics,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LogFailed, SequenceRejected};

    /// Every refusal there is: a new one has to be added, since nothing here is `_`.
    fn refusals() -> Vec<Refusal> {
        let appends = [
            AppendError::DiskFull,
            AppendError::SegmentNotReady,
            AppendError::NoMemory,
            AppendError::Failed(LogFailed::Closed),
            AppendError::TooLarge { max: 1, got: 2 },
            AppendError::UnknownQueue(crate::model::QueueId(1)),
            AppendError::Rejected(SequenceRejected::OutOfOrder { last: 1, got: 3 }),
            AppendError::Rejected(SequenceRejected::ProducerFenced { current: 3, got: 1 }),
            AppendError::Rejected(SequenceRejected::EndedTransaction { got: 1 }),
            AppendError::Rejected(SequenceRejected::OutsideTransaction),
            AppendError::Rejected(SequenceRejected::UnknownProducer),
        ];
        let own = [
            Refusal::Loading,
            Refusal::NoTopic,
            Refusal::InvalidId,
            Refusal::InvalidTimeout,
            Refusal::UnknownMapping,
            Refusal::Fenced,
            Refusal::Concurrent,
            Refusal::InvalidState,
            Refusal::NotInTransaction,
            Refusal::NeedsProducerId,
            Refusal::TooLarge,
        ];
        own.into_iter().chain(appends.map(Refusal::Append)).collect()
    }

    #[test]
    fn no_refusal_is_an_unknown_server_error_which_makes_producers_send_twice() {
        for refusal in refusals() {
            for flag in [false, true] {
                let codes = [
                    refusal_code(&refusal, flag),
                    produce_code(&refusal, flag, false),
                    produce_code(&refusal, flag, true),
                ];
                assert!(codes.iter().all(|code| code.0 > 0), "{refusal:?}: {codes:?}");
            }
        }
    }

    #[test]
    fn what_passes_has_a_code_that_clients_try_again_on() {
        // Those that every client tries again, of a coordinator and of a produce.
        let coordinator = [
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::CONCURRENT_TRANSACTIONS,
        ];
        let produce = [
            ErrorCode::NOT_ENOUGH_REPLICAS,
            ErrorCode::KAFKA_STORAGE_ERROR,
            ErrorCode::CONCURRENT_TRANSACTIONS,
        ];
        for passing in [
            Refusal::Loading,
            Refusal::NoTopic,
            Refusal::Concurrent,
            Refusal::NeedsProducerId,
            Refusal::Append(AppendError::DiskFull),
            Refusal::Append(AppendError::SegmentNotReady),
            Refusal::Append(AppendError::NoMemory),
            Refusal::Append(AppendError::Failed(LogFailed::Closed)),
        ] {
            assert!(coordinator.contains(&refusal_code(&passing, true)), "{passing:?}");
            for joins in [false, true] {
                let code = produce_code(&passing, joins, true);
                assert!(produce.contains(&code), "{passing:?}: {code:?}");
            }
        }
        // Old clients take CONCURRENT_TRANSACTIONS of a produce for final.
        let code = produce_code(&Refusal::Concurrent, false, false);
        assert_eq!(code, ErrorCode::NOT_ENOUGH_REPLICAS);
    }
}
