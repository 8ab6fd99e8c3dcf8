//! The keys of a subscription to clients' metrics, and the checks of a change to them.
//!
//! They are kept and told as Kafka does. As a Kafka without a receiver of client telemetry, the
//! broker asks no client for metrics.

use super::key::{Key, keys};
use super::live::Settings;
use super::value::{InvalidValue, Value};

const NO_RECEIVER: &str = "nothing here receives clients' metrics";

keys! {
    /// Every key of a subscription, sorted by name.
    KEYS:
    /// How often in milliseconds a client pushes its metrics.
    INTERVAL_MS = Key::int("interval.ms", "300000").nothing(NO_RECEIVER);
    /// Which clients push, as a list of name=pattern over what is known of a client.
    MATCH = Key::list("match", "").nothing(NO_RECEIVER);
    /// Which metrics are pushed, as a list of beginnings of their names; `*` is all.
    METRICS = Key::list("metrics", "").nothing(NO_RECEIVER);
}

const INTERVAL_MS_MIN: i32 = 100;
const INTERVAL_MS_MAX: i32 = 3_600_000;
/// What clients are told apart by.
const SELECTORS: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Why a subscription's settings are refused. Prints as Kafka does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientMetricsError {
    /// No key has this name (INVALID_REQUEST).
    #[error("Unknown client metrics configuration: {0}")]
    Unknown(String),
    /// Too often or too seldom (INVALID_REQUEST).
    #[error("Invalid value {0} for interval.ms, interval must be between 100 and 3600000 (1 hour)")]
    Interval(i32),
    /// A value is not of the type (INVALID_CONFIG).
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A selector that is none, or a pattern that does not read (INVALID_CONFIG).
    #[error("Illegal client matching pattern: {0}")]
    Pattern(String),
}

/// Checks all settings that a subscription would have.
///
/// # Errors
/// The first thing wrong.
pub fn validate_client_metrics(settings: &Settings) -> Result<(), ClientMetricsError> {
    for (name, text) in settings {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(ClientMetricsError::Unknown(name.clone()));
        };
        match key.parse(text)? {
            Value::Int(ms) if !(INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&ms) => {
                return Err(ClientMetricsError::Interval(ms));
            }
            Value::List(patterns) if key.name == MATCH.name => {
                if let Some(wrong) = patterns.iter().find(|pattern| !selects(pattern)) {
                    return Err(ClientMetricsError::Pattern(wrong.clone()));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a selector is one, and its pattern reads.
fn selects(text: &str) -> bool {
    text.split_once('=').is_some_and(|(selector, pattern)| {
        SELECTORS.contains(&selector.trim()) && regex::Regex::new(pattern.trim()).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is what Apache Kafka 4.3 says to the same change.
    #[test]
    fn a_change_is_taken_or_refused_as_kafka_does() {
        for (name, value, expected) in [
            ("interval.ms", "1000", ""),
            (
                "interval.ms",
                "10",
                "Invalid value 10 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
            ),
            (
                "interval.ms",
                "abc",
                "Invalid value abc for configuration interval.ms: Not a number of type INT",
            ),
            ("metrics", "", ""),
            ("metrics", "*", ""),
            ("match", "client_id=a.*", ""),
            ("match", "client_id=a,client_software_name=b", ""),
            ("match", "client_id", "Illegal client matching pattern: client_id"),
            ("match", "foo=bar", "Illegal client matching pattern: foo=bar"),
            ("match", "client_id=[", "Illegal client matching pattern: client_id=["),
            ("foo", "1", "Unknown client metrics configuration: foo"),
        ] {
            let settings = Settings::from([(name.to_owned(), value.to_owned())]);
            let told = validate_client_metrics(&settings)
                .map_or_else(|e| e.to_string(), |()| String::new());
            assert_eq!(told, expected, "{name}={value}");
        }
    }
}
