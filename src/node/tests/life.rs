//! What comes and goes: topics with their data, retention, stops and starts.

use std::path::Path;
use std::time::Duration;

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    DeleteTopicsRequest, FetchRequest, GroupId, OffsetFetchRequest, ProduceRequest,
};
use tokio::time::Instant;

use super::ask::{batch, fetch, produce, produced, text, topic_name};
use super::client::Client;
use super::groups::{commit, committed, find};
use super::world::{World, config};
use crate::node::Node;

/// A broker whose segments hold some tens of batches.
async fn small_world(settings: &[(&str, &str)]) -> World {
    let mut config = config(settings);
    config.storage.segment_size_bytes = 64 << 10;
    World::start_as(config).await
}

pub(super) async fn delete(client: &mut Client, name: &str) {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]);
    assert_eq!(client.call(5, &request).await.responses[0].error_code, 0);
}

pub(super) async fn fill(client: &mut Client, topic: &str, kilobytes: usize) {
    let value = "x".repeat(9_900);
    for _ in 0..kilobytes.div_ceil(10) {
        client.produce(topic, 0, batch(&[&value])).await;
    }
}

fn segments(world: &World) -> usize {
    let entries = world.env.fs.list(Path::new("/data/commitlog")).unwrap();
    entries.iter().filter(|entry| entry.name.ends_with(".log")).count()
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topics_space_comes_back_and_its_name_begins_anew() {
    let world = small_world(&[]).await;
    let mut client = world.client().await;
    find(&mut client).await;
    client.create("t", 1, &[]).await;
    client.create("u", 1, &[]).await;
    let old = client.create("t2", 1, &[]).await;
    let before = segments(&world);
    fill(&mut client, "t", 1_000).await;
    fill(&mut client, "u", 10).await;
    assert!(segments(&world) > before + 12);
    delete(&mut client, "t").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(segments(&world) < before + 5, "{} segments are left", segments(&world));
    assert_eq!(client.refused("t", 0, batch(&["a"])).await, 3);
    assert_eq!(client.fetch("t", 0, 0).await.error_code, 3);
    assert_eq!(client.read("u", 0, 0).await.len(), 1, "its neighbour is whole");
    let new = client.create("t", 1, &[]).await;
    assert_ne!(old, new);
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);
    assert_eq!(client.produce("t", 0, batch(&["first"])).await, 0);
    drop(client);
    for world in [world.kill_and_restart().await.restart().await] {
        let mut client = world.client().await;
        assert_eq!(client.read("t", 0, 0).await, [(0, "first".to_owned())]);
        assert_eq!(client.read("u", 0, 0).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_deleted_just_before_a_crash_stays_deleted() {
    let world = small_world(&[]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    fill(&mut client, "t", 500).await;
    delete(&mut client, "t").await;
    // The broker has no time to drop the queue.
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(segments(&world) < 5, "{} segments are left", segments(&world));
    client.create("t", 1, &[]).await;
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topics_offsets_go_with_it() {
    let world = small_world(&[]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    find(&mut client).await;
    drop(client.call(7, &commit("g", None, 5)).await);
    assert_eq!(committed(&mut client, "g").await, 5);
    delete(&mut client, "t").await;
    client.create("t", 1, &[]).await;
    assert_eq!(committed(&mut client, "g").await, -1, "those of another topic");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked =
        OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g"))).with_topics(None);
    let all = OffsetFetchRequest::default().with_groups(vec![asked]);
    let answer = client.call(8, &all).await;
    assert!(answer.groups[0].topics.is_empty(), "{:?}", answer.groups[0].topics);
    drop(client);
    let world = world.restart().await;
    let mut client = world.client().await;
    assert_eq!(committed(&mut client, "g").await, -1);
}

#[tokio::test(start_paused = true)]
async fn retention_by_size_keeps_as_much_as_it_says() {
    let world = small_world(&[("log.retention.check.interval.ms", "1000")]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[("retention.bytes", "50000")]).await;
    client.create("u", 1, &[]).await;
    let before = segments(&world);
    fill(&mut client, "t", 1_000).await;
    fill(&mut client, "u", 10).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let part = client.fetch("t", 0, 99).await;
    // Five batches of some 10,000 bytes are less than 50,000 bytes, so a sixth is kept.
    assert_eq!((part.log_start_offset, part.high_watermark), (94, 100));
    assert_eq!(client.read("u", 0, 0).await.len(), 1);
    assert!(segments(&world) < before + 6, "{} segments are left", segments(&world));
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_is_under_way() {
    let world = World::start().await;
    let mut producer = world.client().await;
    let mut consumer = world.client().await;
    producer.create("t", 1, &[]).await;
    consumer.send(12, &fetch("t", 0, 0).with_max_wait_ms(3_600_000)).await;
    for n in 0..50 {
        producer.send(9, &produce("t", 0, batch(&[&format!("{n}")]))).await;
    }
    let mut waiting = world.client().await;
    waiting.send(12, &fetch("t", 0, 50).with_max_wait_ms(3_600_000)).await;
    let fetched = consumer.receive::<FetchRequest>(12).await;
    assert!(fetched.responses[0].partitions[0].high_watermark > 0);
    let start = Instant::now();
    let (env, sim, config) = (world.env.clone(), world.sim.clone(), world.config.clone());
    world.node.stop().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let mut answered = 0;
    while let Some(frame) = producer.receive_frame().await {
        let (_, answer) =
            super::client::decoded::<kafka_protocol::messages::ProduceResponse>(frame, 9);
        assert_eq!((produced(&answer).error_code, produced(&answer).base_offset), (0, answered));
        answered += 1;
    }
    let world = World::on(env, sim, config).await.unwrap();
    let mut client = world.client().await;
    let kept = client.read("t", 0, 0).await.len();
    assert_eq!(kept, usize::try_from(answered).unwrap(), "what was read was answered");
    if let Some(frame) = waiting.receive_frame().await {
        let (_, answer) =
            super::client::decoded::<kafka_protocol::messages::FetchResponse>(frame, 12);
        assert_eq!(answer.error_code, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_client_that_takes_no_answers() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    fill(&mut client, "t", 200).await;
    for _ in 0..5 {
        client.send(12, &fetch("t", 0, 0)).await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    world.node.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_answers_is_given_up() {
    let world = World::start_with(&[("connections.max.idle.ms", "20000")]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    fill(&mut client, "t", 200).await;
    for _ in 0..5 {
        client.send(12, &fetch("t", 0, 0)).await;
    }
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(world.node.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_the_log_is_not_read() {
    let world = small_world(&[]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    fill(&mut client, "t", 300).await;
    drop(client);
    let World { env, sim, config, node } = world;
    node.stop().await;
    let dir = Path::new("/data/commitlog");
    let logs: Vec<_> = env.fs.list(dir).unwrap();
    for entry in logs.iter().filter(|entry| entry.name.ends_with(".log")) {
        // All but the block that the next write goes on in.
        let file = env.fs.open(&dir.join(&entry.name), crate::env::fs::Mode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(entry.size_bytes).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let last_block = u64::try_from(written - written % 4096).unwrap();
        sim.fs.fail_reads(&dir.join(&entry.name), 0..last_block).unwrap();
    }
    let world = World::on(env, sim, config).await.expect("no read was needed");
    let mut client = world.client().await;
    assert_eq!(client.produce("t", 0, batch(&["next"])).await, 30);
}

#[tokio::test(start_paused = true)]
async fn a_second_broker_on_the_directory_is_refused() {
    let world = World::start().await;
    let error = Node::start(world.env.clone(), world.config.clone()).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("/data/") && said.contains("in use"), "{said}");
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    assert_eq!(client.produce("t", 0, batch(&["fine"])).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_taken_is_named() {
    let world = World::start().await;
    let listeners = format!("PLAINTEXT://{}", world.address());
    let other = config(&[("log.dir", "/other"), ("listeners", &listeners)]);
    let error = Node::start(world.env.clone(), other).await.unwrap_err().to_string();
    assert!(error.contains(&world.address()), "{error}");
    // The attempt left nothing behind that is in the way of the next one.
    let other = config(&[("log.dir", "/other")]);
    Node::start(world.env.clone(), other).await.unwrap().stop().await;
}

#[tokio::test(start_paused = true)]
async fn metadata_that_is_lost_deletes_nothing() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    client.produce("t", 0, batch(&["precious"])).await;
    drop(client);
    let World { env, sim, config, node } = world;
    node.stop().await;
    let used = sim.fs.used_bytes();
    env.fs.rename(Path::new("/data/metadata"), Path::new("/data/moved")).unwrap();
    let error = World::on(env.clone(), sim.clone(), config.clone()).await.unwrap_err();
    assert!(error.to_string().contains("cluster"), "{error}");
    assert!(sim.fs.used_bytes() >= used);
    // With the metadata back everything is as it was. The failed start made another directory.
    env.fs.rename(Path::new("/data/metadata"), Path::new("/data/wrong")).unwrap();
    env.fs.rename(Path::new("/data/moved"), Path::new("/data/metadata")).unwrap();
    let (env, sim) = sim.restart();
    let world = World::on(env, sim, config).await.unwrap();
    let mut client = world.client().await;
    assert_eq!(client.read("t", 0, 0).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_produce_that_still_knew_a_deleted_topic_leaves_nothing_for_good() {
    let world = small_world(&[("log.retention.check.interval.ms", "60000")]).await;
    let mut client = world.client().await;
    let mut other = world.client().await;
    client.create("t", 1, &[]).await;
    // Sent together: whichever comes first, no queue without a topic lives on.
    for n in 0..20 {
        client.send(9, &produce("t", 0, batch(&[&format!("{n}")]))).await;
    }
    delete(&mut other, "t").await;
    for _ in 0..20 {
        let answer = client.receive::<ProduceRequest>(9).await;
        assert!([0, 3].contains(&produced(&answer).error_code));
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(world.node.partitions.queues(), []);
}

/// The system takes a killed process down after its successor may have been started.
#[tokio::test(start_paused = true)]
async fn a_start_waits_a_moment_for_the_locks_of_the_process_before_it() {
    for name in ["metadata/lock", "commitlog/lock"] {
        let world = World::start().await;
        let (env, sim) = world.sim.restart();
        drop(world.node);
        let held = env.fs.lock(&Path::new("/data").join(name)).unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(held);
        };
        let start = Instant::now();
        let (started, ()) = tokio::join!(Node::start(env, world.config), release);
        assert!(started.is_ok(), "{name}: {started:?}");
        assert!(start.elapsed() < Duration::from_secs(1), "{name}");
        drop(sim);
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_another_broker_serves_is_refused_in_a_bounded_time() {
    let world = World::start().await;
    let start = Instant::now();
    let second = Node::start(world.env.clone(), world.config.clone()).await;
    assert!(second.unwrap_err().to_string().contains("in use"));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(4), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_gone_is_not_begun_anew_beside_its_metadata() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    drop(client);
    let World { env, sim, config, node } = world;
    node.stop().await;
    let dir = Path::new("/data/commitlog");
    for entry in env.fs.list(dir).unwrap() {
        env.fs.remove(&dir.join(entry.name)).unwrap();
    }
    let refused = Node::start(env.clone(), config).await.unwrap_err().to_string();
    assert!(
        refused.contains("commitlog holds no log") && refused.contains("put it back"),
        "{refused}"
    );
    assert_eq!(env.fs.list(dir).unwrap(), [], "nothing is made there");
    drop(sim);
}

/// All of them have produced before, and now send at once far more than a segment holds.
#[tokio::test(start_paused = true)]
async fn many_connections_at_once_wait_for_a_segment_instead_of_being_refused() {
    let world = small_world(&[]).await;
    let mut clients = Vec::new();
    for n in 0..40 {
        let mut client = world.client().await;
        if n == 0 {
            client.create("t", 1, &[]).await;
        }
        client.produce("t", 0, batch(&["first"])).await;
        clients.push(client);
    }
    let value = "x".repeat(30_000);
    for _ in 0..3 {
        for client in &mut clients {
            client.send(9, &produce("t", 0, batch(&[&value]))).await;
        }
        for client in &mut clients {
            let answer = client.receive::<ProduceRequest>(9).await;
            assert_eq!(produced(&answer).error_code, 0);
        }
    }
}
