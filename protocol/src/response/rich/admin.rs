//! The answers to administrators, with every field set.

use kafka_protocol::messages::{
    CreatePartitionsResponse, DeleteGroupsResponse, DeleteRecordsResponse, DescribeGroupsResponse,
    DescribeLogDirsResponse, DescribeProducersResponse, DescribeTopicPartitionsResponse,
    ListConfigResourcesResponse, ListGroupsResponse, OffsetDeleteResponse,
    create_partitions_response, delete_groups_response, delete_records_response,
    describe_groups_response, describe_log_dirs_response, describe_producers_response,
    describe_topic_partitions_response, list_config_resources_response, list_groups_response,
};

use super::{BrokerId, Bytes, GroupId, ProducerId, TOPIC_ID, text, topic};

pub(super) fn list_groups() -> ListGroupsResponse {
    ListGroupsResponse::default().with_throttle_time_ms(11).with_error_code(12).with_groups(vec![
        list_groups_response::ListedGroup::default()
            .with_group_id(GroupId(text("g")))
            .with_protocol_type(text("protocol type"))
            .with_group_state(text("group state"))
            .with_group_type(text("group type")),
    ])
}

pub(super) fn describe_groups() -> DescribeGroupsResponse {
    DescribeGroupsResponse::default().with_throttle_time_ms(19).with_groups(vec![
        describe_groups_response::DescribedGroup::default()
            .with_error_code(22)
            .with_error_message(Some(text("error message")))
            .with_group_id(GroupId(text("g")))
            .with_group_state(text("group state"))
            .with_protocol_type(text("protocol type"))
            .with_protocol_data(text("protocol data"))
            .with_members(vec![
                describe_groups_response::DescribedGroupMember::default()
                    .with_member_id(text("member id"))
                    .with_group_instance_id(Some(text("group instance id")))
                    .with_client_id(text("client id"))
                    .with_client_host(text("client host"))
                    .with_member_metadata(Bytes::from_static(b"member_metadata"))
                    .with_member_assignment(Bytes::from_static(b"member_assignment")),
            ])
            .with_authorized_operations(38),
    ])
}

pub(super) fn delete_groups() -> DeleteGroupsResponse {
    DeleteGroupsResponse::default().with_throttle_time_ms(39).with_results(vec![
        delete_groups_response::DeletableGroupResult::default()
            .with_group_id(GroupId(text("g")))
            .with_error_code(43),
    ])
}

pub(super) fn offset_delete() -> OffsetDeleteResponse {
    OffsetDeleteResponse::default().with_error_code(44).with_throttle_time_ms(45)
}

pub(super) fn describe_topic_partitions() -> DescribeTopicPartitionsResponse {
    DescribeTopicPartitionsResponse::default().with_throttle_time_ms(46).with_topics(vec![describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic::default().with_error_code(49).with_name(Some(topic("t"))).with_topic_id(TOPIC_ID).with_is_internal(true).with_partitions(vec![describe_topic_partitions_response::DescribeTopicPartitionsResponsePartition::default().with_error_code(56).with_partition_index(57).with_leader_id(BrokerId(58)).with_leader_epoch(59).with_replica_nodes(vec![BrokerId(61)]).with_isr_nodes(vec![BrokerId(63)]).with_eligible_leader_replicas(Some(vec![BrokerId(66)])).with_last_known_elr(Some(vec![BrokerId(69)])).with_offline_replicas(vec![BrokerId(71)])]).with_topic_authorized_operations(72)]).with_next_cursor(Some(describe_topic_partitions_response::Cursor::default().with_topic_name(topic("t")).with_partition_index(76)))
}

pub(super) fn create_partitions() -> CreatePartitionsResponse {
    CreatePartitionsResponse::default().with_throttle_time_ms(77).with_results(vec![
        create_partitions_response::CreatePartitionsTopicResult::default()
            .with_name(topic("t"))
            .with_error_code(81)
            .with_error_message(Some(text("error message"))),
    ])
}

pub(super) fn delete_records() -> DeleteRecordsResponse {
    DeleteRecordsResponse::default().with_throttle_time_ms(84).with_topics(vec![
        delete_records_response::DeleteRecordsTopicResult::default()
            .with_name(topic("t"))
            .with_partitions(vec![
                delete_records_response::DeleteRecordsPartitionResult::default()
                    .with_partition_index(90)
                    .with_low_watermark(91)
                    .with_error_code(92),
            ]),
    ])
}

pub(super) fn describe_log_dirs() -> DescribeLogDirsResponse {
    DescribeLogDirsResponse::default().with_throttle_time_ms(93).with_error_code(94).with_results(
        vec![
            describe_log_dirs_response::DescribeLogDirsResult::default()
                .with_error_code(97)
                .with_log_dir(text("log dir"))
                .with_topics(vec![
                    describe_log_dirs_response::DescribeLogDirsTopic::default()
                        .with_name(topic("t"))
                        .with_partitions(vec![
                            describe_log_dirs_response::DescribeLogDirsPartition::default()
                                .with_partition_index(104)
                                .with_partition_size(105)
                                .with_offset_lag(106)
                                .with_is_future_key(true),
                        ]),
                ])
                .with_total_bytes(108)
                .with_usable_bytes(109),
        ],
    )
}

pub(super) fn describe_producers() -> DescribeProducersResponse {
    DescribeProducersResponse::default().with_throttle_time_ms(110).with_topics(vec![
        describe_producers_response::TopicResponse::default()
            .with_name(topic("t"))
            .with_partitions(vec![
                describe_producers_response::PartitionResponse::default()
                    .with_partition_index(116)
                    .with_error_code(117)
                    .with_error_message(Some(text("error message")))
                    .with_active_producers(vec![
                        describe_producers_response::ProducerState::default()
                            .with_producer_id(ProducerId(122))
                            .with_producer_epoch(123)
                            .with_last_sequence(124)
                            .with_last_timestamp(125)
                            .with_coordinator_epoch(126)
                            .with_current_txn_start_offset(127),
                    ]),
            ]),
    ])
}

pub(super) fn list_config_resources() -> ListConfigResourcesResponse {
    ListConfigResourcesResponse::default()
        .with_throttle_time_ms(128)
        .with_error_code(129)
        .with_config_resources(vec![
            list_config_resources_response::ConfigResource::default()
                .with_resource_name(text("resource name"))
                .with_resource_type(4),
        ])
}
