//! The keys of a group, and the checks of a change to them.
//!
//! Those that begin with `delivery.` and `half.` are Braid's and say how messages are delivered to a
//! group of the native API, and how a group of producers is asked about its half messages. Kafka's govern groups of the newer protocols, which are not served yet: what is
//! set is checked, kept and told as Kafka does, and takes effect with them.

use super::key::{Check, Effect, Key, Synonym, keys};
use super::keys_by_name::broker_key;
use super::live::Settings;
use super::topic::value_in_force;
use super::value::{InvalidValue, RESTS_MAX, Value, rests_ms};
use super::values::Values;

const NEW_GROUPS: &str = "only classic consumer groups are built yet";

macro_rules! of {
    ($broker:literal) => {{
        const LIST: &[Synonym] = &[Synonym::same($broker)];
        LIST
    }};
}

keys! {
    /// Every key of a group, sorted by name.
    GROUP_KEYS:
    /// How many milliseconds lie at least between two assignments of a consumer group.
    CONSUMER_ASSIGNMENT_INTERVAL_MS = Key::int("consumer.assignment.interval.ms", "1000").at_least(0)
        .synonyms(of!("group.consumer.assignment.interval.ms")).nothing(NEW_GROUPS);
    /// How often in milliseconds a member of a consumer group reports.
    CONSUMER_HEARTBEAT_INTERVAL_MS = Key::int("consumer.heartbeat.interval.ms", "5000").at_least(1)
        .synonyms(of!("group.consumer.heartbeat.interval.ms")).nothing(NEW_GROUPS);
    /// After how many milliseconds of silence a member leaves a consumer group.
    CONSUMER_SESSION_TIMEOUT_MS = Key::int("consumer.session.timeout.ms", "45000").at_least(1)
        .synonyms(of!("group.consumer.session.timeout.ms")).nothing(NEW_GROUPS);
    /// Of delivery.backoff.policy exponential: how many milliseconds a message rests after its first
    /// failed attempt.
    DELIVERY_BACKOFF_INITIAL_MS = Key::long("delivery.backoff.initial.ms", "5000").between(0, 604_800_000);
    /// Of delivery.backoff.policy exponential: how many milliseconds a message rests at most.
    DELIVERY_BACKOFF_MAX_MS = Key::long("delivery.backoff.max.ms", "7200000").between(0, 604_800_000);
    /// Of delivery.backoff.policy table: how many milliseconds a message rests after the first, the
    /// second … failed attempt; the last one holds for all further. RocketMQ's by default.
    DELIVERY_BACKOFF_MS = Key::list("delivery.backoff.ms", ROCKETMQS_TABLE_MS).check(Check::RestsMs);
    /// Of delivery.backoff.policy exponential: how many times as long a message rests after each
    /// further attempt.
    DELIVERY_BACKOFF_MULTIPLIER = Key::double("delivery.backoff.multiplier", "2.0").between(1, 100);
    /// How long a message rests after a failed attempt: `table` is as delivery.backoff.ms says,
    /// `exponential` as delivery.backoff.initial.ms, max.ms and multiplier say.
    DELIVERY_BACKOFF_POLICY = Key::string("delivery.backoff.policy", "table").check(Check::OneOf(&["table", "exponential"]));
    /// How many messages of a partition may be delivered and not done at a time.
    DELIVERY_IN_FLIGHT_MAX = Key::int("delivery.in.flight.max", "100000").between(1, 10_000_000);
    /// In which order messages are delivered: `message-group` delivers those of a message group one
    /// after the other, so that one that fails holds back its own group alone.
    DELIVERY_ORDER = Key::string("delivery.order", "none").check(Check::OneOf(&["none", "message-group"]));
    /// How often a message is delivered again before it becomes a dead letter.
    DELIVERY_RETRY_MAX = Key::int("delivery.retry.max", "16").between(0, 10_000);
    /// Where the group begins in a topic it has not read before.
    DELIVERY_START = Key::string("delivery.start", "earliest").check(Check::OneOf(&["earliest", "latest"]));
    /// Of a group of producers: the address to which the broker posts the half messages it asks
    /// about, as JSON; empty posts to none. The broker follows no redirects and speaks no TLS.
    HALF_CHECK_WEBHOOK = Key::string(HALF_CHECK_WEBHOOK_NAME, "").check(Check::HttpUrl);
    /// How many milliseconds lie at least between two assignments of a share group.
    SHARE_ASSIGNMENT_INTERVAL_MS = Key::int("share.assignment.interval.ms", "1000").at_least(0)
        .synonyms(of!("group.share.assignment.interval.ms")).nothing(NEW_GROUPS);
    /// Where a new share group begins to read.
    SHARE_AUTO_OFFSET_RESET = Key::string("share.auto.offset.reset", "latest").check(Check::ShareOffsetReset)
        .nothing(NEW_GROUPS);
    /// How often a record is delivered to a share group at most.
    SHARE_DELIVERY_COUNT_LIMIT = Key::int("share.delivery.count.limit", "5").at_least(2)
        .synonyms(of!("group.share.delivery.count.limit")).nothing(NEW_GROUPS);
    /// How often in milliseconds a member of a share group reports.
    SHARE_HEARTBEAT_INTERVAL_MS = Key::int("share.heartbeat.interval.ms", "5000").at_least(1)
        .synonyms(of!("group.share.heartbeat.interval.ms")).nothing(NEW_GROUPS);
    /// Whether a share group reads records of transactions under way.
    SHARE_ISOLATION_LEVEL = Key::string("share.isolation.level", "read_uncommitted")
        .check(Check::OneOf(&["read_committed", "read_uncommitted"])).nothing(NEW_GROUPS);
    /// How many records of a partition a share group may have under way.
    SHARE_PARTITION_MAX_RECORD_LOCKS = Key::int("share.partition.max.record.locks", "2000").at_least(100)
        .synonyms(of!("group.share.partition.max.record.locks")).nothing(NEW_GROUPS);
    /// How many milliseconds a member of a share group may hold a record.
    SHARE_RECORD_LOCK_DURATION_MS = Key::int("share.record.lock.duration.ms", "30000").at_least(1000)
        .synonyms(of!("group.share.record.lock.duration.ms")).nothing(NEW_GROUPS);
    /// Whether a member of a share group may ask for more time for a record.
    SHARE_RENEW_ACKNOWLEDGE_ENABLE = Key::boolean("share.renew.acknowledge.enable", "true").nothing(NEW_GROUPS);
    /// After how many milliseconds of silence a member leaves a share group.
    SHARE_SESSION_TIMEOUT_MS = Key::int("share.session.timeout.ms", "45000").at_least(1)
        .synonyms(of!("group.share.session.timeout.ms")).nothing(NEW_GROUPS);
    /// How many milliseconds lie at least between two assignments of a streams group.
    STREAMS_ASSIGNMENT_INTERVAL_MS = Key::int("streams.assignment.interval.ms", "1000").at_least(0)
        .synonyms(of!("group.streams.assignment.interval.ms")).nothing(NEW_GROUPS);
    /// How often in milliseconds a member of a streams group reports.
    STREAMS_HEARTBEAT_INTERVAL_MS = Key::int("streams.heartbeat.interval.ms", "5000").at_least(1)
        .synonyms(of!("group.streams.heartbeat.interval.ms")).nothing(NEW_GROUPS);
    /// How many milliseconds a new streams group waits for more members.
    STREAMS_INITIAL_REBALANCE_DELAY_MS = Key::int("streams.initial.rebalance.delay.ms", "3000").at_least(0)
        .synonyms(of!("group.streams.initial.rebalance.delay.ms")).nothing(NEW_GROUPS);
    /// How many standby copies a task of a streams group has.
    STREAMS_NUM_STANDBY_REPLICAS = Key::int("streams.num.standby.replicas", "0").at_least(0)
        .synonyms(of!("group.streams.num.standby.replicas")).nothing(NEW_GROUPS);
    /// After how many milliseconds of silence a member leaves a streams group.
    STREAMS_SESSION_TIMEOUT_MS = Key::int("streams.session.timeout.ms", "45000").at_least(1)
        .synonyms(of!("group.streams.session.timeout.ms")).nothing(NEW_GROUPS);
}

