//! Compaction: of every key of a queue the last record stays.
//!
//! A queue is due when enough of it is new since the last time. What is new is read once for its
//! keys, as far as they fit into memory; then everything up to there is written anew without what
//! is superseded, and takes the place of the old. The head of a queue is left alone: readers close
//! behind the producers see every record. What the head is, Kafka's segment settings say. Nothing
//! above the last stable offset is touched, nor does it supersede anything: readers of committed
//! records do not see it yet.

use std::collections::HashMap;

use braid_protocol::records::BatchHeader;

use super::filter::{Filter, Kept, note_keys};
use super::frames::Frames;
use super::keys::Keys;
use super::rewrite::{Rewrite, What};
use super::transactions::Decided;
use super::{CleanLimits, Cleaner, Halt};
use crate::model::{Offset, QueueId};
use crate::store::error::{DamageReason, IoFailure, MaintainError, ReadError};
use crate::store::page::{Extent, Page, Walk};
use crate::store::queue::Place;
use crate::store::shared::Shared;

/// Bytes that one round writes before the queues are switched over, in CommitLog segments.
const ROUND_SEGMENTS_MAX: u64 = 8;
/// Rounds behind each other; then merging has its turn.
const ROUNDS_MAX: usize = 64;

/// How a queue is compacted. The names of the topic settings are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compaction {
    /// `min.compaction.lag.ms`: nothing younger is touched.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: nothing older waits for the ratio.
    pub max_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`: more than this part has to be new.
    pub dirty_ratio_min: f64,
    /// `delete.retention.ms`: how long tombstones stay.
    pub delete_retention_ms: i64,
    /// `segment.ms`: what was stored more recently is the head of the queue,
    pub head_age_ms: i64,
    /// `segment.bytes`: unless so much was stored behind it.
    pub head_size_bytes: u64,
}

/// How far a queue was looked through for what may be compacted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// By which rule.
    rule: Option<Compaction>,
    /// Where its new part begins, and bytes before that in the segment that it begins in.
    from: i64,
    before: (u64, u32),
    /// What lies below may be compacted, and how much it is.
    up_to: i64,
    bytes: u64,
    /// When the first of it was stored.
    first_ms: Option<i64>,
    /// When the next tombstone may go.
    horizon_ms: Option<i64>,
}

/// What is to be done with a queue.
#[derive(Debug, Clone, Copy)]
struct Task {
    queue: QueueId,
    rule: Compaction,
    now_ms: i64,
    log_start: i64,
    /// Where the new part begins and ends.
    from: i64,
    up_to: i64,
    /// See [`Progress`].
    before: (u64, u32),
}

/// What one round needs.
struct Round<'a> {
    rewrite: Rewrite<'a>,
    frames: Frames,
    keys: Keys,
    done: Vec<(QueueId, Progress)>,
}

impl Shared {
    /// Compacts the queues that are due; how many times one was.
    pub(super) fn compact_due(
        &self,
        cleaner: &mut Cleaner,
        now_ms: i64,
        rules: &[(QueueId, Compaction)],
        limits: CleanLimits,
    ) -> Result<usize, MaintainError> {
        let mut rules = rules.to_vec();
        rules.sort_by_key(|(queue, _)| *queue);
        let is_named =
            |queue: &QueueId| rules.binary_search_by_key(queue, |(known, _)| *known).is_ok();
        cleaner.progress.retain(|queue, _| is_named(queue));
        let mut compacted = 0;
        for _ in 0..ROUNDS_MAX {
            let done = self.compact_round(cleaner, now_ms, &rules, limits)?;
            if done == 0 {
                break;
            }
            compacted += done;
            self.recycle()?;
        }
        Ok(compacted)
    }

    fn compact_round(
        &self,
        cleaner: &mut Cleaner,
        now_ms: i64,
        rules: &[(QueueId, Compaction)],
        limits: CleanLimits,
    ) -> Result<usize, MaintainError> {
        let mut round = Round {
            rewrite: Rewrite::new(self, limits),
            frames: Frames::default(),
            keys: Keys::new(&self.env, limits.key_memory_bytes),
            done: Vec::new(),
        };
        let output_max = ROUND_SEGMENTS_MAX * self.config.segment_size_bytes;
        for (queue, rule) in rules {
            if round.rewrite.output_bytes >= output_max || cleaner.unreadable.contains(queue) {
                continue;
            }
            match self.compact_queue(cleaner, &mut round, *queue, *rule, now_ms) {
                Ok(()) => {}
                // It was dropped meanwhile.
                Err(Halt::Source { error: ReadError::UnknownQueue(_), .. }) => {
                    round.rewrite.give_up(*queue);
                }
                Err(Halt::Source { error, .. }) => {
                    tracing::error!(%queue, %error, "a queue cannot be compacted");
                    cleaner.unreadable.insert(*queue);
                    round.rewrite.give_up(*queue);
                }
                Err(Halt::Maintain(error)) => {
                    round.rewrite.abandon();
                    return Err(error);
                }
            }
        }
        let Round { rewrite, done, .. } = round;
        if done.is_empty() {
            rewrite.abandon();
            return Ok(0);
        }
        rewrite.switch()?;
        let count = done.len();
        cleaner.progress.extend(done);
        Ok(count)
    }

    fn compact_queue(
        &self,
        cleaner: &mut Cleaner,
        round: &mut Round<'_>,
        queue: QueueId,
        rule: Compaction,
        now_ms: i64,
    ) -> Result<(), Halt> {
        let Some(task) = self.task(cleaner, queue, rule, now_ms)? else { return Ok(()) };
        round.keys.clear();
        let void = Offset(task.log_start)..Offset(task.up_to);
        let mut decided = Decided::new(&self.state().sequencer.aborted(queue, void));
        let up_to = self.read_keys(round, &task, &decided)?;
        let task = Task { up_to, ..task };
        let horizon_ms = self.write_last(round, &task, &mut decided)?;
        round.rewrite.forget_void(queue, decided.gone());
        let rule = Some(rule);
        let progress = Progress { rule, from: up_to, up_to, horizon_ms, ..Progress::default() };
        round.done.push((queue, progress));
        Ok(())
    }

    /// What is to be done with a queue, if anything.
    fn task(
        &self,
        cleaner: &mut Cleaner,
        queue: QueueId,
        rule: Compaction,
        now_ms: i64,
    ) -> Result<Option<Task>, Halt> {
        let durable = self.watermark.durable();
        let (log_start, from, clean, dirty, stable) = {
            let mut state = self.state();
            let Some(known) = state.queues.get(queue) else { return Ok(None) };
            let is_clean = |place: &&Place| is_below(place, known.compacted_to);
            let all: u64 = known.places.iter().map(|place| u64::from(place.bytes)).sum();
            let clean: u64 =
                known.places.iter().filter(is_clean).map(|place| u64::from(place.bytes)).sum();
            let (log_start, from) = (known.log_start, known.gone_below());
            let high_watermark = Offset(state.high_watermark(known, durable));
            let stable = state.sequencer.last_stable(queue, high_watermark);
            (log_start, from, clean, all - clean, stable.0)
        };
        let mut progress = cleaner.progress.get(&queue).copied().unwrap_or_default();
        if progress.from != from || progress.rule != Some(rule) {
            progress = Progress {
                rule: Some(rule),
                from,
                before: self.bytes_before(queue, from)?,
                up_to: from,
                horizon_ms: progress.horizon_ms,
                ..Progress::default()
            };
        }
        let dirty = dirty.saturating_sub(u64::from(progress.before.1));
        self.advance(&mut progress, (queue, stable), rule, now_ms, dirty)?;
        cleaner.progress.insert(queue, progress);
        let Progress { up_to, before, bytes, first_ms, horizon_ms, .. } = progress;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes, to be compared roughly")]
        let ratio = bytes as f64 / (clean + bytes).max(1) as f64;
        let is_overdue = first_ms.is_some_and(|ms| now_ms.saturating_sub(ms) > rule.max_lag_ms);
        let is_dirty = bytes > 0 && (ratio > rule.dirty_ratio_min || is_overdue);
        let has_old_tombstones = clean > 0 && horizon_ms.is_some_and(|ms| ms <= now_ms);
        if !is_dirty && !has_old_tombstones {
            return Ok(None);
        }
        let dir = &self.config.dir;
        let free = self.env.fs.free_bytes(dir).map_err(IoFailure::of("measure", dir));
        let free = free.map_err(|failure| Halt::Maintain(MaintainError::Io(failure)))?;
        if (clean + bytes) / 2 > free / 4 {
            tracing::warn!(%queue, "too little room on the disk to compact a queue");
            return Ok(None);
        }
        Ok(Some(Task { queue, rule, now_ms, log_start, from, up_to, before }))
    }

    /// Bytes of a queue between where it was compacted to and a log start behind that, and the
    /// segment that holds them.
    fn bytes_before(&self, queue: QueueId, log_start: i64) -> Result<(u64, u32), Halt> {
        let first = {
            let state = self.state();
            let Some(known) = state.queues.get(queue) else { return Ok((0, 0)) };
            let is_new = |place: &&Place| !is_below(place, known.compacted_to);
            let Some(first) = known.places.iter().find(is_new) else { return Ok((0, 0)) };
            *first
        };
        let (mut from, mut bytes) = (first.first_offset, 0_u32);
        let walk = Walk { up_to: log_start, ..Walk::ALL };
        while let Some(page) = self.page(queue, from, walk).map_err(source(0))? {
            for extent in &page.extents {
                bytes = bytes.saturating_add(extent.length);
                from = extent.next;
            }
        }
        Ok((first.segment, bytes))
    }

    /// Looks on for what may be compacted.
    fn advance(
        &self,
        progress: &mut Progress,
        (queue, stable): (QueueId, i64),
        rule: Compaction,
        now_ms: i64,
        dirty: u64,
    ) -> Result<(), Halt> {
        loop {
            let page = self.page(queue, progress.up_to, Walk::ALL).map_err(source(0))?;
            let Some(page) = page else { return Ok(()) };
            for extent in &page.extents {
                let length = u64::from(extent.length);
                let behind = dirty.saturating_sub(progress.bytes + length);
                if extent.next > stable || !is_old_enough(extent, rule, now_ms, behind) {
                    return Ok(());
                }
                progress.first_ms.get_or_insert(extent.store_time_ms);
                progress.bytes += length;
                progress.up_to = extent.next;
            }
        }
    }

    /// Reads the keys of the new part, as far as they fit; where the last one lies.
    fn read_keys(
        &self,
        round: &mut Round<'_>,
        task: &Task,
        decided: &Decided,
    ) -> Result<i64, Halt> {
        let mut read_to = task.from;
        let walk = Walk { up_to: task.up_to, ..Walk::ALL };
        while let Some(page) = self.page(task.queue, read_to, walk).map_err(source(0))? {
            for extent in &page.extents {
                if extent.base_offset > read_to.max(page.compacted_to) {
                    // A frame is lost here. Compacted, nobody would notice any more.
                    let lost = page.reader.damage(extent.position, DamageReason::Lost);
                    return Err(source(page.reader.first)(lost.into()));
                }
                let (_, header, batch) = read(round, task.queue, &page, extent)?;
                let count = usize::try_from(header.records_count).unwrap_or(0);
                if read_to > task.from && !round.keys.has_room(count) {
                    return Ok(read_to);
                }
                if !decided.is_void(&header) {
                    note_keys(&mut round.keys, &batch, &header);
                }
                read_to = extent.next;
            }
        }
        Ok(read_to)
    }

    /// Writes what stays; when the next tombstone may go.
    fn write_last(
        &self,
        round: &mut Round<'_>,
        task: &Task,
        decided: &mut Decided,
    ) -> Result<Option<i64>, Halt> {
        let producers = self.state().sequencer.producers(task.queue);
        let last: HashMap<i64, (i16, i32)> =
            producers.iter().map(|it| (it.id.0, (it.epoch, it.last_sequence))).collect();
        let is_last_of_producer = |header: &BatchHeader| {
            let stamp = (header.producer_epoch, header.last_sequence());
            header.has_producer_id() && last.get(&header.producer_id) == Some(&stamp)
        };
        let mut next_horizon_ms = None;
        // What lies below the log start is not read, and goes too.
        let what = What::Below { offset: task.up_to, last: task.before };
        round.rewrite.begin(task.queue, what);
        let mut from = task.log_start;
        let walk = Walk { up_to: task.up_to, ..Walk::ALL };
        while let Some(page) = self.page(task.queue, from, walk).map_err(source(0))? {
            for extent in &page.extents {
                from = extent.next;
                let (frame, header, batch) = read(round, task.queue, &page, extent)?;
                round.rewrite.count_source(page.reader.first, extent.length);
                // The end of the queue can be reached whatever stays of it.
                let must_stay = from == task.up_to || is_last_of_producer(&header);
                let mut filter = Filter {
                    keys: &round.keys,
                    now_ms: task.now_ms,
                    delete_retention_ms: task.rule.delete_retention_ms,
                    next_horizon_ms,
                };
                let kept = if header.is_control() {
                    filter.keep_marker(&batch, &header, decided.end(&header), must_stay)
                } else if decided.is_void(&header) {
                    Filter::keep_void(&header, must_stay)
                } else {
                    filter.keep(&batch, &header, must_stay)
                };
                next_horizon_ms = filter.next_horizon_ms;
                if kept != Kept::Nothing {
                    decided.keep(&header);
                }
                match kept {
                    Kept::Whole => round.rewrite.put(&frame, &batch, &header)?,
                    Kept::Less(less) => {
                        let Ok(header) = BatchHeader::parse(&less) else {
                            unreachable!("a batch was just written");
                        };
                        round.rewrite.put(&frame, &less, &header)?;
                    }
                    Kept::Nothing => {}
                }
            }
        }
        Ok(next_horizon_ms)
    }
}

fn read(
    round: &mut Round<'_>,
    queue: QueueId,
    page: &Page,
    extent: &Extent,
) -> Result<(crate::store::frame::Header, BatchHeader, bytes::Bytes), Halt> {
    round.rewrite.pacer.spend(u64::from(extent.length))?;
    round.frames.read(&page.reader, queue, extent).map_err(source(page.reader.first))
}

fn source(segment: u64) -> impl Fn(ReadError) -> Halt {
    move |error| Halt::Source { segment, error }
}

fn is_below(place: &Place, offset: i64) -> bool {
    place.first_offset < offset
}

/// Whether a batch may be compacted that has so many bytes of its queue behind it.
fn is_old_enough(extent: &Extent, rule: Compaction, now_ms: i64, behind: u64) -> bool {
    let age_ms = |of_ms: i64| now_ms.saturating_sub(of_ms);
    let head_age_ms = rule.head_age_ms.min(rule.max_lag_ms);
    let is_head = age_ms(extent.store_time_ms) < head_age_ms && behind < rule.head_size_bytes;
    let newest_ms = extent.max_timestamp.max(extent.store_time_ms);
    !is_head && (rule.min_lag_ms <= 0 || age_ms(newest_ms) >= rule.min_lag_ms)
}
