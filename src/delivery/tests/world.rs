//! Deliveries on a simulated machine: a store without threads, topics that are just queues, paused
//! time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter};
use uuid::Uuid;

use super::leases::seconds;
use crate::config::{Config, LiveConfig};
use crate::delivery::look::{Look, ScanFrom, look};
use crate::delivery::{
    Catalog, DeadLetterTopic, Delivered, Deliveries, GroupSettings, Message, NoDeadLetterTopic,
    ReceiveError, ReceiveRequest, TagFilter, TopicView, Unavailable, dead_letter_name,
};
use crate::env::Env;
use crate::env::sim::{self, SimHandles};
use crate::model::{QueueId, TopicId};
use crate::partition::{Partitions, ShardSequencer};
use crate::store::loss::lose_frame_of;
use crate::store::{OnDamage, OpenError, Store, StoreConfig};

pub(super) const ORDERS: TopicId = TopicId(Uuid::from_u128(1));
pub(super) const GROUP: &str = "shop";
pub(super) const DEAD: QueueId = QueueId(99);

/// What topics there are, and what groups have set.
#[derive(Debug)]
pub(super) struct Topics {
    pub(super) topics: Mutex<BTreeMap<TopicId, TopicView>>,
    pub(super) settings: Mutex<GroupSettings>,
    /// Whether dead letters have a topic.
    pub(super) takes_dead_letters: Mutex<bool>,
}

fn view(id: TopicId, name: &str, queues: &[u32]) -> TopicView {
    let queues = queues.iter().map(|queue| QueueId(*queue)).collect();
    TopicView { id, name: name.into(), queues, log_append_time: false }
}

impl Topics {
    pub(super) fn new(settings: GroupSettings) -> Self {
        let other = TopicId(Uuid::from_u128(2));
        let topics =
            [(ORDERS, view(ORDERS, "orders", &[10, 11])), (other, view(other, "other", &[20]))];
        Self {
            topics: Mutex::new(BTreeMap::from(topics)),
            settings: Mutex::new(settings),
            takes_dead_letters: Mutex::new(true),
        }
    }
}

impl Catalog for Topics {
    fn topic(&self, id: TopicId) -> Option<TopicView> {
        self.topics.lock().unwrap().get(&id).cloned()
    }

    fn topic_named(&self, name: &str) -> Option<TopicView> {
        let topics = self.topics.lock().unwrap();
        topics.values().find(|view| &*view.name == name).cloned()
    }

    fn partition_of(&self, key: &[u8], partitions: usize) -> usize {
        key.len() % partitions
    }

    fn settings(&self, _group: &str) -> GroupSettings {
        *self.settings.lock().unwrap()
    }

    fn dead_letter_topic(&self, group: &str) -> DeadLetterTopic {
        let name = dead_letter_name(group);
        let made = if *self.takes_dead_letters.lock().unwrap() {
            let id = TopicId(Uuid::from_u128(3));
            let made = view(id, &name, &[DEAD.0]);
            self.topics.lock().unwrap().insert(id, made.clone());
            Ok(made)
        } else {
            Err(NoDeadLetterTopic { topic: name, why: "there is no room for topics".into() })
        };
        Box::pin(async move { made })
    }
}

pub(super) struct World {
    pub(super) env: Env,
    pub(super) sim: SimHandles,
    pub(super) _store: Store,
    pub(super) partitions: Partitions,
    pub(super) topics: Arc<Topics>,
    pub(super) deliveries: Deliveries,
}

fn store_config() -> StoreConfig {
    StoreConfig {
        segment_size_bytes: 512 << 10,
        chunk_size_bytes: 16 << 10,
        ring_size_bytes: 256 << 10,
        group_size_bytes_max: 128 << 10,
        unsynced_size_bytes_max: 128 << 10,
        reserve_bytes: 0,
        zero_ahead_bytes: 0,
        ..StoreConfig::new("/data/0".into(), Uuid::from_u128(7))
    }
}

/// A record to be produced: key, tag, value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) key: Option<&'a str>,
    pub(super) tag: Option<&'a str>,
    pub(super) value: &'a str,
}

impl World {
    pub(super) async fn start(settings: GroupSettings) -> Self {
        let (env, sim) = sim::env(1);
        let world = Self::on(env, sim, Arc::new(Topics::new(settings))).unwrap();
        world.loaded().await;
        world
    }

    pub(super) fn on(env: Env, sim: SimHandles, topics: Arc<Topics>) -> Result<Self, OpenError> {
        Self::with(env, sim, topics, OnDamage::RefuseAppends)
    }