/// How messages are delivered to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// Deliveries after the first before a message becomes a dead letter.
    pub retries_max: u16,
    /// How long a message rests after a failed attempt.
    pub backoff: BackoffConfig,
    /// Whether the messages of a message group come one after the other.
    pub ordered: bool,
    /// Whether the group begins in a topic behind what is there.
    pub starts_latest: bool,
    /// Messages of a partition that may be delivered and not done.
    pub in_flight_max: usize,
}

/// How long a message rests after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackoffConfig {
    /// After each attempt its own.
    Table(RestTable),
    /// Each time so much longer.
    Exponential {
        /// After the first attempt.
        initial_ms: i64,
        /// At most.
        max_ms: i64,
        /// How many hundredths of the rest before.
        multiplier_percent: u32,
    },
}

/// How long a message rests after each failed attempt, in milliseconds; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestTable {
    rests_ms: [u32; RESTS_MAX],
    count: usize,
}

impl RestTable {
    /// The rest after an attempt, counted from 1; the last one holds for all further.
    #[must_use]
    pub fn after(&self, attempt: u16) -> i64 {
        let at = usize::from(attempt.saturating_sub(1)).min(self.count.saturating_sub(1));
        i64::from(self.rests_ms.get(at).copied().unwrap_or(0))
    }

