//! From sources to a [`Config`]: merge, look up, check, and say everything that is wrong at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use braid_base::env::Fs;
use braid_base::model::BrokerId;

use super::broker as keys;
use super::environment;
use super::fault::{Fault, LoadError, Located, Warning};
use super::group::{self, DeliveryConfig, GroupConfigError};
use super::key::{Effect, Key};
use super::keys_by_name::{broker_key, family, perhaps};
use super::listener::{self, ControllerListener, ListenerConfig, ListenerKeys};
use super::native::{self, NativeListenerConfig};
use super::parts::{self, Parts};
use super::quorum::{self, QuorumConfig, QuorumKeys};
use super::source::{self, Given, Origin, Sources};
use super::topic::{self, TopicConfig, TopicConfigError};
use super::value::{HIDDEN, Value};
use super::values::{Setting, Values};
use super::{
    FetchConfig, GroupConfig, HalfConfig, NativeConfig, NetworkConfig, NodeConfig, ProducerConfig,
};
use super::{StorageConfig, TopicsConfig};

/// The broker's configuration, checked. It never changes; settings made while the broker runs make
/// another ([`Config::with_dynamic`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(super) values: Values,
    /// Connections that the system has room for.
    pub(super) connections_room: usize,
    /// Who this broker is.
    pub node: NodeConfig,
    /// Sockets.
    pub network: NetworkConfig,
    /// The native API.
    pub native: NativeConfig,
    /// The data directory.
    pub storage: StorageConfig,
    /// How topics come and go.
    pub topics: TopicsConfig,
    /// Fetch limits.
    pub fetch: FetchConfig,
    /// Idempotent producers.
    pub producer: ProducerConfig,
    /// Consumer groups.
    pub group: GroupConfig,
    /// Half messages.
    pub half: HalfConfig,
    /// What the operator should know; each is logged once at start.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Reads and checks everything the user has given.
    ///
    /// # Errors
    /// The file cannot be read, or settings are wrong; every wrong setting that could be found is
    /// listed.
    pub fn load(sources: &Sources, fs: &dyn Fs) -> Result<Self, LoadError> {
        let file = match &sources.file {
            Some(path) => source::read(path, fs)?,
            None => Vec::new(),
        };
        let overrides = sources.overrides.iter().map(|(name, text)| Given {
            name: name.trim().to_owned(),
            text: text.clone(),
            origin: Origin::CommandLine,
        });
        let mut given = file;
        given.extend(environment::read(&sources.environment));
        given.extend(overrides);
        Self::check(given)
    }

    /// A configuration of these settings alone, as if given by `-X`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn of(settings: &[(&str, &str)]) -> Result<Self, LoadError> {
        let given = settings.iter().map(|(name, text)| Given {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
            origin: Origin::CommandLine,
        });
        Self::check(given.collect())
    }

    /// Checks a topic's settings as CreateTopics does and returns what is to be stored.
    ///
    /// # Errors
    /// The first thing wrong, in Kafka's words.
    pub fn validate_topic<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<BTreeMap<String, String>, TopicConfigError> {
        topic::validate(settings, &self.values)
    }

    /// Checks a group's settings; what is right is stored as it stands.
    ///
    /// # Errors
    /// The first thing wrong, in Kafka's words.
    pub fn validate_group(
        &self,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), GroupConfigError> {
        group::validate(settings, &self.values)
    }

    /// How messages are delivered to a group with these settings of its own.
    #[must_use]
    pub fn delivery(&self, own: &BTreeMap<String, String>) -> DeliveryConfig {
        group::delivery(own, &self.values)
    }

    /// What is in force for a topic with these settings of its own. Meant to be worked out once
    /// per change of a topic and kept beside it.
    #[must_use]
    pub fn topic(&self, own: &BTreeMap<String, String>) -> TopicConfig {
        topic::in_force(own, &self.values)
    }

    fn check(given: Vec<Given>) -> Result<Self, LoadError> {
        let mut reading = Reading::default();
        for given in strongest(given) {
            reading.take(given);
        }
        reading.finish()
    }
}

/// The last of each name wins; listeners follow advertised listeners where nothing names them.
fn strongest(given: Vec<Given>) -> Vec<Given> {
    let mut by_name: BTreeMap<String, Given> = BTreeMap::new();
    for one in given {
        by_name.insert(one.name.clone(), one);
    }
    if !by_name.contains_key(keys::LISTENERS.name)
        && let Some(advertised) = by_name.get(keys::ADVERTISED_LISTENERS.name)
        && matches!(advertised.origin, Origin::Environment(_))
        && let Some(text) = environment::listeners_of_advertised(&advertised.text)
    {
        let name = keys::LISTENERS.name.to_owned();
        let derived = Given { name: name.clone(), text, origin: advertised.origin.clone() };
        by_name.insert(name, derived);
    }
    by_name.into_values().collect()
}

