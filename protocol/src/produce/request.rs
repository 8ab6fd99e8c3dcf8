//! A Produce request as a walk over its bytes.

use bytes::Bytes;
use uuid::Uuid;

use crate::api::ApiKey;
use crate::feature;
use crate::primitives::Reader;
use crate::request::BodyError;

/// A batch beyond this is large.
const LARGE_BATCH_BYTES: usize = 16 * 1024;
/// Where the lower half of a batch's attributes stands, and its bits that name the codec.
const ATTRIBUTES_LOW_AT: usize = 22;
const CODEC_BITS: u8 = 0b111;

/// What stands before the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceHead<'a> {
    /// Set by transactional producers.
    pub transactional_id: Option<&'a str>,
    /// 0, 1 or −1; other values come through as they are.
    pub acks: i16,
    /// How long the client wants to wait for replicas.
    pub timeout_ms: i32,
    /// Topics that follow.
    pub topics: usize,
}

/// What a topic is called in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicKey<'a> {
    /// Up to version 12.
    Name(&'a str),
    /// From version 13 on.
    Id(Uuid),
}

/// A place in the body of a Produce request. The caller steps through it in the order of the bytes:
/// each topic, its partitions, [`Walk::end`] of the topic; at last [`Walk::end`] of the request.
/// A claimed count costs nothing: every step takes bytes that are there.
#[derive(Debug, Clone, Copy)]
pub struct Walk<'a> {
    reader: Reader<'a>,
    flexible: bool,
    by_id: bool,
}

impl<'a> Walk<'a> {
    /// Begins at the first byte of a body of a served version.
    ///
    /// # Errors
    /// What stands before the topics is malformed.
    pub fn begin(version: i16, body: &'a [u8]) -> Result<(ProduceHead<'a>, Self), BodyError> {
        let mut walk = Self {
            reader: Reader::new(body),
            flexible: ApiKey::Produce.api().is_flexible(version),
            by_id: feature::produce_has_topic_ids(version),
        };
        let transactional_id = walk.string()?;
        let acks = walk.reader.i16()?;
        let timeout_ms = walk.reader.i32()?;
        let topics = walk.count()?;
        Ok((ProduceHead { transactional_id, acks, timeout_ms, topics }, walk))
    }

    /// Walks a whole body, so that nothing of a malformed one is carried out; says whether a batch
    /// in it is compressed, by its own word, or large: checking it may take long.
    ///
    /// # Errors
    /// The body is not what its version says.
    pub fn check(version: i16, body: &'a [u8]) -> Result<bool, BodyError> {
        let (head, mut walk) = Self::begin(version, body)?;
        let mut is_heavy = false;
        for _ in 0..head.topics {
            let (_, partitions) = walk.topic()?;
            for _ in 0..partitions {
                let (_, batch) = walk.partition()?;
                is_heavy |= batch.is_some_and(|batch| {
                    batch.len() > LARGE_BATCH_BYTES || Self::claims_compression(batch)
                });
            }
            walk.end()?;
        }
        walk.end()?;
        Ok(is_heavy)
    }

    /// Whether the attributes of what may be a batch name a codec.
    #[must_use]
    pub fn claims_compression(batch: &[u8]) -> bool {
        batch.get(ATTRIBUTES_LOW_AT).is_some_and(|attributes| attributes & CODEC_BITS != 0)
    }

    /// The next topic and how many partitions follow.
    ///
    /// # Errors
    /// The bytes are not a topic.
    pub fn topic(&mut self) -> Result<(TopicKey<'a>, usize), BodyError> {
        let key = if self.by_id {
            TopicKey::Id(Uuid::from_bytes(self.reader.chunk()?))
        } else {
            TopicKey::Name(self.string()?.ok_or(BodyError::Null)?)
        };
        Ok((key, self.count()?))
    }

    /// The next partition's number and what is to be appended to it.
    ///
    /// # Errors
    /// The bytes are not a partition.
    pub fn partition(&mut self) -> Result<(i32, Option<&'a [u8]>), BodyError> {
        let index = self.reader.i32()?;
        let records = match self.reader.length(self.flexible)? {
            Some(length) => Some(self.reader.take(length)?),
            None => None,
        };
        self.end()?;
        Ok((index, records))
    }

    /// Passes over the tagged fields that end a structure; none of them is known.
    ///
    /// # Errors
    /// The bytes are not tagged fields.
    pub fn end(&mut self) -> Result<(), BodyError> {
        if self.flexible {
            self.reader.skip_tagged_fields()?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<usize, BodyError> {
        self.reader.length(self.flexible)?.ok_or(BodyError::Null)
    }

    fn string(&mut self) -> Result<Option<&'a str>, BodyError> {
        let Some(length) = self.reader.string_length(self.flexible)? else { return Ok(None) };
        let raw = self.reader.take(length)?;
        str::from_utf8(raw).map(Some).map_err(|_| BodyError::NotUtf8)
    }
}

/// The body of a request of a served version, found well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceBody(Bytes);

impl ProduceBody {
    pub(crate) fn decode(version: i16, body: Bytes) -> Result<Self, BodyError> {
        Walk::check(version, &body)?;
        Ok(Self(body))
    }

