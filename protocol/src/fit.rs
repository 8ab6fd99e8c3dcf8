//! Makes a response in its newest shape legal for the version that was asked for.
//!
//! The generated encoder refuses a field that is set and that the version lacks, and writes null
//! where a version has none. Both end here, so that handlers always fill the newest shape. The
//! Fetch answer needs none of this: it is encoded by hand.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    AddPartitionsToTxnResponse, ApiVersionsResponse, BrokerId, DeleteTopicsResponse,
    DescribeClusterResponse, DescribeGroupsResponse, DescribeQuorumResponse, ElectLeadersResponse,
    EndTxnResponse, FindCoordinatorResponse, InitProducerIdResponse, JoinGroupResponse,
    LeaveGroupResponse, ListOffsetsResponse, MetadataResponse, OffsetFetchResponse, ProducerId,
};

use crate::error_code::ErrorCode;
use crate::response::Response;

/// The bit field that says operations were not asked for.
const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Adapts `response` to `version`, losing only what the version cannot say.
pub fn fit(response: &mut Response, version: i16) {
    match response {
        Response::ListOffsets(list) => fit_list_offsets(list, version),
        Response::Metadata(metadata) => fit_metadata(metadata, version),
        Response::OffsetFetch(fetch) => fit_offset_fetch(fetch, version),
        Response::FindCoordinator(find) => fit_find_coordinator(find, version),
        Response::JoinGroup(join) => fit_join_group(join, version),
        Response::LeaveGroup(leave) => fit_leave_group(leave, version),
        Response::ApiVersions(versions) => fit_api_versions(versions, version),
        Response::DeleteTopics(delete) => fit_delete_topics(delete, version),
        Response::InitProducerId(init) => fit_init_producer_id(init, version),
        Response::AddPartitionsToTxn(add) => fit_add_partitions(add, version),
        Response::AddOffsetsToTxn(add) => fit_fenced(&mut add.error_code, version, 2),
        Response::EndTxn(end) => fit_end_txn(end, version),
        Response::DescribeCluster(describe) => fit_describe_cluster(describe, version),
        Response::DescribeGroups(describe) => fit_describe_groups(describe, version),
        Response::ElectLeaders(elect) => fit_elect_leaders(elect, version),
        Response::DescribeQuorum(describe) => fit_describe_quorum(describe, version),
        // Every field that a version of these lacks is left out without a complaint.
        Response::Fetch(_)
        | Response::OffsetCommit(_)
        | Response::Heartbeat(_)
        | Response::SyncGroup(_)
        | Response::CreateTopics(_)
        | Response::OffsetForLeaderEpoch(_)
        | Response::DescribeConfigs(_)
        | Response::DescribeUserScramCredentials(_)
        | Response::UpdateFeatures(_)
        | Response::UnregisterBroker(_)
        | Response::DescribeClientQuotas(_)
        | Response::DescribeAcls(_)
        | Response::CreateAcls(_)
        | Response::DeleteAcls(_)
        | Response::AlterReplicaLogDirs(_)
        | Response::AlterPartitionReassignments(_)
        | Response::ListPartitionReassignments(_)
        | Response::AlterConfigs(_)
        | Response::IncrementalAlterConfigs(_)
        | Response::ListConfigResources(_)
        | Response::DescribeProducers(_)
        | Response::DescribeLogDirs(_)
        | Response::DeleteRecords(_)
        | Response::CreatePartitions(_)
        | Response::DescribeTopicPartitions(_)
        | Response::OffsetDelete(_)
        | Response::DeleteGroups(_)
        | Response::ListGroups(_)
        | Response::WriteTxnMarkers(_)
        | Response::TxnOffsetCommit(_)
        | Response::DescribeTransactions(_)
        | Response::ListTransactions(_) => {}
    }
}

/// Replaces an error a version does not know by one that makes its client do the same.
fn replace(code: &mut i16, unknown: ErrorCode, known: ErrorCode) {
    if *code == unknown.0 {
        *code = known.0;
    }
}

/// Below the version that brought the error, a fenced producer is one of an old epoch.
fn fit_fenced(code: &mut i16, version: i16, known_from: i16) {
    if version < known_from {
        replace(code, ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH);
    }
}

/// Below version 4 the answer is about one transaction.
fn fit_add_partitions(response: &mut AddPartitionsToTxnResponse, version: i16) {
    if version >= 4 {
        return;
    }
    let mut transactions = std::mem::take(&mut response.results_by_transaction).into_iter();
    let mut topics = transactions.next().unwrap_or_default().topic_results;
    for partition in topics.iter_mut().flat_map(|topic| &mut topic.results_by_partition) {
        fit_fenced(&mut partition.partition_error_code, version, 2);
    }
    response.error_code = 0;
    response.results_by_topic_v3_and_below = topics;
}

/// Below version 5 the epoch stays, and is not told.
fn fit_end_txn(response: &mut EndTxnResponse, version: i16) {
    fit_fenced(&mut response.error_code, version, 2);
    if version < 5 {
        response.producer_id = ProducerId(-1);
        response.producer_epoch = -1;
    }
}

fn fit_list_offsets(response: &mut ListOffsetsResponse, version: i16) {
    for topic in &mut response.topics {
        for partition in &mut topic.partitions {
            if version < 4 {
                partition.leader_epoch = -1;
            }
            if version < 5 {
                let (unknown, known) =
                    (ErrorCode::OFFSET_NOT_AVAILABLE, ErrorCode::LEADER_NOT_AVAILABLE);
                replace(&mut partition.error_code, unknown, known);
            }
        }
    }
}

