//! The rules one by one, as tables.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::model::{BrokerId, LeaderEpoch, Position, ShardId};
use crate::replication::{
    ChangeRefused, Envelope, Follower, FollowerEffect, FollowerInput, Following, Leader,
    LeaderEffect, LeaderInput, LeaderLimits, LogView, Loss, Message, NoLeader, NotAdmitted,
    Proposal, Refusal, Replica, Settled, ShardState, Stamp, SyncSet, Tail, Term, Unclean,
};

const CLUSTER: Uuid = Uuid::from_u128(7);
const SHARD: ShardId = ShardId(3);
const NOTHING: [u64; 0] = [];
const LIMITS: LeaderLimits = LeaderLimits { lag_max_ms: 30_000, in_sync_min: 2 };

/// Pairs of numbers: epochs and where they began, or brokers and their runs.
type Starts<'a> = &'a [(i32, u64)];
type Brokers<'a> = &'a [i32];

fn epochs(starts: &[(i32, u64)]) -> Vec<(LeaderEpoch, Position)> {
    starts.iter().map(|(epoch, start)| (LeaderEpoch(*epoch), Position(*start))).collect()
}

fn tail(epoch: i32, end: u64) -> Tail {
    Tail { epoch: LeaderEpoch(epoch), end: Position(end) }
}

fn view(epochs: &[(LeaderEpoch, Position)], end: u64, durable: u64) -> LogView<'_> {
    LogView { epochs, end: Position(end), durable: Position(durable) }
}

fn set(brokers: &[i32]) -> BTreeSet<BrokerId> {
    brokers.iter().map(|broker| BrokerId(*broker)).collect()
}

fn run(broker: i32, incarnation: u64) -> Replica {
    Replica { broker: BrokerId(broker), incarnation }
}

fn up(runs: &[(i32, u64)]) -> BTreeMap<BrokerId, u64> {
    runs.iter().map(|(broker, run)| (BrokerId(*broker), *run)).collect()
}

#[test]
fn logs_are_compared_by_epoch_and_position() {
    // Epoch 1 from 0 to 100, 3 to 250, 4 to 300.
    let epochs = epochs(&[(0, 0), (1, 0), (3, 100), (4, 250)]);
    let log = view(&epochs, 300, 300);
    assert_eq!(log.tail(), tail(4, 300));
    for (asked, held, known) in [
        ((4, 300), true, (4, 300)),
        ((4, 301), false, (4, 300)),
        ((4, 250), true, (4, 300)),
        // An epoch that began elsewhere is another one's, which cannot be.
        ((4, 249), false, (4, 300)),
        ((3, 250), true, (3, 250)),
        ((3, 260), false, (3, 250)),
        ((2, 100), false, (1, 100)),
        ((1, 70), true, (1, 100)),
        ((1, 120), false, (1, 100)),
        ((0, 0), true, (0, 0)),
        ((7, 10), false, (4, 300)),
        ((-1, 10), false, (0, 0)),
    ] {
        let asked_for = tail(asked.0, asked.1);
        assert_eq!(log.holds(asked_for), held, "{asked:?}");
        assert_eq!(log.end_of(asked_for.epoch), tail(known.0, known.1), "{asked:?}");
    }
}

