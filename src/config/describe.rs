//! Every key with its value, as DescribeConfigs and `--check-config` show them.

use std::collections::BTreeMap;

use super::key::{Effect, Key, Kind, Update};
use super::keys_by_name::{broker_key, broker_keys};
use super::load::Config;
use super::source::Origin;
use super::topic::{TOPIC_KEYS, value_in_force};

/// Where a value comes from, by the codes of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic's own setting.
    Topic,
    /// The broker's file, environment or command line.
    StaticBroker,
    /// The declared default.
    Default,
}

impl ConfigSource {
    /// The code in a DescribeConfigs response.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// A value under one of the names that a setting has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The name.
    pub name: &'static str,
    /// The value under that name, in its own unit; `None` when it is sensitive.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The declaration.
    pub key: &'static Key,
    /// The value in force; `None` is null, and stands for every sensitive value.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// All values the setting has, strongest first.
    pub synonyms: Vec<ConfigSynonym>,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
}

impl Described {
    /// What it does, with what is missing here.
    #[must_use]
    pub fn documentation(&self) -> String {
        let doc = self.key.doc_text();
        match self.key.effect {
            Effect::Full => doc.to_owned(),
            Effect::Partial(missing) | Effect::Refused(missing) => format!("{doc} {missing}"),
            Effect::Nothing(because) => {
                format!("{doc} It has no effect in Braid because {because}.")
            }
        }
    }
}

impl Config {
    /// Every broker key, sorted by name.
    #[must_use]
    pub fn describe_broker(&self) -> Vec<Described> {
        let mut all: Vec<Described> = broker_keys().map(|key| self.describe(key)).collect();
        all.sort_by_key(|described| described.key.name);
        all
    }

    /// Every topic key, sorted by name, for a topic with these settings of its own.
    #[must_use]
    pub fn describe_topic(&self, own: &BTreeMap<String, String>) -> Vec<Described> {
        TOPIC_KEYS.iter().map(|key| self.describe_for_topic(key, own)).collect()
    }

    /// The honoured broker settings that have been set, with where they stand; sensitive values
    /// hidden.
    pub fn settings(&self) -> impl Iterator<Item = (&'static Key, String, &Origin)> {
        super::broker::honoured().filter_map(|key| {
            let setting = self.values.setting(key.name)?;
            let text = if key.sensitive() {
                super::value::HIDDEN.to_owned()
            } else {
                setting.value.to_string()
            };
            Some((key, text, &setting.origin))
        })
    }

    fn describe(&self, key: &'static Key) -> Described {
        let synonyms = self.broker_synonyms(key);
        let source = synonyms.first().map_or(ConfigSource::Default, |first| first.source);
        let value = match key.kind {
            Kind::Password => None,
            // The two names of the node are one setting.
            _ if key.name == super::broker::NODE_ID.name
                || key.name == super::broker::BROKER_ID.name =>
            {
                Some(self.node.id.to_string())
            }
            _ => self.values.own(key).map(|value| value.to_string()),
        };
        let read_only = key.update == Update::ReadOnly;
        Described { key, value, source, synonyms, read_only }
    }

    fn describe_for_topic(&self, key: &'static Key, own: &BTreeMap<String, String>) -> Described {
        let value = value_in_force(key, own, &self.values).to_string();
        let mut synonyms = Vec::new();
        if own.contains_key(key.name) {
            synonyms.push(ConfigSynonym {
                name: key.name,
                value: Some(value.clone()),
                source: ConfigSource::Topic,
            });
        }
        if !key.synonyms.is_empty() {
            synonyms.extend(self.broker_synonyms(key));
        }
        let source = synonyms.first().map_or(ConfigSource::Default, |first| first.source);
        Described { key, value: Some(value), source, synonyms, read_only: false }
    }

    /// The values a key has at the broker under its names: those set, then the defaults.
    fn broker_synonyms(&self, key: &'static Key) -> Vec<ConfigSynonym> {
        let own = [key];
        let names: Vec<&'static Key> = if key.synonyms.is_empty() {
            own.to_vec()
        } else {
            key.synonyms.iter().filter_map(|synonym| broker_key(synonym.name)).collect()
        };
        let shown = |key: &Key, text: String| (!key.sensitive()).then_some(text);
        let set = names.iter().filter_map(|key| {
            let setting = self.values.setting(key.name)?;
            let value = shown(key, setting.value.to_string());
            Some(ConfigSynonym { name: key.name, value, source: ConfigSource::StaticBroker })
        });
        let defaults = names.iter().filter_map(|key| {
            let value = shown(key, key.default_value()?.to_string());
            Some(ConfigSynonym { name: key.name, value, source: ConfigSource::Default })
        });
        set.chain(defaults).collect()
    }
}
