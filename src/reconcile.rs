//! Makes this broker match the metadata image: drops the queues of deleted topics, forgets what
//! was kept beside them, puts changed settings of brokers in force, moves log starts by retention,
//! has the log cleaned, and gives space back.
//!
//! The only place that drops queues of topics. Queues need no creating: a queue that the image names comes
//! into being with its first append. A queue that the image does not name is dropped only if its
//! number was handed out before, so that metadata lost or behind never deletes data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use braid_raft::{MetadataDelta, MetadataImage, MetadataNode};
use tokio::sync::{Notify, watch};

use crate::config::{CompactionConfig, LiveConfig};
use crate::delivery::Deliveries;
use crate::env::Env;
use crate::group::GroupCoordinator;
use crate::model::{BrokerId, QueueId, ShardId, TopicId};
use crate::partition::{LedShard, Partitions, TopicSettingsCache, system};
use crate::replication::driver::{Opened, Shards};
use crate::store::{AppendError, CleanLimits, Cleaned, Compaction, MaintainError, Retention};
use crate::traffic::Traffic;

/// A round looks at every compacted partition: more often than this is of no use.
const CLEANER_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// How long deletions gather before their space is given back.
const TOGETHER: Duration = Duration::from_millis(500);

/// Why the log and the metadata do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The log holds a queue whose number was never handed out.
    #[error(
        "the log holds queue {queue}, but the metadata has handed out numbers below {next} only: \
         the metadata directory is missing or older than the log. Restore it; nothing was deleted"
    )]
    MetadataBehind {
        /// The queue.
        queue: QueueId,
        /// The next number the metadata would hand out.
        next: QueueId,
    },
}

/// At start: drops what was deleted while the broker could not, and refuses a log that is ahead of
/// its metadata.
///
/// # Errors
/// The log holds queues the metadata has never heard of.
pub(crate) fn adopt(image: &MetadataImage, partitions: &Partitions) -> Result<(), ReconcileError> {
    let next = image.next_queue_id();
    let is_ahead = |queue: &QueueId| *queue >= next && !system::is_system(*queue);
    if let Some(queue) = partitions.queues().into_iter().find(is_ahead) {
        return Err(ReconcileError::MetadataBehind { queue, next });
    }
    drop_unnamed(image, partitions);
    Ok(())
}

/// Drops the queues of topics that are gone: those left when the broker went down between, when a
/// drop was refused, or when a request that still knew the topic came too late.
fn drop_unnamed(image: &MetadataImage, partitions: &Partitions) {
    let next = image.next_queue_id();
    let unnamed = |queue: &QueueId| {
        let partition = system::receipts_of(*queue).unwrap_or(*queue);
        partition < next && image.queue(partition).is_none()
    };
    let gone: Vec<QueueId> = partitions.queues().into_iter().filter(unnamed).collect();
    for queue in gone {
        drop_queue(partitions, queue);
    }
}

fn drop_queue(partitions: &Partitions, queue: QueueId) {
    match partitions.drop_queue(queue) {
        Ok(()) => tracing::info!(%queue, "dropped the queue of a deleted topic"),
        // It never held anything.
        Err(AppendError::UnknownQueue(_)) => {}
        // Retention tries again.
        Err(error) => tracing::warn!(%queue, %error, "could not drop a queue"),
    }
}

/// What is kept in line with the image and the clock.
#[derive(Debug, Clone)]
pub(crate) struct Reconciler {
    pub(crate) env: Env,
    pub(crate) retention_check_interval: Duration,
    pub(crate) metadata: MetadataNode,
    pub(crate) partitions: Partitions,
    pub(crate) groups: GroupCoordinator,
    pub(crate) deliveries: Deliveries,
    pub(crate) topic_settings: Arc<TopicSettingsCache>,
    pub(crate) traffic: Arc<Traffic>,
    /// This broker's number, and its configuration in force.
    pub(crate) broker: BrokerId,
    pub(crate) live: Arc<LiveConfig>,
    /// A compacted topic that is kept short by those who write it.
    pub(crate) offsets_topic: &'static str,
    /// The replicas of this broker; none where there cannot be any.
    pub(crate) shards: Option<Shards>,
}

