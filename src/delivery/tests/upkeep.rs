//! What goes on beside deliveries: the log of events stays short, deleted things are forgotten,
//! the clock may jump.

use std::time::Duration;

use super::leases::seconds;
use super::world::{GROUP, ORDERS, World, request, values};
use crate::delivery::{GroupSettings, LeaseError, ReceiveError, ReceiveRequest};
use crate::partition::system;

async fn start() -> World {
    World::start(GroupSettings::default()).await
}

#[tokio::test(start_paused = true)]
async fn the_log_of_events_stays_short_and_says_the_same() {
    let mut world = start().await;
    world.produce(11, &["kept"]).await;
    let kept = ReceiveRequest { invisible_ms: 12 * 3_600_000, ..request() };
    let kept = world.try_receive(kept).await.unwrap();
    for round in 0..400 {
        world.produce(10, &["a", "b", "c"]).await;
        let delivered = world.receive().await;
        assert_eq!(values(&delivered), ["a", "b", "c"]);
        world.ack(&delivered).await;
        if round % 150 == 149 {
            world = world.restart().await;
        }
    }
    let offsets = world.partitions.offsets(system::DELIVERY);
    let (all, left) = (offsets.next.0, offsets.next.0 - offsets.log_start.0);
    assert!(all > 800 && left < 400, "{left} of {all} events are left");
    let world = world.restart().await;
    assert!(world.receive().await.is_empty(), "nothing that is done comes back");
    world.ack(&kept).await;
    let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap();
    assert_eq!(progress.iter().map(|p| p.start_offset).collect::<Vec<_>>(), [1_200, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_too_large_for_one_event_is_said_in_pieces() {
    let mut world = start().await;
    let mut kept = Vec::new();
    for n in 0..300 {
        world.produce(10, &[&n.to_string()]).await;
        let long = ReceiveRequest { invisible_ms: 12 * 3_600_000, ..request() };
        kept.extend(world.try_receive(long).await.unwrap());
    }
    assert_eq!(kept.len(), 300);
    for round in 0..600 {
        world.produce(11, &["a"]).await;
        let delivered = world.receive().await;
        assert_eq!(values(&delivered), ["a"]);
        world.ack(&delivered).await;
        if round % 250 == 249 {
            world = world.restart().await;
        }
    }
    let offsets = world.partitions.offsets(system::DELIVERY);
    assert!(offsets.log_start.0 > 600, "nothing was let go: {offsets:?}");
    let world = world.restart().await;
    assert!(world.receive().await.is_empty(), "what is leased was delivered");
    let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap();
    assert_eq!((progress[0].in_flight, progress[1].start_offset), (300, 600));
    for of_receive in kept.chunks(32) {
        world.ack(of_receive).await;
    }
    let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap();
    assert_eq!(progress[0].start_offset, 300);
}

/// A group must not take a message for done because another one was at its offset.
#[tokio::test(start_paused = true)]
async fn what_comes_at_the_offsets_of_lost_messages_is_delivered() {
    let world = start().await;
    for (value, is_done) in [("kept", true), ("leased", false), ("first lost", true)] {
        world.produce(10, &[value]).await;
        let delivered = world.receive().await;
        assert_eq!(values(&delivered), [value]);
        if is_done {
            world.ack(&delivered).await;
        }
    }
    world.produce(10, &["second lost"]).await;
    let of_lost = world.receive().await;
    assert_eq!(of_lost[0].message.offset, 3);
    world.lose_frame_of("first lost");
    world.lose_frame_of("second lost");
    let world = world.restart_accepting_loss().await;
    world.produce(10, &["new", "newer"]).await;
    let world = world.restart().await;
    let delivered = world.receive().await;
    assert_eq!(values(&delivered), ["new", "newer"], "the lease of another goes on");
    assert_eq!(delivered.iter().map(|d| d.attempt).collect::<Vec<_>>(), [1, 1]);
    // The handle is of another message with the same offset and attempt.
    let stale = world.deliveries.ack(GROUP, &[&*of_lost[0].handle]).await;
    assert_eq!(stale, [Err(LeaseError::Unknown)]);
    world.ack(&delivered).await;
    seconds(31).await;
    let world = world.restart().await;
    let delivered = world.receive().await;
    assert_eq!((values(&delivered), delivered[0].attempt), (vec!["leased".to_owned()], 2));
    world.ack(&delivered).await;
    let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap();
    assert_eq!((progress[0].start_offset, progress[0].lag), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_group_begins_anew_and_a_deleted_topic_is_unknown() {
    let world = start().await;
    assert_eq!(world.deliveries.is_used(GROUP), Ok(false));
    world.produce(10, &["a"]).await;
    let delivered = world.receive().await;
    world.ack(&delivered).await;
    assert_eq!(world.deliveries.is_used(GROUP), Ok(true));
    assert_eq!(world.deliveries.delete_group(GROUP).await, Ok(true));
    assert_eq!(world.deliveries.is_used(GROUP), Ok(false));
    assert_eq!(world.deliveries.delete_group(GROUP).await, Ok(false));
    let world = world.restart().await;
    assert!(world.deliveries.groups().await.unwrap().is_empty());
    assert_eq!(values(&world.receive().await), ["a"]);

    let wait = Duration::from_secs(1_000);
    let waiting = world.try_receive(ReceiveRequest { wait, ..request() });
    let delete = async {
        seconds(1).await;
        world.topics.topics.lock().unwrap().remove(&ORDERS);
        world.deliveries.topic_deleted(ORDERS).await.unwrap();
    };
    let (refused, ()) = tokio::join!(waiting, delete);
    assert_eq!(refused, Err(ReceiveError::UnknownTopic));
    let world = world.restart().await;
    assert!(world.deliveries.groups().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_leases_longer_and_loses_none() {
    let world = start().await;
    world.produce(10, &["a"]).await;
    world.receive().await;
    world.sim.clock.jump_wall_ms(-60_000);
    seconds(31).await;
    assert!(world.receive().await.is_empty());
    let wait = Duration::from_secs(100);
    let again = world.try_receive(ReceiveRequest { wait, ..request() }).await.unwrap();
    assert_eq!(again[0].attempt, 2);
    world.sim.clock.jump_wall_ms(3_600_000);
    assert_eq!(world.receive().await[0].attempt, 3);
}

#[tokio::test(start_paused = true)]
async fn lag_is_told_in_messages_and_in_time() {
    let world = start().await;
    world.produce(10, &["a", "b", "c"]).await;
    let one = ReceiveRequest { max: 1, ..request() };
    world.try_receive(one).await.unwrap();
    seconds(20).await;
    let lag = world.deliveries.lag(GROUP).await.unwrap().unwrap();
    let first = &lag[0].progress;
    assert_eq!((first.lag, first.in_flight, first.ready), (3, 1, 2));
    let age_ms = lag[0].age_ms.unwrap();
    assert!((20_000..22_000).contains(&age_ms), "{age_ms}");
    assert_eq!(lag[1].age_ms, None);
    assert!(world.deliveries.lag("nobody").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stop_refuses_those_who_wait() {
    let world = start().await;
    let wait = Duration::from_secs(1_000);
    let waiting = world.try_receive(ReceiveRequest { wait, ..request() });
    let stop = async {
        seconds(1).await;
        world.deliveries.stop().await;
    };
    let (refused, ()) = tokio::join!(waiting, stop);
    assert!(matches!(refused, Err(ReceiveError::Unavailable(_))));
}
