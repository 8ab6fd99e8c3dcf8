//! Requests and answers about transactions that the generated codec does not know whole: what its
//! structs have, and beside them what came later.

use kafka_protocol::messages::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, WriteTxnMarkersRequest,
};
use uuid::Uuid;

/// TxnOffsetCommit. From version 6 on topics are named by id (KIP-1319).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TxnOffsetCommit {
    /// What versions up to 5 have.
    pub request: TxnOffsetCommitRequest,
    /// The ids of its topics, whose names are empty then; none below version 6.
    pub topic_ids: Vec<Uuid>,
}

/// The answer to TxnOffsetCommit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TxnOffsetCommitAnswer {
    /// What versions up to 5 have.
    pub response: TxnOffsetCommitResponse,
    /// The ids of its topics, for versions from 6 on.
    pub topic_ids: Vec<Uuid>,
}

/// WriteTxnMarkers. From version 2 on a marker says by which rules its epoch is judged (KIP-1228).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteTxnMarkers {
    /// What version 1 has.
    pub request: WriteTxnMarkersRequest,
    /// The transaction.version of each of its markers; none below version 2, which is 0 for all.
    pub transaction_versions: Vec<i8>,
}
