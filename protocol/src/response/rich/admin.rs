//! The answers to administrators, with every field set.

use kafka_protocol::messages::{
    AlterConfigsResponse, AlterPartitionReassignmentsResponse, AlterReplicaLogDirsResponse,
    CreateAclsResponse, CreatePartitionsResponse, DeleteAclsResponse, DeleteGroupsResponse,
    DeleteRecordsResponse, DescribeAclsResponse, DescribeClientQuotasResponse,
    DescribeGroupsResponse, DescribeLogDirsResponse, DescribeProducersResponse,
    DescribeQuorumResponse, DescribeTopicPartitionsResponse, DescribeUserScramCredentialsResponse,
    ElectLeadersResponse, IncrementalAlterConfigsResponse, ListConfigResourcesResponse,
    ListGroupsResponse, ListPartitionReassignmentsResponse, OffsetDeleteResponse,
    UnregisterBrokerResponse, UpdateFeaturesResponse, alter_configs_response,
    alter_partition_reassignments_response, alter_replica_log_dirs_response, create_acls_response,
    create_partitions_response, delete_acls_response, delete_groups_response,
    delete_records_response, describe_acls_response, describe_client_quotas_response,
    describe_groups_response, describe_log_dirs_response, describe_producers_response,
    describe_quorum_response, describe_topic_partitions_response,
    describe_user_scram_credentials_response, elect_leaders_response,
    incremental_alter_configs_response, list_config_resources_response, list_groups_response,
    list_partition_reassignments_response, update_features_response,
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

pub(super) fn incremental_alter_configs() -> IncrementalAlterConfigsResponse {
    IncrementalAlterConfigsResponse::default().with_throttle_time_ms(11).with_responses(vec![
        incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(14)
            .with_error_message(Some(text("error message")))
            .with_resource_type(20)
            .with_resource_name(text("resource name")),
    ])
}

pub(super) fn alter_configs() -> AlterConfigsResponse {
    AlterConfigsResponse::default().with_throttle_time_ms(19).with_responses(vec![
        alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(22)
            .with_error_message(Some(text("error message")))
            .with_resource_type(28)
            .with_resource_name(text("resource name")),
    ])
}

pub(super) fn elect_leaders() -> ElectLeadersResponse {
    ElectLeadersResponse::default()
        .with_throttle_time_ms(27)
        .with_error_code(28)
        .with_replica_election_results(vec![
            elect_leaders_response::ReplicaElectionResult::default()
                .with_topic(topic("t"))
                .with_partition_result(vec![
                    elect_leaders_response::PartitionResult::default()
                        .with_partition_id(34)
                        .with_error_code(35)
                        .with_error_message(Some(text("error message"))),
                ]),
        ])
}

pub(super) fn list_partition_reassignments() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
        .with_throttle_time_ms(38)
        .with_error_code(39)
        .with_error_message(Some(text("error message")))
        .with_topics(vec![
            list_partition_reassignments_response::OngoingTopicReassignment::default()
                .with_name(topic("t"))
                .with_partitions(vec![
                    list_partition_reassignments_response::OngoingPartitionReassignment::default()
                        .with_partition_index(47)
                        .with_replicas(vec![BrokerId(49)])
                        .with_adding_replicas(vec![BrokerId(51)])
                        .with_removing_replicas(vec![BrokerId(53)]),
                ]),
        ])
}

pub(super) fn alter_partition_reassignments() -> AlterPartitionReassignmentsResponse {
    AlterPartitionReassignmentsResponse::default()
        .with_throttle_time_ms(54)
        .with_allow_replication_factor_change(true)
        .with_error_code(56)
        .with_error_message(Some(text("error message")))
        .with_responses(vec![
            alter_partition_reassignments_response::ReassignableTopicResponse::default()
                .with_name(topic("t"))
                .with_partitions(vec![
                    alter_partition_reassignments_response::ReassignablePartitionResponse::default(
                    )
                    .with_partition_index(64)
                    .with_error_code(65)
                    .with_error_message(Some(text("error message"))),
                ]),
        ])
}

pub(super) fn describe_quorum() -> DescribeQuorumResponse {
    DescribeQuorumResponse::default()
        .with_error_code(68)
        .with_error_message(Some(text("error message")))
        .with_topics(vec![
            describe_quorum_response::TopicData::default()
                .with_topic_name(topic("t"))
                .with_partitions(vec![
                    describe_quorum_response::PartitionData::default()
                        .with_partition_index(76)
                        .with_error_code(77)
                        .with_error_message(Some(text("error message")))
                        .with_leader_id(BrokerId(80))
                        .with_leader_epoch(81)
                        .with_high_watermark(82)
                        .with_current_voters(vec![
                            describe_quorum_response::ReplicaState::default()
                                .with_replica_id(BrokerId(85))
                                .with_replica_directory_id(TOPIC_ID)
                                .with_log_end_offset(87)
                                .with_last_fetch_timestamp(88)
                                .with_last_caught_up_timestamp(89),
                        ])
                        .with_observers(vec![
                            describe_quorum_response::ReplicaState::default()
                                .with_replica_id(BrokerId(92))
                                .with_replica_directory_id(TOPIC_ID)
                                .with_log_end_offset(94)
                                .with_last_fetch_timestamp(95)
                                .with_last_caught_up_timestamp(96),
                        ]),
                ]),
        ])
        .with_nodes(vec![
            describe_quorum_response::Node::default().with_node_id(BrokerId(99)).with_listeners(
                vec![
                    describe_quorum_response::Listener::default()
                        .with_name(text("name"))
                        .with_host(text("host"))
                        .with_port(104),
                ],
            ),
        ])
}

