//! The answers about transactions, with every field set.

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, DescribeTransactionsResponse,
    EndTxnResponse, ListTransactionsResponse, TransactionalId, TxnOffsetCommitResponse,
    WriteTxnMarkersResponse, describe_transactions_response, list_transactions_response,
};

use super::{ProducerId, text, topic};

pub(super) fn add_partitions() -> AddPartitionsToTxnResponse {
    let partition = AddPartitionsToTxnPartitionResult::default()
        .with_partition_index(2)
        .with_partition_error_code(90);
    let results = AddPartitionsToTxnTopicResult::default()
        .with_name(topic("t"))
        .with_results_by_partition(vec![partition]);
    AddPartitionsToTxnResponse::default()
        .with_throttle_time_ms(1)
        .with_error_code(31)
        .with_results_by_transaction(vec![
            AddPartitionsToTxnResult::default()
                .with_transactional_id(TransactionalId(text("id")))
                .with_topic_results(vec![results]),
        ])
}

pub(super) fn add_offsets() -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse::default().with_throttle_time_ms(1).with_error_code(90)
}

pub(super) fn end() -> EndTxnResponse {
    EndTxnResponse::default()
        .with_throttle_time_ms(1)
        .with_error_code(90)
        .with_producer_id(ProducerId(7))
        .with_producer_epoch(8)
}

pub(super) fn write_markers() -> WriteTxnMarkersResponse {
    let partition =
        WritableTxnMarkerPartitionResult::default().with_partition_index(2).with_error_code(3);
    let topics = vec![
        WritableTxnMarkerTopicResult::default()
            .with_name(topic("t"))
            .with_partitions(vec![partition]),
    ];
    WriteTxnMarkersResponse::default().with_markers(vec![
        WritableTxnMarkerResult::default().with_producer_id(ProducerId(7)).with_topics(topics),
    ])
}

pub(super) fn offset_commit() -> TxnOffsetCommitResponse {
    let partition =
        TxnOffsetCommitResponsePartition::default().with_partition_index(2).with_error_code(3);
    TxnOffsetCommitResponse::default().with_throttle_time_ms(1).with_topics(vec![
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic("t"))
            .with_partitions(vec![partition]),
    ])
}

pub(super) fn describe() -> DescribeTransactionsResponse {
    let topics = vec![
        describe_transactions_response::TopicData::default()
            .with_topic(topic("t"))
            .with_partitions(vec![1, 2]),
    ];
    DescribeTransactionsResponse::default().with_throttle_time_ms(1).with_transaction_states(vec![
        describe_transactions_response::TransactionState::default()
            .with_error_code(105)
            .with_transactional_id(TransactionalId(text("id")))
            .with_transaction_state(text("Ongoing"))
            .with_transaction_timeout_ms(2)
            .with_transaction_start_time_ms(3)
            .with_producer_id(ProducerId(4))
            .with_producer_epoch(5)
            .with_topics(topics),
    ])
}

pub(super) fn list() -> ListTransactionsResponse {
    ListTransactionsResponse::default()
        .with_throttle_time_ms(1)
        .with_error_code(2)
        .with_unknown_state_filters(vec![text("x")])
        .with_transaction_states(vec![
            list_transactions_response::TransactionState::default()
                .with_transactional_id(TransactionalId(text("id")))
                .with_producer_id(ProducerId(4))
                .with_transaction_state(text("Ongoing")),
        ])
}
