//! KIP-951: an answer that says who leads a partition instead, and where that broker is.

use std::sync::Arc;

use braid_protocol::fetch_response::{Leader, NodeEndpoint};
use braid_raft::image::{MetadataImage, PartitionImage};

use super::respond::{leader_epoch, seen};

/// The leaders that one answer names.
#[derive(Debug, Default)]
pub(super) struct LeaderHints(Vec<NodeEndpoint>);

impl LeaderHints {
    /// Who leads a partition, for a client of a listener; none if nobody does, or nobody whom
    /// the client could reach. Its address goes with the answer.
    pub(super) fn leader(
        &mut self,
        image: &Arc<MetadataImage>,
        listener: &str,
        partition: PartitionImage,
    ) -> Option<Leader> {
        let id = image.leader(partition)?;
        let found = seen(image.broker(id)?, listener)?;
        if self.0.iter().all(|endpoint| endpoint.node_id != id.0) {
            let (host, port, rack) = (found.host, found.port, found.rack);
            self.0.push(NodeEndpoint { node_id: id.0, host, port, rack });
        }
        Some(Leader { id: id.0, epoch: leader_epoch(image, partition).0 })
    }

    /// The addresses of all that were named.
    pub(super) fn into_endpoints(self) -> Vec<NodeEndpoint> {
        self.0
    }
}
