//! How far groups are that messages are delivered to, kept where Kafka's tools look: as committed
//! offsets of the group, about once a second where they moved.
//!
//! What is committed is for people to look at. The engine's own log says where a group goes on, so
//! a commit that is late or refused costs nothing but the look of it. One task, with nothing of its
//! own but what it has committed last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;

use super::made::Maker;
use crate::delivery::{DEAD_LETTER_PREFIX, Deliveries, Progress};
use crate::group::{CommitPartition, CommitRequest, CommitTopic, GroupCoordinator};
use crate::model::TopicId;

/// How often progress is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// A partition of a topic.
type Place = (TopicId, i32);

/// What the task works with.
pub(crate) struct Teller {
    pub(crate) maker: Maker,
    pub(crate) deliveries: Deliveries,
    pub(crate) groups: GroupCoordinator,
}

async fn stops(stopping: &mut watch::Receiver<bool>) {
    // An error says that the broker is gone.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

impl Teller {
    /// Commits until the broker stops.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut told: BTreeMap<String, BTreeMap<Place, i64>> = BTreeMap::new();
        let mut refused: BTreeSet<String> = BTreeSet::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stops(&mut stopping) => return,
            }
            let Ok(groups) = self.deliveries.groups().await else { continue };
            self.forget_topics(groups.iter().flat_map(|group| &group.topics)).await;
            let names: BTreeSet<String> = groups
                .iter()
                .map(|group| group.group.to_string())
                // The broker's own books about dead letters are no groups to people.
                .filter(|name| !name.starts_with(DEAD_LETTER_PREFIX))
                .collect();
            told.retain(|name, _| names.contains(name));
            refused.retain(|name| names.contains(name));
            for name in names {
                let of_group = told.entry(name.clone()).or_default();
                match self.tell(&name, of_group).await {
                    Ok(()) => drop(refused.remove(&name)),
                    Err(why) => {
                        if refused.insert(name.clone()) {
                            tracing::warn!(group = %name, why, "progress is not shown to Kafka's tools");
                        }
                    }
                }
            }
        }
    }

    /// Has the engine forget topics that were deleted while it did not listen.
    async fn forget_topics(&self, read: impl Iterator<Item = &TopicId>) {
        let image = self.maker.metadata.image();
        let gone: BTreeSet<TopicId> =
            read.copied().filter(|topic| image.topic_by_id(*topic).is_none()).collect();
        for topic in gone {
            if let Err(error) = self.deliveries.topic_deleted(topic).await {
                tracing::debug!(%topic, %error, "deliveries of a deleted topic are forgotten later");
            }
        }
    }

    /// Commits what moved since it was last told.
    async fn tell(&self, group: &str, told: &mut BTreeMap<Place, i64>) -> Result<(), String> {
        let Ok(Some(progress)) = self.deliveries.progress(group).await else { return Ok(()) };
        let moved = |p: &&Progress| told.get(&(p.topic, p.partition)) != Some(&p.start_offset);
        let moved: Vec<&Progress> = progress.iter().filter(moved).collect();
        if moved.is_empty() {
            return Ok(());
        }
        let topics = self.topics(&moved);
        if topics.is_empty() {
            return Ok(());
        }
        self.maker.offsets_topic().await.map_err(|error| error.to_string())?;
        let request = CommitRequest {
            group_id: group.to_owned(),
            generation: -1,
            member_id: String::new(),
            group_instance_id: None,
            retention_ms: -1,
            topics,
        };
        let committed = self.groups.commit(request).await.map_err(|error| error.to_string())?;
        for topic in committed {
            for (partition, outcome) in topic.partitions {
                outcome.map_err(|error| error.to_string())?;
                let place = (topic.topic_id, partition);
                let of_place = |p: &&&Progress| (p.topic, p.partition) == place;
                if let Some(progress) = moved.iter().find(of_place) {
                    told.insert(place, progress.start_offset);
                }
            }
        }
        Ok(())
    }

    fn topics(&self, moved: &[&Progress]) -> Vec<CommitTopic> {
        let image = self.maker.metadata.image();
        let mut topics: Vec<CommitTopic> = Vec::new();
        for progress in moved {
            let Some(topic) = image.topic_by_id(progress.topic) else { continue };
            let partition = CommitPartition {
                partition: progress.partition,
                offset: progress.start_offset,
                leader_epoch: -1,
                metadata: None,
            };
            match topics.iter_mut().find(|known| known.topic_id == topic.id) {
                Some(known) => known.partitions.push(partition),
                None => topics.push(CommitTopic {
                    name: topic.name.to_string(),
                    topic_id: topic.id,
                    partitions: vec![partition],
                }),
            }
        }
        topics
    }
}
