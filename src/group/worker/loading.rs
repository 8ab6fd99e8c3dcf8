//! How a worker gets its partitions back from the log: one after the other, until each is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::growth::Growth;
use super::{Led, Message, Term, Worker};
use crate::config::GroupConfig;
use crate::env::Env;
use crate::group::batch::replay_batches;
use crate::group::log::{GroupLog, LoadError};
use crate::group::state::Shard;
use crate::group::step::Input;

/// How long to wait before a partition that could not be read is read again.
const LOAD_RETRY: Duration = Duration::from_secs(1);

/// What was read back of a partition.
#[derive(Debug)]
pub(in crate::group) struct Loaded {
    shard: Shard,
    log_size_bytes: usize,
}

impl Worker {
    pub(super) fn on_lead(&mut self, partition: i32) {
        if self.led.contains_key(&partition) {
            return;
        }
        let term = Term(self.next_term);
        self.next_term += 1;
        self.led.insert(partition, Led::Loading { term, topics_deleted: Vec::new() });
        self.to_load.push_back((partition, term));
        self.load_next(Duration::ZERO);
    }

    /// Loads the next partition in line, one at a time: they share a disk.
    fn load_next(&mut self, delay: Duration) {
        while !self.is_loading
            && let Some((partition, term)) = self.to_load.pop_front()
        {
            if self.is_led_in(partition, term) {
                self.is_loading = true;
                let (env, log) = (self.env.clone(), Arc::clone(&self.log));
                let load = load(env, self.config, log, self.myself.clone(), partition, term, delay);
                drop(self.env.spawner.critical("group load", load));
            }
        }
    }

    pub(super) fn on_loaded(
        &mut self,
        partition: i32,
        term: Term,
        loaded: Result<Box<Loaded>, LoadError>,
    ) {
        self.is_loading = false;
        match loaded {
            // Resigned since, perhaps leading again: then another load is in line.
            _ if !self.is_led_in(partition, term) => self.load_next(Duration::ZERO),
            Ok(loaded) => {
                self.begin(partition, term, *loaded);
                self.load_next(Duration::ZERO);
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                let cause = error.source().map(ToString::to_string);
                tracing::error!(partition, %error, cause, "groups cannot be loaded yet");
                self.to_load.push_back((partition, term));
                self.load_next(LOAD_RETRY);
            }
        }
    }

    fn begin(&mut self, partition: i32, term: Term, loaded: Loaded) {
        let Loaded { shard, log_size_bytes } = loaded;
        let mut shard = Box::new(shard);
        shard.loaded(self.now(), &mut self.effects);
        let growth = Growth::of(log_size_bytes);
        let before = self.led.insert(partition, Led::Ready { term, shard, growth });
        self.carry_out(partition);
        if let Some(Led::Loading { topics_deleted, .. }) = before {
            for (name, topic_id) in topics_deleted {
                self.step(partition, Input::TopicDeleted { name, topic_id });
            }
        }
    }
}

/// Reads a partition back, and tells the worker what came of it.
async fn load(
    env: Env,
    config: GroupConfig,
    log: Arc<dyn GroupLog>,
    worker: mpsc::WeakSender<Message>,
    partition: i32,
    term: Term,
    delay: Duration,
) {
    tokio::time::sleep(delay).await;
    let read = env.spawner.blocking(move || read_partition(&*log, partition, config)).await;
    let loaded = match read {
        Ok(loaded) => loaded.map(Box::new),
        Err(error) => Err(LoadError::Read { partition, source: Box::new(error) }),
    };
    if let Some(worker) = worker.upgrade() {
        let _ended = worker.send(Message::Loaded { partition, term, loaded }).await;
    }
}

fn read_partition(
    log: &dyn GroupLog,
    partition: i32,
    config: GroupConfig,
) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded { shard: Shard::new(config), log_size_bytes: 0 };
    log.load(partition, &mut |batches| {
        loaded.log_size_bytes += batches.len();
        replay_batches(&mut loaded.shard, partition, batches);
    })?;
    Ok(loaded)
}
