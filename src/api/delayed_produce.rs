//! What clients produce to topics of type DELAY: each record is scheduled, and appears in its
//! partition, with an offset, when it is due.
//!
//! Every record says when by a header, `TIMER_DELIVER_MS` (ms since 1970) or `TIMER_DELAY_MS` (ms
//! from now), in decimal digits. One without refuses its batch. The answer has no offset (-1),
//! since there is none yet, and comes when the schedule is on disk. A receipt of an idempotent
//! producer's batch is appended in the same step, so a batch that is sent again is known, and
//! scheduled once.

use braid_protocol::ErrorCode;
use braid_protocol::produce::{Refusal, Stored};
use braid_protocol::records::{
    BatchHeader, BatchSpec, BatchWriter, Conformed, Headers, Producer, ReadError, Record,
    RecordReader, WriteError,
};
use braid_raft::image::TopicImage;
use bytes::Bytes;

use super::error::append_code;
use super::produce::refused_because;
use super::{Broker, Moment};
use crate::model::{Position, QueueId};
use crate::partition::system;
use crate::store::Part;
use crate::timer::{DELAY_MS, DELIVER_MS, NewTimer, ScheduleError, Target};

/// Records that are named in a refusal.
const NAMED_MAX: usize = 100;

/// The partition that records are for.
#[derive(Debug, Clone, Copy)]
pub(super) struct DelayedPlace<'a> {
    pub(super) topic: &'a TopicImage,
    pub(super) index: i32,
    pub(super) queue: QueueId,
}

/// Why a record has no due time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NotDue {
    #[error("the record has neither a header {DELIVER_MS} nor a header {DELAY_MS}")]
    NoHeader,
    #[error("the record has both a header {DELIVER_MS} and a header {DELAY_MS}")]
    BothHeaders,
    #[error("its header {name} is not a number of milliseconds in decimal digits: {value}")]
    NotANumber { name: &'static str, value: String },
    #[error("its header {name} is {value}, which is more than {max_ms} ms from now")]
    TooFar { name: &'static str, value: i64, max_ms: i64 },
}

/// Schedules a validated batch. What is returned is true once everything below the position is
/// durable.
pub(super) fn schedule(
    broker: &Broker,
    now: &Moment,
    place: DelayedPlace<'_>,
    batch: &Conformed<'_>,
) -> Result<(Stored, Position), Box<Refusal>> {
    let most = broker.timers.limits().scheduled_size_bytes_max;
    let bytes = Bytes::copy_from_slice(&batch.batch);
    let reader = RecordReader::open(&bytes, most).map_err(|error| unreadable(&error, most))?;
    let timers = timers(broker, now, place, &reader)?;
    let receipt = receipt(now, &batch.header).map_err(|error| not_written(&error))?;
    let part = receipt.as_ref().map(|(batch, header)| {
        let queue = system::receipts(place.queue);
        Part { queue, batch, header }
    });
    let scheduled = broker
        .timers
        .append(now.wall_ms, part.as_slice(), &timers)
        .map_err(|error| refused_because(schedule_code(&error), error.to_string()))?;
    let log_start_offset = broker.partitions.offsets(place.queue).log_start.0;
    let stored = Stored { base_offset: -1, log_append_time_ms: -1, log_start_offset };
    Ok((stored, scheduled.end))
}

fn timers<'a>(
    broker: &Broker,
    now: &Moment,
    place: DelayedPlace<'a>,
    reader: &'a RecordReader,
) -> Result<Vec<NewTimer<'a>>, Box<Refusal>> {
    let max_ms = broker.timers.limits().delay_max_ms;
    let target = Target { topic: place.topic.id, partition: place.index };
    let (mut timers, mut refused) = (Vec::new(), Vec::new());
    for (index, record) in (0..).zip(reader.records()) {
        let record: Record<'_> = record.map_err(|error| unreadable(&error, 0))?;
        match due_ms(record.headers, now.wall_ms, max_ms) {
            Ok(due_ms) => timers.push(NewTimer {
                due_ms,
                target,
                topic_name: &place.topic.name,
                born_ms: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record.headers.iter().collect(),
            }),
            Err(why) if refused.len() < NAMED_MAX => refused.push((index, why.to_string())),
            Err(_) => {}
        }
    }
    match refused.first() {
        None => Ok(timers),
        Some((index, why)) => {
            let message = format!(
                "Topic {} is of type DELAY: each record needs either a header {DELIVER_MS}, the \
                 time of its delivery in ms since 1970, or a header {DELAY_MS}, the ms until then, \
                 in decimal digits, and record {index} does not: {why}. Nothing of the batch was \
                 scheduled.",
                place.topic.name
            );
            let code = ErrorCode::INVALID_RECORD;
            let message = Some(message.into());
            Err(Box::new(Refusal { code, message, record_errors: refused, leader: None }))
        }
    }
}

