//! Bodies of versions that the generated codec does not know.
//!
//! The guard has walked the body before, so counts are backed by bytes. Strings are slices of the
//! body, as the generated decoder leaves them.

use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::primitives::{ReadError, Reader};
use crate::transactions::{TxnOffsetCommit, WriteTxnMarkers};

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A length is wrong.
    #[error(transparent)]
    Length(#[from] ReadError),
    /// Null where a value has to be.
    #[error("a value is null that cannot be")]
    Null,
    /// Bytes where UTF-8 has to be.
    #[error("a string is not UTF-8")]
    NotUtf8,
}

/// Reads a body of a flexible version.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    bytes: &'a Bytes,
    reader: Reader<'a>,
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, reader: Reader::new(bytes) }
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<StrBytes>, BodyError> {
        let Some(length) = self.reader.string_length(true)? else {
            return Ok(None);
        };
        let raw = self.bytes.slice_ref(self.reader.take(length)?);
        StrBytes::from_utf8(raw).map(Some).map_err(|_| BodyError::NotUtf8)
    }

    pub(crate) fn string(&mut self) -> Result<StrBytes, BodyError> {
        self.nullable_string()?.ok_or(BodyError::Null)
    }

    fn i8(&mut self) -> Result<i8, BodyError> {
        let [byte] = self.fixed()?;
        Ok(i8::from_be_bytes([byte]))
    }

    fn i16(&mut self) -> Result<i16, BodyError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], BodyError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.reader.take(N)?);
        Ok(bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, BodyError> {
        Ok(self.reader.i32()?)
    }

    fn i64(&mut self) -> Result<i64, BodyError> {
        Ok(self.reader.i64()?)
    }

    fn bool(&mut self) -> Result<bool, BodyError> {
        Ok(self.reader.take(1)? != [0])
    }

    fn uuid(&mut self) -> Result<Uuid, BodyError> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    fn nullable_array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, BodyError>,
    ) -> Result<Option<Vec<T>>, BodyError> {
        let Some(count) = self.reader.length(true)? else {
            return Ok(None);
        };
        let mut element = element;
        let mut elements = Vec::with_capacity(count.min(self.reader.remaining()));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    fn array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, BodyError>,
    ) -> Result<Vec<T>, BodyError> {
        self.nullable_array(element)?.ok_or(BodyError::Null)
    }

    /// Ends a structure: none of the versions here has a tagged field of its own.
    pub(crate) fn tagged_fields(&mut self) -> Result<(), BodyError> {
        Ok(self.reader.skip_tagged_fields()?)
    }
}

/// Version 10: topics are named by id.
pub(super) fn offset_commit(bytes: &Bytes) -> Result<OffsetCommitRequest, BodyError> {
    let mut body = Body::new(bytes);
    let mut request = OffsetCommitRequest::default();
    request.group_id = body.string()?.into();
    request.generation_id_or_member_epoch = body.i32()?;
    request.member_id = body.string()?;
    request.group_instance_id = body.nullable_string()?;
    request.topics = body.array(|body| {
        let mut topic = OffsetCommitRequestTopic::default();
        topic.topic_id = body.uuid()?;
        topic.partitions = body.array(offset_commit_partition)?;
        body.tagged_fields()?;
        Ok(topic)
    })?;
    body.tagged_fields()?;
    Ok(request)
}

fn offset_commit_partition(body: &mut Body<'_>) -> Result<OffsetCommitRequestPartition, BodyError> {
    let mut partition = OffsetCommitRequestPartition::default();
    partition.partition_index = body.i32()?;
    partition.committed_offset = body.i64()?;
    partition.committed_leader_epoch = body.i32()?;
    partition.committed_metadata = body.nullable_string()?;
    body.tagged_fields()?;
    Ok(partition)
}

/// Version 10: topics are named by id.
pub(super) fn offset_fetch(bytes: &Bytes) -> Result<OffsetFetchRequest, BodyError> {
    let mut body = Body::new(bytes);
    let mut request = OffsetFetchRequest::default();
    request.groups = body.array(|body| {
        let mut group = OffsetFetchRequestGroup::default();
        group.group_id = body.string()?.into();
        group.member_id = body.nullable_string()?;
        group.member_epoch = body.i32()?;
        group.topics = body.nullable_array(offset_fetch_topic)?;
        body.tagged_fields()?;
        Ok(group)
    })?;
    request.require_stable = body.bool()?;
    body.tagged_fields()?;
    Ok(request)
}

fn offset_fetch_topic(body: &mut Body<'_>) -> Result<OffsetFetchRequestTopics, BodyError> {
    let mut topic = OffsetFetchRequestTopics::default();
    topic.topic_id = body.uuid()?;
    topic.partition_indexes = body.array(Body::i32)?;
    body.tagged_fields()?;
    Ok(topic)
}

/// Version 2: a marker says which transaction.version it is of.
pub(super) fn write_txn_markers(bytes: &Bytes) -> Result<WriteTxnMarkers, BodyError> {
    let mut body = Body::new(bytes);
    let mut asked = WriteTxnMarkers::default();
    let markers = body.array(|body| {
        let mut marker = WritableTxnMarker::default();
        marker.producer_id = body.i64()?.into();
        marker.producer_epoch = body.i16()?;
        marker.transaction_result = body.bool()?;
        marker.topics = body.array(|body| {
            let mut topic = WritableTxnMarkerTopic::default();
            topic.name = body.string()?.into();
            topic.partition_indexes = body.array(Body::i32)?;
            body.tagged_fields()?;
            Ok(topic)
        })?;
        marker.coordinator_epoch = body.i32()?;
        let version = body.i8()?;
        body.tagged_fields()?;
        Ok((marker, version))
    })?;
    body.tagged_fields()?;
    (asked.request.markers, asked.transaction_versions) = apart(markers);
    Ok(asked)
}

/// Version 6: topics are named by id.
pub(super) fn txn_offset_commit(bytes: &Bytes) -> Result<TxnOffsetCommit, BodyError> {
    let mut body = Body::new(bytes);
    let mut asked = TxnOffsetCommit::default();
    let request = &mut asked.request;
    request.transactional_id = body.string()?.into();
    request.group_id = body.string()?.into();
    request.producer_id = body.i64()?.into();
    request.producer_epoch = body.i16()?;
    request.generation_id = body.i32()?;
    request.member_id = body.string()?;
    request.group_instance_id = body.nullable_string()?;
    let topics = body.array(|body| {
        let mut topic = TxnOffsetCommitRequestTopic::default();
        let id = body.uuid()?;
        topic.partitions = body.array(|body| {
            let mut partition = TxnOffsetCommitRequestPartition::default();
            partition.partition_index = body.i32()?;
            partition.committed_offset = body.i64()?;
            partition.committed_leader_epoch = body.i32()?;
            partition.committed_metadata = body.nullable_string()?;
            body.tagged_fields()?;
            Ok(partition)
        })?;
        body.tagged_fields()?;
        Ok((topic, id))
    })?;
    body.tagged_fields()?;
    (request.topics, asked.topic_ids) = apart(topics);
    Ok(asked)
}

/// Two lists of one, of exactly its length: the guard counts on it.
fn apart<A, B>(pairs: Vec<(A, B)>) -> (Vec<A>, Vec<B>) {
    let mut lists = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
    for (a, b) in pairs {
        lists.0.push(a);
        lists.1.push(b);
    }
    lists
}