impl Reconciler {
    /// Follows the image and the clock until the broker stops.
    pub(crate) fn spawn(self, stopping: watch::Receiver<bool>) {
        let spawner = self.env.spawner.clone();
        let dropped = Dropped::default();
        let follow = follow(self.clone(), dropped.clone(), stopping.clone());
        drop(spawner.critical("reconcile", follow));
        let keep_clean = keep_clean(self.clone(), Arc::clone(&dropped.to_clean), stopping.clone());
        drop(spawner.critical("cleaner", keep_clean));
        drop(spawner.critical("retention", retain(self, dropped.to_recycle, stopping)));
    }
}

impl Reconciler {
    /// The replicated shards that this broker leads and all replicas of which are in sync. Only of
    /// those records are taken out: a replica that lacks what was there cannot be given it any more.
    fn whole_shards(&self, image: &MetadataImage) -> BTreeMap<ShardId, Arc<LedShard>> {
        let replicated = image.shards().filter(|shard| shard.is_replicated());
        let whole = replicated.filter(|it| it.in_sync().members.len() == it.replicas().len());
        whole.filter_map(|shard| Some((shard.id, self.partitions.led(shard.id)?))).collect()
    }

    /// Leads the groups of the partitions of the offsets topic that are on this broker, once the topic
    /// exists. Returns the topic for which that is done.
    async fn coordinate(&self, image: &MetadataImage, done: Option<TopicId>) -> Option<TopicId> {
        let topic = image.topic(self.offsets_topic)?;
        if !self.metadata.is_one_of_several() || done == Some(topic.id) {
            return done;
        }
        self.groups.spread_over(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
        for (number, partition) in (0..).zip(&topic.partitions) {
            if image.is_led_by(*partition, self.broker) {
                self.groups.lead(number).await;
            }
        }
        Some(topic.id)
    }
}

/// Told when queues were dropped.
#[derive(Debug, Clone, Default)]
struct Dropped {
    to_recycle: Arc<Notify>,
    to_clean: Arc<Notify>,
}

async fn follow(this: Reconciler, dropped: Dropped, mut stopping: watch::Receiver<bool>) {
    let mut images = this.metadata.watch();
    let mut seen = Arc::clone(&images.borrow_and_update());
    let mut coordinated = this.coordinate(&seen, None).await;
    loop {
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            changed = stopping.changed() => if changed.is_err() || *stopping.borrow() { return },
        }
        let image = Arc::clone(&images.borrow_and_update());
        if let Some(shards) = &this.shards {
            shards.follow(&image, Opened::default());
        }
        coordinated = this.coordinate(&image, coordinated).await;
        let delta = MetadataDelta::between(&seen, &image);
        if delta.broker_configs_changed {
            let (own, all) = (image.broker_configs(Some(this.broker)), image.broker_configs(None));
            this.live.follow(image.applied_index(), own, all);
        }
        for topic in &delta.deleted {
            this.topic_settings.forget(topic.id);
            this.traffic.forget(topic.id);
            for partition in &topic.partitions {
                drop_queue(&this.partitions, partition.queue);
                drop_queue(&this.partitions, system::receipts(partition.queue));
            }
            this.groups.topic_deleted(&topic.name, topic.id).await;
            if let Err(error) = this.deliveries.topic_deleted(topic.id).await {
                tracing::debug!(topic = %topic.name, %error, "deliveries of a deleted topic are forgotten later");
            }
        }
        if !delta.deleted.is_empty() {
            dropped.to_recycle.notify_one();
            dropped.to_clean.notify_one();
        }
        seen = image;
    }
}

