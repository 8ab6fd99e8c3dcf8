use bytes::{BufMut, BytesMut};
use kafka_protocol::protocol::Encodable;

use super::*;
use kafka_protocol::messages::{ProduceRequest, TxnOffsetCommitRequest, WriteTxnMarkersRequest};

use crate::api::SUPPORTED;
use crate::guard::sample;

fn header(api: ApiKey, version: i16) -> RequestHeader {
    RequestHeader { api_key: api.code(), api_version: version, correlation_id: 7, client_id: None }
}

fn decoded(api: ApiKey, version: i16, body: &Bytes) -> Request {
    decode(&header(api, version), body.clone())
        .unwrap_or_else(|error| panic!("{api:?} v{version}: {error}"))
}

/// Decodes with the generated codec alone and encodes again.
fn again(api: &'static Api, version: i16, body: &Bytes) -> BytesMut {
    fn round<T: Decodable + Encodable>(version: i16, body: &Bytes) -> BytesMut {
        let mut rest = body.clone();
        let message = T::decode(&mut rest, version).unwrap();
        assert!(rest.is_empty(), "the generated decoder leaves {} bytes", rest.len());
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        out
    }
    let version = version.min(api.generated_request_max);
    match api.key {
        ApiKey::Produce => round::<ProduceRequest>(version, body),
        ApiKey::Fetch => round::<FetchRequest>(version, body),
        ApiKey::ListOffsets => round::<ListOffsetsRequest>(version, body),
        ApiKey::Metadata => round::<MetadataRequest>(version, body),
        ApiKey::OffsetCommit => round::<OffsetCommitRequest>(version, body),
        ApiKey::OffsetFetch => round::<OffsetFetchRequest>(version, body),
        ApiKey::FindCoordinator => round::<FindCoordinatorRequest>(version, body),
        ApiKey::JoinGroup => round::<JoinGroupRequest>(version, body),
        ApiKey::Heartbeat => round::<HeartbeatRequest>(version, body),
        ApiKey::LeaveGroup => round::<LeaveGroupRequest>(version, body),
        ApiKey::SyncGroup => round::<SyncGroupRequest>(version, body),
        ApiKey::ApiVersions => round::<kafka_protocol::messages::ApiVersionsRequest>(version, body),
        ApiKey::CreateTopics => round::<CreateTopicsRequest>(version, body),
        ApiKey::DeleteTopics => round::<DeleteTopicsRequest>(version, body),
        ApiKey::InitProducerId => round::<InitProducerIdRequest>(version, body),
        ApiKey::OffsetForLeaderEpoch => round::<OffsetForLeaderEpochRequest>(version, body),
        ApiKey::DescribeConfigs => round::<DescribeConfigsRequest>(version, body),
        ApiKey::DescribeCluster => round::<DescribeClusterRequest>(version, body),
        ApiKey::DescribeUserScramCredentials => {
            round::<DescribeUserScramCredentialsRequest>(version, body)
        }
        ApiKey::UnregisterBroker => round::<UnregisterBrokerRequest>(version, body),
        ApiKey::UpdateFeatures => round::<UpdateFeaturesRequest>(version, body),
        ApiKey::DescribeClientQuotas => round::<DescribeClientQuotasRequest>(version, body),
        ApiKey::DescribeAcls => round::<DescribeAclsRequest>(version, body),
        ApiKey::CreateAcls => round::<CreateAclsRequest>(version, body),
        ApiKey::DeleteAcls => round::<DeleteAclsRequest>(version, body),
        ApiKey::AlterReplicaLogDirs => round::<AlterReplicaLogDirsRequest>(version, body),
        ApiKey::DescribeQuorum => round::<DescribeQuorumRequest>(version, body),
        ApiKey::AlterPartitionReassignments => {
            round::<AlterPartitionReassignmentsRequest>(version, body)
        }
        ApiKey::ListPartitionReassignments => {
            round::<ListPartitionReassignmentsRequest>(version, body)
        }
        ApiKey::ElectLeaders => round::<ElectLeadersRequest>(version, body),
        ApiKey::AlterConfigs => round::<AlterConfigsRequest>(version, body),
        ApiKey::IncrementalAlterConfigs => round::<IncrementalAlterConfigsRequest>(version, body),
        ApiKey::ListConfigResources => round::<ListConfigResourcesRequest>(version, body),
        ApiKey::DescribeProducers => round::<DescribeProducersRequest>(version, body),
        ApiKey::DescribeLogDirs => round::<DescribeLogDirsRequest>(version, body),
        ApiKey::DeleteRecords => round::<DeleteRecordsRequest>(version, body),
        ApiKey::CreatePartitions => round::<CreatePartitionsRequest>(version, body),
        ApiKey::DescribeTopicPartitions => round::<DescribeTopicPartitionsRequest>(version, body),
        ApiKey::OffsetDelete => round::<OffsetDeleteRequest>(version, body),
        ApiKey::DeleteGroups => round::<DeleteGroupsRequest>(version, body),
        ApiKey::DescribeGroups => round::<DescribeGroupsRequest>(version, body),
        ApiKey::ListGroups => round::<ListGroupsRequest>(version, body),
        ApiKey::AddPartitionsToTxn => round::<AddPartitionsToTxnRequest>(version, body),
        ApiKey::AddOffsetsToTxn => round::<AddOffsetsToTxnRequest>(version, body),
        ApiKey::EndTxn => round::<EndTxnRequest>(version, body),
        ApiKey::WriteTxnMarkers => round::<WriteTxnMarkersRequest>(version, body),
        ApiKey::TxnOffsetCommit => round::<TxnOffsetCommitRequest>(version, body),
        ApiKey::DescribeTransactions => round::<DescribeTransactionsRequest>(version, body),
        ApiKey::ListTransactions => round::<ListTransactionsRequest>(version, body),
    }
}

