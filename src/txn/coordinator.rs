//! [`Transactions`]: the handle, and the one lock under which transactions change.
//!
//! Under the lock a request is decided, appended and applied, so that of two racing requests the
//! second sees what the first did. Nothing waits there: appending is memory. What a caller may
//! tell its client is true once the log is durable up to the position it gets.
//! Lock order: this one, then the shard's.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter, Marker};
use braid_raft::MetadataNode;
use bytes::Bytes;

use super::book::{Book, Key};
use super::decide::{self, Change, Decision, End, Init, Markers};
use super::error::Refusal;
use super::record;
use super::state::{GroupOffsets, Identity, Status, Txn};
use crate::env::Env;
use crate::model::{Position, ProducerId, QueueId};
use crate::partition::{Partitions, partition_for};
use crate::store::{
    ActiveProducer, AppendError, Appended, BatchSum, Class, Part, SequenceRejected,
};

/// The coordinator's epoch in markers: there is one, and it never changes.
pub(crate) const COORDINATOR_EPOCH: i32 = 0;

/// What does not change while the broker runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The topic of states.
    pub(crate) topic: &'static str,
    /// The topic of group offsets, which markers are not written to.
    pub(crate) offsets_topic: &'static str,
    /// `transaction.max.timeout.ms`.
    pub(crate) timeout_max_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub(crate) expiration_ms: i64,
    /// Bytes that the end of a transaction may take in the log, which takes it whole.
    pub(crate) end_size_bytes_max: usize,
}

/// What a marker takes in the log, roughly and at most.
const MARKER_SIZE_BYTES: usize = 192;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Transactions(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) env: Env,
    pub(super) metadata: MetadataNode,
    pub(super) partitions: Partitions,
    pub(super) settings: Settings,
    book: Mutex<Book>,
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

/// What came of an end.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Who the producer is from now on.
    pub(crate) who: Identity,
    /// True once the log is durable up to here, and `to_commit` is written.
    pub(crate) end: Position,
    pub(crate) to_commit: Option<ToCommit>,
}

/// Offsets that a committed transaction still has to write.
#[derive(Debug)]
pub(crate) struct ToCommit {
    pub(crate) id: Arc<str>,
    pub(crate) who: Identity,
    /// By group.
    pub(crate) offsets: BTreeMap<Arc<str>, GroupOffsets>,
}

/// A transaction that may change a group's offsets.
#[derive(Debug)]
pub(crate) struct PendingIn {
    id: Arc<str>,
    /// Where the log has its state.
    end: Position,
}

/// One line of a listing.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) id: Arc<str>,
    pub(crate) producer_id: i64,
    pub(crate) status: Status,
    /// When its last transaction began, or -1.
    pub(crate) started_ms: i64,
}

/// A partition that a marker is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MarkedPartition<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) queue: QueueId,
}

/// A marker that a tool has written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) marker: Marker,
    pub(crate) producer: Identity,
    pub(crate) coordinator_epoch: i32,
    /// Its epoch is the raised one of transaction.version 2.
    pub(crate) raises: bool,
}

/// A marker, written.
#[derive(Debug)]
pub(crate) struct Marked {
    /// It is there once the log is durable up to here.
    pub(crate) end: Position,
    /// All partitions of the transaction, if it ended with it.
    pub(crate) partitions: BTreeMap<Arc<str>, BTreeSet<i32>>,
}

/// Offsets count as pending as long as this is held.
#[derive(Debug)]
pub(crate) struct Intent {
    of: Transactions,
    group: Arc<str>,
    number: u64,
}

impl Drop for Intent {
    fn drop(&mut self) {
        let mut book = self.of.book();
        if let Some(intents) = book.intents.get_mut(&self.group) {
            intents.retain(|(number, _)| *number != self.number);
            if intents.is_empty() {
                book.intents.remove(&self.group);
            }
        }
    }
}

/// A batch and its header.
type Batch = (Bytes, BatchHeader);

/// A write, done.
struct Written {
    end: Position,
    data: Option<Appended>,
}

impl Transactions {
    /// A coordinator that refuses everything until [`Transactions::load`] has succeeded.
    pub(crate) fn new(
        env: Env,
        metadata: MetadataNode,
        partitions: Partitions,
        settings: Settings,
    ) -> Self {
        let book = Mutex::new(Book::default());
        Self(Arc::new(Inner { env, metadata, partitions, settings, book }))
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, once the log was read back.
    fn ready(&self) -> Result<MutexGuard<'_, Book>, Refusal> {
        let book = self.book();
        if book.is_loaded { Ok(book) } else { Err(Refusal::Loading) }
    }