/// The state of reading: what is valid so far and what is not.
#[derive(Debug, Default)]
struct Reading {
    values: Values,
    /// What single listeners accept in a second, by their names.
    listener_rates: BTreeMap<String, u32>,
    faults: Vec<Located>,
    warnings: Vec<Warning>,
}

impl Reading {
    /// Looks at one setting.
    fn take(&mut self, given: Given) {
        let Some(key) = broker_key(&given.name) else {
            self.values.strangers.insert(given.name.clone());
            let rate = &keys::MAX_CONNECTION_CREATION_RATE;
            if let Some(listener) = listener::named_in(&given.name, rate.name) {
                match rate.parse(&given.text) {
                    Ok(Value::Int(rate)) => {
                        self.listener_rates.insert(listener, parts::per_second(rate));
                    }
                    Ok(other) => unreachable!("{} is no int: {other:?}", rate.name),
                    Err(error) => self.fault(Fault::Value(error), Some(given.origin)),
                }
                return;
            }
            self.warnings.push(stranger(given));
            return;
        };
        if given.text.contains(char::REPLACEMENT_CHARACTER)
            && !matches!(key.effect, Effect::Nothing(_))
        {
            let shown = if key.sensitive() { HIDDEN.to_owned() } else { given.text };
            self.fault(Fault::Encoding { key, given: shown }, Some(given.origin));
            return;
        }
        match (key.effect, key.parse(&given.text)) {
            (Effect::Nothing(because), parsed) => {
                self.warnings.push(Warning::NoEffect {
                    name: key.name.to_owned(),
                    origin: given.origin.clone(),
                    because,
                });
                if let Ok(value) = parsed {
                    self.values.set(key, Setting { value, origin: given.origin });
                }
            }
            (Effect::Full | Effect::Partial(_) | Effect::Refused(_), Err(error)) => {
                self.fault(Fault::Value(error), Some(given.origin));
            }
            (Effect::Refused(_), Ok(value)) if !harmless(key, &value) => {
                let given_text = value.to_string();
                self.fault(Fault::Refused { key, given: given_text }, Some(given.origin));
            }
            (Effect::Full | Effect::Partial(_) | Effect::Refused(_), Ok(value)) => {
                self.values.set(key, Setting { value, origin: given.origin });
            }
        }
    }

    fn fault(&mut self, fault: Fault, origin: Option<Origin>) {
        self.faults.push(Located { fault, origin });
    }

    fn fault_of(&mut self, key: &Key, fault: Fault) {
        let origin = self.values.setting(key.name).map(|setting| setting.origin.clone());
        self.fault(fault, origin);
    }

    /// Checks what concerns several keys, and builds the configuration.
    fn finish(mut self) -> Result<Config, LoadError> {
        let id = self.node_id();
        let dir = self.data_dir();
        let listeners = self.listeners();
        let native = self.native_listeners();
        let quorum = self.roles_and_quorum(id, listeners.as_ref().map_or(&[], |(_, it)| it));
        self.limits();
        self.advice(quorum.is_some());
        let (Some((listeners, for_controllers)), Some(native), true) =
            (listeners, native, self.faults.is_empty())
        else {
            return Err(LoadError::Faults { faults: self.faults, warnings: self.warnings });
        };
        if quorum.is_none() {
            let unopened = for_controllers.into_iter();
            self.warnings.extend(unopened.map(|it| Warning::ControllerListener { name: it.name }));
        }
        let parts = Parts::read(&self.values, (id, quorum), listeners, native, dir);
        Ok(Config {
            values: self.values,
            connections_room: usize::MAX,
            node: parts.node,
            network: parts.network,
            native: parts.native,
            storage: parts.storage,
            topics: parts.topics,
            fetch: parts.fetch,
            producer: parts.producer,
            group: parts.group,
            half: parts.half,
            warnings: self.warnings,
        })
    }

    fn node_id(&mut self) -> BrokerId {
        let set = |reading: &Self, key: &Key| match reading.values.setting(key.name)?.value {
            Value::Int(id) => (id >= 0).then_some(id),
            ref other => unreachable!("{} is no int: {other:?}", key.name),
        };
        match (set(self, &keys::NODE_ID), set(self, &keys::BROKER_ID)) {
            (Some(node_id), Some(given)) if node_id != given => {
                self.fault_of(&keys::BROKER_ID, Fault::NodeIds { given, node_id });
                BrokerId(node_id)
            }
            (Some(id), _) | (None, Some(id)) => BrokerId(id),
            (None, None) => BrokerId(self.values.int(&keys::NODE_ID)),
        }
    }

