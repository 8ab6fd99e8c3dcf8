//! Records of `__transaction_state`: key v0, value v1 (flexible) as Kafka's
//! `TransactionLogValue.json` has them; v0 values are read, too. Pure.
//!
//! Offsets under way stand in a tagged field of our own, which Kafka's tools pass over: the state
//! and the offsets of a transaction are then one record. Fields: docs/formats.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::state::{GroupOffsets, PendingOffset, Status, Txn};
use crate::model::TopicId;

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 1;
const VALUE_VERSION_OLD: i16 = 0;
const TAG_PREVIOUS_PRODUCER_ID: u32 = 0;
const TAG_NEXT_PRODUCER_ID: u32 = 1;
const TAG_CLIENT_VERSION: u32 = 2;
/// Ours, far from those that Kafka will come to use.
const TAG_OFFSETS: u32 = 10_000;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// The state of a transactional id; none if it is forgotten.
    State(Arc<str>, Option<Txn>),
    /// Something this version does not know.
    Unknown {
        /// The key's version, which is the record's type.
        key_version: i16,
    },
}

/// A record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of a transaction is unreadable")]
pub(crate) struct Unreadable;

/// The key of a transactional id.
pub(crate) fn key(id: &str) -> Vec<u8> {
    let mut out = KEY_VERSION.to_be_bytes().to_vec();
    // The length was checked when the id came in.
    out.extend_from_slice(&i16::try_from(id.len()).unwrap_or(i16::MAX).to_be_bytes());
    out.extend_from_slice(id.as_bytes());
    out
}

/// The value of a state.
pub(crate) fn value(txn: &Txn) -> Vec<u8> {
    let mut out = VALUE_VERSION.to_be_bytes().to_vec();
    out.extend_from_slice(&txn.producer_id.to_be_bytes());
    out.extend_from_slice(&txn.epoch.to_be_bytes());
    out.extend_from_slice(&txn.timeout_ms.to_be_bytes());
    out.extend_from_slice(&(txn.status as i8).to_be_bytes());
    if txn.partitions.is_empty() && txn.status == Status::Empty {
        // As Kafka: a transaction that never began has no list.
        put_varint(&mut out, 0);
    } else {
        put_count(&mut out, txn.partitions.len());
        for (topic, partitions) in &txn.partitions {
            put_text(&mut out, topic);
            put_count(&mut out, partitions.len());
            for partition in partitions {
                out.extend_from_slice(&partition.to_be_bytes());
            }
            put_varint(&mut out, 0);
        }
    }
    out.extend_from_slice(&txn.updated_ms.to_be_bytes());
    out.extend_from_slice(&txn.started_ms.to_be_bytes());
    let mut tags: Vec<(u32, Vec<u8>)> = Vec::new();
    if txn.previous_producer_id != -1 {
        tags.push((TAG_PREVIOUS_PRODUCER_ID, txn.previous_producer_id.to_be_bytes().to_vec()));
    }
    if txn.next_producer_id != -1 {
        tags.push((TAG_NEXT_PRODUCER_ID, txn.next_producer_id.to_be_bytes().to_vec()));
    }
    if txn.client_version != 0 {
        tags.push((TAG_CLIENT_VERSION, txn.client_version.to_be_bytes().to_vec()));
    }
    if !txn.offsets.is_empty() {
        tags.push((TAG_OFFSETS, encode_offsets(&txn.offsets)));
    }
    put_varint(&mut out, tags.len() as u64);
    for (tag, content) in tags {
        put_varint(&mut out, u64::from(tag));
        put_varint(&mut out, content.len() as u64);
        out.extend_from_slice(&content);
    }
    out
}

fn encode_offsets(groups: &BTreeMap<Arc<str>, GroupOffsets>) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, groups.len());
    for (group, offsets) in groups {
        put_text(&mut out, group);
        put_count(&mut out, offsets.len());
        for ((topic, partition), pending) in offsets {
            put_text(&mut out, topic);
            out.extend_from_slice(pending.topic_id.0.as_bytes());
            out.extend_from_slice(&partition.to_be_bytes());
            out.extend_from_slice(&pending.offset.to_be_bytes());
            out.extend_from_slice(&pending.leader_epoch.to_be_bytes());
            put_text(&mut out, &pending.metadata);
        }
    }
    out
}

