//! What happens to deliveries, as records of the DELIVERY queue. One event is the key of one
//! record; the value is null. Layout: docs/formats.md, "Deliveries".
//!
//! Events say what became of offsets, in the states of KIP-932: Available, Acquired, Archiving
//! (KIP-1191: on its way to the dead letters), and done, which is Acknowledged or Archived.

use std::sync::Arc;

use super::wire::{Reader, WireError, put_name, put_offsets, put_text, put_varint};
use crate::model::TopicId;

const VERSION: u8 = 1;

/// One partition as one group sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartKey {
    pub(crate) group: Arc<str>,
    pub(crate) topic: TopicId,
    pub(crate) partition: i32,
}

/// What a record that is not done is to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// May be delivered, from its time on.
    Available,
    /// Leased to a receiver until its time; from then on as if it were available.
    Acquired,
    /// On its way to the dead letters; neither delivered nor done.
    Archiving,
}

/// A record that was looked at and is not done. One is kept for every lease, so it is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Since when it may be delivered, or until when it is leased: ms since 1970.
    pub(super) time_ms: i64,
    /// Hash of the attempt id of the receive that leased it; 0 for none.
    pub(super) receive: u64,
    /// Hash of its message group; 0 if it is in no order. Of two groups with one hash the one
    /// waits for the other, which delays and never disorders.
    pub(super) message_group: u32,
    /// How often it was acquired.
    pub(super) attempts: u16,
    pub(super) state: State,
}

/// Records looked at for the first time: of `from..next` everything is done that is neither taken
/// nor held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scan {
    pub(super) from: i64,
    pub(super) next: i64,
    /// Acquired for the first time, with their message groups.
    pub(super) taken: Vec<(i64, u32)>,
    /// Left for later: a record of their message group is not done yet.
    pub(super) held: Vec<(i64, u32)>,
}

/// Everything that is known of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    pub(super) generation: i64,
    pub(super) scanned_to: i64,
    pub(super) entries: Vec<(i64, Entry)>,
    /// Done though not looked at: half-open ranges.
    pub(super) done: Vec<(i64, i64)>,
    /// Why entries go to the dead letters, where somebody said so.
    pub(super) reasons: Vec<(i64, Arc<str>)>,
}

/// What became of records of one partition. Offsets ascend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// One receive got these: `again` once more, `scan.taken` for the first time.
    Acquired { until_ms: i64, receive: u64, again: Vec<i64>, scan: Option<Scan> },
    /// Done: acknowledged by a consumer, or a dead letter that was re-driven or deleted.
    Acked { offsets: Vec<i64> },
    /// The lease lasts until another time.
    Extended { until_ms: i64, offsets: Vec<i64> },
    /// The lease is over; available from a time on.
    Released { visible_ms: i64, offsets: Vec<i64> },
    /// To be copied to the dead letters; `reason` is a consumer's.
    Archiving { reason: Option<Arc<str>>, offsets: Vec<i64> },
    /// Done: a dead letter now, or not in the log any more.
    Archived { offsets: Vec<i64> },
    /// The log starts here now; what was below is gone.
    Trimmed { to: i64 },
    /// Everything below counts as done and nothing from here on: the beginning, or a reset.
    Reset { to: i64, generation: i64 },
    /// The log lost what was from here on, and may hand the offsets out again: nothing from here on
    /// was looked at, and handles of before are void.
    Cut { to: i64, generation: i64 },
    /// All of the above once more, in one.
    State(Box<Said>),
    /// A part of all of the above once more. With the last one the events before the first, which
    /// is at `since`, are not needed any more.
    Piece { since: Option<i64>, said: Box<Said> },
}

/// An event of the DELIVERY queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Part { key: PartKey, change: Change },
    GroupDeleted { group: Arc<str> },
    TopicDeleted { topic: TopicId },
}

const ACQUIRED: u8 = 1;
const ACKED: u8 = 2;
const EXTENDED: u8 = 3;
const RELEASED: u8 = 4;
const ARCHIVING: u8 = 5;
const ARCHIVED: u8 = 6;
const TRIMMED: u8 = 7;
const RESET: u8 = 8;
const STATE: u8 = 9;
const GROUP_DELETED: u8 = 10;
const TOPIC_DELETED: u8 = 11;
const PIECE: u8 = 12;
const CUT: u8 = 13;

