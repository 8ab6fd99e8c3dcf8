//! The requests of administrators: groups, topics, configurations, and the cluster itself.

use kafka_protocol::messages::{
    alter_configs_request, alter_partition_reassignments_request, alter_replica_log_dirs_request,
    create_acls_request, create_partitions_request, delete_acls_request, delete_records_request,
    describe_client_quotas_request, describe_log_dirs_request, describe_producers_request,
    describe_quorum_request, describe_topic_partitions_request,
    describe_user_scram_credentials_request, elect_leaders_request,
    incremental_alter_configs_request, list_partition_reassignments_request, offset_delete_request,
    update_features_request,
};

use super::{
    BOOL, Field, INT8, INT16, INT32, INT32_ARRAY, INT64, Kind, STRING, STRING_ARRAY, array, since,
};

pub(super) const LIST_GROUPS: &[Field] = &[
    since(4, STRING_ARRAY), // states filter
    since(5, STRING_ARRAY), // types filter
];

pub(super) const DESCRIBE_GROUPS: &[Field] = &[
    since(0, STRING_ARRAY), // groups
    since(3, BOOL),         // include authorized operations
];

pub(super) const DELETE_GROUPS: &[Field] = &[
    since(0, STRING_ARRAY), // groups names
];

pub(super) const OFFSET_DELETE: &[Field] = &[
    since(0, STRING), // group id
    since(
        0,
        array::<offset_delete_request::OffsetDeleteRequestTopic>(&Kind::Struct(
            OFFSET_DELETE_REQUEST_TOPIC,
        )),
    ), // topics
];
const OFFSET_DELETE_REQUEST_TOPIC: &[Field] = &[
    since(0, STRING), // name
    since(
        0,
        array::<offset_delete_request::OffsetDeleteRequestPartition>(&Kind::Struct(
            OFFSET_DELETE_REQUEST_PARTITION,
        )),
    ), // partitions
];
const OFFSET_DELETE_REQUEST_PARTITION: &[Field] = &[
    since(0, INT32), // partition index
];

pub(super) const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    since(
        0,
        array::<describe_topic_partitions_request::TopicRequest>(&Kind::Struct(
            DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST,
        )),
    ), // topics
    since(0, INT32), // response partition limit
    since(0, Kind::NullableStruct(DESCRIBE_TOPIC_PARTITIONS_CURSOR)), // cursor
];
const DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST: &[Field] = &[
    since(0, STRING), // name
];
const DESCRIBE_TOPIC_PARTITIONS_CURSOR: &[Field] = &[
    since(0, STRING), // topic name
    since(0, INT32),  // partition index
];

pub(super) const CREATE_PARTITIONS: &[Field] = &[
    since(
        0,
        array::<create_partitions_request::CreatePartitionsTopic>(&Kind::Struct(
            CREATE_PARTITIONS_TOPIC,
        )),
    ), // topics
    since(0, INT32), // timeout ms
    since(0, BOOL),  // validate only
];
const CREATE_PARTITIONS_TOPIC: &[Field] = &[
    since(0, STRING), // name
    since(0, INT32),  // count
    since(
        0,
        array::<create_partitions_request::CreatePartitionsAssignment>(&Kind::Struct(
            CREATE_PARTITIONS_ASSIGNMENT,
        )),
    )
    .nullable(0), // assignments
];
const CREATE_PARTITIONS_ASSIGNMENT: &[Field] = &[
    since(0, INT32_ARRAY), // broker ids
];

pub(super) const DELETE_RECORDS: &[Field] = &[
    since(
        0,
        array::<delete_records_request::DeleteRecordsTopic>(&Kind::Struct(DELETE_RECORDS_TOPIC)),
    ), // topics
    since(0, INT32), // timeout ms
];
const DELETE_RECORDS_TOPIC: &[Field] = &[
    since(0, STRING), // name
    since(
        0,
        array::<delete_records_request::DeleteRecordsPartition>(&Kind::Struct(
            DELETE_RECORDS_PARTITION,
        )),
    ), // partitions
];
const DELETE_RECORDS_PARTITION: &[Field] = &[
    since(0, INT32), // partition index
    since(0, INT64), // offset
];

