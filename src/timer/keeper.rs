//! The two tasks of the engine: one delivers what is due, one loads what is near and drops what is
//! over.
//!
//! The delivering task sleeps until the next message is due, and never longer than a second, so
//! that a clock that was set is noticed. The loading task is the only one that loads, so whoever
//! asks for a bucket may go away without leaving it half loaded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::deliver::When;
use super::error::ScheduleError;
use super::event::{Ended, Scheduled};
use super::id::TimerId;
use super::read;
use super::shared::{Shared, note, number};
use super::table::{Load, Read};
use crate::model::{Offset, QueueId};
use crate::partition::{FetchError, system};
use crate::store::{AppendError, Class};

/// Messages taken at once.
const TAKEN_MAX: usize = 4_000;
/// How often the clock is looked at when nothing is due.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How long nothing is delivered after the log refused to take it.
const HELD_UP_FOR: Duration = Duration::from_millis(250);
/// After what time messages and buckets that could not be delivered or read are tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often queues are shortened.
const SHORTEN_AFTER: Duration = Duration::from_secs(60);

/// Delivers until the broker stops.
pub(super) async fn deliver(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut postponed: Vec<TimerId> = Vec::new();
    let mut retry_at = Duration::ZERO;
    while !*stopping.borrow() {
        if !postponed.is_empty() && shared.env.clock.monotonic() >= retry_at {
            shared.state().table.put_back(std::mem::take(&mut postponed));
        }
        let (now_ms, taken, next_due_ms) = {
            let mut state = shared.state();
            let now_ms = shared.now_ms();
            let taken = state.table.take_due(now_ms, TAKEN_MAX);
            (now_ms, taken, state.table.next_due_ms())
        };
        if taken.is_empty() {
            let until = next_due_ms.map(|due_ms| due_ms.saturating_sub(now_ms));
            let until = until.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
            let pause = until.unwrap_or(LOOK_AFTER).min(LOOK_AFTER);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shared.due.notified() => {}
                changed = stopping.changed() => if changed.is_err() { return },
            }
            continue;
        }
        let delivered = shared.deliver(taken, When::Due).await;
        shared.state().table.put_back(delivered.left);
        if delivered.is_held_up {
            // Nothing gets into the log now; reading more would be in vain.
            tokio::select! {
                () = tokio::time::sleep(HELD_UP_FOR) => {}
                changed = stopping.changed() => if changed.is_err() { return },
            }
        }
        if !delivered.postponed.is_empty() {
            let why = delivered.why.unwrap_or_default();
            let count = delivered.postponed.len();
            tracing::warn!(count, why, "due messages cannot be delivered yet");
            postponed.extend(delivered.postponed);
            retry_at = shared.env.clock.monotonic() + RETRY_AFTER;
        }
    }
}

/// Loads and drops until the broker stops.
pub(super) async fn keep(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let (mut shorten_at, mut retry_at) = (Duration::ZERO, Duration::ZERO);
    while !*stopping.borrow() {
        while load_next(&shared).await {
            if *stopping.borrow() {
                return;
            }
        }
        while drop_finished(&shared) {
            tokio::task::yield_now().await;
        }
        let now = shared.env.clock.monotonic();
        if now >= retry_at {
            retry_at = now + RETRY_AFTER;
            if shared.state().table.retry_loads() {
                continue;
            }
        }
        if now >= shorten_at {
            shorten(&shared);
            shorten_at = now + SHORTEN_AFTER;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AFTER) => {}
            () = shared.wanted.notified() => {}
            changed = stopping.changed() => if changed.is_err() { return },
        }
    }
}

