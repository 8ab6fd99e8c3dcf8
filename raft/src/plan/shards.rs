//! Which replicated shards have to be made before partitions can be placed on them.

use std::collections::BTreeSet;

use braid_base::env::Rng;
use braid_base::model::BrokerId;

use crate::command::{NewShard, PartitionRun};
use crate::image::MetadataImage;

/// The shards that are not there of those that partitions are to be on. `in_sync_min` is the least
/// number of replicas in sync with which anything is committed, where there are so many.
#[must_use]
pub fn missing_shards<'a>(
    image: &MetadataImage,
    runs: impl Iterator<Item = &'a PartitionRun>,
    in_sync_min: i32,
    rng: &dyn Rng,
) -> Vec<NewShard> {
    let lists: BTreeSet<&Vec<BrokerId>> =
        runs.map(|run| &run.replicas).filter(|replicas| replicas.len() > 1).collect();
    let missing = lists.into_iter().filter(|replicas| image.shard_of(replicas).is_none());
    missing
        .map(|replicas| NewShard {
            in_sync_min: u32::try_from(in_sync_min)
                .unwrap_or(0)
                .clamp(1, u32::try_from(replicas.len()).unwrap_or(u32::MAX)),
            replicas: replicas.clone(),
            store_id: rng.next_uuid(),
        })
        .collect()
}
