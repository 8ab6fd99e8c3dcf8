//! Groups: Kafka's consumer groups, and the groups that messages are delivered to.
//!
//! A group's settings are in the metadata, where Kafka's tools find them too. Offsets of Kafka's
//! groups belong to the group coordinator; they are moved only while a group has no members.

use std::collections::BTreeMap;
use std::sync::Arc;

use braid_raft::ProposeError;
use braid_raft::command::{ConfigChange, ConfigResource, SetResourceConfigs};
use braid_raft::image::TopicImage;
use braid_raft::plan::names::{self, InvalidTopicName};

use super::Native;
use super::made::MakeError;
use super::topic::{NoTopic, Setting};
use crate::config::{ConfigSource, GroupConfigError, HALF_CHECK_WEBHOOK_NAME, HttpUrl, Settings};
use crate::delivery::{DEAD_LETTER_PREFIX, ResetError, Unavailable, dead_letter_name, is_reserved};
use crate::group::{
    CommitPartition, CommitRequest, CommitTopic, FetchRequest, GroupError, ListFilter,
};
use crate::partition::LookupError;

/// Longest name of a group, in bytes.
const NAME_SIZE_BYTES_MAX: usize = 255;

/// How a group gets its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By Kafka's protocol: each partition belongs to one member.
    Kafka,
    /// By the native API: each message is delivered by itself.
    Delivery,
}

/// A group in short.
#[derive(Debug, Clone)]
pub(crate) struct GroupSummary {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Kafka's name of the state.
    pub(crate) state: &'static str,
    pub(crate) members: usize,
}

/// How far a group is in a partition.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// Everything before it is done.
    pub(crate) committed: i64,
    pub(crate) end: i64,
    /// Messages that are not done.
    pub(crate) lag: i64,
    /// Since when the oldest of them is there; none if that is not known.
    pub(crate) lag_ms: Option<i64>,
    /// Delivered and not done.
    pub(crate) in_flight: usize,
    /// May be delivered now.
    pub(crate) ready: i64,
}

/// A group with everything.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) summary: GroupSummary,
    pub(crate) progress: Vec<Progress>,
    pub(crate) settings: Vec<Setting>,
}

/// Where a group goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResetTo {
    Earliest,
    /// Skips what is there.
    Latest,
    /// At the first message of at least this time.
    TimeMs(i64),
    /// At this offset, as near as the partition allows.
    Offset(i64),
}

