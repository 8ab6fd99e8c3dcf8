//! A store on a simulated disk, the engine on it, and topics that come and go as a test says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{Config, LiveConfig};
use crate::env::Env;
use crate::env::sim::{self, SimHandles};
use crate::model::{QueueId, TopicId};
use crate::partition::{Partitions, ShardSequencer};
use crate::store::loss::lose_frame_of;
use crate::store::{Driver, OnDamage, Store, StoreConfig};
use crate::timer::message::Message;
use crate::timer::{
    Destination, Destinations, Limits, NewTimer, ScheduleError, Target, TimerId, Timers, read,
};

/// Where messages without a topic go.
pub(super) const DISCARD: QueueId = QueueId(99);

/// The topics there are.
#[derive(Debug, Default)]
pub(super) struct Topics {
    pub(super) queues: Mutex<BTreeMap<i32, QueueId>>,
    pub(super) has_discard: Mutex<bool>,
}

impl Destinations for Topics {
    fn resolve(&self, target: Target) -> Option<Destination> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = *queues.get(&target.partition)?;
        Some(Destination { queue, log_append_time: false })
    }

    fn discard(&self) -> Option<Destination> {
        let has = *self.has_discard.lock().unwrap_or_else(PoisonError::into_inner);
        has.then_some(Destination { queue: DISCARD, log_append_time: false })
    }
}

pub(super) struct World {
    pub(super) env: Env,
    pub(super) sim: SimHandles,
    pub(super) topics: Arc<Topics>,
    pub(super) partitions: Partitions,
    pub(super) timers: Timers,
    store: Store,
    stopping: watch::Sender<bool>,
    segment_size_bytes: u64,
}

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Consumed {
    pub(super) timestamp: i64,
    pub(super) key: Option<String>,
    pub(super) value: String,
    pub(super) headers: Vec<(String, String)>,
}

pub(super) fn target(partition: i32) -> Target {
    Target { topic: TopicId(Uuid::from_u128(5)), partition }
}

pub(super) fn timer(due_ms: i64, partition: i32, value: &str) -> NewTimer<'_> {
    NewTimer {
        due_ms,
        target: target(partition),
        topic_name: "pay",
        born_ms: 77,
        key: Some(b"key"),
        value: Some(value.as_bytes()),
        headers: vec![(b"TAGS", Some(b"red"))],
    }
}

impl World {
    pub(super) async fn start() -> Self {
        Self::sized(16 << 10).await
    }

    pub(super) async fn sized(segment_size_bytes: u64) -> Self {
        let (env, sim) = sim::env(1);
        let topics = Arc::new(Topics::default());
        *topics.has_discard.lock().unwrap() = true;
        topics.queues.lock().unwrap().extend([(0, QueueId(1)), (1, QueueId(2))]);
        Self::on(env, sim, topics, segment_size_bytes).await.expect("the engine starts")
    }

    /// None where the disk does not play along.
    pub(super) async fn on(
        env: Env,
        sim: SimHandles,
        topics: Arc<Topics>,
        segment_size_bytes: u64,
    ) -> Option<Self> {
        Self::with(env, sim, topics, segment_size_bytes, OnDamage::RefuseAppends).await
    }

    /// The next start, which accepts what the disk has lost.
    pub(super) async fn restart_accepting_loss(self) -> Self {
        let (env, sim) = self.sim.restart();
        let (topics, size) = (Arc::clone(&self.topics), self.segment_size_bytes);
        self.end();
        Self::with(env, sim, topics, size, OnDamage::AcceptLoss).await.expect("the engine starts")
    }

    /// Destroys the header of the frame that holds a text.
    pub(super) fn lose_frame_of(&self, text: &str) {
        lose_frame_of(&self.env, &self.sim, Path::new("/data/0"), text);
    }

