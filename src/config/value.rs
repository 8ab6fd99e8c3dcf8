//! Values of keys: read from text, checked, and written back in one way.
//!
//! Reading follows Kafka's rules (blanks around a value do not count, `TRUE` is true, a list is
//! split at commas) and so do the messages, which clients and operators search for.

use std::fmt;
use std::net::IpAddr;

use super::key::{Check, Key, Kind};
use super::url::HttpUrl;

/// A value of a key's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Boolean(bool),
    /// Kafka's string, class and password.
    Text(String),
    Int(i32),
    Short(i16),
    Long(i64),
    Double(f64),
    List(Vec<String>),
}

/// A value that its key does not take. Prints as Kafka's `ConfigException` does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value {given} for configuration {name}: {reason}")]
pub struct InvalidValue {
    /// The key.
    pub name: String,
    /// What was given.
    pub given: String,
    /// What is wrong with it, or what would be right.
    pub reason: String,
}

impl Value {
    /// Reads and checks a value.
    pub(super) fn parse(key: &Key, text: &str) -> Result<Self, InvalidValue> {
        let invalid = |given: &str, reason: String| InvalidValue {
            name: key.name.to_owned(),
            given: if key.sensitive() { HIDDEN.to_owned() } else { given.to_owned() },
            reason,
        };
        let value = Self::of_kind(key.kind, text.trim()).map_err(|r| invalid(text, r))?;
        match violation(key, &value) {
            None => Ok(value),
            Some((given, reason)) => Err(invalid(&given, reason)),
        }
    }

    fn of_kind(kind: Kind, text: &str) -> Result<Self, String> {
        let not_a_number = |_| format!("Not a number of type {}", kind.name());
        Ok(match kind {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Self::Boolean(true),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Self::Boolean(false),
            Kind::Boolean => return Err("Expected value to be either true or false".to_owned()),
            Kind::String | Kind::Class | Kind::Password => Self::Text(text.to_owned()),
            Kind::Int => Self::Int(text.parse().map_err(not_a_number)?),
            Kind::Short => Self::Short(text.parse().map_err(not_a_number)?),
            Kind::Long => Self::Long(text.parse().map_err(not_a_number)?),
            Kind::Double => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Self::Double(number),
                Ok(_) | Err(_) => return Err("Not a number of type DOUBLE".to_owned()),
            },
            Kind::List if text.is_empty() => Self::List(Vec::new()),
            Kind::List => Self::List(text.split(',').map(|one| one.trim().to_owned()).collect()),
        })
    }
}

