use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response as generated;
use kafka_protocol::messages::{self, BrokerId, ProducerId};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::*;
use crate::api::SUPPORTED;
use crate::error_code::ErrorCode;
use crate::fetch_response;

#[path = "rich.rs"]
mod rich;

fn header(api: ApiKey, version: i16) -> RequestHeader {
    RequestHeader {
        api_key: api.code(),
        api_version: version,
        correlation_id: 0x0102_0304,
        client_id: None,
    }
}

/// The frame as one piece of bytes.
fn frame(api: ApiKey, version: i16, response: Response) -> Bytes {
    let mut out = Outgoing::new();
    encode(&header(api, version), response, &mut out)
        .unwrap_or_else(|error| panic!("{api:?} v{version}: {error}"));
    out.take().concat().into()
}

/// The body of a frame whose length and header are as they have to be.
fn body(api: ApiKey, version: i16, mut frame: Bytes) -> Bytes {
    assert_eq!(usize::try_from(frame.get_i32()).unwrap(), frame.len());
    assert_eq!(frame.get_i32(), 0x0102_0304);
    if api.api().has_flexible_response_header(version) {
        assert_eq!(frame.get_u8(), 0);
    }
    frame
}

fn decoded<T: Decodable>(api: ApiKey, version: i16, response: Response) -> T {
    let mut body = body(api, version, frame(api, version, response));
    let message = T::decode(&mut body, version.min(api.api().generated_response_max)).unwrap();
    assert!(body.is_empty(), "{api:?} v{version} leaves {} bytes", body.len());
    message
}

/// How many groups, keys or members a version can answer about.
fn parts(api: ApiKey, version: i16) -> usize {
    match (api, version) {
        (ApiKey::OffsetFetch, ..8) | (ApiKey::FindCoordinator, ..4) | (ApiKey::LeaveGroup, ..3) => {
            1
        }
        _ => 2,
    }
}

