//! Decisions about one partition: who gets which records, and what a handle still can do.
//!
//! They look at a [`Part`] and the time and give back the change to append; nothing is changed
//! here. Times are the broker's wall clock in ms; a lease is over at its time, never before.

use std::sync::Arc;

use super::error::LeaseError;
use super::event::{Change, Entry, Scan, State};
use super::part::Part;
use super::receipt::Receipt;
use super::settings::{
    DELAY_MS_MAX, GroupSettings, INVISIBLE_MS_MAX, INVISIBLE_MS_MIN, ORDERED_WINDOW,
};

/// Longest reason a consumer can give.
pub(super) const REASON_SIZE_BYTES_MAX: usize = 1_024;

/// A record somebody looked at for the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) offset: i64,
    /// Whether the group wants it.
    pub(super) is_wanted: bool,
    /// Hash of its message group; 0 where order does not matter.
    pub(super) message_group: u32,
}

/// A receive as far as one partition is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Take<'a> {
    pub(super) now_ms: i64,
    pub(super) until_ms: i64,
    /// Hash of its attempt id; 0 for none.
    pub(super) receive: u64,
    /// Most records to take.
    pub(super) max: usize,
    pub(super) settings: &'a GroupSettings,
    /// Entries whose records were read, in the order they are to be delivered.
    pub(super) again: &'a [i64],
    /// Records from `scanned_to` on, in order.
    pub(super) seen: &'a [Seen],
    /// Behind the last one of them, and what was left out there.
    pub(super) seen_to: i64,
}

/// A record that a receive gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) offset: i64,
    pub(super) attempt: u16,
    pub(super) until_ms: i64,
}

/// What a receive gets of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) change: Change,
    pub(super) leases: Vec<Lease>,
    /// How many of `seen` are looked at with this.
    pub(super) seen_used: usize,
}

fn is_deliverable(entry: &Entry, now_ms: i64, settings: &GroupSettings) -> bool {
    match entry.state {
        State::Available | State::Acquired => {
            entry.time_ms <= now_ms && entry.attempts < settings.attempts_max.max(1)
        }
        State::Archiving => false,
    }
}

/// Offsets that can be delivered once more, or for the first time after they had to wait.
pub(super) fn deliverable(
    part: &Part,
    now_ms: i64,
    settings: &GroupSettings,
    max: usize,
) -> Vec<i64> {
    let due = part.due(now_ms).filter(|(_, entry)| is_deliverable(entry, now_ms, settings));
    due.map(|(offset, _)| offset).take(max).collect()
}

/// Marks those of some entries whose last attempt is over.
pub(super) fn exhausted<'a>(
    due: impl Iterator<Item = (i64, &'a Entry)>,
    settings: &GroupSettings,
    max: usize,
) -> Option<Change> {
    let is_over = |entry: &Entry| entry.attempts >= settings.attempts_max.max(1);
    let over = due.filter(|(_, entry)| is_over(entry));
    let mut offsets: Vec<i64> = over.map(|(offset, _)| offset).take(max).collect();
    offsets.sort_unstable();
    (!offsets.is_empty()).then_some(Change::Archiving { reason: None, offsets })
}

/// How many more records may be undone in the partition.
pub(super) fn room(part: &Part, settings: &GroupSettings) -> usize {
    let most = if settings.is_ordered {
        settings.in_flight_max.min(ORDERED_WINDOW)
    } else {
        settings.in_flight_max
    };
    most.saturating_sub(part.undone())
}

/// What a receive gets; `None` if nothing would change.
pub(super) fn take(part: &Part, take: &Take<'_>) -> Option<Taken> {
    let mut leases = Vec::new();
    let mut again = Vec::new();
    for offset in take.again {
        if leases.len() == take.max {
            break;
        }
        // It may have been taken or ended since its record was read.
        let Some(entry) = part.entry(*offset) else { continue };
        let is_due = part.is_due(*offset, entry);
        if is_due && is_deliverable(entry, take.now_ms, take.settings) && !again.contains(offset) {
            let attempt = entry.attempts.saturating_add(1);
            leases.push(Lease { offset: *offset, attempt, until_ms: take.until_ms });
            again.push(*offset);
        }
    }
    again.sort_unstable();
    let (scan, seen_used) = scan(part, take, &mut leases);
    if again.is_empty() && scan.is_none() {
        return None;
    }
    let change = Change::Acquired { until_ms: take.until_ms, receive: take.receive, again, scan };
    Some(Taken { change, leases, seen_used })
}

