//! Every served API in every version, and the rules of a connection.

use braid_protocol::ApiKey;
use braid_protocol::api::SUPPORTED;
use braid_protocol::guard::sample;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Message};

use super::ask::{batch, fetch, produce, produce_all, produced, text};
use super::client::{Client, decoded, frame_of, raw_frame};
use super::world::World;

/// Layouts that the generated codec does not know; tested where they are written.
const BY_HAND: [(ApiKey, i16); 3] =
    [(ApiKey::DeleteGroups, 3), (ApiKey::DescribeLogDirs, 5), (ApiKey::TxnOffsetCommit, 6)];

/// Decodes an answer by its API, whole.
fn decode_any(key: ApiKey, version: i16, frame: Bytes) {
    fn whole<T: Decodable + HeaderVersion + Message>(frame: Bytes, version: i16) {
        drop(decoded::<T>(frame, version));
    }
    let decode = match key {
        ApiKey::Produce => whole::<ProduceResponse>,
        ApiKey::Fetch => whole::<FetchResponse>,
        ApiKey::ListOffsets => whole::<ListOffsetsResponse>,
        ApiKey::Metadata => whole::<MetadataResponse>,
        ApiKey::OffsetCommit => whole::<OffsetCommitResponse>,
        ApiKey::OffsetFetch => whole::<OffsetFetchResponse>,
        ApiKey::FindCoordinator => whole::<FindCoordinatorResponse>,
        ApiKey::JoinGroup => whole::<JoinGroupResponse>,
        ApiKey::Heartbeat => whole::<HeartbeatResponse>,
        ApiKey::LeaveGroup => whole::<LeaveGroupResponse>,
        ApiKey::SyncGroup => whole::<SyncGroupResponse>,
        ApiKey::ApiVersions => whole::<ApiVersionsResponse>,
        ApiKey::CreateTopics => whole::<CreateTopicsResponse>,
        ApiKey::DeleteTopics => whole::<DeleteTopicsResponse>,
        ApiKey::InitProducerId => whole::<InitProducerIdResponse>,
        ApiKey::OffsetForLeaderEpoch => whole::<OffsetForLeaderEpochResponse>,
        ApiKey::DescribeConfigs => whole::<DescribeConfigsResponse>,
        ApiKey::DescribeCluster => whole::<DescribeClusterResponse>,
        ApiKey::DescribeUserScramCredentials => whole::<DescribeUserScramCredentialsResponse>,
        ApiKey::IncrementalAlterConfigs => whole::<IncrementalAlterConfigsResponse>,
        ApiKey::AlterConfigs => whole::<AlterConfigsResponse>,
        ApiKey::ElectLeaders => whole::<ElectLeadersResponse>,
        ApiKey::ListPartitionReassignments => whole::<ListPartitionReassignmentsResponse>,
        ApiKey::AlterPartitionReassignments => whole::<AlterPartitionReassignmentsResponse>,
        ApiKey::DescribeQuorum => whole::<DescribeQuorumResponse>,
        ApiKey::DescribeAcls => whole::<DescribeAclsResponse>,
        ApiKey::CreateAcls => whole::<CreateAclsResponse>,
        ApiKey::DeleteAcls => whole::<DeleteAclsResponse>,
        ApiKey::AlterReplicaLogDirs => whole::<AlterReplicaLogDirsResponse>,
        ApiKey::DescribeClientQuotas => whole::<DescribeClientQuotasResponse>,
        ApiKey::UpdateFeatures => whole::<UpdateFeaturesResponse>,
        ApiKey::UnregisterBroker => whole::<UnregisterBrokerResponse>,
        ApiKey::ListGroups => whole::<ListGroupsResponse>,
        ApiKey::DescribeGroups => whole::<DescribeGroupsResponse>,
        ApiKey::DeleteGroups => whole::<DeleteGroupsResponse>,
        ApiKey::OffsetDelete => whole::<OffsetDeleteResponse>,
        ApiKey::DescribeTopicPartitions => whole::<DescribeTopicPartitionsResponse>,
        ApiKey::CreatePartitions => whole::<CreatePartitionsResponse>,
        ApiKey::DeleteRecords => whole::<DeleteRecordsResponse>,
        ApiKey::DescribeLogDirs => whole::<DescribeLogDirsResponse>,
        ApiKey::DescribeProducers => whole::<DescribeProducersResponse>,
        ApiKey::AddPartitionsToTxn => whole::<AddPartitionsToTxnResponse>,
        ApiKey::AddOffsetsToTxn => whole::<AddOffsetsToTxnResponse>,
        ApiKey::EndTxn => whole::<EndTxnResponse>,
        ApiKey::WriteTxnMarkers => whole::<WriteTxnMarkersResponse>,
        ApiKey::TxnOffsetCommit => whole::<TxnOffsetCommitResponse>,
        ApiKey::DescribeTransactions => whole::<DescribeTransactionsResponse>,
        ApiKey::ListTransactions => whole::<ListTransactionsResponse>,
        ApiKey::ListConfigResources => whole::<ListConfigResourcesResponse>,
    };
    decode(frame, version);
}

