//! Very many messages at one instant.

use super::world::{World, timer};
use crate::model::QueueId;

/// Everything comes, in groups, and whoever asks for something meanwhile is served.
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_messages_at_one_instant_come_once_each_and_hold_nobody_up() {
    const COUNT: usize = 100_000;
    let world = World::sized(1 << 20).await;
    let due_ms = world.now_ms() + 60_000;
    let values: Vec<String> = (0..COUNT).map(|n| n.to_string()).collect();
    for values in values.chunks(1_000) {
        let timers: Vec<_> = values.iter().map(|value| timer(due_ms, 0, value)).collect();
        world.timers.schedule(&timers).await.unwrap();
    }
    assert_eq!(world.timers.loaded(), COUNT);
    let late = world.schedule(120_000, 1, "late").await.unwrap();
    world.pass(60_000).await;
    // In the middle of it.
    let mut left = world.timers.loaded();
    while left > COUNT / 2 {
        tokio::task::yield_now().await;
        left = world.timers.loaded();
    }
    assert!(left > 1_000, "{left} are left: it was one stroke");
    world.timers.recall(late).await.unwrap();
    let more = world.schedule(0, 1, "more").await.unwrap();
    assert!(world.timers.get(more).await.is_ok());
    assert!(world.timers.loaded() > 1_000, "the others waited for the burst");
    while world.timers.loaded() > 0 {
        world.pass(1).await;
    }
    world.pass(10).await;
    assert_eq!(world.values(QueueId(1)).await, values);
    assert_eq!(world.values(QueueId(2)).await, ["more"]);
    assert_eq!(world.consumed(QueueId(1)).await[0].timestamp, due_ms);
}
