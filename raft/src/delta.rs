//! What changed between two images. Computed from the images alone, so a reader that missed some
//! of them still learns everything. Costs what changed, not what there is: shared parts of the
//! persistent maps are skipped.

use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::image::{MetadataImage, ShardImage, TopicImage};

/// One topic in both images, not the same in them.
#[derive(Debug, Clone)]
pub struct TopicChange {
    /// As it was.
    pub old: Arc<TopicImage>,
    /// As it is.
    pub new: Arc<TopicImage>,
}

impl TopicChange {
    /// Whether its configs differ.
    #[must_use]
    pub fn configs_changed(&self) -> bool {
        self.old.configs != self.new.configs
    }

    /// Whether its partitions differ.
    #[must_use]
    pub fn partitions_changed(&self) -> bool {
        self.old.partitions != self.new.partitions
    }
}

/// What changed from an older to a newer image. Topics are told apart by id: one deleted and
/// made again under its name is in both lists.
#[derive(Debug, Clone, Default)]
pub struct MetadataDelta {
    /// Topics only in the newer image.
    pub created: Vec<Arc<TopicImage>>,
    /// Topics only in the older image.
    pub deleted: Vec<Arc<TopicImage>>,
    /// Topics in both whose partitions or configs differ.
    pub changed: Vec<TopicChange>,
    /// Shards that are new or have another leader, epoch or set of replicas, as they are now.
    pub shards: Vec<Arc<ShardImage>>,
    /// Whether any broker's registration differs.
    pub brokers_changed: bool,
    /// Whether any broker's dynamic configs differ.
    pub broker_configs_changed: bool,
}

impl MetadataDelta {
    /// The difference between two images.
    #[must_use]
    pub fn between(old: &MetadataImage, new: &MetadataImage) -> Self {
        let mut delta = Self::default();
        for item in old.topics.ids().diff(new.topics.ids()) {
            match item {
                DiffItem::Add(_, topic) => delta.created.push(Arc::clone(topic)),
                DiffItem::Remove(_, topic) => delta.deleted.push(Arc::clone(topic)),
                DiffItem::Update { old, new } => {
                    let (old, new) = (Arc::clone(old.1), Arc::clone(new.1));
                    delta.changed.push(TopicChange { old, new });
                }
            }
        }
        for item in old.brokers.shards.diff(&new.brokers.shards) {
            match item {
                DiffItem::Add(_, shard) | DiffItem::Update { new: (_, shard), .. } => {
                    delta.shards.push(Arc::clone(shard));
                }
                // Shards are never taken away; an older image in the place of the newer would.
                DiffItem::Remove(..) => {}
            }
        }
        delta.brokers_changed = old.brokers.brokers != new.brokers.brokers;
        delta.broker_configs_changed = old.configs != new.configs;
        delta
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.created.is_empty()
            && self.deleted.is_empty()
            && self.changed.is_empty()
            && self.shards.is_empty()
            && !self.brokers_changed
            && !self.broker_configs_changed
    }
}

#[cfg(test)]
mod tests;
