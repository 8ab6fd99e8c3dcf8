//! Half messages on a simulated machine: a store without threads, topics that are just queues,
//! paused time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use braid_protocol::records::{self, BatchSpec, BatchWriter, Batches, Codec, RecordReader};
use bytes::Bytes;
use uuid::Uuid;

use super::engine::pause;
use crate::config::{Config, HalfConfig, LiveConfig};
use crate::env::Env;
use crate::env::sim::{self, SimHandles};
use crate::half::{
    Decision, Discard, End, EndError, Ender, HalfSent, Halves, Message, SendError, SendHalf,
    Target, Targets, TransactionId, Unavailable,
};
use crate::model::{Offset, QueueId, TopicId};
use crate::partition::{Partitions, ShardSequencer};
use crate::store::{OpenError, Store, StoreConfig};

pub(super) const CONFIG: HalfConfig = HalfConfig {
    first_check: Duration::from_secs(6),
    check_interval: Duration::from_secs(30),
    checks_max: 3,
    age_max: Duration::from_secs(4 * 3600),
};
pub(super) const ORDERS: TopicId = TopicId(Uuid::from_u128(1));
/// A topic whose records carry the time of the append.
pub(super) const STAMPED: TopicId = TopicId(Uuid::from_u128(2));
/// A topic whose records are compressed by the broker.
pub(super) const PACKED: TopicId = TopicId(Uuid::from_u128(3));
pub(super) const DISCARD: QueueId = QueueId(99);

/// What topics there are.
#[derive(Debug)]
pub(super) struct Topics {
    pub(super) targets: Mutex<BTreeMap<(TopicId, i32), Target>>,
    pub(super) discard: Mutex<Option<Target>>,
}

impl Topics {
    fn new() -> Self {
        let target = |queue, log_append_time| Target {
            queue: QueueId(queue),
            log_append_time,
            compression: None,
        };
        let zstd = Some(records::Target { codec: Codec::Zstd, level: None });
        let targets = BTreeMap::from([
            ((ORDERS, 0), target(10, false)),
            ((ORDERS, 1), target(11, false)),
            ((STAMPED, 0), target(20, true)),
            ((PACKED, 0), Target { compression: zstd, ..target(30, true) }),
        ]);
        let discard = Some(target(DISCARD.0, false));
        Self { targets: Mutex::new(targets), discard: Mutex::new(discard) }
    }
}

impl Targets for Topics {
    fn target(&self, topic: TopicId, partition: i32) -> Option<Target> {
        self.targets.lock().unwrap().get(&(topic, partition)).copied()
    }

    fn discard(&self) -> Discard<'_> {
        let discard = *self.discard.lock().unwrap();
        Box::pin(async move { discard })
    }
}

pub(super) struct World {
    pub(super) env: Env,
    pub(super) sim: SimHandles,
    pub(super) _store: Store,
    pub(super) partitions: Partitions,
    pub(super) topics: Arc<Topics>,
    pub(super) halves: Halves,
}

/// A record as a reader of its partition sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) offset: Offset,
    pub(super) timestamp: i64,
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) headers: Vec<(String, Option<String>)>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.and_then(|(_, value)| value.as_deref())
    }
}

fn store_config() -> StoreConfig {
    StoreConfig {
        segment_size_bytes: 64 << 10,
        chunk_size_bytes: 4 << 10,
        ring_size_bytes: 16 << 10,
        group_size_bytes_max: 16 << 10,
        unsynced_size_bytes_max: 16 << 10,
        reserve_bytes: 0,
        zero_ahead_bytes: 0,
        ..StoreConfig::new("/data/0".into(), Uuid::from_u128(7))
    }
}

impl World {
    pub(super) async fn start() -> Self {
        let world = Self::loading();
        world.loaded().await;
        world
    }

    /// A world whose halves are not read back yet.
    pub(super) fn loading() -> Self {
        let (env, sim) = sim::env(1);
        Self::on(env, sim, Arc::new(Topics::new()), CONFIG).unwrap()
    }

    pub(super) fn on(
        env: Env,
        sim: SimHandles,
        topics: Arc<Topics>,
        config: HalfConfig,
    ) -> Result<Self, OpenError> {
        let broker = Config::of(&[("log.dir", "/data")]).unwrap();
        let live = Arc::new(LiveConfig::new(Arc::new(broker)));
        let sequencer = Box::new(ShardSequencer::new(live));
        let store = Store::open_inline(&env, store_config(), sequencer)?;
        let driver = store.driver();
        let drive = async move {
            while driver.run().is_ok() {
                driver.work().await;
            }
        };
        drop(env.spawner.connection(drive));
        let partitions = Partitions::new(store.handle(), env.clone());
        let halves =
            Halves::start(&env, config, &partitions, Arc::<Topics>::clone(&topics) as Arc<_>);
        Ok(Self { env, sim, _store: store, partitions, topics, halves })
    }

