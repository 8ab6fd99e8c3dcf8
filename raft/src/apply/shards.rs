//! Replicated shards: how they are made, and what becomes of them when brokers come, go and ask.
//! What may be elected and agreed to is for [`ShardState`] to say; here it meets the image. Whoever
//! takes a leader away elects the next one in the same step, so that no image is without one that
//! could have one.

use std::sync::Arc;

use braid_base::model::{BrokerId, ShardId};

use super::{check_replicas, fenceable, known_as};
use crate::command::{
    ChangeSyncSet, CreateShards, DrainBroker, ElectLeaders, ElectionKind, NewShard, PartitionRun,
    ShardElection, StartBroker,
};
use crate::image::{BrokerImage, MetadataImage, ShardImage};
use crate::outcome::{
    ChangeSyncSetRejection, CreateShardRejection, Elected, ElectionRejection, FenceBrokerRejection,
    RegisterBrokerRejection,
};
use crate::shard::{Election, Loss, NoLeader, Replica, ShardState, SyncSet, Unclean, Up};

pub(super) fn create_shards(
    image: &mut MetadataImage,
    command: &CreateShards,
) -> Vec<Result<ShardId, CreateShardRejection>> {
    command.shards.iter().map(|shard| create_shard(image, shard)).collect()
}

fn create_shard(
    image: &mut MetadataImage,
    new: &NewShard,
) -> Result<ShardId, CreateShardRejection> {
    let run = PartitionRun { count: 1, replicas: new.replicas.clone() };
    check_replicas(image, &[run]).map_err(CreateShardRejection::Replicas)?;
    let replicas = new.replicas.len();
    if replicas < 2 {
        return Err(CreateShardRejection::OneReplica);
    }
    let in_sync_min = usize::try_from(new.in_sync_min).unwrap_or(usize::MAX);
    if !(1..=replicas).contains(&in_sync_min) {
        return Err(CreateShardRejection::InSyncMin { wanted: new.in_sync_min, replicas });
    }
    if let Some(known) = image.brokers.shard_by_replicas.get(&new.replicas) {
        let is_replicated = image.shard(*known).is_some_and(|shard| shard.is_replicated());
        return if is_replicated {
            Ok(*known)
        } else {
            Err(CreateShardRejection::NotReplicated(*known))
        };
    }
    if new.store_id.is_nil() || image.shards().any(|it| it.store_id == Some(new.store_id)) {
        return Err(CreateShardRejection::StoreIdInUse(new.store_id));
    }
    let mut state = ShardState::new(new.replicas.clone(), in_sync_min);
    let absent = new.replicas.iter().filter(|broker| !image.is_alive(**broker));
    for absent in absent.filter_map(|broker| image.replica(*broker)) {
        state = state.after(absent, Loss::Silent);
    }
    let state = led(image, state);
    let brokers = Arc::make_mut(&mut image.brokers);
    let id = ShardId(brokers.next_shard_id);
    brokers.next_shard_id += 1;
    let shard = ShardImage { id, state, store_id: Some(new.store_id) };
    brokers.shards.insert(id, Arc::new(shard));
    brokers.shard_by_replicas.insert(new.replicas.clone(), id);
    Ok(id)
}

pub(super) fn change_sync_set(
    image: &mut MetadataImage,
    command: &ChangeSyncSet,
) -> Result<SyncSet, ChangeSyncSetRejection> {
    let Some(state) = replicated(image, command.shard) else {
        return Err(ChangeSyncSetRejection::UnknownShard(command.shard));
    };
    let state = state.change(&command.proposal, &image.up())?;
    let agreed = state.in_sync.clone();
    put(image, command.shard, state);
    Ok(agreed)
}

pub(super) fn elect_leaders(
    image: &mut MetadataImage,
    command: &ElectLeaders,
) -> Vec<Result<Elected, ElectionRejection>> {
    command.elections.iter().map(|election| elect(image, election)).collect()
}

fn elect(image: &mut MetadataImage, command: &ShardElection) -> Result<Elected, ElectionRejection> {
    let Some(state) = replicated(image, command.shard) else {
        return Err(ElectionRejection::UnknownShard(command.shard));
    };
    if command.epoch.is_some_and(|epoch| epoch != state.epoch) {
        return Err(ElectionRejection::EpochChanged(state.epoch));
    }
    let election = hold(image, &state, command.kind)?;
    let Some(leader) = election.state.leader else { return Err(ElectionRejection::NobodyEligible) };
    let elected = Elected { leader, epoch: election.state.epoch, unclean: election.unclean };
    put(image, command.shard, election.state);
    Ok(elected)
}

fn hold(
    image: &MetadataImage,
    state: &ShardState,
    kind: ElectionKind,
) -> Result<Election, ElectionRejection> {
    let nobody = |_: NoLeader| ElectionRejection::NobodyEligible;
    match kind {
        ElectionKind::Preferred => {
            if state.leader.map(|leader| leader.broker) == state.replicas.first().copied() {
                return Err(ElectionRejection::NotNeeded);
            }
            state.prefer(&staying(image)).ok_or(ElectionRejection::PreferredUnavailable)
        }
        ElectionKind::Resigned => {
            let leader = state.leader.ok_or(ElectionRejection::NotNeeded)?;
            let free = state.after(leader, Loss::Restarted);
            elect_any(image, &free, Unclean::Never).map_err(nobody)
        }
        ElectionKind::Clean | ElectionKind::Unclean if state.leader.is_some() => {
            Err(ElectionRejection::NotNeeded)
        }
        ElectionKind::Clean => elect_any(image, state, Unclean::Never).map_err(nobody),
        ElectionKind::Unclean => elect_any(image, state, Unclean::Asked).map_err(nobody),
    }
}

