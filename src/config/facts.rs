//! The declarations against Kafka's own: `testdata/kafka-4.3-keys.tsv` holds what a real Kafka
//! says of its keys. Where a declaration is another, it stands in a list here or says so itself.

use super::key::{Check, Key, Kind};
use super::keys_by_name::family;
use super::{broker_key, broker_keys, topic_key, topic_keys};

struct Fact {
    topic: bool,
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    valid: &'static str,
    mode: &'static str,
}

fn facts() -> Vec<Fact> {
    let lines = include_str!("testdata/kafka-4.3-keys.tsv").lines();
    let rows = lines.filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [side, name, kind, default, valid, mode] = fields[..] else { panic!("{line}") };
        let default = if default == "(empty)" { "" } else { default };
        // Java's word before the name of a class.
        let default = default.strip_prefix("class ").unwrap_or(default);
        Fact { topic: side == "T", name, kind, default, valid, mode }
    });
    rows.collect()
}

/// Keys that Kafka 4.4 has and 4.3 has not.
const NEWER: &[&str] = &[
    "errors.deadletterqueue.group.enable",
    "remote.copy.lag.bytes",
    "remote.copy.lag.ms",
    "log.remote.copy.lag.bytes",
    "log.remote.copy.lag.ms",
];
/// Topic keys of our own.
const OURS: &[&str] = &["message.type"];
/// Keys of Kafka's authorizer, those that Kafka sets at run time only, and one it has removed.
const ELSEWHERE: &[&str] = &[
    "super.users",
    "allow.everyone.if.no.acl.found",
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "inter.broker.protocol.version",
];
/// Values that Kafka takes and that would be of no use.
const STRICTER: &[&str] = &[
    "broker.heartbeat.interval.ms",
    "broker.id",
    "broker.session.timeout.ms",
    "controller.quorum.election.timeout.ms",
    "default.replication.factor",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.min.session.timeout.ms",
    "listeners",
    "log.dir",
    "max.connections.per.ip.overrides",
    "offset.metadata.max.bytes",
];
/// Checks that would only stop a start over a key without effect.
const LAXER: &[&str] = &[
    "authorizer.class.name",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "group.consumer.migration.policy",
    "remote.log.metadata.manager.class.name",
    "remote.log.metadata.manager.impl.prefix",
    "remote.log.metadata.manager.listener.name",
    "remote.log.storage.manager.class.name",
    "remote.log.storage.manager.impl.prefix",
    "sasl.oauthbearer.assertion.algorithm",
];

fn key_of(fact: &Fact) -> Option<&'static Key> {
    if fact.topic { topic_key(fact.name) } else { broker_key(fact.name) }
}

#[test]
fn every_key_of_kafka_is_known() {
    for fact in facts() {
        let known = key_of(&fact).is_some() || (!fact.topic && family(fact.name).is_some());
        assert!(known, "{} is not known", fact.name);
    }
}

#[test]
fn every_declared_key_is_kafkas_or_has_our_prefix() {
    let facts = facts();
    let in_kafka = |key: &Key, topic: bool| {
        facts.iter().any(|fact| fact.topic == topic && fact.name == key.name)
            || NEWER.contains(&key.name)
    };
    for key in broker_keys() {
        let ours = key.name.starts_with("braid.") || ELSEWHERE.contains(&key.name);
        assert_ne!(ours, in_kafka(key, false), "{}", key.name);
    }
    for key in topic_keys() {
        assert_ne!(OURS.contains(&key.name), in_kafka(key, true), "{}", key.name);
    }
}

#[test]
fn types_and_modes_are_kafkas() {
    for fact in facts() {
        let Some(key) = key_of(&fact) else { continue };
        assert_eq!(key.kind.name(), fact.kind, "{}", fact.name);
        if !fact.topic {
            assert_eq!(key.update.name(), fact.mode, "{}", fact.name);
        }
    }
}

#[test]
fn defaults_are_kafkas_or_the_key_says_how_they_differ() {
    for fact in facts() {
        let Some(key) = key_of(&fact) else { continue };
        // No default and a default of null look the same from outside.
        let kafka = (fact.default != "null" && fact.default != "<none>").then_some(fact.default);
        let same = key.default == kafka || METRIC_REPORTERS == fact.name;
        assert_eq!(same, key.differs.is_none(), "{}: {:?}, {kafka:?}", fact.name, key.default);
    }
}

/// Its default in Kafka is a class of Kafka's.
const METRIC_REPORTERS: &str = "metric.reporters";

#[test]
fn valid_values_are_kafkas() {
    for fact in facts() {
        let Some(key) = key_of(&fact) else { continue };
        let excused = STRICTER.contains(&fact.name) || LAXER.contains(&fact.name);
        assert_eq!(valid(key) != words(fact.valid), excused, "{}: {}", fact.name, fact.valid);
    }
}

fn words(text: &str) -> Vec<String> {
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    let mut words: Vec<String> = inner.split(", ").map(str::to_owned).collect();
    words.sort();
    words
}

fn valid(key: &Key) -> Vec<String> {
    let bound = |bound: Option<i64>| bound.map(|n| n.to_string()).unwrap_or_default();
    match key.check {
        Check::Any => words("-"),
        Check::Range(min, max) => {
            words(&format!("[{},...,{}]", bound(min), bound(max)).replace(",]", "]"))
        }
        Check::OneOf(list) | Check::EachOf(list) => words(&list.join(", ")),
        Check::GzipLevel => words("[1,...,9] or -1"),
        Check::ThrottledReplicas => words("[partitionId]:[brokerId],[partitionId]:[brokerId],..."),
        Check::NonEmpty => words("non-empty list"),
        Check::ShareOffsetReset => words("[latest, earliest, by_duration:PnDTnHnMn.nS]"),
        Check::ClusterId => words("a UUID"),
        Check::RestsMs => words("milliseconds,milliseconds,..."),
        Check::HttpUrl => words("http://host[:port][/path]"),
        Check::CountByAddress => words("address:count,..."),
    }
}

#[test]
fn sensitive_keys_are_those_of_type_password() {
    for fact in facts() {
        let Some(key) = key_of(&fact) else { continue };
        assert_eq!(key.sensitive(), fact.kind == "PASSWORD", "{}", fact.name);
        assert_eq!(key.sensitive(), key.kind == Kind::Password);
    }
}
