//! A disk that is full, and one that fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_protocol::messages::ProduceRequest;

use super::ask::{
    batch, create_topics, new_topic, produce, produce_all, produced, records, stamped,
};
use super::client::Client;
use super::groups::{commit, committed, find};
use super::life::{delete, fill};
use super::world::{World, config};
use crate::env::sim::Fault;

/// What the broker leaves free of a disk.
const RESERVE: u64 = 64 << 20;

/// A broker on a disk that has room for so many more segments of 64 KiB.
async fn world_with_room_for(segments: u64) -> (World, Client) {
    let mut config = config(&[]);
    config.storage.segment_size_bytes = 64 << 10;
    let world = World::start_as(config).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    client.create("u", 1, &[]).await;
    find(&mut client).await;
    set_room(&world, segments);
    (world, client)
}

fn set_room(world: &World, segments: u64) {
    let used = world.sim.fs.used_bytes();
    world.sim.fs.set_capacity(Some(used + RESERVE + segments * (64 << 10) + 4096));
}

/// Produces until the disk is full; how many batches went in.
async fn fill_up(client: &mut Client) -> i64 {
    let value = "x".repeat(9_900);
    for n in 0.. {
        let answer = client.call(9, &produce("t", 0, batch(&[&value]))).await;
        let part = produced(&answer);
        if part.error_code != 0 {
            assert_eq!(part.error_code, 56);
            return n;
        }
        assert_eq!(part.base_offset, n);
        assert!(n < 10_000, "the disk never fills up");
    }
    unreachable!("the loop has no end")
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_records_and_nothing_else() {
    let (world, mut client) = world_with_room_for(10).await;
    let stored = fill_up(&mut client).await;
    assert!(stored > 50, "{stored}");
    assert_eq!(client.refused("t", 0, batch(&["one more"])).await, 56);
    assert_eq!(client.read("t", 0, 0).await.len(), usize::try_from(stored).unwrap());
    for offset in 0..20 {
        let answer = client.call(7, &commit("g", None, offset)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }
    assert_eq!(committed(&mut client, "g").await, 19);
    assert!(world.sim.fatal().is_empty());
    // acks=0 can say it only by hanging up.
    let mut hasty = world.client().await;
    hasty.send_unanswered(9, &produce_all(0, vec![("t", 0, Some(batch(&["lost"])))])).await;
    hasty.assert_closed().await;
    // The space returns: it goes on by itself, in order, with nothing doubled.
    set_room(&world, 20);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(client.produce("t", 0, batch(&["again"])).await, stored);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_topic_makes_a_full_disk_go_on() {
    let (_world, mut client) = world_with_room_for(10).await;
    assert_eq!(client.produce("u", 0, batch(&["kept"])).await, 0);
    fill_up(&mut client).await;
    assert_eq!(client.refused("u", 0, batch(&["no room"])).await, 56);
    delete(&mut client, "t").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    fill(&mut client, "u", 100).await;
    assert_eq!(client.read("u", 0, 0).await.len(), 11);
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_producer_goes_on_where_the_full_disk_stopped_it() {
    let (world, mut client) = world_with_room_for(2).await;
    let id = client.producer_id().await;
    let value = "x".repeat(9_900);
    let mut sequence = 0;
    loop {
        let answer = client.call(9, &produce("t", 0, stamped(id, 0, sequence, &[&value]))).await;
        if produced(&answer).error_code == 56 {
            break;
        }
        sequence += 1;
    }
    set_room(&world, 20);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let again = stamped(id, 0, sequence, &[&value]);
    assert_eq!(client.produce("t", 0, again).await, i64::from(sequence));
}

#[tokio::test(start_paused = true)]
async fn a_broker_starts_on_a_full_disk_and_serves_what_it_has() {
    let (world, mut client) = world_with_room_for(10).await;
    let stored = fill_up(&mut client).await;
    drop(client);
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(client.read("t", 0, 0).await.len(), usize::try_from(stored).unwrap());
    let world = {
        drop(client);
        world.restart().await
    };
    let mut client = world.client().await;
    assert_eq!(client.read("t", 0, 0).await.len(), usize::try_from(stored).unwrap());
    set_room(&world, 20);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(client.produce("t", 0, batch(&["again"])).await, stored);
}

/// Not a byte is free, not even for the frame that a run begins with.
#[tokio::test(start_paused = true)]
async fn a_broker_starts_on_a_disk_without_a_free_byte_and_goes_on_by_itself() {
    let (world, mut client) = world_with_room_for(3).await;
    let stored = fill_up(&mut client).await;
    world.sim.fs.set_capacity(Some(world.sim.fs.used_bytes()));
    let commits = (0..10_000).collect::<Vec<i64>>();
    let mut committed_last = 0;
    for offset in commits {
        let answer = client.call(7, &commit("g", None, offset)).await;
        if answer.topics[0].partitions[0].error_code != 0 {
            break;
        }
        committed_last = offset;
    }
    assert!((1..9_999).contains(&committed_last), "the log's last segment is full");
    drop(client);
    let mut world = world;
    for _ in 0..2 {
        world = world.kill_and_restart().await;
        let mut client = world.client().await;
        assert_eq!(client.refused("t", 0, batch(&["no room"])).await, 56);
        assert_eq!(client.read("t", 0, 0).await.len(), usize::try_from(stored).unwrap());
        assert!(committed(&mut client, "g").await >= committed_last);
    }
    set_room(&world, 20);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut client = world.client().await;
    assert_eq!(client.produce("t", 0, batch(&["again"])).await, stored);
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_acknowledges_nothing_and_ends_the_broker() {
    for fault in [Fault::Eio, Fault::ShortWrite] {
        let world = World::start().await;
        let mut client = world.client().await;
        client.create("t", 1, &[]).await;
        client.produce("t", 0, batch(&["kept"])).await;
        world.sim.fs.fail_from(world.sim.fs.operations() + 1, fault);
        for n in 0..3 {
            client.send(9, &produce("t", 0, batch(&[&format!("{n}")]))).await;
        }
        for _ in 0..3 {
            let answer = client.receive::<ProduceRequest>(9).await;
            let part = produced(&answer);
            assert_eq!((part.error_code, part.base_offset), (56, -1));
        }
        let failed = world.node.failed().await;
        assert!(failed.to_string().contains("commitlog"), "{failed}");
        // The disk works again: it is not tried again.
        world.sim.fs.clear_faults();
        assert_eq!(client.refused("t", 0, batch(&["more"])).await, 56);
        assert_eq!(client.read("t", 0, 0).await.len(), 1, "only what is on disk is served");
        let world = world.kill_and_restart().await;
        let mut client = world.client().await;
        let read = client.read("t", 0, 0).await;
        assert_eq!(read[0].1, "kept");
        let rest: Vec<_> = read[1..].iter().map(|(_, value)| value.as_str()).collect();
        assert!(["0", "1", "2"].starts_with(&rest), "{rest:?}");
    }
}

/// The file of the CommitLog that holds these bytes, and where in it they are.
pub(super) fn find_bytes(world: &World, wanted: &[u8]) -> (PathBuf, u64) {
    let dir = Path::new("/data/commitlog");
    let fs = &world.env.fs;
    for entry in fs.list(dir).unwrap().iter().filter(|entry| entry.name.ends_with(".log")) {
        let path = dir.join(&entry.name);
        let bytes = fs.read_all(&path).unwrap();
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            return (path, u64::try_from(at).unwrap());
        }
    }
    panic!("{wanted:?} is nowhere on the disk")
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_not_served_and_all_others_are() {
    let mut config = config(&[]);
    config.storage.segment_size_bytes = 64 << 10;
    config.storage.ring_size_bytes = 64 << 10;
    let world = World::start_as(config).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    client.create("u", 1, &[]).await;
    for value in ["before", "damaged here", "behind"] {
        client.produce("t", 0, batch(&[value])).await;
    }
    fill(&mut client, "u", 4_000).await;
    let (path, at) = find_bytes(&world, b"damaged here");
    world.sim.fs.flip_bit(&path, at, 0).unwrap();
    drop(client);
    // Maps of before the damage go with the process.
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(records(&client.fetch("t", 0, 0).await), [(0, "before".to_owned())]);
    assert_eq!(client.fetch("t", 0, 1).await.error_code, 2, "CORRUPT_MESSAGE");
    assert_eq!(records(&client.fetch("t", 0, 2).await), [(2, "behind".to_owned())]);
    assert_eq!(client.read("u", 0, 0).await.len(), 400);
    assert_eq!(client.produce("t", 0, batch(&["next"])).await, 3);
}

#[tokio::test(start_paused = true)]
async fn metadata_that_cannot_be_written_ends_the_broker() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("kept", 1, &[]).await;
    world.sim.fs.fail_from(world.sim.fs.operations() + 1, Fault::Eio);
    client.send(7, &create_topics(vec![new_topic("lost", 1, &[])])).await;
    let failed = world.node.failed().await;
    assert!(failed.to_string().contains("metadata"), "{failed}");
    let (env, sim) = world.sim.restart();
    sim.fs.clear_faults();
    drop(world.node);
    let world = World::on(env, sim, world.config).await.unwrap();
    let mut client = world.client().await;
    assert_eq!(client.produce("kept", 0, batch(&["a"])).await, 0);
}

/// Which offsets the lost batch had is not known, so none are handed out until somebody decides.
#[tokio::test(start_paused = true)]
async fn damage_that_hides_offsets_refuses_records_until_the_operator_accepts_the_loss() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    for value in ["before", "lost", "behind", "and one more"] {
        client.produce("t", 0, batch(&[value])).await;
    }
    let (path, at) = find_bytes(&world, b"lost");
    let bytes = world.env.fs.read_all(&path).unwrap();
    let header = (0..usize::try_from(at).unwrap()).rfind(|at| bytes[*at..].starts_with(b"BFR\x01"));
    world.sim.fs.flip_bit(&path, u64::try_from(header.unwrap() + 9).unwrap(), 0).unwrap();
    drop(client);
    let mut world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(client.refused("t", 0, batch(&["refused"])).await, 56);
    assert_eq!(records(&client.fetch("t", 0, 0).await), [(0, "before".to_owned())]);
    let behind = [(2, "behind".to_owned()), (3, "and one more".to_owned())];
    assert_eq!(records(&client.fetch("t", 0, 2).await), behind, "what is whole is served");
    for (accept_loss, next) in [(true, 4), (false, 5)] {
        drop(client);
        world.config.storage.accept_loss = accept_loss;
        world = world.kill_and_restart().await;
        client = world.client().await;
        assert_eq!(client.produce("t", 0, batch(&["goes on"])).await, next);
    }
}