/// Holds the schema to the generated codec: what the schema writes, the decoder takes whole and
/// the encoder writes again, byte for byte.
#[test]
fn the_schema_agrees_with_the_generated_codec_in_every_version() {
    for api in &SUPPORTED {
        for version in api.accepted_min..=api.max {
            // Some have a later version of the same layout.
            let same_layout = [ApiKey::ListOffsets, ApiKey::DescribeLogDirs, ApiKey::DeleteGroups];
            if version > api.generated_request_max && !same_layout.contains(&api.key) {
                continue;
            }
            for seed in 0..60 {
                let body = sample::body(api.key, version, seed);
                assert_eq!(again(api, version, &body), body, "{} v{version} {seed}", api.name);
            }
        }
    }
}

#[test]
fn every_version_of_every_served_api_is_decoded() {
    for api in &SUPPORTED {
        for version in api.accepted_min..=api.max {
            for seed in 0..20 {
                let body = sample::body(api.key, version, seed);
                assert_eq!(decoded(api.key, version, &body).api_key(), api.key);
            }
        }
    }
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let unknown = RequestHeader { api_key: 4, ..header(ApiKey::Fetch, 4) };
    assert_eq!(decode(&unknown, Bytes::new()), Err(DecodeError::UnknownApi { api_key: 4 }));
    for (api, version) in [(ApiKey::Produce, 2), (ApiKey::Fetch, 19), (ApiKey::Fetch, -1)] {
        assert_eq!(
            decode(&header(api, version), Bytes::new()),
            Err(DecodeError::UnsupportedVersion { api, version })
        );
    }
}

#[test]
fn text_that_is_not_utf8_is_malformed() {
    let body = Bytes::from_static(&[0, 0, 0, 1, 0, 1, 0xff]);
    let refused = decode(&header(ApiKey::Metadata, 1), body);
    assert!(matches!(refused, Err(DecodeError::Malformed { api: ApiKey::Metadata, .. })));
}

#[test]
fn the_first_metadata_asks_for_all_topics_by_naming_none() {
    let empty = Bytes::from_static(&[0, 0, 0, 0]);
    for (version, all) in [(0, true), (1, false)] {
        let Request::Metadata(metadata) = decoded(ApiKey::Metadata, version, &empty) else {
            unreachable!()
        };
        assert_eq!(metadata.topics.is_none(), all);
        assert!(metadata.allow_auto_topic_creation);
    }
}

