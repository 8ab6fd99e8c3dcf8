//! Wraps rdkafka, and with it a librdkafka that is linked in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::contract::{Acks, Answer, Command, Failed, LOCAL_ERROR, Output, Record, records};

const TIMEOUT: Duration = Duration::from_secs(30);

pub fn run(command: &Command) -> Answer {
    match command.text("op") {
        "hello" => {
            let (_, library) = rdkafka::util::get_rdkafka_version();
            Ok(json!({"client": "rdkafka", "version": format!("0.39.0 on {library}")}))
        }
        "produce" => produce(command),
        "consume" => consume(command),
        "group" => group(command),
        "list_offsets" => list_offsets(command),
        "commit" => commit(command),
        "committed" => committed(command),
        "create_topics" => create_topics(command),
        "delete_topics" => delete_topics(command),
        "list_topics" => list_topics(command),
        "describe_topics" => describe_topics(command),
        "describe_configs" => describe_configs(command),
        "describe_cluster" => describe_cluster(command),
        "create_partitions" => create_partitions(command),
        "delete_records" => delete_records(command),
        "alter_configs" => alter_configs(command),
        "list_groups" => list_groups(command),
        "describe_group" => describe_group(command),
        "delete_group" => delete_group(command),
        other => Err(Failed::local(format!("unknown op {other}"))),
    }
}

/// librdkafka's own errors are negative; a handful of them have a code of Kafka's.
fn kafka_code(code: RDKafkaErrorCode) -> i64 {
    match code {
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition => 3,
        RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::MessageTimedOut => 7,
        code if code as i64 > 0 => code as i64,
        _ => LOCAL_ERROR,
    }
}

impl From<KafkaError> for Failed {
    fn from(error: KafkaError) -> Failed {
        let code = error.rdkafka_error_code().map_or(LOCAL_ERROR, kafka_code);
        Failed { code, message: error.to_string() }
    }
}

fn config(command: &Command) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", command.text("bootstrap"));
    config.set("reconnect.backoff.max.ms", "250");
    config
}

struct Telling(Acks);

impl ClientContext for Telling {}

impl ProducerContext for Telling {
    type DeliveryOpaque = Box<i64>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<i64>) {
        match result {
            Ok(m) => {
                let offset = if m.offset() < 0 { -1 } else { m.offset() };
                self.0.told(*index, m.partition(), offset, m.timestamp().to_millis().unwrap_or(-1), 0);
            }
            Err((error, _)) => {
                eprintln!("not produced: {error}");
                let code = error.rdkafka_error_code().map_or(LOCAL_ERROR, kafka_code);
                self.0.told(*index, -1, -1, -1, code);
            }
        }
    }
}

fn produce(command: &Command) -> Answer {
    let timeout = command.number_or("delivery_timeout_ms", 60_000);
    let mut config = config(command);
    let settings = [
        ("acks", command.text_or("acks", "all").to_owned()),
        ("compression.type", command.text_or("codec", "none").to_owned()),
        ("enable.idempotence", command.is("idempotent", false).to_string()),
        ("linger.ms", command.number_or("linger_ms", 5).to_string()),
        ("batch.size", command.number_or("batch_bytes", 16384).to_string()),
        ("delivery.timeout.ms", timeout.to_string()),
        ("request.timeout.ms", timeout.min(10_000).to_string()),
        ("message.max.bytes", command.number_or("max_request_bytes", 2_097_152).to_string()),
        ("partitioner", "murmur2_random".to_owned()),
        ("queue.buffering.max.messages", "1000000".to_owned()),
        ("queue.buffering.max.kbytes", "262144".to_owned()),
        ("topic.metadata.refresh.interval.ms", "1000".to_owned()),
    ];
    for (key, value) in &settings {
        config.set(*key, value);
    }
    let context = Telling(Acks::create(command)?);
    let producer: ThreadedProducer<Telling, NoCustomPartitioner> =
        config.create_with_context(context)?;
    let acks = &producer.context().0;
    let stopped = command.stopped();
    for record in records(command)? {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        let index = acks.next();
        let mut next = BaseRecord::<[u8], [u8], Box<i64>>::with_opaque_to(&record.topic, Box::new(index));
        next.key = record.key.as_deref();
        next.payload = record.value.as_deref();
        next.partition = (record.partition >= 0).then_some(record.partition);
        next.timestamp = (record.timestamp >= 0).then_some(record.timestamp);
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            next.headers = Some(record.headers.iter().fold(headers, |headers, (name, value)| {
                headers.insert(Header { key: name, value: value.as_ref() })
            }));
        }
        loop {
            match producer.send(next) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    next = back;
                    // An error means that some are on their way still.
                    drop(producer.flush(Duration::from_millis(20)));
                }
                Err((error, _)) => {
                    acks.told(index, -1, -1, -1, Failed::from(error).code);
                    break;
                }
            }
        }
    }
    producer.flush(Duration::from_millis(timeout as u64 + 10_000))?;
    acks.close()
}

