//! What the timer engine writes: the keys of its records, to the byte (docs/formats.md, "Timers").
//!
//! A bucket's queue holds one record per scheduled message: this key, and the message's own value
//! and headers. Its ends' queue and the queue of notes hold records with a key alone. Pure; reading
//! trusts nothing and allocates by what is there.

use uuid::Uuid;

use crate::model::TopicId;

const VERSION: u8 = 1;
const NO_KEY: u8 = 0;
const HAS_KEY: u8 = 1;
const FLOOR: u8 = 1;

/// Why a record of the engine cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventError {
    /// The record has no key, or one that ends early or goes on too long.
    #[error("the key of the record is cut or too long")]
    Malformed,
    /// A later version wrote it.
    #[error("the record is of version {0}, which this version does not know")]
    Version(u8),
    /// No event has this number.
    #[error("no event has the number {0}")]
    Kind(u8),
}

/// The key of a scheduled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheduled<'a> {
    /// When it is due, in ms since 1970 by the broker's clock.
    pub(crate) due_ms: i64,
    /// The topic it is for.
    pub(crate) topic: TopicId,
    /// The partition it is for.
    pub(crate) partition: i32,
    /// What the topic was called, for people: it may be gone when the message is due.
    pub(crate) topic_name: &'a str,
    /// The message's own key.
    pub(crate) key: Option<&'a [u8]>,
}

impl<'a> Scheduled<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.due_ms.to_be_bytes());
        out.extend_from_slice(self.topic.0.as_bytes());
        out.extend_from_slice(&self.partition.to_be_bytes());
        // A name is at most 249 bytes.
        let name = self.topic_name.as_bytes();
        let name = name.get(..name.len().min(usize::from(u16::MAX))).unwrap_or_default();
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(name);
        out.push(if self.key.is_some() { HAS_KEY } else { NO_KEY });
        out.extend_from_slice(self.key.unwrap_or_default());
    }

    pub(crate) fn decode(key: Option<&'a [u8]>) -> Result<Self, EventError> {
        let mut rest = Rest::of(key)?;
        let due_ms = i64::from_be_bytes(rest.take()?);
        let topic = TopicId(Uuid::from_bytes(rest.take()?));
        let partition = i32::from_be_bytes(rest.take()?);
        let length = u16::from_be_bytes(rest.take()?);
        let (name, after) =
            rest.0.split_at_checked(usize::from(length)).ok_or(EventError::Malformed)?;
        let topic_name = std::str::from_utf8(name).map_err(|_| EventError::Malformed)?;
        let key = match after.split_first() {
            Some((&NO_KEY, [])) => None,
            Some((&HAS_KEY, key)) => Some(key),
            _ => return Err(EventError::Malformed),
        };
        Ok(Self { due_ms, topic, partition, topic_name, key })
    }
}

/// What became of a scheduled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is in its topic.
    Delivered,
    /// Somebody took it back.
    Recalled,
    /// Its topic was gone: it is in the discard topic.
    Discarded,
}

impl End {
    const ALL: [Self; 3] = [Self::Delivered, Self::Recalled, Self::Discarded];

    fn number(self) -> u8 {
        match self {
            Self::Delivered => 1,
            Self::Recalled => 2,
            Self::Discarded => 3,
        }
    }
}

/// The key of a record of ends: what became of some messages of a bucket, named by their offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) end: End,
    /// Ascending.
    pub(crate) offsets: Vec<u32>,
}

impl Ended {
    /// Runs of neighbours, each as its first offset and its length: messages that are due together
    /// were mostly scheduled together.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.end.number()];
        let mut rest = self.offsets.as_slice();
        while let Some(&first) = rest.first() {
            let is_next = |(at, offset): (u32, &u32)| first.checked_add(at) == Some(*offset);
            let run = (0_u32..).zip(rest).take_while(|it| is_next(*it)).count();
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&u32::try_from(run).unwrap_or(u32::MAX).to_be_bytes());
            rest = rest.get(run..).unwrap_or_default();
        }
        out
    }

    /// Hands each offset to `each`: a few bytes may say many, so nothing is allocated for them.
    pub(crate) fn decode(
        key: Option<&[u8]>,
        mut each: impl FnMut(u32, End),
    ) -> Result<(), EventError> {
        let mut rest = Rest::of(key)?;
        let [number] = rest.take()?;
        let known = |end: &&End| end.number() == number;
        let end = *End::ALL.iter().find(known).ok_or(EventError::Kind(number))?;
        while !rest.0.is_empty() {
            let first = u32::from_be_bytes(rest.take()?);
            let run = u32::from_be_bytes(rest.take()?);
            let behind = first.checked_add(run).ok_or(EventError::Malformed)?;
            (first..behind).for_each(|offset| each(offset, end));
        }
        Ok(())
    }
}

