//! Replica lists that walk round the brokers.
//!
//! There are as many different lists as brokers, each beginning with another one: leadership is
//! spread evenly, and the shards that the lists stand for stay few.

use std::collections::{BTreeMap, BTreeSet};

use braid_base::model::{BrokerId, TopicId};

use super::placement::{Limits, PlacementError};
use crate::image::{BrokerImage, MetadataImage};

pub(super) struct Stripe {
    lists: Vec<Vec<BrokerId>>,
    start: u64,
}

impl Stripe {
    /// Over the brokers that live, those that are about to stop only where the others are too few.
    pub(super) fn new(
        image: &MetadataImage,
        topic: TopicId,
        factor: usize,
        limits: &Limits,
    ) -> Result<Self, PlacementError> {
        let alive = || image.brokers().filter(|broker| !broker.fenced).map(|broker| &**broker);
        let staying = by_rack(alive().filter(|broker| !broker.draining));
        let brokers = if staying.len() < factor { by_rack(alive()) } else { staying };
        if factor > brokers.len() {
            let factor = i16::try_from(factor).unwrap_or(i16::MAX);
            return Err(PlacementError::TooFewBrokers { factor, brokers: brokers.len() });
        }
        if factor > usize::try_from(limits.replication_factor_max).unwrap_or(0) {
            let max = limits.replication_factor_max;
            return Err(PlacementError::NotReplicated { factor, max });
        }
        let lists = (0..brokers.len()).map(|first| list(&brokers, first, factor));
        Ok(Self { lists: lists.collect(), start: topic.0.as_u64_pair().1 })
    }

    pub(super) fn replicas(&self, partition: u64) -> &[BrokerId] {
        let lists = (self.lists.len() as u64).max(1);
        let at = (self.start % lists + partition) % lists;
        // Below the number of lists, hence a usize.
        self.lists.get(usize::try_from(at).unwrap_or_default()).map_or(&[], Vec::as_slice)
    }
}

type Rack<'a> = Option<&'a str>;

/// The brokers by number, neighbours on different racks as far as there are any. Those without a
/// rack stand on one together, as with Kafka.
fn by_rack<'a>(brokers: impl Iterator<Item = &'a BrokerImage>) -> Vec<(BrokerId, Rack<'a>)> {
    let mut racks: BTreeMap<Rack<'a>, Vec<BrokerId>> = BTreeMap::new();
    for broker in brokers {
        racks.entry(broker.rack.as_deref()).or_default().push(broker.id);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    let row = |at: usize| {
        racks.iter().filter_map(move |(rack, brokers)| Some((*brokers.get(at)?, *rack)))
    };
    (0..longest).flat_map(row).collect()
}

/// One broker and those behind it, on a rack each until all racks have one.
fn list(brokers: &[(BrokerId, Rack<'_>)], first: usize, factor: usize) -> Vec<BrokerId> {
    let mut chosen: Vec<BrokerId> = Vec::with_capacity(factor);
    let mut used: BTreeSet<Rack<'_>> = BTreeSet::new();
    while chosen.len() < factor {
        let walk = brokers.iter().cycle().skip(first).take(brokers.len());
        let next = walk
            .filter(|(broker, _)| !chosen.contains(broker))
            .find(|(_, rack)| !used.contains(rack));
        match next {
            Some((broker, rack)) => {
                chosen.push(*broker);
                used.insert(*rack);
            }
            None if used.is_empty() => break,
            None => used.clear(),
        }
    }
    chosen
}
