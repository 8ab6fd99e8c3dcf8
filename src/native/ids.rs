//! Message ids that senders gave: a message that comes twice within a window is written once.
//!
//! The table changes by the records of the queue `MESSAGE_IDS` only, which are appended in one
//! group with the messages they are about; so an id is known if and only if its message is there. The
//! table lies behind a lock that is never held over an await: look, append and enter are one step, so of
//! two sends of one id the second sees the first. Ids are kept as fingerprints of 16 bytes; the
//! oldest are forgotten first, by time and by number.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use braid_protocol::records::{
    BatchSpec, BatchWriter, Batches, ReadError, RecordReader, WriteError,
};
use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::env::Env;
use crate::model::{Offset, Position, QueueId, TopicId};
use crate::partition::system::MESSAGE_IDS;
use crate::partition::{FetchError, Partitions};
use crate::timer::TimerId;

/// Most ids that are remembered; more are forgotten before their time.
const IDS_MAX: usize = 1_000_000;
/// The queue is shortened when so many of its records are no longer needed.
const RELEASE_AFTER: i64 = 1024;
/// Bytes read at once when the queue is loaded.
const LOAD_SIZE_BYTES: usize = 1 << 20;
/// The version of an entry's bytes.
const VERSION: u8 = 1;

/// Where the first message of an id went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) queue: QueueId,
    pub(crate) at: At,
    /// It is durable once the log is durable up to here.
    pub(crate) end: Position,
}

/// What is known of a message's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// This one.
    Offset(Offset),
    /// This one or a later one: its record has to be looked for.
    From(Offset),
    /// None yet: it waits until it is due.
    Timer(TimerId),
}

/// An id of one topic, as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u128);

impl Fingerprint {
    pub(crate) fn of(topic: TopicId, id: &str) -> Self {
        Self(Uuid::new_v5(&topic.0, id.as_bytes()).as_u128())
    }
}

/// What a record of the queue says: this id is that of a message in this queue, from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Fingerprint,
    pub(crate) queue: QueueId,
    pub(crate) from: Offset,
}

impl Entry {
    /// Version, fingerprint, queue, offset; big-endian.
    fn encode(self) -> [u8; 29] {
        let mut bytes = [VERSION; 29];
        bytes[1..17].copy_from_slice(&self.id.0.to_be_bytes());
        bytes[17..21].copy_from_slice(&self.queue.0.to_be_bytes());
        bytes[21..].copy_from_slice(&self.from.0.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (queue, rest) = rest.split_first_chunk()?;
        let from = rest.try_into().ok().filter(|_| *version == VERSION)?;
        Some(Self {
            id: Fingerprint(u128::from_be_bytes(*id)),
            queue: QueueId(u32::from_be_bytes(*queue)),
            from: Offset(i64::from_be_bytes(from)),
        })
    }
}

/// The batch that enters these ids.
pub(crate) fn batch(now_ms: i64, entries: &[Entry]) -> Result<Bytes, WriteError> {
    let mut writer = BatchWriter::new(BatchSpec::default());
    for entry in entries {
        writer.append(now_ms, Some(&entry.encode()), None, &[])?;
    }
    writer.finish()
}

/// The ids, pure.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// With the offset of the record that says so.
    places: HashMap<Fingerprint, (Place, Offset)>,
    /// In the order of the queue: time, id, the record's offset.
    order: VecDeque<(i64, Fingerprint, Offset)>,
    /// Where the queue begins.
    start: Offset,
}

impl Table {
    pub(crate) fn get(&self, id: Fingerprint) -> Option<Place> {
        self.places.get(&id).map(|(place, _)| *place)
    }

    /// Enters an id whose record lies at `offset`.
    pub(crate) fn enter(&mut self, time_ms: i64, offset: Offset, id: Fingerprint, place: Place) {
        self.places.insert(id, (place, offset));
        self.order.push_back((time_ms, id, offset));
    }

    /// Forgets what is older than `before_ms` or too much; then says up to where the queue is no
    /// longer needed, if that is worth a write.
    pub(crate) fn forget(&mut self, before_ms: i64, max: usize) -> Option<Offset> {
        let mut needed_from = None;
        while let Some((time_ms, id, offset)) = self.order.front().copied()
            && (time_ms < before_ms || self.order.len() > max)
        {
            self.order.pop_front();
            // An id that came again after it was forgotten has a later record.
            if self.places.get(&id).is_some_and(|(_, record)| *record == offset) {
                self.places.remove(&id);
            }
            needed_from = Some(offset.plus(1));
        }
        let needed_from = needed_from?;
        (needed_from.0 - self.start.0 >= RELEASE_AFTER).then(|| {
            self.start = needed_from;
            needed_from
        })
    }
}

/// How far loading has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Loading {
    Running,
    Done,
    Failed(Arc<str>),
}

/// The ids cannot be known because their queue cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ids of earlier messages cannot be read: {0}")]
pub(crate) struct IdsUnreadable(Arc<str>);

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct MessageIds {
    table: Arc<Mutex<Table>>,
    loading: watch::Receiver<Loading>,
    window_ms: i64,
}

impl MessageIds {
    /// Loads what the queue holds, in a task of its own.
    pub(crate) fn start(env: &Env, partitions: &Partitions, window_ms: i64) -> Self {
        let (progress, loading) = watch::channel(Loading::Running);
        let ids = Self { table: Arc::default(), loading, window_ms };
        let (loaded, partitions, clock) = (ids.clone(), partitions.clone(), Arc::clone(&env.clock));
        drop(env.spawner.critical("message ids", async move {
            let outcome = load(&partitions, &loaded, clock.wall_ms()).await;
            progress.send_replace(match outcome {
                Ok(()) => Loading::Done,
                Err(error) => {
                    tracing::error!(%error, "sends with a messageId are refused: earlier ids cannot be read");
                    Loading::Failed(error.to_string().into())
                }
            });
        }));
        ids
    }