fn fit_metadata(response: &mut MetadataResponse, version: i16) {
    if !(8..=10).contains(&version) {
        response.cluster_authorized_operations = OPERATIONS_NOT_ASKED;
    }
    for topic in &mut response.topics {
        if version < 8 {
            topic.topic_authorized_operations = OPERATIONS_NOT_ASKED;
        }
        if version < 12 && topic.name.is_none() {
            topic.name = Some(Default::default());
        }
    }
}

/// Below version 8 the answer is about one group; below version 2 its error stands in every
/// partition, because there is no other place.
fn fit_offset_fetch(response: &mut OffsetFetchResponse, version: i16) {
    if version >= 8 {
        return;
    }
    let mut groups = std::mem::take(&mut response.groups).into_iter();
    let group = groups.next().unwrap_or_default();
    debug_assert!(groups.next().is_none(), "version {version} asks about one group");
    let OffsetFetchResponseGroup { topics, error_code, .. } = group;
    response.error_code = error_code;
    let partition_error = if version < 2 { ErrorCode(error_code) } else { ErrorCode::NONE };
    response.topics = topics.into_iter().map(|topic| older_topic(topic, partition_error)).collect();
}

fn older_topic(topic: OffsetFetchResponseTopics, error: ErrorCode) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|p| older_partition(p, error)).collect();
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}

fn older_partition(
    partition: OffsetFetchResponsePartitions,
    error: ErrorCode,
) -> OffsetFetchResponsePartition {
    let error_code = if error.is_error() { error.0 } else { partition.error_code };
    OffsetFetchResponsePartition::default()
        .with_partition_index(partition.partition_index)
        .with_committed_offset(partition.committed_offset)
        .with_committed_leader_epoch(partition.committed_leader_epoch)
        .with_metadata(partition.metadata)
        .with_error_code(error_code)
}

/// Below version 4 the answer is about one key.
fn fit_find_coordinator(response: &mut FindCoordinatorResponse, version: i16) {
    if version >= 4 {
        return;
    }
    let mut coordinators = std::mem::take(&mut response.coordinators).into_iter();
    match coordinators.next() {
        Some(coordinator) => {
            response.error_code = coordinator.error_code;
            response.error_message = coordinator.error_message;
            response.node_id = coordinator.node_id;
            response.host = coordinator.host;
            response.port = coordinator.port;
        }
        None => {
            response.error_code = ErrorCode::COORDINATOR_NOT_AVAILABLE.0;
            response.node_id = BrokerId(-1);
            response.port = -1;
        }
    }
    debug_assert!(coordinators.next().is_none(), "version {version} asks about one key");
}

/// No protocol is null from version 7 on, and the empty name before.
fn fit_join_group(response: &mut JoinGroupResponse, version: i16) {
    if version < 9 {
        response.skip_assignment = false;
    }
    let name = response.protocol_name.take().filter(|name| !name.is_empty());
    response.protocol_name = if version < 7 { Some(name.unwrap_or_default()) } else { name };
}

/// Below version 3 the answer is about one member, and its error is the error of all.
fn fit_leave_group(response: &mut LeaveGroupResponse, version: i16) {
    if version >= 3 {
        return;
    }
    let members = std::mem::take(&mut response.members);
    debug_assert!(members.len() <= 1, "version {version} asks about one member");
    if let (false, Some(member)) = (ErrorCode(response.error_code).is_error(), members.first()) {
        response.error_code = member.error_code;
    }
}

/// Clients below version 4 cannot read a feature whose lowest level is 0.
fn fit_api_versions(response: &mut ApiVersionsResponse, version: i16) {
    if version < 4 {
        response.supported_features.retain(|feature| feature.min_version != 0);
    }
}

fn fit_delete_topics(response: &mut DeleteTopicsResponse, version: i16) {
    if version >= 6 {
        return;
    }
    for topic in &mut response.responses {
        topic.name.get_or_insert_default();
    }
}

fn fit_init_producer_id(response: &mut InitProducerIdResponse, version: i16) {
    if version < 6 {
        response.ongoing_txn_producer_id = ProducerId(-1);
        response.ongoing_txn_producer_epoch = -1;
    }
    if version < 4 {
        let (unknown, known) = (ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH);
        replace(&mut response.error_code, unknown, known);
    }
}

fn fit_describe_cluster(response: &mut DescribeClusterResponse, version: i16) {
    if version < 1 {
        response.endpoint_type = 1;
    }
    if version < 2 {
        for broker in &mut response.brokers {
            broker.is_fenced = false;
        }
    }
}

/// Below version 6 a group that does not exist is no error but a dead group.
fn fit_describe_groups(response: &mut DescribeGroupsResponse, version: i16) {
    for group in &mut response.groups {
        if version < 6 {
            group.error_message = None;
            replace(&mut group.error_code, ErrorCode::GROUP_ID_NOT_FOUND, ErrorCode::NONE);
        }
        if version < 3 {
            group.authorized_operations = OPERATIONS_NOT_ASKED;
        }
    }
}

/// The first version has no place for an error of the whole request.
fn fit_elect_leaders(response: &mut ElectLeadersResponse, version: i16) {
    if version < 1 {
        response.error_code = 0;
    }
}

fn fit_describe_quorum(response: &mut DescribeQuorumResponse, version: i16) {
    if version >= 2 {
        return;
    }
    response.nodes.clear();
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        for replica in partition.current_voters.iter_mut().chain(&mut partition.observers) {
            replica.replica_directory_id = uuid::Uuid::nil();
        }
    }
}
