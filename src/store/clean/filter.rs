//! Takes out of a batch what later records supersede. Pure.
//!
//! What stays of a batch keeps its offsets, its producer's fields, its codec, its kind of
//! timestamps, and the range of offsets that the batch covers, as Kafka's cleaner leaves it. A
//! tombstone stays until a time that the batch is given when it is cleaned first, and so does a
//! marker of a transaction that nothing else is left of.

use braid_protocol::records::{
    BatchHeader, BatchSpec, BatchWriter, Producer, Record, RecordReader, WriteError,
};
use bytes::Bytes;

use super::keys::Keys;
use super::transactions::MarkerFate;

/// Largest content of a batch that is unpacked; a larger one stays as it is.
const CONTENT_SIZE_BYTES_MAX: usize = 256 << 20;

/// What stays of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// All of it, as it is.
    Whole,
    /// Some of it, or all with a time for its tombstones to go.
    Less(Bytes),
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    pub(super) keys: &'a Keys,
    pub(super) now_ms: i64,
    /// How long tombstones stay.
    pub(super) delete_retention_ms: i64,
    /// When the first tombstone met so far may go.
    pub(super) next_horizon_ms: Option<i64>,
}

/// Enters the keys of a batch. One whose keys do not count stays as it is, too.
pub(super) fn note_keys(keys: &mut Keys, batch: &Bytes, header: &BatchHeader) {
    let Some(reader) = open(batch, header) else { return };
    if reader.into_iter().any(|record| record.is_err()) {
        return;
    }
    for record in reader.into_iter().flatten() {
        if let Some(key) = record.key {
            keys.note(key, record.offset);
        }
    }
}

/// The records of a batch that may be filtered. Markers are nobody's records.
fn open(batch: &Bytes, header: &BatchHeader) -> Option<RecordReader> {
    if header.is_control() {
        return None;
    }
    RecordReader::open(batch, CONTENT_SIZE_BYTES_MAX).ok()
}

impl Filter<'_> {
    /// What stays of a batch; `must_stay` keeps at least its header.
    pub(super) fn keep(&mut self, batch: &Bytes, header: &BatchHeader, must_stay: bool) -> Kept {
        let Some(reader) = open(batch, header) else { return Kept::Whole };
        let mut kept = Vec::new();
        let mut has_tombstone = false;
        let mut count = 0_usize;
        for record in &reader {
            let Ok(record) = record else { return Kept::Whole };
            count += 1;
            if self.stays(&record, header) {
                has_tombstone |= record.value.is_none();
                kept.push(record);
            }
        }
        if kept.is_empty() {
            return match (must_stay, count) {
                (false, _) => Kept::Nothing,
                (true, 0) => Kept::Whole,
                (true, _) => emptied(header).map_or(Kept::Whole, Kept::Less),
            };
        }
        let horizon_ms = has_tombstone.then(|| {
            let new = self.now_ms.saturating_add(self.delete_retention_ms);
            header.delete_horizon_ms().unwrap_or(new)
        });
        let result = if kept.len() == count && horizon_ms == header.delete_horizon_ms() {
            Kept::Whole
        } else {
            rebuilt(header, &kept, horizon_ms).map_or(Kept::Whole, Kept::Less)
        };
        if let Some(horizon_ms) = horizon_ms {
            let next = self.next_horizon_ms.unwrap_or(i64::MAX);
            self.next_horizon_ms = Some(next.min(horizon_ms));
        }
        result
    }

    /// What stays of a batch of a void transaction.
    pub(super) fn keep_void(header: &BatchHeader, must_stay: bool) -> Kept {
        match (must_stay, header.records_count) {
            (false, _) => Kept::Nothing,
            (true, 0) => Kept::Whole,
            (true, _) => emptied(header).map_or(Kept::Whole, Kept::Less),
        }
    }

    /// What stays of a control batch.
    pub(super) fn keep_marker(
        &mut self,
        batch: &Bytes,
        header: &BatchHeader,
        fate: MarkerFate,
        must_stay: bool,
    ) -> Kept {
        if header.records_count == 0 {
            return if must_stay { Kept::Whole } else { Kept::Nothing };
        }
        if header.marker.is_none() {
            return Kept::Whole;
        }
        let (kept, look_at_ms) = match (fate, header.delete_horizon_ms()) {
            (MarkerFate::Needed, _) => return Kept::Whole,
            // Soon: nothing else brings the cleaner back here.
            (MarkerFate::Next, _) => (Kept::Whole, self.now_ms),
            (MarkerFate::Free, Some(horizon_ms)) if horizon_ms <= self.now_ms => {
                return Self::keep_void(header, must_stay);
            }
            (MarkerFate::Free, Some(horizon_ms)) => (Kept::Whole, horizon_ms),
            (MarkerFate::Free, None) => {
                let horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms);
                let Ok(reader) = RecordReader::open(batch, CONTENT_SIZE_BYTES_MAX) else {
                    return Kept::Whole;
                };
                let Ok(records) = reader.into_iter().collect::<Result<Vec<_>, _>>() else {
                    return Kept::Whole;
                };
                let Ok(timed) = rebuilt(header, &records, Some(horizon_ms)) else {
                    return Kept::Whole;
                };
                (Kept::Less(timed), horizon_ms)
            }
        };
        let next = self.next_horizon_ms.unwrap_or(i64::MAX);
        self.next_horizon_ms = Some(next.min(look_at_ms));
        kept
    }

    fn stays(&self, record: &Record<'_>, header: &BatchHeader) -> bool {
        // Without a key it can never be superseded; a compacted topic does not take it any more.
        let Some(key) = record.key else { return false };
        let is_over = header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.now_ms);
        self.keys.is_last(key, record.offset) && !(record.value.is_none() && is_over)
    }
}

fn spec(header: &BatchHeader) -> BatchSpec {
    BatchSpec {
        base_offset: header.base_offset,
        partition_leader_epoch: header.partition_leader_epoch,
        codec: header.codec().unwrap_or(braid_protocol::records::Codec::None),
        producer: header.has_producer_id().then_some(Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        }),
        transactional: header.is_transactional(),
        control: header.is_control(),
        log_append_time_ms: header.log_append_time().then_some(header.max_timestamp),
        ..BatchSpec::default()
    }
}

fn rebuilt(
    header: &BatchHeader,
    records: &[Record<'_>],
    horizon_ms: Option<i64>,
) -> Result<Bytes, WriteError> {
    let spec = BatchSpec { delete_horizon_ms: horizon_ms, ..spec(header) };
    let mut writer = BatchWriter::new(spec);
    for record in records {
        let Record { offset, timestamp, key, value, headers } = *record;
        let delta = i32::try_from(offset - header.base_offset).unwrap_or(-1);
        let headers: Vec<_> = headers.iter().collect();
        writer.append_at(delta, timestamp, key, value, &headers)?;
    }
    writer.reach(header.last_offset_delta)?;
    writer.finish()
}

/// The header alone: it says which offsets and sequences there were.
fn emptied(header: &BatchHeader) -> Result<Bytes, WriteError> {
    let mut writer = BatchWriter::new(spec(header));
    writer.reach(header.last_offset_delta)?;
    writer.raise_max_timestamp(header.max_timestamp);
    writer.finish()
}

#[cfg(test)]
mod tests;
