//! Consumer groups through the wire.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use uuid::Uuid;

use super::ask::{text, topic_name};
use super::client::Client;
use super::world::World;

pub(super) fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

async fn world_with_topic() -> (World, Client) {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 3, &[]).await;
    find(&mut client).await;
    (world, client)
}

/// The offsets topic comes into being when the first group asks for its coordinator.
pub(super) async fn find(client: &mut Client) {
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    assert_eq!(client.call(4, &request).await.coordinators[0].error_code, 0);
}

fn join_request(name: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"subscription"));
    JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_session_timeout_ms(10_000)
        .with_protocols(vec![protocol])
}

pub(super) fn join_as(version: i16, name: &str, member: &str) -> JoinGroupRequest {
    let request = join_request(name, member);
    if version >= 1 { request.with_rebalance_timeout_ms(60_000) } else { request }
}

/// A new member that has its id.
async fn join(client: &mut Client, version: i16, name: &str) -> JoinGroupResponse {
    let mut answer = client.call(version, &join_as(version, name, "")).await;
    if version >= 4 {
        assert_eq!(answer.error_code, 79, "version {version}");
        assert!(!answer.member_id.is_empty());
        let member = answer.member_id.clone();
        answer = client.call(version, &join_as(version, name, &member)).await;
    }
    assert_eq!(answer.error_code, 0, "version {version}");
    answer
}

pub(super) fn sync_request(name: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignments = joined.members.iter().map(|member| {
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(Bytes::from(format!("for {}", member.member_id.as_str())))
    });
    SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(assignments.collect())
}

pub(super) fn heartbeat(name: &str, joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
}

/// A commit for partition 0 of `t`, outside any generation unless `by` says so.
pub(super) fn commit(
    name: &str,
    by: Option<&JoinGroupResponse>,
    offset: i64,
) -> OffsetCommitRequest {
    let part = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![part]);
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_generation_id_or_member_epoch(by.map_or(-1, |joined| joined.generation_id))
        .with_member_id(by.map_or(text(""), |joined| joined.member_id.clone()))
        .with_topics(vec![topic])
}

pub(super) async fn committed(client: &mut Client, name: &str) -> i64 {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group(name))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
    let answer = client.call(8, &request).await;
    assert_eq!(answer.groups[0].error_code, 0);
    let part = &answer.groups[0].topics[0].partitions[0];
    assert_eq!(part.error_code, 0);
    part.committed_offset
}

/// Whether the coordinator has read back the partition of a group.
pub(super) async fn are_loaded(client: &mut Client, name: &str) -> bool {
    let asked = OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
    client.call(8, &request).await.groups[0].error_code == 0
}

fn commit_code(answer: &OffsetCommitResponse) -> i16 {
    answer.topics[0].partitions[0].error_code
}

#[tokio::test(start_paused = true)]
async fn every_version_joins_syncs_beats_and_leaves() {
    let (_world, mut client) = world_with_topic().await;
    for version in 0..=9 {
        let name = format!("g{version}");
        let joined = join(&mut client, version, &name).await;
        assert_eq!((joined.generation_id, &joined.leader), (1, &joined.member_id));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, Bytes::from_static(b"subscription"));
        if version >= 7 {
            assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
        }
        let sync_version = version.min(5);
        let mut sync = sync_request(&name, &joined);
        if sync_version >= 5 {
            sync.protocol_type = Some(text("consumer"));
            sync.protocol_name = Some(text("range"));
        }
        let synced = client.call(sync_version, &sync).await;
        assert_eq!(synced.error_code, 0);
        assert_eq!(synced.assignment, Bytes::from(format!("for {}", joined.member_id.as_str())));
        let beat = client.call(version.min(4), &heartbeat(&name, &joined)).await;
        assert_eq!(beat.error_code, 0);
        let leave_version = version.min(5);
        let leave = LeaveGroupRequest::default().with_group_id(group(&name));
        let leave = if leave_version >= 3 {
            let member = MemberIdentity::default().with_member_id(joined.member_id.clone());
            leave.with_members(vec![member])
        } else {
            leave.with_member_id(joined.member_id.clone())
        };
        let left = client.call(leave_version, &leave).await;
        assert_eq!(left.error_code, 0);
        if leave_version >= 3 {
            assert_eq!(left.members[0].error_code, 0);
        }
        let again = client.call(leave_version, &leave).await;
        let code = if leave_version >= 3 { again.members[0].error_code } else { again.error_code };
        assert_eq!(code, 25, "version {leave_version}: it has left");
    }
}

