//! What happens to half messages, as the records of their two queues say it.
//!
//! An event is the key of a record of the queue `HALF_EVENTS`. An [`Event::Sent`] is also the key of
//! the half's own record in the queue `HALF`, by whose offset the half is named and whose value is
//! the record batch that a commit appends. The bytes are in `docs/formats.md`; reading them trusts
//! nothing.

use std::str;

use bytes::BufMut;
use uuid::Uuid;

use super::ids::MessageKey;
use super::request::SendHalf;
use crate::model::{Offset, QueueId, TopicId};

/// Version of every event's bytes.
const VERSION: u8 = 2;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A half message was sent.
    Sent { half: Offset, sent: Sent },
    /// Its producer was asked what became of it.
    Checked { half: Offset, at_ms: i64 },
    /// Nobody received the last check: it does not count, and the next is due at `due_ms`.
    CheckReturned { half: Offset, at_ms: i64, due_ms: i64 },
    /// Somebody wants its producer asked now.
    CheckAsked { half: Offset, at_ms: i64 },
    /// It was appended to its target in the same group.
    Committed { half: Offset, at_ms: i64, by: Ender, placed: Placed },
    /// It will never be seen.
    RolledBack { half: Offset, at_ms: i64, by: Ender },
    /// Nobody decided; a copy went to the discard topic in the same group.
    Expired { half: Offset, at_ms: i64, reason: Expiry, checks: u16 },
}

/// A half message as its sender described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) topic_id: TopicId,
    pub(super) partition: i32,
    pub(super) born_ms: i64,
    /// For so long after its birth its producer is not asked.
    pub(super) immunity_ms: u32,
    pub(super) group: String,
    /// The topic's name when it was sent.
    pub(super) topic: String,
    /// The message id, if the sender gave one.
    pub(super) message_id: Option<String>,
}

/// Where the records of a commit are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) queue: QueueId,
    /// The queue's next offset just before: the batch is there or, if others appended in between,
    /// a little further on.
    pub(super) from: Offset,
    /// CRC of the batch, by which it is known.
    pub(super) crc: u32,
}

/// Who ended a half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ender {
    /// The application that sent it, or another of its group.
    Producer,
    /// A person, or a tool in a person's hand.
    Operator,
}

/// Why a half message expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Its producers were asked as often as may be, and did not say.
    Checks,
    /// It got too old.
    Age,
}

/// Why bytes are no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventError {
    #[error("events of half messages of version {0} are not known here")]
    Version(u8),
    #[error("{what} {value} is not known here")]
    Unknown { what: &'static str, value: u8 },
    #[error("the event ends early")]
    Short,
    #[error("{0} bytes are left over")]
    LeftOver(usize),
    #[error("a name is not UTF-8")]
    Text,
}

/// Length that says there is no text.
const NO_TEXT: u16 = 0xffff;

