//! What is told of every key against what a real Kafka tells: `testdata/kafka-4.3-described.tsv`
//! holds the answers of a broker with the same settings. Where an answer is another, it stands in a
//! list here or the declaration says so.

use super::{Config, Described, Settings, broker_key, describe_client_metrics, topic_key};

/// The settings of the broker that the table is of.
const SETTINGS: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.quorum.bootstrap.servers", "127.0.0.1:29093"),
    ("listeners", "PLAINTEXT://127.0.0.1:29092,CONTROLLER://127.0.0.1:29093"),
    ("controller.listener.names", "CONTROLLER"),
    ("log.dirs", "data"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
];
/// Kafka sets it for all brokers when it forms a cluster with ELR, which one node has no use of.
const ELR: &str = "min.insync.replicas";
/// Keys of our own that have no prefix.
const OURS: &[&str] = &[
    "delivery.backoff.initial.ms",
    "delivery.backoff.max.ms",
    "delivery.backoff.ms",
    "delivery.backoff.multiplier",
    "delivery.backoff.policy",
    "delivery.in.flight.max",
    "delivery.order",
    "delivery.retry.max",
    "delivery.start",
    "half.check.webhook",
    "message.type",
];
/// Keys of a Kafka newer than 4.3, those that it sets at run time only, and one it has removed.
const NEWER: &[&str] = &[
    "allow.everyone.if.no.acl.found",
    "errors.deadletterqueue.group.enable",
    "follower.replication.throttled.rate",
    "inter.broker.protocol.version",
    "leader.replication.throttled.rate",
    "log.remote.copy.lag.bytes",
    "log.remote.copy.lag.ms",
    "remote.copy.lag.bytes",
    "remote.copy.lag.ms",
    "super.users",
];

fn table(kind: &str) -> Vec<(String, String)> {
    let lines = include_str!("testdata/kafka-4.3-described.tsv").lines();
    let rows = lines.filter_map(|line| line.split_once('\t')).filter(|(of, _)| *of == kind);
    rows.map(|(_, row)| (row.split('\t').next().unwrap().to_owned(), row.to_owned())).collect()
}

fn row(described: &Described) -> String {
    let source = |code: i8| match code {
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        other => panic!("nothing is set so: {other}"),
    };
    let synonyms = described.synonyms.iter().map(|synonym| {
        let value = synonym.value.as_deref().unwrap_or("null");
        format!("{}={value}@{};", synonym.name, source(synonym.source.code()))
    });
    [
        described.name.as_str(),
        described.kind.unwrap().name(),
        described.value.as_deref().unwrap_or("null"),
        source(described.source.code()),
        if described.read_only { "ro" } else { "rw" },
        if described.sensitive { "sensitive" } else { "open" },
        &synonyms.collect::<String>(),
    ]
    .join("\t")
}

fn compare(kind: &str, told: &[Described], excused: impl Fn(&str) -> bool) {
    let kafka = table(kind);
    assert!(kafka.len() >= 3, "{kind}");
    let mut compared = 0;
    for (name, expected) in &kafka {
        let found = told.iter().find(|described| described.name == *name);
        let found = row(found.unwrap_or_else(|| panic!("{name} is not told")));
        if excused(name) {
            assert_ne!(found, *expected, "{name} needs no excuse");
        } else {
            assert_eq!(found, *expected);
            compared += 1;
        }
    }
    assert!(compared * 20 >= kafka.len() * 19, "{compared} of {}", kafka.len());
    for described in told {
        let name = &described.name;
        let ours = name.starts_with("braid.")
            || [OURS, NEWER].iter().any(|names| names.contains(&name.as_str()));
        assert_ne!(ours, kafka.iter().any(|(known, _)| known == name), "{name}");
        assert!(described.documentation.is_some(), "{name}");
    }
}

#[test]
fn a_broker_is_told_as_kafka_tells_it() {
    let config = Config::of(SETTINGS).unwrap();
    let differs = |name: &str| broker_key(name).unwrap().differs.is_some();
    compare("B", &config.describe_broker(), |name| {
        differs(name) || [ELR, "metric.reporters"].contains(&name)
    });
}

/// A file may hold what belongs to a plug-in: told by name, and its value kept secret.
#[test]
fn a_foreign_key_of_the_file_is_told_without_its_value() {
    let config = Config::of(&[("my.own.key", "secret")]).unwrap();
    let set = Settings::from([("my.own.key".to_owned(), "secret".to_owned())]);
    for (config, sources) in
        [(config.clone(), &[4][..]), (config.with_dynamic(&set, &set), &[2, 3, 4])]
    {
        let told = config.describe_broker();
        let told = told.iter().find(|described| described.name == "my.own.key").unwrap();
        assert!(told.sensitive && told.read_only && told.value.is_none() && told.kind.is_none());
        let synonyms = told.synonyms.iter().map(|synonym| synonym.source.code());
        assert_eq!(synonyms.collect::<Vec<_>>(), sources);
        assert!(!format!("{told:?}").contains("secret"));
    }
}

#[test]
fn a_topic_is_told_as_kafka_tells_it() {
    let config = Config::of(SETTINGS).unwrap();
    compare("T", &config.describe_topic(&Settings::new()), |name| {
        assert!(topic_key(name).unwrap().differs.is_none());
        name == ELR
    });
}

#[test]
fn a_group_and_a_subscription_are_told_as_kafka_tells_them() {
    let config = Config::of(SETTINGS).unwrap();
    compare("G", &config.describe_group(&Settings::new()), |_| false);
    compare("C", &describe_client_metrics(&Settings::new()), |_| false);
}
