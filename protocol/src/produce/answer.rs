//! The answer to a Produce request, written while the request is carried out.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::request::TopicKey;
use crate::api::ApiKey;
use crate::error_code::ErrorCode;
use crate::feature;
use crate::fetch_response::{Leader, NodeEndpoint, put_node_endpoints};
use crate::frame::LENGTH_SIZE_BYTES;
use crate::primitives::{
    LengthError, ReadError, Reader, put_length, put_string, put_unsigned_varint,
};
use crate::response::EncodeError;

/// A batch that has its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Offset of its first record.
    pub base_offset: i64,
    /// The broker's time if that is what the topic keeps, else −1.
    pub log_append_time_ms: i64,
    /// First offset of the partition.
    pub log_start_offset: i64,
}

/// Why nothing was appended to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What to tell people; not told below version 8.
    pub message: Option<Cow<'static, str>>,
    /// Single records that are not acceptable, by their place in the batch; not told below
    /// version 8.
    pub record_errors: Vec<(i32, String)>,
    /// Who leads the partition instead; not told below version 10.
    pub leader: Option<Leader>,
}

/// The numbers that an answer gives for each partition.
const FIXED_BYTES: usize = 4 + 2 + 8 + 8 + 8;

/// What an answer of a version has.
#[derive(Debug, Clone, Copy)]
struct Layout {
    flexible: bool,
    topic_ids: bool,
    log_start: bool,
    record_errors: bool,
    leader_hints: bool,
}

impl Layout {
    fn of(version: i16) -> Self {
        Self {
            flexible: ApiKey::Produce.api().is_flexible(version),
            topic_ids: feature::produce_has_topic_ids(version),
            log_start: version >= 5,
            record_errors: version >= 8,
            leader_hints: feature::produce_has_leader_hints(version),
        }
    }
}

/// The first version does not know the storage error: its clients are to find the leader again.
fn known(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::KAFKA_STORAGE_ERROR if version < 4 => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        code => code,
    }
}

/// The frame of an answer in the making: the caller names each topic of the request, then the
/// outcome for each of its partitions, then [`ProduceAnswer::end_topic`].
#[derive(Debug)]
pub struct ProduceAnswer<'a> {
    out: &'a mut BytesMut,
    start: usize,
    version: i16,
    layout: Layout,
    unfit: Option<LengthError>,
}

impl<'a> ProduceAnswer<'a> {
    /// Begins a frame at the end of `out` for a request of that many topics.
    pub fn begin(out: &'a mut BytesMut, version: i16, correlation_id: i32, topics: usize) -> Self {
        let layout = Layout::of(version);
        let start = out.len();
        out.reserve(128);
        out.put_i32(0);
        out.put_i32(correlation_id);
        if ApiKey::Produce.api().has_flexible_response_header(version) {
            put_unsigned_varint(out, 0);
        }
        let mut answer = Self { out, start, version, layout, unfit: None };
        let count = put_length(answer.out, layout.flexible, Some(topics));
        answer.note(count);
        answer
    }

    /// Names a topic as the request does.
    pub fn topic(&mut self, key: TopicKey<'_>, partitions: usize) {
        let named = match key {
            TopicKey::Id(id) if self.layout.topic_ids => {
                self.out.put_slice(id.as_bytes());
                Ok(())
            }
            TopicKey::Name(name) => put_string(self.out, self.layout.flexible, Some(name)),
            TopicKey::Id(_) => put_string(self.out, self.layout.flexible, Some("")),
        };
        self.note(named);
        let count = put_length(self.out, self.layout.flexible, Some(partitions));
        self.note(count);
    }