    pub(super) async fn loaded(&self) {
        while self.halves.counts().await == Err(Unavailable::Loading) {
            pause(Duration::from_millis(10)).await;
        }
    }

    /// `kill -9` and another start.
    pub(super) async fn restart(self) -> Self {
        let (env, sim) = self.sim.restart();
        let world = Self::on(env, sim, Arc::clone(&self.topics), CONFIG).unwrap();
        world.loaded().await;
        world
    }

    pub(super) async fn send(&self, value: &str) -> HalfSent {
        self.halves.send(half(value)).await.unwrap()
    }

    pub(super) async fn try_send(&self, half: SendHalf) -> Result<HalfSent, SendError> {
        self.halves.send(half).await
    }

    pub(super) async fn commit(&self, id: TransactionId) -> Result<End, EndError> {
        self.halves.end(id, Decision::Commit, Ender::Producer, None).await
    }

    pub(super) async fn roll_back(&self, id: TransactionId) -> Result<End, EndError> {
        self.halves.end(id, Decision::Rollback, Ender::Producer, None).await
    }

    /// The values of the halves that a poll is asked about, and which check of each it is.
    pub(super) async fn checks(&self, max: usize, wait: Duration) -> Vec<(String, u16)> {
        let checks = self.halves.poll_checks("shop", max, wait).await.unwrap();
        let value = |value: Option<Bytes>| text(&value.unwrap());
        checks.into_iter().map(|c| (value(c.half.message.value), c.number)).collect()
    }

    pub(super) fn topics() -> Arc<Topics> {
        Arc::new(Topics::new())
    }

    pub(super) async fn produce(&self, queue: QueueId, value: &str) {
        assert!(self.try_produce(queue, value).await);
    }

    /// Appends a record to a partition as another producer does; whether it is durable.
    pub(super) async fn try_produce(&self, queue: QueueId, value: &str) -> bool {
        let mut writer = BatchWriter::new(BatchSpec::default());
        writer.append(0, None, Some(value.as_bytes()), &[]).unwrap();
        let batch = writer.finish().unwrap();
        let header = Batches::new(batch.clone()).next().unwrap().unwrap().0;
        let now_ms = self.env.clock.wall_ms();
        self.partitions.room(batch.len()).await;
        match self.partitions.append(now_ms, queue, &batch, &header) {
            Ok(appended) => self.partitions.wait_durable(appended.end).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Everything that a reader of a partition sees.
    pub(super) async fn read(&self, queue: QueueId) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut from = self.partitions.offsets(queue).log_start;
        while from < self.partitions.offsets(queue).high_watermark {
            let fetched = self.partitions.read(queue, from, 1 << 20, true).await.unwrap();
            for batch in Batches::new(Bytes::from(fetched.batches.concat())) {
                let (header, batch) = batch.unwrap();
                assert!(header.crc_matches(&batch), "{header:?}");
                let reader = RecordReader::open(&batch, 1 << 20).unwrap();
                seen.extend(reader.records().map(|record| seen_of(record.unwrap())));
                from = Offset(header.next_offset());
            }
        }
        seen
    }

    /// Flips a bit of a text where it is first in a file of the log.
    pub(super) fn damage(&self, text: &str) {
        let dir = std::path::Path::new("/data/0");
        let mut damaged = 0;
        for entry in self.env.fs.list(dir).unwrap() {
            let path = dir.join(&entry.name);
            if !entry.name.ends_with(".log") {
                continue;
            }
            let bytes = self.env.fs.read_all(&path).unwrap();
            let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = at {
                let at = at as u64;
                self.sim.fs.flip_bit(&path, at, 1).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0, "{text} is not on the disk");
    }

    pub(super) async fn values(&self, queue: QueueId) -> Vec<String> {
        self.read(queue).await.into_iter().filter_map(|seen| seen.value).collect()
    }
}

fn seen_of(record: records::Record<'_>) -> Seen {
    Seen {
        offset: Offset(record.offset),
        timestamp: record.timestamp,
        key: record.key.map(text),
        value: record.value.map(text),
        headers: record.headers.iter().map(|(name, value)| (text(name), value.map(text))).collect(),
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A half message of the group `shop` for partition 0 of the topic `orders`.
pub(super) fn half(value: &str) -> SendHalf {
    SendHalf {
        topic_id: ORDERS,
        topic: "orders".to_owned(),
        partition: 0,
        group: "shop".to_owned(),
        message_id: None,
        immunity_ms: 0,
        message: Message {
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: vec![(Bytes::from_static(b"TAGS"), Some(Bytes::from_static(b"new")))],
        },
    }
}
