//! Requests of every kind, bent: the frames that whoever means harm throws at a broker.

use braid_protocol::api::SUPPORTED;
use braid_protocol::guard::sample;
use braid_protocol::{ApiKey, records::BatchSpec, records::Codec};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Encodable;
use uuid::Uuid;

use super::ask::{batch_of, create_topics, fetch, new_topic, produce, stamped, text, topic_name};
use super::client::raw_frame;
use super::groups::{commit, group, heartbeat, join_as, sync_request};
use super::offsets;
use super::wire::header_version;
use crate::env::Rng;
use crate::env::rng::SeededRng;

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

/// Where the frames and their faults come from.
pub(super) struct Chance(SeededRng);

impl Chance {
    pub(super) fn from_seed(seed: u64) -> Self {
        Self(SeededRng::from_seed(seed))
    }

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
    pub(super) fn frame(&self, id: Uuid) -> Vec<u8> {
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
