//! ListTransactions v0–2: by state, producer id, (v1) how long ago the last transaction began, and
//! (v2) a pattern of the transactional id. States nobody knows are told back.

use braid_protocol::ErrorCode;
use braid_protocol::messages::list_transactions_response::TransactionState;
use braid_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};

use super::Broker;
use super::respond::text;
use super::transactions::refusal_code;
use crate::txn::Status;

pub(crate) fn handle(
    broker: &Broker,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let of_name = |name: &str| Status::ALL.into_iter().find(|status| status.name() == name);
    let pattern = request.transactional_id_pattern.filter(|pattern| !pattern.is_empty());
    // The whole id has to match, as in Kafka.
    let pattern = match pattern.map(|it| regex::Regex::new(&format!("^(?:{})$", it.as_str()))) {
        None => None,
        Some(Ok(pattern)) => Some(pattern),
        Some(Err(_)) => {
            let code = ErrorCode::INVALID_REGULAR_EXPRESSION.0;
            return ListTransactionsResponse::default().with_error_code(code);
        }
    };
    let (known, unknown): (Vec<_>, Vec<_>) =
        request.state_filters.into_iter().partition(|name| of_name(name).is_some());
    let states: Vec<Status> = known.iter().filter_map(|name| of_name(name)).collect();
    let listed = match broker.transactions.list() {
        Ok(listed) => listed,
        Err(refusal) => {
            let code = refusal_code(&refusal, true).0;
            return ListTransactionsResponse::default().with_error_code(code);
        }
    };
    let now_ms = broker.env.clock.wall_ms();
    let has_state_filter = !states.is_empty() || !unknown.is_empty();
    let ids = &request.producer_id_filters;
    let transactions = listed
        .into_iter()
        .filter(|it| it.status != Status::Dead)
        .filter(|it| !has_state_filter || states.contains(&it.status))
        .filter(|it| ids.is_empty() || ids.contains(&ProducerId(it.producer_id)))
        .filter(|it| {
            // As in Kafka, since the last one began, under way or not.
            request.duration_filter < 0
                || now_ms.saturating_sub(it.started_ms) > request.duration_filter
        })
        .filter(|it| pattern.as_ref().is_none_or(|pattern| pattern.is_match(&it.id)))
        .map(|it| {
            TransactionState::default()
                .with_transactional_id(TransactionalId(text(&it.id)))
                .with_producer_id(ProducerId(it.producer_id))
                .with_transaction_state(text(it.status.name()))
        });
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown)
        .with_transaction_states(transactions.collect())
}
