//! The records of `__consumer_offsets`, in Kafka's own format (docs/formats.md, "Group records"),
//! so that Kafka's tools read ours and we read Kafka's.
//!
//! The key's first two bytes say what the record is; the value's first two, its version. Written
//! are the versions Kafka 4 writes; read is everything Kafka ever wrote about classic groups and
//! offsets. Other record types (newer group kinds) are named, not understood. Decoding is total:
//! no bytes make it panic or allocate more than they justify.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::TopicId;

mod wire;

use wire::{Reader, Writer};

/// The longest string that fits into a record (its length is a signed 16-bit number). What a
/// request brings is checked against [`TEXT_SIZE_BYTES_MAX`], which leaves room for what we add.
pub(super) const TEXT_SIZE_BYTES_MAX: usize = 32_000;

const KEY_OFFSET_LEGACY: i16 = 0;
const KEY_OFFSET: i16 = 1;
const KEY_GROUP: i16 = 2;

/// Kafka 4 writes offsets in this version ...
const OFFSET_VERSION: i16 = 4;
/// ... unless they carry an expiry of their own, which no later version has a field for.
const OFFSET_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VERSION: i16 = 3;
const VERSION_MAX: i16 = 4;
const FIRST_FLEXIBLE: i16 = 4;
const TAG_TOPIC_ID: u32 = 0;

/// One record as it is appended: a missing value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the record is about.
    pub key: Bytes,
    /// What it says, or that it is gone.
    pub value: Option<Bytes>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    /// The next offset the group wants to read.
    pub offset: i64,
    /// Leader epoch of the last record read; -1: unknown.
    pub leader_epoch: i32,
    /// The client's own note.
    pub metadata: Arc<str>,
    /// When it was committed.
    pub commit_ms: i64,
    /// When it expires, if the commit said so.
    pub expire_ms: Option<i64>,
    /// Nil: unknown (written by an older Kafka, or with an expiry).
    pub topic_id: TopicId,
}

/// A generation of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// Empty: none.
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol_name: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    /// When the group entered its state; `None` in records of Kafka before 2.1.
    pub state_since_ms: Option<i64>,
    pub members: Vec<MemberValue>,
}

/// A member in a [`GroupValue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Negative in records of version 0: the session timeout.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// An offset, or its removal.
    Offset { group: Arc<str>, topic: Arc<str>, partition: i32, value: Option<OffsetValue> },
    /// A group's generation, or the group's removal.
    Group { group: Arc<str>, value: Option<GroupValue> },
    /// A record type of a newer Kafka.
    Unknown { key_version: i16 },
}

/// Why a record of a known type could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record ends early")]
    Truncated,
    #[error("a length is negative or absurd")]
    Length,
    #[error("a string is not UTF-8")]
    Text,
    #[error("value version {0} is not known")]
    ValueVersion(i16),
}

impl Record {
    /// An offset as Kafka 4 writes it.
    #[must_use]
    pub fn offset(group: &str, topic: &str, partition: i32, value: &OffsetValue) -> Self {
        let version = match value.expire_ms {
            Some(_) => OFFSET_VERSION_WITH_EXPIRY,
            None => OFFSET_VERSION,
        };
        Self {
            key: offset_key(group, topic, partition),
            value: Some(encode_offset(value, version)),
        }
    }

    /// The removal of an offset.
    #[must_use]
    pub fn offset_tombstone(group: &str, topic: &str, partition: i32) -> Self {
        Self { key: offset_key(group, topic, partition), value: None }
    }

    /// A group's generation as Kafka 4 writes it.
    #[must_use]
    pub fn group(group: &str, value: &GroupValue) -> Self {
        Self { key: group_key(group), value: Some(encode_group(value, GROUP_VERSION)) }
    }

    /// A group's generation once more, as it was written before.
    pub(super) fn group_value(group: &str, value: &Bytes) -> Self {
        Self { key: group_key(group), value: Some(value.clone()) }
    }

