//! What has been set, by key, at the start and since, and the value in force where nothing has.
//!
//! A key can be set under one of several names (`log.retention.ms`, `.minutes`, `.hours`); asking
//! for the setting means asking the names in order of strength, set ones before defaults.

use std::collections::{BTreeMap, BTreeSet};

use super::key::{Key, Synonym};
use super::keys_by_name;
use super::source::Origin;
use super::value::Value;

/// One value that a user has set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Settings made while the broker runs, for one broker or for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Dynamic {
    known: BTreeMap<&'static str, Value>,
    strangers: BTreeSet<String>,
}

impl Dynamic {
    /// Reads stored texts. One that no longer reads (the rules have become stricter since) counts
    /// as not set.
    pub(super) fn read(settings: &BTreeMap<String, String>) -> Self {
        let mut read = Self::default();
        for (name, text) in settings {
            match keys_by_name::broker_key(name) {
                None => drop(read.strangers.insert(name.clone())),
                Some(key) => {
                    if let Ok(value) = key.parse(text) {
                        read.known.insert(key.name, value);
                    }
                }
            }
        }
        read
    }

    /// What has been set under exactly this name.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.known.get(name)
    }

    /// Names of keys that have been set.
    pub(super) fn known(&self) -> impl Iterator<Item = &'static str> {
        self.known.keys().copied()
    }

    /// Names that have been set and that nobody knows.
    pub(super) fn strangers(&self) -> &BTreeSet<String> {
        &self.strangers
    }
}

/// Everything that has been set for the broker, all of it valid.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Values {
    /// Where the broker started from.
    set: BTreeMap<&'static str, Setting>,
    /// Names set there that nobody knows.
    pub(super) strangers: BTreeSet<String>,
    /// What was set later for all brokers; stronger than `set`.
    pub(super) of_all: Dynamic,
    /// What was set later for this broker; stronger than `of_all`.
    pub(super) of_this: Dynamic,
}

impl Values {
    /// What the broker started with, under settings made since.
    pub(super) fn under(&self, of_this: Dynamic, of_all: Dynamic) -> Self {
        Self { of_this, of_all, ..self.clone() }
    }

    pub(super) fn set(&mut self, key: &'static Key, setting: Setting) {
        self.set.insert(key.name, setting);
    }

    /// What the broker started with under exactly this name.
    pub(super) fn setting(&self, name: &str) -> Option<&Setting> {
        self.set.get(name)
    }

    /// What stands under exactly this name, by whomever it was set.
    fn stated(&self, name: &str) -> Option<&Value> {
        let dynamic = self.of_this.value(name).or_else(|| self.of_all.value(name));
        dynamic.or_else(|| self.set.get(name).map(|setting| &setting.value))
    }

    /// The value of exactly this key: set, else its default.
    pub(super) fn own(&self, key: &Key) -> Option<Value> {
        self.stated(key.name).cloned().or_else(|| key.default_value())
    }

    /// The value that a key's synonyms give it, in the key's unit: the strongest that has been
    /// set, else the strongest default.
    pub(super) fn through_synonyms(&self, key: &Key) -> Option<Value> {
        let set = key
            .synonyms
            .iter()
            .find_map(|synonym| Some(converted(self.stated(synonym.name)?, synonym)));
        set.or_else(|| {
            key.synonyms.iter().find_map(|synonym| {
                let default = keys_by_name::broker_key(synonym.name)?.default_value()?;
                Some(converted(&default, synonym))
            })
        })
    }

    fn required(&self, key: &Key) -> Value {
        self.own(key).unwrap_or_else(|| unreachable!("{} has a default", key.name))
    }

    pub(super) fn boolean(&self, key: &Key) -> bool {
        match self.required(key) {
            Value::Boolean(value) => value,
            other => unreachable!("{} is no boolean: {other:?}", key.name),
        }
    }

    pub(super) fn int(&self, key: &Key) -> i32 {
        match self.required(key) {
            Value::Int(value) => value,
            other => unreachable!("{} is no int: {other:?}", key.name),
        }
    }

    pub(super) fn short(&self, key: &Key) -> i16 {
        match self.required(key) {
            Value::Short(value) => value,
            other => unreachable!("{} is no short: {other:?}", key.name),
        }
    }

    pub(super) fn long(&self, key: &Key) -> i64 {
        match self.required(key) {
            Value::Long(value) => value,
            other => unreachable!("{} is no long: {other:?}", key.name),
        }
    }

    pub(super) fn double(&self, key: &Key) -> f64 {
        match self.required(key) {
            Value::Double(value) => value,
            other => unreachable!("{} is no double: {other:?}", key.name),
        }
    }

    pub(super) fn text(&self, key: &Key) -> String {
        match self.required(key) {
            Value::Text(value) => value,
            other => unreachable!("{} is no text: {other:?}", key.name),
        }
    }

    /// A text that may be unset; empty counts as unset.
    pub(super) fn optional_text(&self, key: &Key) -> Option<String> {
        match self.own(key)? {
            Value::Text(value) => (!value.is_empty()).then_some(value),
            other => unreachable!("{} is no text: {other:?}", key.name),
        }
    }

    /// A list that may be unset.
    pub(super) fn list(&self, key: &Key) -> Vec<String> {
        match self.own(key) {
            None => Vec::new(),
            Some(Value::List(values)) => values,
            Some(other) => unreachable!("{} is no list: {other:?}", key.name),
        }
    }
}

/// A synonym's value in the unit of the key it stands for. No time is negative except -1.
fn converted(value: &Value, synonym: &Synonym) -> Value {
    let scaled = |n: i64| if n < 0 { -1 } else { n.saturating_mul(synonym.factor) };
    match value {
        Value::Int(n) if synonym.factor != 1 => Value::Long(scaled(i64::from(*n))),
        Value::Long(n) if synonym.factor != 1 => Value::Long(scaled(*n)),
        same => same.clone(),
    }
}
