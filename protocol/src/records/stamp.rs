//! What the broker writes into a batch in place.
//!
//! Base offset and leader epoch lie outside the CRC, so the ordinary append touches sixteen bytes
//! and nothing else. Timestamps lie inside it: stamping them costs a CRC over the batch.

use super::header::{BatchHeader, TimestampType};

/// Bytes that [`stamp`] needs: base offset, length, leader epoch.
const STAMPED: usize = 16;

/// Sets base offset and leader epoch in `header`, the start of a batch; the CRC stays valid.
///
/// # Panics
/// When `header` holds fewer than 16 bytes: the caller has parsed it before.
pub fn stamp(header: &mut [u8], base_offset: i64, leader_epoch: i32) {
    let Some(start) = header.first_chunk_mut::<STAMPED>() else {
        panic!("stamping {} bytes: a batch was parsed before", header.len());
    };
    let (offset, rest) = start.split_at_mut(8);
    offset.copy_from_slice(&base_offset.to_be_bytes());
    let (_, epoch) = rest.split_at_mut(4);
    epoch.copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes a whole `batch` `LogAppendTime` at `now_ms`: attribute bit, max timestamp, CRC.
///
/// # Panics
/// When `batch` is not one whole batch: the caller has validated it before.
pub fn stamp_log_append_time(batch: &mut [u8], now_ms: i64) {
    restamp(batch, TimestampType::LogAppendTime, now_ms);
}

/// Makes a whole `batch` `CreateTime` with the given max timestamp, and renews the CRC.
///
/// # Panics
/// When `batch` is not one whole batch: the caller has validated it before.
pub fn stamp_max_timestamp(batch: &mut [u8], max_timestamp: i64) {
    restamp(batch, TimestampType::CreateTime, max_timestamp);
}

fn restamp(batch: &mut [u8], timestamp_type: TimestampType, max_timestamp: i64) {
    let header = match BatchHeader::parse(batch) {
        Ok(header) if header.size_bytes() == batch.len() => header,
        Ok(_) | Err(_) => panic!("stamping what is not one whole batch"),
    };
    let Some((place, records)) = batch.split_first_chunk_mut::<{ BatchHeader::SIZE_BYTES }>()
    else {
        unreachable!("a parsed batch holds a header");
    };
    let header = BatchHeader { max_timestamp, ..header.with_timestamp_type(timestamp_type) };
    *place = header.sealed(records).encode();
}

#[cfg(test)]
mod tests;