/// Reads a record.
///
/// # Errors
/// The bytes are no record of a version that is known.
pub(crate) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Decoded, Unreadable> {
    decode_record(key, value).ok_or(Unreadable)
}

fn decode_record(key: &[u8], value: Option<&[u8]>) -> Option<Decoded> {
    let mut rest = key;
    let key_version = i16::from_be_bytes(take(&mut rest)?);
    if key_version != KEY_VERSION {
        return Some(Decoded::Unknown { key_version });
    }
    let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
    let (id, _) = rest.split_at_checked(length)?;
    let id = Arc::from(std::str::from_utf8(id).ok()?);
    let Some(mut rest) = value else { return Some(Decoded::State(id, None)) };
    let txn = match i16::from_be_bytes(take(&mut rest)?) {
        VALUE_VERSION_OLD => decode_value(&mut rest, false)?,
        VALUE_VERSION => decode_value(&mut rest, true)?,
        _ => return None,
    };
    Some(Decoded::State(id, Some(txn)))
}

fn decode_value(rest: &mut &[u8], flexible: bool) -> Option<Txn> {
    let producer_id = i64::from_be_bytes(take(rest)?);
    let epoch = i16::from_be_bytes(take(rest)?);
    let timeout_ms = i32::from_be_bytes(take(rest)?);
    let status = Status::of(i8::from_be_bytes(take(rest)?))?;
    let mut partitions: BTreeMap<Arc<str>, BTreeSet<i32>> = BTreeMap::new();
    for _ in 0..count(rest, flexible)? {
        let topic = text(rest, flexible)?;
        let of_topic = partitions.entry(topic).or_default();
        for _ in 0..count(rest, flexible)? {
            of_topic.insert(i32::from_be_bytes(take(rest)?));
        }
        if flexible {
            skip_tags(rest)?;
        }
    }
    let updated_ms = i64::from_be_bytes(take(rest)?);
    let started_ms = i64::from_be_bytes(take(rest)?);
    let mut txn = Txn {
        producer_id,
        previous_producer_id: -1,
        next_producer_id: -1,
        epoch,
        last_epoch: -1,
        timeout_ms,
        status,
        partitions,
        offsets: BTreeMap::new(),
        started_ms,
        updated_ms,
        client_version: 0,
    };
    if flexible {
        for _ in 0..varint(rest)? {
            let tag = u32::try_from(varint(rest)?).ok()?;
            let length = usize::try_from(varint(rest)?).ok()?;
            let (mut content, behind) = rest.split_at_checked(length)?;
            *rest = behind;
            match tag {
                TAG_PREVIOUS_PRODUCER_ID => {
                    txn.previous_producer_id = i64::from_be_bytes(take(&mut content)?);
                }
                TAG_NEXT_PRODUCER_ID => {
                    txn.next_producer_id = i64::from_be_bytes(take(&mut content)?);
                }
                TAG_CLIENT_VERSION => {
                    txn.client_version = i16::from_be_bytes(take(&mut content)?);
                }
                TAG_OFFSETS => txn.offsets = decode_offsets(&mut content)?,
                _ => {}
            }
        }
    }
    Some(txn)
}

fn decode_offsets(rest: &mut &[u8]) -> Option<BTreeMap<Arc<str>, GroupOffsets>> {
    let mut groups = BTreeMap::new();
    for _ in 0..count(rest, true)? {
        let group = text(rest, true)?;
        let mut offsets = GroupOffsets::new();
        for _ in 0..count(rest, true)? {
            let topic = text(rest, true)?;
            let topic_id = TopicId(uuid::Uuid::from_bytes(take(rest)?));
            let partition = i32::from_be_bytes(take(rest)?);
            let pending = PendingOffset {
                offset: i64::from_be_bytes(take(rest)?),
                leader_epoch: i32::from_be_bytes(take(rest)?),
                metadata: text(rest, true)?,
                topic_id,
            };
            offsets.insert((topic, partition), pending);
        }
        groups.insert(group, offsets);
    }
    Some(groups)
}

