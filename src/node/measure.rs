//! What `benches/native.rs` measures: the engines of native messaging and plain appends and reads,
//! each on the same bare log, without sockets, JSON or metadata.
//!
//! Part of the library only so that a bench can reach it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter};
use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{Config, LiveConfig};
use crate::delivery::{
    Catalog, DeadLetterTopic, Deliveries, GroupSettings, NoDeadLetterTopic, ReceiveRequest,
    TagFilter, TopicView, dead_letter_name,
};
use crate::env::{Env, real};
use crate::half::{Decision, Discard, Ender, Halves, Message, SendHalf, Targets};
use crate::model::{Offset, QueueId, TopicId};
use crate::partition::{Partitions, ShardSequencer};
use crate::store::{Store, StoreConfig};
use crate::timer::{Destination, Destinations, Limits, NewTimer, Target, Timers};

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
/// Partitions of the one topic there is.
const PARTITIONS: u32 = 4;
const READ_SIZE_BYTES: usize = 1 << 20;

/// A log with the engines on it.
#[derive(Debug)]
pub struct Bench {
    env: Env,
    partitions: Partitions,
    halves: Halves,
    timers: Timers,
    deliveries: Deliveries,
    value: Bytes,
    _store: Store,
    _stopping: watch::Sender<bool>,
}

/// One topic, whose partition `n` is queue `n`.
#[derive(Debug)]
struct OneTopic;

fn queue(partition: i32) -> QueueId {
    QueueId(partition.unsigned_abs() % PARTITIONS)
}

impl Targets for OneTopic {
    fn target(&self, _topic: TopicId, partition: i32) -> Option<crate::half::Target> {
        let queue = queue(partition);
        Some(crate::half::Target { queue, log_append_time: false, compression: None })
    }

    fn discard(&self) -> Discard<'_> {
        Box::pin(std::future::ready(None))
    }
}

impl Destinations for OneTopic {
    fn resolve(&self, target: Target) -> Option<Destination> {
        Some(Destination { queue: queue(target.partition), log_append_time: false })
    }

    fn discard(&self) -> Option<Destination> {
        None
    }
}

impl Catalog for OneTopic {
    fn topic(&self, id: TopicId) -> Option<TopicView> {
        let queues: Arc<[QueueId]> = (0..PARTITIONS).map(QueueId).collect();
        Some(TopicView { id, name: Arc::from("t"), queues, log_append_time: false })
    }

    fn topic_named(&self, _name: &str) -> Option<TopicView> {
        self.topic(TOPIC)
    }

    fn settings(&self, _group: &str) -> GroupSettings {
        GroupSettings::default()
    }

    fn partition_of(&self, _key: &[u8], _partitions: usize) -> usize {
        0
    }

    fn dead_letter_topic(&self, group: &str) -> DeadLetterTopic {
        let none = NoDeadLetterTopic { topic: dead_letter_name(group), why: String::new() };
        Box::pin(std::future::ready(Err(none)))
    }
}

/// Why a measurement stopped: what an engine or the log said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(String);

fn stopped(error: &(impl std::fmt::Debug + ?Sized)) -> Stopped {
    Stopped(format!("{error:?}"))
}

impl Bench {
    /// Opens a fresh log in a directory; messages have values of so many bytes. Runs on the current
    /// runtime.
    ///
    /// # Errors
    /// The directory is no place for a log.
    pub async fn open(dir: &Path, value_size_bytes: usize) -> Result<Self, Stopped> {
        let env = real::env();
        let config = Arc::new(Config::of(&[]).map_err(|error| stopped(&error))?);
        let live = Arc::new(LiveConfig::new(Arc::clone(&config)));
        let store_config = StoreConfig::new(dir.to_owned(), Uuid::from_u128(7));
        let store = Store::open(&env, store_config, Box::new(ShardSequencer::new(live)))
            .map_err(|error| stopped(&error))?;
        let partitions = Partitions::new(store.handle(), env.clone());
        let (stopping, stopped_at) = watch::channel(false);
        let limits = Limits {
            delay_max_ms: i64::MAX / 2,
            scheduled_size_bytes_max: 16 << 20,
            delivered_size_bytes_max: 1 << 20,
        };
        let timers =
            Timers::start(&env, partitions.clone(), Arc::new(OneTopic), limits, false, stopped_at)
                .await
                .map_err(|error| stopped(&error))?;
        let halves = Halves::start(&env, config.half, &partitions, Arc::new(OneTopic));
        let deliveries =
            Deliveries::start(&env, partitions.clone(), Arc::new(OneTopic)).with_receive_max(1_000);
        while let Err(crate::half::Unavailable::Loading) = halves.counts().await {
            tokio::task::yield_now().await;
        }
        while let Err(crate::delivery::Unavailable::Loading) = deliveries.groups().await {
            tokio::task::yield_now().await;
        }
        Ok(Self {
            env,
            partitions,
            halves,
            timers,
            deliveries,
            value: Bytes::from(vec![b'v'; value_size_bytes]),
            _store: store,
            _stopping: stopping,
        })
    }