    /// Whether ids are remembered at all.
    pub(crate) fn remembers(&self) -> bool {
        self.window_ms > 0
    }

    /// Waits until the ids of before the start are known.
    pub(crate) async fn loaded(&self) -> Result<(), IdsUnreadable> {
        let mut loading = self.loading.clone();
        let done = loading.wait_for(|state| *state != Loading::Running).await;
        match done.as_deref() {
            Ok(Loading::Failed(why)) => Err(IdsUnreadable(Arc::clone(why))),
            // The task ends with the broker.
            Ok(Loading::Running | Loading::Done) | Err(_) => Ok(()),
        }
    }

    /// The table, for one step without an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what is old; says what [`release`](Self::release) then gives back.
    pub(crate) fn forget_old(&self, table: &mut Table, now_ms: i64) -> Option<Offset> {
        table.forget(now_ms.saturating_sub(self.window_ms), IDS_MAX)
    }

    /// Shortens the queue up to where it is needed.
    pub(crate) fn release(&self, needed_from: Option<Offset>, partitions: &Partitions) {
        if let Some(offset) = needed_from
            && let Err(error) = partitions.release(MESSAGE_IDS, offset)
        {
            // The next one takes it along.
            tracing::debug!(%error, "the queue of message ids was not shortened");
        }
    }
}

/// Why the ids could not be read.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Batch(#[from] ReadError),
    #[error("record {0} is of another version")]
    Version(i64),
}

async fn load(partitions: &Partitions, ids: &MessageIds, now_ms: i64) -> Result<(), LoadError> {
    let marks = partitions.offsets(MESSAGE_IDS);
    // Records from before are durable: whoever sees them may answer.
    let end = Position(0);
    let mut next = marks.log_start;
    ids.lock().start = next;
    while next < marks.high_watermark {
        let fetched = partitions.read(MESSAGE_IDS, next, LOAD_SIZE_BYTES, true).await?;
        for batch in Batches::new(Bytes::from(fetched.batches.concat())) {
            let (header, batch) = batch?;
            let reader = RecordReader::open(&batch, usize::MAX)?;
            let mut table = ids.lock();
            for record in reader.records() {
                let record = record?;
                let entry = record.key.and_then(Entry::decode);
                let Entry { id, queue, from } = entry.ok_or(LoadError::Version(record.offset))?;
                let place = Place { queue, at: At::From(from), end };
                table.enter(record.timestamp, Offset(record.offset), id, place);
            }
            table.forget(now_ms.saturating_sub(ids.window_ms), IDS_MAX);
            next = Offset(header.next_offset());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Fingerprint {
        Fingerprint(n)
    }

    fn place(n: i64) -> Place {
        Place { queue: QueueId(1), at: At::Offset(Offset(n)), end: Position(0) }
    }

    #[test]
    fn an_entrys_bytes_stay() {
        let entry = Entry { id: id(0x0102), queue: QueueId(3), from: Offset(4) };
        let bytes = entry.encode();
        let mut expected = vec![1];
        expected.extend([0; 14]);
        expected.extend([1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(bytes[..], expected);
        assert_eq!(Entry::decode(&bytes), Some(entry));
        for length in 0..bytes.len() {
            assert_eq!(Entry::decode(&bytes[..length]), None);
        }
        expected[0] = 2;
        assert_eq!(Entry::decode(&expected), None, "another version");
    }

    #[test]
    fn the_same_id_of_two_topics_is_two_ids() {
        let (a, b) = (TopicId(Uuid::from_u128(1)), TopicId(Uuid::from_u128(2)));
        assert_eq!(Fingerprint::of(a, "x"), Fingerprint::of(a, "x"));
        assert_ne!(Fingerprint::of(a, "x"), Fingerprint::of(b, "x"));
        assert_ne!(Fingerprint::of(a, "x"), Fingerprint::of(a, "y"));
    }

    #[test]
    fn ids_are_forgotten_by_time_and_by_number_the_oldest_first() {
        let mut table = Table::default();
        for n in 0..10_i64 {
            table.enter(n * 10, Offset(n), id(u128::from(n.cast_unsigned())), place(n));
        }
        table.forget(30, 100);
        assert_eq!(table.get(id(2)), None);
        assert_eq!(table.get(id(3)), Some(place(3)));
        table.forget(0, 2);
        assert_eq!(table.get(id(7)), None);
        assert_eq!(table.get(id(8)), Some(place(8)));
        table.forget(i64::MAX, 2);
        assert!(table.places.is_empty() && table.order.is_empty());
    }

    #[test]
    fn an_id_that_came_again_lives_as_long_as_its_last_record() {
        let mut table = Table::default();
        table.enter(0, Offset(0), id(1), place(0));
        table.enter(100, Offset(1), id(1), place(1));
        table.forget(50, 100);
        assert_eq!(table.get(id(1)), Some(place(1)));
        table.forget(101, 100);
        assert_eq!(table.get(id(1)), None);
    }

    #[test]
    fn the_queue_is_shortened_when_that_is_worth_a_write() {
        let mut table = Table::default();
        for n in 0..3000_i64 {
            table.enter(n, Offset(n), id(u128::from(n.cast_unsigned())), place(n));
        }
        assert_eq!(table.forget(RELEASE_AFTER - 1, 10_000), None);
        assert_eq!(table.forget(RELEASE_AFTER, 10_000), Some(Offset(RELEASE_AFTER)));
        assert_eq!(table.forget(RELEASE_AFTER + 1, 10_000), None);
        assert_eq!(table.forget(i64::MAX, 10_000), Some(Offset(3000)));
    }
}
