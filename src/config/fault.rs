//! What can be wrong with a configuration, and what is only worth a warning.
//!
//! A fault names the key, what was given, what is right and where it stands; the broker does not
//! start with one. A warning says that something was understood and does nothing, or less than
//! its author may think.

use std::fmt;

use super::key::{Effect, Key};
use super::listener::ListenerError;
use super::native::NativeListenerError;
use super::quorum::QuorumError;
use super::source::{FileError, Origin};
use super::value::InvalidValue;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Settings are wrong; all that could be found are listed.
    #[error("{}", first(faults))]
    Faults {
        /// At least one.
        faults: Vec<Located>,
        /// What else was worth saying.
        warnings: Vec<Warning>,
    },
}

fn first(faults: &[Located]) -> String {
    let others = faults.len().saturating_sub(1);
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    if others == 0 { first } else { format!("{first} (and {others} more)") }
}

/// A fault and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Located {
    /// What is wrong.
    pub fault: Fault,
    /// Where the setting stands; `None` when a default is in conflict with a setting.
    pub origin: Option<Origin>,
}

impl Located {
    /// Where it stands and what to do, in one line.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.origin {
            Some(origin) => format!("set {origin}; {}", self.fault.hint()),
            None => self.fault.hint(),
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A value of the wrong type or out of bounds.
    #[error(transparent)]
    Value(InvalidValue),
    /// A value in another encoding.
    #[error("Invalid value {given} for configuration {}: the text is not UTF-8", key.name)]
    Encoding {
        /// The key.
        key: &'static Key,
        /// What could be read of it.
        given: String,
    },
    /// Wrong listeners.
    #[error(transparent)]
    Listener(ListenerError),
    /// Wrong listeners of the native API.
    #[error(transparent)]
    NativeListener(NativeListenerError),
    /// A key that cannot be ignored and is not supported.
    #[error("Invalid value {given} for configuration {}: {}", key.name, why(key))]
    Refused {
        /// The key.
        key: &'static Key,
        /// What was given.
        given: String,
    },
    /// More than one data directory.
    #[error("Invalid value {given} for configuration {key}: one directory is expected")]
    DataDirs {
        /// log.dirs or log.dir.
        key: &'static str,
        /// What was given.
        given: String,
    },
    /// Two names of one setting disagree.
    #[error("Invalid value {given} for configuration broker.id: node.id is {node_id}")]
    NodeIds {
        /// broker.id.
        given: i32,
        /// node.id.
        node_id: i32,
    },
    /// A process that would not be a broker.
    #[error("Invalid value {given} for configuration process.roles: the role broker is missing")]
    NoBroker {
        /// process.roles.
        given: String,
    },
    /// A wrong quorum.
    #[error(transparent)]
    Quorum(QuorumError),
    /// A cluster of several nodes was asked for without saying who votes.
    #[error(
        "Invalid value {given} for configuration controller.quorum.bootstrap.servers: a cluster of several nodes needs controller.quorum.voters"
    )]
    Cluster {
        /// What was given.
        given: String,
    },
    /// One limit must not exceed another.
    #[error(
        "Invalid value {given} for configuration {low}: must not exceed {high}, which is {limit}"
    )]
    Exceeds {
        /// The key that is too large.
        low: &'static str,
        /// Its value.
        given: i64,
        /// The key that bounds it.
        high: &'static str,
        /// The bound.
        limit: i64,
    },
}

fn why(key: &Key) -> &'static str {
    match key.effect {
        Effect::Refused(why) | Effect::Partial(why) | Effect::Nothing(why) => why,
        Effect::Full => "",
    }
}