/// Leaders that changed fast: each round cuts at the first pair from the tail that may match, and
/// the last one matches (KIP-279).
#[test]
fn a_diverged_log_is_cut_where_it_parted_and_no_lower() {
    let cases: [(Starts<'_>, u64, Starts<'_>, u64, u64); 5] = [
        // The same but for a tail that the leader never had.
        (&[(0, 0), (1, 0)], 90, &[(0, 0), (1, 0), (2, 60)], 80, 60),
        // An epoch that the leader never had.
        (&[(0, 0), (1, 0), (2, 50)], 70, &[(0, 0), (1, 0), (3, 60)], 80, 50),
        // Both had epochs that the other never had.
        (&[(0, 0), (1, 0), (3, 40), (5, 60)], 90, &[(0, 0), (1, 0), (2, 30), (4, 55)], 70, 30),
        // Nothing in common.
        (&[(0, 0), (1, 0)], 40, &[(0, 0), (2, 0)], 70, 0),
        // A longer beginning of the same epoch.
        (&[(0, 0), (1, 0)], 40, &[(0, 0), (1, 0)], 30, 30),
    ];
    for (mine, my_end, leaders, leader_end, cut) in cases {
        let (mut mine, leaders) = (epochs(mine), epochs(leaders));
        let leader = view(&leaders, leader_end, leader_end);
        let mut end = my_end;
        let mut rounds = 0;
        while !leader.holds(view(&mine, end, end).tail()) {
            let log = view(&mine, end, end);
            let to = log.cut_at(leader.end_of(log.tail().epoch)).0;
            assert!(to < end, "every round cuts");
            end = to;
            mine.retain(|(epoch, start)| start.0 < to || epoch.0 == 0);
            rounds += 1;
        }
        assert_eq!(end, cut, "{mine:?}");
        assert!(rounds <= 4);
    }
}

struct Led {
    core: Leader,
    epochs: Vec<(LeaderEpoch, Position)>,
    end: u64,
    durable: u64,
}

impl Led {
    /// Broker 1 leads epoch 2 from position 100 on, with 1, 2 and 3 in sync.
    fn new(members: &[i32]) -> Self {
        let epochs = epochs(&[(0, 0), (1, 0), (2, 100)]);
        let term = Term {
            cluster: CLUSTER,
            shard: SHARD,
            leader: run(1, 10),
            epoch: LeaderEpoch(2),
            replicas: set(&[1, 2, 3]),
            in_sync: SyncSet { version: 5, members: set(members) },
        };
        let core = Leader::new(term, LIMITS, 0, &view(&epochs, 110, 110), (Position(80), 9_000));
        Self { core, epochs, end: 110, durable: 110 }
    }

    fn step(&mut self, now_ms: u64, input: LeaderInput) -> Vec<LeaderEffect> {
        self.core.step(now_ms, &view(&self.epochs, self.end, self.durable), input)
    }

    fn fetch(&mut self, from: Replica, at: Tail, durable: u64) -> Vec<LeaderEffect> {
        self.said(Stamp { from, ..stamp() }, at, durable)
    }

    fn said(&mut self, stamp: Stamp, at: Tail, durable: u64) -> Vec<LeaderEffect> {
        let message = Message::Fetch { tail: at, durable: Position(durable) };
        self.step(1, LeaderInput::Received(Envelope { stamp, message }))
    }
}

fn stamp() -> Stamp {
    let (from, to) = (run(2, 20), run(1, 10));
    Stamp { cluster: CLUSTER, shard: SHARD, epoch: LeaderEpoch(2), from, to }
}

fn commits(effects: &[LeaderEffect]) -> Vec<u64> {
    let mark = |effect: &LeaderEffect| match effect {
        LeaderEffect::Commit(mark) => Some(mark.0),
        _ => None,
    };
    effects.iter().filter_map(mark).collect()
}

fn proposal(effects: &[LeaderEffect]) -> Option<Proposal> {
    effects.iter().find_map(|effect| match effect {
        LeaderEffect::Propose(proposal) => Some(proposal.clone()),
        _ => None,
    })
}