pub(super) const DESCRIBE_LOG_DIRS: &[Field] = &[
    since(
        0,
        array::<describe_log_dirs_request::DescribableLogDirTopic>(&Kind::Struct(
            DESCRIBE_LOG_DIRS_TOPIC,
        )),
    )
    .nullable(0), // topics
];
const DESCRIBE_LOG_DIRS_TOPIC: &[Field] = &[
    since(0, STRING),      // topic
    since(0, INT32_ARRAY), // partitions
];

pub(super) const DESCRIBE_PRODUCERS: &[Field] = &[
    since(
        0,
        array::<describe_producers_request::TopicRequest>(&Kind::Struct(
            DESCRIBE_PRODUCERS_TOPIC_REQUEST,
        )),
    ), // topics
];
const DESCRIBE_PRODUCERS_TOPIC_REQUEST: &[Field] = &[
    since(0, STRING),      // name
    since(0, INT32_ARRAY), // partition indexes
];

pub(super) const LIST_CONFIG_RESOURCES: &[Field] = &[
    since(1, array::<i8>(&INT8)), // resource types
];

pub(super) const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    since(
        0,
        array::<incremental_alter_configs_request::AlterConfigsResource>(&Kind::Struct(
            INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE,
        )),
    ), // resources
    since(0, BOOL), // validate only
];
const INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    since(0, INT8),   // resource type
    since(0, STRING), // resource name
    since(
        0,
        array::<incremental_alter_configs_request::AlterableConfig>(&Kind::Struct(
            INCREMENTAL_ALTER_CONFIGS_CONFIG,
        )),
    ), // configs
];
const INCREMENTAL_ALTER_CONFIGS_CONFIG: &[Field] = &[
    since(0, STRING),             // name
    since(0, INT8),               // config operation
    since(0, STRING).nullable(0), // value
];

pub(super) const ALTER_CONFIGS: &[Field] = &[
    since(
        0,
        array::<alter_configs_request::AlterConfigsResource>(&Kind::Struct(ALTER_CONFIGS_RESOURCE)),
    ), // resources
    since(0, BOOL), // validate only
];
const ALTER_CONFIGS_RESOURCE: &[Field] = &[
    since(0, INT8),   // resource type
    since(0, STRING), // resource name
    since(0, array::<alter_configs_request::AlterableConfig>(&Kind::Struct(ALTER_CONFIGS_CONFIG))), // configs
];
const ALTER_CONFIGS_CONFIG: &[Field] = &[
    since(0, STRING),             // name
    since(0, STRING).nullable(0), // value
];

pub(super) const ELECT_LEADERS: &[Field] = &[
    since(1, INT8), // election type
    since(
        0,
        array::<elect_leaders_request::TopicPartitions>(&Kind::Struct(
            ELECT_LEADERS_TOPIC_PARTITIONS,
        )),
    )
    .nullable(0), // topic partitions
    since(0, INT32), // timeout ms
];
const ELECT_LEADERS_TOPIC_PARTITIONS: &[Field] = &[
    since(0, STRING),      // topic
    since(0, INT32_ARRAY), // partitions
];

pub(super) const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    since(0, INT32), // timeout ms
    since(
        0,
        array::<list_partition_reassignments_request::ListPartitionReassignmentsTopics>(
            &Kind::Struct(LIST_PARTITION_REASSIGNMENTS_TOPICS),
        ),
    )
    .nullable(0), // topics
];
const LIST_PARTITION_REASSIGNMENTS_TOPICS: &[Field] = &[
    since(0, STRING),      // name
    since(0, INT32_ARRAY), // partition indexes
];

pub(super) const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    since(0, INT32), // timeout ms
    since(1, BOOL),  // allow replication factor change
    since(
        0,
        array::<alter_partition_reassignments_request::ReassignableTopic>(&Kind::Struct(
            ALTER_PARTITION_REASSIGNMENTS_TOPIC,
        )),
    ), // topics
];
const ALTER_PARTITION_REASSIGNMENTS_TOPIC: &[Field] = &[
    since(0, STRING), // name
    since(
        0,
        array::<alter_partition_reassignments_request::ReassignablePartition>(&Kind::Struct(
            ALTER_PARTITION_REASSIGNMENTS_PARTITION,
        )),
    ), // partitions
];
const ALTER_PARTITION_REASSIGNMENTS_PARTITION: &[Field] = &[
    since(0, INT32),                   // partition index
    since(0, INT32_ARRAY).nullable(0), // replicas
];