#[test]
fn one_group_one_key_and_one_member_become_lists_of_one() {
    for version in 1..8 {
        let body = sample::body(ApiKey::OffsetFetch, version, 3);
        let old = OffsetFetchRequest::decode(&mut body.clone(), version).unwrap();
        let Request::OffsetFetch(fetch) = decoded(ApiKey::OffsetFetch, version, &body) else {
            unreachable!()
        };
        assert_eq!(fetch.groups.len(), 1);
        assert_eq!(fetch.groups[0].group_id, old.group_id);
        assert_eq!(fetch.require_stable, old.require_stable);
        let names = |topics: Option<Vec<OffsetFetchRequestTopic>>| {
            topics.map(|t| t.into_iter().map(|t| (t.name, t.partition_indexes)).collect::<Vec<_>>())
        };
        let newer = fetch.groups[0].topics.clone().map(|topics| {
            topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect::<Vec<_>>()
        });
        assert_eq!(newer, names(old.topics));
    }
    for version in 0..4 {
        let body = sample::body(ApiKey::FindCoordinator, version, 3);
        let old = FindCoordinatorRequest::decode(&mut body.clone(), version).unwrap();
        let Request::FindCoordinator(find) = decoded(ApiKey::FindCoordinator, version, &body)
        else {
            unreachable!()
        };
        assert_eq!(find.coordinator_keys, [old.key]);
    }
    for version in 0..3 {
        let body = sample::body(ApiKey::LeaveGroup, version, 3);
        let old = LeaveGroupRequest::decode(&mut body.clone(), version).unwrap();
        let Request::LeaveGroup(leave) = decoded(ApiKey::LeaveGroup, version, &body) else {
            unreachable!()
        };
        assert_eq!(leave.members.len(), 1);
        assert_eq!(leave.members[0].member_id, old.member_id);
    }
    for version in 1..6 {
        let body = sample::body(ApiKey::DeleteTopics, version, 3);
        let old = DeleteTopicsRequest::decode(&mut body.clone(), version).unwrap();
        let Request::DeleteTopics(delete) = decoded(ApiKey::DeleteTopics, version, &body) else {
            unreachable!()
        };
        assert!(!old.topic_names.is_empty(), "the sample is too poor");
        let names: Vec<_> = delete.topics.into_iter().map(|topic| topic.name.unwrap()).collect();
        assert_eq!(names, old.topic_names);
    }
}

#[test]
fn the_first_join_uses_one_timeout_for_both() {
    for version in 0..2 {
        let body = sample::body(ApiKey::JoinGroup, version, 5);
        let Request::JoinGroup(join) = decoded(ApiKey::JoinGroup, version, &body) else {
            unreachable!()
        };
        assert_eq!(join.rebalance_timeout_ms == join.session_timeout_ms, version == 0);
    }
}

#[test]
fn a_follower_names_itself_in_one_place() {
    for version in [4, 14] {
        let body = sample::body(ApiKey::Fetch, version, 5);
        let old = FetchRequest::decode(&mut body.clone(), version).unwrap();
        let Request::Fetch(fetch) = decoded(ApiKey::Fetch, version, &body) else { unreachable!() };
        assert_eq!(fetch.replica_state.replica_id, old.replica_id);
    }
}

#[test]
fn four_bytes_that_claim_two_billion_topics_cost_nothing() {
    let mut frame = BytesMut::new();
    frame.put_slice(&[0x7f, 0xff, 0xff, 0xff]);
    let refused = decode(&header(ApiKey::Metadata, 0), frame.freeze());
    assert!(matches!(refused, Err(DecodeError::Refused { api: ApiKey::Metadata, .. })));
}

/// A name of 15 letters in version 9 has as many bytes as a topic id in version 10: its length and
/// its letters. So the generated codec can write what the version decoded by hand has to read.
fn name_of_16_bytes(number: u8) -> (kafka_protocol::messages::TopicName, uuid::Uuid) {
    let letters = [b'a' + number % 26; 15];
    let mut id = [16; 16];
    id[1..].copy_from_slice(&letters);
    let name = String::from_utf8(letters.to_vec()).unwrap();
    (kafka_protocol::messages::TopicName(name.into()), uuid::Uuid::from_bytes(id))
}

