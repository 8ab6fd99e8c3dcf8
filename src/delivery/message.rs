//! Messages as the engine reads and copies them: Kafka records with RocketMQ's header names.

use braid_protocol::records::{self, BatchHeader, BatchSpec, BatchWriter, Headers, RecordReader};
use bytes::Bytes;

use super::event::PartKey;
use super::filter::TagFilter;

/// A message's tag (RocketMQ `MessageConst.PROPERTY_TAGS`).
pub(crate) const TAGS: &str = "TAGS";
/// A message's group, for order (`PROPERTY_SHARDING_KEY`).
pub(crate) const SHARDING_KEY: &str = "__SHARDINGKEY";
/// The id the sender gave (`PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX`).
const UNIQ_KEY: &str = "UNIQ_KEY";
/// How often a dead letter was tried again (`PROPERTY_RECONSUME_TIME`).
pub(crate) const RECONSUME_TIME: &str = "RECONSUME_TIME";
/// Where a dead letter comes from (`PROPERTY_DLQ_ORIGIN_TOPIC`).
pub(crate) const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
/// Which message it was (`PROPERTY_DLQ_ORIGIN_MESSAGE_ID`).
pub(crate) const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
/// Its partition there, as decimal text. Not RocketMQ's.
pub(crate) const DLQ_ORIGIN_PARTITION: &str = "DLQ_ORIGIN_PARTITION";
/// Its offset there, as decimal text. Not RocketMQ's.
pub(crate) const DLQ_ORIGIN_OFFSET: &str = "DLQ_ORIGIN_OFFSET";
/// Its timestamp there, in ms since 1970 as decimal text. Not RocketMQ's.
pub(crate) const DLQ_ORIGIN_TIMESTAMP: &str = "DLQ_ORIGIN_TIMESTAMP";
/// The group that failed. Not RocketMQ's.
pub(crate) const DLQ_ORIGIN_GROUP: &str = "DLQ_ORIGIN_GROUP";
/// Why it is a dead letter. Not RocketMQ's.
pub(crate) const DLQ_REASON: &str = "DLQ_REASON";

/// What a dead letter has more than its original.
const DEAD_LETTER_HEADERS: [&str; 8] = [
    RECONSUME_TIME,
    DLQ_ORIGIN_TOPIC,
    DLQ_ORIGIN_MESSAGE_ID,
    DLQ_ORIGIN_PARTITION,
    DLQ_ORIGIN_OFFSET,
    DLQ_ORIGIN_TIMESTAMP,
    DLQ_ORIGIN_GROUP,
    DLQ_REASON,
];

/// The topic that a discarded half message or timer was for (RocketMQ's `REAL_TOPIC`).
pub(super) const REAL_TOPIC: &str = "REAL_TOPIC";
/// Its partition there (RocketMQ's `REAL_QID`).
pub(super) const REAL_PARTITION: &str = "REAL_QID";

/// What a discarded message has more than its original, as `half` and `timer` write it.
const DISCARD_HEADERS: [&str; 5] = [
    REAL_TOPIC,
    REAL_PARTITION,
    "__transactionId__",
    "TRANSACTION_CHECK_TIMES",
    "braid.discard.reason",
];

/// A record that was read. Its parts are slices of what was read with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) offset: i64,
    /// Ms since 1970, or −1: the producer's or the store's, as the topic says.
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    /// In order, with duplicates.
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Message {
    /// Copies nothing: `content` is the reader's.
    pub(super) fn of(content: &Bytes, record: &records::Record<'_>) -> Self {
        let slice = |part: &[u8]| content.slice_ref(part);
        let headers = record.headers.iter();
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp,
            key: record.key.map(slice),
            value: record.value.map(slice),
            headers: headers.map(|(key, value)| (slice(key), value.map(slice))).collect(),
        }
    }

    /// The value of the first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        let mut headers = self.headers.iter();
        headers.find(|(key, _)| key == name.as_bytes())?.1.as_deref()
    }

    /// About how many bytes it holds.
    pub(super) fn size_bytes(&self) -> usize {
        let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(key, value)| key.len() + part(value) + 64);
        part(&self.key) + part(&self.value) + headers.sum::<usize>() + 128
    }
}

fn first<'a>(headers: Headers<'a>, name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(key, _)| *key == name.as_bytes())?.1
}

