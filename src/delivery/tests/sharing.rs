//! Who gets how much, and in which order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::leases::seconds;
use super::world::{GROUP, Record, World, request, value};
use crate::delivery::{GroupSettings, ReceiveRequest};

/// So many consumers read while records come to both partitions; what each got.
async fn share(world: &World, consumers: usize, max: usize) -> Vec<usize> {
    let got = Mutex::new(vec![0; consumers]);
    let rounds: u64 = 420;
    let produce = async {
        for round in 0..rounds {
            let batch: Vec<String> = (0..6).map(|n| format!("{round}-{n}")).collect();
            let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
            world.produce(10 + u32::try_from(round % 2).unwrap(), &batch).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let consume = async |me: usize| {
        loop {
            let wait = Duration::from_secs(5);
            let asked = ReceiveRequest { wait, max, ..request() };
            let delivered = world.try_receive(asked).await.unwrap();
            if delivered.is_empty() {
                return;
            }
            got.lock().unwrap()[me] += delivered.len();
            // Work takes now longer, now shorter, so that they come back in any order.
            let work_ms = 20 + (world.env.rng.next_u64() % 60);
            tokio::time::sleep(Duration::from_millis(work_ms)).await;
            world.ack(&delivered).await;
        }
    };
    let consumers: Vec<_> = (0..consumers).map(|me| Box::pin(consume(me))).collect();
    let all = async {
        let mut running = consumers;
        std::future::poll_fn(|context| {
            running.retain_mut(|consumer| consumer.as_mut().poll(context).is_pending());
            if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    };
    tokio::join!(produce, all);
    got.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_partitions_are_shared_evenly_by_three_seven_and_one() {
    let world = World::start(GroupSettings::default()).await;
    for consumers in [3, 7, 1] {
        let got = share(&world, consumers, 32).await;
        let all: usize = got.iter().sum();
        assert_eq!(all, 420 * 6, "{got:?}");
        let fair = all / consumers;
        assert!(got.iter().all(|n| n.abs_diff(fair) * 5 <= fair), "{consumers}: {got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_lies_there_is_split_among_those_who_wait() {
    let world = World::start(GroupSettings::default()).await;
    let wait = Duration::from_secs(100);
    let receive = || world.try_receive(ReceiveRequest { wait, ..request() });
    let produce = async {
        seconds(1).await;
        world.produce(10, &["a", "b", "c", "d", "e"]).await;
    };
    let (one, two, three, ()) = tokio::join!(receive(), receive(), receive(), produce);
    let got = [one, two, three].map(|got| got.unwrap().len());
    assert_eq!(got, [2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_message_groups_a_stuck_one_blocks_only_itself() {
    let settings = GroupSettings { is_ordered: true, ..GroupSettings::default() };
    let world = World::start(settings).await;
    let groups = 1_000;
    for round in 0..3 {
        for chunk in (0..groups).collect::<Vec<u32>>().chunks(250) {
            let texts: Vec<(String, String)> =
                chunk.iter().map(|g| (format!("g{g}"), format!("{round}"))).collect();
            let records: Vec<Record<'_>> = texts
                .iter()
                .map(|(key, value)| Record { key: Some(key), tag: None, value })
                .collect();
            world.produce_all(10, &records).await;
        }
    }
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut stuck = 0;
    let long = ReceiveRequest { invisible_ms: 3_600_000, ..request() };
    loop {
        let delivered = world.try_receive(long.clone()).await.unwrap();
        if delivered.is_empty() {
            break;
        }
        let mut here = Vec::new();
        for one in &delivered {
            let key = String::from_utf8(one.message.key.as_deref().unwrap().to_vec()).unwrap();
            assert!(!here.contains(&key), "two of a message group at once");
            here.push(key.clone());
            if key == "g500" {
                stuck += 1;
                continue;
            }
            seen.entry(key).or_default().push(value(&one.message));
            world.ack(std::slice::from_ref(one)).await;
        }
    }
    assert_eq!(stuck, 1);
    assert_eq!(seen.len(), 999);
    assert!(seen.values().all(|values| values == &["0", "1", "2"]), "in order");
    // The stuck one goes on when its lease is over.
    seconds(3_601).await;
    for round in 0..3 {
        let delivered = world.receive().await;
        assert_eq!(delivered.len(), 1);
        assert_eq!(value(&delivered[0].message), round.to_string());
        world.ack(&delivered).await;
    }
    let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap();
    assert_eq!(progress.iter().map(|p| p.lag).sum::<i64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_and_dropped_again_is_read_again() {
    let world = World::start(GroupSettings::default()).await;
    // More than all shelves hold, so that each partition's clears the other's.
    let texts: Vec<String> = (0..60).map(|n| format!("{n}{}", "x".repeat(1_000))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for _ in 0..4 {
        world.produce(10, &texts).await;
        world.produce(11, &texts).await;
    }
    let (mut got, mut empty) = (0, 0);
    while empty < 3 {
        let delivered = world.try_receive(ReceiveRequest { max: 7, ..request() }).await.unwrap();
        empty += usize::from(delivered.is_empty());
        got += delivered.len();
        world.ack(&delivered).await;
    }
    assert_eq!(got, 480);
}
