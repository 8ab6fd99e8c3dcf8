//! Floor F4: the native API's domain. One file per topic; each call takes and gives small structs
//! of its own and says by an enum of its own why it refuses. Knows no HTTP and no JSON, so that
//! another wire can stand on it; changes metadata only by proposing commands.
//!
//! [`Native`] is what all calls work with: cheap handles, built once by `node`.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use braid_raft::MetadataNode;
use tokio::sync::{Semaphore, watch};

use crate::config::{Config, LiveConfig};
use crate::delivery::Deliveries;
use crate::env::Env;
use crate::group::GroupCoordinator;
use crate::half::Halves;
use crate::partition::{Partitions, TopicSettingsCache};
use crate::timer::Timers;
use crate::traffic::Traffic;

pub(crate) mod broker;
pub(crate) mod browse;
pub(crate) mod catalog;
pub(crate) mod cluster;
pub(crate) mod delivery;
pub(crate) mod destinations;
pub(crate) mod group;
pub(crate) mod half;
pub(crate) mod health;
pub(crate) mod ids;
pub(crate) mod made;
pub(crate) mod message;
pub(crate) mod metrics;
mod partitioner;
pub(crate) mod progress;
pub(crate) mod property;
pub(crate) mod send;
pub(crate) mod timer;
pub(crate) mod topic;

/// What the calls work with.
pub(crate) struct Native {
    pub(crate) env: Env,
    /// As the broker started: for what never changes while it runs.
    pub(crate) config: Arc<Config>,
    /// As it is now.
    pub(crate) live: Arc<LiveConfig>,
    pub(crate) metadata: MetadataNode,
    pub(crate) partitions: Partitions,
    pub(crate) groups: GroupCoordinator,
    pub(crate) topic_settings: Arc<TopicSettingsCache>,
    pub(crate) traffic: Arc<Traffic>,
    /// One permit: settings are worked out from those that stand, so one change at a time.
    pub(crate) config_changes: Arc<Semaphore>,
    pub(crate) ids: ids::MessageIds,
    /// Where the next messages go that neither key nor group places.
    pub(crate) turn: AtomicUsize,
    /// Makes the topics that the broker needs.
    pub(crate) maker: made::Maker,
    pub(crate) deliveries: Deliveries,
    pub(crate) halves: Halves,
    pub(crate) timers: Timers,
    /// Turns true when the broker stops: long waits end then.
    pub(crate) stopping: watch::Receiver<bool>,
}