    /// A table of these rests: the first 32 count.
    #[must_use]
    pub fn new(rests: &[u32]) -> Self {
        let mut rests_ms = [0; RESTS_MAX];
        rests_ms.iter_mut().zip(rests).for_each(|(to, rest)| *to = *rest);
        Self { rests_ms, count: rests.len().min(RESTS_MAX) }
    }

    fn of(value: &Value) -> Self {
        let rests = match value {
            Value::List(texts) => rests_ms(texts),
            _ => None,
        };
        let Some(rests) = rests else {
            unreachable!("the key's check lets only durations pass: {value:?}")
        };
        Self::new(&rests)
    }
}

impl Default for RestTable {
    /// RocketMQ's.
    fn default() -> Self {
        let texts: Vec<String> = ROCKETMQS_TABLE_MS.split(',').map(ToOwned::to_owned).collect();
        Self::of(&Value::List(texts))
    }
}

/// RocketMQ's delays between attempts: its third delay level and those after it.
const ROCKETMQS_TABLE_MS: &str = "10000,30000,60000,120000,180000,240000,300000,360000,420000,\
                                  480000,540000,600000,1200000,1800000,3600000,7200000";

/// How messages are delivered to a group with these settings of its own.
pub(super) fn delivery(own: &Settings, broker: &Values) -> DeliveryConfig {
    let value = |key: &'static Key| value_in_force(key, own, broker);
    let int = |key: &'static Key| match value(key) {
        Value::Int(n) => n,
        other => unreachable!("{} is no int: {other:?}", key.name),
    };
    let ms = |key: &'static Key| match value(key) {
        Value::Long(ms) => ms,
        other => unreachable!("{} is no long: {other:?}", key.name),
    };
    let is = |key: &'static Key, word: &str| value(key) == Value::Text(word.to_owned());
    let backoff = if is(&DELIVERY_BACKOFF_POLICY, "exponential") {
        BackoffConfig::Exponential {
            initial_ms: ms(&DELIVERY_BACKOFF_INITIAL_MS),
            max_ms: ms(&DELIVERY_BACKOFF_MAX_MS),
            multiplier_percent: percent(&value(&DELIVERY_BACKOFF_MULTIPLIER)),
        }
    } else {
        BackoffConfig::Table(RestTable::of(&value(&DELIVERY_BACKOFF_MS)))
    };
    DeliveryConfig {
        retries_max: u16::try_from(int(&DELIVERY_RETRY_MAX)).unwrap_or(u16::MAX),
        backoff,
        ordered: is(&DELIVERY_ORDER, "message-group"),
        starts_latest: is(&DELIVERY_START, "latest"),
        in_flight_max: usize::try_from(int(&DELIVERY_IN_FLIGHT_MAX)).unwrap_or(usize::MAX),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the key's bounds keep it from 100 to 10,000"
)]
fn percent(multiplier: &Value) -> u32 {
    match multiplier {
        Value::Double(multiplier) => (multiplier * 100.0).round().clamp(100.0, 10_000.0) as u32,
        other => unreachable!("delivery.backoff.multiplier is no double: {other:?}"),
    }
}

/// Those of a group's settings that do nothing here, and why; the text completes "has no effect
/// because …".
pub fn group_settings_without_effect<'a>(
    names: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = (&'static Key, &'static str)> {
    names.filter_map(|name| {
        let key = group_key(name)?;
        match key.effect {
            Effect::Nothing(because) => Some((key, because)),
            Effect::Full | Effect::Partial(_) | Effect::Refused(_) => None,
        }
    })
}