/// Loads what is wanted most; says whether there was something.
async fn load_next(shared: &Shared) -> bool {
    let (load, bucket, scheduled, ended, end) = {
        let mut state = shared.state();
        let Some(load) = state.table.begin_load(shared.now_ms()) else { return false };
        let (Load::Bucket(bucket) | Load::Ends(bucket)) = load;
        let scheduled = shared.partitions.offsets(system::timer_bucket(bucket)).next;
        let ended = shared.partitions.offsets(system::timer_ends(bucket)).next;
        (load, bucket, scheduled, ended, state.end)
    };
    let read = async {
        let mut read = Read::default();
        if shared.partitions.wait_durable(end).await.is_err() {
            // The process ends.
            return Ok(None);
        }
        if matches!(load, Load::Bucket(_)) {
            read_scheduled(shared, bucket, scheduled, &mut read).await?;
        }
        read_ended(shared, bucket, ended, &mut read).await?;
        Ok::<_, FetchError>(Some(read))
    };
    let outcome = read.await;
    {
        let table = &mut shared.state().table;
        match (outcome, load) {
            (Ok(Some(read)), Load::Bucket(_)) => table.loaded(bucket, read),
            (Ok(Some(read)), Load::Ends(_)) => {
                table.ends_loaded(bucket, read.ends.into_iter().collect::<HashMap<_, _>>());
            }
            (Ok(None), _) => table.load_failed(load),
            (Err(error), _) => {
                tracing::error!(bucket, %error, "scheduled messages cannot be loaded yet");
                table.load_failed(load);
            }
        }
    }
    shared.loaded.notify_waiters();
    shared.due.notify_one();
    true
}

async fn read_scheduled(
    shared: &Shared,
    bucket: u32,
    next: Offset,
    read: &mut Read,
) -> Result<(), FetchError> {
    let queue = system::timer_bucket(bucket);
    read::records(&shared.partitions, queue, 0..next.0, |record| {
        if record.key.is_none() {
            // The place of a message that is lost.
            return true;
        }
        match (number(Offset(record.offset)), Scheduled::decode(record.key)) {
            (Some(offset), Ok(event)) => read.scheduled.push((offset, event.due_ms)),
            (_, outcome) => tell_unreadable(queue, record.offset, outcome.err()),
        }
        true
    })
    .await
}

async fn read_ended(
    shared: &Shared,
    bucket: u32,
    next: Offset,
    read: &mut Read,
) -> Result<(), FetchError> {
    let queue = system::timer_ends(bucket);
    read::records(&shared.partitions, queue, 0..next.0, |record| {
        let ends = &mut read.ends;
        if let Err(error) = Ended::decode(record.key, |offset, end| ends.push((offset, end))) {
            tell_unreadable(queue, record.offset, Some(error));
        }
        true
    })
    .await
}

fn tell_unreadable(queue: QueueId, offset: i64, error: Option<super::event::EventError>) {
    let why = error.map_or_else(String::new, |error| error.to_string());
    tracing::error!(%queue, offset, why, "a record of scheduled messages makes no sense");
}

/// Drops the lowest bucket that is over; says whether there was one.
fn drop_finished(shared: &Shared) -> bool {
    let mut state = shared.state();
    let now_ms = shared.now_ms();
    let Some((bucket, floor)) = state.table.finished(now_ms) else { return false };
    if let Some(floor) = floor {
        let noted = note(now_ms, floor).and_then(|note| {
            shared.append(&mut state, Class::System, now_ms, &[note]).map_err(ScheduleError::from)
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot note which scheduled messages are over");
            return false;
        }
        state.table.noted(floor);
    }
    // The messages first: without their ends they would be there once more.
    for queue in [system::timer_bucket(bucket), system::timer_ends(bucket)] {
        match shared.partitions.drop_queue(queue) {
            Ok(()) | Err(AppendError::UnknownQueue(_)) => {}
            Err(error) => {
                tracing::warn!(%queue, %error, "cannot drop scheduled messages that are over");
                return false;
            }
        }
    }
    state.table.dropped(bucket);
    true
}

/// Gives up what nobody reads any more: receipts, and notes but the last.
fn shorten(shared: &Shared) {
    let receipts = std::mem::take(&mut shared.state().receipts);
    for queue in receipts {
        let offsets = shared.partitions.offsets(queue);
        if offsets.high_watermark < offsets.next {
            shared.state().receipts.insert(queue);
        }
        release(shared, queue, offsets.log_start, offsets.high_watermark);
    }
    let notes = shared.partitions.offsets(system::TIMER_NOTES);
    let last = Offset(notes.high_watermark.0 - 1);
    release(shared, system::TIMER_NOTES, notes.log_start, last);
}

fn release(shared: &Shared, queue: QueueId, start: Offset, to: Offset) {
    if to > start
        && let Err(error) = shared.partitions.release(queue, to)
    {
        tracing::warn!(%queue, %error, "cannot shorten a queue of the timers");
    }
}