    fn data_dir(&mut self) -> PathBuf {
        let key = match self.values.setting(keys::LOG_DIRS.name) {
            Some(_) => &keys::LOG_DIRS,
            None => &keys::LOG_DIR,
        };
        match self.values.list(key).as_slice() {
            [one] if !one.is_empty() => PathBuf::from(one),
            dirs => {
                let given = dirs.join(",");
                self.fault_of(key, Fault::DataDirs { key: key.name, given });
                PathBuf::new()
            }
        }
    }

    /// The listeners for clients and those for controllers.
    fn listeners(&mut self) -> Option<(Vec<ListenerConfig>, Vec<ControllerListener>)> {
        let result = listener::read(&ListenerKeys {
            listeners: &self.values.list(&keys::LISTENERS),
            advertised: &self.values.list(&keys::ADVERTISED_LISTENERS),
            protocols: &self.values.text(&keys::LISTENER_SECURITY_PROTOCOL_MAP),
            controllers: &self.values.list(&keys::CONTROLLER_LISTENER_NAMES),
        });
        match result {
            Ok((mut listeners, for_controllers)) => {
                for listener in &mut listeners {
                    if let Some(rate) = self.listener_rates.get(&listener.name) {
                        listener.creations_per_second_max = *rate;
                    }
                }
                let exposed = listeners.iter().filter(|listener| !listener.loopback());
                self.warnings.extend(exposed.map(|listener| Warning::Exposed {
                    name: listener.name.clone(),
                    address: listener.bind_address(),
                }));
                Some((listeners, for_controllers))
            }
            Err(error) => {
                let origin = self.values.setting(error.key()).map(|s| s.origin.clone());
                self.fault(Fault::Listener(error), origin);
                None
            }
        }
    }

    fn native_listeners(&mut self) -> Option<Vec<NativeListenerConfig>> {
        let open = self.values.boolean(&keys::NATIVE_OPEN);
        match native::read(&self.values.list(&keys::NATIVE_LISTENERS), open) {
            Ok(listeners) => {
                let exposed = listeners.iter().filter(|listener| !listener.loopback());
                self.warnings
                    .extend(exposed.map(|l| Warning::NativeExposed { address: l.bind_address() }));
                Some(listeners)
            }
            Err(error) => {
                self.fault_of(&keys::NATIVE_LISTENERS, Fault::NativeListener(error));
                None
            }
        }
    }

    fn roles_and_quorum(
        &mut self,
        id: BrokerId,
        listeners: &[ControllerListener],
    ) -> Option<QuorumConfig> {
        let roles = self.values.list(&keys::PROCESS_ROLES);
        if !roles.iter().any(|role| role == "broker") {
            self.fault_of(&keys::PROCESS_ROLES, Fault::NoBroker { given: roles.join(",") });
        }
        let values = &self.values;
        let voters = values.list(&keys::CONTROLLER_QUORUM_VOTERS);
        let servers = values.list(&super::inert::CONTROLLER_QUORUM_BOOTSTRAP_SERVERS);
        if voters.is_empty() && servers.len() > 1 {
            let given = servers.join(",");
            let key = &super::inert::CONTROLLER_QUORUM_BOOTSTRAP_SERVERS;
            self.fault_of(key, Fault::Cluster { given });
            return None;
        }
        let ms = |key| Duration::from_millis(u64::try_from(values.int(key)).unwrap_or_default());
        let rebalance_s = values.long(&keys::LEADER_IMBALANCE_CHECK_INTERVAL_SECONDS);
        let rebalance_interval = values
            .boolean(&keys::AUTO_LEADER_REBALANCE_ENABLE)
            .then(|| Duration::from_secs(u64::try_from(rebalance_s).unwrap_or_default()));
        let result = quorum::read(&QuorumKeys {
            id,
            voters: &voters,
            roles: &roles,
            listener_names: &values.list(&keys::CONTROLLER_LISTENER_NAMES),
            listeners,
            secret: &values.optional_text(&keys::CLUSTER_SECRET).unwrap_or_default(),
            election_timeout: ms(&keys::CONTROLLER_QUORUM_ELECTION_TIMEOUT_MS),
            heartbeat_interval: ms(&keys::BROKER_HEARTBEAT_INTERVAL_MS),
            session_timeout: ms(&keys::BROKER_SESSION_TIMEOUT_MS),
            rebalance_interval,
            unclean_elections: values.boolean(&keys::UNCLEAN_LEADER_ELECTION_ENABLE),
        });
        match result {
            Ok(quorum) => quorum,
            Err(error) => {
                let origin = self.values.setting(error.key()).map(|s| s.origin.clone());
                self.fault(Fault::Quorum(error), origin);
                None
            }
        }
    }

