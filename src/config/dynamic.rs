//! Broker settings made while the broker runs: what Kafka allows, what Braid can honour, and the
//! configuration they give.
//!
//! The messages are Kafka's. Keys without effect here are taken where Kafka takes them; those whose
//! being ignored would mislead (listeners, classes to load) are refused.

use std::collections::BTreeMap;

use super::broker as keys;
use super::inert;
use super::key::{Key, Kind, Update};
use super::keys_by_name::broker_key;
use super::live::Settings;
use super::load::{Config, SEGMENT_OVERHEAD_BYTES};
use super::parts::Parts;
use super::value::{InvalidValue, Value};
use super::values::Dynamic;

/// Whose settings are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerScope {
    /// One broker's own.
    One,
    /// Those of all brokers that set nothing themselves.
    All,
}

/// Why settings of a running broker are refused. Prints as Kafka does, where Kafka refuses too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerConfigError {
    /// Kafka reads these at the start only.
    #[error("Cannot update these configs dynamically: [{}]", .0.join(", "))]
    ReadOnly(Vec<String>),
    /// Kafka takes these for one listener only.
    #[error(
        "These security configs can be dynamically updated only per-listener using the listener \
         prefix: [{}]", .0.join(", ")
    )]
    PerListener(Vec<String>),
    /// Not for all brokers at once.
    #[error(
        "Cannot update these configs at default cluster level, broker id must be specified: [{}]",
        .0.join(", ")
    )]
    PerBroker(Vec<String>),
    /// A value is not of the type or out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A number of threads more than doubled or halved at once.
    #[error(
        "Dynamic thread count update validation failed for {name}={given}, value should {bound} \
         the current value {current}"
    )]
    Threads {
        /// The key.
        name: &'static str,
        /// What was given.
        given: i32,
        /// What stands.
        current: i32,
        /// Which rule it breaks.
        bound: &'static str,
    },
    /// The same of the threads that clean, for which Kafka has words of its own.
    #[error("Log cleaner threads {0}")]
    CleanerThreads(String),
    /// Nobody could connect.
    #[error("Invalid max.connections 0")]
    NoConnections,
    /// Everything would be old at once.
    #[error("log.retention.ms must be unlimited (-1) or, greater than or equal to 1")]
    NoRetention,
    /// A class, which cannot be loaded here.
    #[error("Invalid value {class} for configuration {name}: Class {class} could not be found.")]
    Class {
        /// The key.
        name: &'static str,
        /// What was given.
        class: String,
    },
    /// A batch of that size would not fit into a file.
    #[error(
        "Invalid value {given} for configuration message.max.bytes: a batch must fit into \
         braid.commitlog.segment.bytes, which leaves room for {limit} bytes"
    )]
    LargerThanSegment {
        /// What was given.
        given: i32,
        /// The most there is room for.
        limit: i64,
    },
    /// Kafka would change it, and Braid cannot.
    #[error(
        "Braid reads {0} at its start only: set it in the configuration file and start it again"
    )]
    AtStart(String),
}

/// Kafka's security settings that it changes for a listener and not for a broker.
const LISTENERS_OWN: &[&str] = &[
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];
/// Numbers of threads, which Kafka lets at most double or halve; those of the cleaner too.
const THREADS: &[&str] = &[
    "background.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
];
/// Lists and names of classes.
const CLASSES: &[&str] =
    &["metric.reporters", "principal.builder.class", "ssl.engine.factory.class"];
/// What Kafka opens, closes and cordons while it runs, and Braid does not.
const AT_START: &[&str] = &["cordoned.log.dirs", "listener.security.protocol.map", "listeners"];
const LISTENER_PREFIX: &str = "listener.name.";