    /// Says what became of a partition's records.
    pub fn partition(&mut self, index: i32, outcome: Result<Stored, &Refusal>) {
        let failed = Stored { base_offset: -1, log_append_time_ms: -1, log_start_offset: -1 };
        let (code, stored) = match outcome {
            Ok(stored) => (ErrorCode::NONE, stored),
            Err(refusal) => (refusal.code, failed),
        };
        let mut fixed = [0; FIXED_BYTES];
        let mut rest = &mut fixed[..];
        rest.put_i32(index);
        rest.put_i16(known(code, self.version).0);
        rest.put_i64(stored.base_offset);
        rest.put_i64(stored.log_append_time_ms);
        rest.put_i64(stored.log_start_offset);
        let left_out = if self.layout.log_start { 0 } else { 8 };
        self.out.put_slice(fixed.get(..FIXED_BYTES - left_out).unwrap_or_default());
        if self.layout.record_errors {
            let said = self.details(outcome.err());
            self.note(said);
        }
        match outcome.err().and_then(|refusal| refusal.leader) {
            Some(Leader { id, epoch }) if self.layout.leader_hints => {
                let mut hint = [0; 3 + 4 + 4 + 1];
                let mut rest = &mut hint[..];
                // One field, number 0, of nine bytes that end with no fields of their own.
                rest.put_slice(&[1, 0, 4 + 4 + 1]);
                rest.put_i32(id);
                rest.put_i32(epoch);
                self.out.put_slice(&hint);
            }
            Some(_) | None => self.end(),
        }
    }

    fn details(&mut self, refusal: Option<&Refusal>) -> Result<(), LengthError> {
        let flexible = self.layout.flexible;
        let record_errors = refusal.map_or(&[][..], |refusal| &refusal.record_errors);
        put_length(self.out, flexible, Some(record_errors.len()))?;
        for (index, message) in record_errors {
            self.out.put_i32(*index);
            put_string(self.out, flexible, Some(message))?;
            self.end();
        }
        put_string(self.out, flexible, refusal.and_then(|refusal| refusal.message.as_deref()))
    }

    /// Ends a topic.
    pub fn end_topic(&mut self) {
        self.end();
    }

    /// Ends the frame, with the addresses of the leaders that were named; gives its size in bytes.
    ///
    /// # Errors
    /// The answer is unfit for a frame; the buffer is then as it was.
    pub fn finish(mut self, leaders: &[NodeEndpoint]) -> Result<usize, EncodeError> {
        const THROTTLE_TIME_MS: i32 = 0;
        self.out.put_i32(THROTTLE_TIME_MS);
        if self.layout.leader_hints && !leaders.is_empty() {
            put_unsigned_varint(self.out, 1);
            let put = put_node_endpoints(self.out, leaders);
            self.note(put);
        } else {
            self.end();
        }
        let size_bytes = self.out.len() - self.start;
        let (api, version) = (ApiKey::Produce, self.version);
        let error = match (self.unfit, i32::try_from(size_bytes - LENGTH_SIZE_BYTES)) {
            (None, Ok(length)) => {
                if let Some(place) = self.out.get_mut(self.start..self.start + LENGTH_SIZE_BYTES) {
                    place.copy_from_slice(&length.to_be_bytes());
                }
                return Ok(size_bytes);
            }
            (Some(unfit), _) => EncodeError::Unfit { api, version, reason: unfit.to_string() },
            (None, Err(_)) => EncodeError::TooLarge { api, size_bytes },
        };
        self.take_back();
        Err(error)
    }

    /// Removes what was written: the client wants no answer.
    pub fn take_back(self) {
        self.out.truncate(self.start);
    }

    /// Ends a structure without tagged fields.
    fn end(&mut self) {
        if self.layout.flexible {
            put_unsigned_varint(self.out, 0);
        }
    }

    fn note(&mut self, outcome: Result<(), LengthError>) {
        if let Err(error) = outcome {
            self.unfit.get_or_insert(error);
        }
    }
}

/// Turns every success in a finished `frame` into the failure `code`: what was appended did not
/// become durable.
///
/// # Errors
/// The bytes are not an answer of that version.
pub fn fail(frame: &mut [u8], version: i16, code: ErrorCode) -> Result<(), ReadError> {
    for at in successes(frame, version)? {
        let failed = [&known(code, version).0.to_be_bytes()[..], &[0xff; 16]].concat();
        if let Some(place) = frame.get_mut(at..at + failed.len()) {
            place.copy_from_slice(&failed);
        }
    }
    Ok(())
}

/// Turns some of the successes in a finished `frame` into failures: those of these numbers, counted
/// among the successes in their order.
///
/// # Errors
/// The bytes are not an answer of that version.
pub fn fail_some(
    frame: &mut [u8],
    version: i16,
    failed: &[(usize, ErrorCode)],
) -> Result<(), ReadError> {
    let places = successes(frame, version)?;
    for (number, code) in failed {
        let failed = [&known(*code, version).0.to_be_bytes()[..], &[0xff; 16]].concat();
        let at = places.get(*number).copied().unwrap_or(usize::MAX);
        if let Some(place) = frame.get_mut(at..at.saturating_add(failed.len())) {
            place.copy_from_slice(&failed);
        }
    }
    Ok(())
}

