//! The requests of administrators: groups, topics, configurations, and the cluster itself.

use kafka_protocol::messages::{
    create_partitions_request, delete_records_request, describe_log_dirs_request,
    describe_producers_request, describe_topic_partitions_request, offset_delete_request,
};

use super::{
    BOOL, Field, INT8, INT32, INT32_ARRAY, INT64, Kind, STRING, STRING_ARRAY, array, since,
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