pub(super) fn header_version(key: ApiKey, version: i16) -> i16 {
    if key.api().is_flexible(version) { 2 } else { 1 }
}

#[tokio::test(start_paused = true)]
async fn every_version_of_every_api_is_answered_in_its_own_layout() {
    let world = World::start_with(&[("auto.create.topics.enable", "true")]).await;
    let mut client = world.client().await;
    let mut answered = 0;
    for api in &SUPPORTED {
        for version in api.accepted_min..=api.max {
            for seed in 0..20 {
                let body = sample::body(api.key, version, seed);
                let (key, header) = (api.key.code(), header_version(api.key, version));
                client.send_body(key, version, header, &body).await;
                let Some(frame) = client.receive_frame().await else {
                    panic!("{} version {version} seed {seed} is not answered", api.name)
                };
                if !BY_HAND.contains(&(api.key, version)) {
                    decode_any(api.key, version, frame);
                }
                answered += 1;
            }
        }
    }
    assert!(answered > 2500);
    assert!(world.sim.fatal().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_served_closes_the_connection_and_no_other() {
    let world = World::start().await;
    let mut bystander = world.client().await;
    let frames = [
        ("an unknown key", raw_frame(999, 0, 1, 1, b"")),
        ("a key that is gone", raw_frame(4, 0, 1, 1, b"")),
        ("a negative key", raw_frame(-1, 0, 1, 1, b"")),
        ("a version above", raw_frame(3, 14, 2, 1, b"\x00\x00\x00\x00")),
        ("a version below", raw_frame(1, 3, 1, 1, b"")),
        ("Produce 2, which is advertised only", raw_frame(0, 2, 1, 1, b"")),
        ("a negative version", raw_frame(3, -1, 1, 1, b"")),
        ("a body that ends too soon", raw_frame(3, 1, 1, 1, b"\x00")),
        ("a claim of two thousand million topics", raw_frame(3, 0, 1, 1, b"\x7f\xff\xff\xff")),
        ("no header", Bytes::from_static(b"\0\0\0\x03abc")),
        ("an empty frame", Bytes::from_static(b"\0\0\0\0")),
        ("a negative length", Bytes::from_static(b"\xff\xff\xff\xff")),
        ("a frame above the limit", Bytes::from_static(b"\x00\x10\x00\x01\x00\x03\x00\x00")),
    ];
    for (what, frame) in frames {
        let mut client = world.client().await;
        client.send_bytes(&frame).await;
        assert_eq!(client.receive_frame().await, None, "{what}");
    }
    let response = bystander.call(0, &MetadataRequest::default().with_topics(Some(vec![]))).await;
    assert_eq!(response.brokers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn api_versions_above_ours_is_answered_in_the_layout_of_version_0() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.send_body(18, 6, 2, b"\x00whatever this is").await;
    let answer: ApiVersionsResponse = client.receive_as(0).await;
    assert_eq!(answer.error_code, 35);
    let own = answer.api_keys.iter().find(|api| api.api_key == 18).unwrap();
    assert_eq!((own.min_version, own.max_version), (0, 5));
    // The connection goes on.
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("test"))
        .with_client_software_version(text("1.0"));
    let answer = client.call(4, &request).await;
    assert_eq!(answer.error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn api_versions_tells_what_is_served_and_nothing_else() {
    let world = World::start().await;
    let mut client = world.client().await;
    let request = ApiVersionsRequest::default();
    for version in 0..=2 {
        let answer = client.call(version, &request).await;
        let told: Vec<_> = answer.api_keys.iter().map(range).collect();
        let served: Vec<_> =
            SUPPORTED.iter().map(|a| (a.key.code(), a.advertised_min, a.max)).collect();
        assert_eq!(told, served);
        assert_eq!(told[0], (0, 0, 13), "old clients take a higher minimum for an old broker");
    }
}

/// A body of ApiVersions 5, which the codec of the tests does not know: the client says whom it
/// means to speak to.
fn api_versions_5(software: &str, cluster_id: Option<&str>, node_id: i32) -> BytesMut {
    let mut body = BytesMut::new();
    let string = |body: &mut BytesMut, s: &str| {
        body.put_u8(u8::try_from(s.len() + 1).unwrap());
        body.put_slice(s.as_bytes());
    };
    string(&mut body, software);
    string(&mut body, "1.0");
    match cluster_id {
        Some(id) => string(&mut body, id),
        None => body.put_u8(0),
    }
    body.put_i32(node_id);
    body.put_u8(0);
    body
}

#[tokio::test(start_paused = true)]
async fn a_client_that_means_another_broker_is_told_to_look_again() {
    let world = World::start().await;
    let mut client = world.client().await;
    let none = MetadataRequest::default().with_topics(Some(vec![]));
    let own = client.call(12, &none).await.cluster_id.unwrap();
    let own = Some(own.as_str());
    for (software, cluster_id, node_id, code) in [
        ("test", None, -1, 0),
        ("test", own, 1, 0),
        ("test", own, 2, 129),
        ("test", Some("AAAAAAAAAAAAAAAAAAAAAA"), 1, 129),
        ("test", own, -1, 42),
        ("test", None, 1, 42),
        ("no spaces", None, -1, 42),
    ] {
        let body = api_versions_5(software, cluster_id, node_id);
        let answer = client.call_body::<ApiVersionsRequest>(5, &body).await;
        assert_eq!(answer.error_code, code, "{software} {cluster_id:?} {node_id}");
    }
}

fn range(api: &ApiVersion) -> (i16, i16, i16) {
    (api.api_key, api.min_version, api.max_version)
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_of_all_kinds_are_answered_in_order() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let metadata = MetadataRequest::default().with_topics(None);
    let all = fetch("t", 0, 0).with_max_wait_ms(50).with_min_bytes(1_000_000);
    for n in 0..10 {
        client.send(9, &produce("t", 0, batch(&[&format!("v{n}")]))).await;
        client.send(1, &metadata).await;
        client.send(12, &all).await;
        client.send(3, &ApiVersionsRequest::default()).await;
    }
    for n in 0..10_i64 {
        let answer = client.receive::<ProduceRequest>(9).await;
        assert_eq!(produced(&answer).base_offset, n);
        assert_eq!(client.receive::<MetadataRequest>(1).await.topics.len(), 1);
        let fetched = client.receive::<FetchRequest>(12).await;
        let high_watermark = fetched.responses[0].partitions[0].high_watermark;
        assert_eq!(high_watermark, n + 1, "a request sees what those before it did");
        drop(client.receive::<ApiVersionsRequest>(3).await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_broken_rule_is_answered() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    client.send(9, &produce("t", 0, batch(&["a"]))).await;
    client.send(9, &produce("t", 0, batch(&["b"]))).await;
    client.send_bytes(&raw_frame(999, 0, 1, 9, b"")).await;
    client.send(9, &produce("t", 0, batch(&["never"]))).await;
    for offset in 0..2 {
        let answer = client.receive::<ProduceRequest>(9).await;
        assert_eq!(produced(&answer).base_offset, offset);
    }
    client.assert_closed().await;
    let mut other = world.client().await;
    assert_eq!(other.read("t", 0, 0).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_client_closed_its_side_is_done_and_answered() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    client.send(1, &MetadataRequest::default().with_topics(None)).await;
    client.send_unanswered(9, &produce_all(0, vec![("t", 0, Some(batch(&["a"])))])).await;
    client.send(9, &produce("t", 0, batch(&["b"]))).await;
    client.finish_sending().await;
    assert_eq!(client.receive::<MetadataRequest>(1).await.topics.len(), 1);
    let answer = client.receive::<ProduceRequest>(9).await;
    assert_eq!(produced(&answer).base_offset, 1);
    client.assert_closed().await;
}

#[tokio::test(start_paused = true)]
async fn frames_may_arrive_in_any_pieces() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let large = "x".repeat(30_000);
    let mut bytes = Vec::new();
    for id in 1..=3 {
        bytes.extend_from_slice(&frame_of(id, 9, &produce("t", 0, batch(&[&large]))));
    }
    for piece in bytes.chunks(7919) {
        client.send_bytes(piece).await;
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        let frame = client.receive_frame().await.unwrap();
        let (_, answer) = decoded::<ProduceResponse>(frame, 9);
        assert_eq!(produced(&answer).error_code, 0);
    }
    let mut slow = world.client().await;
    for byte in frame_of(0, 9, &produce("t", 0, batch(&["slow"]))) {
        slow.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(produced(&slow.receive::<ProduceRequest>(9).await).base_offset, 3);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let world = World::start_with(&[("connections.max.idle.ms", "10000")]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let long = fetch("t", 0, 0).with_max_wait_ms(60_000);
    for _ in 0..2 {
        assert_eq!(client.call(12, &long).await.error_code, 0);
    }
    let since = tokio::time::Instant::now();
    client.assert_closed().await;
    assert!(since.elapsed().as_secs() < 12);
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_the_limit_are_refused_and_seats_come_back() {
    let world = World::start_with(&[("max.connections.per.ip", "2")]).await;
    let request = MetadataRequest::default().with_topics(Some(vec![]));
    let mut first = world.client().await;
    drop(first.call(1, &request).await);
    let mut second = world.client().await;
    drop(second.call(1, &request).await);
    assert_eq!(world.node.connections(), 2);
    let mut third = world.client().await;
    third.send(1, &request).await;
    third.assert_closed().await;
    drop(first);
    while world.node.connections() > 1 {
        tokio::task::yield_now().await;
    }
    let mut fourth: Client = world.client().await;
    assert_eq!(fourth.call(1, &request).await.brokers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_stalls_with_a_large_request_gives_way_to_others() {
    let memory = [("braid.request.memory.bytes", "1048576"), ("message.max.bytes", "500000")];
    let world = World::start_with(&memory).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    // It announces as much as there is memory, and sends next to nothing.
    let mut staller = world.client().await;
    staller.send_bytes(&[0, 16, 0, 0, 0, 0]).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    // Small requests are served all the time, a large one as soon as the other had its chance.
    let since = tokio::time::Instant::now();
    client.produce("t", 0, batch(&["small"])).await;
    assert!(since.elapsed().as_millis() < 1000);
    client.produce("t", 0, batch(&["x".repeat(200_000).as_str()])).await;
    assert!(since.elapsed().as_secs() < 35);
    staller.assert_closed().await;
}
