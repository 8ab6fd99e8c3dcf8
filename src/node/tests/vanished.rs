//! Peers that are gone without a word: nothing more comes from them, nothing is taken, and there is no end and no reset.
//! Each is given up in its time, whatever it was in the midst of, and leaves nothing.

use std::time::Duration;

use kafka_protocol::messages::*;
use tokio::runtime::Runtime;

use super::ask::{batch, fetch, produce};
use super::client::{Client, frame_of};
use super::groups::{find, join_as};
use super::life::fill;
use super::limits::paused;
use super::world::World;

const EACH: usize = 10;
const MEMORY_BYTES: &str = "4194304";

/// What a peer is in the midst of when it vanishes.
#[derive(Clone, Copy, Debug)]
enum Amid {
    Nothing,
    AfterARequest,
    AFrame,
    ALargeFrame,
    AWait,
    Answers,
    AJoin,
    Writes,
}

const ALL: [Amid; 8] = [
    Amid::Nothing,
    Amid::AfterARequest,
    Amid::AFrame,
    Amid::ALargeFrame,
    Amid::AWait,
    Amid::Answers,
    Amid::AJoin,
    Amid::Writes,
];

async fn go(peer: &mut Client, amid: Amid) {
    if !matches!(amid, Amid::Nothing) {
        peer.call(1, &MetadataRequest::default().with_topics(Some(vec![]))).await;
    }
    match amid {
        Amid::Nothing | Amid::AfterARequest => {}
        Amid::AFrame => {
            peer.send_bytes(&50_000_i32.to_be_bytes()).await;
            peer.send_bytes(&[0; 40_000]).await;
        }
        Amid::ALargeFrame => {
            peer.send_bytes(&1_000_000_i32.to_be_bytes()).await;
            peer.send_bytes(&[0; 1_000]).await;
        }
        Amid::AWait => peer.send(12, &fetch("empty", 0, 0).with_max_wait_ms(40_000)).await,
        Amid::Answers => {
            for _ in 0..5 {
                peer.send(12, &fetch("t", 0, 0)).await;
            }
        }
        Amid::AJoin => peer.send(3, &join_as(3, "g", "")).await,
        Amid::Writes => {
            // Pipelined, the last one cut.
            let whole = frame_of(9, 9, &produce("mine", 0, batch(&["a"])));
            peer.send_bytes(&whole).await;
            peer.send_bytes(&whole[..whole.len() / 2]).await;
        }
    }
}

/// Some of each kind come and vanish; returns when none of them has a connection any more, after how long.
fn come_and_vanish(runtime: &Runtime, world: &World) -> Duration {
    runtime.block_on(async {
        let mut vanished = Vec::new();
        for amid in ALL.repeat(EACH) {
            let mut peer = world.client().await;
            go(&mut peer, amid).await;
            vanished.push(peer);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(world.node.connections(), vanished.len());
        let since = tokio::time::Instant::now();
        while world.node.connections() > 0 {
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert!(since.elapsed().as_secs() < 200, "{} are left", world.node.connections());
        }
        since.elapsed()
    })
}

#[test]
fn peers_that_vanish_are_given_up_and_leave_nothing() {
    let runtime = paused();
    let settings =
        [("connections.max.idle.ms", "20000"), ("braid.request.memory.bytes", MEMORY_BYTES)];
    let world = runtime.block_on(World::start_with(&settings));
    runtime.block_on(async {
        let mut client = world.client().await;
        for topic in ["t", "empty", "mine"] {
            client.create(topic, 1, &[]).await;
        }
        find(&mut client).await;
        fill(&mut client, "t", 500).await;
        drop(client);
        while world.node.connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
    // What is made once and stays, as the group is, is made in the first round.
    come_and_vanish(&runtime, &world);
    let mut longest = Duration::ZERO;
    let kept = allocation_counter::measure(|| longest = come_and_vanish(&runtime, &world));
    assert!(longest < Duration::from_secs(70), "the wait, then the idle time: {longest:?}");
    assert!(kept.bytes_current < 20_000, "{kept:?}");
    assert_eq!(world.node.free_request_memory_bytes().to_string(), MEMORY_BYTES);
    runtime.block_on(async {
        let mut client = world.client().await;
        assert_eq!(client.read("t", 0, 0).await.len(), 50);
        let written = 2 * EACH;
        assert_eq!(client.read("mine", 0, 0).await.len(), written, "what came whole is there");
        let joined = client.call(3, &join_as(3, "g", "")).await;
        assert_eq!(joined.members.len(), 1, "no vanished member is left");
    });
}
