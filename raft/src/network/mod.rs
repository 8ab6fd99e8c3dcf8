//! How quorum members reach each other. A quorum of one never calls: its factory answers
//! `Unreachable`, which openraft backs off from.

use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode};

use crate::types::TypeConfig;

type Failure<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// The network of a quorum of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alone;

/// A member that cannot be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nobody(u64);

impl Nobody {
    fn unreachable<E: std::error::Error>(&self) -> RPCError<u64, BasicNode, E> {
        let node = self.0;
        RPCError::Unreachable(Unreachable::new(&AnyError::error(format!(
            "node {node} cannot be reached: this quorum has one member"
        ))))
    }
}

impl RaftNetworkFactory<TypeConfig> for Alone {
    type Network = Nobody;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Nobody {
        Nobody(target)
    }
}

impl RaftNetwork<TypeConfig> for Nobody {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        Err(self.unreachable())
    }

    async fn install_snapshot(
        &mut self,
        _request: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        Err(self.unreachable())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure> {
        Err(self.unreachable())
    }
}