    /// The bytes, for [`Walk::begin`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchSpec, BatchWriter, Codec};
    use bytes::BytesMut;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{ProduceRequest, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    fn request(version: i16) -> ProduceRequest {
        let partition = |index, records: Option<&'static [u8]>| {
            PartitionProduceData::default()
                .with_index(index)
                .with_records(records.map(Bytes::from_static))
        };
        let mut topics = vec![
            TopicProduceData::default()
                .with_partition_data(vec![partition(3, Some(b"batch")), partition(4, None)]),
            TopicProduceData::default().with_partition_data(vec![partition(0, Some(b""))]),
            TopicProduceData::default(),
        ];
        for (topic, number) in topics.iter_mut().zip(1..) {
            if version >= 13 {
                topic.topic_id = Uuid::from_u128(number);
            } else {
                topic.name = TopicName(StrBytes::from_string(format!("topic-{number}")));
            }
        }
        ProduceRequest::default()
            .with_transactional_id(Some(StrBytes::from_static_str("t").into()))
            .with_acks(-1)
            .with_timeout_ms(1500)
            .with_topic_data(topics)
    }

    /// The walk, put into the generated structures.
    fn walked(version: i16, body: &[u8]) -> Result<ProduceRequest, BodyError> {
        let (head, mut walk) = Walk::begin(version, body)?;
        let mut topics = Vec::new();
        for _ in 0..head.topics {
            let (key, partitions) = walk.topic()?;
            let mut topic = TopicProduceData::default();
            match key {
                TopicKey::Name(name) => {
                    topic.name = TopicName(StrBytes::from_string(name.to_owned()));
                }
                TopicKey::Id(id) => topic.topic_id = id,
            }
            for _ in 0..partitions {
                let (index, records) = walk.partition()?;
                topic.partition_data.push(
                    PartitionProduceData::default()
                        .with_index(index)
                        .with_records(records.map(Bytes::copy_from_slice)),
                );
            }
            walk.end()?;
            topics.push(topic);
        }
        walk.end()?;
        let id = head.transactional_id.map(|id| StrBytes::from_string(id.to_owned()).into());
        Ok(ProduceRequest::default()
            .with_transactional_id(id)
            .with_acks(head.acks)
            .with_timeout_ms(head.timeout_ms)
            .with_topic_data(topics))
    }

    #[test]
    fn a_walk_reads_in_every_version_what_the_generated_encoder_wrote() {
        let api = ApiKey::Produce.api();
        for version in api.accepted_min..=api.max {
            let request = request(version);
            let mut body = BytesMut::new();
            request.encode(&mut body, version).unwrap();
            assert_eq!(Walk::check(version, &body), Ok(false), "version {version}");
            assert_eq!(walked(version, &body), Ok(request), "version {version}");
        }
    }

    #[test]
    fn tagged_fields_nobody_knows_are_passed_over() {
        let mut sent = request(9);
        sent.topic_data[0].partition_data[0]
            .unknown_tagged_fields
            .insert(7, Bytes::from_static(b"new"));
        sent.unknown_tagged_fields.insert(9, Bytes::from_static(b"newer"));
        let mut body = BytesMut::new();
        sent.encode(&mut body, 9).unwrap();
        assert_eq!(walked(9, &body), Ok(request(9)));
    }

    #[test]
    fn a_body_cut_anywhere_is_refused_as_the_generated_decoder_refuses_it() {
        for version in [3, 9, 13] {
            let mut body = BytesMut::new();
            request(version).encode(&mut body, version).unwrap();
            let body = body.freeze();
            for cut in 0..body.len() {
                let part = body.slice(..cut);
                assert!(Walk::check(version, &part).is_err(), "version {version} cut at {cut}");
                assert!(ProduceRequest::decode(&mut part.clone(), version).is_err());
            }
        }
    }

    #[test]
    fn claimed_counts_and_bad_text_are_refused() {
        let head = b"\xff\xff\xff\xff\0\0\0\0";
        let check = |rest: &[u8]| Walk::check(3, &[&head[..], rest].concat());
        assert!(matches!(check(b"\x7f\xff\xff\xff"), Err(BodyError::Length(_))));
        assert_eq!(check(b"\xff\xff\xff\xff"), Err(BodyError::Null));
        assert_eq!(check(b"\0\0\0\x01\xff\xff"), Err(BodyError::Null));
        assert_eq!(check(b"\0\0\0\x01\0\x01\xff\0\0\0\0"), Err(BodyError::NotUtf8));
        assert_eq!(check(b"\0\0\0\0"), Ok(false));
    }

    #[test]
    fn compressed_and_large_batches_are_told_from_others() {
        let batch = |codec, size_bytes: usize| {
            let spec = BatchSpec { codec, ..BatchSpec::default() };
            let mut writer = BatchWriter::new(spec);
            writer.append(0, None, Some(&vec![0; size_bytes]), &[]).unwrap();
            writer.finish().unwrap()
        };
        let cases = [
            (Codec::None, 100, false),
            (Codec::None, LARGE_BATCH_BYTES, true),
            (Codec::Gzip, 100, true),
            (Codec::Zstd, 100, true),
        ];
        for (codec, size_bytes, is_heavy) in cases {
            let mut sent = request(9);
            sent.topic_data[0].partition_data[0].records = Some(batch(codec, size_bytes));
            let mut body = BytesMut::new();
            sent.encode(&mut body, 9).unwrap();
            assert_eq!(Walk::check(9, &body), Ok(is_heavy), "{codec:?} {size_bytes}");
        }
    }
}
