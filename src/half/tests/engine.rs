//! What callers of the handle see, with time paused.

use std::time::Duration;

use tokio::time::Instant;

use super::world::{CONFIG, DISCARD, ORDERS, PACKED, STAMPED, World, half};
use crate::env::sim::START_WALL_MS;
use crate::half::event::Placed;
use crate::half::payload::find_placed;
use crate::half::request::HalfTotals;
use crate::half::{
    CheckError, Decision, End, EndError, Ender, Expiry, HalfCounts, HalfFilter, HalfState, Outcome,
    SendError, SendHalf, ShowError, TransactionId, Unavailable,
};
use crate::model::{Offset, QueueId};
use crate::partition::system::{HALF, HALF_EVENTS};

const ORDERS_0: QueueId = QueueId(10);
const NOW: Duration = Duration::ZERO;

/// Lets simulated time pass; it is paused in all tests of the engine.
pub(super) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

async fn seconds(count: u64) {
    pause(Duration::from_secs(count)).await;
}

fn committed_at(end: End) -> Option<i64> {
    match end.outcome {
        Outcome::Committed { offset, .. } => offset.map(|offset| offset.0),
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_is_seen_when_it_is_committed_and_not_before() {
    let world = World::start().await;
    let sent = world.try_send(SendHalf { message_id: Some("m-1".into()), ..half("a") }).await;
    let sent = sent.unwrap();
    assert_eq!((sent.message_id.as_str(), sent.born_ms), ("m-1", START_WALL_MS + 10));
    world.produce(ORDERS_0, "before").await;
    assert_eq!(world.values(ORDERS_0).await, ["before"]);

    seconds(5).await;
    let end = world.commit(sent.id).await.unwrap();
    let outcome = Outcome::Committed {
        by: Ender::Producer,
        topic_id: ORDERS,
        partition: 0,
        offset: Some(Offset(1)),
    };
    assert_eq!(end, End { at_ms: sent.born_ms + 5000, outcome });
    let seen = world.read(ORDERS_0).await;
    assert_eq!(seen.len(), 2);
    let record = &seen[1];
    assert_eq!(record.offset, Offset(1));
    assert_eq!(record.timestamp, sent.born_ms, "the message is as old as it is");
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some("key"), Some("a")));
    let names: Vec<_> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["TAGS", "PGROUP", "UNIQ_KEY"]);
    assert_eq!(record.header("PGROUP"), Some("shop"));
    assert_eq!(record.header("UNIQ_KEY"), Some("m-1"));
}

