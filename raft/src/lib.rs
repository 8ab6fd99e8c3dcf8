//! The cluster's metadata: topics, brokers, configs and producer ids, agreed on by a Raft quorum.
//!
//! Control goes round a loop: a handler plans ([`plan`]), proposes a [`command`] to the
//! [`MetadataNode`], the quorum makes it durable, the pure [`apply`] turns the old image into the
//! new, and the new [`image`] is published to every reader. Nothing else changes metadata.
//!
//! openraft is used in this crate only, and no type of it leaves. Neither Kafka's wire nor message
//! bytes are known here.

pub mod apply;
pub mod command;
pub mod delta;
pub mod image;
pub mod outcome;
pub mod plan;
pub mod shard;

mod controller;
mod directory;
mod dirs;
mod fencing;
mod formation;
mod identity;
mod keeper;
mod lease;
mod liveness;
mod log_store;
mod network;
mod node;
mod proposer;
mod replacement;
mod route;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod testing;
mod types;

pub use delta::MetadataDelta;
pub use directory::OpenError;
pub use fencing::ElectionPolicy;
pub use identity::IdentityError;
pub use image::MetadataImage;
pub use lease::Lease;
pub use log_store::{FrameError, LogError};
pub use network::message::{QuorumState, VoterState};
pub use network::session::ClusterSecret;
pub use network::stream::PeerStream;
pub use node::{MetadataConfig, MetadataFailed, MetadataNode, QuorumConfig, QuorumUnavailable};
pub use proposer::{COMMAND_BYTES_MAX, ProposeError};
pub use replacement::ReplaceError;
pub use snapshot::{SnapshotError, SnapshotFormatError};
pub use types::BatchDecodeError;
