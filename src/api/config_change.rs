//! What AlterConfigs and IncrementalAlterConfigs share: a resource's new settings are worked out
//! and checked as a whole, then what differs is proposed. A resource changes whole or not at all.
//!
//! Topics, brokers, groups and subscriptions to clients' metrics are kept in the metadata; levels
//! of loggers hold until the process ends.

use std::collections::{BTreeMap, BTreeSet};

use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::command::{ConfigChange, SetTopicConfigs};
use braid_raft::image::TopicImage;
use braid_raft::outcome::SetTopicConfigsRejection;

use super::Broker;
use super::error::propose_code;
use crate::config::{
    Kind, Settings, TopicConfigError, nearest_topic_key, topic_key, topic_settings_without_effect,
};

mod of_broker;
mod of_loggers;
mod of_resource;

pub(super) type Refusal = (ErrorCode, String);

/// Longest value that can be stored.
const VALUE_SIZE_BYTES_MAX: usize = 32_767;

/// Kafka's numbers of what has a configuration.
pub(super) mod kind {
    pub(in crate::api) const TOPIC: i8 = 2;
    pub(in crate::api) const BROKER: i8 = 4;
    pub(in crate::api) const BROKER_LOGGER: i8 = 8;
    pub(in crate::api) const CLIENT_METRICS: i8 = 16;
    pub(in crate::api) const GROUP: i8 = 32;
}

/// What is to become of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    pub(super) fn of_code(code: i8) -> Result<Self, Refusal> {
        match code {
            0 => Ok(Self::Set),
            1 => Ok(Self::Delete),
            2 => Ok(Self::Append),
            3 => Ok(Self::Subtract),
            _ => Err((ErrorCode::INVALID_REQUEST, format!("Unknown operations type {code}"))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

/// One key of a request.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) operation: Operation,
    pub(super) value: Option<StrBytes>,
}

/// How the entries of a resource are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each says what becomes of its key; the others stay.
    Incremental,
    /// They are all the resource has afterwards.
    Replace,
}

/// One resource of a request.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) kind: i8,
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
}

/// The resources that a request names more than once.
pub(super) fn named_twice<'a>(
    names: impl Iterator<Item = (i8, &'a str)>,
) -> BTreeSet<(i8, String)> {
    let mut seen = BTreeSet::new();
    names
        .filter(|(kind, name)| !seen.insert((*kind, (*name).to_owned())))
        .map(|(kind, name)| (kind, name.to_owned()))
        .collect()
}

/// What a resource named twice gets.
pub(super) fn twice() -> Refusal {
    (ErrorCode::INVALID_REQUEST, "Each resource must appear at most once.".to_owned())
}

/// Changes one resource, or only says whether that could be done.
pub(super) async fn alter(
    broker: &Broker,
    resource: Resource,
    mode: Mode,
    validate_only: bool,
) -> Result<(), Refusal> {
    check_entries(&resource.entries)?;
    // What is appended to must not change in between.
    let Ok(_alone) = broker.config_changes.acquire().await else {
        unreachable!("the semaphore is never closed")
    };
    match resource.kind {
        kind::TOPIC => alter_topic(broker, &resource, mode, validate_only).await,
        kind::BROKER => of_broker::alter(broker, &resource, mode, validate_only).await,
        kind::BROKER_LOGGER if mode == Mode::Incremental => {
            of_loggers::alter(broker, &resource, validate_only)
        }
        kind::GROUP => of_resource::alter_group(broker, &resource, mode, validate_only).await,
        kind::CLIENT_METRICS => {
            of_resource::alter_client_metrics(broker, &resource, mode, validate_only).await
        }
        kind => Err(invalid_request(format!("Unknown resource type {kind}"))),
    }
}

fn invalid_request(why: impl Into<String>) -> Refusal {
    (ErrorCode::INVALID_REQUEST, why.into())
}

fn invalid_config(why: impl Into<String>) -> Refusal {
    (ErrorCode::INVALID_CONFIG, why.into())
}

