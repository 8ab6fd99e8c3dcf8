//! Bytes that mean harm, thrown at a living broker: it serves everybody else, and forgets them.

use std::time::Duration;

use braid_protocol::api::SUPPORTED;
use braid_protocol::guard::sample;
use braid_protocol::{ApiKey, records::BatchSpec, records::Codec};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Encodable;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::ask::{
    batch, batch_of, create_topics, fetch, new_topic, produce, stamped, text, topic_name,
};
use super::client::{Client, frame_of, raw_frame};
use super::groups::{commit, find, group, heartbeat, join_as, sync_request};
use super::offsets;
use super::wire::header_version;
use super::world::World;
use crate::env::Rng;
use crate::env::rng::SeededRng;

/// Frames that a connection sends before it closes its side and takes what answers there are.
const FLIGHT: usize = 8;

fn body<T: Encodable>(request: &T, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).expect("the request fits the version");
    body.freeze()
}

/// A request that does something; none where the codec of the tests does not reach.
fn meaningful(key: ApiKey, version: i16, id: Uuid, chance: &Chance) -> Option<Bytes> {
    let member = JoinGroupResponse::default().with_member_id(text("m"));
    Some(match key {
        ApiKey::Produce => {
            let spec = BatchSpec { codec: chance.codec(), ..BatchSpec::default() };
            let records = match chance.below(3) {
                0 => stamped(7, 0, 0, &["a"]),
                _ => batch_of(spec, &["some", "records", "of many bytes"]),
            };
            let mut request = produce("t", 0, records).with_acks(i16::from(chance.below(4) == 0));
            if version >= 13 {
                request.topic_data[0].name = TopicName::default();
                request.topic_data[0].topic_id = id;
            }
            body(&request, version)
        }
        ApiKey::Fetch => {
            let mut request = fetch("t", 0, 0).with_max_wait_ms(20).with_min_bytes(1 << 30);
            if version >= 13 {
                request.topics[0].topic = TopicName::default();
                request.topics[0].topic_id = id;
            }
            if version >= 7 {
                request.session_epoch = 0;
            }
            body(&request, version)
        }
        ApiKey::ListOffsets if version <= 10 => body(&offsets::ask("t", 0, 5), version),
        ApiKey::OffsetCommit if version <= 9 => body(&commit("g", None, 1), version),
        ApiKey::FindCoordinator if version >= 4 => {
            body(&FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]), version)
        }
        ApiKey::JoinGroup => body(&join_as(version, "g", ""), version),
        ApiKey::Heartbeat => body(&heartbeat("g", &member), version),
        ApiKey::SyncGroup => body(&sync_request("g", &member), version),
        ApiKey::LeaveGroup if version >= 3 => {
            let member = MemberIdentity::default().with_member_id(text("m"));
            let request = LeaveGroupRequest::default().with_group_id(group("g"));
            body(&request.with_members(vec![member]), version)
        }
        ApiKey::CreateTopics => {
            let name = format!("n{}", chance.below(20));
            body(&create_topics(vec![new_topic(&name, 1, &[("retention.ms", "9")])]), version)
        }
        ApiKey::DeleteTopics if version <= 5 => {
            let name = format!("n{}", chance.below(20));
            let request = DeleteTopicsRequest::default();
            body(&request.with_topic_names(vec![topic_name(&name)]), version)
        }
        ApiKey::InitProducerId => {
            body(&InitProducerIdRequest::default().with_transactional_id(None), version)
        }
        ApiKey::Metadata => body(&MetadataRequest::default().with_topics(Some(vec![])), version),
        _ => return None,
    })
}

struct Chance(SeededRng);