#[test]
fn only_what_this_term_and_run_say_counts() {
    let others = [
        ("cluster", Stamp { cluster: Uuid::from_u128(8), ..stamp() }),
        ("shard", Stamp { shard: ShardId(4), ..stamp() }),
        ("an older term", Stamp { epoch: LeaderEpoch(1), ..stamp() }),
        ("an earlier run of the leader", Stamp { to: run(1, 9), ..stamp() }),
    ];
    for (what, stamp) in others {
        let mut led = Led::new(&[1, 2]);
        assert_eq!(led.said(stamp, tail(2, 110), 110), [], "{what}");
    }
    let mut led = Led::new(&[1, 2]);
    assert_eq!(commits(&led.fetch(run(2, 20), tail(2, 110), 110)), [110]);
    let stranger = led.fetch(run(9, 1), tail(2, 110), 110);
    assert!(matches!(
        stranger.as_slice(),
        [LeaderEffect::Send(Envelope {
            message: Message::Refused { why: Refusal::NotAReplica, .. },
            ..
        })]
    ));
    // The broker starts again: what it had on its disk it has to show again.
    led.end = 120;
    led.durable = 120;
    assert_eq!(commits(&led.fetch(run(2, 21), tail(2, 110), 110)), NOTHING);
    assert_eq!(led.core.progress(BrokerId(2)).unwrap().durable, Position(110));
    assert_eq!(commits(&led.fetch(run(2, 20), tail(2, 120), 120)), NOTHING, "an earlier run");
    assert_eq!(commits(&led.fetch(run(2, 21), tail(2, 120), 120)), [120]);
}

#[test]
fn a_later_term_silences_the_leader() {
    let mut led = Led::new(&[1, 2]);
    let later = Stamp { epoch: LeaderEpoch(3), ..stamp() };
    assert_eq!(led.said(later, tail(2, 110), 110), [LeaderEffect::StepDown]);
    assert_eq!(led.core.admit(1, None), Err(NotAdmitted::NotLeader));
    assert_eq!(led.fetch(run(2, 20), tail(2, 110), 110), [], "for good");
}

#[test]
fn a_leader_without_lease_takes_and_acknowledges_nothing() {
    let mut led = Led::new(&[1, 2]);
    assert_eq!(led.core.admit(8_999, Some(2)), Ok(()));
    assert_eq!(led.core.admit(9_000, None), Err(NotAdmitted::NotLeader));
    assert_eq!(led.core.settled(9_000, Position(80), 2), Settled::NotLeader);
    assert_eq!(led.step(1, LeaderInput::Leased(12_000)), []);
    assert_eq!(led.core.admit(11_999, None), Ok(()));
    assert_eq!(led.step(2, LeaderInput::Leased(5_000)), []);
    assert_eq!(led.core.admit(11_999, None), Ok(()), "an older answer takes nothing back");
    // It comes too late to commit, and a renewal comes too late, too.
    let message = Message::Fetch { tail: tail(2, 110), durable: Position(110) };
    let fetch = LeaderInput::Received(Envelope { stamp: stamp(), message });
    assert_eq!(led.step(12_000, fetch), [LeaderEffect::StepDown]);
    assert_eq!(led.step(12_001, LeaderInput::Leased(99_000)), []);
    assert_eq!(led.core.committed(), Position(80));
    assert_eq!(led.core.admit(12_001, None), Err(NotAdmitted::NotLeader));
}

#[test]
fn too_few_in_sync_are_told_before_and_after_the_append() {
    let led = Led::new(&[1, 2]);
    let too_few = Err(NotAdmitted::TooFewInSync { in_sync: 2, wanted: 3 });
    assert_eq!(led.core.admit(1, Some(3)), too_few);
    assert_eq!(led.core.admit(1, None), Ok(()), "acks=1 asks for nobody");
    for (end, wanted, settled) in [
        (80, 2, Settled::Committed),
        (81, 2, Settled::Pending),
        (81, 3, Settled::TooFewInSync),
        (80, 3, Settled::TooFewInSync),
    ] {
        assert_eq!(led.core.settled(1, Position(end), wanted), settled, "{end} {wanted}");
    }
    // Below the least size of the shard's set nothing is committed.
    let mut alone = Led::new(&[1]);
    alone.end = 150;
    alone.durable = 150;
    assert_eq!(alone.step(1, LeaderInput::Durable), []);
    assert_eq!(alone.core.committed(), Position(80));
}

