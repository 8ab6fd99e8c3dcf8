//! Requests that many tests send, and the parts of answers that many tests look at.

use braid_protocol::records::{
    BatchHeader, BatchSpec, BatchWriter, Batches, Producer, Record, RecordReader,
};
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, InitProducerIdRequest, ProduceRequest,
    ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::client::Client;

/// A time that is "now" for a simulated machine.
pub(super) use crate::env::sim::START_WALL_MS as NOW_MS;

pub(super) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

pub(super) fn topic_name(s: &str) -> TopicName {
    TopicName(text(s))
}

/// A batch of records with these values, without keys, all of them stamped [`NOW_MS`].
pub(super) fn batch(values: &[&str]) -> Bytes {
    batch_of(BatchSpec::default(), values)
}

pub(super) fn batch_of(spec: BatchSpec, values: &[&str]) -> Bytes {
    let records: Vec<_> = values.iter().map(|value| (NOW_MS, None, *value)).collect();
    batch_with(spec, &records)
}

/// A batch of records with these times, keys and values.
pub(super) fn batch_with(spec: BatchSpec, records: &[(i64, Option<&str>, &str)]) -> Bytes {
    let mut writer = BatchWriter::new(spec);
    for (timestamp, key, value) in records {
        let key = key.map(str::as_bytes);
        writer.append(*timestamp, key, Some(value.as_bytes()), &[]).unwrap();
    }
    writer.finish().unwrap()
}

/// A batch of an idempotent producer.
pub(super) fn stamped(id: i64, epoch: i16, base_sequence: i32, values: &[&str]) -> Bytes {
    let producer = Some(Producer { id, epoch, base_sequence });
    batch_of(BatchSpec { producer, ..BatchSpec::default() }, values)
}

/// A Produce request of one batch, acks=all.
pub(super) fn produce(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    produce_all(-1, vec![(topic, partition, Some(records))])
}

pub(super) fn produce_all(acks: i16, parts: Vec<(&str, i32, Option<Bytes>)>) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for (topic, partition, records) in parts {
        let data = PartitionProduceData::default().with_index(partition).with_records(records);
        match topics.last_mut().filter(|last| last.name.as_str() == topic) {
            Some(last) => last.partition_data.push(data),
            None => topics.push(
                TopicProduceData::default()
                    .with_name(topic_name(topic))
                    .with_partition_data(vec![data]),
            ),
        }
    }
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(topics)
}

/// The one partition's answer.
pub(super) fn produced(response: &ProduceResponse) -> &PartitionProduceResponse {
    assert_eq!(response.responses.len(), 1);
    assert_eq!(response.responses[0].partition_responses.len(), 1);
    &response.responses[0].partition_responses[0]
}

/// A request for a topic with these partitions and configs.
pub(super) fn new_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let configs = configs.iter().map(|(key, value)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    });
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.collect())
}

pub(super) fn create_topics(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000)
}

pub(super) fn fetch_partition(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

/// A Fetch of one partition that does not wait.
pub(super) fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    fetch_all(&[(topic, partition, offset)])
}

pub(super) fn fetch_all(parts: &[(&str, i32, i64)]) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (topic, partition, offset) in parts {
        let part = fetch_partition(*partition, *offset);
        match topics.last_mut().filter(|last| last.topic.as_str() == *topic) {
            Some(last) => last.partitions.push(part),
            None => topics.push(
                FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![part]),
            ),
        }
    }
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(topics)
}

/// The batches of a partition's answer.
pub(super) fn batches(partition: &PartitionData) -> Vec<(BatchHeader, Bytes)> {
    let records = partition.records.clone().unwrap_or_default();
    Batches::new(records).map(|batch| batch.expect("whole batches are served")).collect()
}

/// Offset and value of each record of a partition's answer.
pub(super) fn records(partition: &PartitionData) -> Vec<(i64, String)> {
    batches(partition).iter().flat_map(|(_, batch)| records_of(batch)).collect()
}

/// Offset and value of each record of a batch.
pub(super) fn records_of(batch: &Bytes) -> Vec<(i64, String)> {
    let reader = RecordReader::open(batch, 1 << 24).unwrap();
    let record = |record: Result<Record<'_>, _>| {
        let record = record.unwrap();
        let value = String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap();
        (record.offset, value)
    };
    reader.records().map(record).collect()
}

/// What happened a lot in the tests, in one call each.
impl Client {
    /// Creates a topic and returns its id.
    pub(super) async fn create(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Uuid {
        let request = create_topics(vec![new_topic(name, partitions, configs)]);
        let response = self.call(7, &request).await;
        let result = &response.topics[0];
        assert_eq!(result.error_code, 0, "{:?}", result.error_message);
        result.topic_id
    }

    /// Produces a batch, acks=all, and returns its base offset.
    pub(super) async fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> i64 {
        let response = self.call(9, &produce(topic, partition, records)).await;
        let part = produced(&response);
        assert_eq!(part.error_code, 0, "{:?}", part.error_message);
        part.base_offset
    }

    /// The code that a produce of this batch is refused with.
    pub(super) async fn refused(&mut self, topic: &str, partition: i32, records: Bytes) -> i16 {
        let response = self.call(9, &produce(topic, partition, records)).await;
        let part = produced(&response);
        assert_eq!((part.base_offset, part.log_append_time_ms), (-1, -1));
        part.error_code
    }

    /// The answer for one partition, without waiting.
    pub(super) async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> PartitionData {
        let response = self.call(12, &fetch(topic, partition, offset)).await;
        assert_eq!(response.error_code, 0);
        response.responses[0].partitions[0].clone()
    }

    /// All records of a partition from an offset on.
    pub(super) async fn read(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
    ) -> Vec<(i64, String)> {
        let (mut from, mut found) = (from, Vec::new());
        loop {
            let answer = self.fetch(topic, partition, from).await;
            assert_eq!(answer.error_code, 0);
            let read: Vec<_> =
                records(&answer).into_iter().filter(|(offset, _)| *offset >= from).collect();
            let Some((last, _)) = read.last() else { return found };
            from = last + 1;
            found.extend(read);
        }
    }

    /// A fresh producer id.
    pub(super) async fn producer_id(&mut self) -> i64 {
        let response =
            self.call(4, &InitProducerIdRequest::default().with_transactional_id(None)).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        response.producer_id.0
    }
}