#[tokio::test(start_paused = true)]
async fn the_same_end_again_answers_the_same_however_often_and_after_a_restart() {
    let mut world = World::start().await;
    let (kept, gone) = (world.send("kept").await, world.send("gone").await);
    let committed = world.commit(kept.id).await.unwrap();
    let rolled_back = world.roll_back(gone.id).await.unwrap();
    world.produce(ORDERS_0, "behind").await;
    for _ in 0..2 {
        for _ in 0..5 {
            assert_eq!(world.commit(kept.id).await, Ok(committed));
            assert_eq!(world.roll_back(gone.id).await, Ok(rolled_back));
            assert_eq!(world.roll_back(kept.id).await, Err(EndError::Ended(committed)));
            assert_eq!(world.commit(gone.id).await, Err(EndError::Ended(rolled_back)));
        }
        assert_eq!(world.values(ORDERS_0).await, ["kept", "behind"]);
        world = world.restart().await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_commits_and_rollbacks_that_race_one_wins_and_all_learn_which() {
    let world = World::start().await;
    let mut kept = Vec::new();
    for round in 0..40 {
        let value = format!("v{round}");
        let id = world.send(&value).await.id;
        let (a, b, c, d) = tokio::join!(
            world.commit(id),
            world.roll_back(id),
            world.commit(id),
            world.roll_back(id),
        );
        let (commits, rollbacks) = ([a, c], [b, d]);
        let won = commits[0].or(rollbacks[0]).unwrap();
        match won.outcome {
            Outcome::Committed { .. } => {
                kept.push(value);
                assert_eq!(commits, [Ok(won); 2]);
                assert_eq!(rollbacks, [Err(EndError::Ended(won)); 2]);
            }
            Outcome::RolledBack { .. } => {
                assert_eq!(rollbacks, [Ok(won); 2]);
                assert_eq!(commits, [Err(EndError::Ended(won)); 2]);
            }
            outcome @ Outcome::Expired { .. } => panic!("{outcome:?}"),
        }
    }
    assert_eq!(world.values(ORDERS_0).await, kept);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_tried_again_finds_its_half() {
    let named = |id: &str, value: &str| SendHalf { message_id: Some(id.into()), ..half(value) };
    let mut world = World::start().await;
    let (first, second) =
        tokio::join!(world.try_send(named("m-1", "a")), world.try_send(named("m-1", "a")),);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!([first.duplicate, second.duplicate], [false, true]);
    for _ in 0..2 {
        let again = world.try_send(named("m-1", "a")).await.unwrap();
        assert_eq!((again.id, again.duplicate), (first.id, true));
        world = world.restart().await;
    }
    // Another group's, another topic's and another id are others.
    for other in [
        SendHalf { group: "bank".into(), ..named("m-1", "b") },
        SendHalf { topic_id: STAMPED, ..named("m-1", "b") },
        named("m-2", "b"),
    ] {
        let other = world.try_send(other).await.unwrap();
        assert!(!other.duplicate);
        world.roll_back(other.id).await.unwrap();
    }
    // Its producers were asked and have committed it before the sender tries again.
    let end = world.commit(first.id).await.unwrap();
    for _ in 0..2 {
        let late = world.try_send(named("m-1", "a")).await.unwrap();
        assert_eq!((late.id, late.duplicate), (first.id, true));
        assert_eq!(world.commit(late.id).await, Ok(end));
        world = world.restart().await;
    }
    assert_eq!(world.values(ORDERS_0).await, ["a"]);
    seconds(720).await;
    assert!(!world.try_send(named("m-1", "a")).await.unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn many_at_once_share_groups_and_keep_apart() {
    let world = World::start().await;
    let world = &world;
    let halves = (0..150).map(|n| async move {
        let mut half = half(&format!("v{n}"));
        half.partition = n % 2;
        let sent = world.try_send(half).await.unwrap();
        if n % 3 == 0 {
            world.roll_back(sent.id).await.unwrap();
            return;
        }
        let offset = committed_at(world.commit(sent.id).await.unwrap()).unwrap();
        let seen = world.read(QueueId(10 + (n % 2).unsigned_abs())).await;
        let at = usize::try_from(offset).unwrap();
        assert_eq!(seen[at].value, Some(format!("v{n}")));
        assert_eq!(committed_at(world.commit(sent.id).await.unwrap()), Some(offset));
    });
    let all: Vec<_> = halves.collect();
    join_all(all).await;
    let both = world.values(ORDERS_0).await.len() + world.values(QueueId(11)).await.len();
    assert_eq!(both, 100);
    assert_eq!(world.halves.counts().await.unwrap().pending, 0);
}

/// Polls all of them, one after the other, until each is done.
async fn join_all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn producers_are_asked_after_the_timeout_then_at_the_interval_and_not_too_often() {
    let world = World::start().await;
    let sent = world.send("a").await;
    assert_eq!(world.checks(9, NOW).await, []);
    for (number, wait_s) in [(1, 6), (2, 30), (3, 30)] {
        let asked = Instant::now();
        let checks = world.checks(9, Duration::from_secs(3600)).await;
        assert_eq!(checks, [("a".to_owned(), number)]);
        let late = asked.elapsed().saturating_sub(Duration::from_secs(wait_s));
        assert!(late < Duration::from_millis(20), "{late:?} late");
        assert!(asked.elapsed() >= Duration::from_secs(wait_s) - Duration::from_millis(10));
    }
    let HalfState::Pending(pending) = world.halves.get(sent.id).await.unwrap() else { panic!() };
    assert_eq!((pending.checks, pending.next_check_ms), (3, None));
    // Asked as often as may be: one interval later it is over.
    assert_eq!(world.checks(9, Duration::from_secs(29)).await, []);
    assert_eq!(world.read(DISCARD).await, []);
    seconds(2).await;
    let copies = world.read(DISCARD).await;
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].value.as_deref(), Some("a"));
    let id = sent.id.to_string();
    for (name, value) in [
        ("TAGS", "new"),
        ("PGROUP", "shop"),
        ("REAL_TOPIC", "orders"),
        ("REAL_QID", "0"),
        ("__transactionId__", &id),
        ("TRANSACTION_CHECK_TIMES", "3"),
        ("braid.discard.reason", "checks"),
    ] {
        assert_eq!(copies[0].header(name), Some(value), "{name}");
    }
    let HalfState::Ended(end) = world.halves.get(sent.id).await.unwrap() else { panic!() };
    assert_eq!(end.outcome, Outcome::Expired { reason: Expiry::Checks, checks: 3 });
    assert_eq!(world.commit(sent.id).await, Err(EndError::Ended(end)));
    assert_eq!(world.values(ORDERS_0).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn two_pollers_never_get_the_same_check() {
    let world = World::start().await;
    for n in 0..6 {
        world.send(&format!("v{n}")).await;
    }
    let minute = Duration::from_secs(60);
    let (a, b, c) =
        tokio::join!(world.checks(2, minute), world.checks(2, minute), world.checks(2, minute));
    let mut all: Vec<_> = [a, b, c].concat();
    all.sort();
    let expected: Vec<_> = (0..6).map(|n| (format!("v{n}"), 1)).collect();
    assert_eq!(all, expected);
    assert_eq!(world.checks(9, Duration::from_secs(20)).await, []);
}

#[tokio::test(start_paused = true)]
async fn immunity_delays_the_first_check_and_burns_none() {
    let world = World::start().await;
    let immune = SendHalf { immunity_ms: 3_600_000, ..half("immune") };
    let sent = world.try_send(immune).await.unwrap();
    assert_eq!(world.checks(9, Duration::from_secs(3599)).await, []);
    assert_eq!(world.checks(9, Duration::from_secs(2)).await, [("immune".to_owned(), 1)]);
    let too_long = SendHalf { immunity_ms: 3_600_001, ..half("x") };
    let refused = world.try_send(too_long).await;
    assert_eq!(refused, Err(SendError::Immunity { got: 3_600_001 }));
    assert_eq!(world.commit(sent.id).await.map(committed_at), Ok(Some(0)));
    assert_eq!(world.checks(9, Duration::from_secs(100)).await, []);
}

#[tokio::test(start_paused = true)]
async fn while_nobody_can_be_asked_no_check_is_burned_and_age_ends_it() {
    let world = World::start().await;
    let sent = world.send("a").await;
    // A poll of another group is nobody to ask.
    let other = world.halves.poll_checks("other", 9, Duration::from_secs(4 * 3600 - 1)).await;
    assert_eq!(other, Ok(Vec::new()));
    let HalfState::Pending(pending) = world.halves.get(sent.id).await.unwrap() else { panic!() };
    assert_eq!(pending.checks, 0);
    seconds(2).await;
    let HalfState::Ended(end) = world.halves.get(sent.id).await.unwrap() else { panic!() };
    assert_eq!(end.outcome, Outcome::Expired { reason: Expiry::Age, checks: 0 });
    assert_eq!(world.read(DISCARD).await[0].header("braid.discard.reason"), Some("age"));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_reached_nobody_does_not_count() {
    let world = World::start().await;
    let sent = world.send("a").await;
    // The producer hangs up while it waits, and another while the check is on its way.
    let gone = world.halves.poll_checks("shop", 9, Duration::from_secs(60));
    assert!(tokio::time::timeout(Duration::from_secs(3), gone).await.is_err());
    seconds(4).await;
    let mut hangs_up = Box::pin(world.halves.poll_checks("shop", 9, NOW));
    let first = std::future::poll_fn(|context| {
        std::task::Poll::Ready(hangs_up.as_mut().poll(context).is_ready())
    });
    assert!(!first.await);
    tokio::task::yield_now().await;
    drop(hangs_up);
    seconds(1).await;
    assert_eq!(world.checks(9, NOW).await, [("a".to_owned(), 1)]);
    // A webhook that failed says so, and the next asker gets the check at once.
    assert_eq!(world.halves.return_check(sent.id, 2).await, Err(CheckError::NotTheLast));
    assert_eq!(world.halves.return_check(sent.id, 1).await, Ok(()));
    assert_eq!(world.halves.return_check(sent.id, 1).await, Err(CheckError::NotTheLast));
    assert_eq!(world.checks(9, NOW).await, [("a".to_owned(), 1)]);
    world.commit(sent.id).await.unwrap();
    assert_eq!(world.halves.return_check(sent.id, 1).await, Err(CheckError::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_check_can_be_asked_for_at_once() {
    let world = World::start().await;
    let sent = world.try_send(SendHalf { immunity_ms: 60_000, ..half("a") }).await.unwrap();
    let (checks, asked) = tokio::join!(world.checks(9, Duration::from_secs(5)), async {
        seconds(1).await;
        world.halves.check_now(sent.id).await
    });
    assert_eq!((checks, asked), (vec![("a".to_owned(), 1)], Ok(())));
    for number in [2, 3] {
        world.halves.check_now(sent.id).await.unwrap();
        assert_eq!(world.checks(9, NOW).await, [("a".to_owned(), number)]);
    }
    assert_eq!(world.halves.check_now(sent.id).await, Err(CheckError::UsedUp));
    let nobody = TransactionId { half: Offset(77), born_ms: 0 };
    assert_eq!(world.halves.check_now(nobody).await, Err(CheckError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn everything_is_there_after_a_restart() {
    let world = World::start().await;
    let (a, b) = (world.send("a").await, world.send("b").await);
    let c = world.try_send(SendHalf { group: "other".into(), ..half("c") }).await.unwrap();
    world.commit(b.id).await.unwrap();
    seconds(7).await;
    assert_eq!(world.checks(9, NOW).await, [("a".to_owned(), 1)]);
    let counts = world.halves.counts().await.unwrap();
    assert_eq!(counts.ended, HalfTotals { committed: 1, ..HalfTotals::default() });
    let state = world.halves.get(a.id).await;
    let world = world.restart().await;
    // What is counted is of one life.
    let counts = HalfCounts { ended: HalfTotals::default(), ..counts };
    assert_eq!(world.halves.counts().await, Ok(counts));
    assert_eq!(world.halves.get(a.id).await, state);
    // Asked 30 s after the last time, not after the start.
    assert_eq!(world.checks(9, Duration::from_secs(28)).await, []);
    assert_eq!(world.checks(9, Duration::from_secs(3)).await, [("a".to_owned(), 2)]);
    assert_eq!(world.commit(c.id).await.map(committed_at), Ok(Some(1)));
    assert_eq!(world.values(ORDERS_0).await, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn while_the_queue_is_read_back_everybody_is_told_to_come_again() {
    let world = World::loading();
    let id = TransactionId { half: Offset(0), born_ms: 0 };
    let loading = Unavailable::Loading;
    let (sent, end, checks, asked, state) = tokio::join!(
        world.try_send(half("a")),
        world.commit(id),
        world.halves.poll_checks("shop", 1, NOW),
        world.halves.check_now(id),
        world.halves.get(id),
    );
    assert_eq!(sent, Err(loading.into()));
    assert_eq!(end, Err(loading.into()));
    assert_eq!(checks, Err(loading));
    assert_eq!(asked, Err(loading.into()));
    assert_eq!(state, Err(loading.into()));
    world.loaded().await;
    world.send("a").await;
}

#[tokio::test(start_paused = true)]
async fn a_half_whose_topic_is_gone_cannot_be_committed_and_is_kept_for_the_discard_topic() {
    let world = World::start().await;
    let (a, b) = (world.send("a").await, world.send("b").await);
    world.topics.targets.lock().unwrap().remove(&(ORDERS, 0));
    assert_eq!(world.commit(a.id).await, Err(EndError::TargetGone));
    assert_eq!(world.roll_back(b.id).await.map(|end| end.outcome.word()), Ok("rolled back"));
    let HalfState::Pending(_) = world.halves.get(a.id).await.unwrap() else { panic!() };
    seconds(4 * 3600 + 1).await;
    assert_eq!(world.values(DISCARD).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_queue_takes_only_its_own_halves_down() {
    let world = World::start().await;
    let other = SendHalf { partition: 1, ..half("b") };
    let (a, b) = (world.send("a").await, world.try_send(other).await.unwrap());
    world.produce(ORDERS_0, "x").await;
    // The image still names it: dropping it is on its way.
    world.partitions.drop_queue(ORDERS_0).unwrap();
    let (a_end, b_end) = tokio::join!(world.commit(a.id), world.commit(b.id));
    assert_eq!(a_end, Err(EndError::TargetGone));
    assert_eq!(b_end.map(committed_at), Ok(Some(0)));
}

#[tokio::test(start_paused = true)]
async fn without_a_discard_topic_halves_wait_and_nothing_else_does() {
    let world = World::start().await;
    let discard = world.topics.discard.lock().unwrap().take();
    let sent = world.send("old").await;
    seconds(4 * 3600 + 60).await;
    let HalfState::Pending(_) = world.halves.get(sent.id).await.unwrap() else { panic!() };
    let fresh = world.send("fresh").await;
    assert_eq!(world.checks(9, Duration::from_secs(10)).await, [("fresh".to_owned(), 1)]);
    assert_eq!(world.commit(fresh.id).await.map(committed_at), Ok(Some(0)));
    *world.topics.discard.lock().unwrap() = discard;
    seconds(31).await;
    assert_eq!(world.values(DISCARD).await, ["old"]);
}

#[tokio::test(start_paused = true)]
async fn one_half_that_cannot_expire_does_not_stall_the_others() {
    let world = World::start().await;
    let stuck = world.send(&"stuck".repeat(2_000)).await;
    let others = "others".repeat(8_000);
    world.produce(ORDERS_0, &others).await;
    world.damage("stuckstuck");
    for n in 0..100 {
        world.send(&format!("v{n}")).await;
    }
    seconds(4 * 3600 + 1).await;
    let counts = world.halves.counts().await.unwrap();
    assert_eq!(world.values(DISCARD).await.len(), 100);
    assert_eq!(counts.pending, 1);
    assert!(matches!(world.halves.get(stuck.id).await, Ok(HalfState::Pending(_))));
    world.roll_back(stuck.id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_neither_ages_a_half_nor_delays_a_check() {
    for jump_ms in [5 * 3_600_000, -5 * 3_600_000] {
        let world = World::start().await;
        let sent = world.send("a").await;
        seconds(1).await;
        world.sim.clock.jump_wall_ms(jump_ms);
        seconds(2).await;
        let HalfState::Pending(pending) = world.halves.get(sent.id).await.unwrap() else {
            panic!("expired by a jump of {jump_ms} ms")
        };
        assert_eq!(pending.next_check_ms, Some(sent.born_ms + jump_ms + 6_000));
        assert_eq!(pending.expires_ms, sent.born_ms + jump_ms + 4 * 3_600_000);
        assert_eq!(world.checks(9, NOW).await, [], "asked too early");
        assert_eq!(world.checks(9, Duration::from_secs(4)).await, [("a".to_owned(), 1)]);
        // One that waits is told in time whatever the clock does meanwhile.
        let jump = async {
            seconds(10).await;
            world.sim.clock.jump_wall_ms(-jump_ms);
        };
        let (checks, ()) = tokio::join!(world.checks(9, Duration::from_secs(31)), jump);
        assert_eq!(checks, [("a".to_owned(), 2)]);
        let end = world.commit(sent.id).await;
        assert_eq!(end.map(committed_at), Ok(Some(0)));
        // What is remembered of the end is not forgotten by a jump.
        world.sim.clock.jump_wall_ms(jump_ms);
        seconds(60).await;
        assert_eq!(world.commit(sent.id).await, end);
        let young = world.send("b").await;
        seconds(4 * 3600 - 2).await;
        assert!(matches!(world.halves.get(young.id).await, Ok(HalfState::Pending(_))));
        seconds(3).await;
        assert!(matches!(world.halves.get(young.id).await, Ok(HalfState::Ended(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_at_a_start_is_asked_about_before_it_is_discarded() {
    let world = World::start().await;
    let (asked, lonely) = (
        world.send("asked").await,
        world.try_send(SendHalf { group: "gone".into(), ..half("lonely") }).await.unwrap(),
    );
    // The broker was away for a day, or the clock says so.
    world.sim.clock.jump_wall_ms(24 * 3_600_000);
    let world = world.restart().await;
    let round = CONFIG.first_check + CONFIG.check_interval * u32::from(CONFIG.checks_max);
    for number in 1..=CONFIG.checks_max {
        let checks = world.checks(9, CONFIG.check_interval).await;
        assert_eq!(checks, [("asked".to_owned(), number)]);
    }
    assert!(matches!(world.halves.get(lonely.id).await, Ok(HalfState::Pending(_))));
    pause(round).await;
    let HalfState::Ended(end) = world.halves.get(asked.id).await.unwrap() else { panic!() };
    assert_eq!(end.outcome, Outcome::Expired { reason: Expiry::Checks, checks: CONFIG.checks_max });
    let HalfState::Ended(end) = world.halves.get(lonely.id).await.unwrap() else { panic!() };
    assert_eq!(end.outcome, Outcome::Expired { reason: Expiry::Age, checks: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_start_reads_no_messages() {
    let world = World::start().await;
    let ids: Vec<_> = {
        let mut ids = Vec::new();
        for n in 0..100 {
            ids.push(world.send(&format!("{n} ").repeat(4_000)).await.id);
        }
        ids
    };
    let (env, sim) = world.sim.restart();
    let world = World::on(env, sim, World::topics(), CONFIG).unwrap();
    let size = |queue| world.partitions.size_bytes(queue);
    assert!(size(HALF) > 1_000_000 && size(HALF_EVENTS) < 30_000, "{}", size(HALF_EVENTS));
    // Nothing is loaded before the first await; then there are no messages to be read.
    world.partitions.drop_queue(HALF).unwrap();
    world.loaded().await;
    assert_eq!(world.halves.counts().await.unwrap().pending, 100);
    assert_eq!(world.commit(ids[7]).await, Err(EndError::Unreadable));
    assert!(world.roll_back(ids[7]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_committed_half_is_compressed_as_its_topic_says() {
    let world = World::start().await;
    let packed = SendHalf { topic_id: PACKED, ..half(&"a".repeat(2_000)) };
    let sent = world.try_send(packed).await.unwrap();
    let end = world.commit(sent.id).await.unwrap();
    let seen = world.read(QueueId(30)).await;
    assert_eq!(seen[0].value.as_deref(), Some(&*"a".repeat(2_000)));
    assert_eq!(seen[0].timestamp, end.at_ms);
    let stored = world.partitions.read(QueueId(30), Offset(0), 1, true).await.unwrap();
    let stored = stored.batches.concat();
    assert!(stored.len() < 400, "{} bytes", stored.len());
    assert_eq!(world.commit(sent.id).await, Ok(end), "and it is found again");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_says_so_gets_the_time_of_the_commit() {
    let world = World::start().await;
    let sent = world.try_send(SendHalf { topic_id: STAMPED, ..half("a") }).await.unwrap();
    seconds(3).await;
    let end = world.commit(sent.id).await.unwrap();
    let seen = world.read(QueueId(20)).await;
    assert_eq!(seen[0].timestamp, sent.born_ms + 3000);
    assert_eq!(world.commit(sent.id).await, Ok(end));
}

#[tokio::test(start_paused = true)]
async fn a_committed_batch_is_found_again_behind_what_others_appended_in_between() {
    let world = World::start().await;
    let sent = world.send("a").await;
    for n in 0..30 {
        world.produce(ORDERS_0, &format!("{n}")).await;
    }
    world.commit(sent.id).await.unwrap();
    let batch = crate::half::payload::half(&world.partitions, sent.id).await.unwrap().batch;
    let crc = crate::half::payload::header_of(&batch).unwrap().crc;
    let placed = |from, crc| Placed { queue: ORDERS_0, from: Offset(from), crc };
    let find = async |placed| find_placed(&world.partitions, placed).await;
    assert_eq!(find(placed(0, crc)).await, Some(Offset(30)));
    assert_eq!(find(placed(30, crc)).await, Some(Offset(30)));
    assert_eq!(find(placed(31, crc)).await, None);
    assert_eq!(find(placed(0, crc ^ 1)).await, None);
    // The record is gone; that it was committed is not.
    world.partitions.release(ORDERS_0, Offset(31)).unwrap();
    assert_eq!(world.commit(sent.id).await.map(committed_at), Ok(None));
}

#[tokio::test(start_paused = true)]
async fn ids_that_were_never_handed_out_name_nothing() {
    let world = World::start().await;
    let sent = world.send("a").await;
    let strangers = [
        TransactionId { born_ms: sent.born_ms + 1, ..sent.id },
        TransactionId { half: Offset(1), ..sent.id },
        TransactionId { half: Offset(i64::MAX), born_ms: i64::MIN },
    ];
    for id in strangers {
        assert_eq!(world.commit(id).await, Err(EndError::Unknown));
        assert_eq!(world.roll_back(id).await, Err(EndError::Unknown));
        assert_eq!(world.halves.get(id).await, Err(ShowError::Unknown));
        assert_eq!(world.halves.message(id).await, Err(ShowError::Unknown));
        assert_eq!(world.halves.return_check(id, 1).await, Err(CheckError::Unknown));
    }
    let end = world.roll_back(sent.id).await.unwrap();
    assert_eq!(world.roll_back(strangers[0]).await, Err(EndError::Unknown));
    assert_eq!(world.roll_back(sent.id).await, Ok(end));
}

#[tokio::test(start_paused = true)]
async fn another_group_cannot_end_a_half() {
    let world = World::start().await;
    let id = world.send("a").await.id;
    let end = async |group: &str, by| {
        world.halves.end(id, Decision::Commit, by, Some(group.to_owned())).await
    };
    assert_eq!(end("thieves", Ender::Producer).await, Err(EndError::OtherGroup));
    let ended = end("shop", Ender::Operator).await.unwrap();
    assert!(matches!(ended.outcome, Outcome::Committed { by: Ender::Operator, .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_half_is_refused() {
    let world = World::start().await;
    let long = "x".repeat(256);
    let name = |what| Err(SendError::NameTooLong { what, got: 256 });
    let cases = [
        (SendHalf { group: String::new(), ..half("a") }, Err(SendError::NoGroup)),
        (SendHalf { group: long.clone(), ..half("a") }, name("group")),
        (SendHalf { topic: long.clone(), ..half("a") }, name("topic's name")),
        (SendHalf { message_id: Some(long), ..half("a") }, name("message id")),
        (half(&"x".repeat(70_000)), Err(Unavailable::TooLarge.into())),
    ];
    for (half, expected) in cases {
        assert_eq!(world.try_send(half).await.map(|_| ()), expected);
    }
    assert_eq!(world.halves.counts().await.unwrap().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn halves_are_listed_by_age_and_group_in_pages_and_shown() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        let group = if n % 2 == 0 { "shop" } else { "bank" };
        let half = SendHalf { group: group.into(), ..half(&format!("v{n}")) };
        ids.push(world.try_send(half).await.unwrap().id);
        seconds(1).await;
    }
    let page = world.halves.list(HalfFilter::default(), None, 4).await.unwrap();
    let listed: Vec<_> = page.halves.iter().map(|half| half.id).collect();
    assert_eq!((listed, page.next), (ids[..4].to_vec(), Some(ids[4])));
    let page = world.halves.list(HalfFilter::default(), page.next, 100).await.unwrap();
    assert_eq!((page.halves.len(), page.next), (6, None));
    let filter =
        HalfFilter { group: Some("bank".into()), born_before_ms: Some(page.halves[3].id.born_ms) };
    let page = world.halves.list(filter, None, 100).await.unwrap();
    let listed: Vec<_> = page.halves.iter().map(|half| half.id).collect();
    assert_eq!(listed, [ids[1], ids[3], ids[5]]);
    let shown = world.halves.message(ids[3]).await.unwrap();
    assert_eq!((shown.topic.as_str(), shown.group.as_str()), ("orders", "bank"));
    assert_eq!(shown.message.value.as_deref(), Some(&b"v3"[..]));
    let counts = world.halves.counts().await.unwrap();
    assert_eq!(counts.oldest_born_ms, Some(ids[0].born_ms));
    assert_eq!(counts.groups, [("bank".into(), 5), ("shop".into(), 5)]);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_let_go_when_nothing_in_it_is_needed() {
    let world = World::start().await;
    let pending = world.send("pending").await;
    let ended = world.send("ended").await;
    let end = world.roll_back(ended.id).await.unwrap();
    seconds(720).await;
    assert_eq!(world.partitions.offsets(HALF).log_start, Offset(0));
    assert_eq!(world.roll_back(ended.id).await, Ok(end));
    world.commit(pending.id).await.unwrap();
    seconds(590).await;
    assert_eq!(world.commit(pending.id).await.map(committed_at), Ok(Some(0)));
    seconds(130).await;
    assert_eq!(world.partitions.offsets(HALF).log_start, Offset(2));
    assert_eq!(world.partitions.offsets(HALF_EVENTS).log_start, Offset(4));
    assert_eq!(world.commit(pending.id).await, Err(EndError::Unknown));
    let world = world.restart().await;
    assert_eq!(world.commit(pending.id).await, Err(EndError::Unknown));
    assert_eq!(world.values(ORDERS_0).await, ["pending"]);
    assert_eq!(world.commit(world.send("next").await.id).await.map(committed_at), Ok(Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_engine_answers_what_is_under_way_and_refuses_the_rest() {
    let world = World::start().await;
    let sent = world.send("a").await;
    let minute = Duration::from_secs(60);
    let (end, poll, ()) =
        tokio::join!(world.commit(sent.id), world.halves.poll_checks("shop", 1, minute), async {
            tokio::task::yield_now().await;
            world.halves.stop().await;
        });
    assert_eq!(end.map(committed_at), Ok(Some(0)));
    assert_eq!(poll, Err(Unavailable::Stopping));
    assert_eq!(world.commit(sent.id).await, Err(Unavailable::Stopping.into()));
}
