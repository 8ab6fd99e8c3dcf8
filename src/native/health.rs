//! What has to work for the broker to serve.

use super::Native;
use crate::group::{GroupError, ListFilter};

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// Why it fails, if it does.
    pub(crate) failure: Option<String>,
}

impl Check {
    pub(crate) fn passes(&self) -> bool {
        self.failure.is_none()
    }
}

/// Looks at every part.
pub(crate) async fn checks(native: &Native) -> Vec<Check> {
    let stopping = *native.stopping.borrow();
    let running =
        Check { name: "running", failure: stopping.then(|| "the broker stops".to_owned()) };
    let registered = native.metadata.image().broker(native.config.node.id).is_some();
    let metadata = Check {
        name: "metadata",
        failure: (!registered).then(|| "the broker is not registered".to_owned()),
    };
    let listed = native.groups.list(ListFilter::default()).await;
    let groups = Check { name: "groups", failure: listed.err().map(|e: GroupError| e.to_string()) };
    let halves = native.halves.counts().await;
    let halves = Check { name: "half-messages", failure: halves.err().map(|e| e.to_string()) };
    let deliveries = native.deliveries.groups().await;
    let deliveries = Check { name: "deliveries", failure: deliveries.err().map(|e| e.to_string()) };
    vec![running, metadata, groups, halves, deliveries]
}
