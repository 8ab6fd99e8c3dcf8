//! Requests as bytes, encoded once. Produce v7: the newest with fixed places for everything.

use bytes::{BufMut, Bytes, BytesMut};

/// Where the correlation id stands in a request frame, its length in front included.
pub(crate) const CORRELATION_AT: usize = 8;
const PRODUCE: i16 = 0;
const PRODUCE_VERSION: i16 = 7;
const FETCH: i16 = 1;
const FETCH_VERSION: i16 = 4;
const METADATA: i16 = 3;
const METADATA_VERSION: i16 = 4;
const API_VERSIONS: i16 = 18;
const CREATE_TOPICS: i16 = 19;
const CREATE_TOPICS_VERSION: i16 = 4;
const TIMEOUT_MS: i32 = 30_000;
const BATCH_HEADER_BYTES: usize = 61;

fn string(out: &mut BytesMut, s: &str) {
    out.put_i16(s.len() as i16);
    out.put_slice(s.as_bytes());
}

fn frame(key: i16, version: i16, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(0);
    string(&mut out, "load");
    out.put_slice(body);
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// One Produce request with one batch for one partition.
pub(crate) fn produce(topic: &str, partition: i32, acks: i16, batch: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i16(-1);
    body.put_i16(acks);
    body.put_i32(TIMEOUT_MS);
    body.put_i32(1);
    string(&mut body, topic);
    body.put_i32(1);
    body.put_i32(partition);
    body.put_i32(batch.len() as i32);
    body.put_slice(batch);
    frame(PRODUCE, PRODUCE_VERSION, &body)
}

/// One Fetch request for one partition, of up to `max_bytes`; answered at once.
pub(crate) fn fetch(topic: &str, partition: i32, offset: i64, max_bytes: i32) -> BytesMut {
    fetch_within(0, topic, partition, offset, max_bytes)
}

/// One Fetch request that waits for a record in a topic's first partition.
pub(crate) fn wait(topic: &str, max_wait_ms: i32) -> BytesMut {
    fetch_within(max_wait_ms, topic, 0, 0, 1 << 20)
}

/// One request for all there is.
pub(crate) fn all_metadata() -> BytesMut {
    frame(METADATA, METADATA_VERSION, &[0xff, 0xff, 0xff, 0xff, 0])
}

/// The smallest request there is.
pub(crate) fn api_versions() -> BytesMut {
    frame(API_VERSIONS, 0, &[])
}

fn fetch_within(
    max_wait_ms: i32,
    topic: &str,
    partition: i32,
    offset: i64,
    max_bytes: i32,
) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(-1);
    body.put_i32(max_wait_ms);
    body.put_i32(i32::from(max_wait_ms > 0));
    body.put_i32(max_bytes);
    body.put_i8(0);
    body.put_i32(1);
    string(&mut body, topic);
    body.put_i32(1);
    body.put_i32(partition);
    body.put_i64(offset);
    body.put_i32(max_bytes);
    frame(FETCH, FETCH_VERSION, &body)
}

/// Where the error code stands in an answer to [`produce`], after the frame's length.
pub(crate) fn produce_error_at(topic: &str) -> usize {
    4 + 4 + 2 + topic.len() + 4 + 4
}

/// One CreateTopics request for one topic.
pub(crate) fn create_topic(topic: &str, partitions: i32) -> BytesMut {
    create_topic_with(topic, partitions, &[])
}

/// The same with settings of the topic.
pub(crate) fn create_topic_with(
    topic: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(1);
    string(&mut body, topic);
    body.put_i32(partitions);
    body.put_i16(1);
    body.put_i32(0);
    body.put_i32(settings.len() as i32);
    for (name, value) in settings {
        string(&mut body, name);
        string(&mut body, value);
    }
    body.put_i32(TIMEOUT_MS);
    body.put_u8(0);
    frame(CREATE_TOPICS, CREATE_TOPICS_VERSION, &body)
}

/// A record batch of equal records, without compression.
pub(crate) fn batch(records: usize, size_bytes: usize) -> Bytes {
    batch_of(records, size_bytes, None)
}

/// The same with keys, counted from `first_key`.
pub(crate) fn keyed_batch(records: usize, size_bytes: usize, first_key: usize) -> Bytes {
    batch_of(records, size_bytes, Some(first_key))
}

fn batch_of(records: usize, size_bytes: usize, first_key: Option<usize>) -> Bytes {
    let mut body = BytesMut::new();
    for delta in 0..records {
        let mut record = BytesMut::new();
        record.put_u8(0);
        varint(&mut record, 0);
        varint(&mut record, delta as i64);
        match first_key {
            Some(first) => {
                let key = format!("key-{:09}", first + delta);
                varint(&mut record, key.len() as i64);
                record.put_slice(key.as_bytes());
            }
            None => varint(&mut record, -1),
        }
        varint(&mut record, size_bytes as i64);
        record.extend((0..size_bytes).map(|i| (i * 31 + delta * 7) as u8));
        varint(&mut record, 0);
        varint(&mut body, record.len() as i64);
        body.put_slice(&record);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now_ms = now.as_millis() as i64;
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32((BATCH_HEADER_BYTES - 12 + body.len()) as i32);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(records as i32 - 1);
    out.put_i64(now_ms);
    out.put_i64(now_ms);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(records as i32);
    out.put_slice(&body);
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

fn varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}
