//! A member of a classic group, and what it offers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::request::JoinProtocol;
use super::step::RequestId;
use super::timers::Alarm;

/// A protocol a member supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: Arc<str>,
    pub(super) metadata: Bytes,
}

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    /// A static member's name of its own.
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// In the member's order of preference; no name twice.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// A join that is not answered yet. Only [`super::classic::Group`] sets it: it counts them.
    pub(super) joining: Option<RequestId>,
    /// A sync that is not answered yet.
    pub(super) syncing: Option<RequestId>,
    /// Has never been part of a generation: cannot send heartbeats yet.
    pub(super) is_new: bool,
    pub(super) session: Alarm,
}

impl Member {
    /// What the member said about itself for a protocol; empty if it does not support it.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|offered| &*offered.name == protocol);
        found.map_or_else(Bytes::new, |offered| offered.metadata.clone())
    }

    pub(super) fn session_timeout(&self) -> Duration {
        millis(self.session_timeout_ms)
    }

    pub(super) fn rebalance_timeout(&self) -> Duration {
        millis(self.rebalance_timeout_ms)
    }

    /// Whether a new join offers the same.
    pub(super) fn offers(&self, protocols: &[Protocol]) -> bool {
        self.protocols == protocols
    }

    /// A member that waits for the others need not send heartbeats. A new one may be gone without
    /// anybody noticing, so it gets no such credit.
    pub(super) fn is_excused(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}

/// What a client says in milliseconds; negative is none.
pub(super) fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

/// The offered protocols, copied out of the request; of two with one name the first counts.
pub(super) fn protocols_of(offered: &[JoinProtocol]) -> Vec<Protocol> {
    let mut protocols: Vec<Protocol> = Vec::new();
    for protocol in offered {
        if !protocols.iter().any(|known| *known.name == *protocol.name) {
            protocols.push(Protocol {
                name: Arc::from(protocol.name.as_str()),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            });
        }
    }
    protocols
}