impl Event {
    /// The key of its record.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Self::Part { key, change } => {
                out.push(change.kind());
                put_name(&mut out, &key.group);
                out.extend_from_slice(key.topic.0.as_bytes());
                out.extend_from_slice(&key.partition.to_be_bytes());
                change.encode(&mut out);
            }
            Self::GroupDeleted { group } => {
                out.push(GROUP_DELETED);
                put_name(&mut out, group);
            }
            Self::TopicDeleted { topic } => {
                out.push(TOPIC_DELETED);
                out.extend_from_slice(topic.0.as_bytes());
            }
        }
        out
    }

    /// Reads a record's key.
    pub(super) fn decode(key: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(key);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(WireError::Version { version });
        }
        let kind = reader.u8()?;
        let event = match kind {
            GROUP_DELETED => Self::GroupDeleted { group: reader.name()? },
            TOPIC_DELETED => Self::TopicDeleted { topic: reader.topic()? },
            kind => {
                let (group, topic) = (reader.name()?, reader.topic()?);
                let key = PartKey { group, topic, partition: reader.i32()? };
                Self::Part { key, change: Change::decode(kind, &mut reader)? }
            }
        };
        reader.end()?;
        Ok(event)
    }
}

impl Change {
    fn kind(&self) -> u8 {
        match self {
            Self::Acquired { .. } => ACQUIRED,
            Self::Acked { .. } => ACKED,
            Self::Extended { .. } => EXTENDED,
            Self::Released { .. } => RELEASED,
            Self::Archiving { .. } => ARCHIVING,
            Self::Archived { .. } => ARCHIVED,
            Self::Trimmed { .. } => TRIMMED,
            Self::Reset { .. } => RESET,
            Self::State(_) => STATE,
            Self::Piece { .. } => PIECE,
            Self::Cut { .. } => CUT,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Acquired { until_ms, receive, again, scan } => {
                out.extend_from_slice(&until_ms.to_be_bytes());
                out.extend_from_slice(&receive.to_be_bytes());
                put_offsets(out, again);
                out.push(u8::from(scan.is_some()));
                if let Some(scan) = scan {
                    out.extend_from_slice(&scan.from.to_be_bytes());
                    out.extend_from_slice(&scan.next.to_be_bytes());
                    put_grouped(out, &scan.taken);
                    put_grouped(out, &scan.held);
                }
            }
            Self::Acked { offsets } | Self::Archived { offsets } => put_offsets(out, offsets),
            Self::Extended { until_ms: ms, offsets }
            | Self::Released { visible_ms: ms, offsets } => {
                out.extend_from_slice(&ms.to_be_bytes());
                put_offsets(out, offsets);
            }
            Self::Archiving { reason, offsets } => {
                put_text(out, reason.as_deref().unwrap_or_default());
                put_offsets(out, offsets);
            }
            Self::Trimmed { to } => out.extend_from_slice(&to.to_be_bytes()),
            Self::Reset { to, generation } | Self::Cut { to, generation } => {
                out.extend_from_slice(&to.to_be_bytes());
                out.extend_from_slice(&generation.to_be_bytes());
            }
            Self::State(said) => said.encode(out),
            Self::Piece { since, said } => {
                out.extend_from_slice(&since.unwrap_or(-1).to_be_bytes());
                said.encode(out);
            }
        }
    }

