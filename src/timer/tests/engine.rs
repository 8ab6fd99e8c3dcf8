//! What senders, recallers and consumers see.

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter};

use super::world::{Consumed, DISCARD, World, target, timer};
use crate::model::QueueId;
use crate::partition::system;
use crate::store::Part;
use crate::timer::{End, NewTimer, Page, Recalled, ScheduleError, TimerError, TimerId, TimerState};

const A: QueueId = QueueId(1);
const BUCKET_MS: i64 = 600_000;

#[tokio::test(start_paused = true)]
async fn a_message_is_delivered_to_the_millisecond_with_what_it_came_with() {
    let world = World::start().await;
    let due_ms = world.now_ms() + 1_234;
    world.timers.schedule(&[timer(due_ms, 0, "v")]).await.unwrap();
    world.pass(1_200).await;
    assert_eq!(world.consumed(A).await, []);
    world.pass(40).await;
    let header = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let delivered = Consumed {
        timestamp: due_ms,
        key: Some("key".to_owned()),
        value: "v".to_owned(),
        headers: vec![
            header("TAGS", "red"),
            header("TIMER_DELIVER_MS", &due_ms.to_string()),
            header("BORN_TIMESTAMP", "77"),
        ],
    };
    assert_eq!(world.consumed(A).await, [delivered]);
}