impl Event {
    /// The half it is about, which was there before.
    pub(super) fn half(&self) -> Option<Offset> {
        match self {
            Self::Sent { .. } => None,
            Self::Checked { half, .. }
            | Self::CheckReturned { half, .. }
            | Self::CheckAsked { half, .. }
            | Self::Committed { half, .. }
            | Self::RolledBack { half, .. }
            | Self::Expired { half, .. } => Some(*half),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.put_u8(VERSION);
        match self {
            Self::Sent { half, sent } => sent.encode(*half, &mut out),
            Self::Checked { half, at_ms } => begin(&mut out, 2, *half, *at_ms),
            Self::CheckReturned { half, at_ms, due_ms } => {
                begin(&mut out, 3, *half, *at_ms);
                out.put_i64(*due_ms);
            }
            Self::CheckAsked { half, at_ms } => begin(&mut out, 4, *half, *at_ms),
            Self::Committed { half, at_ms, by, placed } => {
                begin(&mut out, 5, *half, *at_ms);
                out.put_u8(by.code());
                out.put_u32(placed.queue.0);
                out.put_i64(placed.from.0);
                out.put_u32(placed.crc);
            }
            Self::RolledBack { half, at_ms, by } => {
                begin(&mut out, 6, *half, *at_ms);
                out.put_u8(by.code());
            }
            Self::Expired { half, at_ms, reason, checks } => {
                begin(&mut out, 7, *half, *at_ms);
                out.put_u8(reason.code());
                out.put_u16(*checks);
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, EventError> {
        let mut rest = Rest(bytes);
        let [version] = rest.take()?;
        if version != VERSION {
            return Err(EventError::Version(version));
        }
        let [kind] = rest.take()?;
        let event = match kind {
            1 => Self::Sent { half: rest.offset()?, sent: Sent::decode(&mut rest)? },
            2 => Self::Checked { half: rest.offset()?, at_ms: rest.i64()? },
            3 => {
                let (half, at_ms) = (rest.offset()?, rest.i64()?);
                Self::CheckReturned { half, at_ms, due_ms: rest.i64()? }
            }
            4 => Self::CheckAsked { half: rest.offset()?, at_ms: rest.i64()? },
            5 => Self::Committed {
                half: rest.offset()?,
                at_ms: rest.i64()?,
                by: Ender::of_code(rest.u8()?)?,
                placed: Placed {
                    queue: QueueId(rest.u32()?),
                    from: rest.offset()?,
                    crc: rest.u32()?,
                },
            },
            6 => Self::RolledBack {
                half: rest.offset()?,
                at_ms: rest.i64()?,
                by: Ender::of_code(rest.u8()?)?,
            },
            7 => Self::Expired {
                half: rest.offset()?,
                at_ms: rest.i64()?,
                reason: Expiry::of_code(rest.u8()?)?,
                checks: rest.u16()?,
            },
            value => return Err(EventError::Unknown { what: "event", value }),
        };
        match rest.0.len() {
            0 => Ok(event),
            left => Err(EventError::LeftOver(left)),
        }
    }
}

fn begin(out: &mut Vec<u8>, kind: u8, half: Offset, at_ms: i64) {
    out.put_u8(kind);
    out.put_i64(half.0);
    out.put_i64(at_ms);
}

impl Sent {
    /// A half that is sent now.
    pub(super) fn of(half: SendHalf, born_ms: i64) -> Self {
        let SendHalf { topic_id, topic, partition, group, message_id, immunity_ms, message: _ } =
            half;
        Self { topic_id, partition, born_ms, immunity_ms, group, topic, message_id }
    }

    /// Whether both were sent under the same message id.
    pub(super) fn is_same_message(&self, other: &Self) -> bool {
        self.message_id.is_some()
            && (self.topic_id, &self.group, &self.message_id)
                == (other.topic_id, &other.group, &other.message_id)
    }

    /// By what it is found again when it is sent again.
    pub(super) fn message_key(&self) -> Option<MessageKey> {
        let message_id = self.message_id.as_deref()?;
        Some(MessageKey::of(self.topic_id, &self.group, message_id))
    }

    fn encode(&self, half: Offset, out: &mut Vec<u8>) {
        out.put_u8(1);
        out.put_i64(half.0);
        out.put_slice(self.topic_id.0.as_bytes());
        out.put_i32(self.partition);
        out.put_i64(self.born_ms);
        out.put_u32(self.immunity_ms);
        put_text(out, Some(&self.group));
        put_text(out, Some(&self.topic));
        put_text(out, self.message_id.as_deref());
    }

    fn decode(rest: &mut Rest<'_>) -> Result<Self, EventError> {
        Ok(Self {
            topic_id: TopicId(Uuid::from_bytes(rest.take()?)),
            partition: rest.i32()?,
            born_ms: rest.i64()?,
            immunity_ms: rest.u32()?,
            group: rest.text()?.ok_or(EventError::Short)?,
            topic: rest.text()?.ok_or(EventError::Short)?,
            message_id: rest.text()?,
        })
    }
}

/// Whoever makes an event has seen to it that its texts are no longer than they may be.
fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    let Some(text) = text else { return out.put_u16(NO_TEXT) };
    let length = u16::try_from(text.len()).ok().filter(|length| *length != NO_TEXT);
    let Some(length) = length else { unreachable!("texts are bounded before they get here") };
    out.put_u16(length);
    out.put_slice(text.as_bytes());
}

impl Ender {
    fn code(self) -> u8 {
        match self {
            Self::Producer => 0,
            Self::Operator => 1,
        }
    }

    fn of_code(value: u8) -> Result<Self, EventError> {
        match value {
            0 => Ok(Self::Producer),
            1 => Ok(Self::Operator),
            value => Err(EventError::Unknown { what: "ender", value }),
        }
    }
}

impl Expiry {
    fn code(self) -> u8 {
        match self {
            Self::Checks => 0,
            Self::Age => 1,
        }
    }

    fn of_code(value: u8) -> Result<Self, EventError> {
        match value {
            0 => Ok(Self::Checks),
            1 => Ok(Self::Age),
            value => Err(EventError::Unknown { what: "expiry", value }),
        }
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], EventError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(EventError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, EventError> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, EventError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, EventError> {
        self.take().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, EventError> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, EventError> {
        self.take().map(i64::from_be_bytes)
    }

    fn offset(&mut self) -> Result<Offset, EventError> {
        self.i64().map(Offset)
    }

    fn text(&mut self) -> Result<Option<String>, EventError> {
        let length = self.u16()?;
        if length == NO_TEXT {
            return Ok(None);
        }
        let (text, rest) = self.0.split_at_checked(usize::from(length)).ok_or(EventError::Short)?;
        self.0 = rest;
        str::from_utf8(text).map(|text| Some(text.to_owned())).map_err(|_| EventError::Text)
    }
}

#[cfg(test)]
mod tests;