    fn decode(kind: u8, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match kind {
            ACQUIRED => Self::Acquired {
                until_ms: reader.i64()?,
                receive: reader.u64()?,
                again: reader.offsets()?,
                scan: if reader.flag()? { Some(Scan::decode(reader)?) } else { None },
            },
            ACKED => Self::Acked { offsets: reader.offsets()? },
            EXTENDED => Self::Extended { until_ms: reader.i64()?, offsets: reader.offsets()? },
            RELEASED => Self::Released { visible_ms: reader.i64()?, offsets: reader.offsets()? },
            ARCHIVING => Self::Archiving { reason: reason(reader)?, offsets: reader.offsets()? },
            ARCHIVED => Self::Archived { offsets: reader.offsets()? },
            TRIMMED => Self::Trimmed { to: reader.i64()? },
            RESET => Self::Reset { to: reader.i64()?, generation: reader.i64()? },
            CUT => Self::Cut { to: reader.i64()?, generation: reader.i64()? },
            STATE => Self::State(Box::new(Said::decode(reader)?)),
            PIECE => {
                let since = Some(reader.i64()?).filter(|since| *since >= 0);
                Self::Piece { since, said: Box::new(Said::decode(reader)?) }
            }
            kind => return Err(WireError::Kind { kind }),
        })
    }
}

fn reason(reader: &mut Reader<'_>) -> Result<Option<Arc<str>>, WireError> {
    let text = reader.name()?;
    Ok((!text.is_empty()).then_some(text))
}

/// Offsets and their message groups; the groups only if one of them has one.
fn put_grouped(out: &mut Vec<u8>, records: &[(i64, u32)]) {
    let offsets: Vec<i64> = records.iter().map(|(offset, _)| *offset).collect();
    put_offsets(out, &offsets);
    let are_grouped = records.iter().any(|(_, group)| *group != 0);
    out.push(u8::from(are_grouped));
    if are_grouped {
        records.iter().for_each(|(_, group)| out.extend_from_slice(&group.to_be_bytes()));
    }
}

fn grouped(reader: &mut Reader<'_>) -> Result<Vec<(i64, u32)>, WireError> {
    let offsets = reader.offsets()?;
    let are_grouped = reader.flag()?;
    let group = |reader: &mut Reader<'_>| if are_grouped { reader.u32() } else { Ok(0) };
    offsets.into_iter().map(|offset| Ok((offset, group(reader)?))).collect()
}

impl Scan {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            from: reader.i64()?,
            next: reader.i64()?,
            taken: grouped(reader)?,
            held: grouped(reader)?,
        })
    }
}

impl Said {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.scanned_to.to_be_bytes());
        let offsets: Vec<i64> = self.entries.iter().map(|(offset, _)| *offset).collect();
        put_offsets(out, &offsets);
        for (_, entry) in &self.entries {
            out.push(match entry.state {
                State::Available => 0,
                State::Acquired => 1,
                State::Archiving => 2,
            });
            out.extend_from_slice(&entry.attempts.to_be_bytes());
            out.extend_from_slice(&entry.time_ms.to_be_bytes());
            out.extend_from_slice(&entry.message_group.to_be_bytes());
            out.extend_from_slice(&entry.receive.to_be_bytes());
        }
        put_varint(out, self.done.len() as u64);
        for (start, end) in &self.done {
            out.extend_from_slice(&start.to_be_bytes());
            out.extend_from_slice(&end.to_be_bytes());
        }
        put_varint(out, self.reasons.len() as u64);
        for (offset, reason) in &self.reasons {
            out.extend_from_slice(&offset.to_be_bytes());
            put_text(out, reason);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (generation, scanned_to) = (reader.i64()?, reader.i64()?);
        let offsets = reader.offsets()?;
        let mut entries = Vec::new();
        for offset in offsets {
            let state = match reader.u8()? {
                0 => State::Available,
                1 => State::Acquired,
                2 => State::Archiving,
                state => return Err(WireError::State { state }),
            };
            let (attempts, time_ms) = (reader.u16()?, reader.i64()?);
            let (message_group, receive) = (reader.u32()?, reader.u64()?);
            entries.push((offset, Entry { time_ms, receive, message_group, attempts, state }));
        }
        let mut done = Vec::new();
        for _ in 0..reader.varint()? {
            done.push((reader.i64()?, reader.i64()?));
        }
        let mut reasons = Vec::new();
        for _ in 0..reader.varint()? {
            reasons.push((reader.i64()?, reader.name()?));
        }
        Ok(Self { generation, scanned_to, entries, done, reasons })
    }
}

#[cfg(test)]
mod tests;