/// Why a group is not shown or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupsError {
    #[error("a group's name has 1 to {NAME_SIZE_BYTES_MAX} bytes")]
    Name,
    #[error("there is no group {0}")]
    Unknown(String),
    #[error("group {0} has members, which would go on where they are")]
    Members(String),
    #[error(transparent)]
    Topic(#[from] NoTopic),
    #[error("topic {topic} has no partition {partition}")]
    Partition { topic: String, partition: i32 },
    #[error(transparent)]
    Config(#[from] GroupConfigError),
    #[error("the time cannot be looked up: {0}")]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Metadata(#[from] ProposeError),
    #[error("the topic of group offsets cannot be had: {0}")]
    OffsetsTopic(#[from] MakeError),
    #[error(transparent)]
    Coordinator(GroupError),
    #[error("Kafka's consumers use group {0}; a group is used in one way")]
    Kafka(String),
    #[error("{0} is the topic of what was discarded, and no group of consumers")]
    Reserved(String),
    #[error("{name} cannot be the name of a group with dead letters: {why}")]
    DeadLetterName { name: String, why: InvalidTopicName },
    #[error(transparent)]
    Reset(ResetError),
    #[error(transparent)]
    Deliveries(#[from] Unavailable),
}

fn delivery_summary(name: &str, is_busy: bool) -> GroupSummary {
    // Kafka's words for a group at work and one without members.
    let state = if is_busy { "Stable" } else { "Empty" };
    GroupSummary { name: name.to_owned(), kind: Kind::Delivery, state, members: 0 }
}

/// A name that a group can have.
pub(crate) fn check_name(name: &str) -> Result<(), GroupsError> {
    let fits = (1..=NAME_SIZE_BYTES_MAX).contains(&name.len());
    if fits { Ok(()) } else { Err(GroupsError::Name) }
}

impl Native {
    /// Up to `limit` groups whose names come after `after`, by name.
    pub(crate) async fn groups_after(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<GroupSummary>, GroupsError> {
        let mut found: BTreeMap<String, GroupSummary> = BTreeMap::new();
        let listed = self.groups.list(ListFilter::default()).await;
        for group in listed.map_err(GroupsError::Coordinator)? {
            let name = group.group_id.to_string();
            let summary = GroupSummary {
                name: name.clone(),
                kind: Kind::Kafka,
                state: group.state.name(),
                members: 0,
            };
            found.insert(name, summary);
        }
        for group in self.deliveries.groups().await? {
            let name = group.group.to_string();
            // The engine's own books about dead letters are no groups to people.
            if !name.starts_with(DEAD_LETTER_PREFIX) {
                let summary = delivery_summary(&name, group.undone > 0);
                found.insert(name, summary);
            }
        }
        let mut page: Vec<GroupSummary> = found
            .into_values()
            .filter(|group| after.is_none_or(|after| group.name.as_str() > after))
            .take(limit)
            .collect();
        for group in page.iter_mut().filter(|group| group.kind == Kind::Kafka) {
            let described = self.groups.describe(group.name.clone()).await;
            group.members = described.map_or(0, |described| described.members.len());
        }
        Ok(page)
    }

    /// A group, how far it is, and its settings.
    pub(crate) async fn group(&self, name: &str, all: bool) -> Result<Group, GroupsError> {
        check_name(name)?;
        let settings = self.group_settings(name, all);
        if let Some(progress) = self.delivery_progress(name).await? {
            let summary = delivery_summary(name, progress.iter().any(|p| p.in_flight > 0));
            return Ok(Group { summary, progress, settings });
        }
        let summary = match self.groups.describe(name.to_owned()).await {
            Ok(group) => GroupSummary {
                name: name.to_owned(),
                kind: Kind::Kafka,
                state: group.state.name(),
                members: group.members.len(),
            },
            Err(GroupError::GroupIdNotFound) if self.group_configs(name).is_some() => {
                delivery_summary(name, false)
            }
            Err(GroupError::GroupIdNotFound) => {
                return Err(GroupsError::Unknown(name.to_owned()));
            }
            Err(error) => return Err(GroupsError::Coordinator(error)),
        };
        let progress = self.kafka_progress(name).await?;
        Ok(Group { summary, progress, settings })
    }

    /// How far a group is that messages are delivered to; none if it is no such group.
    pub(super) async fn delivery_progress(
        &self,
        name: &str,
    ) -> Result<Option<Vec<Progress>>, GroupsError> {
        let Some(lags) = self.deliveries.lag(name).await? else { return Ok(None) };
        let image = self.metadata.image();
        let mut all = Vec::with_capacity(lags.len());
        for lag in lags {
            let progress = lag.progress;
            let Some(topic) = image.topic_by_id(progress.topic) else { continue };
            all.push(Progress {
                topic: Arc::clone(&topic.name),
                partition: progress.partition,
                committed: progress.start_offset,
                end: progress.high_watermark,
                lag: progress.lag,
                lag_ms: if progress.lag == 0 { Some(0) } else { lag.age_ms },
                in_flight: progress.in_flight,
                ready: progress.ready,
            });
        }
        all.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(Some(all))
    }

    /// Whether messages may be delivered to a group: its name can be that of a topic of dead
    /// letters, and Kafka's consumers do not use it. To be asked before anything is delivered.
    pub(crate) async fn check_deliverable(&self, name: &str) -> Result<(), GroupsError> {
        check_name(name)?;
        if is_reserved(name) {
            return Err(GroupsError::Reserved(name.to_owned()));
        }
        names::check(&dead_letter_name(name))
            .map_err(|why| GroupsError::DeadLetterName { name: name.to_owned(), why })?;
        match self.groups.describe(name.to_owned()).await {
            // One that only commits offsets is what Kafka's tools see of a delivery group.
            Ok(group) if group.members.is_empty() && group.protocol_type.is_empty() => Ok(()),
            Ok(_) => Err(GroupsError::Kafka(name.to_owned())),
            Err(GroupError::GroupIdNotFound) => Ok(()),
            Err(error) => Err(GroupsError::Coordinator(error)),
        }
    }

    /// How far a group is by the offsets it has committed.
    async fn kafka_progress(&self, name: &str) -> Result<Vec<Progress>, GroupsError> {
        let request =
            FetchRequest { group_id: name.to_owned(), topics: None, require_stable: false };
        let fetched = self.groups.fetch(request).await.map_err(GroupsError::Coordinator)?;
        let image = self.metadata.image();
        let mut all = Vec::new();
        for topic in fetched {
            let Some(known) = image.topic(&topic.name) else { continue };
            for fetched in topic.partitions {
                let (Ok(Some(committed)), Some(partition)) =
                    (fetched.result, known.partition(fetched.partition))
                else {
                    continue;
                };
                // How far others are is theirs to say.
                if !self.leads(&image, partition) {
                    continue;
                }
                let marks = self.partitions.offsets(partition.queue);
                let lag = (marks.high_watermark.0 - committed.offset).max(0);
                all.push(Progress {
                    topic: Arc::clone(&known.name),
                    partition: fetched.partition,
                    committed: committed.offset,
                    end: marks.high_watermark.0,
                    lag,
                    lag_ms: self.age_ms(known, fetched.partition, committed.offset, lag).await,
                    in_flight: 0,
                    ready: lag,
                });
            }
        }
        all.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(all)
    }

    /// For how long the message at an offset has been there.
    async fn age_ms(
        &self,
        topic: &TopicImage,
        partition: i32,
        offset: i64,
        lag: i64,
    ) -> Option<i64> {
        if lag == 0 {
            return Some(0);
        }
        let page = self.browse(&topic.name, partition, Some(offset), 1).await.ok()?;
        let oldest = page.messages.first()?.timestamp_ms;
        Some((self.env.clock.wall_ms() - oldest).max(0))
    }

    /// What a group has set itself.
    fn group_configs(&self, name: &str) -> Option<Settings> {
        let image = self.metadata.image();
        image.resource_configs(&ConfigResource::Group(name.to_owned())).cloned()
    }

    fn group_settings(&self, name: &str, all: bool) -> Vec<Setting> {
        let own = self.group_configs(name).unwrap_or_default();
        let described = self.live.load().describe_group(&own);
        // Kafka's keys of groups say nothing of how messages are delivered here.
        let shown = described.into_iter().filter(|d| {
            all || d.source != ConfigSource::Default || d.name.starts_with("delivery.")
        });
        shown
            .map(|d| Setting { own: own.contains_key(&d.name), name: d.name, value: d.value })
            .collect()
    }

    /// Sets keys of a group, or with no value takes them away; the others stay. The group need not
    /// be there yet.
    pub(crate) async fn configure_group(
        &self,
        name: &str,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<Group, GroupsError> {
        self.change_group_configs(name, changes).await?;
        match self.group(name, false).await {
            // All of its settings were taken away, and nothing else is known of it.
            Err(GroupsError::Unknown(_)) => Ok(Group {
                summary: delivery_summary(name, false),
                progress: Vec::new(),
                settings: self.group_settings(name, false),
            }),
            outcome => outcome,
        }
    }

    /// As [`configure_group`](Self::configure_group), without telling the group.
    pub(crate) async fn change_group_configs(
        &self,
        name: &str,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), GroupsError> {
        check_name(name)?;
        let Ok(_alone) = self.config_changes.acquire().await else {
            unreachable!("the semaphore is never closed")
        };
        let mut after = self.group_configs(name).unwrap_or_default();
        for (key, value) in &changes {
            match value {
                Some(value) => after.insert(key.clone(), value.clone()),
                None => after.remove(key),
            };
        }
        self.live.load().validate_group(&after)?;
        let changes = changes.into_iter().map(|(key, value)| ConfigChange { key, value });
        let resource = ConfigResource::Group(name.to_owned());
        let command = SetResourceConfigs { resource, changes: changes.collect() };
        self.metadata.propose(command).await?;
        Ok(())
    }

    /// Where the checks of groups of producers are posted to, by group.
    pub(crate) fn webhooks(&self) -> BTreeMap<String, HttpUrl> {
        let image = self.metadata.image();
        let webhook = |(resource, configs): (&ConfigResource, &Settings)| match resource {
            ConfigResource::Group(name) => {
                let url = HttpUrl::parse(configs.get(HALF_CHECK_WEBHOOK_NAME)?)?;
                Some((name.clone(), url))
            }
            ConfigResource::ClientMetrics(_) => None,
        };
        image.configured_resources().filter_map(webhook).collect()
    }

    /// Moves a group in a topic, or in one partition of it. Kafka's groups must have no members; a
    /// group that nobody knows becomes one that messages are delivered to.
    pub(crate) async fn reset_group(
        &self,
        name: &str,
        topic: &str,
        partition: Option<i32>,
        to: ResetTo,
    ) -> Result<Vec<Progress>, GroupsError> {
        check_name(name)?;
        let topic = self.own_topic(topic)?;
        let places = self.places(&topic, partition, to).await?;
        let is_kafkas = match self.groups.describe(name.to_owned()).await {
            Ok(_) => self.deliveries.progress(name).await?.is_none(),
            Err(GroupError::GroupIdNotFound) => false,
            Err(error) => return Err(GroupsError::Coordinator(error)),
        };
        let moved =
            |p: &Progress| p.topic == topic.name && partition.is_none_or(|n| n == p.partition);
        if !is_kafkas {
            self.check_deliverable(name).await?;
            self.deliveries.reset(name, topic.id, places).await.map_err(GroupsError::Reset)?;
            let progress = self.delivery_progress(name).await?.unwrap_or_default();
            return Ok(progress.into_iter().filter(moved).collect());
        }
        self.maker.offsets_topic().await?;
        let partitions = places.iter().map(|(partition, offset)| CommitPartition {
            partition: *partition,
            offset: *offset,
            leader_epoch: -1,
            metadata: None,
        });
        let request = CommitRequest {
            group_id: name.to_owned(),
            generation: -1,
            member_id: String::new(),
            group_instance_id: None,
            retention_ms: -1,
            topics: vec![CommitTopic {
                name: topic.name.to_string(),
                topic_id: topic.id,
                partitions: partitions.collect(),
            }],
        };
        let refused = |error| match error {
            GroupError::UnknownMemberId
            | GroupError::IllegalGeneration
            | GroupError::RebalanceInProgress => GroupsError::Members(name.to_owned()),
            other => GroupsError::Coordinator(other),
        };
        for topic in self.groups.commit(request).await.map_err(refused)? {
            for (_, outcome) in topic.partitions {
                outcome.map_err(refused)?;
            }
        }
        let progress = self.kafka_progress(name).await?;
        Ok(progress.into_iter().filter(moved).collect())
    }

    /// The offsets that a reset means, by partition.
    pub(super) async fn places(
        &self,
        topic: &TopicImage,
        partition: Option<i32>,
        to: ResetTo,
    ) -> Result<Vec<(i32, i64)>, GroupsError> {
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let numbers = match partition {
            Some(number) => number..number.saturating_add(1),
            None => 0..count,
        };
        let mut places = Vec::new();
        for number in numbers {
            let Some(found) = topic.partition(number) else {
                let topic = topic.name.to_string();
                return Err(GroupsError::Partition { topic, partition: number });
            };
            let marks = self.partitions.offsets(found.queue);
            let (start, end) = (marks.log_start.0, marks.high_watermark.0);
            let offset = match to {
                ResetTo::Earliest => start,
                ResetTo::Latest => end,
                ResetTo::Offset(offset) => offset.clamp(start, end),
                ResetTo::TimeMs(time_ms) => {
                    let found = self.partitions.at_or_after(found.queue, time_ms).await?;
                    if found.offset < 0 { end } else { found.offset }
                }
            };
            places.push((number, offset));
        }
        Ok(places)
    }

    /// Forgets a group and its settings. Kafka's groups must have no members.
    pub(crate) async fn delete_group(&self, name: &str) -> Result<(), GroupsError> {
        check_name(name)?;
        let mut known = self.deliveries.delete_group(name).await?;
        known |= match self.groups.delete(name.to_owned()).await {
            Ok(()) => true,
            Err(GroupError::GroupIdNotFound) => false,
            Err(GroupError::NonEmptyGroup) => return Err(GroupsError::Members(name.to_owned())),
            Err(error) => return Err(GroupsError::Coordinator(error)),
        };
        let Ok(_alone) = self.config_changes.acquire().await else {
            unreachable!("the semaphore is never closed")
        };
        if let Some(own) = self.group_configs(name) {
            known = true;
            let gone = own.into_keys().map(|key| ConfigChange { key, value: None });
            let resource = ConfigResource::Group(name.to_owned());
            let command = SetResourceConfigs { resource, changes: gone.collect() };
            self.metadata.propose(command).await?;
        }
        if known { Ok(()) } else { Err(GroupsError::Unknown(name.to_owned())) }
    }
}
