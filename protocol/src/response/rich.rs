//! A response of every served API with every field of its newest shape set.

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{BrokerId, GroupId, ProducerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::*;
use crate::error_code::ErrorCode;
use crate::fetch_response;

#[path = "rich/admin.rs"]
mod admin;
#[path = "rich/transactions.rs"]
mod transactions;

fn text(value: &'static str) -> StrBytes {
    StrBytes::from_static_str(value)
}

fn topic(value: &'static str) -> TopicName {
    TopicName(text(value))
}

const TOPIC_ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

/// `parts` is how many groups, keys or members the answer is about.
pub(super) fn response(api: ApiKey, parts: usize) -> Response {
    match api {
        ApiKey::Produce => unreachable!("its answers are written as they come to be"),
        ApiKey::Fetch => Response::Fetch(fetch()),
        ApiKey::ListOffsets => Response::ListOffsets(list_offsets()),
        ApiKey::Metadata => Response::Metadata(metadata()),
        ApiKey::OffsetCommit => Response::OffsetCommit(offset_commit()),
        ApiKey::OffsetFetch => Response::OffsetFetch(offset_fetch(parts)),
        ApiKey::FindCoordinator => Response::FindCoordinator(find_coordinator(parts)),
        ApiKey::JoinGroup => Response::JoinGroup(join_group()),
        ApiKey::Heartbeat => Response::Heartbeat(
            HeartbeatResponse::default().with_throttle_time_ms(9).with_error_code(27),
        ),
        ApiKey::LeaveGroup => Response::LeaveGroup(leave_group(parts)),
        ApiKey::SyncGroup => Response::SyncGroup(
            SyncGroupResponse::default()
                .with_throttle_time_ms(9)
                .with_error_code(27)
                .with_protocol_type(Some(text("consumer")))
                .with_protocol_name(Some(text("range")))
                .with_assignment(Bytes::from_static(b"assignment")),
        ),
        ApiKey::ApiVersions => Response::ApiVersions(api_versions()),
        ApiKey::CreateTopics => Response::CreateTopics(create_topics()),
        ApiKey::DeleteTopics => Response::DeleteTopics(delete_topics()),
        ApiKey::InitProducerId => Response::InitProducerId(
            InitProducerIdResponse::default()
                .with_throttle_time_ms(9)
                .with_error_code(90)
                .with_producer_id(ProducerId(1 << 40))
                .with_producer_epoch(3)
                .with_ongoing_txn_producer_id(ProducerId(5))
                .with_ongoing_txn_producer_epoch(6),
        ),
        ApiKey::OffsetForLeaderEpoch => Response::OffsetForLeaderEpoch(offset_for_leader_epoch()),
        ApiKey::DescribeConfigs => Response::DescribeConfigs(describe_configs()),
        ApiKey::DescribeCluster => Response::DescribeCluster(describe_cluster()),
        ApiKey::DescribeUserScramCredentials => {
            Response::DescribeUserScramCredentials(admin::describe_user_scram_credentials())
        }
        ApiKey::UnregisterBroker => Response::UnregisterBroker(admin::unregister_broker()),
        ApiKey::UpdateFeatures => Response::UpdateFeatures(admin::update_features()),
        ApiKey::DescribeClientQuotas => {
            Response::DescribeClientQuotas(admin::describe_client_quotas())
        }
        ApiKey::DescribeAcls => Response::DescribeAcls(admin::describe_acls()),
        ApiKey::CreateAcls => Response::CreateAcls(admin::create_acls()),
        ApiKey::DeleteAcls => Response::DeleteAcls(admin::delete_acls()),
        ApiKey::AlterReplicaLogDirs => {
            Response::AlterReplicaLogDirs(admin::alter_replica_log_dirs())
        }
        ApiKey::DescribeQuorum => Response::DescribeQuorum(admin::describe_quorum()),
        ApiKey::AlterPartitionReassignments => {
            Response::AlterPartitionReassignments(admin::alter_partition_reassignments())
        }
        ApiKey::ListPartitionReassignments => {
            Response::ListPartitionReassignments(admin::list_partition_reassignments())
        }
        ApiKey::ElectLeaders => Response::ElectLeaders(admin::elect_leaders()),
        ApiKey::AlterConfigs => Response::AlterConfigs(admin::alter_configs()),
        ApiKey::IncrementalAlterConfigs => {
            Response::IncrementalAlterConfigs(admin::incremental_alter_configs())
        }
        ApiKey::ListConfigResources => {
            Response::ListConfigResources(admin::list_config_resources())
        }
        ApiKey::DescribeProducers => Response::DescribeProducers(admin::describe_producers()),
        ApiKey::DescribeLogDirs => Response::DescribeLogDirs(admin::describe_log_dirs()),
        ApiKey::DeleteRecords => Response::DeleteRecords(admin::delete_records()),
        ApiKey::CreatePartitions => Response::CreatePartitions(admin::create_partitions()),
        ApiKey::DescribeTopicPartitions => {
            Response::DescribeTopicPartitions(admin::describe_topic_partitions())
        }
        ApiKey::OffsetDelete => Response::OffsetDelete(admin::offset_delete()),
        ApiKey::DeleteGroups => Response::DeleteGroups(admin::delete_groups()),
        ApiKey::AddPartitionsToTxn => Response::AddPartitionsToTxn(transactions::add_partitions()),
        ApiKey::AddOffsetsToTxn => Response::AddOffsetsToTxn(transactions::add_offsets()),
        ApiKey::EndTxn => Response::EndTxn(transactions::end()),
        ApiKey::WriteTxnMarkers => Response::WriteTxnMarkers(transactions::write_markers()),
        ApiKey::TxnOffsetCommit => Response::TxnOffsetCommit(TxnOffsetCommitAnswer {
            response: transactions::offset_commit(),
            topic_ids: vec![Uuid::from_u128(7)],
        }),
        ApiKey::DescribeTransactions => Response::DescribeTransactions(transactions::describe()),
        ApiKey::ListTransactions => Response::ListTransactions(transactions::list()),
        ApiKey::DescribeGroups => Response::DescribeGroups(admin::describe_groups()),
        ApiKey::ListGroups => Response::ListGroups(admin::list_groups()),
    }
}

pub(super) fn fetch() -> FetchResponse {
    let full = fetch_response::Partition {
        index: 1,
        error: ErrorCode::NONE,
        high_watermark: 20,
        last_stable_offset: 18,
        log_start_offset: 3,
        diverging_epoch: Some(fetch_response::EpochEnd { epoch: 4, end_offset: 15 }),
        current_leader: Some(fetch_response::Leader { id: 2, epoch: 5 }),
        aborted_transactions: Some(vec![
            fetch_response::AbortedTransaction { producer_id: 8, first_offset: 11 },
            fetch_response::AbortedTransaction { producer_id: 9, first_offset: 12 },
        ]),
        preferred_read_replica: 3,
        records: vec![Bytes::from_static(b"one"), Bytes::from(vec![7; 70_000])],
    };
    let refused = fetch_response::Partition {
        index: 2,
        error: ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ..Default::default()
    };
    FetchResponse {
        throttle_time_ms: 9,
        error: ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        session_id: 77,
        topics: vec![
            fetch_response::Topic {
                name: topic("t"),
                id: TOPIC_ID,
                partitions: vec![full, refused],
            },
            fetch_response::Topic { name: topic("empty"), id: Uuid::nil(), partitions: vec![] },
        ],
        node_endpoints: vec![fetch_response::NodeEndpoint {
            node_id: 2,
            host: text("host"),
            port: 9092,
            rack: Some(text("rack")),
        }],
    }
}

fn list_offsets() -> ListOffsetsResponse {
    let partition = ListOffsetsPartitionResponse::default()
        .with_partition_index(1)
        .with_error_code(78)
        .with_timestamp(1000)
        .with_offset(5)
        .with_leader_epoch(7);
    ListOffsetsResponse::default().with_throttle_time_ms(9).with_topics(vec![
        ListOffsetsTopicResponse::default().with_name(topic("t")).with_partitions(vec![partition]),
    ])
}

fn metadata() -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(text("host"))
        .with_port(9092)
        .with_rack(Some(text("rack")));
    let partition = MetadataResponsePartition::default()
        .with_error_code(5)
        .with_partition_index(1)
        .with_leader_id(BrokerId(1))
        .with_leader_epoch(7)
        .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
        .with_isr_nodes(vec![BrokerId(1)])
        .with_offline_replicas(vec![BrokerId(2)]);
    let known = MetadataResponseTopic::default()
        .with_name(Some(topic("t")))
        .with_topic_id(TOPIC_ID)
        .with_is_internal(true)
        .with_partitions(vec![partition])
        .with_topic_authorized_operations(0b1000);
    let unknown = MetadataResponseTopic::default()
        .with_error_code(100)
        .with_name(None)
        .with_topic_id(TOPIC_ID);
    MetadataResponse::default()
        .with_throttle_time_ms(9)
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text("cluster")))
        .with_controller_id(BrokerId(1))
        .with_topics(vec![known, unknown])
        .with_cluster_authorized_operations(0b1000)
        .with_error_code(129)
}

