//! Replicated shards: the words of their golden scenarios, and what must hold whatever happens to
//! the brokers that hold them.

use std::collections::BTreeSet;

use braid_base::model::ShardId;
use proptest::collection::vec;
use proptest::option;

use super::*;
use crate::command::{
    AdmitDirectory, ChangeSyncSet, CreateShards, DrainBroker, ElectLeaders, ElectionKind, NewShard,
    ShardElection, StartBroker,
};
use crate::shard::{Proposal, Replica};

fn brokers(word: &str) -> Vec<BrokerId> {
    word.split(',').map(|id| BrokerId(id.parse().unwrap())).collect()
}

/// `2/1`: broker 2 in its first run.
fn replica(word: &str) -> Replica {
    let (broker, run) = word.split_once('/').unwrap();
    Replica { broker: BrokerId(broker.parse().unwrap()), incarnation: run.parse().unwrap() }
}

fn election(shard: &str, kind: &str, epoch: Option<&str>) -> ElectLeaders {
    let kind = match kind {
        "preferred" => ElectionKind::Preferred,
        "clean" => ElectionKind::Clean,
        "unclean" => ElectionKind::Unclean,
        _ => panic!("no kind of election: {kind}"),
    };
    let epoch = epoch.map(|epoch| LeaderEpoch(epoch.parse().unwrap()));
    let shard = ShardId(shard.parse().unwrap());
    ElectLeaders { elections: vec![ShardElection { shard, kind, epoch }] }
}

pub(super) fn parse(words: &[&str]) -> MetadataCommand {
    match words {
        ["start", id, "life", life, at, rest @ ..] => {
            let damaged = match rest {
                ["damaged", shards] => {
                    shards.split(',').map(|id| ShardId(id.parse().unwrap())).collect()
                }
                _ => Vec::new(),
            };
            let registration = RegisterBroker {
                endpoints: vec![endpoint(at)],
                ..testing::register_broker(id.parse().unwrap(), life.parse().unwrap())
            };
            StartBroker { registration, damaged }.into()
        }
        ["shard", replicas, "min", min, "store", store] => CreateShards {
            shards: vec![NewShard {
                replicas: brokers(replicas),
                in_sync_min: min.parse().unwrap(),
                store_id: Uuid::from_u128(store.parse().unwrap()),
            }],
        }
        .into(),
        [
            "sync",
            shard,
            "leader",
            leader,
            "epoch",
            epoch,
            "version",
            version,
            "members",
            members,
            rest @ ..,
        ] => ChangeSyncSet {
            shard: ShardId(shard.parse().unwrap()),
            proposal: Proposal {
                leader: replica(leader),
                epoch: LeaderEpoch(epoch.parse().unwrap()),
                version: version.parse().unwrap(),
                members: brokers(members).into_iter().collect(),
                added: rest.iter().skip(1).map(|word| replica(word)).collect(),
            },
        }
        .into(),
        ["elect", shard, kind] => election(shard, kind, None).into(),
        ["elect", shard, kind, "epoch", epoch] => election(shard, kind, Some(epoch)).into(),
        ["admit", id, "directory", directory] => AdmitDirectory {
            node: BrokerId(id.parse().unwrap()),
            directory: Uuid::from_u128(directory.parse().unwrap()),
        }
        .into(),
        ["drain", id, "life", life] => DrainBroker {
            broker: BrokerId(id.parse().unwrap()),
            incarnation: Uuid::from_u128(life.parse().unwrap()),
        }
        .into(),
        _ => panic!("no command: {words:?}"),
    }
}

/// What may happen to two shards on three brokers.
#[derive(Debug, Clone)]
enum Happens {
    /// The broker starts again, perhaps without its logs.
    Start {
        broker: i32,
        damaged: bool,
    },
    Fence {
        broker: i32,
        fenced: bool,
    },
    Drain {
        broker: i32,
    },
    /// A leader asks for the set with, or without, a broker; perhaps late by some versions.
    Change {
        shard: u32,
        broker: i32,
        joins: bool,
        late: u32,
    },
    Elect {
        shard: u32,
        kind: ElectionKind,
    },
}

fn anything() -> impl Strategy<Value = Happens> {
    let broker = || 1..4i32;
    let kind = prop::sample::select(std::vec![
        ElectionKind::Preferred,
        ElectionKind::Clean,
        ElectionKind::Unclean
    ]);
    prop_oneof![
        2 => (broker(), proptest::bool::weighted(0.3))
            .prop_map(|(broker, damaged)| Happens::Start { broker, damaged }),
        4 => (broker(), any::<bool>())
            .prop_map(|(broker, fenced)| Happens::Fence { broker, fenced }),
        1 => broker().prop_map(|broker| Happens::Drain { broker }),
        5 => (0..2u32, broker(), any::<bool>(), option::weighted(0.2, 1..3u32)).prop_map(
            |(shard, broker, joins, late)| {
                Happens::Change { shard, broker, joins, late: late.unwrap_or(0) }
            }
        ),
        2 => (0..2u32, kind).prop_map(|(shard, kind)| Happens::Elect { shard, kind }),
    ]
}