    /// A batch of so many messages.
    fn batch(&self, messages: usize) -> Result<Bytes, Stopped> {
        let mut writer = BatchWriter::new(BatchSpec::default());
        for _ in 0..messages {
            writer
                .append(self.env.clock.wall_ms(), Some(b"key"), Some(&self.value), &[])
                .map_err(|error| stopped(&error))?;
        }
        writer.finish().map_err(|error| stopped(&error))
    }

    /// Sends so many messages, one after the other, each in a batch of `batch`.
    ///
    /// # Errors
    /// The log refuses.
    pub async fn produce(&self, messages: usize, batch: usize) -> Result<(), Stopped> {
        for n in 0..messages.div_ceil(batch) {
            let bytes = self.batch(batch)?;
            let header = BatchHeader::parse(&bytes).map_err(|error| stopped(&error))?;
            self.partitions.room(bytes.len()).await;
            let partition = i32::try_from(n).unwrap_or(0);
            let now_ms = self.env.clock.wall_ms();
            let appended = self
                .partitions
                .append(now_ms, queue(partition), &bytes, &header)
                .map_err(|error| stopped(&error))?;
            self.partitions.wait_durable(appended.end).await.map_err(|error| stopped(&error))?;
        }
        Ok(())
    }

    /// Reads all partitions from their beginnings; how many messages they hold.
    ///
    /// # Errors
    /// The log does not read.
    pub async fn consume(&self) -> Result<usize, Stopped> {
        let mut messages = 0;
        for queue in (0..PARTITIONS).map(QueueId) {
            let mut from = Offset::ZERO;
            loop {
                let fetched = self.partitions.read(queue, from, READ_SIZE_BYTES, true).await;
                let fetched = fetched.map_err(|error| stopped(&error))?;
                let bytes = fetched.batches.concat();
                let mut rest = bytes.as_slice();
                while let Ok(header) = BatchHeader::parse(rest) {
                    messages += usize::try_from(header.records_count).unwrap_or(0);
                    from = Offset(header.base_offset + i64::from(header.last_offset_delta) + 1);
                    rest = rest.get(header.size_bytes()..).unwrap_or_default();
                }
                if bytes.is_empty() {
                    break;
                }
            }
        }
        Ok(messages)
    }

    /// Sends so many half messages, one after the other, and commits each if so told.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn halves(&self, messages: usize, commit: bool) -> Result<(), Stopped> {
        for n in 0..messages {
            let half = SendHalf {
                topic_id: TOPIC,
                topic: "t".to_owned(),
                partition: i32::try_from(n).unwrap_or(0),
                group: "g".to_owned(),
                message_id: None,
                immunity_ms: 0,
                message: Message {
                    key: Some(Bytes::from_static(b"key")),
                    value: Some(self.value.clone()),
                    headers: Vec::new(),
                },
            };
            let sent = self.halves.send(half).await.map_err(|error| stopped(&error))?;
            if commit {
                self.halves
                    .end(sent.id, Decision::Commit, Ender::Producer, None)
                    .await
                    .map_err(|error| stopped(&error))?;
            }
        }
        Ok(())
    }

    /// Schedules so many messages, `batch` at once, that are due then.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn schedule(
        &self,
        messages: usize,
        batch: usize,
        due_ms: i64,
    ) -> Result<(), Stopped> {
        for n in 0..messages.div_ceil(batch) {
            let timer = NewTimer {
                due_ms,
                target: Target { topic: TOPIC, partition: i32::try_from(n).unwrap_or(0) },
                topic_name: "t",
                born_ms: 0,
                key: Some(b"key"),
                value: Some(&self.value),
                headers: Vec::new(),
            };
            let timers = vec![timer; batch];
            self.timers.schedule(&timers).await.map_err(|error| stopped(&error))?;
        }
        Ok(())
    }

    /// How many scheduled messages were delivered so far.
    pub fn fired(&self) -> u64 {
        self.timers.totals().delivered
    }

    /// Waits until the partitions hold so many messages in all.
    pub async fn delivered(&self, messages: i64) {
        let news = Arc::new(tokio::sync::Notify::new());
        let queues: Vec<QueueId> = (0..PARTITIONS).map(QueueId).collect();
        let subscribed: Vec<_> =
            queues.iter().map(|queue| self.partitions.subscribe(*queue, &news)).collect();
        let held = || queues.iter().map(|it| self.partitions.offsets(*it).high_watermark.0);
        while held().sum::<i64>() < messages {
            news.notified().await;
        }
        drop(subscribed);
    }

    /// Receives and acknowledges what the partitions hold, `batch` at once; how many that were.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn pop(&self, group: &str, batch: usize) -> Result<usize, Stopped> {
        let mut messages = 0;
        loop {
            let request = ReceiveRequest {
                group: Arc::from(group),
                topic: TOPIC,
                max: batch,
                invisible_ms: 60_000,
                wait: Duration::ZERO,
                filter: TagFilter::All,
                attempt_id: None,
            };
            let got = self.deliveries.receive(request).await.map_err(|error| stopped(&error))?;
            if got.is_empty() {
                return Ok(messages);
            }
            messages += got.len();
            let handles: Vec<&str> = got.iter().map(|it| it.handle.as_str()).collect();
            for acked in self.deliveries.ack(group, &handles).await {
                acked.map_err(|error| stopped(&error))?;
            }
        }
    }
}