    fn with(
        env: Env,
        sim: SimHandles,
        topics: Arc<Topics>,
        on_damage: OnDamage,
    ) -> Result<Self, OpenError> {
        let broker = Config::of(&[("log.dir", "/data")]).unwrap();
        let live = Arc::new(LiveConfig::new(Arc::new(broker)));
        let sequencer = Box::new(ShardSequencer::new(live));
        let store =
            Store::open_inline(&env, StoreConfig { on_damage, ..store_config() }, sequencer)?;
        let driver = store.driver();
        drop(env.spawner.connection(async move {
            while driver.run().is_ok() {
                driver.work().await;
            }
        }));
        let partitions = Partitions::new(store.handle(), env.clone());
        let catalog = Arc::<Topics>::clone(&topics);
        let deliveries = Deliveries::start(&env, partitions.clone(), catalog);
        Ok(Self { env, sim, _store: store, partitions, topics, deliveries })
    }

    pub(super) async fn loaded(&self) {
        while self.deliveries.groups().await == Err(Unavailable::Loading) {
            seconds(1).await;
        }
    }

    /// `kill -9` and another start.
    pub(super) async fn restart(self) -> Self {
        let (env, sim) = self.sim.restart();
        let world = Self::on(env, sim, Arc::clone(&self.topics)).unwrap();
        world.loaded().await;
        world
    }

    /// The next start, which accepts what the disk has lost. Nothing is written to it before the
    /// deliveries are there, as a broker sees to.
    pub(super) async fn restart_accepting_loss(self) -> Self {
        let (env, sim) = self.sim.restart();
        let world = Self::with(env, sim, Arc::clone(&self.topics), OnDamage::AcceptLoss).unwrap();
        world.deliveries.loaded().await;
        world
    }

    /// Destroys the header of the frame that holds a text.
    pub(super) fn lose_frame_of(&self, text: &str) {
        lose_frame_of(&self.env, &self.sim, Path::new("/data/0"), text);
    }

    pub(super) async fn produce_all(&self, queue: u32, records: &[Record<'_>]) {
        self.append(queue, records).await.unwrap();
    }

    pub(super) async fn produce(&self, queue: u32, values: &[&str]) {
        self.try_produce(queue, values).await.unwrap();
    }

    /// Says whether the records are durable.
    pub(super) async fn try_produce(&self, queue: u32, values: &[&str]) -> Result<(), ()> {
        let records: Vec<Record<'_>> =
            values.iter().map(|value| Record { key: None, tag: None, value }).collect();
        self.append(queue, &records).await
    }

    async fn append(&self, queue: u32, records: &[Record<'_>]) -> Result<(), ()> {
        let mut writer = BatchWriter::new(BatchSpec::default());
        let now_ms = self.env.clock.wall_ms();
        for Record { key, tag, value } in records {
            let tag = tag.map(|tag| (&b"TAGS"[..], Some(tag.as_bytes())));
            let (key, value) = (key.map(str::as_bytes), Some(value.as_bytes()));
            writer.append(now_ms, key, value, tag.as_slice()).unwrap();
        }
        let batch = writer.finish().unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        let appended = self.partitions.append(now_ms, QueueId(queue), &batch, &header);
        self.partitions.wait_durable(appended.map_err(drop)?.end).await.map_err(drop)
    }

    pub(super) async fn try_receive(
        &self,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivered>, ReceiveError> {
        self.deliveries.receive(request).await
    }

    /// What there is at once, up to 32, invisible for 30 s.
    pub(super) async fn receive(&self) -> Vec<Delivered> {
        self.try_receive(request()).await.unwrap()
    }

    /// The same, or nothing if that is refused.
    pub(super) async fn receive_or_nothing(&self) -> Vec<Delivered> {
        self.try_receive(request()).await.unwrap_or_default()
    }

    pub(super) async fn ack(&self, delivered: &[Delivered]) {
        let handles: Vec<&str> = delivered.iter().map(|d| &*d.handle).collect();
        let answers = self.deliveries.ack(GROUP, &handles).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }

    /// Everything that a reader of a queue sees.
    pub(super) async fn read(&self, queue: QueueId) -> Vec<Message> {
        let mut read = Vec::new();
        let mut from = 0;
        loop {
            let scan = ScanFrom { from, filter: TagFilter::All, is_ordered: false };
            let asked = Look { queue, again: Vec::new(), scan: Some(scan) };
            let looked = look(&self.env, &self.partitions, asked).await.unwrap();
            read.extend(looked.fresh.into_iter().filter_map(|(_, message)| message));
            if looked.seen_to == Some(from) {
                return read;
            }
            from = looked.seen_to.unwrap();
        }
    }
}

pub(super) fn request() -> ReceiveRequest {
    ReceiveRequest {
        group: GROUP.into(),
        topic: ORDERS,
        max: 32,
        invisible_ms: 30_000,
        wait: Duration::ZERO,
        filter: TagFilter::All,
        attempt_id: None,
    }
}

pub(super) fn value(message: &Message) -> String {
    String::from_utf8(message.value.as_deref().unwrap().to_vec()).unwrap()
}

pub(super) fn values(delivered: &[Delivered]) -> Vec<String> {
    let mut values: Vec<String> = delivered.iter().map(|d| value(&d.message)).collect();
    values.sort_unstable();
    values
}
