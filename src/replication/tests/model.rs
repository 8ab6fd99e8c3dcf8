//! All that can happen to a small shard, tried: three replicas, three terms, records, crashes that
//! lose what was not synced, lost disks, false alarms, messages that are late, lost or doubled,
//! changes of the set under way. The shipped state machines are driven; `world` is what is around
//! them.

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::world::{Action, NOW_MS, Role, Shard, World, broker};
use crate::replication::Mistake;

impl Model for Shard {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::warm(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (id, node) in (0u8..).zip(&world.nodes) {
            let may_fail = world.faults < self.faults;
            let is_taken_for_up = world.up.contains_key(&broker(id));
            if !node.up {
                actions.push(Action::Start(id));
                continue;
            }
            actions.push(Action::Learn(id));
            if node.durable < node.log.len() {
                actions.push(Action::Sync(id));
            }
            if let Role::Leads(leader) = &node.role {
                if world.records < self.records && leader.admit(NOW_MS, None).is_ok() {
                    actions.push(Action::Append(id));
                }
                if world.lags < self.lags {
                    actions.push(Action::Lag(id));
                }
            }
            if may_fail {
                if node.durable < node.log.len() {
                    actions.push(Action::Crash { node: id, loses: true });
                }
                actions.push(Action::Crash { node: id, loses: false });
                if self.only_crashes {
                    continue;
                }
                actions.push(Action::Wipe(id));
                if is_taken_for_up {
                    actions.push(Action::Fence(id));
                }
            }
            if !is_taken_for_up {
                actions.push(Action::Hear(id));
            }
        }
        for id in 0..3 {
            let is_dead = !world.nodes[usize::from(id)].up;
            if is_dead && world.up.contains_key(&broker(id)) {
                actions.push(Action::Fence(id));
            }
        }
        actions.extend(world.questions.keys().map(|(from, to)| Action::Ask(*from, *to)));
        actions.extend(world.answers.keys().map(|(from, to)| Action::Answer(*from, *to)));
        actions.extend((0..world.proposals.len()).map(Action::Propose));
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        world.act(self, action);
        let changed = world != *before;
        world.count(action, before);
        changed.then_some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.controller.epoch.0 <= self.epochs
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ACKED, |_, world: &World| world.leader_holds_all()),
            Property::always(STRONG_ISR, |_, world: &World| world.electable_hold_all()),
            Property::always(UNION, |_, world: &World| world.leader_counts_all()),
            Property::always(ONE, |_, world: &World| world.wrong.is_none()),
            Property::sometimes(COMMITS, |shard, world: &World| {
                world.acked.len() > usize::from(shard.records)
            }),
        ]
    }
}

const ACKED: &str = "what was acknowledged is in the log of every later leader";
const STRONG_ISR: &str = "everybody who may be elected holds what was acknowledged";
const UNION: &str = "the leader waits for everybody whom the controller may elect";
const ONE: &str = "one leads in an epoch, and one record is committed in a place";
const COMMITS: &str = "all records are committed";

/// Tries everything; the property that does not hold, how it came, and how many states there are.
fn find(shard: Shard) -> (Option<String>, usize) {
    let wrong: &[&str] = &[ACKED, STRONG_ISR, UNION, ONE];
    let any = HasDiscoveries::AnyOf(wrong.iter().copied().collect());
    let checker = shard.checker().threads(2).finish_when(any).spawn_bfs().join();
    let found = checker.discoveries().into_iter().find(|(name, _)| wrong.contains(name));
    let found =
        found.map(|(name, path)| format!("not so: {name}, after {:?}", path.into_actions()));
    (found, checker.unique_state_count())
}

/// Two terms, and a record of a client beside those that begin them.
const SMALL: Shard = Shard {
    in_sync_min: 1,
    one_is_out: false,
    epochs: 2,
    records: 1,
    faults: 1,
    only_crashes: false,
    lags: 0,
    leader_syncs_at_once: true,
    answers_at_once: true,
    broken: None,
};

macro_rules! holds {
    ($($name:ident: $shard:expr),+ $(,)?) => {$(
        #[test]
        fn $name() {
            let (found, states) = find($shard);
            assert_eq!(found, None);
            assert!(states > 1_000, "only {states} states");
        }
    )+};
}

// Each tries all of something, since all of everything at once takes hours.
holds! {
    members_lag_and_fail: Shard { lags: 1, ..SMALL },
    members_lag_and_fail_where_two_are_needed: Shard { in_sync_min: 2, lags: 1, ..SMALL },
    a_third_joins: Shard { one_is_out: true, ..SMALL },
    answers_are_late_doubled_and_lost: Shard { answers_at_once: false, ..SMALL },
    leaders_lose_what_they_had_not_synced: Shard { leader_syncs_at_once: false, ..SMALL },
    three_terms: Shard { epochs: 3, faults: 2, only_crashes: true, ..SMALL },
}

/// A model that misses what is known to lose records elsewhere would prove nothing.
#[test]
fn every_planted_mistake_is_found() {
    let out = Shard { one_is_out: true, ..SMALL };
    let three = Shard { epochs: 3, faults: 2, ..SMALL };
    let lags = Shard { lags: 1, ..SMALL };
    for (mistake, shard) in [
        (Mistake::CommitByProposedSet, lags),
        (Mistake::CommitByKnownSet, out),
        (Mistake::ShrinkBeforeAgreed, lags),
        (Mistake::TruncateToCommitted, three),
        (Mistake::ExpandBeforeEpochStart, Shard { faults: 2, ..out }),
        (Mistake::ExpandAnyone, out),
        (Mistake::CountUnsynced, three),
        (Mistake::CountUnvalidated, three),
        (Mistake::IgnoreStamps, three),
        (Mistake::ElectAnyone, three),
        (Mistake::KeepEpochAtRestart, three),
    ] {
        let (found, states) = find(Shard { broken: Some(mistake), ..shard });
        assert!(found.is_some(), "{mistake:?} was not found in {states} states");
    }
}