/// Whether a record has a tag that is wanted.
pub(super) fn is_wanted(record: &records::Record<'_>, filter: &TagFilter) -> bool {
    match filter {
        TagFilter::All => true,
        TagFilter::OneOf(_) => filter.wants(first(record.headers, TAGS)),
    }
}

/// The hash of a record's message group: its sharding key, else its key; 0 if it has neither.
pub(super) fn message_group(record: &records::Record<'_>) -> u32 {
    let group = first(record.headers, SHARDING_KEY).or(record.key);
    group.map_or(0, |group| {
        let hash = hash_of(group);
        // Both halves count; 0 is taken.
        let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
        u32::from_be_bytes([a ^ e, b ^ f, c ^ g, d ^ h]).max(1)
    })
}

/// What decides about a message's place: its sharding key, else its key.
pub(super) fn message_key(message: &Message) -> Option<&[u8]> {
    message.header(SHARDING_KEY).or(message.key.as_deref())
}

/// FNV-1a; never 0. It is in the log, so it must not change.
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(1)
}

/// A message that ends as a dead letter.
#[derive(Debug, Clone)]
pub(super) struct Dead<'a> {
    pub(super) key: &'a PartKey,
    pub(super) topic: &'a str,
    pub(super) attempts: u16,
    pub(super) reason: Option<&'a str>,
}

/// A copy of a message for another queue. It gets the time when it is copied: retention counts an
/// old message's age from then on, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The dead letter of a message. What it carries from an earlier death is replaced.
pub(super) fn dead_letter(message: &Message, dead: &Dead<'_>) -> Copied {
    let id = message.header(UNIQ_KEY).map_or_else(
        || {
            let PartKey { topic, partition, .. } = dead.key;
            format!("{}-{partition}-{}", topic.0.simple(), message.offset).into_bytes()
        },
        <[u8]>::to_vec,
    );
    let reason = dead.reason.map_or_else(
        || format!("not acknowledged in {} attempts", dead.attempts),
        ToOwned::to_owned,
    );
    let retries = dead.attempts.saturating_sub(1).to_string();
    let mut copied = original(message);
    let added: [(&str, Vec<u8>); 8] = [
        (RECONSUME_TIME, retries.into_bytes()),
        (DLQ_ORIGIN_TOPIC, dead.topic.as_bytes().to_vec()),
        (DLQ_ORIGIN_MESSAGE_ID, id),
        (DLQ_ORIGIN_PARTITION, dead.key.partition.to_string().into_bytes()),
        (DLQ_ORIGIN_OFFSET, message.offset.to_string().into_bytes()),
        (DLQ_ORIGIN_TIMESTAMP, message.timestamp_ms.to_string().into_bytes()),
        (DLQ_ORIGIN_GROUP, dead.key.group.as_bytes().to_vec()),
        (DLQ_REASON, reason.into_bytes()),
    ];
    let added = added
        .into_iter()
        .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Some(Bytes::from(value))));
    copied.headers.extend(added);
    copied
}

/// A message without what made it a dead letter.
pub(super) fn original(message: &Message) -> Copied {
    without(message, &DEAD_LETTER_HEADERS)
}

/// A message as it was before it became a dead letter or was discarded.
pub(super) fn returned(message: &Message) -> Copied {
    let is_discarded =
        message.header(REAL_TOPIC).is_some() && message.header(DLQ_ORIGIN_TOPIC).is_none();
    if is_discarded { without(message, &DISCARD_HEADERS) } else { original(message) }
}

fn without(message: &Message, added: &[&str]) -> Copied {
    let is_added = |key: &Bytes| added.iter().any(|added| key == added.as_bytes());
    Copied {
        key: message.key.clone(),
        value: message.value.clone(),
        headers: message.headers.iter().filter(|(key, _)| !is_added(key)).cloned().collect(),
    }
}

/// One batch of copies; `None` if they do not fit into one.
pub(super) fn batch_of<'a>(
    copies: impl IntoIterator<Item = &'a Copied>,
    now_ms: i64,
    log_append_time: bool,
) -> Option<(Bytes, BatchHeader)> {
    let log_append_time_ms = log_append_time.then_some(now_ms);
    let mut writer = BatchWriter::new(BatchSpec { log_append_time_ms, ..BatchSpec::default() });
    for copied in copies {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            copied.headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        let (key, value) = (copied.key.as_deref(), copied.value.as_deref());
        writer.append(now_ms, key, value, &headers).ok()?;
    }
    let batch = writer.finish().ok()?;
    let header = BatchHeader::parse(&batch).ok()?;
    Some((batch, header))
}