/// The key that names where checks of a group of producers are posted to.
pub const HALF_CHECK_WEBHOOK_NAME: &str = "half.check.webhook";

/// Why a group's settings are refused (INVALID_CONFIG). Prints as Kafka does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupConfigError {
    /// No key of a group has this name.
    #[error("Unknown group config name: {0}")]
    Unknown(String),
    /// A value is not of the type or out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A value is below what the broker allows.
    #[error("{name} must be greater than or equal to {bound}")]
    TooLow {
        /// The key.
        name: &'static str,
        /// The broker's key with the bound.
        bound: String,
    },
    /// A value is above what the broker allows.
    #[error("{name} must be less than or equal to {bound}")]
    TooHigh {
        /// The key.
        name: &'static str,
        /// The broker's key with the bound.
        bound: String,
    },
    /// Members would be taken for gone between two of their reports.
    #[error("{session} must be greater than {heartbeat}")]
    SessionTooShort {
        /// The key of the session timeout.
        session: &'static str,
        /// The key of the heartbeat interval.
        heartbeat: &'static str,
    },
}

/// The key of a group of that name.
#[must_use]
pub fn group_key(name: &str) -> Option<&'static Key> {
    GROUP_KEYS.iter().find(|key| key.name == name)
}

/// Checks all settings that a group would have.
pub(super) fn validate(settings: &Settings, broker: &Values) -> Result<(), GroupConfigError> {
    for name in settings.keys() {
        group_key(name).ok_or_else(|| GroupConfigError::Unknown(name.clone()))?;
    }
    for (name, text) in settings {
        let Some(key) = group_key(name) else { continue };
        within_bounds(key, &key.parse(text)?, broker)?;
    }
    let sessions = [
        (&CONSUMER_SESSION_TIMEOUT_MS, &CONSUMER_HEARTBEAT_INTERVAL_MS),
        (&SHARE_SESSION_TIMEOUT_MS, &SHARE_HEARTBEAT_INTERVAL_MS),
        (&STREAMS_SESSION_TIMEOUT_MS, &STREAMS_HEARTBEAT_INTERVAL_MS),
    ];
    for (session, heartbeat) in sessions {
        let named = settings.contains_key(session.name) || settings.contains_key(heartbeat.name);
        let in_force = |key: &'static Key| match value_in_force(key, settings, broker) {
            Value::Int(ms) => ms,
            other => unreachable!("{} is no int: {other:?}", key.name),
        };
        if named && in_force(session) <= in_force(heartbeat) {
            let (session, heartbeat) = (session.name, heartbeat.name);
            return Err(GroupConfigError::SessionTooShort { session, heartbeat });
        }
    }
    Ok(())
}

