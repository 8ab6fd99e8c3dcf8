//! Floor F0: what is counted on the way of requests, for `/metrics` to tell. Everything else that
//! is measured is looked up when it is asked for.
//!
//! A count costs one relaxed addition; the counters of a topic are looked up once a request. They
//! begin anew with the process, as a scraper of counters expects.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::TopicId;

/// Kafka's API keys are smaller.
const API_KEYS: usize = 128;

/// All counters of a broker.
#[derive(Debug)]
pub(crate) struct Traffic {
    requests: [AtomicU64; API_KEYS],
    topics: RwLock<HashMap<TopicId, Arc<TopicTraffic>>>,
    /// Open connections by the listener's name.
    connections: RwLock<BTreeMap<Arc<str>, Arc<AtomicU64>>>,
    stalled_http_connections: AtomicU64,
}

/// What clients of Kafka's protocol did with a topic. A request counts once for each partition of
/// the topic that it names, as with Kafka's `BrokerTopicMetrics`.
#[derive(Debug, Default)]
pub(crate) struct TopicTraffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    produces: AtomicU64,
    failed_produces: AtomicU64,
    fetches: AtomicU64,
    failed_fetches: AtomicU64,
}

/// The counters of a topic at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TopicCounts {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) produces: u64,
    pub(crate) failed_produces: u64,
    pub(crate) fetches: u64,
    pub(crate) failed_fetches: u64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; API_KEYS],
            topics: RwLock::default(),
            connections: RwLock::default(),
            stalled_http_connections: AtomicU64::new(0),
        }
    }
}

impl Traffic {
    /// A request of this API key came in and was understood.
    pub(crate) fn request(&self, api_key: i16) {
        let counter = usize::try_from(api_key).ok().and_then(|key| self.requests.get(key));
        if let Some(counter) = counter {
            add(counter, 1);
        }
    }

    /// How many requests of this API key came in.
    pub(crate) fn requests(&self, api_key: i16) -> u64 {
        let counter = usize::try_from(api_key).ok().and_then(|key| self.requests.get(key));
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// The counters of a topic.
    pub(crate) fn topic(&self, id: TopicId) -> Arc<TopicTraffic> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(&id) {
            return Arc::clone(topic);
        }
        drop(topics);
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(topics.entry(id).or_default())
    }

    /// What was counted of a topic.
    pub(crate) fn counts(&self, id: TopicId) -> TopicCounts {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(&id).map_or_else(TopicCounts::default, |topic| topic.counts())
    }

    /// Forgets a deleted topic.
    pub(crate) fn forget(&self, id: TopicId) {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Counts a connection for as long as what is returned lives.
    pub(crate) fn connection(&self, listener: &Arc<str>) -> OpenConnection {
        let mut connections = self.connections.write().unwrap_or_else(PoisonError::into_inner);
        let count = Arc::clone(connections.entry(Arc::clone(listener)).or_default());
        add(&count, 1);
        OpenConnection(count)
    }

    /// How many connections each listener has that ever had one.
    pub(crate) fn connections(&self) -> Vec<(Arc<str>, u64)> {
        let connections = self.connections.read().unwrap_or_else(PoisonError::into_inner);
        let count = |(name, count): (&Arc<str>, &Arc<AtomicU64>)| {
            (Arc::clone(name), count.load(Ordering::Relaxed))
        };
        connections.iter().map(count).collect()
    }

    /// A client of the native API took no bytes for too long.
    pub(crate) fn http_connection_stalled(&self) {
        add(&self.stalled_http_connections, 1);
    }

    pub(crate) fn stalled_http_connections(&self) -> u64 {
        self.stalled_http_connections.load(Ordering::Relaxed)
    }
}

impl TopicTraffic {
    /// A producer sent so many bytes of records to a partition; whether they were taken.
    pub(crate) fn produced(&self, size_bytes: usize, taken: bool) {
        add(&self.produces, 1);
        if taken {
            add(&self.bytes_in, size_bytes as u64);
        } else {
            add(&self.failed_produces, 1);
        }
    }

    /// A consumer asked a partition for records; how many bytes it gets, if it gets any answer.
    pub(crate) fn fetched(&self, size_bytes: Option<usize>) {
        add(&self.fetches, 1);
        match size_bytes {
            Some(size_bytes) => add(&self.bytes_out, size_bytes as u64),
            None => add(&self.failed_fetches, 1),
        }
    }

    fn counts(&self) -> TopicCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TopicCounts {
            bytes_in: of(&self.bytes_in),
            bytes_out: of(&self.bytes_out),
            produces: of(&self.produces),
            failed_produces: of(&self.failed_produces),
            fetches: of(&self.fetches),
            failed_fetches: of(&self.failed_fetches),
        }
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<AtomicU64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_counted_is_told_until_its_topic_is_forgotten() {
        let (traffic, id) = (Traffic::default(), TopicId(Uuid::from_u128(1)));
        assert_eq!(traffic.counts(id), TopicCounts::default());
        traffic.topic(id).produced(100, true);
        traffic.topic(id).produced(7, false);
        traffic.topic(id).fetched(Some(30));
        traffic.topic(id).fetched(None);
        let counted = TopicCounts {
            bytes_in: 100,
            bytes_out: 30,
            produces: 2,
            failed_produces: 1,
            fetches: 2,
            failed_fetches: 1,
        };
        assert_eq!(traffic.counts(id), counted);
        traffic.forget(id);
        assert_eq!(traffic.counts(id), TopicCounts::default());
        for key in [3, 3, 127, 128, -1] {
            traffic.request(key);
        }
        let requests = [0, 3, 127, 128, -1].map(|key| traffic.requests(key));
        assert_eq!(requests, [0, 2, 1, 0, 0]);
    }

    #[test]
    fn a_connection_counts_while_it_is_open() {
        let traffic = Traffic::default();
        let name: Arc<str> = "PLAINTEXT".into();
        let (first, second) = (traffic.connection(&name), traffic.connection(&name));
        assert_eq!(traffic.connections(), [(Arc::clone(&name), 2)]);
        drop(first);
        assert_eq!(traffic.connections(), [(Arc::clone(&name), 1)]);
        drop(second);
        assert_eq!(traffic.connections(), [(name, 0)]);
    }
}