/// The command that says so; none where there is nobody to say it.
fn command(image: &MetadataImage, life: &mut u128, happens: &Happens) -> Option<MetadataCommand> {
    let incarnation = |broker: i32| Some(image.broker(BrokerId(broker))?.incarnation);
    match *happens {
        Happens::Start { broker, damaged } => {
            *life += 1;
            let registration = testing::register_broker(broker, *life);
            let damaged = if damaged { vec![ShardId(0), ShardId(1)] } else { Vec::new() };
            Some(StartBroker { registration, damaged }.into())
        }
        Happens::Fence { broker, fenced } => {
            let incarnation = incarnation(broker)?;
            Some(FenceBroker { broker: BrokerId(broker), incarnation, fenced }.into())
        }
        Happens::Drain { broker } => {
            let incarnation = incarnation(broker)?;
            Some(DrainBroker { broker: BrokerId(broker), incarnation }.into())
        }
        Happens::Change { shard, broker, joins, late } => {
            let state = &image.shard(ShardId(shard))?.state;
            let leader = state.leader?;
            let mut members = state.in_sync.members.clone();
            let mut added = Vec::new();
            if joins {
                members.insert(BrokerId(broker));
                added.extend(image.replica(BrokerId(broker)));
            } else {
                members.remove(&BrokerId(broker));
            }
            let version = state.in_sync.version.saturating_sub(late);
            let proposal = Proposal { leader, epoch: state.epoch, version, members, added };
            Some(ChangeSyncSet { shard: ShardId(shard), proposal }.into())
        }
        Happens::Elect { shard, kind } => {
            let shard = ShardId(shard);
            let elections = vec![ShardElection { shard, kind, epoch: None }];
            Some(ElectLeaders { elections }.into())
        }
    }
}

/// What must hold of a shard from one command to the next.
fn check_step(before: &MetadataImage, image: &MetadataImage, command: &MetadataCommand) {
    for shard in image.shards() {
        let (old, new) = (&before.shard(shard.id).unwrap().state, &shard.state);
        assert!(new.epoch >= old.epoch, "{command:?}: an epoch goes back");
        assert!(new.in_sync.version >= old.in_sync.version, "{command:?}");
        if new.in_sync.members != old.in_sync.members {
            assert!(new.in_sync.version > old.in_sync.version, "{command:?}: no new version");
        }
        assert!(new.eligible.is_disjoint(&new.in_sync.members), "{command:?}");
        assert!(new.eligible.is_empty() || new.in_sync.members.len() < new.in_sync_min);
        let Some(leader) = new.leader else { continue };
        assert!(image.up().get(&leader.broker) == Some(&leader.incarnation), "{command:?}");
        if new.leader == old.leader {
            continue;
        }
        assert!(new.epoch > old.epoch, "{command:?}: another leader in one epoch");
        let mut may: BTreeSet<BrokerId> = &old.in_sync.members | &old.eligible;
        match command {
            MetadataCommand::StartBroker(it) if it.damaged.contains(&shard.id) => {
                may.remove(&it.registration.broker);
            }
            MetadataCommand::ElectLeaders(it) if it.elections[0].kind == ElectionKind::Unclean => {
                if may.iter().any(|broker| image.is_alive(*broker)) {
                    assert!(may.contains(&leader.broker), "{command:?}: uncleanly without need");
                }
                continue;
            }
            _ => {}
        }
        assert!(may.contains(&leader.broker), "{command:?}: {} may lack records", leader.broker);
    }
}

proptest! {
    #[test]
    fn whoever_may_lack_records_leads_only_when_an_operator_asks(
        happens in vec(anything(), 0..80)
    ) {
        let mut image = MetadataImage::default();
        let mut life = 0;
        for broker in 1..4 {
            let start = Happens::Start { broker, damaged: false };
            let command = command(&image, &mut life, &start).unwrap();
            apply(&mut image, &command);
        }
        let shard = |replicas: &str, store| NewShard {
            replicas: brokers(replicas),
            in_sync_min: 2,
            store_id: Uuid::from_u128(store),
        };
        let shards = vec![shard("1,2,3", 1), shard("3,1", 2)];
        apply(&mut image, &CreateShards { shards }.into());
        prop_assert_eq!(image.shards().count(), 2);
        for happens in &happens {
            let Some(command) = command(&image, &mut life, happens) else { continue };
            let before = image.clone();
            apply(&mut image, &command);
            check_step(&before, &image, &command);
            // Whoever could lead, leads.
            for shard in image.shards().filter(|shard| shard.state.leader.is_none()) {
                let state = &shard.state;
                let may = &state.in_sync.members | &state.eligible;
                prop_assert!(may.iter().all(|broker| !image.is_alive(*broker)), "{:?}", command);
            }
        }
    }
}