impl Config {
    /// Checks all settings that a broker, or all brokers, would have besides those of the start.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn validate_broker(
        &self,
        settings: &Settings,
        scope: BrokerScope,
    ) -> Result<(), BrokerConfigError> {
        let named = |wanted: &dyn Fn(&str, Option<&'static Key>) -> bool| -> Vec<String> {
            settings.keys().filter(|name| wanted(name, broker_key(name))).cloned().collect()
        };
        let refuse = |names: Vec<String>, error: fn(Vec<String>) -> BrokerConfigError| {
            if names.is_empty() { Ok(()) } else { Err(error(names)) }
        };
        let read_only = named(&|_, key| key.is_some_and(|key| key.update == Update::ReadOnly));
        refuse(read_only, BrokerConfigError::ReadOnly)?;
        let per_listener = named(&|name, _| LISTENERS_OWN.contains(&name));
        refuse(per_listener, BrokerConfigError::PerListener)?;
        let mut values: BTreeMap<&'static str, Value> = BTreeMap::new();
        for (name, text) in settings {
            if let Some(key) = broker_key(name) {
                values.insert(key.name, key.parse(text)?);
            }
        }
        if scope == BrokerScope::All {
            let per_broker =
                named(&|_, key| key.is_some_and(|key| key.update == Update::PerBroker));
            refuse(per_broker, BrokerConfigError::PerBroker)?;
        }
        let at_start =
            |name: &&String| AT_START.contains(&name.as_str()) || name.starts_with(LISTENER_PREFIX);
        if let Some(name) = settings.keys().find(at_start) {
            return Err(BrokerConfigError::AtStart(name.clone()));
        }
        values.iter().try_for_each(|(name, value)| self.check_change(name, value))
    }

    /// What one value must fulfil beyond its type, given what is in force.
    fn check_change(&self, name: &'static str, value: &Value) -> Result<(), BrokerConfigError> {
        let current = broker_key(name).and_then(|key| self.values.own(key));
        if current.as_ref() == Some(value) {
            return Ok(());
        }
        match (value, current) {
            (Value::Int(given), Some(Value::Int(current)))
                if name == inert::LOG_CLEANER_THREADS.name =>
            {
                let refused = |why| Err(BrokerConfigError::CleanerThreads(why));
                if *given < 1 {
                    refused("should be at least 1".to_owned())
                } else if *given > current.saturating_mul(2) {
                    refused(format!(
                        "cannot be increased to more than double the current value {current}"
                    ))
                } else if *given < current / 2 {
                    refused(format!(
                        "cannot be reduced to less than half the current value {current}"
                    ))
                } else {
                    Ok(())
                }
            }
            (Value::Int(given), Some(Value::Int(current))) if THREADS.contains(&name) => {
                let (given, current) = (*given, current);
                let refused =
                    |bound| Err(BrokerConfigError::Threads { name, given, current, bound });
                if given > current.saturating_mul(2) {
                    refused("not be greater than double")
                } else if given < current / 2 {
                    refused("be at least half")
                } else {
                    Ok(())
                }
            }
            (Value::Int(0), _) if name == keys::MAX_CONNECTIONS.name => {
                Err(BrokerConfigError::NoConnections)
            }
            (Value::Int(given), _) if name == keys::MESSAGE_MAX_BYTES.name => {
                let limit =
                    self.values.long(&keys::COMMITLOG_SEGMENT_BYTES) - SEGMENT_OVERHEAD_BYTES;
                if i64::from(*given) > limit {
                    return Err(BrokerConfigError::LargerThanSegment { given: *given, limit });
                }
                Ok(())
            }
            (Value::Long(0), _) if name == keys::LOG_RETENTION_MS.name => {
                Err(BrokerConfigError::NoRetention)
            }
            (Value::Text(_) | Value::List(_), _) if CLASSES.contains(&name) => {
                let class = value.to_string();
                if class.is_empty() {
                    return Ok(());
                }
                Err(BrokerConfigError::Class { name, class })
            }
            (_, _) => Ok(()),
        }
    }

    /// This configuration under settings made since the start, for this broker and for all. They
    /// replace those it may have had before.
    #[must_use]
    pub fn with_dynamic(&self, of_this: &Settings, of_all: &Settings) -> Self {
        let values = self.values.under(Dynamic::read(of_this), Dynamic::read(of_all));
        let (listeners, dir) = (self.network.listeners.clone(), self.storage.dir.clone());
        let native = self.native.listeners.clone();
        let node = (self.node.id, self.node.quorum.clone());
        let parts = Parts::read(&values, node, listeners, native, dir);
        let mut network = parts.network;
        network.connections_max = network.connections_max.min(self.connections_room);
        Self {
            values,
            connections_room: self.connections_room,
            node: parts.node,
            network,
            native: parts.native,
            storage: parts.storage,
            topics: parts.topics,
            fetch: parts.fetch,
            producer: parts.producer,
            group: parts.group,
            half: parts.half,
            warnings: self.warnings.clone(),
        }
    }

    /// Bounds `max.connections`, now and whatever is set later, to what the system has room for.
    pub fn bound_connections(&mut self, room: usize) {
        self.connections_room = room;
        self.network.connections_max = self.network.connections_max.min(room);
    }

    /// The parts of a list in force, to be appended to or taken from; `None` for a key that is not
    /// known, an error for one that is no list.
    ///
    /// # Errors
    /// The key is known and no list.
    pub fn broker_list(&self, name: &str) -> Result<Option<Vec<String>>, NotAList> {
        let Some(key) = broker_key(name) else { return Ok(None) };
        match self.values.own(key) {
            _ if key.kind != Kind::List => Err(NotAList),
            Some(Value::List(parts)) => Ok(Some(parts)),
            Some(_) | None => Ok(Some(Vec::new())),
        }
    }
}

