//! Configuration: Kafka's own key names, each declared once, typed for the parts that obey them.
//!
//! [`Config::load`] merges command line, environment and file over the declared defaults, checks
//! everything and says all that is wrong at once. A key of Kafka that does nothing here is known
//! and warned about, an unknown one is warned about, a wrong value stops the start. Parts receive
//! their own struct ([`StorageConfig`], [`GroupConfig`], …) and nothing else; a topic's settings
//! over the broker's are [`Config::topic`]. What is set while the broker runs makes another
//! [`Config`]; [`LiveConfig`] holds the one in force. No task or thread runs here.

mod broker;
mod client_metrics;
mod describe;
mod dynamic;
mod environment;
mod fault;
mod foreign;
mod group;
mod inert;
mod key;
mod keys_by_name;
mod listener;
mod live;
mod load;
mod native;
mod parts;
mod quorum;
mod source;
mod topic;
mod url;
mod value;
mod values;

#[cfg(test)]
mod described;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use client_metrics::{ClientMetricsError, validate_client_metrics};
pub use describe::{ConfigSource, ConfigSynonym, Described, describe_client_metrics};
pub use dynamic::{BrokerConfigError, BrokerScope, NotAList};
pub use fault::{Fault, LoadError, Located, Warning};
pub use group::{
    BackoffConfig, DeliveryConfig, GroupConfigError, HALF_CHECK_WEBHOOK_NAME, RestTable, group_key,
    group_settings_without_effect,
};
pub use key::{Check, Effect, Key, Kind, Synonym, Update};
pub use keys_by_name::{broker_key, broker_keys, group_keys, nearest_topic_key, topic_keys};
pub use listener::{ListenerConfig, ListenerError};
pub use live::{LiveConfig, Settings};
pub use load::Config;
pub use native::{NativeListenerConfig, NativeListenerError};
pub use parts::{
    CleanerConfig, FetchConfig, GroupConfig, HalfConfig, NativeConfig, NetworkConfig, NodeConfig,
    ProducerConfig, StorageConfig, TopicsConfig,
};
pub use quorum::{QuorumConfig, QuorumError};
pub use source::{FileError, Origin, Sources};
pub use topic::{
    CompactionConfig, Compression, FORGOTTEN_TOPIC_KEYS, MessageType, TimestampType, TopicConfig,
    TopicConfigError, is_internal_topic, topic_key, topic_settings_without_effect,
};
pub use url::HttpUrl;
pub use value::{InvalidValue, Value};
