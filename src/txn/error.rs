//! Why the coordinator refuses.

use crate::store::AppendError;

/// Why a request about a transaction was refused. The numbers are Kafka's codes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// COORDINATOR_LOAD_IN_PROGRESS (14).
    #[error("the transactions are being read back from the log; try again")]
    Loading,
    /// COORDINATOR_NOT_AVAILABLE (15).
    #[error("the topic of transactions does not exist yet; look the coordinator up again")]
    NoTopic,
    /// INVALID_REQUEST (42).
    #[error("a transactional id must not be empty nor longer than 32767 bytes")]
    InvalidId,
    /// INVALID_TRANSACTION_TIMEOUT (50).
    #[error("a transaction's timeout must be positive and at most transaction.max.timeout.ms")]
    InvalidTimeout,
    /// INVALID_PRODUCER_ID_MAPPING (49).
    #[error("the transactional id is not known with this producer id; init the producer again")]
    UnknownMapping,
    /// PRODUCER_FENCED (90), or INVALID_PRODUCER_EPOCH (47) for clients that do not know it.
    #[error("a newer instance of the producer has taken over, or its transaction timed out")]
    Fenced,
    /// CONCURRENT_TRANSACTIONS (51).
    #[error("the transaction before is not over yet; try again")]
    Concurrent,
    /// INVALID_TXN_STATE (48).
    #[error("the transaction is in no state for this request")]
    InvalidState,
    /// TRANSACTION_ABORTABLE (120), or INVALID_TXN_STATE (48) for clients that do not know it.
    #[error("the partition is not in the transaction; abort it")]
    NotInTransaction,
    /// A new producer id is needed: the caller gets one and asks again.
    #[error("a new producer id is needed")]
    NeedsProducerId,
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A state too large for a record.
    #[error("the transaction has too many partitions or offsets to be recorded")]
    TooLarge,
}