/// Decodes with the generated codec and encodes again.
fn again(api: ApiKey, version: i16, body: &Bytes) -> BytesMut {
    fn round<T: Decodable + Encodable>(version: i16, body: &Bytes) -> BytesMut {
        let mut rest = body.clone();
        let message = T::decode(&mut rest, version).unwrap();
        assert!(rest.is_empty(), "the generated decoder leaves {} bytes", rest.len());
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        out
    }
    let version = version.min(api.api().generated_response_max);
    match api {
        ApiKey::Produce => unreachable!("its answers are written as they come to be"),
        ApiKey::Fetch => round::<messages::FetchResponse>(version, body),
        ApiKey::ListOffsets => round::<ListOffsetsResponse>(version, body),
        ApiKey::Metadata => round::<MetadataResponse>(version, body),
        ApiKey::OffsetCommit => round::<OffsetCommitResponse>(version, body),
        ApiKey::OffsetFetch => round::<OffsetFetchResponse>(version, body),
        ApiKey::FindCoordinator => round::<FindCoordinatorResponse>(version, body),
        ApiKey::JoinGroup => round::<JoinGroupResponse>(version, body),
        ApiKey::Heartbeat => round::<HeartbeatResponse>(version, body),
        ApiKey::LeaveGroup => round::<LeaveGroupResponse>(version, body),
        ApiKey::SyncGroup => round::<SyncGroupResponse>(version, body),
        ApiKey::ApiVersions => round::<ApiVersionsResponse>(version, body),
        ApiKey::CreateTopics => round::<CreateTopicsResponse>(version, body),
        ApiKey::DeleteTopics => round::<DeleteTopicsResponse>(version, body),
        ApiKey::InitProducerId => round::<InitProducerIdResponse>(version, body),
        ApiKey::OffsetForLeaderEpoch => round::<OffsetForLeaderEpochResponse>(version, body),
        ApiKey::DescribeConfigs => round::<DescribeConfigsResponse>(version, body),
        ApiKey::DescribeCluster => round::<DescribeClusterResponse>(version, body),
        ApiKey::DescribeUserScramCredentials => {
            round::<DescribeUserScramCredentialsResponse>(version, body)
        }
        ApiKey::UnregisterBroker => round::<UnregisterBrokerResponse>(version, body),
        ApiKey::UpdateFeatures => round::<UpdateFeaturesResponse>(version, body),
        ApiKey::DescribeClientQuotas => round::<DescribeClientQuotasResponse>(version, body),
        ApiKey::DescribeAcls => round::<DescribeAclsResponse>(version, body),
        ApiKey::CreateAcls => round::<CreateAclsResponse>(version, body),
        ApiKey::DeleteAcls => round::<DeleteAclsResponse>(version, body),
        ApiKey::AlterReplicaLogDirs => round::<AlterReplicaLogDirsResponse>(version, body),
        ApiKey::DescribeQuorum => round::<DescribeQuorumResponse>(version, body),
        ApiKey::AlterPartitionReassignments => {
            round::<AlterPartitionReassignmentsResponse>(version, body)
        }
        ApiKey::ListPartitionReassignments => {
            round::<ListPartitionReassignmentsResponse>(version, body)
        }
        ApiKey::ElectLeaders => round::<ElectLeadersResponse>(version, body),
        ApiKey::AlterConfigs => round::<AlterConfigsResponse>(version, body),
        ApiKey::IncrementalAlterConfigs => round::<IncrementalAlterConfigsResponse>(version, body),
        ApiKey::ListConfigResources => round::<ListConfigResourcesResponse>(version, body),
        ApiKey::DescribeProducers => round::<DescribeProducersResponse>(version, body),
        ApiKey::DescribeLogDirs => round::<DescribeLogDirsResponse>(version, body),
        ApiKey::DeleteRecords => round::<DeleteRecordsResponse>(version, body),
        ApiKey::CreatePartitions => round::<CreatePartitionsResponse>(version, body),
        ApiKey::DescribeTopicPartitions => round::<DescribeTopicPartitionsResponse>(version, body),
        ApiKey::OffsetDelete => round::<OffsetDeleteResponse>(version, body),
        ApiKey::DeleteGroups => round::<DeleteGroupsResponse>(version, body),
        ApiKey::DescribeGroups => round::<DescribeGroupsResponse>(version, body),
        ApiKey::ListGroups => round::<ListGroupsResponse>(version, body),
        ApiKey::AddPartitionsToTxn => round::<AddPartitionsToTxnResponse>(version, body),
        ApiKey::AddOffsetsToTxn => round::<AddOffsetsToTxnResponse>(version, body),
        ApiKey::EndTxn => round::<EndTxnResponse>(version, body),
        ApiKey::WriteTxnMarkers => round::<WriteTxnMarkersResponse>(version, body),
        ApiKey::TxnOffsetCommit => round::<messages::TxnOffsetCommitResponse>(version, body),
        ApiKey::DescribeTransactions => round::<DescribeTransactionsResponse>(version, body),
        ApiKey::ListTransactions => round::<ListTransactionsResponse>(version, body),
    }
}

#[test]
fn every_version_of_every_rich_response_is_encoded_and_read_whole() {
    let written_otherwise = [ApiKey::Produce];
    for api in SUPPORTED.iter().filter(|api| !written_otherwise.contains(&api.key)) {
        for version in api.accepted_min..=api.max {
            let by_hand = [ApiKey::DescribeLogDirs, ApiKey::DeleteGroups, ApiKey::TxnOffsetCommit];
            if version > api.generated_response_max && by_hand.contains(&api.key) {
                continue;
            }
            let response = rich::response(api.key, parts(api.key, version));
            let body = body(api.key, version, frame(api.key, version, response));
            assert_eq!(again(api.key, version, &body), body, "{} v{version}", api.name);
        }
    }
}