/// Moves log starts and recycles segments, every `log.retention.check.interval.ms`; after a topic
/// was deleted its space comes back at once.
async fn retain(this: Reconciler, dropped: Arc<Notify>, mut stopping: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(this.retention_check_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is immediate: a broker that was down long frees its disk before anything else.
    loop {
        let work: fn(&Reconciler) = tokio::select! {
            _ = ticks.tick() => expire_all,
            () = dropped.notified() => {
                // Many topics often go together.
                tokio::time::sleep(TOGETHER).await;
                if *stopping.borrow() {
                    return;
                }
                recycle
            }
            changed = stopping.changed() => {
                if changed.is_err() || *stopping.borrow() {
                    return;
                }
                continue;
            }
        };
        let at_work = this.clone();
        if let Err(error) = this.env.spawner.blocking(move || work(&at_work)).await {
            tracing::warn!(%error, "retention did not run");
        }
    }
}

/// Compacts topics and gives space back, every now and then and after topics were deleted. A round
/// may take long, so retention does not wait for it.
async fn keep_clean(this: Reconciler, dropped: Arc<Notify>, mut stopping: watch::Receiver<bool>) {
    loop {
        let backoff = this.live.load().storage.cleaner.backoff.max(CLEANER_BACKOFF_MIN);
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = dropped.notified() => tokio::time::sleep(TOGETHER * 2).await,
            changed = stopping.changed() => if changed.is_err() { return },
        }
        if *stopping.borrow() {
            return;
        }
        let at_work = this.clone();
        match this.env.spawner.blocking(move || clean(&at_work)).await {
            Ok(Ok(Cleaned { merged: 0, compacted: 0 })) => {}
            Ok(Ok(Cleaned { merged, compacted })) => {
                tracing::info!(compacted, merged_segments = merged, "the log was cleaned");
            }
            Ok(Err(error)) => tracing::warn!(%error, "could not clean the log"),
            Err(error) => tracing::warn!(%error, "cleaning did not run"),
        }
    }
}

fn clean(this: &Reconciler) -> Result<Cleaned, MaintainError> {
    let cleaner = this.live.load().storage.cleaner;
    let limits = CleanLimits {
        bytes_per_second_max: cleaner.bytes_per_second_max,
        key_memory_bytes: cleaner.key_memory_bytes,
    };
    let image = this.metadata.image();
    let mut rules = Vec::new();
    for topic in image.topics().iter().filter(|topic| *topic.name != *this.offsets_topic) {
        let config = this.topic_settings.of(topic).config;
        if config.compact && cleaner.compacts {
            let rule = compaction(config.compaction);
            rules.extend(topic.partitions.iter().map(|partition| (partition.queue, rule)));
        }
    }
    this.partitions.clean(this.env.clock.wall_ms(), &rules, limits)
}

fn compaction(config: CompactionConfig) -> Compaction {
    let CompactionConfig {
        min_lag_ms,
        max_lag_ms,
        dirty_ratio_min,
        delete_retention_ms,
        head_age_ms,
        head_size_bytes,
    } = config;
    Compaction {
        min_lag_ms,
        max_lag_ms,
        dirty_ratio_min,
        delete_retention_ms,
        head_age_ms,
        head_size_bytes,
    }
}

fn expire_all(this: &Reconciler) {
    let image = this.metadata.image();
    drop_unnamed(&image, &this.partitions);
    let whole = this.whole_shards(&image);
    for led in whole.values() {
        drop_unnamed(&image, led.partitions());
        led.appended();
    }
    let now_ms = this.env.clock.wall_ms();
    let mut moved = 0_usize;
    for topic in image.topics().iter() {
        let config = this.topic_settings.of(topic).config;
        let size_bytes = config.retention_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let retention = Retention { age_ms: config.retention_ms, size_bytes };
        if retention == Retention::default() {
            continue;
        }
        for (index, partition) in topic.partitions.iter().enumerate() {
            let led = whole.get(&partition.shard);
            let partitions = led.map_or(&this.partitions, |led| led.partitions());
            match partitions.expire(partition.queue, now_ms, retention) {
                Ok(true) => {
                    moved += 1;
                    led.into_iter().for_each(|led| led.appended());
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(topic = %topic.name, index, %error, "retention failed");
                }
            }
        }
    }
    if moved > 0 {
        tracing::info!(partitions = moved, "retention moved log starts");
    }
    recycle(this);
}

fn recycle(this: &Reconciler) {
    if let Err(error) = this.partitions.recycle() {
        tracing::warn!(%error, "could not give space back");
    }
}
