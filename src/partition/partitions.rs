//! The handle on the shard's log that handlers use.

use std::io;
use std::sync::Arc;

use braid_protocol::records::{self, BatchHeader};
use bytes::Bytes;
use tokio::sync::Notify;

use super::led::{LedShard, LedShards};
use super::lookup::{self, Found, LookupError};
use crate::env::Env;
use crate::model::{LeaderEpoch, Offset, Position, QueueId, ShardId};
use crate::store::{
    AbortedTransaction, ActiveProducer, AppendError, Appended, BatchEntry, BatchSum, Class,
    CleanLimits, Cleaned, Compaction, Located, LogFailed, LogHandle, LogStartError, MaintainError,
    Offsets, Part, ReadError, ReadSpec, Retention, Stats, Subscription, WaitDurable,
};

/// The epoch of a single node's one shard.
pub(crate) const SHARD_EPOCH: LeaderEpoch = LeaderEpoch(0);

/// The marks of a queue that was never written to.
const NO_RECORDS: Offsets =
    Offsets { log_start: Offset::ZERO, high_watermark: Offset::ZERO, next: Offset::ZERO };

/// Why nothing could be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the reader pool is gone: {0}")]
    Pool(#[source] io::Error),
}

/// Whole batches of a queue and the queue's marks when they were read.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) offsets: Offsets,
    /// Where readers of committed records stopped then.
    pub(crate) last_stable: Offset,
    /// The void transactions up to there, for a reader of committed records.
    pub(crate) void: Vec<AbortedTransaction>,
    /// Slices that, one behind the other, are whole batches.
    pub(crate) batches: Vec<Bytes>,
}

/// The void transactions in a part of a queue.
#[derive(Debug)]
pub(crate) struct Void(Vec<AbortedTransaction>);

impl Void {
    /// Whether a batch of that part is for nobody: a marker, or part of a void transaction.
    pub(crate) fn hides(&self, batch: &BatchHeader) -> bool {
        let is_its = |void: &AbortedTransaction| {
            let of = (void.first.0..void.end.0).contains(&batch.base_offset);
            of && void.producer.0 == batch.producer_id
        };
        batch.is_control() || batch.is_transactional() && self.0.iter().any(is_its)
    }
}

/// All partitions of the shard. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Partitions {
    log: LogHandle,
    env: Env,
    /// Whether a queue is this broker's; none when all are.
    is_own: Option<IsOwn>,
    epoch: LeaderEpoch,
    /// Shards with logs of their own; none where there cannot be any.
    led: Option<LedShards>,
}

/// Says whether the records of a queue are kept by this broker.
pub(crate) type IsOwn = Arc<dyn Fn(QueueId) -> bool + Send + Sync>;

impl std::fmt::Debug for Partitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partitions").finish_non_exhaustive()
    }
}

impl Partitions {
    pub(crate) fn new(log: LogHandle, env: Env) -> Self {
        Self { log, env, is_own: None, epoch: SHARD_EPOCH, led: None }
    }

    /// The partitions of a log that is led in this epoch.
    pub(super) fn in_epoch(self, epoch: LeaderEpoch) -> Self {
        Self { epoch, ..self }
    }

    /// With these shards beside it, whose room is looked after, too.
    pub(crate) fn beside(self, led: LedShards) -> Self {
        Self { led: Some(led), ..self }
    }

    /// A replicated shard, if this broker leads it.
    pub(crate) fn led(&self, shard: ShardId) -> Option<Arc<LedShard>> {
        self.led.as_ref()?.get(shard)
    }

    /// All replicated shards that this broker leads.
    pub(crate) fn all_led(&self) -> Vec<Arc<LedShard>> {
        self.led.as_ref().map_or_else(Vec::new, LedShards::all)
    }

    /// Takes records of these queues only: whoever else writes to another broker's partition here would
    /// lose what it writes.
    pub(crate) fn only(self, is_own: Option<IsOwn>) -> Self {
        Self { is_own, ..self }
    }

    fn check_own(&self, queue: QueueId) -> Result<(), AppendError> {
        match &self.is_own {
            Some(is_own) if !is_own(queue) => Err(AppendError::Elsewhere(queue)),
            Some(_) | None => Ok(()),
        }
    }

    /// Appends a client's validated batch. Its place is fixed on return; it is acknowledged once
    /// `durable` reaches the end it was given.
    pub(crate) fn append(
        &self,
        now_ms: i64,
        queue: QueueId,
        batch: &[u8],
        header: &BatchHeader,
    ) -> Result<Appended, AppendError> {
        self.append_as(now_ms, Class::Data, queue, (batch, header))
    }

