//! What clients may take of the broker's memory and places, and what it says of those that want
//! more.

use std::time::Duration;

use kafka_protocol::messages::*;
use tokio::runtime::Runtime;

use super::ask::{batch, create_topics, fetch, new_topic, produce, text, topic_name};
use super::client::frame_of;
use super::groups::{find, join_as};
use super::world::World;

#[test]
fn readers_that_take_nothing_do_not_fill_the_memory() {
    const CLIENTS: usize = 60;
    let runtime = paused();
    let settings = [("braid.request.memory.bytes", "4194304")];
    let world = runtime.block_on(World::start_with(&settings));
    let mut client = runtime.block_on(async {
        let mut client = world.client().await;
        client.create("t", 1, &[]).await;
        super::life::fill(&mut client, "t", 2_000).await;
        client
    });
    let mut readers = Vec::new();
    let held = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..CLIENTS {
                let mut reader = world.client().await;
                reader.send(12, &fetch("t", 0, 0)).await;
                readers.push(reader);
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
        });
    });
    // A megabyte for each would be 60: all share four, and each has its least and its pipes.
    assert!(held.bytes_current < 24 << 20, "{held:?}");
    // Who takes answers is served, in smaller pieces, and whoever was slow gets the rest.
    runtime.block_on(async {
        assert_eq!(client.read("t", 0, 0).await.len(), 200);
        for mut reader in readers {
            let answer = reader.receive::<FetchRequest>(12).await;
            assert!(!super::ask::records(&answer.responses[0].partitions[0]).is_empty());
        }
        assert!(client.fetch("t", 0, 0).await.records.unwrap().len() > 900_000);
    });
}

#[test]
fn whoever_asks_for_much_and_takes_nothing_is_given_up() {
    const CLIENTS: usize = 100;
    let runtime = paused();
    let settings = [("braid.request.memory.bytes", "4194304")];
    let world = runtime.block_on(World::start_with(&settings));
    let all = MetadataRequest::default().with_topics(None);
    let partitions = |answer: &MetadataResponse| {
        answer.topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>()
    };
    runtime.block_on(async {
        for name in ["s", "t"] {
            world.client().await.create(name, 10_000, &[]).await;
        }
    });
    let mut hostile = Vec::new();
    let held = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..CLIENTS {
                let mut client = world.client().await;
                client.send(9, &all).await;
                hostile.push(client);
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                tokio::time::advance(Duration::from_millis(50)).await;
            }
        });
    });
    // Each answer has more than half a megabyte; together they have two. Each client has its pipe.
    assert!(held.bytes_current < 16 << 20, "{held:?}");
    assert!(world.node.connections() < CLIENTS / 4, "{} connections", world.node.connections());
    runtime.block_on(async {
        let mut reader = world.client().await;
        assert_eq!(partitions(&reader.call(9, &all).await), [10_000; 2]);
        let mut last = hostile.pop().unwrap();
        let answer = last.receive::<MetadataRequest>(9).await;
        assert_eq!(partitions(&answer), [10_000; 2], "slow, and not in the way");
        assert!(hostile[0].receive_frame().await.is_none(), "its answer was cut");
    });
}

#[test]
fn many_parts_of_requests_do_not_fill_the_memory() {
    const CLIENTS: usize = 400;
    let runtime = paused();
    let settings = [("braid.request.memory.bytes", "4194304")];
    let world = runtime.block_on(World::start_with(&settings));
    let mut clients = Vec::new();
    let held = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..CLIENTS {
                let mut client = world.client().await;
                // A frame that never ends, as much of it as a pipe takes.
                client.send_bytes(&60_000_i32.to_be_bytes()).await;
                client.send_bytes(&[0; 50_000]).await;
                clients.push(client);
                tokio::task::yield_now().await;
            }
        });
    });
    // What the broker did not take is in the pipes, which belong to the network.
    let pipes = i64::try_from(CLIENTS * 65_536).unwrap();
    assert!(held.bytes_current < pipes + (8 << 20), "{held:?}");
    runtime.block_on(async {
        let mut client = world.client().await;
        client.create("t", 1, &[]).await;
        assert_eq!(client.produce("t", 0, batch(&["small"])).await, 0);
    });
}

