//! Finding the declaration of a broker key, and the nearest name to a wrong one.

use super::key::Key;
use super::{broker, foreign, group, inert, topic};

/// Every topic key, sorted by name.
#[must_use]
pub fn topic_keys() -> &'static [Key] {
    topic::TOPIC_KEYS
}

/// Every broker key: the honoured ones, then those without effect.
pub fn broker_keys() -> impl Iterator<Item = &'static Key> {
    broker::honoured().chain(inert::INERT).chain(foreign::FOREIGN)
}

/// Every key of a group, sorted by name.
#[must_use]
pub fn group_keys() -> &'static [Key] {
    group::GROUP_KEYS
}

/// The broker key of that name.
#[must_use]
pub fn broker_key(name: &str) -> Option<&'static Key> {
    broker_keys().find(|key| key.name == name)
}

/// Why Kafka's keys of this name's family do nothing here, if the family is known.
pub(super) fn family(name: &str) -> Option<&'static str> {
    let member = |family: &str| match family.strip_suffix('.') {
        Some(_) => name.starts_with(family),
        None => name == family,
    };
    inert::FAMILIES.iter().find(|(family, _)| member(family)).map(|(_, why)| *why)
}

/// A broker key that was perhaps meant: the broker's name of a topic key, else a name that differs
/// by a slip of the hand.
pub(super) fn perhaps(name: &str) -> Option<&'static str> {
    if let Some(synonym) = topic::topic_key(name).and_then(|key| key.synonyms.first()) {
        return Some(synonym.name);
    }
    broker_keys()
        .map(|key| (strsim::damerau_levenshtein(key.name, name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, near)| near)
}

/// A topic key whose name differs from a wrong one by a slip of the hand.
#[must_use]
pub fn nearest_topic_key(name: &str) -> Option<&'static str> {
    topic::TOPIC_KEYS
        .iter()
        .map(|key| (strsim::damerau_levenshtein(key.name, name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, near)| near)
}