/// The key is not of type list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAList;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(scope: BrokerScope, settings: &[(&str, &str)]) -> String {
        let config = Config::of(&[]).unwrap();
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        config.validate_broker(&settings, scope).map_or_else(|e| e.to_string(), |()| String::new())
    }

    /// Each line is what Apache Kafka 4.3 says to the same change.
    #[test]
    fn a_change_is_taken_or_refused_as_kafka_does() {
        use BrokerScope::{All, One};
        for (scope, name, value, expected) in [
            (One, "log.retention.ms", "1000000", ""),
            (All, "log.retention.ms", "-5", ""),
            (
                One,
                "log.retention.ms",
                "abc",
                "Invalid value abc for configuration log.retention.ms: Not a number of type LONG",
            ),
            (
                One,
                "log.retention.ms",
                "0",
                "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
            ),
            (
                One,
                "log.retention.hours",
                "3",
                "Cannot update these configs dynamically: [log.retention.hours]",
            ),
            (
                All,
                "num.partitions",
                "3",
                "Cannot update these configs dynamically: [num.partitions]",
            ),
            (
                One,
                "replica.fetch.min.bytes",
                "3",
                "Cannot update these configs dynamically: [replica.fetch.min.bytes]",
            ),
            (One, "num.io.threads", "9", ""),
            (One, "num.io.threads", "16", ""),
            (One, "num.io.threads", "4", ""),
            (
                One,
                "num.io.threads",
                "17",
                "Dynamic thread count update validation failed for num.io.threads=17, value should not be greater than double the current value 8",
            ),
            (
                One,
                "num.io.threads",
                "3",
                "Dynamic thread count update validation failed for num.io.threads=3, value should be at least half the current value 8",
            ),
            (
                One,
                "num.io.threads",
                "0",
                "Invalid value 0 for configuration num.io.threads: Value must be at least 1",
            ),
            (One, "log.cleaner.threads", "2", ""),
            (
                One,
                "log.cleaner.threads",
                "3",
                "Log cleaner threads cannot be increased to more than double the current value 1",
            ),
            (All, "log.cleaner.threads", "0", "Log cleaner threads should be at least 1"),
            (One, "foo.bar", "1", ""),
            (All, "retention.ms", "5", ""),
            (
                One,
                "compression.type",
                "bad",
                "Invalid value bad for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
            ),
            (One, "message.max.bytes", "2000000", ""),
            (
                All,
                "message.max.bytes",
                "",
                "Invalid value  for configuration message.max.bytes: Not a number of type INT",
            ),
            (One, "max.connections", "0", "Invalid max.connections 0"),
            (One, "max.connections.per.ip", "0", ""),
            (One, "log.cleanup.policy", "", ""),
            (
                One,
                "log.cleanup.policy",
                "x",
                "Invalid value x for configuration log.cleanup.policy: String must be one of: compact, delete",
            ),
            (One, "sasl.jaas.config", "abc", ""),
            (
                All,
                "sasl.jaas.config",
                "abc",
                "Cannot update these configs at default cluster level, broker id must be specified: [sasl.jaas.config]",
            ),
            (
                One,
                "ssl.keystore.location",
                "/x",
                "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.keystore.location]",
            ),
            (
                All,
                "listeners",
                "PLAINTEXT://:1",
                "Cannot update these configs at default cluster level, broker id must be specified: [listeners]",
            ),
            (
                One,
                "principal.builder.class",
                "x",
                "Invalid value x for configuration principal.builder.class: Class x could not be found.",
            ),
            (One, "metric.reporters", "", ""),
            (One, "log.flush.interval.ms", "5", ""),
            (
                One,
                "leader.replication.throttled.rate",
                "-5",
                "Invalid value -5 for configuration leader.replication.throttled.rate: Value must be at least 0",
            ),
            (One, "config.providers", "x", ""),
        ] {
            assert_eq!(refusal(scope, &[(name, value)]), expected, "{name}={value}");
        }
        let several = [("message.max.bytes", "abc"), ("node.id", "7"), ("num.partitions", "8")];
        let expected = "Cannot update these configs dynamically: [node.id, num.partitions]";
        assert_eq!(refusal(One, &several), expected);
    }

    #[test]
    fn what_braid_cannot_change_while_it_runs_is_refused_in_its_own_words() {
        for name in ["listeners", "listener.name.plaintext.max.connections", "cordoned.log.dirs"] {
            let why = refusal(BrokerScope::One, &[(name, "x")]);
            assert!(why.starts_with(&format!("Braid reads {name} at its start only")), "{why}");
        }
        let why = refusal(BrokerScope::All, &[("message.max.bytes", "1000000000")]);
        assert!(why.contains("must fit into braid.commitlog.segment.bytes"), "{why}");
    }

    #[test]
    fn a_broker_beats_all_brokers_beats_the_start_beats_the_default() {
        let start =
            Config::of(&[("message.max.bytes", "1000"), ("log.retention.hours", "5")]).unwrap();
        let set = |name: &str, value: &str| Settings::from([(name.to_owned(), value.to_owned())]);
        let topic = |config: &Config| config.topic(&BTreeMap::new());
        let none = Settings::new();
        assert_eq!(topic(&start).batch_size_bytes_max, 1000);
        let of_all = start.with_dynamic(&none, &set("message.max.bytes", "2000"));
        assert_eq!(topic(&of_all).batch_size_bytes_max, 2000);
        let both = of_all
            .with_dynamic(&set("message.max.bytes", "3000"), &set("message.max.bytes", "2000"));
        assert_eq!(topic(&both).batch_size_bytes_max, 3000);
        assert_eq!(topic(&both.with_dynamic(&none, &none)), topic(&start));
        assert_eq!(topic(&start).retention_ms, Some(5 * 3_600_000));
        let by_ms = start.with_dynamic(&none, &set("log.retention.ms", "77"));
        assert_eq!(topic(&by_ms).retention_ms, Some(77), "stronger than hours");
        let limited = start.with_dynamic(&set("max.connections", "7"), &none);
        assert_eq!((limited.network.connections_max, &limited.node), (7, &start.node));
        let mut narrow = start.clone();
        narrow.bound_connections(5);
        assert_eq!(narrow.network.connections_max, 5);
        let limited = narrow.with_dynamic(&set("max.connections", "7"), &none);
        assert_eq!(limited.network.connections_max, 5, "the system has no room for more");
    }
}
