//! Every key with its value, as DescribeConfigs and `--check-config` show them.
//!
//! Which synonyms are listed, and in which order, follows Kafka to the letter: all names of a
//! setting, the settings of this broker before those of all brokers before those of the start
//! before the defaults; what stands before the first that bears the key's own name is left out.

use std::collections::BTreeMap;

use super::broker as keys;
use super::client_metrics;
use super::group::GROUP_KEYS;
use super::key::{Effect, Key, Kind, Update};
use super::keys_by_name::{broker_key, broker_keys};
use super::live::Settings;
use super::load::Config;
use super::source::Origin;
use super::topic::{TOPIC_KEYS, value_in_force};
use super::value::{HIDDEN, Value};
use super::values::Dynamic;

/// Where a value comes from, by the codes of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic's own setting.
    Topic,
    /// Set for this broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefaultBroker,
    /// The broker's file, environment or command line.
    StaticBroker,
    /// The declared default.
    Default,
    /// The subscription's own setting.
    ClientMetrics,
    /// The group's own setting.
    Group,
}

impl ConfigSource {
    /// The code in a DescribeConfigs response.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::ClientMetrics => 7,
            Self::Group => 8,
        }
    }
}

/// A value under one of the names that a setting has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The name.
    pub name: String,
    /// The value under that name, in its own unit; `None` when it is sensitive.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The key.
    pub name: String,
    /// Its type; `None` for a key that nobody knows.
    pub kind: Option<Kind>,
    /// The value in force; `None` is null, and stands for every sensitive value.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// All values the setting has, strongest first.
    pub synonyms: Vec<ConfigSynonym>,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether its value is never shown.
    pub sensitive: bool,
    /// What it does, with what is missing here; `None` for a key that nobody knows.
    pub documentation: Option<String>,
}

impl Described {
    fn known(key: &Key, value: Option<String>, synonyms: Vec<ConfigSynonym>) -> Self {
        Self {
            name: key.name.to_owned(),
            kind: Some(key.kind),
            value: if key.sensitive() { None } else { value },
            source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
            synonyms,
            read_only: false,
            sensitive: key.sensitive(),
            documentation: Some(documentation(key)),
        }
    }

    /// A key that nobody knows may hold a secret.
    fn stranger(name: &str, synonyms: Vec<ConfigSynonym>) -> Self {
        Self {
            name: name.to_owned(),
            kind: None,
            value: None,
            source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
            synonyms,
            read_only: true,
            sensitive: true,
            documentation: None,
        }
    }
}

fn documentation(key: &Key) -> String {
    let doc = key.doc_text();
    match key.effect {
        Effect::Full => doc.to_owned(),
        Effect::Partial(missing) | Effect::Refused(missing) => format!("{doc} {missing}"),
        Effect::Nothing(because) => format!("{doc} It has no effect in Braid because {because}."),
    }
}