    /// As [`Partitions::append`], by a caller that holds a lock and has taken the sum before it.
    pub(crate) fn append_summed(
        &self,
        now_ms: i64,
        queue: QueueId,
        batch: (&[u8], &BatchHeader),
        sum: BatchSum,
    ) -> Result<Appended, AppendError> {
        self.append_in(now_ms, Class::Data, queue, batch, sum)
    }

    /// Appends a batch of the broker's own, which goes on when the disk is full.
    pub(crate) fn append_own(
        &self,
        queue: QueueId,
        batch: &Bytes,
        header: &BatchHeader,
    ) -> Result<Appended, AppendError> {
        self.append_as(self.env.clock.wall_ms(), Class::System, queue, (batch, header))
    }

    /// Appends batches to several queues as one group: all of them are in the log or none. See
    /// [`LogHandle::append_all`] for the answers, also of a group that is a duplicate.
    pub(crate) fn append_all(
        &self,
        now_ms: i64,
        class: Class,
        parts: &[Part<'_>],
    ) -> Result<Vec<Appended>, AppendError> {
        let parts: Vec<_> = parts.iter().map(|part| (*part, BatchSum::of(part.batch))).collect();
        self.append_all_summed(now_ms, class, &parts)
    }

    /// As [`Partitions::append_all`], by a caller that holds a lock and has taken the sum of a large
    /// batch before it.
    pub(crate) fn append_all_summed(
        &self,
        now_ms: i64,
        class: Class,
        parts: &[(Part<'_>, BatchSum)],
    ) -> Result<Vec<Appended>, AppendError> {
        for (part, _) in parts {
            self.check_own(part.queue)?;
        }
        loop {
            match self.log.append_all_summed(now_ms, self.epoch, class, parts) {
                // Its first use; a queue that was dropped stays unknown.
                Err(AppendError::UnknownQueue(queue)) if self.opens(queue) => {}
                outcome => return outcome,
            }
        }
    }

    /// Opens a queue; says whether it is open now.
    fn opens(&self, queue: QueueId) -> bool {
        self.log.open_queue(queue);
        self.log.offsets(queue).is_ok()
    }

    fn append_as(
        &self,
        now_ms: i64,
        class: Class,
        queue: QueueId,
        batch: (&[u8], &BatchHeader),
    ) -> Result<Appended, AppendError> {
        self.append_in(now_ms, class, queue, batch, BatchSum::of(batch.0))
    }

    fn append_in(
        &self,
        now_ms: i64,
        class: Class,
        queue: QueueId,
        batch: (&[u8], &BatchHeader),
        sum: BatchSum,
    ) -> Result<Appended, AppendError> {
        self.check_own(queue)?;
        match self.log.append_summed(now_ms, queue, self.epoch, class, batch, sum) {
            // The image names the queue, so this is its first use.
            Err(AppendError::UnknownQueue(_)) => {
                self.log.open_queue(queue);
                self.log.append_summed(now_ms, queue, self.epoch, class, batch, sum)
            }
            outcome => outcome,
        }
    }

    /// Waits until the log takes so many more bytes. Awaited before batches are handed over, so
    /// that appending never has to wait.
    pub(crate) async fn room(&self, size_bytes: usize) {
        self.log.room(size_bytes).await;
        for led in self.all_led() {
            led.partitions().log.room(size_bytes).await;
        }
    }

    /// Whether the log takes so many more bytes now.
    pub(crate) fn has_room(&self, size_bytes: usize) -> bool {
        let has_room = |led: &Arc<LedShard>| led.partitions().log.has_room(size_bytes);
        self.log.has_room(size_bytes)
            && self.led.as_ref().is_none_or(|led| led.all().iter().all(has_room))
    }

    /// Everything below is on disk.
    pub(crate) fn durable(&self) -> Position {
        self.log.durable()
    }

    /// Waits until everything below `end` is on disk.
    pub(crate) fn wait_durable(&self, end: Position) -> WaitDurable {
        self.log.wait_durable(end)
    }

    /// Resolves when the log has failed.
    pub(crate) async fn failed(&self) -> LogFailed {
        self.log.failed().await
    }

    /// A queue's marks; those of a queue without records are zero.
    pub(crate) fn offsets(&self, queue: QueueId) -> Offsets {
        self.log.offsets(queue).unwrap_or(NO_RECORDS)
    }

    /// How the log is doing.
    pub(crate) fn stats(&self) -> Stats {
        self.log.stats()
    }

    /// How often the shard's lock was taken.
    #[cfg(test)]
    pub(crate) fn times_locked(&self) -> u64 {
        self.log.times_locked()
    }

    /// Where readers of committed records of a queue stop.
    pub(crate) fn last_stable(&self, queue: QueueId) -> Offset {
        self.log.last_stable(queue).unwrap_or(Offset::ZERO)
    }

    /// What is void in a range of a queue, which ends at its last stable offset or before.
    pub(crate) fn void(&self, queue: QueueId, range: std::ops::Range<Offset>) -> Void {
        Void(self.log.aborted(queue, range))
    }

    /// Whole batches of a queue from the one that holds `from` on, as [`Partitions::read`], none of
    /// which reaches beyond `up_to`.
    pub(crate) async fn read_below(
        &self,
        queue: QueueId,
        from: Offset,
        up_to: Offset,
        size_bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Fetched, FetchError> {
        let spec = ReadSpec { from, up_to: Some(up_to), size_bytes_max, at_least_one };
        self.read_spec(queue, spec).await
    }

    /// Wakes `news` whenever records of the queue become readable.
    pub(crate) fn subscribe(&self, queue: QueueId, news: &Arc<Notify>) -> Option<Subscription> {
        self.log.open_queue(queue);
        // A queue that is dropped between the two has no more news.
        self.log.subscribe(queue, news).ok()
    }

    /// Whole batches from the one that holds `from` on, about `size_bytes_max`; the first one whole
    /// whatever its size if `at_least_one`.
    pub(crate) async fn read(
        &self,
        queue: QueueId,
        from: Offset,
        size_bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Fetched, FetchError> {
        let spec = ReadSpec { from, up_to: None, size_bytes_max, at_least_one };
        self.read_spec(queue, spec).await
    }

    async fn read_spec(&self, queue: QueueId, spec: ReadSpec) -> Result<Fetched, FetchError> {
        self.fetched(queue, self.locate(queue, spec, false)?).await
    }

    /// As [`Partitions::read`], but no further than the last stable offset, and told what is void.
    pub(crate) async fn read_committed(
        &self,
        queue: QueueId,
        from: Offset,
        size_bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Fetched, FetchError> {
        let spec = ReadSpec { from, up_to: None, size_bytes_max, at_least_one };
        self.fetched(queue, self.locate(queue, spec, true)?).await
    }

    async fn fetched(
        &self,
        queue: QueueId,
        located: Option<Located>,
    ) -> Result<Fetched, FetchError> {
        let Some(mut located) = located else {
            let (offsets, last_stable) = (self.offsets(queue), self.last_stable(queue));
            return Ok(Fetched { offsets, last_stable, void: Vec::new(), batches: Vec::new() });
        };
        let (offsets, last_stable) = (located.offsets(), located.last_stable());
        let void = located.take_void();
        let batches = self.load(located).await?;
        Ok(Fetched { offsets, last_stable, void, batches })
    }

    /// Bytes that a read would give, of all records or of `committed` ones, found without reading
    /// them; none if they are on disk.
    pub(crate) fn readable(
        &self,
        queue: QueueId,
        from: Offset,
        committed: bool,
        size_bytes_max: usize,
    ) -> Result<Option<usize>, FetchError> {
        let spec = ReadSpec { from, up_to: None, size_bytes_max, at_least_one: true };
        Ok(self.locate(queue, spec, committed)?.map_or(Some(0), |located| located.size_bytes()))
    }

    /// Finds batches; none in a queue that was never written to, whose log starts at zero, nor behind
    /// what is known to be committed: a new leader does not know yet all that readers have seen.
    fn locate(
        &self,
        queue: QueueId,
        spec: ReadSpec,
        committed: bool,
    ) -> Result<Option<Located>, FetchError> {
        let located = match committed {
            true => self.log.locate_committed(queue, spec),
            false => self.log.locate(queue, spec),
        };
        match located {
            Ok(located) => Ok(Some(located)),
            Err(ReadError::UnknownQueue(_)) if spec.from == Offset::ZERO => Ok(None),
            Err(ReadError::UnknownQueue(_)) => {
                let Offsets { log_start, high_watermark, .. } = NO_RECORDS;
                let asked = spec.from;
                Err(ReadError::OutOfRange { asked, log_start, high_watermark }.into())
            }
            Err(ReadError::OutOfRange { asked, high_watermark, .. })
                if asked > high_watermark && asked <= self.offsets(queue).next =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The batch that holds `from` and those after it, on a thread that may block.
    pub(crate) fn read_blocking(
        &self,
        queue: QueueId,
        from: Offset,
        size_bytes_max: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        let spec = ReadSpec { from, up_to: None, size_bytes_max, at_least_one: true };
        Ok(self.log.locate(queue, spec)?.load()?.slices)
    }

    /// The bytes of what was located; cold ones through the reader pool.
    async fn load(&self, located: Located) -> Result<Vec<Bytes>, FetchError> {
        let located = match located.load_hot() {
            Ok(batches) => return Ok(batches.slices),
            Err(located) => located,
        };
        let loaded =
            self.env.spawner.blocking(move || located.load()).await.map_err(FetchError::Pool)?;
        Ok(loaded?.slices)
    }

    /// The first record at or after a time.
    pub(crate) async fn at_or_after(
        &self,
        queue: QueueId,
        timestamp: i64,
    ) -> Result<Found, LookupError> {
        self.look_up(
            queue,
            move |log| log.entry_at_time(queue, timestamp),
            // Entries carry the greatest timestamp of their batch, so the first that reaches the
            // time holds the record.
            move |batch| lookup::first_at_or_after(batch, timestamp),
        )
        .await
    }

    /// The first record with the greatest timestamp.
    pub(crate) async fn at_max_timestamp(&self, queue: QueueId) -> Result<Found, LookupError> {
        self.look_up(
            queue,
            move |log| log.max_timestamp_entry(queue),
            lookup::first_with_max_timestamp,
        )
        .await
    }

    /// Finds a batch by the index and a record in it, on the reader pool.
    async fn look_up<E, R>(&self, queue: QueueId, entry: E, record: R) -> Result<Found, LookupError>
    where
        E: FnOnce(&LogHandle) -> Result<Option<BatchEntry>, ReadError> + Send + 'static,
        R: FnOnce(&Bytes) -> Result<Option<Found>, records::ReadError> + Send + 'static,
    {
        let partitions = self.clone();
        let find = move || -> Result<Option<Found>, LookupError> {
            let found = match entry(&partitions.log) {
                // Never written to.
                Err(ReadError::UnknownQueue(_)) => None,
                outcome => outcome.map_err(FetchError::from)?,
            };
            let Some(found) = found else { return Ok(None) };
            let slices =
                partitions.read_blocking(queue, found.base_offset, 0).map_err(FetchError::from)?;
            Ok(record(&Bytes::from(slices.concat()))?)
        };
        let found = self.env.spawner.blocking(find).await.map_err(FetchError::Pool)??;
        Ok(found.unwrap_or(Found::NOTHING))
    }

    /// The queues the log knows.
    pub(crate) fn queues(&self) -> Vec<QueueId> {
        self.log.queues()
    }

    /// Drops a queue with all its records.
    pub(crate) fn drop_queue(&self, queue: QueueId) -> Result<(), AppendError> {
        self.log.drop_queue(queue).map(|_| ())
    }

    /// Moves a queue's log start past what retention no longer keeps; blocking. Says whether it
    /// moved.
    pub(crate) fn expire(
        &self,
        queue: QueueId,
        now_ms: i64,
        retention: Retention,
    ) -> Result<bool, LogStartError> {
        let before = self.offsets(queue);
        if before.next == before.log_start {
            return Ok(false);
        }
        Ok(self.log.expire(queue, now_ms, retention)? > before.log_start)
    }

    /// Moves a queue's log start up to `offset`, whose records before nobody needs any more.
    /// Returns the position from which on that is durable.
    pub(crate) fn release(
        &self,
        queue: QueueId,
        offset: Offset,
    ) -> Result<Position, LogStartError> {
        match self.log.set_log_start(queue, offset) {
            // Never written to: it is as if the queue were there and empty.
            Err(LogStartError::Read(ReadError::UnknownQueue(_))) => {
                self.log.open_queue(queue);
                self.log.set_log_start(queue, offset)
            }
            outcome => outcome,
        }
    }

    /// Bytes of a queue's batches, to the precision of a segment at its beginning.
    pub(crate) fn size_bytes(&self, queue: QueueId) -> u64 {
        // A queue without records is not known.
        self.log.size_bytes(queue).unwrap_or(0)
    }

    /// The producers remembered for a queue.
    pub(crate) fn producers(&self, queue: QueueId) -> Vec<ActiveProducer> {
        self.log.producers(queue)
    }

    /// Compacts what is due and gives the space between living records back; blocking, for as
    /// long as it takes.
    pub(crate) fn clean(
        &self,
        now_ms: i64,
        rules: &[(QueueId, Compaction)],
        limits: CleanLimits,
    ) -> Result<Cleaned, MaintainError> {
        self.log.clean(now_ms, rules, limits)
    }

    /// Gives the space of dead segments back; blocking.
    pub(crate) fn recycle(&self) -> Result<(), MaintainError> {
        self.log.recycle()
    }
}