/// Holds a number to the broker's `group.KIND.min.…` and `group.KIND.max.…`, where it has them.
fn within_bounds(
    key: &'static Key,
    value: &Value,
    broker: &Values,
) -> Result<(), GroupConfigError> {
    let (Value::Int(given), Some((kind, what))) = (value, key.name.split_once('.')) else {
        return Ok(());
    };
    let what = what.strip_prefix("num.").unwrap_or(what);
    let name = key.name;
    let bound = |side: &str| {
        let bound = format!("group.{kind}.{side}.{what}");
        let limit = broker_key(&bound).and_then(|key| broker.own(key));
        (limit, bound)
    };
    if let (Some(Value::Int(min)), bound) = bound("min")
        && *given < min
    {
        return Err(GroupConfigError::TooLow { name, bound });
    }
    if let (Some(Value::Int(max)), bound) = bound("max")
        && *given > max
    {
        return Err(GroupConfigError::TooHigh { name, bound });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    /// Each line is what Apache Kafka 4.3 says to the same change.
    #[test]
    fn a_change_is_taken_or_refused_as_kafka_does() {
        let config = Config::of(&[]).unwrap();
        for (name, value, expected) in [
            ("consumer.session.timeout.ms", "50000", ""),
            (
                "consumer.session.timeout.ms",
                "5",
                "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
            ),
            (
                "consumer.session.timeout.ms",
                "9999999",
                "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
            ),
            (
                "consumer.session.timeout.ms",
                "0",
                "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1",
            ),
            (
                "consumer.session.timeout.ms",
                "abc",
                "Invalid value abc for configuration consumer.session.timeout.ms: Not a number of type INT",
            ),
            ("consumer.assignment.interval.ms", "0", ""),
            (
                "consumer.assignment.interval.ms",
                "1000000",
                "consumer.assignment.interval.ms must be less than or equal to group.consumer.max.assignment.interval.ms",
            ),
            ("share.auto.offset.reset", "by_duration:PT1H", ""),
            (
                "share.auto.offset.reset",
                "x",
                "Invalid value x for configuration share.auto.offset.reset: Invalid value `x` for configuration share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.",
            ),
            (
                "share.delivery.count.limit",
                "1000000",
                "share.delivery.count.limit must be less than or equal to group.share.max.delivery.count.limit",
            ),
            (
                "share.partition.max.record.locks",
                "1",
                "Invalid value 1 for configuration share.partition.max.record.locks: Value must be at least 100",
            ),
            (
                "share.record.lock.duration.ms",
                "1",
                "Invalid value 1 for configuration share.record.lock.duration.ms: Value must be at least 1000",
            ),
            ("streams.initial.rebalance.delay.ms", "1000000", ""),
            (
                "streams.num.standby.replicas",
                "1000000",
                "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas",
            ),
            ("foo", "1", "Unknown group config name: foo"),
        ] {
            let settings = Settings::from([(name.to_owned(), value.to_owned())]);
            let told =
                config.validate_group(&settings).map_or_else(|e| e.to_string(), |()| String::new());
            assert_eq!(told, expected, "{name}={value}");
        }
    }

    #[test]
    fn what_is_delivered_how_is_rocketmqs_until_a_group_sets_it() {
        let config = Config::of(&[]).unwrap();
        let of = |pairs: &[(&str, &str)]| {
            let own: Settings =
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            config.validate_group(&own).map(|()| config.delivery(&own))
        };
        let defaults = DeliveryConfig {
            retries_max: 16,
            backoff: BackoffConfig::Table(RestTable::default()),
            ordered: false,
            starts_latest: false,
            in_flight_max: 100_000,
        };
        assert_eq!(of(&[]), Ok(defaults));
        let set = of(&[
            ("delivery.retry.max", "0"),
            ("delivery.backoff.policy", "exponential"),
            ("delivery.backoff.initial.ms", "10"),
            ("delivery.backoff.max.ms", "20"),
            ("delivery.backoff.multiplier", "1.5"),
            ("delivery.order", "message-group"),
            ("delivery.start", "latest"),
            ("delivery.in.flight.max", "7"),
        ]);
        let backoff =
            BackoffConfig::Exponential { initial_ms: 10, max_ms: 20, multiplier_percent: 150 };
        let expected = DeliveryConfig {
            retries_max: 0,
            backoff,
            ordered: true,
            starts_latest: true,
            in_flight_max: 7,
        };
        assert_eq!(set, Ok(expected));
        for (key, value) in [
            ("delivery.retry.max", "-1"),
            ("delivery.backoff.policy", "linear"),
            ("delivery.backoff.multiplier", "0.5"),
            ("delivery.order", "fifo"),
            ("delivery.in.flight.max", "0"),
        ] {
            assert!(of(&[(key, value)]).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn a_table_of_rests_is_the_groups_own_or_rocketmqs() {
        let of = |text: &str| {
            let texts: Vec<String> = text.split(',').map(ToOwned::to_owned).collect();
            rests_ms(&texts).map(|rests| RestTable::new(&rests))
        };
        let own = of("50,100").unwrap();
        assert_eq!([1, 2, 3, 9].map(|attempt| own.after(attempt)), [50, 100, 100, 100]);
        let default = RestTable::default();
        assert_eq!([1, 16, 17].map(|n| default.after(n)), [10_000, 7_200_000, 7_200_000]);
        for wrong in ["", "-1", "1,x", "1.5", "604800001", "1,,2"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert!(of(&["1"; 33].join(",")).is_none());
    }

    #[test]
    fn a_session_outlasts_a_heartbeat() {
        let bounds = [
            ("group.consumer.min.session.timeout.ms", "1"),
            ("group.consumer.max.heartbeat.interval.ms", "90000"),
        ];
        let config = Config::of(&bounds).unwrap();
        let settings =
            Settings::from([("consumer.session.timeout.ms".to_owned(), "5000".to_owned())]);
        let refused = config.validate_group(&settings).unwrap_err().to_string();
        let expected =
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms";
        assert_eq!(refused, expected);
    }
}
