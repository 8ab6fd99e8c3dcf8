//! DescribeTransactions v0. Errors: NOT_COORDINATOR, TRANSACTIONAL_ID_NOT_FOUND, COORDINATOR_LOAD_IN_PROGRESS.

use braid_protocol::ErrorCode;
use braid_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use braid_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName,
    TransactionalId,
};

use super::Broker;
use super::respond::text;
use super::transactions::{coordinates, refusal_code};

pub(crate) fn handle(
    broker: &Broker,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| state(broker, id)).collect();
    DescribeTransactionsResponse::default().with_transaction_states(states)
}

fn state(broker: &Broker, id: TransactionalId) -> TransactionState {
    if !coordinates(broker, &id) {
        return refused(id, ErrorCode::NOT_COORDINATOR);
    }
    let txn = match broker.transactions.describe(&id) {
        Ok(Some(txn)) => txn,
        Ok(None) => return refused(id, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND),
        Err(refusal) => return refused(id, refusal_code(&refusal, true)),
    };
    let topics = txn.partitions.iter().map(|(name, partitions)| {
        TopicData::default()
            .with_topic(TopicName(text(name)))
            .with_partitions(partitions.iter().copied().collect())
    });
    TransactionState::default()
        .with_transactional_id(id)
        .with_transaction_state(text(txn.status.name()))
        .with_transaction_timeout_ms(txn.timeout_ms)
        .with_transaction_start_time_ms(txn.started_ms)
        .with_producer_id(ProducerId(txn.producer_id))
        .with_producer_epoch(txn.epoch)
        .with_topics(topics.collect())
}

fn refused(id: TransactionalId, code: ErrorCode) -> TransactionState {
    TransactionState::default().with_transactional_id(id).with_error_code(code.0)
}