/// The key of a note: no bucket below this one is ever written to again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Floor(pub(crate) u32);

impl Floor {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = vec![VERSION, FLOOR];
        out.extend_from_slice(&self.0.to_be_bytes());
        out
    }

    pub(crate) fn decode(key: Option<&[u8]>) -> Result<Self, EventError> {
        let mut rest = Rest::of(key)?;
        match rest.take()? {
            [FLOOR] => {}
            [kind] => return Err(EventError::Kind(kind)),
        }
        let bucket = u32::from_be_bytes(rest.take()?);
        if rest.0.is_empty() { Ok(Self(bucket)) } else { Err(EventError::Malformed) }
    }
}

/// What of a key is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn of(key: Option<&'a [u8]>) -> Result<Self, EventError> {
        let mut rest = Self(key.unwrap_or_default());
        match rest.take()? {
            [VERSION] => Ok(rest),
            [other] => Err(EventError::Version(other)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], EventError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(EventError::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn ends(key: &[u8]) -> Result<Vec<(u32, End)>, EventError> {
        let mut seen = Vec::new();
        Ended::decode(Some(key), |offset, end| seen.push((offset, end))).map(|()| seen)
    }

    const SCHEDULED: Scheduled<'_> = Scheduled {
        due_ms: 1_800_000_000_123,
        topic: TopicId(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
        partition: 3,
        topic_name: "pay",
        key: Some(b"k1"),
    };

    #[test]
    fn keys_have_golden_bytes() {
        let mut out = Vec::new();
        SCHEDULED.encode(&mut out);
        let golden = "01000001a3185c507b00112233445566778899aabbccddeeff000000030003706179016b31";
        assert_eq!(hex(&out), golden);
        let ended = Ended { end: End::Delivered, offsets: vec![4, 5, 6, 9] };
        assert_eq!(hex(&ended.encode()), "010100000004000000030000000900000001");
        let recalled = Ended { end: End::Recalled, offsets: vec![7] };
        assert_eq!(hex(&recalled.encode()), "01020000000700000001");
        assert_eq!(hex(&Floor(2_970_000).encode()), "0101002d5190");
    }

    #[test]
    fn what_was_written_is_read_again() {
        for key in [None, Some(&b""[..]), Some(&b"k1"[..])] {
            let scheduled = Scheduled { key, ..SCHEDULED };
            let mut out = Vec::new();
            scheduled.encode(&mut out);
            assert_eq!(Scheduled::decode(Some(&out)), Ok(scheduled));
        }
        for end in End::ALL {
            let offsets = vec![0, 1, 2, 8, u32::MAX - 1];
            let read = ends(&Ended { end, offsets: offsets.clone() }.encode()).unwrap();
            assert_eq!(read, offsets.iter().map(|offset| (*offset, end)).collect::<Vec<_>>());
        }
        assert_eq!(Floor::decode(Some(&Floor(7).encode())), Ok(Floor(7)));
    }

    #[test]
    fn a_cut_or_foreign_key_is_refused() {
        let mut out = Vec::new();
        SCHEDULED.encode(&mut out);
        // From the mark of the key on, everything is the message's own key.
        for cut in 0..out.len() - 2 {
            assert!(Scheduled::decode(Some(&out[..cut])).is_err(), "cut at {cut}");
        }
        let ended = Ended { end: End::Recalled, offsets: vec![7] }.encode();
        for cut in (0..ended.len()).filter(|cut| *cut != 2) {
            assert_eq!(ends(&ended[..cut]), Err(EventError::Malformed), "cut at {cut}");
        }
        assert_eq!(ends(&[1, 9]), Err(EventError::Kind(9)));
        assert_eq!(ends(&[2, 1]), Err(EventError::Version(2)));
        let beyond = [1, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2];
        assert_eq!(ends(&beyond), Err(EventError::Malformed));
        assert_eq!(Floor::decode(None), Err(EventError::Malformed));
        assert_eq!(Floor::decode(Some(&[1, 1, 0, 0, 0, 1, 0])), Err(EventError::Malformed));
    }
}
