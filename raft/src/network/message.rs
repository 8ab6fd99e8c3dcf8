//! What members of the quorum say to each other. The bytes are postcard's, with openraft's own
//! structs in them: they belong to the version that a connection's greeting agrees on.

use braid_base::model::BrokerId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::ClusterId;
use crate::outcome::Outcome;
use crate::proposer::ProposeError;
use crate::replacement::ReplaceError;
use crate::types::TypeConfig;

/// Which directories form a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Formation {
    pub(crate) cluster_id: ClusterId,
    /// A directory per voter, by number.
    pub(crate) directories: Vec<(BrokerId, Uuid)>,
}

/// How far a voter's log has come, as its leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterState {
    /// The voter.
    pub node_id: BrokerId,
    /// Index of the last entry it is known to have on disk; none before it answered.
    pub matched: Option<u64>,
}

/// The quorum as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumState {
    /// The leader.
    pub leader: BrokerId,
    /// Its term.
    pub term: u64,
    /// The index up to which everything is committed and applied there.
    pub committed: u64,
    /// The voters, by number.
    pub voters: Vec<VoterState>,
}

/// What the controller makes of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HeartbeatAnswer {
    /// It is heard, and no longer fenced.
    Heard,
    /// Another process has registered under this broker's number since, or none has.
    Superseded,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<TypeConfig>),
    Form(Formation),
    /// Encoded commands, each to be proposed by the leader that is asked.
    Propose(Vec<Vec<u8>>),
    /// The index that a reader has to have seen, to see all that was answered before.
    Barrier,
    Heartbeat {
        broker: BrokerId,
        incarnation: Uuid,
    },
    Quorum,
    /// Another directory is to stand for a voter.
    Replace {
        node: BrokerId,
        directory: Uuid,
    },
    /// From now on the connection is a stream of the broker's.
    Stream,
}

/// A proposal's outcome and its index, or why there is none.
pub(crate) type Proposed = Result<(Outcome, u64), ProposeError>;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(InstallSnapshotResponse<u64>),
    /// The chunk belongs to another snapshot than the one being received, or not at its end.
    SnapshotMismatch,
    Formed,
    /// Why not.
    NotFormed(String),
    Proposed(Vec<Proposed>),
    NotLeader(Option<BrokerId>),
    Barrier(u64),
    Heartbeat(HeartbeatAnswer),
    Quorum(QuorumState),
    /// The node cannot do this now; nothing happened.
    Unready(String),
    Replaced(Result<(), ReplaceError>),
    Streaming,
}

/// The bytes are no message of this version.
#[derive(Debug, thiserror::Error)]
#[error("a message is malformed: {0}")]
pub(crate) struct MessageError(#[from] postcard::Error);

pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    match postcard::to_stdvec(message) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("messages always serialize: {error}"),
    }
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MessageError> {
    let (message, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(MessageError(postcard::Error::DeserializeBadEncoding))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::{BasicNode, CommittedLeaderId, EntryPayload};
    use proptest::prelude::*;

    use super::*;
    use crate::command::{AllocateProducerIds, MetadataCommand};
    use crate::types::{Entry, LogId, Membership, Proposal, Vote};

    fn append() -> Request {
        let id = |index| LogId::new(CommittedLeaderId::new(3, 1), index);
        let command: MetadataCommand = AllocateProducerIds { count: 9 }.into();
        let encoded = command.encode();
        let nodes = BTreeMap::from([(1, BasicNode::new("a:1")), (2, BasicNode::new("b:2"))]);
        let membership = Membership::new(vec![BTreeSet::from([1, 2])], nodes);
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal::new(vec![(command, encoded)])),
            EntryPayload::Membership(membership),
        ];
        let entries = (5..).zip(payloads).map(|(i, payload)| Entry { log_id: id(i), payload });
        Request::Append(AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(id(4)),
            entries: entries.collect(),
            leader_commit: Some(id(2)),
        })
    }

    #[test]
    fn a_message_is_what_was_sent() {
        let bytes = encode(&append());
        let again: Request = decode(&bytes).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", append()));
        let longer = [&bytes[..], b"x"].concat();
        assert!(decode::<Request>(&longer).is_err());
        for end in 0..bytes.len() {
            assert!(decode::<Request>(&bytes[..end]).is_err(), "{end}");
        }
        let errors = [
            ProposeError::DiskFull,
            ProposeError::NotLeader { leader: Some(BrokerId(2)) },
            ProposeError::Interrupted,
        ];
        let errors: Vec<Proposed> = errors.into_iter().map(Err).collect();
        let bytes = encode(&Response::Proposed(errors));
        let again: Response = decode(&bytes).unwrap();
        assert_eq!(encode(&again), bytes);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_harmless(kind in 0u8..14, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&[kind][..], &bytes].concat();
            drop(decode::<Request>(&bytes));
            drop(decode::<Response>(&bytes));
        }
    }
}