#[tokio::test(start_paused = true)]
async fn a_large_request_holds_its_memory_until_it_is_answered() {
    let world = World::start().await;
    let mut client = world.client().await;
    find(&mut client).await;
    let memory = world.config.network.request_memory_bytes;
    let mut join = join_as(3, "g", "");
    join.protocols[0].metadata = vec![0; 100_000].into();
    let mut first = world.client().await;
    // The first member of a group is answered at once, the second waits for the first.
    drop(first.call(3, &join).await);
    assert_eq!(world.node.free_request_memory_bytes(), memory);
    let mut second = world.client().await;
    second.send(3, &join).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let held = memory - world.node.free_request_memory_bytes();
    assert!((100_000..101_000).contains(&held), "{held} bytes are held");
    drop(second.receive::<JoinGroupRequest>(3).await);
    assert_eq!(world.node.free_request_memory_bytes(), memory);
}

pub(super) fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn a_large_request_leaves_no_memory_with_its_connection() {
    const CLIENTS: usize = 40;
    let runtime = paused();
    let world = runtime.block_on(World::start());
    let mut clients = Vec::new();
    let kept = allocation_counter::measure(|| {
        runtime.block_on(async {
            let large =
                frame_of(0, 9, &produce("nowhere", 0, batch(&["x".repeat(900_000).as_str()])));
            for _ in 0..CLIENTS {
                let mut client = world.client().await;
                client.send_bytes(&large).await;
                assert!(client.receive_frame().await.is_some());
                clients.push(client);
            }
        });
    });
    assert_eq!(world.node.connections(), CLIENTS);
    let each = kept.bytes_current / i64::try_from(CLIENTS).unwrap();
    // Two pipes of 64 KiB, and as much room for the next request.
    assert!(each < 400_000, "{each} bytes for each idle connection");
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_request_in_time_is_disconnected_however_busy_it_looks() {
    let world = World::start_with(&[("braid.first.request.max.ms", "5000")]).await;
    let start = tokio::time::Instant::now();
    let mut silent = world.client().await;
    let mut drip = world.client().await;
    let mut polite = world.client().await;
    polite.call(1, &MetadataRequest::default().with_topics(Some(vec![]))).await;
    let drips = async {
        for byte in [0, 0, 0, 60, 0, 3, 0, 1, 0, 0, 0] {
            drip.send_bytes(&[byte]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drip.assert_closed().await;
    };
    let ((), ()) = tokio::join!(drips, silent.assert_closed());
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    // Once a request was sent a connection may be slow, up to the idle time.
    polite.send_bytes(&[0, 0]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.node.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_broker_gives_the_places_of_the_silent_to_newcomers() {
    let settings = [("max.connections", "10"), ("braid.first.request.max.ms", "600000")];
    let world = World::start_with(&settings).await;
    let request = MetadataRequest::default().with_topics(Some(vec![]));
    let mut served = Vec::new();
    let mut silent = Vec::new();
    for _ in 0..4 {
        let mut client = world.client().await;
        client.call(1, &request).await;
        served.push(client);
    }
    for _ in 0..100 {
        silent.push(world.client().await);
        tokio::task::yield_now().await;
        assert!(world.node.connections() <= 10, "{} connections", world.node.connections());
    }
    for _ in 0..6 {
        let mut client = world.client().await;
        client.call(1, &request).await;
        served.push(client);
    }
    for client in &mut served {
        client.call(1, &request).await;
    }
    // Nobody is silent any more: now there is no place.
    world.client().await.assert_closed().await;
    for client in &mut silent {
        client.assert_closed().await;
    }
    for client in &mut served {
        client.call(1, &request).await;
    }
}

#[tokio::test(start_paused = true)]
async fn single_addresses_may_have_limits_of_their_own() {
    let settings = [
        ("max.connections.per.ip", "100"),
        ("max.connections.per.ip.overrides", "10.1.2.3:50,127.0.0.1:3"),
    ];
    let world = World::start_with(&settings).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(world.client().await);
    }
    world.client().await.assert_closed().await;
    assert_eq!(world.node.connections(), 3);
}

#[test]
fn what_a_request_claims_is_not_allocated() {
    const CLIENTS: usize = 200;
    let runtime = paused();
    let world = runtime.block_on(World::start());
    let mut clients = Vec::new();
    let held = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..CLIENTS {
                let mut client = world.client().await;
                // The largest length there may be, and ten bytes of it.
                client.send_bytes(&(1_i32 << 20).to_be_bytes()).await;
                client.send_bytes(&[0; 10]).await;
                clients.push(client);
                tokio::task::yield_now().await;
            }
        });
    });
    let each = held.bytes_max / CLIENTS as u64;
    assert!(each < 20_000, "{each} bytes for each");
}