#[test]
fn the_newest_version_loses_nothing() {
    macro_rules! kept {
        ($($api:ident($message:ident)),+ $(,)?) => {$(
            let sent = rich::response(ApiKey::$api, 2);
            let newest = ApiKey::$api.api().generated_response_max;
            let read = decoded::<$message>(ApiKey::$api, newest, sent.clone());
            assert_eq!(Response::$api(read), sent);
        )+};
    }
    kept!(
        ListOffsets(ListOffsetsResponse),
        FindCoordinator(FindCoordinatorResponse),
        JoinGroup(JoinGroupResponse),
        Heartbeat(HeartbeatResponse),
        LeaveGroup(LeaveGroupResponse),
        SyncGroup(SyncGroupResponse),
        ApiVersions(ApiVersionsResponse),
        CreateTopics(CreateTopicsResponse),
        DeleteTopics(DeleteTopicsResponse),
        OffsetForLeaderEpoch(OffsetForLeaderEpochResponse),
        DescribeConfigs(DescribeConfigsResponse),
        DescribeCluster(DescribeClusterResponse),
        DescribeUserScramCredentials(DescribeUserScramCredentialsResponse),
        UnregisterBroker(UnregisterBrokerResponse),
        DescribeClientQuotas(DescribeClientQuotasResponse),
        DescribeAcls(DescribeAclsResponse),
        CreateAcls(CreateAclsResponse),
        DeleteAcls(DeleteAclsResponse),
        AlterReplicaLogDirs(AlterReplicaLogDirsResponse),
        DescribeQuorum(DescribeQuorumResponse),
        AlterPartitionReassignments(AlterPartitionReassignmentsResponse),
        ListPartitionReassignments(ListPartitionReassignmentsResponse),
        ElectLeaders(ElectLeadersResponse),
        AlterConfigs(AlterConfigsResponse),
        IncrementalAlterConfigs(IncrementalAlterConfigsResponse),
        ListConfigResources(ListConfigResourcesResponse),
        DescribeProducers(DescribeProducersResponse),
        DescribeLogDirs(DescribeLogDirsResponse),
        DeleteRecords(DeleteRecordsResponse),
        CreatePartitions(CreatePartitionsResponse),
        DescribeTopicPartitions(DescribeTopicPartitionsResponse),
        OffsetDelete(OffsetDeleteResponse),
        DeleteGroups(DeleteGroupsResponse),
        DescribeGroups(DescribeGroupsResponse),
        ListGroups(ListGroupsResponse),
    );
}

#[test]
fn the_fetch_answer_agrees_with_the_generated_encoder_byte_for_byte() {
    for version in 4..=18 {
        let ours = body(
            ApiKey::Fetch,
            version,
            frame(ApiKey::Fetch, version, Response::Fetch(rich::fetch())),
        );
        let mut theirs = BytesMut::new();
        theirs_of(rich::fetch(), version).encode(&mut theirs, version).unwrap();
        assert_eq!(ours, theirs, "version {version}");
    }
}

/// The same answer in the generated shape, without what `version` lacks.
fn theirs_of(fetch: FetchResponse, version: i16) -> messages::FetchResponse {
    let topics = fetch.topics.into_iter().map(|topic| {
        generated::FetchableTopicResponse::default()
            .with_topic(topic.name)
            .with_topic_id(topic.id)
            .with_partitions(
                topic.partitions.into_iter().map(|p| partition_of(p, version)).collect(),
            )
    });
    let endpoints = fetch.node_endpoints.into_iter().map(|endpoint| {
        generated::NodeEndpoint::default()
            .with_node_id(BrokerId(endpoint.node_id))
            .with_host(endpoint.host)
            .with_port(endpoint.port)
            .with_rack(endpoint.rack)
    });
    messages::FetchResponse::default()
        .with_throttle_time_ms(fetch.throttle_time_ms)
        .with_error_code(fetch.error.0)
        .with_session_id(if version >= 7 { fetch.session_id } else { 0 })
        .with_responses(topics.collect())
        .with_node_endpoints(endpoints.collect())
}

fn partition_of(partition: fetch_response::Partition, version: i16) -> generated::PartitionData {
    let aborted = partition.aborted_transactions.map(|transactions| {
        let theirs = transactions.into_iter().map(|transaction| {
            generated::AbortedTransaction::default()
                .with_producer_id(ProducerId(transaction.producer_id))
                .with_first_offset(transaction.first_offset)
        });
        theirs.collect()
    });
    let mut theirs = generated::PartitionData::default()
        .with_partition_index(partition.index)
        .with_error_code(partition.error.0)
        .with_high_watermark(partition.high_watermark)
        .with_last_stable_offset(partition.last_stable_offset)
        .with_log_start_offset(partition.log_start_offset)
        .with_aborted_transactions(aborted)
        .with_records(Some(partition.records.concat().into()));
    if version >= 11 {
        theirs.preferred_read_replica = BrokerId(partition.preferred_read_replica);
    }
    if let Some(diverging) = partition.diverging_epoch {
        theirs.diverging_epoch = generated::EpochEndOffset::default()
            .with_epoch(diverging.epoch)
            .with_end_offset(diverging.end_offset);
    }
    if let Some(leader) = partition.current_leader {
        theirs.current_leader = generated::LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(leader.id))
            .with_leader_epoch(leader.epoch);
    }
    theirs
}