pub(super) fn describe_acls() -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_throttle_time_ms(105)
        .with_error_code(106)
        .with_error_message(Some(text("error message")))
        .with_resources(vec![
            describe_acls_response::DescribeAclsResource::default()
                .with_resource_type(24)
                .with_resource_name(text("resource name"))
                .with_pattern_type(26)
                .with_acls(vec![
                    describe_acls_response::AclDescription::default()
                        .with_principal(text("principal"))
                        .with_host(text("host"))
                        .with_operation(31)
                        .with_permission_type(32),
                ]),
        ])
}

pub(super) fn describe_client_quotas() -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse::default()
        .with_throttle_time_ms(120)
        .with_error_code(121)
        .with_error_message(Some(text("error message")))
        .with_entries(Some(vec![
            describe_client_quotas_response::EntryData::default()
                .with_entity(vec![
                    describe_client_quotas_response::EntityData::default()
                        .with_entity_type(text("entity type"))
                        .with_entity_name(Some(text("entity name"))),
                ])
                .with_values(vec![
                    describe_client_quotas_response::ValueData::default()
                        .with_key(text("key"))
                        .with_value(135.5),
                ]),
        ]))
}

pub(super) fn update_features() -> UpdateFeaturesResponse {
    UpdateFeaturesResponse::default()
        .with_throttle_time_ms(136)
        .with_error_code(137)
        .with_error_message(Some(text("error message")))
        .with_results(vec![
            update_features_response::UpdatableFeatureResult::default()
                .with_feature(text("feature"))
                .with_error_code(143)
                .with_error_message(Some(text("error message"))),
        ])
}

pub(super) fn unregister_broker() -> UnregisterBrokerResponse {
    UnregisterBrokerResponse::default()
        .with_throttle_time_ms(146)
        .with_error_code(147)
        .with_error_message(Some(text("error message")))
}

pub(super) fn describe_user_scram_credentials() -> DescribeUserScramCredentialsResponse {
    DescribeUserScramCredentialsResponse::default()
        .with_throttle_time_ms(11)
        .with_error_code(12)
        .with_error_message(Some(text("error message")))
        .with_results(vec![
            describe_user_scram_credentials_response::DescribeUserScramCredentialsResult::default()
                .with_user(text("user"))
                .with_error_code(18)
                .with_error_message(Some(text("error message")))
                .with_credential_infos(vec![
                    describe_user_scram_credentials_response::CredentialInfo::default()
                        .with_mechanism(26)
                        .with_iterations(24),
                ]),
        ])
}

pub(super) fn create_acls() -> CreateAclsResponse {
    CreateAclsResponse::default().with_throttle_time_ms(11).with_results(vec![
        create_acls_response::AclCreationResult::default()
            .with_error_code(54)
            .with_error_message(Some(text("error message"))),
    ])
}

pub(super) fn delete_acls() -> DeleteAclsResponse {
    let matching = delete_acls_response::DeleteAclsMatchingAcl::default()
        .with_error_code(12)
        .with_error_message(Some(text("error message")))
        .with_resource_type(2)
        .with_resource_name(text("resource name"))
        .with_pattern_type(3)
        .with_principal(text("principal"))
        .with_host(text("host"))
        .with_operation(4)
        .with_permission_type(3);
    DeleteAclsResponse::default().with_throttle_time_ms(11).with_filter_results(vec![
        delete_acls_response::DeleteAclsFilterResult::default()
            .with_error_code(54)
            .with_error_message(Some(text("error message")))
            .with_matching_acls(vec![matching]),
    ])
}

pub(super) fn alter_replica_log_dirs() -> AlterReplicaLogDirsResponse {
    let partition = alter_replica_log_dirs_response::AlterReplicaLogDirPartitionResult::default()
        .with_partition_index(13)
        .with_error_code(57);
    AlterReplicaLogDirsResponse::default().with_throttle_time_ms(11).with_results(vec![
        alter_replica_log_dirs_response::AlterReplicaLogDirTopicResult::default()
            .with_topic_name(topic("t"))
            .with_partitions(vec![partition]),
    ])
}