impl Config {
    /// Every broker key, sorted by name.
    #[must_use]
    pub fn describe_broker(&self) -> Vec<Described> {
        let known = broker_keys().map(|key| {
            let synonyms = self.broker_synonyms(key);
            let value = match key.name {
                // The two names of the node are one setting.
                name if is_node(name) => Some(self.node.id.to_string()),
                _ => self.values.own(key).map(|value| value.to_string()),
            };
            let read_only = key.update == Update::ReadOnly;
            Described { read_only, ..Described::known(key, value, synonyms) }
        });
        let values = &self.values;
        let layers = [
            (values.of_this.strangers(), ConfigSource::DynamicBroker),
            (values.of_all.strangers(), ConfigSource::DynamicDefaultBroker),
            (&values.strangers, ConfigSource::StaticBroker),
        ];
        let mut strangers: BTreeMap<&str, Vec<ConfigSynonym>> = BTreeMap::new();
        for (names, source) in layers {
            for name in names {
                let synonym = ConfigSynonym { name: name.clone(), value: None, source };
                strangers.entry(name).or_default().push(synonym);
            }
        }
        let strangers =
            strangers.into_iter().map(|(name, synonyms)| Described::stranger(name, synonyms));
        let mut all: Vec<Described> = known.chain(strangers).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What was set for all brokers while they run, sorted by name.
    #[must_use]
    pub fn describe_all_brokers(&self) -> Vec<Described> {
        let source = ConfigSource::DynamicDefaultBroker;
        let of_all = &self.values.of_all;
        let known = of_all.known().filter_map(broker_key).map(|key| {
            let value = of_all.value(key.name).map(ToString::to_string);
            let synonym = synonym(key, of_all.value(key.name), source);
            let read_only = key.update == Update::ReadOnly;
            Described { read_only, ..Described::known(key, value, synonym.into_iter().collect()) }
        });
        let strangers = of_all.strangers().iter().map(|name| {
            let synonym = ConfigSynonym { name: name.clone(), value: None, source };
            Described::stranger(name, vec![synonym])
        });
        let mut all: Vec<Described> = known.chain(strangers).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Every topic key, sorted by name, for a topic with these settings of its own.
    #[must_use]
    pub fn describe_topic(&self, own: &Settings) -> Vec<Described> {
        TOPIC_KEYS
            .iter()
            .map(|key| {
                let value = value_in_force(key, own, &self.values).to_string();
                let of_broker = match key.synonyms.first().and_then(|s| broker_key(s.name)) {
                    Some(broker_key) => self.broker_synonyms(broker_key),
                    None => Vec::new(),
                };
                over(key, own, value, ConfigSource::Topic, of_broker)
            })
            .collect()
    }

    /// Every key of a group, sorted by name, for one with these settings of its own.
    #[must_use]
    pub fn describe_group(&self, own: &Settings) -> Vec<Described> {
        GROUP_KEYS
            .iter()
            .map(|key| {
                let value = value_in_force(key, own, &self.values);
                let of_broker = match key.synonyms.first().and_then(|s| broker_key(s.name)) {
                    Some(broker_key) => self.broker_synonyms(broker_key),
                    // Kafka names the key itself where the broker has no such key.
                    None => {
                        let default = key.default_value();
                        synonym(key, default.as_ref(), ConfigSource::Default).into_iter().collect()
                    }
                };
                over(key, own, value.to_string(), ConfigSource::Group, of_broker)
            })
            .collect()
    }

    /// The honoured broker settings that have been set, with where they stand; sensitive values
    /// hidden.
    pub fn settings(&self) -> impl Iterator<Item = (&'static Key, String, &Origin)> {
        keys::honoured().filter_map(|key| {
            let setting = self.values.setting(key.name)?;
            let text = if key.sensitive() { HIDDEN.to_owned() } else { setting.value.to_string() };
            Some((key, text, &setting.origin))
        })
    }

    /// The values a key has at the broker under its names, strongest first, from the first that
    /// bears its own name.
    fn broker_synonyms(&self, key: &'static Key) -> Vec<ConfigSynonym> {
        let names: Vec<&'static Key> = if key.synonyms.is_empty() || is_one_of_two(key.name) {
            vec![key]
        } else {
            key.synonyms.iter().filter_map(|synonym| broker_key(synonym.name)).collect()
        };
        let values = &self.values;
        let dynamic = |layer: &Dynamic, source| -> Vec<ConfigSynonym> {
            names.iter().filter_map(|key| synonym(key, layer.value(key.name), source)).collect()
        };
        let mut all = dynamic(&values.of_this, ConfigSource::DynamicBroker);
        all.extend(dynamic(&values.of_all, ConfigSource::DynamicDefaultBroker));
        all.extend(names.iter().filter_map(|key| {
            let set = self.set_at_start(key)?;
            synonym(key, Some(&set), ConfigSource::StaticBroker)
        }));
        all.extend(
            names.iter().filter_map(|key| {
                synonym(key, key.default_value().as_ref(), ConfigSource::Default)
            }),
        );
        let unnamed = all.iter().position(|synonym| synonym.name == key.name).unwrap_or(all.len());
        all.drain(..unnamed);
        all
    }

    /// What the broker started with; the two names of the node are set together.
    fn set_at_start(&self, key: &Key) -> Option<Value> {
        let set = |name: &str| self.values.setting(name).map(|setting| setting.value.clone());
        if is_node(key.name) {
            return set(keys::NODE_ID.name).or_else(|| set(keys::BROKER_ID.name));
        }
        set(key.name)
    }
}

fn is_node(name: &str) -> bool {
    name == keys::NODE_ID.name || name == keys::BROKER_ID.name
}

/// Names that stand for each other when they are read and are told apart when they are shown.
fn is_one_of_two(name: &str) -> bool {
    is_node(name) || name == keys::LOG_DIRS.name || name == keys::LOG_DIR.name
}

/// One value under one name, if there is one.
fn synonym(key: &Key, value: Option<&Value>, source: ConfigSource) -> Option<ConfigSynonym> {
    let text = value?.to_string();
    let value = (!key.sensitive()).then_some(text);
    Some(ConfigSynonym { name: key.name.to_owned(), value, source })
}

/// A key that may be set by its owner, over what the broker has for it.
fn over(
    key: &Key,
    own: &Settings,
    value: String,
    source: ConfigSource,
    of_broker: Vec<ConfigSynonym>,
) -> Described {
    let mut synonyms = Vec::new();
    if own.contains_key(key.name) {
        let name = key.name.to_owned();
        synonyms.push(ConfigSynonym { name, value: Some(value.clone()), source });
    }
    synonyms.extend(of_broker);
    Described::known(key, Some(value), synonyms)
}

/// Every key of a subscription to clients' metrics, for one with these settings.
#[must_use]
pub fn describe_client_metrics(own: &Settings) -> Vec<Described> {
    client_metrics::KEYS
        .iter()
        .map(|key| {
            let set = own.get(key.name).and_then(|text| key.parse(text).ok());
            let value = set.or_else(|| key.default_value()).map(|value| value.to_string());
            over(key, own, value.unwrap_or_default(), ConfigSource::ClientMetrics, Vec::new())
        })
        .collect()
}