#[test]
fn fetched_records_leave_as_the_slices_that_came() {
    let large = Bytes::from(vec![7; 70_000]);
    let partition =
        fetch_response::Partition { records: vec![large.clone()], ..Default::default() };
    let topic = fetch_response::Topic { partitions: vec![partition; 2], ..Default::default() };
    let fetch = FetchResponse { topics: vec![topic], ..Default::default() };
    let mut out = Outgoing::new();
    encode(&header(ApiKey::Fetch, 17), Response::Fetch(fetch), &mut out).unwrap();
    let size_bytes = out.size_bytes();
    let parts = out.take();
    assert_eq!(parts.len(), 5, "head, records, between, records, tail");
    assert_eq!((parts[1].as_ptr(), parts[3].as_ptr()), (large.as_ptr(), large.as_ptr()));
    assert_eq!(parts.iter().map(Bytes::len).sum::<usize>(), size_bytes);
}

#[test]
fn several_responses_leave_together_in_order() {
    let mut out = Outgoing::new();
    for api in [ApiKey::Fetch, ApiKey::Heartbeat] {
        encode(&header(api, 4), rich::response(api, 1), &mut out).unwrap();
    }
    let apart = [ApiKey::Fetch, ApiKey::Heartbeat].map(|api| frame(api, 4, rich::response(api, 1)));
    assert_eq!(out.take().concat(), apart.concat());
}

#[test]
fn an_unfit_response_leaves_nothing_behind() {
    let mut out = Outgoing::new();
    encode(&header(ApiKey::Heartbeat, 0), rich::response(ApiKey::Heartbeat, 1), &mut out).unwrap();
    let before = out.size_bytes();
    let mut fetch = rich::fetch();
    fetch.topics[1].name = messages::TopicName("x".repeat(40_000).into());
    let unfit = encode(&header(ApiKey::Fetch, 4), Response::Fetch(fetch), &mut out);
    assert!(matches!(unfit, Err(EncodeError::Unfit { api: ApiKey::Fetch, version: 4, .. })));
    assert_eq!(out.size_bytes(), before);
    let kept = frame(ApiKey::Heartbeat, 0, rich::response(ApiKey::Heartbeat, 1));
    assert_eq!(out.take().concat(), kept);
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    for version in [6, i16::MAX, -1] {
        let read: ApiVersionsResponse = {
            let frame = frame(ApiKey::ApiVersions, version, rich::response(ApiKey::ApiVersions, 1));
            ApiVersionsResponse::decode(&mut body(ApiKey::ApiVersions, 0, frame), 0).unwrap()
        };
        assert_eq!((read.error_code, read.api_keys.len()), (35, 1));
    }
}

#[test]
fn features_from_level_0_are_hidden_from_clients_that_cannot_read_them() {
    for (version, count) in [(3, 1), (4, 2), (5, 2)] {
        let sent = rich::response(ApiKey::ApiVersions, 1);
        let read: ApiVersionsResponse = decoded(ApiKey::ApiVersions, version, sent);
        assert_eq!(read.supported_features.len(), count, "version {version}");
    }
}

#[test]
fn the_answer_about_one_group_stands_at_the_top() {
    for version in 1..8 {
        let sent = rich::response(ApiKey::OffsetFetch, 1);
        let read: OffsetFetchResponse = decoded(ApiKey::OffsetFetch, version, sent);
        let partition = &read.topics[0].partitions[0];
        assert_eq!((read.topics[0].name.as_str(), partition.committed_offset), ("t", 50));
        assert_eq!(partition.metadata.as_deref(), Some("note"));
        // The first version has no place for the error of the group but its partitions.
        let errors = (read.error_code, partition.error_code);
        assert_eq!(errors, if version == 1 { (0, 15) } else { (15, 88) }, "version {version}");
    }
}

