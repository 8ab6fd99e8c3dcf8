//! A broker on a simulated machine: paused time, a disk in memory, a network in memory. One task
//! at a time, so a test repeats to the bit.

use crate::config::Config;
use crate::env::Env;
use crate::env::sim::{self, SimHandles};
use crate::node::{Node, StartError};

use super::client::Client;

/// A machine with a broker on it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) env: Env,
    pub(super) sim: SimHandles,
    pub(super) config: Config,
    pub(super) node: Node,
}

/// Small sizes, so that tests cross the boundaries, and these settings.
pub(super) fn config(settings: &[(&str, &str)]) -> Config {
    let mut all = vec![
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("braid.native.listeners", "http://127.0.0.1:0"),
        ("log.dir", "/data"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("offsets.topic.num.partitions", "3"),
        ("transaction.state.log.num.partitions", "3"),
        ("message.max.bytes", "40000"),
        ("braid.commitlog.segment.bytes", "1048576"),
        ("braid.commitlog.ring.bytes", "1048576"),
        ("socket.request.max.bytes", "1048576"),
        ("auto.create.topics.enable", "false"),
    ];
    all.extend_from_slice(settings);
    Config::of(&all).expect("the test's settings are good")
}

impl World {
    pub(super) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(super) async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_as(config(settings)).await
    }

    pub(super) async fn start_as(config: Config) -> Self {
        let (env, sim) = sim::env(1);
        Self::on(env, sim, config).await.expect("the broker starts")
    }

    pub(super) async fn on(env: Env, sim: SimHandles, config: Config) -> Result<Self, StartError> {
        let node = Node::start(env.clone(), config.clone()).await?;
        Ok(Self { env, sim, config, node })
    }

    pub(super) fn address(&self) -> String {
        self.node.addresses()[0].to_string()
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect(&self.env, &self.address()).await
    }

    /// Stops the broker in order and starts it again.
    pub(super) async fn restart(self) -> Self {
        let Self { env, sim, config, node } = self;
        node.stop().await;
        Self::on(env, sim, config).await.expect("the broker starts again")
    }

    /// `kill -9`, and another start.
    pub(super) async fn kill_and_restart(self) -> Self {
        let (env, sim) = self.sim.restart();
        drop(self.node);
        Self::on(env, sim, self.config).await.expect("the broker starts after kill -9")
    }
}