#[test]
fn an_addition_counts_at_once_and_a_removal_when_it_is_agreed() {
    let mut led = Led::new(&[1, 2]);
    drop(led.fetch(run(2, 20), tail(2, 110), 110));
    // Committed is 110 by now; the epoch began in front of 110.
    for (at, asks) in [(100, false), (109, false), (110, true)] {
        let effects = led.fetch(run(3, 30), tail(if at > 100 { 2 } else { 1 }, at), at);
        assert_eq!(proposal(&effects).is_some(), asks, "{at}");
    }
    assert_eq!(led.core.counted(), set(&[1, 2, 3]), "before anybody agreed");
    led.end = 130;
    led.durable = 130;
    assert_eq!(commits(&led.fetch(run(2, 20), tail(2, 130), 130)), NOTHING, "3 is waited for");
    // It was refused; what was asked may be delayed and agreed to yet, until there is a new set.
    let withdrawn = proposal(&led.step(2, LeaderInput::SetRefused(5))).unwrap();
    assert_eq!((withdrawn.version, withdrawn.members), (5, set(&[1, 2])));
    assert_eq!(led.core.counted(), set(&[1, 2, 3]));
    let agreed = SyncSet { version: 6, members: set(&[1, 2]) };
    assert_eq!(commits(&led.step(2, LeaderInput::SetAgreed(agreed))), [130]);

    // Who lags is still waited for when his removal has been asked for.
    led.end = 150;
    led.durable = 150;
    assert_eq!(led.step(3, LeaderInput::Leased(900_000)), []);
    let effects = led.step(40_000, LeaderInput::Tick);
    let shrink = proposal(&effects).unwrap();
    assert_eq!((shrink.version, &shrink.members), (6, &set(&[1])));
    assert_eq!(commits(&effects), NOTHING);
    assert_eq!(led.core.counted(), set(&[1, 2]));
    let agreed = SyncSet { version: 7, members: set(&[1]) };
    assert_eq!(
        commits(&led.step(40_001, LeaderInput::SetAgreed(agreed))),
        NOTHING,
        "one is too few"
    );
}

#[test]
fn a_follower_that_keeps_up_does_not_lag_and_an_idle_one_neither() {
    let mut led = Led::new(&[1, 2, 3]);
    assert_eq!(led.step(0, LeaderInput::Leased(900_000)), []);
    let mut now_ms = 0;
    for end in 0..5 {
        now_ms += 20_000;
        // 2 always has what there was when it asked before; 3 has it from the start.
        let message = Message::Fetch { tail: tail(2, 110 + end), durable: Position(110 + end) };
        drop(led.step(now_ms, LeaderInput::Received(Envelope { stamp: stamp(), message })));
        led.end = 111 + end;
    }
    let members = proposal(&led.step(now_ms + 1, LeaderInput::Tick)).unwrap().members;
    assert_eq!(members, set(&[1, 2]), "3 never asked");
}