fn offset_commit() -> OffsetCommitResponse {
    let partition =
        OffsetCommitResponsePartition::default().with_partition_index(1).with_error_code(22);
    OffsetCommitResponse::default().with_throttle_time_ms(9).with_topics(vec![
        OffsetCommitResponseTopic::default()
            .with_name(topic("t"))
            .with_topic_id(TOPIC_ID)
            .with_partitions(vec![partition]),
    ])
}

fn offset_fetch(groups: usize) -> OffsetFetchResponse {
    let partition = OffsetFetchResponsePartitions::default()
        .with_partition_index(1)
        .with_committed_offset(50)
        .with_committed_leader_epoch(7)
        .with_metadata(Some(text("note")))
        .with_error_code(88);
    let group = OffsetFetchResponseGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_error_code(15)
        .with_topics(vec![
            OffsetFetchResponseTopics::default()
                .with_name(topic("t"))
                .with_topic_id(TOPIC_ID)
                .with_partitions(vec![partition]),
        ]);
    OffsetFetchResponse::default().with_throttle_time_ms(9).with_groups(vec![group; groups])
}

fn find_coordinator(keys: usize) -> FindCoordinatorResponse {
    let coordinator = Coordinator::default()
        .with_key(text("g"))
        .with_node_id(BrokerId(1))
        .with_host(text("host"))
        .with_port(9092)
        .with_error_code(15)
        .with_error_message(Some(text("not yet")));
    FindCoordinatorResponse::default()
        .with_throttle_time_ms(9)
        .with_coordinators(vec![coordinator; keys])
}