impl Chance {
    fn below(&self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % end as u64).unwrap()
    }

    fn byte(&self) -> u8 {
        self.0.next_u64().to_be_bytes()[0]
    }

    fn codec(&self) -> Codec {
        [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][self.below(5)]
    }

    /// Bytes bent in up to four places.
    fn bend(&self, bytes: &mut Vec<u8>) {
        const EXTREMES: [&[u8]; 8] = [
            &[0x7f, 0xff, 0xff, 0xff],
            &[0x80, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0, 0],
            &[0x7f, 0xff],
            &[0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x80, 0x80, 0x80, 0x80, 0x00],
        ];
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 | 3 => {
                    let extreme = EXTREMES[self.below(EXTREMES.len())];
                    let end = (at + extreme.len()).min(bytes.len());
                    bytes.splice(at..end, extreme.iter().copied());
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
    }

    /// A frame of any served API and version: mostly whole, its body mostly bent.
    fn frame(&self, id: Uuid) -> Vec<u8> {
        let api = &SUPPORTED[self.below(SUPPORTED.len())];
        let versions = usize::try_from(api.max - api.accepted_min).unwrap() + 1;
        let version = api.accepted_min + i16::try_from(self.below(versions)).unwrap();
        let meant = if self.below(2) == 0 { meaningful(api.key, version, id, self) } else { None };
        let sample = || sample::body(api.key, version, self.0.next_u64());
        let mut body = meant.unwrap_or_else(sample).to_vec();
        self.bend(&mut body);
        let header = header_version(api.key, version);
        let mut frame = raw_frame(api.key.code(), version, header, 1, &body).to_vec();
        if self.below(50) == 0 {
            self.bend(&mut frame);
        }
        frame
    }
}

/// One flight of bent frames over one connection; how many answers came.
async fn attack(mut client: Client, chance: &Chance, id: Uuid) -> usize {
    let mut bytes = Vec::new();
    for _ in 0..FLIGHT {
        bytes.extend(chance.frame(id));
    }
    client.send_bytes(&bytes).await;
    client.finish_sending().await;
    let mut answers = 0;
    while client.receive_frame().await.is_some() {
        answers += 1;
    }
    answers
}

/// A world under attack.
struct Siege {
    runtime: Runtime,
    world: World,
    bystander: Client,
    topic: Uuid,
    chance: Chance,
    served: i64,
}

impl Siege {
    fn begin() -> Self {
        let runtime = paused();
        let settings = [
            ("log.retention.bytes", "100000"),
            // Bent requests make topics of a hundred thousand partitions, too.
            ("log.retention.check.interval.ms", "300000"),
            ("group.max.size", "10"),
        ];
        let (world, bystander, topic) = runtime.block_on(async {
            let world = World::start_with(&settings).await;
            let mut client = world.client().await;
            find(&mut client).await;
            let topic = client.create("t", 2, &[]).await;
            client.create("quiet", 1, &[]).await;
            (world, client, topic)
        });
        let chance = Chance(SeededRng::from_seed(7));
        Self { runtime, world, bystander, topic, chance, served: 0 }
    }

    /// Throws frames while somebody else is served, until so many were looked at; how many of
    /// them were answered.
    fn throw(&mut self, frames: usize) -> usize {
        let Self { runtime, world, bystander, topic, chance, served } = self;
        runtime.block_on(async {
            let (mut answers, mut refused) = (0, 0);
            while answers + refused < frames {
                let answered = attack(world.client().await, chance, *topic).await;
                answers += answered;
                // The first frame that is refused ends its connection.
                refused += usize::from(answered < FLIGHT);
                if refused % 50 == 0 {
                    // Long waits of the others may have made it look idle.
                    *bystander = world.client().await;
                    let offset = bystander.produce("quiet", 0, batch(&["mine"])).await;
                    assert_eq!(offset, *served);
                    *served += 1;
                    let part = bystander.fetch("quiet", 0, offset).await;
                    assert_eq!((part.error_code, part.high_watermark), (0, *served));
                }
            }
            answers
        })
    }

    /// Lets everything pass that passes with time.
    fn rest(&mut self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_secs(3600)).await });
    }
}