/// Another broker changes its own settings.
fn of_this_broker(broker: &Broker, name: &str) -> Result<(), Refusal> {
    let own = broker.config.node.id.0;
    match name.parse::<i32>() {
        Ok(id) if id == own => Ok(()),
        Ok(id) => {
            let why = format!("Unexpected broker id, expected {own}, but received {id}");
            Err(invalid_request(why))
        }
        Err(_) => Err(invalid_request(format!("Node id must be an integer, but it is: {name}"))),
    }
}

fn check_entries(entries: &[Entry]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    if !entries.iter().all(|entry| seen.insert(&entry.key)) {
        return Err((ErrorCode::INVALID_REQUEST, "Error due to duplicate config keys".to_owned()));
    }
    let is_null = |e: &&Entry| e.operation != Operation::Delete && e.value.is_none();
    let nulls: Vec<&str> = entries.iter().filter(is_null).map(|entry| &*entry.key).collect();
    if nulls.is_empty() {
        Ok(())
    } else {
        let why = format!("Null value not supported for : {}", nulls.join(", "));
        Err((ErrorCode::INVALID_REQUEST, why))
    }
}

async fn alter_topic(
    broker: &Broker,
    resource: &Resource,
    mode: Mode,
    validate_only: bool,
) -> Result<(), Refusal> {
    if resource.name.is_empty() {
        return Err(invalid_request("Default topic resources are not allowed."));
    }
    braid_raft::plan::names::check(&resource.name)
        .map_err(|error| (ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()))?;
    let image = broker.metadata.image();
    let topic = image.topic(&resource.name);
    let empty = BTreeMap::new();
    let before = topic.map_or(&empty, |topic| &topic.configs);
    let config = broker.live.load();
    let after = settings_after(before, &resource.entries, mode, |entry| {
        let key = of_type_list(entry, topic_key(&entry.key).map(|key| key.kind))?;
        let described = config.describe_topic(before).into_iter().find(|d| d.name == key);
        let value = described.and_then(|described| described.value).unwrap_or_default();
        Ok(parts(&value))
    })?;
    let given = after.iter().map(|(key, value)| (key.as_str(), Some(value.as_str())));
    let after = config.validate_topic(given).map_err(|error| invalid_config(hinted(&error)))?;
    let Some(topic) = topic else {
        let why = format!("The topic '{}' does not exist.", resource.name);
        return Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, why));
    };
    let changes = difference(before, &after);
    if validate_only || changes.is_empty() {
        return Ok(());
    }
    say_what_has_no_effect(topic, &changes);
    let outcome = broker.metadata.propose(SetTopicConfigs { topic: topic.id, changes }).await;
    match outcome.map_err(|error| (propose_code(&error), error.to_string()))? {
        Ok(()) => Ok(()),
        Err(rejection @ SetTopicConfigsRejection::UnknownId(_)) => {
            Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, rejection.to_string()))
        }
    }
}

/// The settings that a resource would have, not yet checked. `list` gives the parts of the list
/// that an entry is to be appended to or taken from.
fn settings_after(
    before: &Settings,
    entries: &[Entry],
    mode: Mode,
    list: impl Fn(&Entry) -> Result<Vec<String>, Refusal>,
) -> Result<Settings, Refusal> {
    let mut after = match mode {
        Mode::Incremental => before.clone(),
        Mode::Replace => Settings::new(),
    };
    for entry in entries {
        let value = entry.value.as_deref().unwrap_or_default();
        let value = match entry.operation {
            Operation::Delete => {
                after.remove(&entry.key);
                continue;
            }
            Operation::Set => value.to_owned(),
            Operation::Append | Operation::Subtract => edited(list(entry)?, value, entry.operation),
        };
        if value.len() > VALUE_SIZE_BYTES_MAX {
            return Err(invalid_config(format!(
                "The configuration value cannot be added because it exceeds the maximum value \
                 size of {VALUE_SIZE_BYTES_MAX} bytes."
            )));
        }
        after.insert(entry.key.clone(), value);
    }
    Ok(after)
}

/// The entry's key, if it is a list.
fn of_type_list(entry: &Entry, kind: Option<Kind>) -> Result<&str, Refusal> {
    if kind == Some(Kind::List) {
        return Ok(&entry.key);
    }
    let (operation, key) = (entry.operation.name(), &entry.key);
    Err(invalid_config(format!("Can't {operation} to key {key} because its type is not LIST.")))
}