    /// A limit above the limit it must fit into would block for ever or never be reached.
    fn limits(&mut self) {
        let values = &self.values;
        let pairs = [
            (
                &keys::SOCKET_REQUEST_MAX_BYTES,
                i64::from(values.int(&keys::SOCKET_REQUEST_MAX_BYTES)),
                &keys::REQUEST_MEMORY_BYTES,
                values.long(&keys::REQUEST_MEMORY_BYTES),
            ),
            (
                &keys::MESSAGE_MAX_BYTES,
                i64::from(values.int(&keys::MESSAGE_MAX_BYTES)),
                &keys::COMMITLOG_SEGMENT_BYTES,
                values.long(&keys::COMMITLOG_SEGMENT_BYTES) - SEGMENT_OVERHEAD_BYTES,
            ),
            (
                &keys::BROKER_HEARTBEAT_INTERVAL_MS,
                i64::from(values.int(&keys::BROKER_HEARTBEAT_INTERVAL_MS)),
                &keys::BROKER_SESSION_TIMEOUT_MS,
                i64::from(values.int(&keys::BROKER_SESSION_TIMEOUT_MS)),
            ),
            (
                &keys::GROUP_MIN_SESSION_TIMEOUT_MS,
                i64::from(values.int(&keys::GROUP_MIN_SESSION_TIMEOUT_MS)),
                &keys::GROUP_MAX_SESSION_TIMEOUT_MS,
                i64::from(values.int(&keys::GROUP_MAX_SESSION_TIMEOUT_MS)),
            ),
        ];
        for (low, given, high, limit) in pairs {
            if given > limit {
                let blamed = if self.values.setting(low.name).is_some() { low } else { high };
                let fault = Fault::Exceeds { low: low.name, given, high: high.name, limit };
                self.fault_of(blamed, fault);
            }
        }
    }

    /// What is allowed and probably not meant.
    fn advice(&mut self, in_cluster: bool) {
        let mut seen = BTreeSet::new();
        for key in keys::honoured() {
            let Some(weaker) = self.values.setting(key.name) else { continue };
            let stronger = key
                .synonyms
                .iter()
                .take_while(|synonym| synonym.name != key.name)
                .find(|synonym| self.values.setting(synonym.name).is_some());
            if let Some(stronger) = stronger
                && key.name != keys::BROKER_ID.name
                && seen.insert(key.name)
            {
                self.warnings.push(Warning::Hidden {
                    name: key.name,
                    origin: weaker.origin.clone(),
                    by: stronger.name,
                });
            }
        }
        if let (Effect::Partial(missing), Some(setting)) =
            (keys::LOG_CLEANUP_POLICY.effect, self.values.setting(keys::LOG_CLEANUP_POLICY.name))
            && matches!(&setting.value, Value::List(words) if words.iter().any(|w| w == "compact"))
        {
            self.warnings.push(Warning::Partly {
                name: keys::LOG_CLEANUP_POLICY.name,
                origin: setting.origin.clone(),
                missing,
            });
        }
        let replicas = [
            (&keys::DEFAULT_REPLICATION_FACTOR, self.values.int(&keys::DEFAULT_REPLICATION_FACTOR)),
            (
                &keys::OFFSETS_TOPIC_REPLICATION_FACTOR,
                i32::from(self.values.short(&keys::OFFSETS_TOPIC_REPLICATION_FACTOR)),
            ),
            (
                &keys::TRANSACTION_STATE_LOG_REPLICATION_FACTOR,
                i32::from(self.values.short(&keys::TRANSACTION_STATE_LOG_REPLICATION_FACTOR)),
            ),
        ];
        let replicates = in_cluster && self.values.boolean(&keys::REPLICATION_ENABLE);
        for (key, given) in replicas {
            let is_taken = replicates && key.name == keys::DEFAULT_REPLICATION_FACTOR.name;
            if given > 1 && !is_taken {
                let (name, given) = (key.name, i64::from(given));
                self.warnings.push(Warning::Replicas { name, given, in_cluster });
            }
        }
    }
}

/// Bytes of a CommitLog file that a batch cannot have: its headers, and the last block.
pub(super) const SEGMENT_OVERHEAD_BYTES: i64 = 16_384;

/// Whether a value of a refused key asks for nothing.
fn harmless(key: &Key, value: &Value) -> bool {
    match key.default_value() {
        Some(default) => *value == default,
        None => matches!(value, Value::Text(text) if text.is_empty()),
    }
}

/// The warning for a key without a declaration.
fn stranger(given: Given) -> Warning {
    match family(&given.name) {
        Some(because) => Warning::NoEffect { name: given.name, origin: given.origin, because },
        None => {
            let perhaps = perhaps(&given.name);
            Warning::Unknown { name: given.name, origin: given.origin, perhaps }
        }
    }
}
