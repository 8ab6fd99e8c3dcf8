//! What is measured, gathered at the moment of a scrape: from the metadata, the log and the groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use braid_protocol::api::{Api, SUPPORTED};
use braid_raft::image::{MetadataImage, TopicImage};

use super::Native;
use super::group::Progress;
use crate::delivery::{DEAD_LETTER_PREFIX, DeliveryTotals};
use crate::group::{FetchRequest, ListFilter};
use crate::half::HalfCounts;
use crate::model::BrokerId;
use crate::store::Offsets;
use crate::timer::Totals;
use crate::traffic::TopicCounts;

/// Everything at one moment.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) broker: BrokerId,
    pub(crate) brokers: Vec<(BrokerId, String)>,
    pub(crate) topics: Vec<MeasuredTopic>,
    pub(crate) groups: Vec<MeasuredGroup>,
    /// Groups that messages are delivered to, by topic and partition.
    pub(crate) deliveries: Vec<(String, Vec<Progress>)>,
    /// None while they are read back.
    pub(crate) delivery_totals: Option<DeliveryTotals>,
    /// None while they are read back.
    pub(crate) halves: Option<HalfCounts>,
    pub(crate) timers: Totals,
    /// Requests by Kafka's name of the API, those that came.
    pub(crate) requests: Vec<(&'static str, u64)>,
    /// Open connections by the listener's name.
    pub(crate) connections: Vec<(Arc<str>, u64)>,
    pub(crate) stalled_http_connections: u64,
    /// Scheduled messages that wait in memory: those that are due soon.
    pub(crate) timers_loaded: usize,
    /// By how many ms the next scheduled message is overdue.
    pub(crate) timers_late_ms: i64,
    /// Bytes of the segments that hold records, and those of them that are not on disk yet.
    pub(crate) log_size_bytes: u64,
    pub(crate) unsynced_size_bytes: u64,
    pub(crate) now_ms: i64,
    /// Whether the broker leads the metadata quorum.
    pub(crate) leads_metadata: bool,
    /// Partitions of the cluster whose broker is not heard of.
    pub(crate) offline_partitions: usize,
    /// Whether there are few enough partitions to tell of each.
    pub(crate) by_partition: bool,
}

/// A topic and its partitions.
#[derive(Debug)]
pub(crate) struct MeasuredTopic {
    pub(crate) image: Arc<TopicImage>,
    pub(crate) traffic: TopicCounts,
    /// Those on this broker, by number.
    pub(crate) partitions: BTreeMap<usize, (Offsets, u64)>,
}

/// A group, its members, and how far it is.
#[derive(Debug)]
pub(crate) struct MeasuredGroup {
    pub(crate) id: String,
    pub(crate) members: usize,
    /// By topic and partition: the committed offset, and how many messages lie behind it.
    pub(crate) offsets: BTreeMap<(String, i32), (i64, i64)>,
}

/// Looks at everything.
pub(crate) async fn gather(native: &Native) -> Gathered {
    let image = native.metadata.image();
    let by_partition =
        image.topics().partition_count() <= native.config.native.metrics_partitions_max as u64;
    let measured = |topic: &Arc<TopicImage>| MeasuredTopic {
        image: Arc::clone(topic),
        traffic: native.traffic.counts(topic.id),
        partitions: native.marks(topic),
    };
    let topics = image.topics().iter().map(measured).collect();
    let address = |b: &braid_raft::image::BrokerImage| {
        let first = b.endpoints.first();
        first.map_or_else(String::new, |e| format!("{}:{}", e.host, e.port))
    };
    let (now_ms, log) = (native.env.clock.wall_ms(), native.partitions.stats());
    let segment_size_bytes = native.config.storage.segment_size_bytes;
    Gathered {
        broker: native.config.node.id,
        brokers: image.brokers().map(|b| (b.id, address(b))).collect(),
        topics,
        groups: groups(native).await,
        deliveries: deliveries(native).await,
        delivery_totals: native.deliveries.totals().await.ok(),
        halves: native.halves.counts().await.ok(),
        timers: native.timers.totals(),
        requests: requests(native),
        connections: native.traffic.connections(),
        stalled_http_connections: native.traffic.stalled_http_connections(),
        timers_loaded: native.timers.loaded(),
        timers_late_ms: native.timers.late_ms(now_ms),
        log_size_bytes: (log.segments as u64).saturating_mul(segment_size_bytes),
        unsynced_size_bytes: log.appended.0.saturating_sub(log.durable.0),
        now_ms,
        leads_metadata: native.metadata.leader() == Some(native.config.node.id),
        offline_partitions: offline(native, &image),
        by_partition,
    }
}

fn requests(native: &Native) -> Vec<(&'static str, u64)> {
    let count = |api: &Api| (api.name, native.traffic.requests(api.key.code()));
    SUPPORTED.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

fn offline(native: &Native, image: &MetadataImage) -> usize {
    if !native.metadata.is_one_of_several() {
        return 0;
    }
    let partitions = image.topics().iter().flat_map(|topic| &topic.partitions);
    partitions.filter(|partition| image.leader(**partition).is_none()).count()
}

/// How far the groups are that messages are delivered to, if that can be said now.
async fn deliveries(native: &Native) -> Vec<(String, Vec<Progress>)> {
    let Ok(groups) = native.deliveries.groups().await else { return Vec::new() };
    let mut measured = Vec::new();
    for group in groups.iter().filter(|group| !group.group.starts_with(DEAD_LETTER_PREFIX)) {
        let name = group.group.to_string();
        if let Ok(Some(progress)) = native.delivery_progress(&name).await {
            measured.push((name, progress));
        }
    }
    measured
}

/// The groups that can be asked now: one that is being loaded is told at the next scrape.
async fn groups(native: &Native) -> Vec<MeasuredGroup> {
    let Ok(listed) = native.groups.list(ListFilter::default()).await else { return Vec::new() };
    let mut groups = Vec::with_capacity(listed.len());
    for group in listed {
        let id = group.group_id.to_string();
        let members = native.groups.describe(id.clone()).await.map_or(0, |d| d.members.len());
        let request = FetchRequest { group_id: id.clone(), topics: None, require_stable: false };
        let fetched = native.groups.fetch(request).await.unwrap_or_default();
        let image = native.metadata.image();
        let mut offsets = BTreeMap::new();
        for topic in fetched {
            for partition in topic.partitions {
                let (Ok(Some(committed)), Some(topic_image)) =
                    (partition.result, image.topic(&topic.name))
                else {
                    continue;
                };
                let Some(found) = topic_image.partition(partition.partition) else { continue };
                if !native.leads(&image, found) {
                    continue;
                }
                let end = native.partitions.offsets(found.queue).high_watermark.0;
                let lag = end.saturating_sub(committed.offset).max(0);
                let key = (topic.name.to_string(), partition.partition);
                offsets.insert(key, (committed.offset, lag));
            }
        }
        groups.push(MeasuredGroup { id, members, offsets });
    }
    groups
}
