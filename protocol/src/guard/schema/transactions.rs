//! The requests about transactions.

use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};

use uuid::Uuid;

use super::{
    BOOL, Field, INT8, INT16, INT32, INT32_ARRAY, INT64, Kind, STRING, STRING_ARRAY, UUID, array,
    array_into, since,
};

pub(super) const ADD_PARTITIONS: &[Field] = &[
    since(4, array::<AddPartitionsToTxnTransaction>(&Kind::Struct(ADD_PARTITIONS_TRANSACTION))),
    since(0, STRING).until(3), // transactional id
    since(0, INT64).until(3),  // producer id
    since(0, INT16).until(3),  // producer epoch
    since(0, array::<AddPartitionsToTxnTopic>(&Kind::Struct(ADD_PARTITIONS_TOPIC))).until(3),
];
const ADD_PARTITIONS_TRANSACTION: &[Field] = &[
    since(4, STRING), // transactional id
    since(4, INT64),  // producer id
    since(4, INT16),  // producer epoch
    since(4, BOOL),   // verify only
    since(4, array::<AddPartitionsToTxnTopic>(&Kind::Struct(ADD_PARTITIONS_TOPIC))),
];
const ADD_PARTITIONS_TOPIC: &[Field] = &[
    since(0, STRING),      // name
    since(0, INT32_ARRAY), // partitions
];

pub(super) const ADD_OFFSETS: &[Field] = &[
    since(0, STRING), // transactional id
    since(0, INT64),  // producer id
    since(0, INT16),  // producer epoch
    since(0, STRING), // group id
];

pub(super) const END: &[Field] = &[
    since(0, STRING), // transactional id
    since(0, INT64),  // producer id
    since(0, INT16),  // producer epoch
    since(0, BOOL),   // committed
];

pub(super) const WRITE_MARKERS: &[Field] = &[
    since(0, array::<WritableTxnMarker>(&Kind::Struct(WRITE_MARKERS_MARKER))).until(1),
    since(2, array_into::<VersionedMarker, VersionedMarker>(&Kind::Struct(WRITE_MARKERS_MARKER))),
];
type VersionedMarker = (WritableTxnMarker, i8);
const WRITE_MARKERS_MARKER: &[Field] = &[
    since(0, INT64), // producer id
    since(0, INT16), // producer epoch
    since(0, BOOL),  // transaction result
    since(0, array::<WritableTxnMarkerTopic>(&Kind::Struct(WRITE_MARKERS_TOPIC))),
    since(0, INT32), // coordinator epoch
    since(2, INT8),  // transaction version
];
const WRITE_MARKERS_TOPIC: &[Field] = &[
    since(0, STRING),      // name
    since(0, INT32_ARRAY), // partitions
];

pub(super) const OFFSET_COMMIT: &[Field] = &[
    since(0, STRING),             // transactional id
    since(0, STRING),             // group id
    since(0, INT64),              // producer id
    since(0, INT16),              // producer epoch
    since(3, INT32),              // generation
    since(3, STRING),             // member id
    since(3, STRING).nullable(3), // group instance id
    since(0, array::<TxnOffsetCommitRequestTopic>(&Kind::Struct(OFFSET_COMMIT_TOPIC))).until(5),
    since(6, array_into::<TopicById, TopicById>(&Kind::Struct(OFFSET_COMMIT_TOPIC))),
];
type TopicById = (TxnOffsetCommitRequestTopic, Uuid);
const OFFSET_COMMIT_TOPIC: &[Field] = &[
    since(0, STRING).until(5), // name
    since(6, UUID),            // topic id
    since(0, array::<TxnOffsetCommitRequestPartition>(&Kind::Struct(OFFSET_COMMIT_PARTITION))),
];
const OFFSET_COMMIT_PARTITION: &[Field] = &[
    since(0, INT32),              // partition
    since(0, INT64),              // offset
    since(2, INT32),              // leader epoch
    since(0, STRING).nullable(0), // metadata
];

pub(super) const DESCRIBE: &[Field] = &[
    since(0, STRING_ARRAY), // transactional ids
];

pub(super) const LIST: &[Field] = &[
    since(0, STRING_ARRAY),         // state filters
    since(0, array::<i64>(&INT64)), // producer id filters
    since(1, INT64),                // duration filter
    since(2, STRING).nullable(2),   // transactional id pattern
];