    async fn with(
        env: Env,
        sim: SimHandles,
        topics: Arc<Topics>,
        segment_size_bytes: u64,
        on_damage: OnDamage,
    ) -> Option<Self> {
        let small = usize::try_from(segment_size_bytes / 4).unwrap();
        let config = StoreConfig {
            segment_size_bytes,
            chunk_size_bytes: 4 << 10,
            ring_size_bytes: small.max(12 << 10),
            group_size_bytes_max: segment_size_bytes / 2,
            unsynced_size_bytes_max: segment_size_bytes / 2,
            reserve_bytes: 0,
            zero_ahead_bytes: 0,
            on_damage,
            ..StoreConfig::new(PathBuf::from("/data/0"), Uuid::from_u128(3))
        };
        let live = Arc::new(LiveConfig::new(Arc::new(Config::of(&[]).unwrap())));
        let sequencer = Box::new(ShardSequencer::new(live));
        let store = Store::open_inline(&env, config, sequencer).ok()?;
        let has_lost = !store.damage().is_empty();
        drop(env.spawner.connection(drive(store.driver())));
        let partitions = Partitions::new(store.handle(), env.clone());
        let (stopping, stopped) = watch::channel(false);
        let limits = Limits {
            delay_max_ms: 1_000_000_000,
            scheduled_size_bytes_max: small,
            delivered_size_bytes_max: small / 2,
        };
        let destinations = Arc::<Topics>::clone(&topics);
        let timers =
            Timers::start(&env, partitions.clone(), destinations, limits, has_lost, stopped)
                .await
                .ok()?;
        Some(Self { env, sim, topics, partitions, timers, store, stopping, segment_size_bytes })
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.env.clock.wall_ms()
    }

    pub(super) async fn schedule(
        &self,
        delay_ms: i64,
        partition: i32,
        value: &str,
    ) -> Result<TimerId, ScheduleError> {
        let due_ms = self.now_ms() + delay_ms;
        Ok(self.timers.schedule(&[timer(due_ms, partition, value)]).await?.remove(0))
    }

    /// Lets the machine go on for a while.
    pub(super) async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    pub(super) async fn consumed(&self, queue: QueueId) -> Vec<Consumed> {
        let behind = self.partitions.offsets(queue).high_watermark.0;
        let mut consumed = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let visit = |record: &braid_protocol::records::Record<'_>| {
            let headers = record.headers.iter();
            consumed.push(Consumed {
                timestamp: record.timestamp,
                key: record.key.map(text),
                value: record.value.map(text).unwrap(),
                headers: headers.map(|(k, v)| (text(k), v.map(text).unwrap())).collect(),
            });
            true
        };
        read::records(&self.partitions, queue, 0..behind, visit).await.unwrap();
        consumed
    }

    pub(super) async fn values(&self, queue: QueueId) -> Vec<String> {
        self.consumed(queue).await.into_iter().map(|record| record.value).collect()
    }

    /// What the table knows of a message's record.
    pub(super) async fn message(&self, id: TimerId) -> Message {
        self.timers.get(id).await.unwrap().message
    }

    /// Ends this life as a process that is killed.
    pub(super) async fn restart(self) -> Self {
        let (env, sim) = self.sim.restart();
        let (topics, size) = (Arc::clone(&self.topics), self.segment_size_bytes);
        self.end();
        Self::on(env, sim, topics, size).await.expect("the engine starts again")
    }

    pub(super) fn end(self) {
        self.stopping.send_replace(true);
        drop(self.store);
    }
}

async fn drive(driver: Driver) {
    loop {
        match driver.run() {
            Err(_) => return,
            Ok(true) => tokio::select! {
                () = driver.work() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            },
            Ok(false) => driver.work().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_wall_clock_of_the_machine_goes_with_the_sleeps_of_its_tasks() {
    let world = World::start().await;
    let before_ms = world.now_ms();
    world.pass(1_500).await;
    assert_eq!(world.now_ms(), before_ms + 1_500);
}
