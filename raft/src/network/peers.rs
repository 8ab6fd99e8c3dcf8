//! How openraft reaches the other members. Whoever cannot be reached is `Unreachable`, from which
//! openraft backs off; a quorum of one never calls.

use std::sync::Arc;
use std::time::Duration;

use braid_base::env::Net;
use braid_base::model::BrokerId;
use openraft::error::{
    InstallSnapshotError, RPCError, RaftError, RemoteError, SnapshotMismatch, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, SnapshotSegmentId};

use super::link::Link;
use super::member::Member;
use super::message::{Request, Response};
use crate::types::TypeConfig;

type Failure<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// How long openraft waits before it asks again whoever did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How long a chunk of a snapshot may take: it is written to disk with the last one.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(30);

/// The quorum's network.
#[derive(Debug, Clone)]
pub(crate) enum Peers {
    /// Of a quorum of one.
    Alone,
    /// Of several.
    Several { net: Arc<dyn Net>, member: Arc<Member> },
}

/// The way to one member.
#[derive(Debug)]
pub(crate) enum Peer {
    Nobody(u64),
    Somebody {
        link: Box<Link>,
        /// Why it could not be reached the last time, which is told once.
        told: Option<String>,
    },
}

fn unreachable<E: std::error::Error>(why: String) -> RPCError<u64, BasicNode, E> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(why)))
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Peer {
        match self {
            Self::Alone => Peer::Nobody(target),
            Self::Several { net, member } => match i32::try_from(target).map(BrokerId) {
                Ok(voter) if member.addresses.contains_key(&voter) => {
                    Peer::Somebody { link: Box::new(Link::new(net, member, voter)), told: None }
                }
                Ok(_) | Err(_) => Peer::Nobody(target),
            },
        }
    }
}

impl Peer {
    async fn call<E: std::error::Error>(
        &mut self,
        request: Request,
        within: Duration,
    ) -> Result<Response, RPCError<u64, BasicNode, E>> {
        match self {
            Self::Nobody(node) => {
                Err(unreachable(format!("node {node} cannot be reached: nobody is there")))
            }
            Self::Somebody { link, .. } => match link.call(&request, within).await {
                Ok(Response::Unready(why)) => Err(unreachable(why)),
                Ok(response) => Ok(response),
                Err(error) => Err(unreachable(error.to_string())),
            },
        }
    }
}

impl Peer {
    /// Says when a member can no longer be reached, for another reason than before, or can be again.
    fn tell(&mut self, why: Option<String>) {
        let Self::Somebody { link, told } = self else { return };
        let node = link.target();
        match (&why, &told) {
            (Some(why), told) if told.as_ref() != Some(why) => {
                tracing::warn!(%node, why, "a member of the metadata quorum does not follow");
            }
            (None, Some(_)) => {
                tracing::info!(%node, "a member of the metadata quorum follows again")
            }
            _ => {}
        }
        *told = why;
    }
}

fn odd<E: std::error::Error>(response: &Response) -> RPCError<u64, BasicNode, E> {
    unreachable(format!("an answer to another question: {response:?}"))
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        let called = self.call(Request::Append(request), option.hard_ttl()).await;
        self.tell(called.as_ref().err().map(ToString::to_string));
        match called? {
            Response::Append(response) => Ok(response),
            other => Err(odd(&other)),
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        let segment =
            SnapshotSegmentId { id: request.meta.snapshot_id.clone(), offset: request.offset };
        match self.call(Request::Snapshot(request), SNAPSHOT_WITHIN).await? {
            Response::Snapshot(response) => Ok(response),
            Response::SnapshotMismatch => {
                let (expect, got) = (SnapshotSegmentId { offset: 0, ..segment.clone() }, segment);
                let mismatch = SnapshotMismatch { expect, got };
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                let target = match self {
                    Self::Nobody(node) => *node,
                    Self::Somebody { link, .. } => u64::from(link.target().0.unsigned_abs()),
                };
                Err(RPCError::RemoteError(RemoteError::new(target, error)))
            }
            other => Err(odd(&other)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure> {
        match self.call(Request::Vote(request), option.hard_ttl()).await? {
            Response::Vote(response) => Ok(response),
            other => Err(odd(&other)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY_AFTER))
    }
}
