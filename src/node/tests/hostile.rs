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
use super::limits::paused;
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

#[tokio::test(start_paused = true)]
async fn lengths_that_cannot_be_end_the_connection() {
    let world = World::start_with(&[("braid.first.request.max.ms", "600000")]).await;
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