fn skip_tags(rest: &mut &[u8]) -> Option<()> {
    for _ in 0..varint(rest)? {
        let _tag = varint(rest)?;
        let length = usize::try_from(varint(rest)?).ok()?;
        *rest = rest.get(length..)?;
    }
    Some(())
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [.., low] = value.to_be_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_varint(out, count as u64 + 1);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let [byte] = take(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// How many follow; null counts as none. What is claimed is taken one by one, so it costs nothing.
fn count(rest: &mut &[u8], flexible: bool) -> Option<u64> {
    if flexible {
        Some(varint(rest)?.saturating_sub(1))
    } else {
        Some(u64::try_from(i32::from_be_bytes(take(rest)?)).unwrap_or(0))
    }
}

fn text(rest: &mut &[u8], flexible: bool) -> Option<Arc<str>> {
    let length = if flexible {
        varint(rest)?.checked_sub(1)?
    } else {
        u64::try_from(i16::from_be_bytes(take(rest)?)).ok()?
    };
    let (text, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Arc::from(std::str::from_utf8(text).ok()?))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain() -> Txn {
        Txn {
            producer_id: 7,
            previous_producer_id: -1,
            next_producer_id: -1,
            epoch: 3,
            last_epoch: -1,
            timeout_ms: 60_000,
            status: Status::Ongoing,
            partitions: BTreeMap::from([(Arc::from("t"), BTreeSet::from([0, 2]))]),
            offsets: BTreeMap::new(),
            started_ms: 0x0102,
            updated_ms: 0x0304,
            client_version: 0,
        }
    }

    #[test]
    fn key_and_value_have_kafkas_bytes() {
        assert_eq!(key("ab"), b"\0\0\0\x02ab");
        let expected: &[&[u8]] = &[
            &[0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 3],
            &[0, 0, 0xea, 0x60],
            &[1],
            &[2, 2, b't', 3, 0, 0, 0, 0, 0, 0, 0, 2, 0],
            &[0, 0, 0, 0, 0, 0, 3, 4],
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0],
        ];
        assert_eq!(value(&plain()), expected.concat());
        let rotated = Txn { previous_producer_id: 5, client_version: 2, ..plain() };
        let tags: &[&[u8]] = &[&[2], &[0, 8, 0, 0, 0, 0, 0, 0, 0, 5], &[2, 2, 0, 2]];
        let bytes = value(&rotated);
        assert!(bytes.ends_with(&tags.concat()), "{bytes:?}");
    }

    #[test]
    fn a_state_with_everything_comes_back() {
        let pending = PendingOffset {
            offset: 9,
            leader_epoch: 1,
            metadata: Arc::from("note"),
            topic_id: TopicId(uuid::Uuid::from_u128(5)),
        };
        let txn = Txn {
            previous_producer_id: 1,
            next_producer_id: 2,
            client_version: 2,
            offsets: BTreeMap::from([(
                Arc::from("g"),
                GroupOffsets::from([((Arc::from("in"), 4), pending)]),
            )]),
            ..plain()
        };
        let decoded = decode(&key("id"), Some(&value(&txn)));
        assert_eq!(decoded, Ok(Decoded::State(Arc::from("id"), Some(txn))));
        assert_eq!(decode(&key("id"), None), Ok(Decoded::State(Arc::from("id"), None)));
    }

    #[test]
    fn the_older_value_is_read() {
        let bytes: &[&[u8]] = &[
            &[0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 3],
            &[0, 0, 0xea, 0x60],
            &[1],
            &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 3, 4],
            &[0, 0, 0, 0, 0, 0, 1, 2],
        ];
        let decoded = decode(&key("id"), Some(&bytes.concat()));
        assert_eq!(decoded, Ok(Decoded::State(Arc::from("id"), Some(plain()))));
    }

    proptest! {
        #[test]
        fn reading_any_bytes_is_total(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            drop(decode(&bytes, Some(&bytes)));
            let mut value = vec![0, 1];
            value.extend_from_slice(&bytes);
            drop(decode(&key("id"), Some(&value)));
        }
    }
}