/// The records of a batch, with what they are slices of.
pub(super) fn messages(
    reader: &RecordReader,
) -> impl Iterator<Item = Result<Message, records::ReadError>> {
    let content = reader.content();
    reader.records().map(move |record| record.map(|record| Message::of(content, &record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    fn message(headers: &[(&str, &str)]) -> Message {
        let mut writer = BatchWriter::new(BatchSpec::default());
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            headers.iter().map(|(k, v)| (k.as_bytes(), Some(v.as_bytes()))).collect();
        writer.append(17, Some(b"key"), Some(b"value"), &headers).unwrap();
        let reader = RecordReader::open(&writer.finish().unwrap(), 1_000).unwrap();
        messages(&reader).next().unwrap().unwrap()
    }

    fn key() -> PartKey {
        PartKey { group: "orders".into(), topic: TopicId(uuid::Uuid::from_u128(7)), partition: 3 }
    }

    fn texts(copied: &Copied) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = copied.headers.iter();
        headers.map(|(key, value)| (text(key), text(value.as_ref().unwrap()))).collect()
    }

    #[test]
    fn a_dead_letter_says_where_it_comes_from_and_an_original_does_not() {
        let message = message(&[("TAGS", "paid"), ("RECONSUME_TIME", "9"), ("TAGS", "again")]);
        let dead = Dead { key: &key(), topic: "payments", attempts: 17, reason: None };
        let copied = dead_letter(&message, &dead);
        assert_eq!(copied.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(copied.value.as_deref(), Some(&b"value"[..]));
        let expected = [
            ("TAGS", "paid"),
            ("TAGS", "again"),
            ("RECONSUME_TIME", "16"),
            ("DLQ_ORIGIN_TOPIC", "payments"),
            ("DLQ_ORIGIN_MESSAGE_ID", "00000000000000000000000000000007-3-0"),
            ("DLQ_ORIGIN_PARTITION", "3"),
            ("DLQ_ORIGIN_OFFSET", "0"),
            ("DLQ_ORIGIN_TIMESTAMP", "17"),
            ("DLQ_ORIGIN_GROUP", "orders"),
            ("DLQ_REASON", "not acknowledged in 17 attempts"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(texts(&copied), expected);
        let again = Message {
            offset: 5,
            timestamp_ms: 18,
            key: copied.key,
            value: copied.value,
            headers: copied.headers,
        };
        assert_eq!(texts(&original(&again)).len(), 2);
        let named = Dead { reason: Some("cannot be read"), ..dead };
        assert_eq!(texts(&dead_letter(&again, &named))[9].1, "cannot be read");
    }

    #[test]
    fn copies_are_of_the_time_when_they_are_made() {
        let copied = original(&message(&[]));
        let (batch, header) = batch_of([&copied], 99, true).unwrap();
        assert!(header.log_append_time() && header.max_timestamp == 99);
        assert!(header.crc_matches(&batch));
        let (_, header) = batch_of([&copied], 99, false).unwrap();
        assert!(!header.log_append_time() && header.max_timestamp == 99);
    }

    #[test]
    fn the_senders_id_is_the_origins() {
        let message = message(&[("UNIQ_KEY", "id-1")]);
        let dead = Dead { key: &key(), topic: "payments", attempts: 1, reason: None };
        let copied = dead_letter(&message, &dead);
        assert!(texts(&copied).contains(&("DLQ_ORIGIN_MESSAGE_ID".into(), "id-1".into())));
    }

    #[test]
    fn message_groups_come_from_the_sharding_key_or_the_key() {
        let mut writer = BatchWriter::new(BatchSpec::default());
        let sharded: [(&[u8], Option<&[u8]>); 1] = [(SHARDING_KEY.as_bytes(), Some(b"a"))];
        writer.append(0, Some(b"b"), None, &sharded).unwrap();
        writer.append(0, Some(b"a"), None, &[]).unwrap();
        writer.append(0, Some(b"b"), None, &[]).unwrap();
        writer.append(0, None, None, &[]).unwrap();
        let reader = RecordReader::open(&writer.finish().unwrap(), 1_000).unwrap();
        let groups: Vec<u32> =
            reader.records().map(|record| message_group(&record.unwrap())).collect();
        assert_eq!(groups[0], groups[1]);
        assert_ne!(groups[1], groups[2]);
        assert_eq!(groups[3], 0);
        // It is in the log.
        assert_eq!(hash_of(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