    fn now_ms(&self) -> i64 {
        self.0.env.clock.wall_ms()
    }

    /// InitProducerId: who the producer is, once the log is durable up to the position.
    pub(crate) fn init(&self, id: &str, asked: Init) -> Result<(Identity, Position), Refusal> {
        if id.is_empty() || i16::try_from(id.len()).is_err() {
            return Err(Refusal::InvalidId);
        }
        if !(1..=self.0.settings.timeout_max_ms).contains(&asked.timeout_ms) {
            return Err(Refusal::InvalidTimeout);
        }
        let mut book = self.ready()?;
        let decision = decide::init(book.txn(id), self.now_ms(), asked)?;
        self.carry_out(&mut book, id, decision)
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn.
    pub(crate) fn add(
        &self,
        id: &str,
        who: Identity,
        partitions: &[(&str, i32)],
    ) -> Result<Position, Refusal> {
        let mut book = self.ready()?;
        let decision = decide::add(book.txn(id), self.now_ms(), who, partitions)?;
        Ok(self.carry_out(&mut book, id, decision)?.1)
    }

    /// Whether a partition is in the producer's transaction.
    pub(crate) fn verify(
        &self,
        id: &str,
        who: Identity,
        partition: (&str, i32),
    ) -> Result<(), Refusal> {
        decide::verify(self.ready()?.txn(id), who, partition)
    }

    /// Offsets of a group count as pending from here on, before it is known whether they may join
    /// a transaction: whoever takes the group's partitions over reads them afterwards and waits, or
    /// has read them before, and then the group refuses.
    pub(crate) fn intend(&self, group: &str, keys: Vec<Key>) -> Intent {
        let mut book = self.book();
        let number = book.next_intent;
        book.next_intent += 1;
        let group: Arc<str> = Arc::from(group);
        book.intents.entry(Arc::clone(&group)).or_default().push((number, keys));
        Intent { of: self.clone(), group, number }
    }

    /// TxnOffsetCommit, once the group has agreed. `home` is the group's partition.
    pub(crate) fn add_offsets(
        &self,
        id: &str,
        who: Identity,
        home: i32,
        offsets: (&str, GroupOffsets),
        adds_group: bool,
    ) -> Result<Position, Refusal> {
        let mut book = self.ready()?;
        let home = (self.0.settings.offsets_topic, home);
        let now_ms = self.now_ms();
        let change = decide::add_offsets(book.txn(id), now_ms, who, home, offsets, adds_group)?;
        let id = Arc::from(id);
        Ok(self.write(&mut book, &id, change, None)?.end)
    }

    /// EndTxn.
    pub(crate) fn end(&self, id: &str, asked: End) -> Result<Ended, Refusal> {
        let mut book = self.ready()?;
        let decision = decide::end(book.txn(id), self.now_ms(), asked)?;
        let is_new = matches!(decision, Decision::Change(_));
        let (who, end) = self.carry_out(&mut book, id, decision)?;
        let to_commit = if is_new { to_commit(&book, id) } else { None };
        let who = match book.txn(id) {
            // Its next identity is certain already.
            Some(txn) if txn.status == Status::PrepareCommit => {
                let over = decide::completed(txn, 0);
                Identity { producer_id: over.producer_id, epoch: over.epoch }
            }
            _ => who,
        };
        Ok(Ended { who, end, to_commit })
    }

    /// The transactions that may change a group's offsets, as they are now.
    pub(crate) fn pending_in(&self, group: &str) -> Vec<PendingIn> {
        let book = self.book();
        let ids = book.by_group.get(group).into_iter().flatten();
        let pending = ids
            .filter_map(|id| Some(PendingIn { id: Arc::clone(id), end: book.known.get(id)?.end }));
        pending.collect()
    }

    /// A group committed offsets that are in no transaction. Of a mix the latest counts, as in Kafka:
    /// what was pending `before` of the same partitions is taken out of its transaction. One that has
    /// changed since then came at the same time, and stays. Returns up to where the log must be durable.
    pub(crate) fn supersede(
        &self,
        group: &str,
        keys: &[Key],
        before: &[PendingIn],
    ) -> Result<Position, Refusal> {
        let mut end = Position(0);
        let mut book = self.ready()?;
        for PendingIn { id, end: at } in before {
            let now_ms = self.now_ms();
            let known = book.known.get(id).filter(|known| known.end == *at);
            let superseded =
                known.and_then(|known| decide::supersede(&known.txn, now_ms, group, keys));
            if let Some(change) = superseded {
                end = end.max(self.write(&mut book, id, change, None)?.end);
            }
        }
        Ok(end)
    }

    /// WriteTxnMarkers: ends a transaction on one partition, for a tool.
    ///
    /// One that is known here and under way is aborted on all its partitions, and its producer is
    /// fenced: on this one alone, what the producer writes next could be committed without what it
    /// wrote before. Such a one is committed by its producer only.
    pub(crate) fn mark(&self, at: &MarkedPartition<'_>, mark: Mark) -> Result<Marked, Refusal> {
        let mut book = self.book();
        let now_ms = self.now_ms();
        let producer = ProducerId(mark.producer.producer_id);
        let known = self.0.partitions.producers(at.queue);
        let known = known.iter().find(|known| known.id == producer);
        if let Some(known) = known {
            let is_retry = known.open_from.is_none() && known.epoch == mark.producer.epoch;
            let is_stale = known.epoch > mark.producer.epoch
                || mark.raises && known.epoch == mark.producer.epoch && !is_retry;
            if is_stale {
                let (current, got) = (known.epoch, mark.producer.epoch);
                let stale = SequenceRejected::ProducerFenced { current, got };
                return Err(AppendError::Rejected(stale).into());
            }
        }
        let is_it = |txn: &Txn| {
            txn.producer_id == mark.producer.producer_id
                && txn.status == Status::Ongoing
                && txn.contains(at.topic, at.partition)
        };
        let under_way = book.known.iter().find(|(_, known)| is_it(&known.txn));
        if let Some((id, known)) = under_way {
            if mark.marker == Marker::Commit {
                return Err(Refusal::InvalidState);
            }
            let (id, partitions) = (Arc::clone(id), known.txn.partitions.clone());
            let Some(change) = decide::fence(&known.txn, now_ms) else {
                return Err(Refusal::InvalidState);
            };
            let end = self.write(&mut book, &id, change, None)?.end;
            return Ok(Marked { end, partitions });
        }
        let Identity { producer_id, epoch } = mark.producer;
        let batch = mark
            .marker
            .batch((producer_id, epoch), mark.coordinator_epoch, now_ms)
            .map_err(|_| Refusal::TooLarge)?;
        let header = BatchHeader::parse(&batch).map_err(|_| Refusal::TooLarge)?;
        let part = Part { queue: at.queue, batch: &batch, header: &header };
        let appended = self.0.partitions.append_all(now_ms, Class::System, &[part])?;
        let end = appended.iter().map(|part| part.end).max().unwrap_or(Position(0));
        Ok(Marked { end, partitions: BTreeMap::new() })
    }

    /// The committed transactions whose offsets are not written yet.
    pub(crate) fn prepared(&self) -> Vec<ToCommit> {
        let book = self.book();
        book.known.keys().filter_map(|id| to_commit(&book, id)).collect()
    }

    /// The offsets of a committed transaction are on their way in the log.
    pub(crate) fn committed(&self, done: &ToCommit) -> Result<Position, Refusal> {
        let mut book = self.ready()?;
        let Some(txn) = book.txn(&done.id) else { return Err(Refusal::UnknownMapping) };
        let who = Identity { producer_id: txn.producer_id, epoch: txn.epoch };
        if txn.status != Status::PrepareCommit || who != done.who {
            return Err(Refusal::InvalidState);
        }
        let change = Change { txn: decide::completed(txn, self.now_ms()), markers: None };
        Ok(self.write(&mut book, &done.id, change, None)?.end)
    }

    /// Appends a batch of a transaction. With `joins` its partition joins the transaction in the
    /// same step; without it must be there.
    pub(crate) fn append(
        &self,
        now_ms: i64,
        id: &str,
        (topic, partition, queue): (&str, i32, QueueId),
        batch: (&[u8], &BatchHeader),
        joins: bool,
    ) -> Result<Appended, Refusal> {
        let (bytes, header) = batch;
        let who = Identity { producer_id: header.producer_id, epoch: header.producer_epoch };
        // Of a large batch not under the lock.
        let sum = BatchSum::of(bytes);
        let mut book = self.ready()?;
        let decision = if joins {
            let decision = decide::add(book.txn(id), now_ms, who, &[(topic, partition)])?;
            if matches!(decision, Decision::Change(_)) && header.base_sequence != 0 {
                // The first batch of an epoch is on its way still: this one must not overtake it.
                let rejected = SequenceRejected::OutOfOrder { last: -1, got: header.base_sequence };
                return Err(AppendError::Rejected(rejected).into());
            }
            decision
        } else {
            decide::verify(book.txn(id), who, (topic, partition))?;
            Decision::Unchanged
        };
        match decision {
            Decision::Unchanged => {
                Ok(self.0.partitions.append_summed(now_ms, queue, batch, sum)?)
            }
            Decision::Change(change) => {
                let id = Arc::from(id);
                let data = (Part { queue, batch: bytes, header }, sum);
                let written = self.write(&mut book, &id, *change, Some(data))?;
                let Some(appended) = written.data else {
                    unreachable!("the batch was part of what was written")
                };
                Ok(appended)
            }
        }
    }

    /// Aborts what is late and forgets ids that nobody uses. A transaction that cannot be ended
    /// now is ended at a later tick.
    pub(crate) fn tick(&self) {
        let now_ms = self.now_ms();
        let Ok(mut book) = self.ready() else { return };
        let late: Vec<_> = book
            .known
            .iter()
            .filter_map(|(id, known)| Some((Arc::clone(id), decide::time_out(&known.txn, now_ms)?)))
            .collect();
        for (id, change) in late {
            match self.write(&mut book, &id, change, None) {
                Ok(_) => tracing::info!(transactional_id = &*id, "a transaction timed out"),
                Err(error) => {
                    tracing::warn!(transactional_id = &*id, %error, "a late transaction goes on");
                }
            }
        }
        let after_ms = self.0.settings.expiration_ms;
        let unused: Vec<_> = book
            .known
            .iter()
            .filter(|(_, known)| decide::is_forgettable(&known.txn, now_ms, after_ms))
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in unused {
            if let Err(error) = self.forget(&mut book, &id) {
                tracing::warn!(transactional_id = &*id, %error, "an unused id is kept");
                return;
            }
        }
    }

    /// The offsets of a group that a transaction may change, by topic and partition.
    pub(crate) fn pending(&self, group: &str) -> HashSet<(Arc<str>, i32)> {
        self.book().pending(group)
    }

    /// Whether transactions may change offsets of a group at all.
    pub(crate) fn has_pending(&self, group: &str) -> bool {
        let book = self.book();
        book.by_group.contains_key(group) || book.intents.contains_key(group)
    }

    /// Whether the log was read back.
    pub(crate) fn is_loaded(&self) -> bool {
        self.book().is_loaded
    }

    /// What is known of an id.
    pub(crate) fn describe(&self, id: &str) -> Result<Option<Txn>, Refusal> {
        Ok(self.ready()?.txn(id).cloned())
    }

    /// Every id.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, Refusal> {
        let book = self.ready()?;
        let listed = book.known.iter().map(|(id, known)| Listed {
            id: Arc::clone(id),
            producer_id: known.txn.producer_id,
            status: known.txn.status,
            started_ms: known.txn.started_ms,
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    /// Writes what was decided; who the producer is now, and up to where that must be durable.
    fn carry_out(
        &self,
        book: &mut Book,
        id: &str,
        decision: Decision,
    ) -> Result<(Identity, Position), Refusal> {
        let written = match decision {
            Decision::Unchanged => None,
            Decision::Change(change) => Some(self.write(book, &Arc::from(id), *change, None)?.end),
        };
        let Some(known) = book.known.get(id) else {
            unreachable!("what was decided about it, or found unchanged, is known")
        };
        let Txn { producer_id, epoch, .. } = known.txn;
        Ok((Identity { producer_id, epoch }, written.unwrap_or(known.end)))
    }

    /// Appends a new state, its markers and a batch of a client as one group, and takes it over.
    fn write(
        &self,
        book: &mut Book,
        id: &Arc<str>,
        change: Change,
        data: Option<(Part<'_>, BatchSum)>,
    ) -> Result<Written, Refusal> {
        let now_ms = self.now_ms();
        let state = batch_of(id, Some(&change.txn), now_ms)?;
        let state_queue = self.home(id)?;
        let mut ends = match &change.markers {
            Some(markers) => self.ends(markers, now_ms)?,
            None => Vec::new(),
        };
        if change.txn.status == Status::Ongoing && self.is_too_large_to_end(&change.txn, &state) {
            return Err(Refusal::TooLarge);
        }
        let class = if data.is_some() { Class::Data } else { Class::System };
        // A marker is the same on every partition.
        let sums = (BatchSum::of(&state.0), ends.first().map(|(_, (end, _))| BatchSum::of(end)));
        loop {
            let state = Part { queue: state_queue, batch: &state.0, header: &state.1 };
            let ends_with_sums = ends.iter().zip(sums.1.into_iter().cycle());
            let parts: Vec<(Part<'_>, BatchSum)> = data
                .into_iter()
                .chain([(state, sums.0)])
                .chain(ends_with_sums.map(|((queue, (batch, header)), sum)| {
                    (Part { queue: *queue, batch, header }, sum)
                }))
                .collect();
            match self.0.partitions.append_all_summed(now_ms, class, &parts) {
                Ok(appended) => {
                    let end = appended.iter().map(|part| part.end).max().unwrap_or(Position(0));
                    let data = data.and(appended.into_iter().next());
                    // A batch that stands in the log already has brought nothing with it now.
                    if !data.as_ref().is_some_and(|data| data.duplicate) {
                        book.apply(id, Some(change.txn), end);
                    }
                    return Ok(Written { end, data });
                }
                // Its topic was deleted between the look and the append.
                Err(AppendError::UnknownQueue(gone))
                    if ends.iter().any(|(queue, _)| *queue == gone) =>
                {
                    ends.retain(|(queue, _)| *queue != gone);
                }
                // A tool ended it there already, with an epoch of its own choice.
                Err(AppendError::Rejected(SequenceRejected::ProducerFenced { .. }))
                    if ends.iter().any(|end| self.is_overtaken(end)) =>
                {
                    ends.retain(|end| !self.is_overtaken(end));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the end of a transaction would be too large for the log, which takes it whole: then
    /// it must not become so large.
    fn is_too_large_to_end(&self, txn: &Txn, (state, _): &Batch) -> bool {
        let count: usize = txn.partitions.values().map(BTreeSet::len).sum();
        state.len() + count * MARKER_SIZE_BYTES > self.0.settings.end_size_bytes_max
    }

    /// Whether a partition has seen a newer epoch of a marker's producer.
    fn is_overtaken(&self, (queue, (_, marker)): &(QueueId, Batch)) -> bool {
        let producers = self.0.partitions.producers(*queue);
        let newer = |known: &ActiveProducer| {
            known.id.0 == marker.producer_id && known.epoch > marker.producer_epoch
        };
        producers.iter().any(newer)
    }

    fn forget(&self, book: &mut Book, id: &Arc<str>) -> Result<(), Refusal> {
        let now_ms = self.now_ms();
        let (batch, header) = batch_of(id, None, now_ms)?;
        let part = Part { queue: self.home(id)?, batch: &batch, header: &header };
        self.0.partitions.append_all(now_ms, Class::System, &[part])?;
        book.apply(id, None, Position(0));
        Ok(())
    }

    /// The queue of the state of an id.
    fn home(&self, id: &str) -> Result<QueueId, Refusal> {
        let image = self.0.metadata.image();
        let topic = image.topic(self.0.settings.topic).ok_or(Refusal::NoTopic)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let partition = topic.partition(partition_for(id, count)).ok_or(Refusal::NoTopic)?;
        Ok(partition.queue)
    }

    /// The markers for the partitions that are still there.
    fn ends(&self, markers: &Markers, now_ms: i64) -> Result<Vec<(QueueId, Batch)>, Refusal> {
        let image = self.0.metadata.image();
        let Identity { producer_id, epoch } = markers.producer;
        let batch = markers
            .marker
            .batch((producer_id, epoch), COORDINATOR_EPOCH, now_ms)
            .map_err(|_| Refusal::TooLarge)?;
        let header = BatchHeader::parse(&batch).map_err(|_| Refusal::TooLarge)?;
        let mut ends = Vec::new();
        for (name, partitions) in &markers.partitions {
            if **name == *self.0.settings.offsets_topic {
                continue;
            }
            let Some(topic) = image.topic(name) else { continue };
            for partition in partitions {
                if let Some(partition) = topic.partition(*partition) {
                    ends.push((partition.queue, (batch.clone(), header)));
                }
            }
        }
        Ok(ends)
    }
}

fn to_commit(book: &Book, id: &str) -> Option<ToCommit> {
    let (id, known) = book.known.get_key_value(id)?;
    let Txn { producer_id, epoch, status, offsets, .. } = &known.txn;
    (*status == Status::PrepareCommit).then(|| ToCommit {
        id: Arc::clone(id),
        who: Identity { producer_id: *producer_id, epoch: *epoch },
        offsets: offsets.clone(),
    })
}

fn batch_of(id: &str, txn: Option<&Txn>, now_ms: i64) -> Result<Batch, Refusal> {
    let mut writer = BatchWriter::new(BatchSpec::default());
    let value = txn.map(record::value);
    writer
        .append(now_ms, Some(&record::key(id)), value.as_deref(), &[])
        .map_err(|_| Refusal::TooLarge)?;
    let batch = writer.finish().map_err(|_| Refusal::TooLarge)?;
    let header = BatchHeader::parse(&batch).map_err(|_| Refusal::TooLarge)?;
    Ok((batch, header))
}