#[tokio::test(start_paused = true)]
async fn what_the_sender_says_of_time_is_kept() {
    let world = World::start().await;
    let due_ms = world.now_ms();
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        vec![(b"BORN_TIMESTAMP", Some(b"1")), (b"TIMER_DELIVER_MS", Some(b"2"))];
    let message = NewTimer { headers, key: None, ..timer(due_ms, 0, "v") };
    world.timers.schedule(&[message]).await.unwrap();
    world.pass(10).await;
    let consumed = world.consumed(A).await.remove(0);
    let header = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let kept = [header("BORN_TIMESTAMP", "1"), header("TIMER_DELIVER_MS", "2")];
    assert_eq!((consumed.key, consumed.headers), (None, kept.to_vec()));
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_the_order_of_their_due_times() {
    let world = World::start().await;
    for (delay_ms, value) in [(300, "c"), (100, "a"), (200, "b"), (100, "a2")] {
        world.schedule(delay_ms, 0, value).await.unwrap();
    }
    world.pass(1_000).await;
    assert_eq!(world.values(A).await, ["a", "a2", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_recalled_message_is_not_delivered_and_a_delivered_one_not_recalled() {
    let world = World::start().await;
    let recalled = world.schedule(500, 0, "recalled").await.unwrap();
    let delivered = world.schedule(500, 0, "delivered").await.unwrap();
    assert_eq!(world.timers.get(recalled).await.unwrap().state, TimerState::Waits);
    assert_eq!(world.timers.recall(recalled).await.unwrap(), Recalled::Now);
    assert_eq!(world.timers.recall(recalled).await.unwrap(), Recalled::Before);
    world.pass(1_000).await;
    assert_eq!(world.values(A).await, ["delivered"]);
    let late = world.timers.recall(delivered).await;
    assert!(matches!(late, Err(TimerError::TooLate(End::Delivered))), "{late:?}");
    let got = world.timers.get(delivered).await.unwrap();
    assert_eq!(got.state, TimerState::Ended(End::Delivered));
    assert_eq!(got.message.value.as_deref(), Some(&b"delivered"[..]));
    let again = world.timers.deliver_now(recalled).await;
    assert!(matches!(again, Err(TimerError::TooLate(End::Recalled))), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_far_message_is_recalled_and_delivered_as_well_also_after_a_restart() {
    let mut world = World::start().await;
    let delay_ms = 20 * BUCKET_MS;
    let recalled = world.schedule(delay_ms, 0, "recalled").await.unwrap();
    let early = world.schedule(delay_ms, 0, "early").await.unwrap();
    let in_time = world.schedule(delay_ms, 1, "in time").await.unwrap();
    assert_eq!(world.timers.loaded(), 0);
    assert_eq!(world.timers.recall(recalled).await.unwrap(), Recalled::Now);
    world.timers.deliver_now(early).await.unwrap();
    assert_eq!(world.values(A).await, ["early"]);
    for _ in 0..2 {
        assert_eq!(world.timers.recall(recalled).await.unwrap(), Recalled::Before);
        let late = world.timers.recall(early).await;
        assert!(matches!(late, Err(TimerError::TooLate(End::Delivered))), "{late:?}");
        assert_eq!(world.timers.get(in_time).await.unwrap().state, TimerState::Waits);
        world = world.restart().await;
    }
    world.pass(20 * 600_000 + 5).await;
    assert_eq!(world.values(A).await, ["early"]);
    assert_eq!(world.values(QueueId(2)).await, ["in time"]);
    assert_eq!(world.message(in_time).await.topic_name, "pay");
}

#[tokio::test(start_paused = true)]
async fn handles_that_were_made_up_name_nothing() {
    let world = World::start().await;
    let near = world.schedule(5_000, 0, "near").await.unwrap();
    let far = world.schedule(20 * BUCKET_MS, 0, "far").await.unwrap();
    for id in [near, far] {
        for forged in [
            TimerId { offset: id.offset + 1, ..id },
            TimerId { offset: u32::MAX, ..id },
            TimerId { due_ms: id.due_ms + 1, ..id },
            TimerId { bucket: id.bucket + 1, ..id },
            TimerId { bucket: u32::MAX, ..id },
        ] {
            let outcomes = [
                world.timers.recall(forged).await.map(|_| ()),
                world.timers.get(forged).await.map(|_| ()),
                world.timers.deliver_now(forged).await,
            ];
            assert!(
                outcomes.iter().all(|it| matches!(it, Err(TimerError::NotFound))),
                "{forged:?}: {outcomes:?}"
            );
        }
    }
    world.pass(6_000).await;
    assert_eq!(world.values(A).await, ["near"]);
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_clock_forward_delivers_and_one_back_makes_wait() {
    let world = World::start().await;
    world.schedule(30_000, 0, "soon").await.unwrap();
    world.schedule(5 * BUCKET_MS, 0, "later").await.unwrap();
    world.sim.clock.jump_wall_ms(-60_000);
    world.pass(40_000).await;
    assert_eq!(world.values(A).await, [""; 0]);
    world.sim.clock.jump_wall_ms(60_000);
    world.pass(1_100).await;
    assert_eq!(world.values(A).await, ["soon"]);
    world.sim.clock.jump_wall_ms(50 * BUCKET_MS);
    world.pass(3_000).await;
    assert_eq!(world.values(A).await, ["soon", "later"]);
    // Back again: the buckets of now were dropped by then, and messages are still in time.
    let before = world.consumed(A).await.len();
    world.sim.clock.jump_wall_ms(-50 * BUCKET_MS);
    let past = world.schedule(-1, 0, "past").await.unwrap();
    let next = world.schedule(2_000, 0, "next").await.unwrap();
    let world = world.restart().await;
    world.pass(1_000).await;
    assert_eq!(world.values(A).await[before..], ["past"]);
    world.pass(1_100).await;
    assert_eq!(world.values(A).await[before..], ["past", "next"]);
    assert!(past.bucket >= next.bucket, "{past:?} {next:?}");
}

/// What is due before the floor and far from now is in memory: of that there is an end.
#[tokio::test(start_paused = true)]
async fn what_a_clock_set_far_back_keeps_in_memory_is_bounded() {
    const HELD_MAX: usize = 1 << 13;
    let world = World::sized(1 << 20).await;
    world.sim.clock.jump_wall_ms(500 * BUCKET_MS);
    world.schedule(-3 * BUCKET_MS, 0, "there").await.unwrap();
    world.pass(3_000).await;
    world.sim.clock.jump_wall_ms(-500 * BUCKET_MS);
    let now_ms = world.env.clock.wall_ms();
    let later: Vec<_> = (0..128).map(|_| timer(now_ms + 100 * BUCKET_MS, 0, "later")).collect();
    for _ in 0..HELD_MAX / later.len() {
        world.timers.schedule(&later).await.unwrap();
    }
    assert_eq!(world.timers.loaded(), HELD_MAX);
    let refused = world.timers.schedule(&later[..1]).await;
    assert!(matches!(refused, Err(ScheduleError::Crowded { .. })), "{refused:?}");
    // What has its own bucket takes no memory, and what is due soon leaves it soon.
    world.schedule(600 * BUCKET_MS, 0, "behind it").await.unwrap();
    world.schedule(1_000, 0, "soon").await.unwrap();
    world.pass(2_200).await;
    assert_eq!(world.values(A).await, ["there", "soon"]);
    // As soon as there is room others are taken.
    let gone = world.timers.schedule(&[timer(now_ms + 5_000, 0, "next")]).await.unwrap().remove(0);
    world.timers.recall(gone).await.unwrap();
    world.sim.clock.jump_wall_ms(100 * BUCKET_MS);
    world.pass(20_000).await;
    assert_eq!(world.timers.loaded(), 0);
    world.schedule(200 * BUCKET_MS, 0, "taken").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_over_leaves_the_log_and_its_handles_name_nothing() {
    let world = World::start().await;
    let id = world.schedule(100, 0, "v").await.unwrap();
    let of_timers = |world: &World| {
        let queues = world.partitions.queues().into_iter();
        queues
            .filter(|queue| {
                *queue == system::timer_bucket(id.bucket) || *queue == system::timer_ends(id.bucket)
            })
            .count()
    };
    world.pass(1_000).await;
    assert_eq!(of_timers(&world), 2);
    world.pass(3 * 600_000).await;
    assert_eq!(of_timers(&world), 0);
    assert!(matches!(world.timers.get(id).await, Err(TimerError::NotFound)));
    let world = world.restart().await;
    assert!(matches!(world.timers.recall(id).await, Err(TimerError::NotFound)));
    assert_eq!(world.values(A).await, ["v"]);
}

/// The end of a message that damage took must not be taken for that of another.
#[tokio::test(start_paused = true)]
async fn a_message_does_not_get_the_place_of_a_lost_one_that_was_recalled() {
    let world = World::start().await;
    let kept = world.schedule(8_000_000, 0, "kept").await.unwrap();
    let lost = world.schedule(8_000_000, 0, "to be lost").await.unwrap();
    world.timers.recall(lost).await.unwrap();
    world.schedule(20_000_000, 0, "far behind").await.unwrap();
    world.pass(3_000).await;
    world.lose_frame_of("to be lost");
    let world = world.restart_accepting_loss().await;
    let due_ms = kept.due_ms;
    let new = world.timers.schedule(&[timer(due_ms, 0, "new")]).await.unwrap().remove(0);
    assert_eq!(new.bucket, lost.bucket);
    assert!(new.offset > lost.offset, "{new:?} has the place of {lost:?}");
    let world = world.restart().await;
    assert_eq!(world.timers.get(new).await.unwrap().state, TimerState::Waits);
    world.pass(8_100_000).await;
    assert_eq!(world.values(A).await, ["kept", "new"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_topic_is_gone_is_discarded_and_says_where_it_was_for() {
    let world = World::start().await;
    let id = world.schedule(1_000, 0, "v").await.unwrap();
    world.topics.queues.lock().unwrap().remove(&0);
    *world.topics.has_discard.lock().unwrap() = false;
    world.pass(5_000).await;
    assert_eq!(world.timers.get(id).await.unwrap().state, TimerState::Waits);
    *world.topics.has_discard.lock().unwrap() = true;
    world.pass(2_000).await;
    let discarded = world.consumed(DISCARD).await;
    let origin: Vec<_> =
        discarded[0].headers.iter().filter(|(key, _)| key.starts_with("REAL_")).collect();
    let header = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(origin, [&header("REAL_TOPIC", "pay"), &header("REAL_QID", "0")]);
    assert_eq!(discarded.len(), 1);
    assert_eq!(world.timers.get(id).await.unwrap().state, TimerState::Ended(End::Discarded));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_dropped_under_the_delivery_does_not_swallow_it() {
    let world = World::start().await;
    world.schedule(100, 0, "first").await.unwrap();
    world.schedule(1_000, 0, "second").await.unwrap();
    world.pass(500).await;
    // The log knows it, the topics do not yet.
    world.partitions.drop_queue(A).unwrap();
    world.pass(3_000).await;
    assert_eq!(world.values(DISCARD).await, [""; 0]);
    world.topics.queues.lock().unwrap().remove(&0);
    world.pass(2_000).await;
    assert_eq!(world.values(DISCARD).await, ["second"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_far_or_too_large_is_refused_whole() {
    let world = World::start().await;
    let now_ms = world.now_ms();
    let far = timer(now_ms + 1_000_000_001, 0, "far");
    let outcome = world.timers.schedule(&[timer(now_ms, 0, "near"), far]).await;
    assert!(matches!(outcome, Err(ScheduleError::TooFar { .. })), "{outcome:?}");
    let large = "x".repeat(5_000);
    let outcome = world.timers.schedule(&[timer(now_ms, 0, &large)]).await;
    assert!(matches!(outcome, Err(ScheduleError::TooLarge { .. })), "{outcome:?}");
    world.pass(1_000).await;
    assert_eq!(world.values(A).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn waiting_messages_are_listed_by_topic_and_due_time_page_by_page() {
    let world = World::start().await;
    let start_ms = world.now_ms();
    let mut ids = Vec::new();
    for n in 0..7_i64 {
        ids.push(world.schedule(60_000 + n * BUCKET_MS / 2, 0, &n.to_string()).await.unwrap());
    }
    world.timers.recall(ids[2]).await.unwrap();
    let list = async |topic, from_ms, to_ms, most| {
        let mut page = Page { topic, from_ms, to_ms, most, after: None };
        let mut values = Vec::new();
        loop {
            let listed = world.timers.list(page).await.unwrap();
            assert!(listed.messages.len() <= most);
            for (id, message) in listed.messages {
                assert_eq!(message.due_ms, id.due_ms);
                values.push(String::from_utf8(message.value.unwrap()).unwrap());
            }
            match listed.next {
                Some(next) => page.after = Some(next.to_string().parse().unwrap()),
                None => return values,
            }
        }
    };
    let (topic, end_ms) = (Some(target(0).topic), i64::MAX);
    for most in [1, 2, 100] {
        assert_eq!(list(topic, 0, end_ms, most).await, ["0", "1", "3", "4", "5", "6"]);
    }
    let (from_ms, to_ms) = (start_ms + 60_000 + BUCKET_MS / 2, start_ms + 60_000 + 2 * BUCKET_MS);
    assert_eq!(list(None, from_ms, to_ms, 10).await, ["1", "3"]);
    let other = crate::model::TopicId(uuid::Uuid::from_u128(6));
    assert_eq!(list(Some(other), 0, end_ms, 10).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn large_messages_go_by_their_due_times_however_many_are_due_at_once() {
    let world = World::sized(64 << 10).await;
    let due_ms = world.now_ms() + 10_000;
    let value = |n: usize| format!("{n:03}{}", "x".repeat(3_000));
    // In another order than they are due in, so that their records lie otherwise.
    for n in (0..60).map(|n| n * 37 % 60) {
        let at = i64::try_from(n).unwrap();
        world.timers.schedule(&[timer(due_ms + at, 0, &value(n))]).await.unwrap();
    }
    world.sim.clock.jump_wall_ms(20_000);
    world.pass(2_000).await;
    let expected: Vec<String> = (0..60).map(value).collect();
    assert!(world.values(A).await == expected, "out of order, or not all");
}

#[tokio::test(start_paused = true)]
async fn it_is_counted_what_happens_to_messages() {
    let world = World::start().await;
    for (delay_ms, partition) in [(100, 0), (100, 5), (5_000, 0)] {
        world.schedule(delay_ms, partition, "v").await.unwrap();
    }
    let recalled = world.schedule(10_000, 0, "v").await.unwrap();
    world.timers.recall(recalled).await.unwrap();
    world.timers.recall(recalled).await.unwrap();
    world.pass(500).await;
    world.sim.clock.jump_wall_ms(7_000);
    world.pass(1_500).await;
    let totals = world.timers.totals();
    assert!((2_500..4_000).contains(&totals.last_late_ms), "{totals:?}");
    let counted = (totals.scheduled, totals.delivered, totals.recalled, totals.discarded);
    assert_eq!(counted, (4, 2, 1, 1));
}

/// What lies beside is in the log with the messages, and is not taken for a receipt.
#[tokio::test(start_paused = true)]
async fn what_belongs_to_messages_is_appended_with_them_and_kept() {
    let world = World::start().await;
    let mut writer = BatchWriter::new(BatchSpec::default());
    writer.append(1, Some(b"id"), None, &[]).unwrap();
    let batch = writer.finish().unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    let beside = [Part { queue: system::MESSAGE_IDS, batch: &batch, header: &header }];
    let due_ms = world.now_ms() + 100;
    world.timers.append(world.now_ms(), &beside, &[timer(due_ms, 0, "v")]).unwrap();
    world.pass(200_000).await;
    let ids = world.partitions.offsets(system::MESSAGE_IDS);
    assert_eq!((ids.log_start.0, ids.high_watermark.0), (0, 1));
    assert_eq!(world.values(A).await, ["v"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_holds_messages_up_and_loses_none() {
    let world = World::start().await;
    for n in 0..20 {
        world.schedule(5_000, 0, &n.to_string()).await.unwrap();
    }
    world.sim.fs.set_capacity(Some(world.sim.fs.used_bytes()));
    let mut filled = 0;
    while world.schedule(4_000_000, 1, &"x".repeat(2_000)).await.is_ok() {
        filled += 1;
        assert!(filled < 1_000, "the disk never gets full");
    }
    world.pass(10_000).await;
    let during = world.values(A).await.len();
    assert!(during < 20, "nothing was held up");
    world.sim.fs.set_capacity(None);
    world.pass(5_000).await;
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(world.values(A).await, expected);
}
