//! What has been set, by key, and the value in force where nothing has.
//!
//! A key can be set under one of several names (`log.retention.ms`, `.minutes`, `.hours`); asking
//! for the setting means asking the names in order of strength, set ones before defaults.

use std::collections::BTreeMap;

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

/// Everything that has been set for the broker, all of it valid.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Values {
    set: BTreeMap<&'static str, Setting>,
}

impl Values {
    pub(super) fn set(&mut self, key: &'static Key, setting: Setting) {
        self.set.insert(key.name, setting);
    }

    /// What has been set under exactly this name.
    pub(super) fn setting(&self, name: &str) -> Option<&Setting> {
        self.set.get(name)
    }

    /// The value of exactly this key: set, else its default.
    pub(super) fn own(&self, key: &Key) -> Option<Value> {
        match self.set.get(key.name) {
            Some(setting) => Some(setting.value.clone()),
            None => key.default_value(),
        }
    }

    /// The value that a key's synonyms give it, in the key's unit: the strongest that has been
    /// set, else the strongest default.
    pub(super) fn through_synonyms(&self, key: &Key) -> Option<Value> {
        let set = key.synonyms.iter().find_map(|synonym| {
            let setting = self.set.get(synonym.name)?;
            Some(converted(&setting.value, synonym))
        });
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
