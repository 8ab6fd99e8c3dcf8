//! Produce by hand: the one request whose cost counts per message.
//!
//! Reads and guards in one pass what the generated decoder and the guard would do in two. Records
//! are slices of the body; what is not looked at is not copied. Memory follows received bytes by
//! the guard's own rule.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::by_hand::BodyError;
use crate::api::ApiKey;
use crate::feature;
use crate::guard::{MEMORY_FLOOR_BYTES, MEMORY_MAX_BYTES, MEMORY_PER_BYTE};
use crate::primitives::Reader;

/// Reads the body of a version that is served.
pub(super) fn decode(version: i16, body: &Bytes) -> Result<ProduceRequest, BodyError> {
    let memory_max = body.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_FLOOR_BYTES);
    Reading {
        body,
        reader: Reader::new(body),
        flexible: ApiKey::Produce.api().is_flexible(version),
        by_id: feature::produce_has_topic_ids(version),
        memory_left: memory_max.min(MEMORY_MAX_BYTES),
    }
    .request()
}

struct Reading<'a> {
    body: &'a Bytes,
    reader: Reader<'a>,
    flexible: bool,
    by_id: bool,
    memory_left: usize,
}

impl Reading<'_> {
    fn request(mut self) -> Result<ProduceRequest, BodyError> {
        let transactional_id = self.string()?;
        let acks = self.reader.i16()?;
        let timeout_ms = self.reader.i32()?;
        let topics = self.array(Self::topic)?;
        self.tagged_fields()?;
        Ok(ProduceRequest::default()
            .with_transactional_id(transactional_id.map(Into::into))
            .with_acks(acks)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(topics))
    }

    fn topic(&mut self) -> Result<TopicProduceData, BodyError> {
        let mut topic = TopicProduceData::default();
        if self.by_id {
            let mut id = [0; 16];
            id.copy_from_slice(self.reader.take(16)?);
            topic.topic_id = Uuid::from_bytes(id);
        } else {
            topic.name = TopicName(self.string()?.ok_or(BodyError::Null)?);
        }
        topic.partition_data = self.array(Self::partition)?;
        self.tagged_fields()?;
        Ok(topic)
    }

    fn partition(&mut self) -> Result<PartitionProduceData, BodyError> {
        let index = self.reader.i32()?;
        let records = match self.reader.length(self.flexible)? {
            Some(length) => Some(self.body.slice_ref(self.reader.take(length)?)),
            None => None,
        };
        self.tagged_fields()?;
        Ok(PartitionProduceData::default().with_index(index).with_records(records))
    }

    fn string(&mut self) -> Result<Option<StrBytes>, BodyError> {
        let Some(length) = self.reader.string_length(self.flexible)? else { return Ok(None) };
        let raw = self.body.slice_ref(self.reader.take(length)?);
        StrBytes::from_utf8(raw).map(Some).map_err(|_| BodyError::NotUtf8)
    }

    /// Room is made for as many elements as the count claims, if the received bytes justify it.
    fn array<T>(
        &mut self,
        element: impl Fn(&mut Self) -> Result<T, BodyError>,
    ) -> Result<Vec<T>, BodyError> {
        let count = self.reader.length(self.flexible)?.ok_or(BodyError::Null)?;
        let memory = count.checked_mul(size_of::<T>()).ok_or(BodyError::Memory)?;
        self.memory_left = self.memory_left.checked_sub(memory).ok_or(BodyError::Memory)?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    fn tagged_fields(&mut self) -> Result<(), BodyError> {
        if self.flexible {
            self.reader.skip_tagged_fields()?;
        }
        Ok(())
    }
}