/// A broker's new life begins: what its earlier one led is led anew, and where it lacks what it may
/// have acknowledged it is not in sync.
pub(super) fn start_broker(
    image: &mut MetadataImage,
    command: &StartBroker,
) -> Result<u64, RegisterBrokerRejection> {
    let registration = &command.registration;
    let known = known_as(image, registration.broker, registration.incarnation);
    let before = image.broker(registration.broker).map_or((0, false), |it| (it.run, it.draining));
    super::register_broker(image, registration)?;
    let (run, draining) = if known { before } else { (before.0.saturating_add(1), false) };
    change_broker(image, registration.broker, |broker| {
        broker.run = run;
        broker.draining = draining;
    });
    let broker = Replica { broker: registration.broker, incarnation: run };
    let lost_all = image.begins_with_nothing(broker.broker);
    if lost_all {
        Arc::make_mut(&mut image.cluster).empty.remove(&broker.broker);
    }
    on_each(image, |shard| {
        if known || !shard.state.replicas.contains(&broker.broker) {
            return shard.state.clone();
        }
        let damaged = lost_all || command.damaged.contains(&shard.id);
        shard.state.after(broker, if damaged { Loss::Damaged } else { Loss::Restarted })
    });
    Ok(run)
}

/// A broker is silent, or is heard again.
pub(super) fn fence(image: &mut MetadataImage, broker: BrokerId, fenced: bool) {
    let Some(replica) = image.replica(broker) else { return };
    on_each(image, |shard| {
        if fenced && shard.state.replicas.contains(&broker) {
            shard.state.after(replica, Loss::Silent)
        } else {
            shard.state.clone()
        }
    });
}

pub(super) fn drain_broker(
    image: &mut MetadataImage,
    command: &DrainBroker,
) -> Result<u32, FenceBrokerRejection> {
    fenceable(image, command.broker, command.incarnation)?;
    change_broker(image, command.broker, |broker| broker.draining = true);
    let mut kept = 0;
    on_each_led_by(image, command.broker, |image, state| {
        let next = state.elect(&staying(image), Unclean::Never);
        if next.is_err() {
            kept += 1;
        }
        next.map_or_else(|_| state.clone(), |election| election.state)
    });
    Ok(kept)
}

/// The brokers that are up and mean to stay.
fn staying(image: &MetadataImage) -> Up {
    let mut up = image.up();
    up.retain(|broker, _| image.broker(*broker).is_some_and(|broker| !broker.draining));
    up
}

/// Elects somebody who stays, or else somebody who is about to stop.
fn elect_any(
    image: &MetadataImage,
    state: &ShardState,
    unclean: Unclean,
) -> Result<Election, NoLeader> {
    let clean = |up: &Up| state.elect(up, Unclean::Never);
    clean(&staying(image)).or_else(|_| clean(&image.up())).or_else(|none| match unclean {
        Unclean::Never => Err(none),
        Unclean::Asked => state.elect(&image.up(), unclean),
    })
}

/// The state with a leader, if it lacks one and may have one.
fn led(image: &MetadataImage, state: ShardState) -> ShardState {
    if state.leader.is_some() {
        return state;
    }
    elect_any(image, &state, Unclean::Never).map_or(state, |election| election.state)
}

fn replicated(image: &MetadataImage, shard: ShardId) -> Option<ShardState> {
    image.shard(shard).filter(|shard| shard.is_replicated()).map(|shard| shard.state.clone())
}

fn put(image: &mut MetadataImage, shard: ShardId, state: ShardState) {
    let brokers = Arc::make_mut(&mut image.brokers);
    if let Some(known) = brokers.shards.get(&shard).filter(|known| known.state != state) {
        let changed = ShardImage { state, ..ShardImage::clone(known) };
        brokers.shards.insert(shard, Arc::new(changed));
    }
}

fn change_broker(image: &mut MetadataImage, id: BrokerId, change: impl FnOnce(&mut BrokerImage)) {
    let Some(known) = image.broker(id) else { return };
    let mut changed = BrokerImage::clone(known);
    change(&mut changed);
    Arc::make_mut(&mut image.brokers).brokers.insert(id, Arc::new(changed));
}

/// Changes all replicated shards; whichever has no leader then gets one, if somebody may be.
fn on_each(image: &mut MetadataImage, change: impl Fn(&ShardImage) -> ShardState) {
    let all: Vec<Arc<ShardImage>> =
        image.shards().filter(|shard| shard.is_replicated()).cloned().collect();
    for shard in all {
        let state = led(image, change(&shard));
        put(image, shard.id, state);
    }
}

fn on_each_led_by(
    image: &mut MetadataImage,
    leader: BrokerId,
    mut change: impl FnMut(&MetadataImage, &ShardState) -> ShardState,
) {
    let led: Vec<Arc<ShardImage>> = image
        .shards()
        .filter(|shard| shard.is_replicated() && shard.leader() == Some(leader))
        .cloned()
        .collect();
    for shard in led {
        let state = change(image, &shard.state);
        put(image, shard.id, state);
    }
}