impl Fault {
    /// The key that is to be corrected.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Value(error) => &error.name,
            Self::Listener(error) => error.key(),
            Self::NativeListener(_) => "braid.native.listeners",
            Self::Refused { key, .. } | Self::Encoding { key, .. } => key.name,
            Self::DataDirs { key, .. } => key,
            Self::Quorum(error) => error.key(),
            Self::Cluster { .. } => "controller.quorum.bootstrap.servers",
            Self::NodeIds { .. } => "broker.id",
            Self::NoBroker { .. } => "process.roles",
            Self::Exceeds { low, .. } => low,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Value(error) => match super::broker_key(&error.name) {
                Some(key @ &Key { default: Some(default), .. }) => {
                    format!("expected {}; the default is {default}", key.expected())
                }
                Some(key) => format!("expected {}, or leave it out", key.expected()),
                None => "leave it out".to_owned(),
            },
            Self::Encoding { .. } => "write it in UTF-8".to_owned(),
            Self::Listener(error) => error.hint(),
            Self::NativeListener(error) => error.hint(),
            Self::Refused { key, .. } => match key.default {
                Some(default) if !default.is_empty() => {
                    format!("leave it out, or set {}={default}", key.name)
                }
                Some(_) | None => "leave it out".to_owned(),
            },
            Self::DataDirs { .. } => {
                "name one directory; all partitions share one CommitLog".to_owned()
            }
            Self::NodeIds { .. } => "set one of the two".to_owned(),
            Self::NoBroker { .. } => {
                "set process.roles=broker,controller or leave it out".to_owned()
            }
            Self::Quorum(error) => error.hint(),
            Self::Cluster { .. } => {
                "set controller.quorum.voters=id@host:port,… with all nodes of the cluster"
                    .to_owned()
            }
            Self::Exceeds { low, high, .. } => format!("lower {low} or raise {high}"),
        }
    }
}

/// Something understood that does not do what its author may think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// No such key.
    Unknown {
        /// The name.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// A key that was perhaps meant.
        perhaps: Option<&'static str>,
    },
    /// A key of Kafka without effect here.
    NoEffect {
        /// The name.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// Completes "because …".
        because: &'static str,
    },
    /// A key that does less than in Kafka.
    Partly {
        /// The key.
        name: &'static str,
        /// Where it stands.
        origin: Origin,
        /// What is missing; a sentence.
        missing: &'static str,
    },
    /// A setting that a stronger synonym hides.
    Hidden {
        /// The weaker key.
        name: &'static str,
        /// Where it stands.
        origin: Origin,
        /// The stronger key.
        by: &'static str,
    },
    /// A listener that is not opened.
    ControllerListener {
        /// Its name.
        name: String,
    },
    /// A listener that other machines reach, without login or encryption.
    Exposed {
        /// Its name.
        name: String,
        /// The address it binds.
        address: String,
    },
    /// The native API where other machines reach it.
    NativeExposed {
        /// The address it binds.
        address: String,
    },
    /// More replicas asked for than there are brokers.
    Replicas {
        /// The key.
        name: &'static str,
        /// Its value.
        given: i64,
        /// Whether this node is one of a cluster.
        in_cluster: bool,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, origin, perhaps: Some(near) } => {
                write!(f, "unknown configuration {name}, set {origin}; did you mean {near}?")
            }
            Self::Unknown { name, origin, perhaps: None } => {
                write!(f, "unknown configuration {name}, set {origin}")
            }
            Self::NoEffect { name, origin, because } => {
                write!(f, "{name}, set {origin}, has no effect in Braid because {because}")
            }
            Self::Partly { name, origin, missing } => {
                write!(f, "{name}, set {origin}, has only a part of its effect. {missing}")
            }
            Self::Hidden { name, origin, by } => {
                write!(f, "{name}, set {origin}, has no effect because {by} is set too")
            }
            Self::ControllerListener { name } => {
                write!(
                    f,
                    "listener {name} is not opened: the metadata quorum of one node needs no socket"
                )
            }
            Self::Exposed { name, address } => write!(
                f,
                "listener {name} on {address} is open to other machines, without login or encryption"
            ),
            Self::NativeExposed { address } => write!(
                f,
                "the native API on {address} is open to other machines: everybody who reaches it may read, write and delete everything"
            ),
            Self::Replicas {
                name: name @ "default.replication.factor",
                given,
                in_cluster: true,
            } => {
                write!(
                    f,
                    "{name} is {given}, and counts as 1: each partition is on one broker alone unless braid.replication.enable is true"
                )
            }
            Self::Replicas { name, given, in_cluster: true } => write!(
                f,
                "{name} is {given}, and counts as 1: what groups and transactions keep is on one broker alone for now"
            ),
            Self::Replicas { name, given, in_cluster: false } => write!(
                f,
                "{name} is {given}, but there is one broker: topics that ask for more than one replica cannot be created"
            ),
        }
    }
}
