//! What AlterConfigs and IncrementalAlterConfigs share: a resource's new settings are worked out
//! and checked as a whole, then what differs is proposed. A resource changes whole or not at all.
//!
//! Topics change at once. A broker's settings are read at its start only, so setting one is refused
//! in Kafka's words; taking one away that was never set is no change.

use std::collections::{BTreeMap, BTreeSet};

use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::command::{ConfigChange, SetTopicConfigs};
use braid_raft::image::TopicImage;
use braid_raft::outcome::SetTopicConfigsRejection;

use super::Broker;
use super::error::propose_code;
use crate::config::{
    Kind, TopicConfigError, nearest_topic_key, topic_key, topic_settings_without_effect,
};

pub(super) type Refusal = (ErrorCode, String);

/// Settings of one resource.
type Settings = BTreeMap<String, String>;

/// Longest value that can be stored.
const VALUE_SIZE_BYTES_MAX: usize = 32_767;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

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
    match resource.kind {
        TOPIC => alter_topic(broker, &resource, mode, validate_only).await,
        BROKER => alter_broker(broker, &resource),
        BROKER_LOGGER if mode == Mode::Incremental => {
            let why = "Log levels cannot be changed while the broker runs: start it with the \
                       levels wanted in RUST_LOG.";
            Err((ErrorCode::INVALID_REQUEST, why.to_owned()))
        }
        kind => Err((
            ErrorCode::INVALID_REQUEST,
            format!("Unknown resource type {kind}. Braid has settings of topics (2) only."),
        )),
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
        let why = "Default topic resources are not allowed.";
        return Err((ErrorCode::INVALID_REQUEST, why.to_owned()));
    }
    braid_raft::plan::names::check(&resource.name)
        .map_err(|error| (ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()))?;
    // What is appended to must not change in between.
    let Ok(_alone) = broker.config_changes.acquire().await else {
        unreachable!("the semaphore is never closed")
    };
    let image = broker.metadata.image();
    let topic = image.topic(&resource.name);
    let empty = BTreeMap::new();
    let before = topic.map_or(&empty, |topic| &topic.configs);
    let after = settings_after(broker, before, &resource.entries, mode)?;
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

fn settings_after(
    broker: &Broker,
    before: &Settings,
    entries: &[Entry],
    mode: Mode,
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
            Operation::Append | Operation::Subtract => {
                let current = list_in_force(broker, before, entry)?;
                edited(current, value, entry.operation)
            }
        };
        if value.len() > VALUE_SIZE_BYTES_MAX {
            let why = format!(
                "The configuration value cannot be added because it exceeds the maximum value \
                 size of {VALUE_SIZE_BYTES_MAX} bytes."
            );
            return Err((ErrorCode::INVALID_CONFIG, why));
        }
        after.insert(entry.key.clone(), value);
    }
    let given = after.iter().map(|(key, value)| (key.as_str(), Some(value.as_str())));
    broker.config.validate_topic(given).map_err(|error| (ErrorCode::INVALID_CONFIG, hinted(&error)))
}

/// The parts of the list that stands, the topic's own or what it has from the broker.
fn list_in_force(
    broker: &Broker,
    before: &Settings,
    entry: &Entry,
) -> Result<Vec<String>, Refusal> {
    let Some(key) = topic_key(&entry.key).filter(|key| key.kind == Kind::List) else {
        let (operation, key) = (entry.operation.name(), &entry.key);
        let why = format!("Can't {operation} to key {key} because its type is not LIST.");
        return Err((ErrorCode::INVALID_CONFIG, why));
    };
    let described = broker.config.describe_topic(before).into_iter().find(|d| d.key == key);
    let value = described.and_then(|described| described.value).unwrap_or_default();
    Ok(parts(&value))
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

fn alter_broker(broker: &Broker, resource: &Resource) -> Result<(), Refusal> {
    let own = broker.config.node.id.0;
    if !resource.name.is_empty() {
        let why = match resource.name.parse::<i32>() {
            Ok(id) if id == own => None,
            Ok(id) => Some(format!("Unexpected broker id, expected {own}, but received {id}")),
            Err(_) => Some(format!("Node id must be an integer, but it is: {}", resource.name)),
        };
        if let Some(why) = why {
            return Err((ErrorCode::INVALID_REQUEST, why));
        }
    }
    let set = resource.entries.iter().filter(|entry| entry.operation != Operation::Delete);
    let set: Vec<&str> = set.map(|entry| &*entry.key).collect();
    if set.is_empty() {
        return Ok(());
    }
    let why = format!(
        "Cannot update these configs dynamically: Set({}). Braid reads a broker's settings at its \
         start: set them in its configuration file and start it again.",
        set.join(", ")
    );
    Err((ErrorCode::INVALID_REQUEST, why))
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
