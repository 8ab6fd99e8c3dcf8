//! Dead letters: after the last attempt, by hand, while there is no topic for them, and back.

use super::leases::seconds;
use super::world::{DEAD, GROUP, ORDERS, World, request, value, values};
use crate::delivery::{
    Delivered, GroupSettings, LeaseError, Message, Outcome, ReceiveRequest, Settled, Target, Which,
};
use crate::model::QueueId;

async fn start() -> World {
    World::start(GroupSettings::default()).await
}

fn header(message: &Message, name: &str) -> String {
    String::from_utf8(message.header(name).unwrap_or_default().to_vec()).unwrap()
}

/// Waits until something is delivered; returns it and how long that took.
async fn next(world: &World) -> (Delivered, u64) {
    let begin = tokio::time::Instant::now();
    let wait = std::time::Duration::from_secs(10_000);
    let mut delivered = world.try_receive(ReceiveRequest { wait, ..request() }).await.unwrap();
    assert_eq!(delivered.len(), 1);
    (delivered.remove(0), begin.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn poison_is_tried_by_the_table_and_then_is_one_dead_letter_that_can_go_back() {
    let mut world = start().await;
    world.produce(10, &["poison"]).await;
    let (delivered, _) = next(&world).await;
    world.deliveries.nack(GROUP, &delivered.handle, None).await.unwrap();
    let table =
        [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];
    for (attempt, gap) in (2..).zip(table) {
        if attempt == 9 {
            world = world.restart().await;
        }
        let (delivered, waited) = next(&world).await;
        assert_eq!(delivered.attempt, attempt);
        assert!((gap..gap + 2).contains(&(waited + u64::from(attempt == 9))), "{waited}: {gap}");
        world.deliveries.nack(GROUP, &delivered.handle, None).await.unwrap();
    }
    seconds(1).await;
    let dead = world.read(DEAD).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(value(&dead[0]), "poison");
    for (name, expected) in [
        ("RECONSUME_TIME", "16"),
        ("DLQ_ORIGIN_TOPIC", "orders"),
        ("DLQ_ORIGIN_PARTITION", "0"),
        ("DLQ_ORIGIN_OFFSET", "0"),
        ("DLQ_ORIGIN_GROUP", GROUP),
        ("DLQ_REASON", "not acknowledged in 17 attempts"),
    ] {
        assert_eq!(header(&dead[0], name), expected, "{name}");
    }
    seconds(20_000).await;
    assert!(world.receive().await.is_empty(), "no further delivery");
    let world = world.restart().await;
    seconds(10).await;
    assert_eq!(world.read(DEAD).await.len(), 1, "one copy");

    let page = world.deliveries.dead_letters(GROUP, (0, 0), 10).await.unwrap();
    assert_eq!((page.letters.len(), page.next), (1, None));
    let settled = world.deliveries.re_drive(GROUP, Which::All, Target::Origin).await.unwrap();
    assert_eq!(settled.done, 1);
    let one = Which::Some(vec![(0, 0)]);
    let again = world.deliveries.re_drive(GROUP, one.clone(), Target::Origin).await.unwrap();
    assert_eq!(again, Settled { done: 0, others: vec![((0, 0), Outcome::NotThere)] });
    let world = world.restart().await;
    assert_eq!(world.deliveries.delete_dead_letters(GROUP, one).await.unwrap().done, 0);
    let page = world.deliveries.dead_letters(GROUP, (0, 0), 10).await.unwrap();
    assert!(page.letters.is_empty());
    let (delivered, _) = next(&world).await;
    assert_eq!((delivered.attempt, value(&delivered.message)), (1, "poison".to_owned()));
    assert!(delivered.message.headers.is_empty(), "as it was first");
    let age_ms = world.env.clock.wall_ms() - delivered.message.timestamp_ms;
    assert!(age_ms < 60_000, "retention would take it at once: {age_ms}");
}

#[tokio::test(start_paused = true)]
async fn the_last_lease_that_runs_out_ends_in_the_dead_letters_though_nobody_asks() {
    let settings = GroupSettings { attempts_max: 2, ..GroupSettings::default() };
    let world = World::start(settings).await;
    world.produce(10, &["a"]).await;
    world.receive().await;
    seconds(31).await;
    assert_eq!(world.receive().await[0].attempt, 2);
    seconds(29).await;
    assert!(world.read(DEAD).await.is_empty());
    seconds(3).await;
    assert_eq!(world.read(DEAD).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_topic_for_dead_letters_they_wait_and_are_not_delivered() {
    let world = start().await;
    *world.topics.takes_dead_letters.lock().unwrap() = false;
    world.produce(10, &["a"]).await;
    let delivered = world.receive().await;
    let handle = &*delivered[0].handle;
    let reason = Some("no such customer");
    world.deliveries.forward_to_dead_letter(GROUP, handle, reason).await.unwrap();
    world.deliveries.forward_to_dead_letter(GROUP, handle, None).await.unwrap();
    assert_eq!(world.deliveries.ack(GROUP, &[handle]).await, [Err(LeaseError::Archiving)]);
    seconds(100).await;
    assert!(world.receive().await.is_empty());
    let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap();
    assert_eq!((progress[0].archiving, progress[0].lag), (1, 1));
    let world = world.restart().await;
    seconds(100).await;
    assert!(world.receive().await.is_empty());
    assert!(world.read(DEAD).await.is_empty());
    *world.topics.takes_dead_letters.lock().unwrap() = true;
    seconds(61).await;
    let dead = world.read(DEAD).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(header(&dead[0], "DLQ_REASON"), "no such customer");
    assert_eq!(header(&dead[0], "RECONSUME_TIME"), "0");
}

#[tokio::test(start_paused = true)]
async fn some_dead_letters_go_elsewhere_some_are_deleted_and_pages_show_the_rest() {
    let settings = GroupSettings { attempts_max: 1, ..GroupSettings::default() };
    let world = World::start(settings).await;
    let all: Vec<String> = (0..300).map(|n| format!("m{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    world.produce(10, &all).await;
    let mut left = 300;
    while left > 0 {
        let delivered = world.receive().await;
        left -= delivered.len();
        for one in &delivered {
            world.deliveries.nack(GROUP, &one.handle, None).await.unwrap();
        }
    }
    seconds(10).await;
    assert_eq!(world.read(DEAD).await.len(), 300);
    let some = |offsets: &[i64]| Which::Some(offsets.iter().map(|o| (0, *o)).collect());
    let elsewhere = Target::Topic("other".into());
    let moved = world.deliveries.re_drive(GROUP, some(&[5, 3, 5, 900]), elsewhere).await.unwrap();
    assert_eq!(moved, Settled { done: 2, others: vec![((0, 900), Outcome::NotThere)] });
    assert_eq!(world.read(QueueId(20)).await.len(), 2);
    let nowhere = Target::Topic("nowhere".into());
    let lost = world.deliveries.re_drive(GROUP, some(&[7]), nowhere).await.unwrap();
    assert_eq!(lost.others, [((0, 7), Outcome::NoTarget)]);
    let gone = world.deliveries.delete_dead_letters(GROUP, some(&[0, 4])).await.unwrap();
    assert_eq!(gone.done, 2);
    let page = world.deliveries.dead_letters(GROUP, (0, 0), 3).await.unwrap();
    let offsets: Vec<i64> = page.letters.iter().map(|(_, m)| m.offset).collect();
    assert_eq!((offsets, page.next), (vec![1, 2, 6], Some((0, 7))));
    let page = world.deliveries.dead_letters(GROUP, (0, 7), 1_000).await.unwrap();
    assert_eq!((page.letters.len(), page.next), (293, None));
    let rest = world.deliveries.re_drive(GROUP, Which::All, Target::Origin).await.unwrap();
    assert_eq!((rest.done, rest.others), (296, vec![]));
    assert_eq!(world.read(QueueId(10)).await.len(), 300 + 296);
}

#[tokio::test(start_paused = true)]
async fn what_retention_takes_is_neither_delivered_nor_a_dead_letter() {
    let settings = GroupSettings { attempts_max: 1, ..GroupSettings::default() };
    let world = World::start(settings).await;
    world.produce(10, &["a", "b"]).await;
    world.produce(10, &["c"]).await;
    let first = ReceiveRequest { max: 1, ..request() };
    assert_eq!(values(&world.try_receive(first).await.unwrap()), ["a"]);
    world.partitions.release(QueueId(10), crate::model::Offset(2)).unwrap();
    let rest = world.receive().await;
    assert_eq!(values(&rest), ["c"]);
    world.ack(&rest).await;
    seconds(60).await;
    assert!(world.receive().await.is_empty());
    assert!(world.read(DEAD).await.is_empty());
    let lag = world.deliveries.lag(GROUP).await.unwrap().unwrap();
    assert!(lag.iter().all(|lag| lag.progress.lag == 0 && lag.age_ms.is_none()), "{lag:?}");
    assert_eq!(lag[0].progress.topic, ORDERS);
}
