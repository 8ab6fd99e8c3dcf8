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
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::primitives::{ReadError, Reader};

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
        let mut id = [0; 16];
        id.copy_from_slice(self.reader.take(16)?);
        Ok(Uuid::from_bytes(id))
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