#[tokio::test(start_paused = true)]
async fn two_members_share_a_generation_and_a_third_makes_a_new_one() {
    let (world, mut first) = world_with_topic().await;
    let mut second = world.client().await;
    let one = join(&mut first, 5, "g").await;
    drop(first.call(3, &sync_request("g", &one)).await);
    let id = second.call(5, &join_as(5, "g", "")).await.member_id;
    second.send(5, &join_as(5, "g", &id)).await;
    // The first learns of the rebalance by its heartbeat and joins again.
    let mut code = 0;
    while code == 0 {
        code = first.call(3, &heartbeat("g", &one)).await.error_code;
        tokio::time::advance(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(code, 27);
    let one = first.call(5, &join_as(5, "g", &one.member_id)).await;
    let two = second.receive::<JoinGroupRequest>(5).await;
    assert_eq!((one.error_code, two.error_code), (0, 0));
    assert_eq!((one.generation_id, two.generation_id), (2, 2));
    assert_eq!((one.members.len(), two.members.len()), (2, 0), "only the leader sees all");
    assert_eq!(two.leader, one.member_id);
    // A follower's sync waits for the leader's.
    second.send(3, &sync_request("g", &two)).await;
    let synced = first.call(3, &sync_request("g", &one)).await;
    assert_eq!(synced.assignment, Bytes::from(format!("for {}", one.member_id.as_str())));
    let synced = second.receive::<SyncGroupRequest>(3).await;
    assert_eq!(synced.assignment, Bytes::from(format!("for {}", two.member_id.as_str())));
    // The old generation is over.
    let old =
        JoinGroupResponse::default().with_generation_id(1).with_member_id(one.member_id.clone());
    assert_eq!(first.call(3, &heartbeat("g", &old)).await.error_code, 22);
    assert_eq!(commit_code(&first.call(7, &commit("g", Some(&old), 5)).await), 22);
    assert_eq!(commit_code(&first.call(7, &commit("g", Some(&one), 5)).await), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_put_out() {
    let (_world, mut client) = world_with_topic().await;
    let joined = join(&mut client, 5, "g").await;
    drop(client.call(3, &sync_request("g", &joined)).await);
    tokio::time::advance(std::time::Duration::from_millis(9_500)).await;
    assert_eq!(client.call(3, &heartbeat("g", &joined)).await.error_code, 0);
    tokio::time::sleep(std::time::Duration::from_millis(10_500)).await;
    assert_eq!(client.call(3, &heartbeat("g", &joined)).await.error_code, 25);
}

#[tokio::test(start_paused = true)]
async fn a_static_member_keeps_its_place_and_fences_its_double() {
    let (world, mut client) = world_with_topic().await;
    let request = || join_as(5, "g", "").with_group_instance_id(Some(text("i1")));
    let first = client.call(5, &request()).await;
    assert_eq!((first.error_code, first.generation_id), (0, 1), "no second round");
    let synced = client.call(3, &sync_request("g", &first)).await;
    assert_eq!(synced.error_code, 0);
    // It comes back under a new id, without a rebalance.
    let mut other = world.client().await;
    let second = other.call(5, &request()).await;
    assert_eq!((second.error_code, second.generation_id), (0, 1));
    assert_ne!(first.member_id, second.member_id);
    let fenced =
        client.call(3, &heartbeat("g", &first).with_group_instance_id(Some(text("i1")))).await;
    assert_eq!(fenced.error_code, 82);
    // Somebody else removes it by its instance id.
    let member = MemberIdentity::default().with_group_instance_id(Some(text("i1")));
    let leave = LeaveGroupRequest::default()
        .with_group_id(group("g"))
        .with_members(vec![member, MemberIdentity::default().with_member_id(text("nobody"))]);
    let left = client.call(3, &leave).await;
    let codes: Vec<_> = left.members.iter().map(|m| m.error_code).collect();
    assert_eq!(codes, [0, 25]);
}

#[tokio::test(start_paused = true)]
async fn joins_that_cannot_be_are_refused() {
    let (_world, mut client) = world_with_topic().await;
    let fast = join_as(5, "g", "").with_session_timeout_ms(10);
    assert_eq!(client.call(5, &fast).await.error_code, 26);
    assert_eq!(client.call(5, &join_as(5, "", "")).await.error_code, 24);
    assert_eq!(client.call(5, &join_as(5, "g", "stranger")).await.error_code, 25);
    let none = join_as(3, "g", "").with_protocols(vec![]);
    assert_eq!(client.call(3, &none).await.error_code, 23);
    drop(join(&mut client, 3, "g").await);
    let other = join_as(3, "g", "").with_protocol_type(text("connect"));
    assert_eq!(client.call(3, &other).await.error_code, 23);
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_members_that_wait_for_others() {
    let (world, mut first) = world_with_topic().await;
    let mut second = world.client().await;
    let one = join(&mut first, 5, "g").await;
    drop(first.call(3, &sync_request("g", &one)).await);
    let id = second.call(5, &join_as(5, "g", "")).await.member_id;
    second.send(5, &join_as(5, "g", &id)).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let start = tokio::time::Instant::now();
    let World { node, .. } = world;
    node.stop().await;
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    let code = second.receive::<JoinGroupRequest>(5).await.error_code;
    assert!([15, 16].contains(&code), "{code} sends the member to look for its coordinator");
}

/// Half-open connections: the peer is gone and no word of it comes.
#[tokio::test(start_paused = true)]
async fn members_behind_a_silent_wire_fall_out_and_their_connections_are_closed() {
    let (world, mut first) = world_with_topic().await;
    drop(join(&mut first, 5, "g").await);
    let mut second = world.client().await;
    second.send(6, &super::ask::fetch("t", 0, 0).with_max_wait_ms(30_000).with_min_bytes(1)).await;
    tokio::task::yield_now().await;
    assert_eq!(world.node.connections(), 2);
    world.sim.net.set_silent("localhost", "localhost", true);
    let mut elsewhere = world.env.clone();
    elsewhere.net = std::sync::Arc::new(world.sim.net.host("elsewhere"));
    let address = world.address();
    let about = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
    // Less than the session timeout, then more: until then a silent member is a member.
    for (wait_s, members) in [(9, 1), (2, 0)] {
        tokio::time::sleep(std::time::Duration::from_secs(wait_s)).await;
        let mut client = Client::connect(&elsewhere, &address).await;
        let answer = client.call(1, &about).await;
        assert_eq!(answer.groups[0].members.len(), members, "after {wait_s} s more");
    }
    // Nothing came for the idle time, counted from the last request or answer.
    tokio::time::sleep(std::time::Duration::from_secs(570)).await;
    assert_eq!(world.node.connections(), 2);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(world.node.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_version_commits_and_fetches_offsets() {
    let (_world, mut client) = world_with_topic().await;
    for version in 2..=9 {
        let answer = client.call(version, &commit("g", None, i64::from(version))).await;
        assert_eq!(answer.topics[0].name, topic_name("t"));
        assert_eq!(commit_code(&answer), 0, "version {version}");
        assert_eq!(committed(&mut client, "g").await, i64::from(version));
    }
    for version in 1..=9 {
        let mut request = OffsetFetchRequest::default();
        if version < 8 {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![0, 1, 7]);
            request = request.with_group_id(group("g")).with_topics(Some(vec![topic]));
        } else {
            let topic = OffsetFetchRequestTopics::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![0, 1, 7]);
            let asked = |name: &str| {
                let topics = Some(vec![topic.clone()]);
                OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(topics)
            };
            request = request.with_groups(vec![asked("g"), asked("unheard of")]);
        }
        let answer = client.call(version, &request).await;
        let told: Vec<(i32, i64, i16)> = if version < 8 {
            let parts = &answer.topics[0].partitions;
            assert_eq!(parts[0].metadata.as_deref(), Some("note"));
            parts.iter().map(|p| (p.partition_index, p.committed_offset, p.error_code)).collect()
        } else {
            assert_eq!(answer.groups.len(), 2);
            let nothing = &answer.groups[1].topics[0].partitions[0];
            assert_eq!((nothing.committed_offset, nothing.error_code), (-1, 0));
            let parts = &answer.groups[0].topics[0].partitions;
            parts.iter().map(|p| (p.partition_index, p.committed_offset, p.error_code)).collect()
        };
        assert_eq!(told, [(0, 9, 0), (1, -1, 0), (7, -1, 0)], "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_offsets_of_a_group_are_asked_for_with_null() {
    let (_world, mut client) = world_with_topic().await;
    drop(client.call(7, &commit("g", None, 4)).await);
    for version in 2..=7 {
        let request = OffsetFetchRequest::default().with_group_id(group("g")).with_topics(None);
        let answer = client.call(version, &request).await;
        assert_eq!(answer.topics.len(), 1);
        assert_eq!(answer.topics[0].partitions[0].committed_offset, 4);
    }
    let asked = OffsetFetchRequestGroup::default().with_group_id(group("g")).with_topics(None);
    let answer = client.call(8, &OffsetFetchRequest::default().with_groups(vec![asked])).await;
    assert_eq!(answer.groups[0].topics[0].partitions[0].committed_offset, 4);
}

/// Bodies of version 10, which the codec of the tests does not know.
mod by_id {
    use super::*;

    fn string(body: &mut BytesMut, s: &str) {
        body.put_u8(u8::try_from(s.len() + 1).unwrap());
        body.put_slice(s.as_bytes());
    }

    pub(super) fn commit(name: &str, id: Uuid, offset: i64) -> BytesMut {
        let mut body = BytesMut::new();
        string(&mut body, name);
        body.put_i32(-1);
        string(&mut body, "");
        body.put_u8(0);
        body.put_u8(2);
        body.put_slice(id.as_bytes());
        body.put_u8(2);
        body.put_i32(0);
        body.put_i64(offset);
        body.put_i32(-1);
        string(&mut body, "note");
        body.put_slice(&[0, 0, 0]);
        body
    }

    pub(super) fn fetch(name: &str, id: Uuid) -> BytesMut {
        let mut body = BytesMut::new();
        body.put_u8(2);
        string(&mut body, name);
        body.put_u8(0);
        body.put_i32(-1);
        body.put_u8(2);
        body.put_slice(id.as_bytes());
        body.put_u8(2);
        body.put_i32(0);
        body.put_slice(&[0, 0]);
        body.put_u8(0);
        body.put_u8(0);
        body
    }
}

#[tokio::test(start_paused = true)]
async fn version_10_names_topics_by_id() {
    let (_world, mut client) = world_with_topic().await;
    let id = client.create("by-id", 1, &[]).await;
    let unknown = Uuid::from_u128(3);
    for (topic, code) in [(id, 0), (unknown, 100)] {
        let body = by_id::commit("g", topic, 6);
        let answer = client.call_body::<OffsetCommitRequest>(10, &body).await;
        assert_eq!((answer.topics[0].topic_id, commit_code(&answer)), (topic, code));
        let body = by_id::fetch("g", topic);
        let answer = client.call_body::<OffsetFetchRequest>(10, &body).await;
        let found = &answer.groups[0].topics[0];
        assert_eq!((found.topic_id, found.partitions[0].error_code), (topic, code));
        let offset = if code == 0 { 6 } else { -1 };
        assert_eq!(found.partitions[0].committed_offset, offset);
    }
}

#[tokio::test(start_paused = true)]
async fn commits_that_cannot_be_are_refused_in_parts() {
    let (_world, mut client) = world_with_topic().await;
    let mut request = commit("g", None, 1);
    let mut part = request.topics[0].partitions[0].clone();
    part.partition_index = 9;
    request.topics[0].partitions.push(part.clone());
    part.partition_index = 1;
    part.committed_metadata = Some(text(&"x".repeat(4097)));
    request.topics[0].partitions.push(part.clone());
    let mut nowhere = request.topics[0].clone();
    nowhere.name = topic_name("nope");
    request.topics.push(nowhere);
    let answer = client.call(7, &request).await;
    let codes: Vec<Vec<i16>> =
        answer.topics.iter().map(|t| t.partitions.iter().map(|p| p.error_code).collect()).collect();
    assert_eq!(codes, [[0, 3, 12], [3, 3, 3]]);
}

#[tokio::test(start_paused = true)]
async fn a_member_of_a_group_that_is_not_there_is_told_in_its_versions_words() {
    let (_world, mut client) = world_with_topic().await;
    let joined = JoinGroupResponse::default().with_generation_id(3).with_member_id(text("member"));
    for (version, code) in [(2, 22), (8, 22), (9, 69)] {
        let answer = client.call(version, &commit("nobody's", Some(&joined), 1)).await;
        assert_eq!(commit_code(&answer), code, "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_generation_members_and_offsets() {
    let (world, mut client) = world_with_topic().await;
    let joined = join(&mut client, 5, "g").await;
    drop(client.call(3, &sync_request("g", &joined)).await);
    assert_eq!(commit_code(&client.call(7, &commit("g", Some(&joined), 42)).await), 0);
    drop(client);
    let mut world = world.restart().await;
    for life in 0..3 {
        let mut client = world.client().await;
        // While its records are read back a client is told to wait.
        let mut code = 14;
        while code == 14 {
            code = client.call(3, &heartbeat("g", &joined)).await.error_code;
        }
        assert_eq!(code, 0, "life {life}: the member is known");
        assert_eq!(committed(&mut client, "g").await, 42 + life);
        let answer = client.call(7, &commit("g", Some(&joined), 43 + life)).await;
        assert_eq!(commit_code(&answer), 0);
        drop(client);
        world = world.kill_and_restart().await;
    }
}