pub(super) const DESCRIBE_QUORUM: &[Field] = &[
    since(
        0,
        array::<describe_quorum_request::TopicData>(&Kind::Struct(DESCRIBE_QUORUM_TOPIC_DATA)),
    ), // topics
];
const DESCRIBE_QUORUM_TOPIC_DATA: &[Field] = &[
    since(0, STRING), // topic name
    since(
        0,
        array::<describe_quorum_request::PartitionData>(&Kind::Struct(
            DESCRIBE_QUORUM_PARTITION_DATA,
        )),
    ), // partitions
];
const DESCRIBE_QUORUM_PARTITION_DATA: &[Field] = &[
    since(0, INT32), // partition index
];

pub(super) const DESCRIBE_ACLS: &[Field] = &[
    since(0, INT8),               // resource type filter
    since(0, STRING).nullable(0), // resource name filter
    since(1, INT8),               // pattern type filter
    since(0, STRING).nullable(0), // principal filter
    since(0, STRING).nullable(0), // host filter
    since(0, INT8),               // operation
    since(0, INT8),               // permission type
];

pub(super) const CREATE_ACLS: &[Field] = &[
    since(0, array::<create_acls_request::AclCreation>(&Kind::Struct(CREATE_ACLS_CREATION))), // creations
];
const CREATE_ACLS_CREATION: &[Field] = &[
    since(0, INT8),   // resource type
    since(0, STRING), // resource name
    since(1, INT8),   // resource pattern type
    since(0, STRING), // principal
    since(0, STRING), // host
    since(0, INT8),   // operation
    since(0, INT8),   // permission type
];

pub(super) const DELETE_ACLS: &[Field] = &[
    since(0, array::<delete_acls_request::DeleteAclsFilter>(&Kind::Struct(DESCRIBE_ACLS))), // filters
];

pub(super) const ALTER_REPLICA_LOG_DIRS: &[Field] = &[
    since(
        0,
        array::<alter_replica_log_dirs_request::AlterReplicaLogDir>(&Kind::Struct(
            ALTER_REPLICA_LOG_DIRS_DIR,
        )),
    ), // dirs
];
const ALTER_REPLICA_LOG_DIRS_DIR: &[Field] = &[
    since(0, STRING), // path
    since(
        0,
        array::<alter_replica_log_dirs_request::AlterReplicaLogDirTopic>(&Kind::Struct(
            ALTER_REPLICA_LOG_DIRS_TOPIC,
        )),
    ), // topics
];
const ALTER_REPLICA_LOG_DIRS_TOPIC: &[Field] = &[
    since(0, STRING),      // name
    since(0, INT32_ARRAY), // partitions
];

pub(super) const DESCRIBE_CLIENT_QUOTAS: &[Field] = &[
    since(
        0,
        array::<describe_client_quotas_request::ComponentData>(&Kind::Struct(
            DESCRIBE_CLIENT_QUOTAS_COMPONENT_DATA,
        )),
    ), // components
    since(0, BOOL), // strict
];
const DESCRIBE_CLIENT_QUOTAS_COMPONENT_DATA: &[Field] = &[
    since(0, STRING),             // entity type
    since(0, INT8),               // match type
    since(0, STRING).nullable(0), // match
];

pub(super) const UPDATE_FEATURES: &[Field] = &[
    since(0, INT32), // timeout ms
    since(
        0,
        array::<update_features_request::FeatureUpdateKey>(&Kind::Struct(
            UPDATE_FEATURES_FEATURE_UPDATE_KEY,
        )),
    ), // feature updates
    since(1, BOOL),  // validate only
];
const UPDATE_FEATURES_FEATURE_UPDATE_KEY: &[Field] = &[
    since(0, STRING),        // feature
    since(0, INT16),         // max version level
    since(0, BOOL).until(0), // allow downgrade
    since(1, INT8),          // upgrade type
];

pub(super) const UNREGISTER_BROKER: &[Field] = &[
    since(0, INT32), // broker id
];

pub(super) const DESCRIBE_USER_SCRAM_CREDENTIALS: &[Field] = &[
    since(
        0,
        array::<describe_user_scram_credentials_request::UserName>(&Kind::Struct(
            DESCRIBE_USER_SCRAM_CREDENTIALS_USER_NAME,
        )),
    )
    .nullable(0), // users
];
const DESCRIBE_USER_SCRAM_CREDENTIALS_USER_NAME: &[Field] = &[
    since(0, STRING), // name
];