/// Where the codes of the partitions without error stand.
fn successes(frame: &[u8], version: i16) -> Result<Vec<usize>, ReadError> {
    let Layout { flexible, topic_ids, log_start, record_errors, leader_hints: _ } =
        Layout::of(version);
    let mut reader = Reader::new(frame);
    let mut found = Vec::new();
    let tagged_fields = |reader: &mut Reader<'_>| {
        if flexible { reader.skip_tagged_fields() } else { Ok(()) }
    };
    let string = |reader: &mut Reader<'_>| {
        let length = reader.string_length(flexible)?;
        reader.take(length.unwrap_or(0)).map(|_| ())
    };
    reader.take(LENGTH_SIZE_BYTES + 4)?;
    if ApiKey::Produce.api().has_flexible_response_header(version) {
        reader.skip_tagged_fields()?;
    }
    for _ in 0..reader.length(flexible)?.unwrap_or(0) {
        if topic_ids {
            reader.take(16)?;
        } else {
            string(&mut reader)?;
        }
        for _ in 0..reader.length(flexible)?.unwrap_or(0) {
            reader.i32()?;
            let at = frame.len() - reader.remaining();
            if reader.i16()? == ErrorCode::NONE.0 {
                found.push(at);
            }
            reader.take(if log_start { 24 } else { 16 })?;
            if record_errors {
                for _ in 0..reader.length(flexible)?.unwrap_or(0) {
                    reader.i32()?;
                    string(&mut reader)?;
                    tagged_fields(&mut reader)?;
                }
                string(&mut reader)?;
            }
            tagged_fields(&mut reader)?;
        }
        tagged_fields(&mut reader)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{ProduceResponse, ResponseHeader, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use uuid::Uuid;

    const STORED: Stored =
        Stored { base_offset: 1 << 40, log_append_time_ms: 1234, log_start_offset: 99 };

    fn refusal() -> Refusal {
        Refusal {
            code: ErrorCode::INVALID_RECORD,
            message: Some("one record is refused".into()),
            record_errors: vec![(3, "no key".into()), (5, String::new())],
            leader: None,
        }
    }

    fn keys(version: i16) -> [TopicKey<'static>; 2] {
        if version >= 13 {
            [5, 6].map(|id| TopicKey::Id(Uuid::from_u128(id)))
        } else {
            ["orders", "bills"].map(TopicKey::Name)
        }
    }

    /// Two topics of one partition that takes `first` and one that refuses.
    fn written(version: i16, first: Result<Stored, &Refusal>) -> BytesMut {
        let mut out = BytesMut::from(&b"before"[..]);
        let mut answer = ProduceAnswer::begin(&mut out, version, 42, 2);
        for key in keys(version) {
            answer.topic(key, 2);
            answer.partition(7, first);
            answer.partition(8, Err(&refusal()));
            answer.end_topic();
        }
        let size_bytes = answer.finish(&[]).unwrap();
        assert_eq!(out.len(), 6 + size_bytes);
        out.split_off(6)
    }

    fn generated(version: i16, first: PartitionProduceResponse) -> BytesMut {
        let mut second = PartitionProduceResponse::default()
            .with_index(8)
            .with_error_code(87)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1);
        if version >= 8 {
            let error = |index, message| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(index)
                    .with_batch_index_error_message(Some(StrBytes::from_static_str(message)))
            };
            second.record_errors = vec![error(3, "no key"), error(5, "")];
            second.error_message = Some(StrBytes::from_static_str("one record is refused"));
        }
        let topics = keys(version).map(|key| {
            let mut topic = TopicProduceResponse::default()
                .with_partition_responses(vec![first.clone(), second.clone()]);
            match key {
                TopicKey::Name(name) => topic.name = TopicName(StrBytes::from_static_str(name)),
                TopicKey::Id(id) => topic.topic_id = id,
            }
            topic
        });
        let mut content = BytesMut::new();
        let header = ResponseHeader::default().with_correlation_id(42);
        header.encode(&mut content, i16::from(version >= 9)).unwrap();
        let response = ProduceResponse::default().with_responses(topics.into());
        response.encode(&mut content, version).unwrap();
        let mut frame = BytesMut::new();
        frame.put_i32(i32::try_from(content.len()).unwrap());
        frame.put_slice(&content);
        frame
    }

    #[test]
    fn every_version_is_the_generated_encoders_byte_for_byte() {
        let api = ApiKey::Produce.api();
        for version in api.accepted_min..=api.max {
            let mut first = PartitionProduceResponse::default()
                .with_index(7)
                .with_base_offset(1 << 40)
                .with_log_append_time_ms(1234);
            if version >= 5 {
                first.log_start_offset = 99;
            }
            let expected = generated(version, first);
            assert_eq!(written(version, Ok(STORED)), expected, "version {version}");
        }
    }

    #[test]
    fn a_success_taken_back_is_a_failure_and_failures_stay_as_they_were() {
        let api = ApiKey::Produce.api();
        for version in api.accepted_min..=api.max {
            let mut frame = written(version, Ok(STORED));
            fail(&mut frame, version, ErrorCode::KAFKA_STORAGE_ERROR).unwrap();
            let code = if version >= 4 {
                ErrorCode::KAFKA_STORAGE_ERROR
            } else {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            };
            let mut first = PartitionProduceResponse::default()
                .with_index(7)
                .with_error_code(code.0)
                .with_base_offset(-1)
                .with_log_append_time_ms(-1);
            if version >= 5 {
                first.log_start_offset = 99;
            }
            assert_eq!(frame, generated(version, first), "version {version}");
        }
    }

    #[test]
    fn a_leader_elsewhere_is_named_where_the_version_can() {
        use kafka_protocol::messages::BrokerId;
        use kafka_protocol::messages::produce_response::{
            LeaderIdAndEpoch, NodeEndpoint as Generated,
        };
        let api = ApiKey::Produce.api();
        for version in api.accepted_min..=api.max {
            let leader = Some(Leader { id: 3, epoch: 0 });
            let code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
            let refusal = Refusal { code, message: None, record_errors: Vec::new(), leader };
            let host = StrBytes::from_static_str("host-3");
            let endpoint = NodeEndpoint { node_id: 3, host: host.clone(), port: 9092, rack: None };
            let mut out = BytesMut::new();
            let mut answer = ProduceAnswer::begin(&mut out, version, 42, 1);
            let key = keys(version)[0];
            answer.topic(key, 1);
            answer.partition(7, Err(&refusal));
            answer.end_topic();
            answer.finish(&[endpoint]).unwrap();

            let mut partition = PartitionProduceResponse::default()
                .with_index(7)
                .with_error_code(6)
                .with_base_offset(-1)
                .with_log_append_time_ms(-1);
            let mut response = ProduceResponse::default();
            if version >= 10 {
                let named = LeaderIdAndEpoch::default().with_leader_id(BrokerId(3));
                partition.current_leader = named.with_leader_epoch(0);
                let at = Generated::default().with_node_id(BrokerId(3)).with_host(host);
                response.node_endpoints = vec![at.with_port(9092)];
            }
            let mut topic =
                TopicProduceResponse::default().with_partition_responses(vec![partition]);
            match key {
                TopicKey::Name(name) => topic.name = TopicName(StrBytes::from_static_str(name)),
                TopicKey::Id(id) => topic.topic_id = id,
            }
            let mut content = BytesMut::new();
            let header = ResponseHeader::default().with_correlation_id(42);
            header.encode(&mut content, i16::from(version >= 9)).unwrap();
            response.with_responses(vec![topic]).encode(&mut content, version).unwrap();
            assert_eq!(out.split_off(4), content, "version {version}");
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_leaves_nothing_behind() {
        let mut out = BytesMut::from(&b"before"[..]);
        let mut answer = ProduceAnswer::begin(&mut out, 8, 1, 1);
        answer.topic(TopicKey::Name("orders"), 1);
        let message = Some("x".repeat(40_000).into());
        let refusal = Refusal { message, ..refusal() };
        answer.partition(0, Err(&refusal));
        answer.end_topic();
        assert!(matches!(answer.finish(&[]), Err(EncodeError::Unfit { .. })));
        assert_eq!(out, &b"before"[..]);
    }
}