#[test]
fn a_follower_minds_only_answers_to_what_it_asked() {
    let epochs = epochs(&[(0, 0), (1, 0), (2, 100)]);
    let log = view(&epochs, 110, 105);
    let me = run(2, 20);
    let mut core = Follower::new(CLUSTER, SHARD, me, Position(50), 500);
    let back = Stamp { from: run(1, 10), to: me, ..stamp() };
    let frames = |stamp, after| {
        let message = Message::Frames { after, committed: Position(300) };
        FollowerInput::Received(Envelope { stamp, message })
    };
    assert_eq!(core.step(0, &log, frames(back, tail(2, 110))), [], "it follows nobody yet");
    let following = Following { epoch: LeaderEpoch(2), leader: run(1, 10) };
    let asked = core.step(0, &log, FollowerInput::Follow(following));
    let message = Message::Fetch { tail: tail(2, 110), durable: Position(105) };
    assert_eq!(asked, [FollowerEffect::Send(Envelope { stamp: stamp(), message })]);
    assert_eq!(core.step(0, &log, FollowerInput::Follow(following)), []);
    for other in [
        Stamp { cluster: Uuid::from_u128(8), ..back },
        Stamp { epoch: LeaderEpoch(1), ..back },
        Stamp { from: run(1, 9), ..back },
        Stamp { from: run(3, 10), ..back },
        Stamp { to: run(2, 19), ..back },
    ] {
        assert_eq!(core.step(0, &log, frames(other, tail(2, 110))), [], "{other:?}");
    }
    assert_eq!(core.step(0, &log, frames(back, tail(1, 110))), [], "another tail");
    let taken = core.step(0, &log, frames(back, tail(2, 110)));
    // Committed reaches no further than what is here, and further when more is.
    assert_eq!(taken, [FollowerEffect::Commit(Position(110)), FollowerEffect::Append]);
    let longer = view(&epochs, 200, 110);
    assert_eq!(
        core.step(0, &longer, FollowerInput::LogMoved)[0],
        FollowerEffect::Commit(Position(200))
    );
    assert_eq!(core.step(499, &longer, FollowerInput::Tick), []);
    assert_eq!(core.step(500, &longer, FollowerInput::Tick).len(), 1, "it asks again");

    let known = tail(1, 90);
    let diverged = Message::Diverged { after: tail(2, 200), known };
    let diverged = FollowerInput::Received(Envelope { stamp: back, message: diverged });
    assert_eq!(core.step(501, &longer, diverged), [FollowerEffect::Truncate(Position(90))]);
    assert_eq!(core.step(5_000, &longer, FollowerInput::Tick), [], "it says nothing meanwhile");
    assert_eq!(core.step(5_000, &longer, frames(back, tail(2, 200))), []);
    let cut = view(&epochs[..2], 90, 90);
    assert_eq!(core.step(5_001, &cut, FollowerInput::Truncated).len(), 1);
}

fn shard(epoch: i32, leader: i32, members: &[i32], eligible: &[i32]) -> ShardState {
    let mut state = ShardState::new([1, 2, 3].map(BrokerId).to_vec(), 2);
    state.epoch = LeaderEpoch(epoch);
    state.leader = Some(run(leader, 1));
    state.in_sync = SyncSet { version: 5, members: set(members) };
    state.eligible = set(eligible);
    state
}