#[test]
fn a_hundred_thousand_bent_requests_harm_nobody_and_leave_nothing() {
    let mut siege = Siege::begin();
    let mut answers = siege.throw(50_000);
    siege.rest();
    let grown = allocation_counter::measure(|| {
        answers += siege.throw(50_000);
        siege.rest();
    });
    assert!(siege.world.sim.fatal().is_empty(), "{:?}", siege.world.sim.fatal());
    // Both sides of the border were visited: a refused frame ends its connection.
    assert!((20_000..80_000).contains(&answers), "{answers} answers");
    // The disk is in memory, too, and remembers every operation.
    assert!(grown.bytes_current < 4 << 20, "{grown:?}");
    assert!(grown.bytes_max < 32 << 20, "{grown:?}");
    let connections = siege.world.node.connections();
    assert!(connections <= 1, "{connections} connections");
    let memory = siege.world.config.network.request_memory_bytes;
    assert_eq!(siege.world.node.free_request_memory_bytes(), memory);
}

/// Everything a client says in a short life.
fn session(id: Uuid) -> Vec<u8> {
    let member = JoinGroupResponse::default().with_member_id(text("m"));
    let mut poll = fetch("t", 0, 0).with_max_wait_ms(5_000).with_min_bytes(1 << 30);
    poll.session_epoch = 0;
    let mut by_id = produce("", 0, batch(&["by id"]));
    by_id.topic_data[0].topic_id = id;
    [
        frame_of(0, 3, &ApiVersionsRequest::default()),
        frame_of(1, 9, &MetadataRequest::default().with_topics(None)),
        frame_of(2, 4, &InitProducerIdRequest::default().with_transactional_id(None)),
        frame_of(3, 9, &produce("t", 0, batch(&["a", "b"]))),
        frame_of(4, 13, &by_id),
        frame_of(5, 12, &poll),
        frame_of(6, 7, &commit("g", None, 1)),
        frame_of(7, 3, &join_as(3, "g", "")),
        frame_of(8, 3, &heartbeat("g", &member)),
        frame_of(9, 9, &produce("t", 0, batch(&["c"])).with_acks(0)),
    ]
    .concat()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_at_any_byte_leaves_nothing() {
    let world = World::start().await;
    let mut client = world.client().await;
    find(&mut client).await;
    let id = client.create("t", 1, &[]).await;
    let bytes = session(id);
    assert!(bytes.len() > 500);
    for end in 0..=bytes.len() {
        let mut gone = world.client().await;
        gone.send_bytes(&bytes[..end]).await;
        for _ in 0..end % 7 {
            tokio::task::yield_now().await;
        }
        drop(gone);
        if end % 100 == 0 {
            // All lines at once, as when a switch dies.
            world.sim.net.cut_all();
        }
    }
    drop(client);
    // What was sent whole before is still done: a join waits for the members that are gone.
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.node.connections(), 0);
    let memory = world.config.network.request_memory_bytes;
    assert_eq!(world.node.free_request_memory_bytes(), memory);
    let mut client = world.client().await;
    assert_eq!(client.fetch("t", 0, 0).await.error_code, 0);
}

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
    runtime.block_on(async { world.client().await.create("t", 20_000, &[]).await });
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
        assert_eq!(reader.call(9, &all).await.topics[0].partitions.len(), 20_000);
        let mut last = hostile.pop().unwrap();
        let answer = last.receive::<MetadataRequest>(9).await;
        assert_eq!(answer.topics[0].partitions.len(), 20_000, "slow, and not in the way");
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

fn paused() -> Runtime {
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
async fn lengths_that_cannot_be_end_the_connection() {
    let world = World::start().await;
    for length in [i32::MIN, -1, (1 << 20) + 1, i32::MAX] {
        let mut client = world.client().await;
        client.send_bytes(&length.to_be_bytes()).await;
        client.assert_closed().await;
    }
    // The largest length that may be is waited for.
    let mut client = world.client().await;
    client.send_bytes(&(1_i32 << 20).to_be_bytes()).await;
    let silence = tokio::time::timeout(Duration::from_secs(60), client.receive_frame()).await;
    assert!(silence.is_err());
}