#[test]
fn the_answer_about_one_key_stands_at_the_top() {
    for version in 0..4 {
        let sent = rich::response(ApiKey::FindCoordinator, 1);
        let read: FindCoordinatorResponse = decoded(ApiKey::FindCoordinator, version, sent);
        assert_eq!((read.node_id.0, read.host.as_str(), read.port), (1, "host", 9092));
        assert_eq!(read.error_code, 15);
        // What the generated decoder makes of a missing text is the empty one.
        let message = if version == 0 { "" } else { "not yet" };
        assert_eq!(read.error_message.as_deref(), Some(message));
        let none = Response::FindCoordinator(FindCoordinatorResponse::default());
        let read: FindCoordinatorResponse = decoded(ApiKey::FindCoordinator, version, none);
        assert_eq!((read.error_code, read.node_id.0), (15, -1));
    }
}

#[test]
fn the_error_of_one_leaving_member_is_the_error_of_all() {
    for (top, error) in [(0, 25), (16, 16)] {
        let Response::LeaveGroup(mut sent) = rich::response(ApiKey::LeaveGroup, 1) else {
            unreachable!()
        };
        sent.error_code = top;
        let read: LeaveGroupResponse =
            decoded(ApiKey::LeaveGroup, 2, Response::LeaveGroup(sent.clone()));
        assert_eq!(read.error_code, error);
        let read: LeaveGroupResponse = decoded(ApiKey::LeaveGroup, 3, Response::LeaveGroup(sent));
        assert_eq!((read.error_code, read.members[0].error_code), (top, 25));
    }
}

#[test]
fn no_group_protocol_is_empty_in_old_versions_and_null_in_new_ones() {
    for (version, sent, read) in [
        (6, None, Some("")),
        (6, Some("range"), Some("range")),
        (7, None, None),
        (7, Some(""), None),
        (7, Some("range"), Some("range")),
    ] {
        let response = JoinGroupResponse::default().with_protocol_name(sent.map(Into::into));
        let joined: JoinGroupResponse =
            decoded(ApiKey::JoinGroup, version, Response::JoinGroup(response));
        assert_eq!(joined.protocol_name.as_deref(), read, "version {version}");
    }
}

#[test]
fn an_unknown_topic_without_a_name_has_the_empty_one_in_old_versions() {
    for (version, name) in [(0, Some("")), (11, Some("")), (12, None), (13, None)] {
        let read: MetadataResponse =
            decoded(ApiKey::Metadata, version, rich::response(ApiKey::Metadata, 1));
        assert_eq!(read.topics[1].name.as_ref().map(|name| name.as_str()), name);
    }
    for (version, name) in [(5, Some("")), (6, None)] {
        let read: DeleteTopicsResponse =
            decoded(ApiKey::DeleteTopics, version, rich::response(ApiKey::DeleteTopics, 1));
        assert_eq!(read.responses[1].name.as_ref().map(|name| name.as_str()), name);
    }
}

#[test]
fn errors_a_version_does_not_know_become_ones_it_does() {
    let fetched = |version| {
        let mut sent = rich::fetch();
        sent.topics[0].partitions[1].error = ErrorCode::KAFKA_STORAGE_ERROR;
        let read: messages::FetchResponse = decoded(ApiKey::Fetch, version, Response::Fetch(sent));
        ErrorCode(read.responses[0].partitions[1].error_code)
    };
    assert_eq!(fetched(5), ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(fetched(6), ErrorCode::KAFKA_STORAGE_ERROR);
    let listed = |version| {
        let sent = rich::response(ApiKey::ListOffsets, 1);
        let read: ListOffsetsResponse = decoded(ApiKey::ListOffsets, version, sent);
        ErrorCode(read.topics[0].partitions[0].error_code)
    };
    assert_eq!(listed(4), ErrorCode::LEADER_NOT_AVAILABLE);
    assert_eq!(listed(5), ErrorCode::OFFSET_NOT_AVAILABLE);
    let fenced = |version| {
        let sent = rich::response(ApiKey::InitProducerId, 1);
        let read: InitProducerIdResponse = decoded(ApiKey::InitProducerId, version, sent);
        ErrorCode(read.error_code)
    };
    assert_eq!(fenced(3), ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(fenced(4), ErrorCode::PRODUCER_FENCED);
}