#[test]
fn commits_by_topic_id_are_read_like_those_by_name() {
    for seed in 0..60 {
        let mut sample = sample::body(ApiKey::OffsetCommit, 9, seed);
        let mut expected = OffsetCommitRequest::decode(&mut sample, 9).unwrap();
        let mut ids = Vec::new();
        for (number, topic) in (0..).zip(&mut expected.topics) {
            let (name, id) = name_of_16_bytes(number);
            topic.name = name;
            ids.push(id);
        }
        let mut body = BytesMut::new();
        expected.encode(&mut body, 9).unwrap();
        for (topic, id) in expected.topics.iter_mut().zip(ids) {
            topic.name = Default::default();
            topic.topic_id = id;
            topic.unknown_tagged_fields.clear();
            for partition in &mut topic.partitions {
                partition.unknown_tagged_fields.clear();
            }
        }
        expected.unknown_tagged_fields.clear();
        let read = decoded(ApiKey::OffsetCommit, 10, &body.freeze());
        assert_eq!(read, Request::OffsetCommit(expected), "{seed}");
    }
}

#[test]
fn offsets_by_topic_id_are_asked_for_like_those_by_name() {
    for seed in 0..60 {
        let mut sample = sample::body(ApiKey::OffsetFetch, 9, seed);
        let mut expected = OffsetFetchRequest::decode(&mut sample, 9).unwrap();
        let mut ids = Vec::new();
        for topic in expected.groups.iter_mut().flat_map(|g| g.topics.iter_mut().flatten()) {
            let (name, id) = name_of_16_bytes(u8::try_from(ids.len()).unwrap());
            topic.name = name;
            ids.push(id);
        }
        let mut body = BytesMut::new();
        expected.encode(&mut body, 9).unwrap();
        let mut ids = ids.into_iter();
        for group in &mut expected.groups {
            group.unknown_tagged_fields.clear();
            for topic in group.topics.iter_mut().flatten() {
                topic.name = Default::default();
                topic.topic_id = ids.next().unwrap();
                topic.unknown_tagged_fields.clear();
            }
        }
        expected.unknown_tagged_fields.clear();
        let read = decoded(ApiKey::OffsetFetch, 10, &body.freeze());
        assert_eq!(read, Request::OffsetFetch(expected), "{seed}");
    }
}

#[test]
fn offsets_of_a_transaction_with_topic_ids_are_read() {
    let mut body = BytesMut::new();
    body.put_slice(b"\x02x\x02g");
    body.put_i64(7);
    body.put_i16(3);
    body.put_i32(4);
    body.put_slice(b"\x02m\x00\x02");
    body.put_slice(uuid::Uuid::from_u128(9).as_bytes());
    body.put_u8(2);
    body.put_i32(1);
    body.put_i64(100);
    body.put_i32(5);
    body.put_slice(b"\x05note\0\0\0");
    let read = decoded(ApiKey::TxnOffsetCommit, 6, &body.freeze());
    let Request::TxnOffsetCommit(asked) = read else { panic!("{read:?}") };
    assert_eq!(asked.topic_ids, [uuid::Uuid::from_u128(9)]);
    let request = &asked.request;
    assert_eq!((request.transactional_id.as_str(), request.group_id.as_str()), ("x", "g"));
    assert_eq!((request.producer_id.0, request.producer_epoch), (7, 3));
    assert_eq!((request.generation_id, request.member_id.as_str()), (4, "m"));
    assert_eq!(request.group_instance_id, None);
    let partition = &request.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.committed_offset), (1, 100));
    assert_eq!(partition.committed_leader_epoch, 5);
    assert_eq!(partition.committed_metadata.as_deref(), Some("note"));
}

#[test]
fn markers_with_their_transaction_version_are_read() {
    let mut body = BytesMut::new();
    body.put_u8(3);
    for version in [0, 2] {
        body.put_i64(7);
        body.put_i16(3);
        body.put_slice(b"\x01\x02\x02t\x02");
        body.put_i32(1);
        body.put_u8(0);
        body.put_i32(4);
        body.put_i8(version);
        body.put_u8(0);
    }
    body.put_u8(0);
    let read = decoded(ApiKey::WriteTxnMarkers, 2, &body.freeze());
    let Request::WriteTxnMarkers(asked) = read else { panic!("{read:?}") };
    assert_eq!(asked.transaction_versions, [0, 2]);
    let marker = &asked.request.markers[1];
    assert_eq!((marker.producer_id.0, marker.producer_epoch), (7, 3));
    assert_eq!((marker.transaction_result, marker.coordinator_epoch), (true, 4));
    assert_eq!(
        (marker.topics[0].name.as_str(), &marker.topics[0].partition_indexes[..]),
        ("t", &[1][..])
    );
}