/// Names that would be paths, or worse.
fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> =
        ["../x", "..", ".", "/etc/passwd", "a/b", "a\\b", "a\0b", "a b", ""]
            .into_iter()
            .chain([
                "%RETRY%g",
                "t\u{202e}x",
                "t\u{e9}",
                "~",
                "$HOME",
                "`id`",
                "a\nb",
                "CON",
                "nul",
            ])
            .chain(["..%2fx", "__consumer_offsets", "commitlog", "metadata", "lock"])
            .map(str::to_owned)
            .collect();
    names.extend([249, 250, 10_240].map(|length| "x".repeat(length)));
    names
}

/// Every file and directory, outside of /data too.
fn files(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![std::path::PathBuf::from("/")];
    while let Some(dir) = dirs.pop() {
        for entry in world.env.fs.list(&dir).unwrap_or_default() {
            let path = dir.join(&entry.name);
            found.push(path.display().to_string());
            dirs.push(path);
        }
    }
    found
}

/// Those of them that hold others.
fn dirs(world: &World) -> Vec<String> {
    let list = |path: &String| world.env.fs.list(std::path::Path::new(path)).unwrap_or_default();
    files(world).into_iter().filter(|path| !list(path).is_empty()).collect()
}

#[tokio::test(start_paused = true)]
async fn hostile_names_never_become_names_of_files() {
    let world = World::start_with(&[("auto.create.topics.enable", "true")]).await;
    let mut client = world.client().await;
    find(&mut client).await;
    let before = dirs(&world);
    assert!(before.iter().any(|path| path == "/data/commitlog"), "{before:?}");
    for name in hostile_names() {
        let topic = new_topic(&name, 1, &[("retention.ms", "1000")]);
        let created = client.call(6, &create_topics(vec![topic])).await.topics.remove(0);
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let fine = name.chars().all(plain)
            && !["", ".", ".."].contains(&name.as_str())
            && name.len() <= 249
            && name != "__consumer_offsets";
        let code = created.error_code;
        assert_eq!(code == 0, fine, "{name:?}: {code}");
        // Named in any other way it is no better.
        let asked = MetadataRequest::default().with_allow_auto_topic_creation(true);
        let about = metadata_request::MetadataRequestTopic::default();
        let about = about.with_name(Some(topic_name(&name)));
        drop(client.call(9, &asked.with_topics(Some(vec![about]))).await);
        drop(client.call(9, &produce(&name, 0, batch(&["x"]))).await);
        drop(client.call(3, &join_as(3, &name, "")).await);
        drop(client.call(7, &super::groups::commit(&name, None, 1)).await);
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let numbered = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with(|c: char| c.is_ascii_digit() || c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
            && name.len() < 60
            && path.starts_with("/data")
    };
    let strange: Vec<_> = files(&world).into_iter().filter(|path| !numbered(path)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(dirs(&world), before, "no directory came to be");
}

/// What is logged, in a buffer.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// What this thread logs until the second part is dropped.
    fn start() -> (Self, (tracing::subscriber::DefaultGuard, tracing::Dispatch)) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        // While there is only one, other threads' events would decide what is of interest.
        let second = tracing::Dispatch::new(tracing_subscriber::fmt().finish());
        (log, (tracing::subscriber::set_default(subscriber), second))
    }

    fn lines(&self, word: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_one_line_that_says_who_what_and_why() {
    let (log, _logging) = Log::start();
    let world = World::start().await;
    let mut client = world.client().await;
    let who = ApiVersionsRequest::default()
        .with_client_software_name(text("liba"))
        .with_client_software_version(text("1.2.3"));
    drop(client.call(3, &who).await);
    assert_eq!(client.refused("evil\ntopic", 0, batch(&["a"])).await, 3);
    let lines = log.lines("refused a request");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let words = [
        "connection=0",
        "peer=127.0.0.1:",
        "client_id=\"test\"",
        "software=\"liba\"",
        "software_version=\"1.2.3\"",
        "api=\"Produce\"",
        "api_version=",
        "evil",
        "reason=\"UNKNOWN_TOPIC_OR_PARTITION",
    ];
    for word in words {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }
    // A version that is not served, and a flood of them.
    for _ in 0..500 {
        let mut client = world.client().await;
        client.send_body(0, 99, 2, &[]).await;
        client.assert_closed().await;
    }
    let lines = log.lines("Produce is not served in version 99");
    assert!((10..=20).contains(&lines.len()), "{} lines", lines.len());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut client = world.client().await;
    client.send_bytes(&[0xff; 4]).await;
    client.assert_closed().await;
    let lines = log.lines("closed a connection");
    let told: u64 = lines.last().unwrap().rsplit_once("left_out=").unwrap().1.parse().unwrap();
    assert_eq!(usize::try_from(told).unwrap() + log.lines("left_out=").len(), 502);
}
