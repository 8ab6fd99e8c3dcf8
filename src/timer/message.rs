//! A scheduled message as it is given, stored and read again.

use braid_protocol::records::{BatchWriter, Record, WriteError};

use super::event::{EventError, Scheduled};
use super::{BORN_TIMESTAMP, DELIVER_MS};
use crate::model::TopicId;

/// The partition a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) topic: TopicId,
    pub(crate) partition: i32,
}

/// A header: a key and a value that may be null.
pub(crate) type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// A message to be scheduled.
#[derive(Debug, Clone)]
pub(crate) struct NewTimer<'a> {
    /// When it is due, in ms since 1970.
    pub(crate) due_ms: i64,
    pub(crate) target: Target,
    /// What the topic is called, for people.
    pub(crate) topic_name: &'a str,
    /// The time that its producer gave it, in ms since 1970; -1 if none.
    pub(crate) born_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<Header<'a>>,
}

impl NewTimer<'_> {
    /// About the bytes of its record.
    pub(super) fn size_bytes(&self) -> usize {
        let header = |(key, value): &Header<'_>| key.len() + value.unwrap_or_default().len() + 6;
        let of = |bytes: Option<&[u8]>| bytes.unwrap_or_default().len();
        let headers: usize = self.headers.iter().map(header).sum();
        64 + self.topic_name.len() + of(self.key) + of(self.value) + headers
    }

    pub(super) fn write(&self, to: &mut BatchWriter) -> Result<(), WriteError> {
        let mut event = Vec::with_capacity(64 + self.key.unwrap_or_default().len());
        let (due_ms, topic_name, key) = (self.due_ms, self.topic_name, self.key);
        let Target { topic, partition } = self.target;
        Scheduled { due_ms, topic, partition, topic_name, key }.encode(&mut event);
        to.append(self.born_ms, Some(&event), self.value, &self.headers)
    }
}

/// A scheduled message that was read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) due_ms: i64,
    pub(crate) target: Target,
    pub(crate) topic_name: String,
    pub(crate) born_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Message {
    pub(super) fn of(record: &Record<'_>) -> Result<Self, EventError> {
        let Scheduled { due_ms, topic, partition, topic_name, key } =
            Scheduled::decode(record.key)?;
        let header = |(key, value): Header<'_>| (key.to_vec(), value.map(<[u8]>::to_vec));
        Ok(Self {
            due_ms,
            target: Target { topic, partition },
            topic_name: topic_name.to_owned(),
            born_ms: record.timestamp,
            key: key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(header).collect(),
        })
    }

    /// About the bytes of the record it becomes.
    pub(super) fn size_bytes(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize =
            self.headers.iter().map(|(key, value)| key.len() + of(value) + 6).sum();
        128 + self.topic_name.len() + of(&self.key) + of(&self.value) + headers
    }

    /// Appends what consumers see: the message as it came, dated to its delivery.
    pub(super) fn deliver(
        &self,
        now_ms: i64,
        origin: &[Header<'_>],
        to: &mut BatchWriter,
    ) -> Result<(), WriteError> {
        let mut headers: Vec<Header<'_>> =
            self.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        let (due, born) = (self.due_ms.to_string(), self.born_ms.to_string());
        for (name, value) in [(DELIVER_MS, &due), (BORN_TIMESTAMP, &born)] {
            if !self.headers.iter().any(|(key, _)| key == name.as_bytes()) {
                headers.push((name.as_bytes(), Some(value.as_bytes())));
            }
        }
        headers.extend_from_slice(origin);
        to.append(now_ms, self.key.as_deref(), self.value.as_deref(), &headers)
    }
}