/// Goes on with records that nobody was given yet.
fn scan(part: &Part, take: &Take<'_>, leases: &mut Vec<Lease>) -> (Option<Scan>, usize) {
    let from = part.scanned_to();
    let mut scan = Scan { from, next: from, ..Scan::default() };
    let mut room = room(part, take.settings);
    let mut used = 0;
    for seen in take.seen {
        let is_skipped = !seen.is_wanted || seen.offset < from || part.is_done(seen.offset);
        if !is_skipped {
            let group = seen.message_group;
            let is_blocked = part.is_blocked(group)
                || group != 0 && scan.taken.iter().any(|(_, taken)| *taken == group);
            if room == 0 || !is_blocked && leases.len() == take.max {
                break;
            }
            room -= 1;
            if is_blocked {
                scan.held.push((seen.offset, group));
            } else {
                scan.taken.push((seen.offset, group));
                leases.push(Lease { offset: seen.offset, attempt: 1, until_ms: take.until_ms });
            }
        }
        used += 1;
        scan.next = scan.next.max(seen.offset.saturating_add(1));
    }
    if used == take.seen.len() {
        scan.next = scan.next.max(take.seen_to);
    }
    ((scan.next > from).then_some(scan), used)
}

/// What a consumer says about a message it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Ack,
    /// It failed; it rests for so long, or as the group's back-off says.
    Nack { delay_ms: Option<i64> },
    /// It takes so much longer, from now.
    Extend { invisible_ms: i64 },
    /// It is to become a dead letter at once.
    DeadLetter { reason: Option<Arc<str>> },
}

impl Verdict {
    /// Whether its numbers are within bounds.
    pub(super) fn check(&self) -> Result<(), LeaseError> {
        match self {
            Self::Ack | Self::Nack { delay_ms: None } => Ok(()),
            Self::Nack { delay_ms: Some(got_ms) } => {
                let got_ms = *got_ms;
                let is_fine = (0..=DELAY_MS_MAX).contains(&got_ms);
                if is_fine { Ok(()) } else { Err(LeaseError::Delay { got_ms }) }
            }
            Self::Extend { invisible_ms: got_ms } => {
                let got_ms = *got_ms;
                let is_fine = (INVISIBLE_MS_MIN..=INVISIBLE_MS_MAX).contains(&got_ms);
                if is_fine { Ok(()) } else { Err(LeaseError::Invisible { got_ms }) }
            }
            Self::DeadLetter { reason } => {
                let got = reason.as_ref().map_or(0, |reason| reason.len());
                let max = REASON_SIZE_BYTES_MAX;
                if got <= max { Ok(()) } else { Err(LeaseError::Reason { got, max }) }
            }
        }
    }
}

/// What follows from a verdict; `None` if it was so before.
///
/// A lease that ran out counts for as long as nobody else was given the message. Acknowledging
/// what is done succeeds, whoever did it: nothing is kept of what is done. Forwarding is
/// idempotent, too.
pub(super) fn judge(
    part: &Part,
    now_ms: i64,
    receipt: &Receipt,
    verdict: &Verdict,
    settings: &GroupSettings,
) -> Result<Option<Change>, LeaseError> {
    let is_final = match verdict {
        Verdict::Ack | Verdict::DeadLetter { .. } => true,
        Verdict::Nack { .. } | Verdict::Extend { .. } => false,
    };
    if receipt.generation != part.generation() {
        return Err(LeaseError::Unknown);
    }
    let Some(entry) = part.entry(receipt.offset) else {
        if receipt.offset < 0 || !part.is_done(receipt.offset) {
            return Err(LeaseError::Unknown);
        }
        return if is_final { Ok(None) } else { Err(LeaseError::Done) };
    };
    if receipt.attempt != entry.attempts {
        let (attempt, current) = (receipt.attempt, entry.attempts);
        return Err(LeaseError::Superseded { attempt, current });
    }
    match entry.state {
        State::Acquired => {}
        State::Available => return Err(LeaseError::Released),
        State::Archiving => {
            return match verdict {
                Verdict::DeadLetter { .. } => Ok(None),
                Verdict::Ack | Verdict::Nack { .. } | Verdict::Extend { .. } => {
                    Err(LeaseError::Archiving)
                }
            };
        }
    }
    let offsets = vec![receipt.offset];
    let is_last = entry.attempts >= settings.attempts_max.max(1);
    Ok(Some(match verdict {
        Verdict::Ack => Change::Acked { offsets },
        Verdict::DeadLetter { reason } => Change::Archiving { reason: reason.clone(), offsets },
        Verdict::Nack { .. } if is_last => Change::Archiving { reason: None, offsets },
        Verdict::Nack { delay_ms } => {
            let delay_ms = delay_ms.unwrap_or_else(|| settings.back_off.delay_ms(entry.attempts));
            Change::Released { visible_ms: now_ms.saturating_add(delay_ms), offsets }
        }
        Verdict::Extend { invisible_ms } => {
            Change::Extended { until_ms: now_ms.saturating_add(*invisible_ms), offsets }
        }
    }))
}
