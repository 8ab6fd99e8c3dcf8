//! Many topics and partitions: what is measured is how the cost grows, within one run.

use super::*;
use crate::apply::apply;

/// Seconds that `work` takes, by the machine's own clock.
fn seconds(work: impl FnOnce()) -> f64 {
    let clock = real::env().clock;
    let start = clock.monotonic();
    work();
    (clock.monotonic() - start).as_secs_f64()
}

/// The least that `work` takes of a few times, since the machine may be busy with something else
/// in any of them.
fn least_seconds(work: impl Fn()) -> f64 {
    (0..5).map(|_| seconds(&work)).fold(f64::INFINITY, f64::min)
}

fn with_broker() -> MetadataImage {
    let mut image = MetadataImage::default();
    drop(apply(&mut image, &register(1).into()));
    image
}

fn with_topics(count: u128) -> MetadataImage {
    let mut image = with_broker();
    let topics = (0..count).map(|index| topic(&format!("topic-{index}"), spread(index), 1));
    drop(apply(&mut image, &create(topics.collect()).into()));
    assert_eq!(image.topics().len() as u128, count);
    image
}

/// An id for a number, spread over all ids as random ones are.
fn spread(number: u128) -> u128 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// Each creation is an entry of its own, published, and compared with the image before.
#[test]
fn a_topic_after_100_000_costs_what_a_topic_after_1_000_does() {
    let cost_after = |present: u128| {
        let image = with_topics(present);
        least_seconds(|| {
            let mut image = image.clone();
            for number in present..present + 500 {
                let before = image.clone();
                let new = create(vec![topic(&format!("topic-{number}"), spread(number), 1)]);
                drop(apply(&mut image, &new.into()));
                assert_eq!(crate::MetadataDelta::between(&before, &image).created.len(), 1);
            }
        })
    };
    let grown = cost_after(100_000) / cost_after(1_000);
    // The maps are deeper and no longer in the cache: 4 to 13 were seen. Copying would be 100.
    assert!(grown < 40.0, "a topic after 100,000 cost {grown:.1} times one after 1,000");
}

#[test]
fn a_topic_of_100_000_partitions_costs_ten_of_10_000() {
    let cost_of = |partitions: u32| {
        least_seconds(|| {
            let mut image = with_broker();
            drop(apply(&mut image, &create(vec![topic("wide", 1, partitions)]).into()));
            assert_eq!(image.topics().partition_count(), u64::from(partitions));
        })
    };
    let grown = cost_of(100_000) / cost_of(10_000);
    assert!(grown < 30.0, "ten times the partitions cost {grown:.1} times as much");
}

#[tokio::test]
async fn ten_thousand_topics_survive_a_kill_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let before = runtime.spawn(async move {
        let node = open(&path).await;
        node.propose(register(1)).await.unwrap().unwrap();
        let mut proposals = Vec::new();
        for round in 0..100u128 {
            let node = node.clone();
            proposals.push(real::env().spawner.critical("test", async move {
                for index in round * 100..(round + 1) * 100 {
                    let new = create(vec![topic(&format!("topic-{index}"), 1 + index, 2)]);
                    assert!(node.propose(new).await.unwrap()[0].is_ok());
                }
            }));
        }
        for proposal in proposals {
            proposal.await.unwrap();
        }
        node.image()
    });
    let before = before.await.unwrap();
    tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
    assert_eq!(before.topics().len(), 10_000);
    let node = open(dir.path()).await;
    assert_eq!(node.image().to_string(), before.to_string());
    node.shutdown().await;
}