fn consumer_config(command: &Command) -> ClientConfig {
    let mut config = config(command);
    config.set("group.id", command.text_or("group", "unused"));
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "true");
    config.set("auto.offset.reset", "earliest");
    config.set("fetch.wait.max.ms", "100");
    config.set("fetch.error.backoff.ms", "50");
    config
}

fn read(m: &BorrowedMessage<'_>) -> Record {
    let headers = m.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
    });
    Record {
        topic: m.topic().to_owned(),
        partition: m.partition(),
        offset: m.offset(),
        timestamp: m.timestamp().to_millis().unwrap_or(-1),
        timestamp_type: match m.timestamp() {
            Timestamp::CreateTime(_) => 0,
            Timestamp::LogAppendTime(_) => 1,
            Timestamp::NotAvailable => -1,
        },
        key: m.key().map(<[u8]>::to_vec),
        value: m.payload().map(<[u8]>::to_vec),
        headers,
    }
}

fn partitions_of(client: &BaseConsumer, topic: &str) -> Result<Vec<i32>, Failed> {
    let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
    let found = metadata.topics().first().ok_or_else(|| Failed::local("no such topic"))?;
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        return Err(Failed { code: kafka_code(code), message: format!("{topic}: {code}") });
    }
    let mut partitions: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
    partitions.sort_unstable();
    Ok(partitions)
}

fn offset_at(client: &BaseConsumer, topic: &str, partition: i32, timestamp: i64) -> Result<i64, Failed> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(timestamp))?;
    let found = client.offsets_for_times(asked, TIMEOUT)?;
    Ok(match found.elements()[0].offset() {
        Offset::Offset(offset) => offset,
        _ => -1,
    })
}

fn consume(command: &Command) -> Answer {
    let deadline = Instant::now() + command.timeout();
    let client: BaseConsumer = consumer_config(command).create()?;
    let mut output = Output::create(command)?;
    let mut left: HashMap<(String, i32), i64> = HashMap::new();
    let mut starts = TopicPartitionList::new();
    for topic in command.texts("topics") {
        for partition in partitions_of(&client, topic)? {
            let (low, end) = client.fetch_watermarks(topic, partition, TIMEOUT)?;
            let start = match command.get("from_timestamp").and_then(Value::as_i64) {
                Some(at) => offset_at(&client, topic, partition, at)?,
                None => command.number_or("from_offset", low),
            };
            if start >= 0 && start < end {
                left.insert((topic.to_owned(), partition), end);
                starts.add_partition_offset(topic, partition, Offset::Offset(start))?;
            }
        }
    }
    client.assign(&starts)?;
    let mut count = 0;
    while !left.is_empty() {
        if Instant::now() > deadline {
            return Err(Failed::local(format!("timed out after {count} records, unread: {left:?}")));
        }
        let Some(message) = client.poll(Duration::from_millis(500)) else { continue };
        let message = message?;
        let at = (message.topic().to_owned(), message.partition());
        let Some(end) = left.get(&at).copied() else { continue };
        if message.offset() < end {
            output.write(&read(&message))?;
            count += 1;
        }
        if message.offset() + 1 >= end {
            left.remove(&at);
        }
    }
    output.flush()?;
    Ok(json!({"records": count}))
}

struct Rebalanced(Arc<dyn Fn(&str, &TopicPartitionList) + Send + Sync>);

impl ClientContext for Rebalanced {}

impl ConsumerContext for Rebalanced {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            (self.0)("revoked", partitions);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            (self.0)("assigned", partitions);
        }
    }
}