fn join_group() -> JoinGroupResponse {
    let member = JoinGroupResponseMember::default()
        .with_member_id(text("m"))
        .with_group_instance_id(Some(text("i")))
        .with_metadata(Bytes::from_static(b"subscription"));
    JoinGroupResponse::default()
        .with_throttle_time_ms(9)
        .with_error_code(79)
        .with_generation_id(4)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_leader(text("m"))
        .with_skip_assignment(true)
        .with_member_id(text("m"))
        .with_members(vec![member])
}

fn leave_group(members: usize) -> LeaveGroupResponse {
    let member = MemberResponse::default()
        .with_member_id(text("m"))
        .with_group_instance_id(Some(text("i")))
        .with_error_code(25);
    LeaveGroupResponse::default().with_throttle_time_ms(9).with_members(vec![member; members])
}

fn api_versions() -> ApiVersionsResponse {
    let feature = |name| SupportedFeatureKey::default().with_name(text(name)).with_max_version(2);
    ApiVersionsResponse::default()
        .with_error_code(35)
        .with_throttle_time_ms(9)
        .with_api_keys(vec![
            ApiVersion::default().with_api_key(3).with_min_version(1).with_max_version(13),
        ])
        .with_supported_features(vec![feature("from 0"), feature("from 1").with_min_version(1)])
        .with_finalized_features_epoch(5)
        .with_finalized_features(vec![
            FinalizedFeatureKey::default()
                .with_name(text("from 1"))
                .with_min_version_level(1)
                .with_max_version_level(2),
        ])
        .with_zk_migration_ready(true)
}

fn create_topics() -> CreateTopicsResponse {
    let config = CreatableTopicConfigs::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("1")))
        .with_read_only(true)
        .with_config_source(5)
        .with_is_sensitive(true);
    CreateTopicsResponse::default().with_throttle_time_ms(9).with_topics(vec![
        CreatableTopicResult::default()
            .with_name(topic("t"))
            .with_topic_id(TOPIC_ID)
            .with_error_code(36)
            .with_error_message(Some(text("exists")))
            .with_topic_config_error_code(29)
            .with_num_partitions(3)
            .with_replication_factor(1)
            .with_configs(Some(vec![config])),
    ])
}

fn delete_topics() -> DeleteTopicsResponse {
    let named = DeletableTopicResult::default()
        .with_name(Some(topic("t")))
        .with_topic_id(TOPIC_ID)
        .with_error_code(73)
        .with_error_message(Some(text("switched off")));
    let unknown = DeletableTopicResult::default()
        .with_name(None)
        .with_topic_id(TOPIC_ID)
        .with_error_code(100);
    DeleteTopicsResponse::default().with_throttle_time_ms(9).with_responses(vec![named, unknown])
}

fn offset_for_leader_epoch() -> OffsetForLeaderEpochResponse {
    let partition = EpochEndOffset::default()
        .with_error_code(74)
        .with_partition(1)
        .with_leader_epoch(7)
        .with_end_offset(50);
    OffsetForLeaderEpochResponse::default().with_throttle_time_ms(9).with_topics(vec![
        OffsetForLeaderTopicResult::default()
            .with_topic(topic("t"))
            .with_partitions(vec![partition]),
    ])
}

fn describe_configs() -> DescribeConfigsResponse {
    let synonym = DescribeConfigsSynonym::default()
        .with_name(text("log.retention.ms"))
        .with_value(Some(text("1")))
        .with_source(4);
    let config = DescribeConfigsResourceResult::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("1")))
        .with_read_only(true)
        .with_config_source(1)
        .with_is_sensitive(true)
        .with_synonyms(vec![synonym])
        .with_config_type(5)
        .with_documentation(Some(text("how long")));
    DescribeConfigsResponse::default().with_throttle_time_ms(9).with_results(vec![
        DescribeConfigsResult::default()
            .with_error_code(40)
            .with_error_message(Some(text("bad")))
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(vec![config]),
    ])
}

fn describe_cluster() -> DescribeClusterResponse {
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(1))
        .with_host(text("host"))
        .with_port(9092)
        .with_rack(Some(text("rack")))
        .with_is_fenced(true);
    DescribeClusterResponse::default()
        .with_throttle_time_ms(9)
        .with_error_code(115)
        .with_error_message(Some(text("no")))
        .with_endpoint_type(2)
        .with_cluster_id(text("cluster"))
        .with_controller_id(BrokerId(1))
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(0b1000)
}