#[test]
fn a_leader_is_elected_among_those_who_hold_everything() {
    let all = up(&[(1, 1), (2, 1), (3, 1)]);
    let cases: [(Brokers<'_>, Brokers<'_>, Starts<'_>, Option<i32>); 6] = [
        (&[1, 2, 3], &[], &[(1, 1), (2, 1), (3, 1)], Some(1)),
        (&[2, 3], &[], &[(1, 1), (3, 1)], Some(3)),
        (&[2], &[3], &[(1, 1), (2, 1), (3, 1)], Some(2)),
        (&[2], &[3], &[(1, 1), (3, 1)], Some(3)),
        (&[2], &[3], &[(1, 1)], None),
        (&[2], &[], &[(1, 1), (3, 1)], None),
    ];
    for (members, eligible, runs, chosen) in cases {
        let state = shard(4, 2, members, eligible);
        let elected = state.elect(&up(runs), Unclean::Never);
        let Some(chosen) = chosen else {
            assert_eq!(elected, Err(NoLeader));
            let forced = state.elect(&up(runs), Unclean::Asked).unwrap();
            assert!(forced.unclean);
            assert_eq!(forced.state.in_sync.members, set(&[1]), "nobody else is sure of anything");
            assert_eq!(forced.state.eligible, set(&[]));
            continue;
        };
        let elected = elected.unwrap();
        assert!(!elected.unclean);
        assert_eq!(elected.state.leader, Some(run(chosen, 1)));
        assert_eq!(elected.state.epoch, LeaderEpoch(5));
        assert!(elected.state.in_sync.version > 5, "what was asked before is void");
        assert!(elected.state.in_sync.members.contains(&BrokerId(chosen)));
    }
    // Who is elected from the eligible is in sync alone; the one before holds everything, too.
    let lone = shard(4, 2, &[2], &[3]).elect(&up(&[(3, 1)]), Unclean::Never).unwrap().state;
    assert_eq!((lone.in_sync.members, lone.eligible), (set(&[3]), set(&[2])));
    let preferred = shard(4, 2, &[1, 2], &[]).prefer(&all).unwrap().state;
    assert_eq!(preferred.leader, Some(run(1, 1)));
    assert_eq!(shard(4, 1, &[1, 2], &[]).prefer(&all), None);
    assert_eq!(shard(4, 2, &[2, 3], &[]).prefer(&all), None);
}

#[test]
fn who_leaves_below_the_least_size_stays_eligible_until_there_are_enough() {
    let two = shard(4, 1, &[1, 2, 3], &[]).after(run(3, 1), Loss::Silent);
    assert_eq!((two.in_sync.members.clone(), two.eligible.clone()), (set(&[1, 2]), set(&[])));
    let one = two.after(run(2, 1), Loss::Silent);
    assert_eq!((one.in_sync.members.clone(), one.eligible.clone()), (set(&[1]), set(&[2])));
    assert_eq!(one.leader, Some(run(1, 1)));
    let none = one.after(run(1, 1), Loss::Silent);
    assert_eq!(none.in_sync.members, set(&[1]), "the last one stays");
    assert_eq!(none.leader, None);
    // A disk is lost: it is trusted with nothing, whatever it was.
    let lost = none.after(run(2, 2), Loss::Damaged).after(run(1, 2), Loss::Damaged);
    assert_eq!((lost.in_sync.members, lost.eligible), (set(&[]), set(&[])));
    // A leader that starts again leads no more, and keeps its place.
    let again = shard(4, 1, &[1, 2], &[]).after(run(1, 2), Loss::Restarted);
    assert_eq!((again.leader, again.in_sync.members), (None, set(&[1, 2])));
    let proposal = Proposal {
        leader: run(1, 1),
        epoch: LeaderEpoch(4),
        version: one.in_sync.version,
        members: set(&[1, 2]),
        added: vec![run(2, 1)],
    };
    let back = one.change(&proposal, &up(&[(1, 1), (2, 1)])).unwrap();
    assert_eq!((back.in_sync.members, back.eligible), (set(&[1, 2]), set(&[])));
}

#[test]
fn proposals_are_agreed_to_only_by_their_leader_version_and_runs() {
    let state = shard(4, 1, &[1, 2], &[]);
    let good = Proposal {
        leader: run(1, 1),
        epoch: LeaderEpoch(4),
        version: 5,
        members: set(&[1, 2, 3]),
        added: vec![run(3, 7)],
    };
    let runs = up(&[(1, 1), (2, 1), (3, 7)]);
    let agreed = state.change(&good, &runs).unwrap();
    assert_eq!((agreed.in_sync.version, &agreed.in_sync.members), (6, &set(&[1, 2, 3])));
    assert_eq!(agreed.change(&good, &runs), Err(ChangeRefused::Outdated(6)), "twice");
    let not_leader = ChangeRefused::NotLeader(LeaderEpoch(4));
    for (why, bad) in [
        (not_leader, Proposal { leader: run(1, 2), ..good.clone() }),
        (not_leader, Proposal { leader: run(2, 1), ..good.clone() }),
        (not_leader, Proposal { epoch: LeaderEpoch(3), ..good.clone() }),
        (ChangeRefused::Outdated(5), Proposal { version: 4, ..good.clone() }),
        (ChangeRefused::Invalid, Proposal { members: set(&[2, 3]), ..good.clone() }),
        (ChangeRefused::Invalid, Proposal { members: set(&[1, 9]), ..good.clone() }),
        (ChangeRefused::NotUp(BrokerId(3)), Proposal { added: vec![run(3, 6)], ..good.clone() }),
        (ChangeRefused::NotUp(BrokerId(3)), Proposal { added: Vec::new(), ..good.clone() }),
    ] {
        assert_eq!(state.change(&bad, &runs), Err(why), "{bad:?}");
    }
    assert_eq!(state.change(&good, &up(&[(1, 1)])), Err(ChangeRefused::NotUp(BrokerId(3))));
}