fn group(command: &Command) -> Answer {
    let session = command.number_or("session_timeout_ms", 10_000);
    let mut config = consumer_config(command);
    config.set("session.timeout.ms", session.to_string());
    config.set("heartbeat.interval.ms", (session / 5).max(100).to_string());
    config.set("partition.assignment.strategy", command.text_or("assignor", "range"));
    if command.get("instance_id").is_some() {
        config.set("group.instance.id", command.text("instance_id"));
    }
    let id = command.id();
    let event = move |name: &str, partitions: &TopicPartitionList| {
        let list: Vec<Value> =
            partitions.elements().iter().map(|p| json!([p.topic(), p.partition()])).collect();
        crate::contract::event(id, name, json!({"partitions": list}));
    };
    let client: BaseConsumer<Rebalanced> = config.create_with_context(Rebalanced(Arc::new(event)))?;
    client.subscribe(&command.texts("topics"))?;
    let mut output = Output::create(command)?;
    let stopped = command.stopped();
    let mut count = 0;
    while !stopped.load(Ordering::SeqCst) {
        let Some(message) = client.poll(Duration::from_millis(200)) else { continue };
        let mut next = Some(message);
        // What has come already goes with it.
        while let Some(message) = next {
            match message {
                Ok(message) => {
                    output.write(&read(&message))?;
                    count += 1;
                }
                Err(error) => eprintln!("poll failed: {error}"),
            }
            next = client.poll(Duration::ZERO);
        }
        output.flush()?;
        command.event("received", json!({"count": count}));
        if command.is("commit", true)
            && let Err(error) = client.commit_consumer_state(CommitMode::Sync)
        {
            eprintln!("commit failed: {error}");
        }
    }
    drop(client);
    Ok(json!({"records": count}))
}

fn list_offsets(command: &Command) -> Answer {
    let client: BaseConsumer = consumer_config(command).create()?;
    let topic = command.text("topic");
    let mut offsets = Vec::new();
    for partition in command.partitions() {
        let offset = match command.text("at") {
            "earliest" => client.fetch_watermarks(topic, partition, TIMEOUT)?.0,
            "latest" => client.fetch_watermarks(topic, partition, TIMEOUT)?.1,
            at => offset_at(&client, topic, partition, at.parse().map_err(Failed::local)?)?,
        };
        offsets.push(json!({"partition": partition, "offset": offset, "timestamp": -1}));
    }
    Ok(json!({"offsets": offsets}))
}

fn commit(command: &Command) -> Answer {
    let client: BaseConsumer = consumer_config(command).create()?;
    let mut offsets = TopicPartitionList::new();
    for o in command.list("offsets") {
        let topic = o["topic"].as_str().unwrap_or_default();
        let partition = o["partition"].as_i64().unwrap_or_default() as i32;
        let mut element = offsets.add_partition(topic, partition);
        element.set_offset(Offset::Offset(o["offset"].as_i64().unwrap_or_default()))?;
        element.set_metadata(o["metadata"].as_str().unwrap_or_default());
    }
    client.commit(&offsets, CommitMode::Sync)?;
    Ok(json!({}))
}

fn committed(command: &Command) -> Answer {
    let client: BaseConsumer = consumer_config(command).create()?;
    let mut asked = TopicPartitionList::new();
    for partition in command.partitions() {
        asked.add_partition(command.text("topic"), partition);
    }
    let found = client.committed_offsets(asked, TIMEOUT)?;
    let mut offsets = Vec::new();
    for p in found.elements() {
        p.error()?;
        let offset = match p.offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        };
        offsets.push(json!({"partition": p.partition(), "offset": offset, "metadata": p.metadata()}));
    }
    Ok(json!({"offsets": offsets}))
}

fn admin(command: &Command) -> Result<AdminClient<DefaultClientContext>, Failed> {
    Ok(config(command).create()?)
}

/// Waits for what an admin client promises.
fn done<T>(promise: impl Future<Output = Result<T, KafkaError>>) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(promise)?)
}