fn parts(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn edited(mut current: Vec<String>, value: &str, operation: Operation) -> String {
    for part in parts(value) {
        if operation == Operation::Subtract {
            current.retain(|one| *one != part);
        } else if !current.contains(&part) {
            current.push(part);
        }
    }
    current.join(",")
}

/// Kafka's sentence, and the name that was perhaps meant.
fn hinted(error: &TopicConfigError) -> String {
    match error {
        TopicConfigError::Unknown(name) => match nearest_topic_key(name) {
            Some(near) => format!("{error}. Did you mean {near}?"),
            None => error.to_string(),
        },
        TopicConfigError::Null(_)
        | TopicConfigError::Invalid(_)
        | TopicConfigError::CompactionLags { .. }
        | TopicConfigError::TieredStorage => error.to_string(),
    }
}

fn difference(before: &Settings, after: &Settings) -> Vec<ConfigChange> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone = gone.map(|key| ConfigChange { key: key.clone(), value: None });
    let set = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let set = set.map(|(key, value)| ConfigChange { key: key.clone(), value: Some(value.clone()) });
    gone.chain(set).collect()
}

fn say_what_has_no_effect(topic: &TopicImage, changes: &[ConfigChange]) {
    let set: Settings = changes
        .iter()
        .filter_map(|change| Some((change.key.clone(), change.value.clone()?)))
        .collect();
    for (key, because) in topic_settings_without_effect(&set) {
        tracing::warn!(topic = %topic.name, "{} has no effect because {because}", key.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn entry(key: &str, operation: Operation, value: Option<&'static str>) -> Entry {
        let value = value.map(StrBytes::from_static_str);
        Entry { key: key.to_owned(), operation, value }
    }

    #[test]
    fn a_difference_turns_the_old_settings_into_the_new() {
        let before = settings(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let after = settings(&[("a", "1"), ("b", "9"), ("d", "4")]);
        let mut changed = before.clone();
        let changes = difference(&before, &after);
        assert_eq!(changes.len(), 3, "what stays is no change");
        for change in changes {
            match change.value {
                Some(value) => changed.insert(change.key, value),
                None => changed.remove(&change.key),
            };
        }
        assert_eq!(changed, after);
    }

    #[test]
    fn appending_adds_each_part_once_and_subtracting_takes_them_away() {
        for (current, value, operation, expected) in [
            ("delete", "compact", Operation::Append, "delete,compact"),
            ("delete", "delete, compact", Operation::Append, "delete,compact"),
            ("", "compact", Operation::Append, "compact"),
            ("compact,delete", "compact", Operation::Subtract, "delete"),
            ("delete", "delete", Operation::Subtract, ""),
            ("delete", "compact", Operation::Subtract, "delete"),
        ] {
            assert_eq!(edited(parts(current), value, operation), expected, "{current} {value}");
        }
    }

    #[test]
    fn keys_named_twice_and_values_missing_are_refused() {
        let set = |key| entry(key, Operation::Set, Some("1"));
        let (code, why) = check_entries(&[set("a"), set("b"), set("a")]).unwrap_err();
        assert_eq!(
            (code, &*why),
            (ErrorCode::INVALID_REQUEST, "Error due to duplicate config keys")
        );
        let missing = entry("b", Operation::Append, None);
        let (_, why) = check_entries(&[set("a"), missing]).unwrap_err();
        assert_eq!(why, "Null value not supported for : b");
        assert!(check_entries(&[entry("a", Operation::Delete, None)]).is_ok());
    }

    #[test]
    fn a_resource_named_three_times_is_refused_once_by_name() {
        let names = [(2, "a"), (2, "b"), (4, "a"), (2, "a"), (2, "a")];
        let twice = named_twice(names.into_iter());
        assert_eq!(twice, BTreeSet::from([(2, "a".to_owned())]));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
        let unknown = TopicConfigError::Unknown("retention.sm".to_owned());
        let hint = hinted(&unknown);
        assert_eq!(hint, "Unknown topic config name: retention.sm. Did you mean retention.ms?");
    }
}