/// When a record is due. Of a header that comes more than once the last counts, as in Kafka.
fn due_ms(headers: Headers<'_>, now_ms: i64, max_ms: i64) -> Result<i64, NotDue> {
    let (mut deliver, mut delay) = (None, None);
    for (name, value) in headers.iter() {
        if name == DELIVER_MS.as_bytes() {
            deliver = Some(value);
        } else if name == DELAY_MS.as_bytes() {
            delay = Some(value);
        }
    }
    let (name, value, from_ms) = match (deliver, delay) {
        (Some(value), None) => (DELIVER_MS, value, 0),
        (None, Some(value)) => (DELAY_MS, value, now_ms),
        (Some(_), Some(_)) => return Err(NotDue::BothHeaders),
        (None, None) => return Err(NotDue::NoHeader),
    };
    let value = value.unwrap_or_default();
    let not_a_number = || {
        let shown = value.get(..value.len().min(40)).unwrap_or_default();
        NotDue::NotANumber { name, value: String::from_utf8_lossy(shown).into_owned() }
    };
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number).ok_or_else(not_a_number)?;
    let value: i64 = text.parse().map_err(|_| not_a_number())?;
    let due_ms = value.saturating_add(from_ms);
    if due_ms > now_ms.saturating_add(max_ms) {
        return Err(NotDue::TooFar { name, value, max_ms });
    }
    Ok(due_ms)
}

/// The receipt for an idempotent producer's batch: as many records as it has, with nothing in them.
fn receipt(now: &Moment, header: &BatchHeader) -> Result<Option<(Bytes, BatchHeader)>, WriteError> {
    if !header.has_producer_id() {
        return Ok(None);
    }
    let (id, epoch) = (header.producer_id, header.producer_epoch);
    let producer = Some(Producer { id, epoch, base_sequence: header.base_sequence });
    let mut writer = BatchWriter::new(BatchSpec { producer, ..BatchSpec::default() });
    for _ in 0..header.records_count {
        writer.append(now.wall_ms, None, None, &[])?;
    }
    let batch = writer.finish()?;
    let Ok(header) = BatchHeader::parse(&batch) else {
        unreachable!("what the writer finished is a batch");
    };
    Ok(Some((batch, header)))
}

fn unreadable(error: &ReadError, most: usize) -> Box<Refusal> {
    match error {
        ReadError::Decompress(_) => {
            let why = format!(
                "{error}: the records of one batch for a topic of type DELAY may have {most} bytes; \
                 send smaller batches."
            );
            refused_because(ErrorCode::MESSAGE_TOO_LARGE, why)
        }
        ReadError::Header(_)
        | ReadError::Incomplete { .. }
        | ReadError::Codec(_)
        | ReadError::Record { .. } => {
            refused_because(ErrorCode::CORRUPT_MESSAGE, error.to_string())
        }
    }
}

fn not_written(error: &WriteError) -> Box<Refusal> {
    refused_because(ErrorCode::INVALID_RECORD, error.to_string())
}

fn schedule_code(error: &ScheduleError) -> ErrorCode {
    match error {
        ScheduleError::TooFar { .. } | ScheduleError::Write(_) => ErrorCode::INVALID_RECORD,
        ScheduleError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        ScheduleError::BucketFull { .. } => ErrorCode::POLICY_VIOLATION,
        ScheduleError::Append(error) => append_code(error),
        // Clients try again.
        ScheduleError::Crowded { .. } | ScheduleError::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_000_000;
    const MAX_MS: i64 = 500;

    fn due(headers: &[(&[u8], Option<&[u8]>)]) -> Result<i64, NotDue> {
        let mut writer = BatchWriter::new(BatchSpec::default());
        writer.append(0, None, None, headers).unwrap();
        let reader = RecordReader::open(&writer.finish().unwrap(), 0).unwrap();
        let record = reader.records().next().unwrap().unwrap();
        due_ms(record.headers, NOW_MS, MAX_MS)
    }

    #[test]
    fn a_record_is_due_when_its_header_says() {
        let deliver = |value: &'static [u8]| (DELIVER_MS.as_bytes(), Some(value));
        let delay = |value: &'static [u8]| (DELAY_MS.as_bytes(), Some(value));
        assert_eq!(due(&[deliver(b"1000200")]), Ok(1_000_200));
        assert_eq!(due(&[deliver(b"0")]), Ok(0));
        assert_eq!(due(&[delay(b"7")]), Ok(1_000_007));
        assert_eq!(due(&[(b"other", None), delay(b"7"), delay(b"8")]), Ok(1_000_008));
        assert_eq!(due(&[delay(b"500")]), Ok(1_000_500));
    }

    #[test]
    fn a_record_that_does_not_say_when_is_refused_with_the_headers_name() {
        let deliver = DELIVER_MS.as_bytes();
        assert_eq!(due(&[]), Err(NotDue::NoHeader));
        assert_eq!(due(&[(b"timer_deliver_ms", Some(b"1"))]), Err(NotDue::NoHeader));
        let both = [(deliver, Some(&b"1"[..])), (DELAY_MS.as_bytes(), Some(&b"1"[..]))];
        assert_eq!(due(&both), Err(NotDue::BothHeaders));
        for value in [&b""[..], b"-1", b"+1", b" 1", b"1.5", b"0x10", b"99999999999999999999"] {
            let refused = due(&[(deliver, Some(value))]).unwrap_err();
            let value = String::from_utf8(value.to_vec()).unwrap();
            assert_eq!(refused, NotDue::NotANumber { name: DELIVER_MS, value });
        }
        assert!(due(&[(deliver, None)]).is_err() && due(&[(deliver, Some(&[0xff; 99]))]).is_err());
        let far = NotDue::TooFar { name: DELAY_MS, value: 501, max_ms: MAX_MS };
        assert_eq!(due(&[(DELAY_MS.as_bytes(), Some(b"501"))]), Err(far));
        let overflow = i64::MAX.to_string();
        assert!(matches!(
            due(&[(DELAY_MS.as_bytes(), Some(overflow.as_bytes()))]),
            Err(NotDue::TooFar { .. })
        ));
    }
}