fn outcome(result: &[Result<String, (String, RDKafkaErrorCode)>]) -> i64 {
    match &result[0] {
        Ok(_) => 0,
        Err((_, code)) => kafka_code(*code),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

fn create_topics(command: &Command) -> Answer {
    let client = admin(command)?;
    let mut results = BTreeMap::new();
    for t in command.list("topics") {
        let name = t["name"].as_str().unwrap_or_default();
        let number = |field: &str| t[field].as_i64().unwrap_or(-1) as i32;
        let configs: Vec<(&String, &str)> = t["configs"]
            .as_object()
            .map(|map| map.iter().map(|(k, v)| (k, v.as_str().unwrap_or_default())).collect())
            .unwrap_or_default();
        let replication = TopicReplication::Fixed(number("replication"));
        let topic = configs
            .iter()
            .fold(NewTopic::new(name, number("partitions"), replication), |topic, (key, value)| {
                topic.set(key, value)
            });
        results.insert(name, match done(client.create_topics([&topic], &options())) {
            Ok(result) => outcome(&result),
            Err(failed) => failed.code,
        });
    }
    Ok(json!({"results": results}))
}

fn delete_topics(command: &Command) -> Answer {
    let client = admin(command)?;
    let mut results = BTreeMap::new();
    for name in command.texts("topics") {
        results.insert(name, outcome(&done(client.delete_topics(&[name], &options()))?));
    }
    Ok(json!({"results": results}))
}

fn list_topics(command: &Command) -> Answer {
    let client = admin(command)?;
    let metadata = client.inner().fetch_metadata(None, TIMEOUT)?;
    let mut names: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
    names.sort_unstable();
    Ok(json!({"topics": names}))
}

fn describe_topics(command: &Command) -> Answer {
    let client = admin(command)?;
    let mut topics = BTreeMap::new();
    for name in command.texts("topics") {
        let metadata = client.inner().fetch_metadata(Some(name), TIMEOUT)?;
        let found = metadata.topics().first().ok_or_else(|| Failed::local("no answer"))?;
        let error = found.error().map_or(0, |error| kafka_code(RDKafkaErrorCode::from(error)));
        let mut partitions: Vec<_> = found.partitions().iter().collect();
        partitions.sort_by_key(|p| p.id());
        let partitions: Vec<Value> = partitions
            .into_iter()
            .map(|p| json!({"partition": p.id(), "leader": p.leader(), "replicas": p.replicas(), "isr": p.isr()}))
            .collect();
        topics.insert(name, json!({"error": error, "partitions": partitions}));
    }
    Ok(json!({"topics": topics}))
}

fn describe_configs(command: &Command) -> Answer {
    let client = admin(command)?;
    let name = command.text("name");
    let resource = match command.text("kind") {
        "topic" => ResourceSpecifier::Topic(name),
        _ => ResourceSpecifier::Broker(name.parse().map_err(Failed::local)?),
    };
    let mut found = done(client.describe_configs([&resource], &options()))?;
    let resource = found.remove(0).map_err(|code| Failed { code: kafka_code(code), message: code.to_string() })?;
    let configs: BTreeMap<&str, Option<&str>> =
        resource.entries.iter().map(|entry| (entry.name.as_str(), entry.value.as_deref())).collect();
    Ok(json!({"configs": configs}))
}

fn describe_cluster(command: &Command) -> Answer {
    let client = admin(command)?;
    let metadata = client.inner().fetch_metadata(None, TIMEOUT)?;
    let brokers: Vec<Value> = metadata
        .brokers()
        .iter()
        .map(|b| json!({"id": b.id(), "host": b.host(), "port": b.port()}))
        .collect();
    // SAFETY: the pointer is that of a client that lives until the end of this function.
    let controller =
        unsafe { rdkafka::bindings::rd_kafka_controllerid(client.inner().native_ptr(), 30_000) };
    Ok(json!({"cluster_id": client.inner().fetch_cluster_id(TIMEOUT), "controller": controller, "brokers": brokers}))
}

/// The answer to a change of one thing.
fn changed<T, U>(mut results: Vec<Result<T, (U, RDKafkaErrorCode)>>) -> Answer {
    match results.remove(0) {
        Ok(_) => Ok(json!({})),
        Err((_, code)) => Err(Failed { code: kafka_code(code), message: code.to_string() }),
    }
}

fn create_partitions(command: &Command) -> Answer {
    let wanted = NewPartitions::new(command.text("topic"), command.number("count") as usize);
    changed(done(admin(command)?.create_partitions([&wanted], &options()))?)
}

fn delete_records(command: &Command) -> Answer {
    let mut before = TopicPartitionList::new();
    let mut partition = before.add_partition(command.text("topic"), command.number("partition") as i32);
    partition.set_offset(Offset::Offset(command.number("before")))?;
    let told = done(admin(command)?.delete_records(&before, &options()))?;
    let partition = told.elements().into_iter().next().ok_or_else(|| Failed::local("no answer"))?;
    partition.error()?;
    Ok(json!({"low": partition.offset().to_raw()}))
}

fn alter_configs(command: &Command) -> Answer {
    let set = command.get("set").and_then(Value::as_object).ok_or_else(|| Failed::local("nothing to set"))?;
    let wanted = set.iter().fold(
        AlterConfig::new(ResourceSpecifier::Topic(command.text("topic"))),
        |wanted, (key, value)| wanted.set(key, value.as_str().unwrap_or_default()),
    );
    changed(done(admin(command)?.alter_configs([&wanted], &options()))?)
}

fn list_groups(command: &Command) -> Answer {
    let told = admin(command)?.inner().fetch_group_list(None, TIMEOUT)?;
    let groups: Vec<&str> = told.groups().iter().map(|group| group.name()).collect();
    Ok(json!({"groups": groups}))
}

fn describe_group(command: &Command) -> Answer {
    let told = admin(command)?.inner().fetch_group_list(Some(command.text("group")), TIMEOUT)?;
    let group = told.groups().first().ok_or_else(|| Failed::local("no answer"))?;
    Ok(json!({"state": group.state(), "members": group.members().len()}))
}

fn delete_group(command: &Command) -> Answer {
    changed(done(admin(command)?.delete_groups(&[command.text("group")], &options()))?)
}
