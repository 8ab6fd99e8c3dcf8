//! Wraps rskafka, which knows partitions and no groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, UNIX_EPOCH};

use chrono::{TimeZone, Utc};
use rskafka::BackoffConfig;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record as Sent;
use serde_json::json;

use crate::contract::{Acks, Answer, Command, Failed, LOCAL_ERROR, Output, Record, records};

pub fn run(command: &Command) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command.text("op") {
            "hello" => Ok(json!({"client": "rskafka", "version": "0.6.0"})),
            "produce" => produce(command).await,
            "consume" => consume(command).await,
            "list_offsets" => list_offsets(command).await,
            other => Err(Failed::local(format!("unknown op {other}"))),
        }
    })
}

fn kafka_code(error: &Error) -> i64 {
    match error {
        Error::ServerError { protocol_error, .. } => match protocol_error {
            ProtocolError::UnknownTopicOrPartition => 3,
            ProtocolError::MessageTooLarge => 10,
            _ => LOCAL_ERROR,
        },
        _ => LOCAL_ERROR,
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { code: kafka_code(&error), message: error.to_string() }
    }
}

async fn client(command: &Command, deadline_ms: i64) -> Result<Client, Failed> {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_millis(500),
        deadline: Some(Duration::from_millis(deadline_ms as u64)),
        ..BackoffConfig::default()
    };
    let bootstrap = vec![command.text("bootstrap").to_owned()];
    Ok(ClientBuilder::new(bootstrap).backoff_config(backoff).build().await?)
}

async fn partition(client: &Client, topic: &str, id: i32) -> Result<Arc<PartitionClient>, Failed> {
    Ok(Arc::new(client.partition_client(topic, id, UnknownTopicHandling::Error).await?))
}

fn sent(record: Record) -> Sent {
    let now = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    let millis = if record.timestamp < 0 { now } else { record.timestamp };
    let timestamp = Utc.timestamp_millis_opt(millis).single().unwrap_or_default();
    let headers =
        record.headers.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
    Sent { key: record.key, value: record.value, headers, timestamp }
}

async fn produce(command: &Command) -> Answer {
    let client = client(command, command.number_or("delivery_timeout_ms", 60_000)).await?;
    let compression = match command.text_or("codec", "none") {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::NoCompression,
    };
    let acks = Acks::create(command)?;
    let stopped = command.stopped();
    let mut partitions: BTreeMap<(String, i32), Arc<PartitionClient>> = BTreeMap::new();
    for record in records(command)? {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        let index = acks.next();
        // It has no partitioner.
        let at = (record.topic.clone(), record.partition.max(0));
        let known = match partitions.get(&at) {
            Some(known) => Ok(Arc::clone(known)),
            None => partition(&client, &at.0, at.1).await,
        };
        let told = match known {
            Ok(known) => {
                partitions.insert(at.clone(), Arc::clone(&known));
                known.produce(vec![sent(record)], compression).await.map_err(Failed::from)
            }
            Err(failed) => Err(failed),
        };
        match told {
            Ok(offsets) => acks.told(index, at.1, offsets[0], -1, 0),
            Err(failed) => {
                eprintln!("not produced: {}", failed.message);
                acks.told(index, -1, -1, -1, failed.code);
            }
        }
    }
    acks.close()
}

async fn consume(command: &Command) -> Answer {
    let deadline = Instant::now() + command.timeout();
    let client = client(command, 30_000).await?;
    let mut output = Output::create(command)?;
    let topics = client.list_topics().await?;
    let mut count = 0;
    for name in command.texts("topics") {
        let topic = topics.iter().find(|topic| topic.name == name);
        let topic = topic.ok_or_else(|| Failed { code: 3, message: format!("no topic {name}") })?;
        for id in &topic.partitions {
            let known = partition(&client, name, *id).await?;
            let end = known.get_offset(OffsetAt::Latest).await?;
            let mut next = match command.get("from_timestamp").and_then(|at| at.as_i64()) {
                Some(at) => offset_at(&known, at).await?,
                None => command.number_or("from_offset", known.get_offset(OffsetAt::Earliest).await?),
            };
            while (0..end).contains(&next) {
                if Instant::now() > deadline {
                    return Err(Failed::local(format!("timed out in {name}/{id} at {next} of {end}")));
                }
                for read in known.fetch_records(next, 1..4_194_304, 100).await?.0 {
                    next = read.offset + 1;
                    if read.offset >= end {
                        break;
                    }
                    output.write(&Record {
                        topic: name.to_owned(),
                        partition: *id,
                        offset: read.offset,
                        timestamp: read.record.timestamp.timestamp_millis(),
                        timestamp_type: -1,
                        key: read.record.key,
                        value: read.record.value,
                        headers: read.record.headers.into_iter().map(|(k, v)| (k, Some(v))).collect(),
                    })?;
                    count += 1;
                }
            }
        }
    }
    output.flush()?;
    Ok(json!({"records": count}))
}

async fn offset_at(known: &PartitionClient, millis: i64) -> Result<i64, Failed> {
    let at = Utc.timestamp_millis_opt(millis).single().unwrap_or_default();
    Ok(known.get_offset(OffsetAt::Timestamp(at)).await?)
}

async fn list_offsets(command: &Command) -> Answer {
    let client = client(command, 30_000).await?;
    let mut offsets = Vec::new();
    for id in command.partitions() {
        let known = partition(&client, command.text("topic"), id).await?;
        let offset = match command.text("at") {
            "earliest" => known.get_offset(OffsetAt::Earliest).await?,
            "latest" => known.get_offset(OffsetAt::Latest).await?,
            at => offset_at(&known, at.parse().map_err(Failed::local)?).await?,
        };
        offsets.push(json!({"partition": id, "offset": offset, "timestamp": -1}));
    }
    Ok(json!({"offsets": offsets}))
}
