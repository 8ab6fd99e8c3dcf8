//! The Fetch answer, encoded by hand for every version.
//!
//! Record bytes are handed over as slices and leave as slices: they are never copied into the
//! response, whatever their size, except small ones where a copy is cheaper. The layout is checked
//! byte for byte against the generated encoder.

use bytes::{BufMut, Bytes};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::api::ApiKey;
use crate::error_code::ErrorCode;
use crate::feature;
use crate::outgoing::Outgoing;
use crate::primitives::{LengthError, put_length, put_string, put_unsigned_varint};

/// The newest shape of the answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FetchResponse {
    /// How long a quota held the request back.
    pub throttle_time_ms: i32,
    /// An error of the whole request, such as of its session.
    pub error: ErrorCode,
    /// The fetch session, or 0.
    pub session_id: i32,
    pub topics: Vec<Topic>,
    /// Where the leaders are that the partitions hint at.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The partitions of one topic, named as the request named it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topic {
    pub name: TopicName,
    pub id: Uuid,
    pub partitions: Vec<Partition>,
}

/// What one partition has to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    pub index: i32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// Where the log diverges from what the client has read.
    pub diverging_epoch: Option<EpochEnd>,
    /// Who leads the partition, when it is not this broker.
    pub current_leader: Option<Leader>,
    /// Ordered by first offset; `None` when the client reads uncommitted records.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// A nearer replica to read from, or -1. Then `records` has to be empty.
    pub preferred_read_replica: i32,
    /// Record batches, in order, in any number of slices.
    pub records: Vec<Bytes>,
}

/// The last offset of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: i32,
    pub end_offset: i64,
}

/// A leader and its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    pub id: i32,
    pub epoch: i32,
}

/// A transaction whose records a committed reader passes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// The address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            index: 0,
            error: ErrorCode::NONE,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }
}

impl FetchResponse {
    /// Appends the body in the layout of `version`.
    pub(crate) fn encode(self, version: i16, out: &mut Outgoing) -> Result<(), LengthError> {
        let layout = Layout::of(version);
        let buffer = out.buffer();
        buffer.put_i32(self.throttle_time_ms);
        if layout.sessions {
            buffer.put_i16(self.error.0);
            buffer.put_i32(self.session_id);
        }
        put_length(buffer, layout.flexible, Some(self.topics.len()))?;
        for topic in self.topics {
            topic.encode(layout, out)?;
        }
        if layout.flexible {
            let buffer = out.buffer();
            if layout.node_endpoints && !self.node_endpoints.is_empty() {
                put_unsigned_varint(buffer, 1);
                put_node_endpoints(buffer, &self.node_endpoints)?;
            } else {
                put_unsigned_varint(buffer, 0);
            }
        }
        Ok(())
    }
}

/// What of the newest shape a version has.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a question about one version")]
struct Layout {
    flexible: bool,
    topic_ids: bool,
    sessions: bool,
    log_start: bool,
    preferred_replica: bool,
    node_endpoints: bool,
    storage_error: bool,
}

impl Layout {
    fn of(version: i16) -> Self {
        Self {
            flexible: ApiKey::Fetch.api().is_flexible(version),
            topic_ids: feature::fetch_has_topic_ids(version),
            sessions: feature::fetch_has_sessions(version),
            log_start: version >= 5,
            preferred_replica: feature::fetch_has_preferred_replica(version),
            node_endpoints: feature::fetch_has_node_endpoints(version),
            storage_error: version >= 6,
        }
    }

    /// A client that does not know the storage error would take it for final.
    fn error(self, error: ErrorCode) -> ErrorCode {
        if error == ErrorCode::KAFKA_STORAGE_ERROR && !self.storage_error {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        } else {
            error
        }
    }
}

impl Topic {
    fn encode(self, layout: Layout, out: &mut Outgoing) -> Result<(), LengthError> {
        let buffer = out.buffer();
        if layout.topic_ids {
            buffer.put_slice(self.id.as_bytes());
        } else {
            put_string(buffer, layout.flexible, Some(&self.name))?;
        }
        put_length(buffer, layout.flexible, Some(self.partitions.len()))?;
        for partition in self.partitions {
            partition.encode(layout, out)?;
        }
        if layout.flexible {
            put_unsigned_varint(out.buffer(), 0);
        }
        Ok(())
    }
}

impl Partition {
    fn encode(self, layout: Layout, out: &mut Outgoing) -> Result<(), LengthError> {
        let buffer = out.buffer();
        buffer.put_i32(self.index);
        buffer.put_i16(layout.error(self.error).0);
        buffer.put_i64(self.high_watermark);
        buffer.put_i64(self.last_stable_offset);
        if layout.log_start {
            buffer.put_i64(self.log_start_offset);
        }
        let aborted = self.aborted_transactions.as_deref();
        put_length(buffer, layout.flexible, aborted.map(<[_]>::len))?;
        for transaction in aborted.unwrap_or_default() {
            buffer.put_i64(transaction.producer_id);
            buffer.put_i64(transaction.first_offset);
            if layout.flexible {
                put_unsigned_varint(buffer, 0);
            }
        }
        if layout.preferred_replica {
            buffer.put_i32(self.preferred_read_replica);
        }
        let size_bytes = self.records.iter().map(Bytes::len).sum();
        put_length(buffer, layout.flexible, Some(size_bytes))?;
        for slice in self.records {
            out.share(slice);
        }
        if layout.flexible {
            put_hints(out.buffer(), self.diverging_epoch, self.current_leader);
        }
        Ok(())
    }
}

/// The tagged fields of a partition. Each value ends with its own empty set of tagged fields.
fn put_hints(buffer: &mut bytes::BytesMut, diverging: Option<EpochEnd>, leader: Option<Leader>) {
    put_unsigned_varint(buffer, u32::from(diverging.is_some()) + u32::from(leader.is_some()));
    if let Some(EpochEnd { epoch, end_offset }) = diverging {
        put_unsigned_varint(buffer, 0);
        put_unsigned_varint(buffer, 4 + 8 + 1);
        buffer.put_i32(epoch);
        buffer.put_i64(end_offset);
        put_unsigned_varint(buffer, 0);
    }
    if let Some(Leader { id, epoch }) = leader {
        put_unsigned_varint(buffer, 1);
        put_unsigned_varint(buffer, 4 + 4 + 1);
        buffer.put_i32(id);
        buffer.put_i32(epoch);
        put_unsigned_varint(buffer, 0);
    }
}

/// The addresses as a tagged field of number 0, without the count of fields before it.
pub(crate) fn put_node_endpoints(
    buffer: &mut bytes::BytesMut,
    endpoints: &[NodeEndpoint],
) -> Result<(), LengthError> {
    let mut value = bytes::BytesMut::new();
    put_length(&mut value, true, Some(endpoints.len()))?;
    for endpoint in endpoints {
        value.put_i32(endpoint.node_id);
        put_string(&mut value, true, Some(&endpoint.host))?;
        value.put_i32(endpoint.port);
        put_string(&mut value, true, endpoint.rack.as_deref())?;
        put_unsigned_varint(&mut value, 0);
    }
    put_unsigned_varint(buffer, 0);
    put_unsigned_varint(buffer, u32::try_from(value.len()).map_err(|_| LengthError(value.len()))?);
    buffer.put_slice(&value);
    Ok(())
}