    /// The removal of a group.
    #[must_use]
    pub fn group_tombstone(group: &str) -> Self {
        Self { key: group_key(group), value: None }
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Reads a record.
///
/// # Errors
/// The record is of a known type, but its bytes are not what that type says.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Decoded, RecordError> {
    let mut key = Reader::new(key);
    match key.int16()? {
        KEY_OFFSET_LEGACY | KEY_OFFSET => Ok(Decoded::Offset {
            group: key.string()?,
            topic: key.string()?,
            partition: key.int32()?,
            value: value.map(decode_offset).transpose()?,
        }),
        KEY_GROUP => {
            Ok(Decoded::Group { group: key.string()?, value: value.map(decode_group).transpose()? })
        }
        key_version => Ok(Decoded::Unknown { key_version }),
    }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut key = Writer::fixed(KEY_OFFSET);
    key.string(group);
    key.string(topic);
    key.int32(partition);
    key.finish()
}

fn group_key(group: &str) -> Bytes {
    let mut key = Writer::fixed(KEY_GROUP);
    key.string(group);
    key.finish()
}

/// Writes an offset in `version`, leaving out what that version has no field for.
fn encode_offset(value: &OffsetValue, version: i16) -> Bytes {
    let mut to = Writer::versioned(version, version >= FIRST_FLEXIBLE);
    to.int64(value.offset);
    if version >= 3 {
        to.int32(value.leader_epoch);
    }
    to.string(&value.metadata);
    to.int64(value.commit_ms);
    if version == 1 {
        to.int64(value.expire_ms.unwrap_or(-1));
    }
    if version >= FIRST_FLEXIBLE {
        if value.topic_id.0.is_nil() {
            to.no_tags();
        } else {
            to.one_tag(TAG_TOPIC_ID, value.topic_id.0.as_bytes());
        }
    }
    to.finish()
}

fn decode_offset(bytes: &[u8]) -> Result<OffsetValue, RecordError> {
    let (mut from, version) = Reader::versioned(bytes, VERSION_MAX, FIRST_FLEXIBLE)?;
    let offset = from.int64()?;
    let leader_epoch = if version >= 3 { from.int32()? } else { -1 };
    let metadata = from.string()?;
    let commit_ms = from.int64()?;
    let expire_ms = if version == 1 { from.int64()? } else { -1 };
    let mut topic_id = uuid::Uuid::nil();
    from.tags(|tag, bytes| {
        if tag == TAG_TOPIC_ID
            && let Ok(id) = uuid::Uuid::from_slice(bytes)
        {
            topic_id = id;
        }
    })?;
    Ok(OffsetValue {
        offset,
        leader_epoch: leader_epoch.max(-1),
        metadata,
        commit_ms,
        expire_ms: (expire_ms >= 0).then_some(expire_ms),
        topic_id: TopicId(topic_id),
    })
}

/// Writes a group in `version`, leaving out what that version has no field for.
fn encode_group(value: &GroupValue, version: i16) -> Bytes {
    let mut to = Writer::versioned(version, version >= FIRST_FLEXIBLE);
    to.string(&value.protocol_type);
    to.int32(value.generation);
    to.nullable_string(value.protocol_name.as_deref());
    to.nullable_string(value.leader.as_deref());
    if version >= 2 {
        to.int64(value.state_since_ms.unwrap_or(-1));
    }
    to.count(value.members.len());
    for member in &value.members {
        encode_member(&mut to, member, version);
    }
    to.no_tags();
    to.finish()
}

fn encode_member(to: &mut Writer, member: &MemberValue, version: i16) {
    to.string(&member.member_id);
    if version >= 3 {
        to.nullable_string(member.group_instance_id.as_deref());
    }
    to.string(&member.client_id);
    to.string(&member.client_host);
    if version >= 1 {
        to.int32(member.rebalance_timeout_ms);
    }
    to.int32(member.session_timeout_ms);
    to.bytes(&member.subscription);
    to.bytes(&member.assignment);
    to.no_tags();
}

fn decode_group(bytes: &[u8]) -> Result<GroupValue, RecordError> {
    let (mut from, version) = Reader::versioned(bytes, VERSION_MAX, FIRST_FLEXIBLE)?;
    let protocol_type = from.string()?;
    let generation = from.int32()?;
    let protocol_name = from.nullable_string()?;
    let leader = from.nullable_string()?;
    let state_since_ms = if version >= 2 { from.int64()? } else { -1 };
    let mut members = Vec::new();
    for _ in 0..from.count()? {
        members.push(decode_member(&mut from, version)?);
    }
    from.tags(|_, _| ())?;
    Ok(GroupValue {
        protocol_type,
        generation,
        protocol_name,
        leader,
        state_since_ms: (state_since_ms != -1).then_some(state_since_ms),
        members,
    })
}

fn decode_member(from: &mut Reader<'_>, version: i16) -> Result<MemberValue, RecordError> {
    let member = MemberValue {
        member_id: from.string()?,
        group_instance_id: if version >= 3 { from.nullable_string()? } else { None },
        client_id: from.string()?,
        client_host: from.string()?,
        rebalance_timeout_ms: if version >= 1 { from.int32()? } else { -1 },
        session_timeout_ms: from.int32()?,
        subscription: from.bytes()?,
        assignment: from.bytes()?,
    };
    from.tags(|_, _| ())?;
    Ok(member)
}

#[cfg(test)]
mod tests;
