//! The shape of every served request, version by version, as far as lengths go.
//!
//! Only what decides how many bytes a value has: integers, booleans and ids are so many bytes. A
//! field is a row `since(first version, kind)`; the memory of an array's element is the size of
//! what the decoder makes of it, and of what [`crate::request`] turns it into afterwards.

use std::mem::size_of;

use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::protocol::StrBytes;

use crate::api::ApiKey;

mod admin;
mod transactions;

/// How a value's bytes are found.
#[derive(Debug)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A length of two bytes, or compact.
    String,
    /// A length of four bytes, or compact. Records are bytes.
    Bytes,
    /// Fields one after another, then tagged ones in flexible versions.
    Struct(&'static [Field]),
    /// A byte that is negative for null, then a structure.
    NullableStruct(&'static [Field]),
    /// A count like the length of bytes, then so many elements.
    Array { element: &'static Kind, memory_bytes: usize },
}

/// One field of a structure.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) kind: Kind,
    /// Its number, if it stands among the tagged fields.
    pub(super) tag: Option<u32>,
    first: i16,
    last: i16,
    nullable_first: i16,
}

impl Field {
    pub(super) fn is_in(&self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    pub(super) fn is_nullable(&self, version: i16) -> bool {
        version >= self.nullable_first
    }

    const fn until(self, last: i16) -> Self {
        Self { last, ..self }
    }

    const fn nullable(self, nullable_first: i16) -> Self {
        Self { nullable_first, ..self }
    }

    const fn tag(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }
}

impl Kind {
    /// The fewest bytes a value can have; never 0.
    pub(super) fn least_size_bytes(&self, version: i16, flexible: bool) -> usize {
        match self {
            Self::Fixed(size_bytes) => *size_bytes,
            Self::String => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Self::Bytes | Self::Array { .. } => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Self::NullableStruct(_) => 1,
            Self::Struct(fields) => {
                let plain = fields.iter().filter(|field| field.tag.is_none());
                let plain = plain.filter(|field| field.is_in(version));
                let sum: usize =
                    plain.map(|field| field.kind.least_size_bytes(version, flexible)).sum();
                (sum + usize::from(flexible)).max(1)
            }
        }
    }
}

const fn since(first: i16, kind: Kind) -> Field {
    Field { kind, tag: None, first, last: i16::MAX, nullable_first: i16::MAX }
}

/// An array of structures that the decoder keeps as `T`.
const fn array<T>(element: &'static Kind) -> Kind {
    Kind::Array { element, memory_bytes: size_of::<T>() }
}

/// An array of structures that are kept as `T` and then turned into `U`.
const fn array_into<T, U>(element: &'static Kind) -> Kind {
    Kind::Array { element, memory_bytes: size_of::<T>() + size_of::<U>() }
}

const BOOL: Kind = Kind::Fixed(1);
const INT8: Kind = Kind::Fixed(1);
const INT16: Kind = Kind::Fixed(2);
const INT32: Kind = Kind::Fixed(4);
const INT64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const STRING: Kind = Kind::String;
const BYTES: Kind = Kind::Bytes;
const INT32_ARRAY: Kind = array::<i32>(&INT32);
const STRING_ARRAY: Kind = array::<StrBytes>(&STRING);

/// The fields of a request's body.
pub(super) fn of(api: ApiKey) -> &'static [Field] {
    match api {
        ApiKey::Produce => PRODUCE,
        ApiKey::Fetch => FETCH,
        ApiKey::ListOffsets => LIST_OFFSETS,
        ApiKey::Metadata => METADATA,
        ApiKey::OffsetCommit => OFFSET_COMMIT,
        ApiKey::OffsetFetch => OFFSET_FETCH,
        ApiKey::FindCoordinator => FIND_COORDINATOR,
        ApiKey::JoinGroup => JOIN_GROUP,
        ApiKey::Heartbeat => HEARTBEAT,
        ApiKey::LeaveGroup => LEAVE_GROUP,
        ApiKey::SyncGroup => SYNC_GROUP,
        ApiKey::ApiVersions => API_VERSIONS,
        ApiKey::CreateTopics => CREATE_TOPICS,
        ApiKey::DeleteTopics => DELETE_TOPICS,
        ApiKey::InitProducerId => INIT_PRODUCER_ID,
        ApiKey::OffsetForLeaderEpoch => OFFSET_FOR_LEADER_EPOCH,
        ApiKey::DescribeConfigs => DESCRIBE_CONFIGS,
        ApiKey::DescribeCluster => DESCRIBE_CLUSTER,
        ApiKey::DescribeUserScramCredentials => admin::DESCRIBE_USER_SCRAM_CREDENTIALS,
        ApiKey::UnregisterBroker => admin::UNREGISTER_BROKER,
        ApiKey::UpdateFeatures => admin::UPDATE_FEATURES,
        ApiKey::DescribeClientQuotas => admin::DESCRIBE_CLIENT_QUOTAS,
        ApiKey::DescribeAcls => admin::DESCRIBE_ACLS,
        ApiKey::CreateAcls => admin::CREATE_ACLS,
        ApiKey::DeleteAcls => admin::DELETE_ACLS,
        ApiKey::AlterReplicaLogDirs => admin::ALTER_REPLICA_LOG_DIRS,
        ApiKey::DescribeQuorum => admin::DESCRIBE_QUORUM,
        ApiKey::AlterPartitionReassignments => admin::ALTER_PARTITION_REASSIGNMENTS,
        ApiKey::ListPartitionReassignments => admin::LIST_PARTITION_REASSIGNMENTS,
        ApiKey::ElectLeaders => admin::ELECT_LEADERS,
        ApiKey::AlterConfigs => admin::ALTER_CONFIGS,
        ApiKey::IncrementalAlterConfigs => admin::INCREMENTAL_ALTER_CONFIGS,
        ApiKey::ListConfigResources => admin::LIST_CONFIG_RESOURCES,
        ApiKey::DescribeProducers => admin::DESCRIBE_PRODUCERS,
        ApiKey::DescribeLogDirs => admin::DESCRIBE_LOG_DIRS,
        ApiKey::DeleteRecords => admin::DELETE_RECORDS,
        ApiKey::CreatePartitions => admin::CREATE_PARTITIONS,
        ApiKey::DescribeTopicPartitions => admin::DESCRIBE_TOPIC_PARTITIONS,
        ApiKey::OffsetDelete => admin::OFFSET_DELETE,
        ApiKey::DeleteGroups => admin::DELETE_GROUPS,
        ApiKey::DescribeGroups => admin::DESCRIBE_GROUPS,
        ApiKey::ListGroups => admin::LIST_GROUPS,
        ApiKey::AddPartitionsToTxn => transactions::ADD_PARTITIONS,
        ApiKey::AddOffsetsToTxn => transactions::ADD_OFFSETS,
        ApiKey::EndTxn => transactions::END,
        ApiKey::WriteTxnMarkers => transactions::WRITE_MARKERS,
        ApiKey::TxnOffsetCommit => transactions::OFFSET_COMMIT,
        ApiKey::DescribeTransactions => transactions::DESCRIBE,
        ApiKey::ListTransactions => transactions::LIST,
    }
}

const PRODUCE: &[Field] = &[
    since(3, STRING).nullable(3), // transactional id
    since(0, INT16),              // acks
    since(0, INT32),              // timeout
    since(0, array::<TopicProduceData>(&Kind::Struct(PRODUCE_TOPIC))),
];
const PRODUCE_TOPIC: &[Field] = &[
    since(0, STRING).until(12), // name
    since(13, UUID),            // topic id
    since(0, array::<PartitionProduceData>(&Kind::Struct(PRODUCE_PARTITION))),
];
const PRODUCE_PARTITION: &[Field] = &[
    since(0, INT32),             // index
    since(0, BYTES).nullable(0), // records
];

const FETCH: &[Field] = &[
    since(12, STRING).nullable(12).tag(0), // cluster id
    since(0, INT32).until(14),             // replica id
    since(15, Kind::Struct(FETCH_REPLICA_STATE)).tag(1),
    since(0, INT32), // max wait
    since(0, INT32), // min bytes
    since(3, INT32), // max bytes
    since(4, INT8),  // isolation level
    since(7, INT32), // session id
    since(7, INT32), // session epoch
    since(0, array::<FetchTopic>(&Kind::Struct(FETCH_TOPIC))),
    since(7, array::<ForgottenTopic>(&Kind::Struct(FETCH_FORGOTTEN))),
    since(11, STRING), // rack id
];
const FETCH_REPLICA_STATE: &[Field] = &[
    since(15, INT32), // replica id
    since(15, INT64), // replica epoch
];
const FETCH_TOPIC: &[Field] = &[
    since(0, STRING).until(12), // name
    since(13, UUID),            // topic id
    since(0, array::<FetchPartition>(&Kind::Struct(FETCH_PARTITION))),
];
const FETCH_PARTITION: &[Field] = &[
    since(0, INT32),         // partition
    since(9, INT32),         // current leader epoch
    since(0, INT64),         // fetch offset
    since(12, INT32),        // last fetched epoch
    since(5, INT64),         // log start offset
    since(0, INT32),         // partition max bytes
    since(17, UUID).tag(0),  // replica directory id
    since(18, INT64).tag(1), // high watermark
];
const FETCH_FORGOTTEN: &[Field] = &[
    since(7, STRING).until(12), // name
    since(13, UUID),            // topic id
    since(7, INT32_ARRAY),      // partitions
];

const LIST_OFFSETS: &[Field] = &[
    since(0, INT32), // replica id
    since(2, INT8),  // isolation level
    since(0, array::<ListOffsetsTopic>(&Kind::Struct(LIST_OFFSETS_TOPIC))),
    since(10, INT32), // timeout
];
const LIST_OFFSETS_TOPIC: &[Field] = &[
    since(0, STRING), // name
    since(0, array::<ListOffsetsPartition>(&Kind::Struct(LIST_OFFSETS_PARTITION))),
];
const LIST_OFFSETS_PARTITION: &[Field] = &[
    since(0, INT32), // partition
    since(4, INT32), // current leader epoch
    since(0, INT64), // timestamp
];

const METADATA: &[Field] = &[
    since(0, array::<MetadataRequestTopic>(&Kind::Struct(METADATA_TOPIC))).nullable(1),
    since(4, BOOL),           // allow auto topic creation
    since(8, BOOL).until(10), // include cluster authorized operations
    since(8, BOOL),           // include topic authorized operations
];
const METADATA_TOPIC: &[Field] = &[
    since(10, UUID),               // topic id
    since(0, STRING).nullable(10), // name
];

const OFFSET_COMMIT: &[Field] = &[
    since(0, STRING),             // group id
    since(1, INT32),              // generation
    since(1, STRING),             // member id
    since(7, STRING).nullable(7), // group instance id
    since(2, INT64).until(4),     // retention time
    since(0, array::<OffsetCommitRequestTopic>(&Kind::Struct(OFFSET_COMMIT_TOPIC))),
];
const OFFSET_COMMIT_TOPIC: &[Field] = &[
    since(0, STRING).until(9), // name
    since(10, UUID),           // topic id
    since(0, array::<OffsetCommitRequestPartition>(&Kind::Struct(OFFSET_COMMIT_PARTITION))),
];
const OFFSET_COMMIT_PARTITION: &[Field] = &[
    since(0, INT32),              // partition
    since(0, INT64),              // offset
    since(6, INT32),              // leader epoch
    since(0, STRING).nullable(0), // metadata
];

const OFFSET_FETCH: &[Field] = &[
    since(0, STRING).until(7), // group id
    since(
        0,
        array_into::<OffsetFetchRequestTopic, OffsetFetchRequestTopics>(&Kind::Struct(
            OFFSET_FETCH_TOPIC,
        )),
    )
    .until(7)
    .nullable(2),
    since(8, array::<OffsetFetchRequestGroup>(&Kind::Struct(OFFSET_FETCH_GROUP))),
    since(7, BOOL), // require stable
];
const OFFSET_FETCH_TOPIC: &[Field] = &[
    since(0, STRING),      // name
    since(0, INT32_ARRAY), // partitions
];
const OFFSET_FETCH_GROUP: &[Field] = &[
    since(8, STRING),             // group id
    since(9, STRING).nullable(9), // member id
    since(9, INT32),              // member epoch
    since(8, array::<OffsetFetchRequestTopics>(&Kind::Struct(OFFSET_FETCH_GROUP_TOPIC)))
        .nullable(8),
];
const OFFSET_FETCH_GROUP_TOPIC: &[Field] = &[
    since(8, STRING).until(9), // name
    since(10, UUID),           // topic id
    since(8, INT32_ARRAY),     // partitions
];

const FIND_COORDINATOR: &[Field] = &[
    since(0, STRING).until(3), // key
    since(1, INT8),            // key type
    since(4, STRING_ARRAY),    // keys
];

const JOIN_GROUP: &[Field] = &[
    since(0, STRING),             // group id
    since(0, INT32),              // session timeout
    since(1, INT32),              // rebalance timeout
    since(0, STRING),             // member id
    since(5, STRING).nullable(5), // group instance id
    since(0, STRING),             // protocol type
    since(0, array::<JoinGroupRequestProtocol>(&Kind::Struct(JOIN_GROUP_PROTOCOL))),
    since(8, STRING).nullable(8), // reason
];
const JOIN_GROUP_PROTOCOL: &[Field] = &[
    since(0, STRING), // name
    since(0, BYTES),  // metadata
];

const HEARTBEAT: &[Field] = &[
    since(0, STRING),             // group id
    since(0, INT32),              // generation
    since(0, STRING),             // member id
    since(3, STRING).nullable(3), // group instance id
];

const LEAVE_GROUP: &[Field] = &[
    since(0, STRING),          // group id
    since(0, STRING).until(2), // member id
    since(3, array::<MemberIdentity>(&Kind::Struct(LEAVE_GROUP_MEMBER))),
];
const LEAVE_GROUP_MEMBER: &[Field] = &[
    since(3, STRING),             // member id
    since(3, STRING).nullable(3), // group instance id
    since(5, STRING).nullable(5), // reason
];

const SYNC_GROUP: &[Field] = &[
    since(0, STRING),             // group id
    since(0, INT32),              // generation
    since(0, STRING),             // member id
    since(3, STRING).nullable(3), // group instance id
    since(5, STRING).nullable(5), // protocol type
    since(5, STRING).nullable(5), // protocol name
    since(0, array::<SyncGroupRequestAssignment>(&Kind::Struct(SYNC_GROUP_ASSIGNMENT))),
];
const SYNC_GROUP_ASSIGNMENT: &[Field] = &[
    since(0, STRING), // member id
    since(0, BYTES),  // assignment
];

const API_VERSIONS: &[Field] = &[
    since(3, STRING),             // client software name
    since(3, STRING),             // client software version
    since(5, STRING).nullable(5), // cluster id
    since(5, INT32),              // node id
];

const CREATE_TOPICS: &[Field] = &[
    since(0, array::<CreatableTopic>(&Kind::Struct(CREATE_TOPICS_TOPIC))),
    since(0, INT32), // timeout
    since(1, BOOL),  // validate only
];
const CREATE_TOPICS_TOPIC: &[Field] = &[
    since(0, STRING), // name
    since(0, INT32),  // partitions
    since(0, INT16),  // replication factor
    since(0, array::<CreatableReplicaAssignment>(&Kind::Struct(CREATE_TOPICS_ASSIGNMENT))),
    since(0, array::<CreatableTopicConfig>(&Kind::Struct(CREATE_TOPICS_CONFIG))),
];
const CREATE_TOPICS_ASSIGNMENT: &[Field] = &[
    since(0, INT32),       // partition
    since(0, INT32_ARRAY), // brokers
];
const CREATE_TOPICS_CONFIG: &[Field] = &[
    since(0, STRING),             // name
    since(0, STRING).nullable(0), // value
];

const DELETE_TOPICS: &[Field] = &[
    since(6, array::<DeleteTopicState>(&Kind::Struct(DELETE_TOPICS_TOPIC))),
    since(0, array_into::<StrBytes, DeleteTopicState>(&STRING)).until(5), // names
    since(0, INT32),                                                      // timeout
];
const DELETE_TOPICS_TOPIC: &[Field] = &[
    since(6, STRING).nullable(6), // name
    since(6, UUID),               // topic id
];

const INIT_PRODUCER_ID: &[Field] = &[
    since(0, STRING).nullable(0), // transactional id
    since(0, INT32),              // transaction timeout
    since(3, INT64),              // producer id
    since(3, INT16),              // producer epoch
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    since(3, INT32), // replica id
    since(0, array::<OffsetForLeaderTopic>(&Kind::Struct(OFFSET_FOR_LEADER_EPOCH_TOPIC))),
];
const OFFSET_FOR_LEADER_EPOCH_TOPIC: &[Field] = &[
    since(0, STRING), // name
    since(0, array::<OffsetForLeaderPartition>(&Kind::Struct(OFFSET_FOR_LEADER_EPOCH_PARTITION))),
];
const OFFSET_FOR_LEADER_EPOCH_PARTITION: &[Field] = &[
    since(0, INT32), // partition
    since(2, INT32), // current leader epoch
    since(0, INT32), // leader epoch
];

const DESCRIBE_CONFIGS: &[Field] = &[
    since(0, array::<DescribeConfigsResource>(&Kind::Struct(DESCRIBE_CONFIGS_RESOURCE))),
    since(1, BOOL), // include synonyms
    since(3, BOOL), // include documentation
];
const DESCRIBE_CONFIGS_RESOURCE: &[Field] = &[
    since(0, INT8),                     // resource type
    since(0, STRING),                   // resource name
    since(0, STRING_ARRAY).nullable(0), // configuration keys
];

const DESCRIBE_CLUSTER: &[Field] = &[
    since(0, BOOL), // include cluster authorized operations
    since(1, INT8), // endpoint type
    since(2, BOOL), // include fenced brokers
];