/// What stands in the place of a sensitive value.
pub(super) const HIDDEN: &str = "[hidden]";

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
            Self::Int(value) => value.fmt(f),
            Self::Short(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            // Java's letter of the exponent.
            Self::Double(value) => f.write_str(&format!("{value:?}").replace('e', "E")),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// What is wrong with a value of the right type: the part that is wrong, and why.
fn violation(key: &Key, value: &Value) -> Option<(String, String)> {
    let whole = |reason: String| (value.to_string(), reason);
    match (key.check, value) {
        (Check::Range(min, max), Value::Int(n)) => out_of_range(min, max, i64::from(*n)).map(whole),
        (Check::Range(min, max), Value::Short(n)) => {
            out_of_range(min, max, i64::from(*n)).map(whole)
        }
        (Check::Range(min, max), Value::Long(n)) => out_of_range(min, max, *n).map(whole),
        (Check::Range(min, max), Value::Double(n)) => real_out_of_range(min, max, *n).map(whole),
        (Check::OneOf(words), Value::Text(text)) => not_among(words, text),
        (Check::EachOf(words), Value::List(texts)) => {
            texts.iter().find_map(|text| not_among(words, text))
        }
        (Check::NonEmpty, Value::List(texts)) => {
            let empty = texts.is_empty() || texts.iter().any(String::is_empty);
            empty.then(|| whole("List must be non-empty, without empty parts".to_owned()))
        }
        (Check::GzipLevel, Value::Int(level)) => (*level != -1 && !(1..=9).contains(level))
            .then(|| whole("Value must be between 1 and 9 or equal to -1".to_owned())),
        (Check::ThrottledReplicas, Value::List(texts)) => (!throttled_replicas(texts)).then(|| {
            let form = "[partitionId]:[brokerId],[partitionId]:[brokerId],...";
            let reason = format!(
                "{} must be the literal '*' or a list of replicas in the following format: {form}",
                key.name
            );
            (format!("[{}]", texts.join(", ")), reason)
        }),
        (Check::ShareOffsetReset, Value::Text(text)) => (!share_offset_reset(text)).then(|| {
            let form = "'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'";
            let (name, given) = (key.name, text);
            whole(format!(
                "Invalid value `{given}` for configuration {name}. The value must be either {form}."
            ))
        }),
        (Check::RestsMs, Value::List(texts)) => {
            let reason = "Expected 1 to 32 durations in ms, none above 604800000 (7 days)";
            rests_ms(texts).is_none().then(|| (texts.join(","), reason.to_owned()))
        }
        (Check::HttpUrl, Value::Text(text)) => {
            let reason = "Expected an address of the form http://host[:port][/path]";
            (!text.is_empty() && HttpUrl::parse(text).is_none()).then(|| whole(reason.to_owned()))
        }
        (Check::ClusterId, Value::Text(text)) => (!cluster_id(text))
            .then(|| whole("Expected 22 characters of URL-safe base64 (a UUID)".to_owned())),
        (Check::CountByAddress, Value::Text(text)) => {
            parts(text).find(|part| address_and_count(part).is_none()).map(|part| {
                (
                    part.to_owned(),
                    "Expected an IP address and a count, as in 10.0.0.1:50".to_owned(),
                )
            })
        }
        (Check::Any, _) => None,
        // A test reads every key's default, so a check that does not fit its type cannot land.
        (check, value) => unreachable!("{}: {check:?} does not fit {value:?}", key.name),
    }
}

/// Reads a list of durations.
pub(super) fn rests_ms(texts: &[String]) -> Option<Vec<u32>> {
    const REST_MS_MAX: u32 = 7 * 24 * 3_600_000;
    let rests: Vec<u32> = texts.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
    let fits = (1..=RESTS_MAX).contains(&rests.len()) && rests.iter().all(|ms| *ms <= REST_MS_MAX);
    fits.then_some(rests)
}

/// Most durations of a list.
pub(super) const RESTS_MAX: usize = 32;

fn out_of_range(min: Option<i64>, max: Option<i64>, n: i64) -> Option<String> {
    match (min, max) {
        (Some(min), _) if n < min => Some(format!("Value must be at least {min}")),
        (_, Some(max)) if n > max => Some(format!("Value must be no more than {max}")),
        (Some(_) | None, Some(_) | None) => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "bounds of fractions are 0 and 1")]
fn real_out_of_range(min: Option<i64>, max: Option<i64>, n: f64) -> Option<String> {
    match (min, max) {
        (Some(min), _) if n < min as f64 => Some(format!("Value must be at least {min}")),
        (_, Some(max)) if n > max as f64 => Some(format!("Value must be no more than {max}")),
        (Some(_) | None, Some(_) | None) => None,
    }
}

fn not_among(words: &[&str], text: &str) -> Option<(String, String)> {
    let reason = || format!("String must be one of: {}", words.join(", "));
    (!words.contains(&text)).then(|| (text.to_owned(), reason()))
}

fn throttled_replicas(texts: &[String]) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = |text: &String| {
        text.split_once(':').is_some_and(|(partition, broker)| number(partition) && number(broker))
    };
    matches!(texts, [one] if one == "*") || texts.iter().all(pair)
}

/// The parts of a list that is kept as one text.
pub(super) fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Reads `10.0.0.1:50` or `[::1]:50`.
pub(super) fn address_and_count(text: &str) -> Option<(IpAddr, usize)> {
    let (address, count) = text.rsplit_once(':')?;
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = address.trim().parse().ok()?;
    let count = count.trim().parse().ok().filter(|count| *count <= i32::MAX as usize)?;
    Some((address.to_canonical(), count))
}

fn share_offset_reset(text: &str) -> bool {
    let by_duration = |text: &str| text.strip_prefix("by_duration:").is_some_and(iso_duration);
    text == "earliest" || text == "latest" || by_duration(text)
}

/// `PnDTnHnMn.nS`, with at least one part, in this order.
fn iso_duration(text: &str) -> bool {
    let Some(parts) = text.strip_prefix('P') else { return false };
    let (days, time) = match parts.split_once('T') {
        Some((_, "")) => return false,
        Some((days, time)) => (days, time),
        None => (parts, ""),
    };
    if days.is_empty() && time.is_empty() {
        return false;
    }
    let mut units = "HMS".chars();
    let in_order = |part: &str| {
        part.chars().last().is_some_and(|unit| units.any(|next| next == unit)) && amount(part)
    };
    let days = days.is_empty() || (days.ends_with('D') && amount(days));
    days && time.split_inclusive(char::is_alphabetic).all(in_order)
}

/// A number and the letter of its unit; only seconds have a fraction.
fn amount(part: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = part.strip_suffix(char::is_alphabetic).unwrap_or_default();
    match (part.ends_with('S'), number.split_once('.')) {
        (true, Some((whole, fraction))) => digits(whole) && digits(fraction),
        (_, _) => digits(number),
    }
}

fn cluster_id(text: &str) -> bool {
    text.len() == 22 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
