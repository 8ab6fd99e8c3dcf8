//! What may change the cluster's metadata: one struct per command, and the bytes of each in the
//! metadata log.
//!
//! A command carries everything that applying it needs: its time, its random ids, its replica
//! lists. [`apply`](crate::apply::apply) invents nothing, so every node arrives at the same image.
//!
//! The bytes are postcard's: a documented, stable, positional format, a few bytes per field. Being
//! positional is wanted: a node that does not know a command must stop, not skip a field and
//! drift away from the others. Hence the rule for changes: a variant of [`MetadataCommand`] keeps
//! its place and its fields for ever; what must differ is a new variant at the end.

use std::collections::BTreeMap;
use std::fmt;

use braid_base::model::{BrokerId, TopicId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::outcome::Outcome;

mod shards;

pub use shards::{
    AdmitDirectory, ChangeSyncSet, CreateShards, DrainBroker, ElectLeaders, ElectionKind, NewShard,
    ShardElection, StartBroker,
};

/// A cluster's name: for a cluster formed by Braid, 22 characters of base64url like Kafka's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(String);

impl ClusterId {
    /// The id as given by an operator or read from a file.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id of a new cluster, from sixteen random bytes. As Kafka's ids it never begins with
    /// a dash, which command line tools would take for a flag.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> Self {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = uuid.as_u128();
        let mut id: String = (0..22)
            .map(|digit| {
                // 21 digits of six bits from the top; the last holds the two that remain.
                let six = if digit < 21 { bits >> (122 - 6 * digit) } else { bits << 4 };
                char::from(ALPHABET[usize::from((six & 63) as u8)])
            })
            .collect();
        if id.starts_with('-') {
            id.replace_range(0..1, "A");
        }
        Self(id)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names the cluster, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInit {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Finalized feature levels by name (`metadata.version`, `group.version`, …).
    pub features: BTreeMap<String, i16>,
}

/// Where a broker's listener is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Listener name (`PLAINTEXT`, `INTERNAL`, …).
    pub listener: String,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
}

/// Makes a broker known, or tells that it started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBroker {
    /// The broker's number.
    pub broker: BrokerId,
    /// Random, new at every start of the process.
    pub incarnation: Uuid,
    /// Its listeners, each name once.
    pub endpoints: Vec<Endpoint>,
    /// Its rack, if it has one.
    pub rack: Option<String>,
    /// Wall time of the registration.
    pub registered_ms: i64,
}

/// `count` partitions, one after the other, on the same replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRun {
    /// How many partitions; at least one.
    pub count: u32,
    /// Their replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
}

/// One topic to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its id: random, unique per creation.
    pub id: TopicId,
    /// Its partitions, in order from number zero.
    pub partitions: Vec<PartitionRun>,
    /// Its own configs.
    pub configs: BTreeMap<String, String>,
}

/// Creates topics. Each has its own result: one bad topic does not fail the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopics {
    /// The topics, created in this order.
    pub topics: Vec<NewTopic>,
    /// Wall time of the creation.
    pub created_ms: i64,
}

/// Deletes topics, each with its own result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopics {
    /// The topics, by id, so that a topic made again under the same name is safe.
    pub topics: Vec<TopicId>,
}

/// Adds partitions to a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatePartitions {
    /// The topic.
    pub topic: TopicId,
    /// The number of partitions it had when this was planned; another number is refused.
    pub expected_count: u32,
    /// The partitions to add.
    pub added: Vec<PartitionRun>,
}

/// One key to set, or to delete when there is no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// The new value; none takes the key away.
    pub value: Option<String>,
}

/// Changes a topic's own configs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTopicConfigs {
    /// The topic.
    pub topic: TopicId,
    /// The changes, in order.
    pub changes: Vec<ConfigChange>,
}

/// Changes a broker's dynamic configs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBrokerConfigs {
    /// The broker; none is the default of all brokers.
    pub broker: Option<BrokerId>,
    /// The changes, in order.
    pub changes: Vec<ConfigChange>,
}

/// Something other than a topic or a broker that has dynamic configs. The order of the variants is
/// part of the format.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConfigResource {
    /// A group, by its id. It need not exist.
    Group(String),
    /// A subscription to clients' metrics, by its name.
    ClientMetrics(String),
}

/// Changes the dynamic configs of a [`ConfigResource`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetResourceConfigs {
    /// Whose.
    pub resource: ConfigResource,
    /// The changes, in order.
    pub changes: Vec<ConfigChange>,
}

/// Sets aside a block of producer ids for one broker to hand out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateProducerIds {
    /// How many; at least one.
    pub count: u32,
}

/// Says that a broker is not heard any more, or is heard again. Partitions on a fenced broker alone
/// have no leader; of replicated shards it leaves the set in sync, and another one leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceBroker {
    /// The broker.
    pub broker: BrokerId,
    /// The life of it that was judged; another one is left alone.
    pub incarnation: Uuid,
    /// Whether it is fenced from now on.
    pub fenced: bool,
}

/// Everything the metadata log may say. The order of the variants is part of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataCommand {
    /// See [`ClusterInit`].
    ClusterInit(ClusterInit),
    /// See [`RegisterBroker`].
    RegisterBroker(RegisterBroker),
    /// See [`CreateTopics`].
    CreateTopics(CreateTopics),
    /// See [`DeleteTopics`].
    DeleteTopics(DeleteTopics),
    /// See [`CreatePartitions`].
    CreatePartitions(CreatePartitions),
    /// See [`SetTopicConfigs`].
    SetTopicConfigs(SetTopicConfigs),
    /// See [`SetBrokerConfigs`].
    SetBrokerConfigs(SetBrokerConfigs),
    /// See [`AllocateProducerIds`].
    AllocateProducerIds(AllocateProducerIds),
    /// See [`SetResourceConfigs`].
    SetResourceConfigs(SetResourceConfigs),
    /// See [`FenceBroker`].
    FenceBroker(FenceBroker),
    /// See [`CreateShards`].
    CreateShards(CreateShards),
    /// See [`ChangeSyncSet`].
    ChangeSyncSet(ChangeSyncSet),
    /// See [`ElectLeaders`].
    ElectLeaders(ElectLeaders),
    /// See [`StartBroker`].
    StartBroker(StartBroker),
    /// See [`DrainBroker`].
    DrainBroker(DrainBroker),
    /// See [`AdmitDirectory`].
    AdmitDirectory(AdmitDirectory),
}

/// A command together with the type of its answer.
pub trait Command: Into<MetadataCommand> {
    /// What applying it yields.
    type Outcome;

    /// This command's part of the general outcome; none when it belongs to another command.
    fn outcome(outcome: Outcome) -> Option<Self::Outcome>;
}

/// The bytes are not a command this version knows.
#[derive(Debug, thiserror::Error)]
pub enum CommandDecodeError {
    /// An unknown variant (written by a newer version), or damage that the checksum missed.
    #[error("a metadata command is unknown to this version or malformed: {0}")]
    Unknown(#[from] postcard::Error),
    /// Bytes follow the command's end.
    #[error("{0} bytes follow the end of a metadata command")]
    Trailing(usize),
}

impl MetadataCommand {
    /// The command's bytes.
    ///
    /// # Panics
    /// Never: every field has a known length and the target grows.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match postcard::to_stdvec(self) {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("commands always serialize: {error}"),
        }
    }

    /// The command of the bytes.
    ///
    /// # Errors
    /// The bytes are not exactly one command that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandDecodeError> {
        let (command, rest) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() { Ok(command) } else { Err(CommandDecodeError::Trailing(rest.len())) }
    }
}

#[cfg(test)]
mod tests;
