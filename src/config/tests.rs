use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::Duration;

use braid_base::env::fs::{Fs, Mode};
use braid_base::env::real::RealFs;
use braid_base::model::BrokerId;

use super::*;

fn faults(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    match Config::of(settings) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(LoadError::File(error)) => panic!("{error}"),
        Err(LoadError::Faults { faults, .. }) => {
            faults.iter().map(|fault| (fault.to_string(), fault.hint())).collect()
        }
    }
}

fn fault(name: &str, text: &str) -> String {
    let faults = faults(&[(name, text)]);
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].0.clone()
}

fn warnings(settings: &[(&str, &str)]) -> Vec<String> {
    Config::of(settings).unwrap().warnings.iter().map(ToString::to_string).collect()
}

fn write(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    let file = RealFs.open(&path, Mode::CreateNew).unwrap();
    file.write_at(&[IoSlice::new(content)], 0).unwrap();
    path
}

fn load_file(content: &[u8]) -> Result<Config, LoadError> {
    let dir = tempfile::tempdir().unwrap();
    let file = Some(write(dir.path(), "server.properties", content));
    Config::load(&Sources { file, ..Sources::default() }, &RealFs)
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn own(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    owned(pairs).into_iter().collect()
}

#[test]
fn nothing_set_is_one_node_on_loopback() {
    let config = Config::of(&[]).unwrap();
    assert_eq!(
        config.node,
        NodeConfig { id: BrokerId(1), rack: None, cluster_id: None, quorum: None }
    );
    assert_eq!(config.network.listeners.len(), 1);
    assert_eq!(config.network.listeners[0].bind_address(), "127.0.0.1:9092");
    assert_eq!(config.network.listeners[0].advertised(9092), ("127.0.0.1", 9092));
    assert_eq!(config.network.request_size_bytes_max, 104_857_600);
    assert_eq!(config.network.request_memory_bytes, 134_217_728);
    assert_eq!(config.network.idle_max, Some(Duration::from_secs(600)));
    assert_eq!(config.storage.dir, Path::new("braid-data"));
    assert_eq!(config.storage.segment_size_bytes, 128 << 20);
    assert_eq!(config.storage.ring_size_bytes, 32 << 20);
    assert_eq!(
        config.topics,
        TopicsConfig {
            partitions: 1,
            replication_factor: 1,
            replication_factor_max: 1,
            auto_create: true,
            deletion: true,
            described_partitions_max: 2000,
        }
    );
    assert_eq!(config.group.offsets_partitions, 50);
    assert_eq!(config.group.offsets_replication_factor, 1);
    assert_eq!(config.group.initial_rebalance_delay, Duration::from_secs(3));
    assert_eq!(config.group.offsets_retention, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(config.fetch.response_size_bytes_max, 57_671_680);
    assert_eq!(config.producer.expiration, Duration::from_secs(86_400));
    assert_eq!(config.warnings, []);
}

#[test]
fn every_key_is_declared_once_with_a_doc_and_a_default_that_reads() {
    let mut names = BTreeSet::new();
    for key in broker_keys() {
        assert!(names.insert(key.name), "{} is declared twice", key.name);
    }
    let sorted: Vec<_> = topic_keys().iter().map(|key| key.name).collect();
    assert!(sorted.is_sorted() && sorted.len() == 37, "{sorted:?}");
    for key in broker_keys().chain(topic_keys()) {
        let doc = key.doc_text();
        assert!(doc.len() > 10 && doc.ends_with('.'), "{}: {doc:?}", key.name);
        assert!(!key.expected().is_empty());
        if let Some(default) = key.default {
            assert_eq!(
                key.default_value().map(|value| value.to_string()).as_deref(),
                Some(default)
            );
        }
    }
}

#[test]
fn every_check_fits_the_type_of_its_key() {
    for key in broker_keys().chain(topic_keys()) {
        for text in ["", "true", "1", "-1", "0.5", "word", "a,b", "1:1"] {
            // A check that does not fit its type would end in `unreachable!`.
            let _read = key.parse(text);
        }
    }
}

#[test]
fn synonyms_name_declared_broker_keys() {
    for key in broker_keys().chain(topic_keys()) {
        for synonym in key.synonyms {
            assert!(broker_key(synonym.name).is_some(), "{} → {}", key.name, synonym.name);
        }
    }
}

#[test]
fn topic_defaults_and_synonyms_are_kafkas_or_ours() {
    let kafka = [
        ("cleanup.policy", "delete", "log.cleanup.policy"),
        ("compression.type", "producer", "compression.type"),
        ("compression.gzip.level", "-1", "compression.gzip.level"),
        ("compression.lz4.level", "9", "compression.lz4.level"),
        ("compression.zstd.level", "3", "compression.zstd.level"),
        ("delete.retention.ms", "86400000", "log.cleaner.delete.retention.ms"),
        ("file.delete.delay.ms", "60000", "log.segment.delete.delay.ms"),
        ("flush.messages", "9223372036854775807", "log.flush.interval.messages"),
        ("flush.ms", "9223372036854775807", "log.flush.interval.ms"),
        ("index.interval.bytes", "4096", "log.index.interval.bytes"),
        ("max.compaction.lag.ms", "9223372036854775807", "log.cleaner.max.compaction.lag.ms"),
        ("min.compaction.lag.ms", "0", "log.cleaner.min.compaction.lag.ms"),
        ("max.message.bytes", "1048588", "message.max.bytes"),
        ("message.timestamp.type", "CreateTime", "log.message.timestamp.type"),
        (
            "message.timestamp.before.max.ms",
            "9223372036854775807",
            "log.message.timestamp.before.max.ms",
        ),
        ("message.timestamp.after.max.ms", "3600000", "log.message.timestamp.after.max.ms"),
        ("message.type", "NORMAL", ""),
        ("min.cleanable.dirty.ratio", "0.5", "log.cleaner.min.cleanable.ratio"),
        ("min.insync.replicas", "1", "min.insync.replicas"),
        ("preallocate", "false", "log.preallocate"),
        ("retention.bytes", "-1", "log.retention.bytes"),
        ("retention.ms", "604800000", "log.retention.ms"),
        ("segment.bytes", "1073741824", "log.segment.bytes"),
        ("segment.index.bytes", "10485760", "log.index.size.max.bytes"),
        ("segment.jitter.ms", "0", "log.roll.jitter.ms"),
        ("segment.ms", "604800000", "log.roll.ms"),
        ("unclean.leader.election.enable", "false", "unclean.leader.election.enable"),
        ("leader.replication.throttled.replicas", "", ""),
        ("follower.replication.throttled.replicas", "", ""),
        ("remote.storage.enable", "false", ""),
        ("remote.log.copy.disable", "false", ""),
        ("remote.log.delete.on.disable", "false", ""),
        ("local.retention.ms", "-2", "log.local.retention.ms"),
        ("local.retention.bytes", "-2", "log.local.retention.bytes"),
        ("remote.copy.lag.ms", "0", "log.remote.copy.lag.ms"),
        ("remote.copy.lag.bytes", "-1", "log.remote.copy.lag.bytes"),
        ("errors.deadletterqueue.group.enable", "false", ""),
    ];
    assert_eq!(kafka.len(), topic_keys().len());
    let config = Config::of(&[]).unwrap();
    let described = config.describe_topic(&BTreeMap::new());
    for (name, default, synonym) in kafka {
        let key = topic_key(name).unwrap_or_else(|| panic!("{name} is not declared"));
        assert_eq!(key.default, Some(default), "{name}");
        assert_eq!(key.synonyms.first().map_or("", |synonym| synonym.name), synonym, "{name}");
        // The broker's default through the synonyms gives the same value.
        let shown = described.iter().find(|d| d.name == name).unwrap();
        assert_eq!(shown.value.as_deref(), Some(default), "{name}");
        assert_eq!(shown.source, ConfigSource::Default, "{name}");
    }
}

#[test]
fn the_command_line_beats_the_environment_beats_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(
        dir.path(),
        "server.properties",
        b"num.partitions=1\ngroup.max.size=1\nfetch.max.bytes=1111\n",
    );
    let sources = Sources {
        file: Some(file.clone()),
        environment: owned(&[
            ("KAFKA_NUM_PARTITIONS", "2"),
            ("KAFKA_GROUP_MAX_SIZE", "2"),
            ("HOME", "/"),
        ]),
        overrides: owned(&[("num.partitions", "9"), ("num.partitions", "3")]),
    };
    let config = Config::load(&sources, &RealFs).unwrap();
    assert_eq!(config.topics.partitions, 3);
    assert_eq!(config.group.members_max, 2);
    assert_eq!(config.fetch.response_size_bytes_max, 1111);
    let origins: Vec<String> =
        config.settings().map(|(key, text, at)| format!("{}={text} {at}", key.name)).collect();
    assert_eq!(
        origins,
        [
            "num.partitions=3 on the command line".to_owned(),
            format!("fetch.max.bytes=1111 in {}:3", file.display()),
            "group.max.size=2 by the environment variable KAFKA_GROUP_MAX_SIZE".to_owned(),
        ]
    );
}

#[test]
fn the_file_is_read_by_javas_rules() {
    let config = load_file(
        b"# comment\n! comment\n  num.partitions = 4  \nbroker.rack:a\\u00e9\\\n   b\nlog.dirs /data/x\\\\y\n\
          fetch.max.bytes=2048\r\nfetch.max.bytes=4096\rgroup.max.size=5\\",
    )
    .unwrap();
    assert_eq!(config.topics.partitions, 4);
    assert_eq!(config.node.rack.as_deref(), Some("a\u{e9}b"));
    assert_eq!(config.storage.dir, Path::new("/data/x\\y"));
    assert_eq!(config.fetch.response_size_bytes_max, 4096);
    assert_eq!(config.group.members_max, 5);
    assert_eq!(load_file("broker.rack=ä".as_bytes()).unwrap().node.rack.as_deref(), Some("ä"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let sources =
        Sources { file: Some(PathBuf::from("/nowhere/x.properties")), ..Sources::default() };
    let error = Config::load(&sources, &RealFs).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nowhere/x.properties: "), "{error}");
    let error = load_file(b"a=1\nb=\\u00zz\n").unwrap_err();
    assert!(error.to_string().contains("line_number = 2"), "{error}");
}

#[test]
fn wrong_values_are_named_in_kafkas_words() {
    for (name, text, message) in [
        (
            "num.partitions",
            "abc",
            "Invalid value abc for configuration num.partitions: Not a number of type INT",
        ),
        (
            "num.partitions",
            "",
            "Invalid value  for configuration num.partitions: Not a number of type INT",
        ),
        (
            "num.partitions",
            "0",
            "Invalid value 0 for configuration num.partitions: Value must be at least 1",
        ),
        (
            "num.partitions",
            "3000000000",
            "Invalid value 3000000000 for configuration num.partitions: Not a number of type INT",
        ),
        (
            "offsets.topic.replication.factor",
            "40000",
            "Invalid value 40000 for configuration offsets.topic.replication.factor: Not a number of type SHORT",
        ),
        (
            "log.retention.bytes",
            "1e3",
            "Invalid value 1e3 for configuration log.retention.bytes: Not a number of type LONG",
        ),
        (
            "auto.create.topics.enable",
            "yes",
            "Invalid value yes for configuration auto.create.topics.enable: Expected value to be either true or false",
        ),
        (
            "compression.type",
            "brotli",
            "Invalid value brotli for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            "compression.zstd.level",
            "23",
            "Invalid value 23 for configuration compression.zstd.level: Value must be no more than 22",
        ),
        (
            "compression.gzip.level",
            "0",
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        ),
        (
            "log.cleanup.policy",
            "delete,keep",
            "Invalid value keep for configuration log.cleanup.policy: String must be one of: compact, delete",
        ),
        (
            "listeners",
            "",
            "Invalid value  for configuration listeners: List must be non-empty, without empty parts",
        ),
        (
            "braid.cluster.id",
            "short",
            "Invalid value short for configuration braid.cluster.id: Expected 22 characters of URL-safe base64 (a UUID)",
        ),
        (
            "log.dirs",
            "/a,/b",
            "Invalid value /a,/b for configuration log.dirs: one directory is expected",
        ),
        (
            "log.dirs",
            " , ",
            "Invalid value , for configuration log.dirs: one directory is expected",
        ),
        (
            "process.roles",
            "controller",
            "Invalid value controller for configuration process.roles: the role broker is missing",
        ),
        (
            "controller.quorum.voters",
            "1@a:1,2@b",
            "Invalid value 2@b for configuration controller.quorum.voters: expected id@host:port, separated by commas",
        ),
        (
            "controller.quorum.bootstrap.servers",
            "a:1,b:1",
            "Invalid value a:1,b:1 for configuration controller.quorum.bootstrap.servers: a cluster of several nodes needs controller.quorum.voters",
        ),
        (
            "braid.request.memory.bytes",
            "1048576",
            "Invalid value 104857600 for configuration socket.request.max.bytes: must not exceed braid.request.memory.bytes, which is 1048576",
        ),
        (
            "message.max.bytes",
            "200000000",
            "Invalid value 200000000 for configuration message.max.bytes: must not exceed braid.commitlog.segment.bytes, which is 134201344",
        ),
        (
            "group.min.session.timeout.ms",
            "1800001",
            "Invalid value 1800001 for configuration group.min.session.timeout.ms: must not exceed group.max.session.timeout.ms, which is 1800000",
        ),
        (
            "listeners",
            "SSL://127.0.0.1:9092",
            "Invalid value SSL for configuration listeners: listener SSL asks for SSL, and only PLAINTEXT is served yet",
        ),
    ] {
        assert_eq!(fault(name, text), message);
    }
}

#[test]
fn a_fault_says_where_it_stands_and_what_is_right() {
    let error = load_file(b"\nnum.partitions=none\nnode.id=1\nbroker.id=2\n").unwrap_err();
    let LoadError::Faults { faults, .. } = error else { panic!("{error}") };
    let lines: Vec<String> = faults.iter().map(|f| format!("{f} | {}", f.hint())).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].ends_with(
            "server.properties:2; expected a 32-bit integer of at least 1; the default is 1"
        ),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("Invalid value 2 for configuration broker.id: node.id is 1 | set in "),
        "{}",
        lines[1]
    );
}

#[test]
fn values_in_another_encoding_are_refused() {
    let error = load_file(b"# caf\xe9\nlog.dirs=/caf\xe9\n").unwrap_err();
    assert!(
        error.to_string().ends_with("for configuration log.dirs: the text is not UTF-8"),
        "{error}"
    );
    assert!(load_file(b"# caf\xe9\nlog.dirs=/cafe\n").is_ok());
}

#[test]
fn all_faults_are_listed_at_once() {
    let found = faults(&[("num.partitions", "0"), ("listeners", "x"), ("log.dirs", "a,b")]);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn dangerous_keys_are_refused_and_their_defaults_are_not() {
    for (name, text) in [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("remote.log.storage.system.enable", "true"),
        ("create.topic.policy.class.name", "a.Policy"),
        ("alter.config.policy.class.name", "a.Policy"),
    ] {
        let (message, hint) = faults(&[(name, text)]).remove(0);
        assert!(message.starts_with(&format!("Invalid value {text} for configuration {name}: ")));
        assert!(hint.contains("leave it out"), "{hint}");
    }
    assert_eq!(
        warnings(&[("authorizer.class.name", ""), ("remote.log.storage.system.enable", "false")])
            .len(),
        0
    );
}

#[test]
fn keys_without_effect_warn_and_never_fail() {
    assert_eq!(
        warnings(&[
            ("num.network.threads", "many"),
            ("log.flush.interval.messages", "1"),
            ("ssl.protocol", "TLSv1.3")
        ]),
        [
            "log.flush.interval.messages, set on the command line, has no effect in Braid because every acknowledged write is on disk already, by group commit",
            "num.network.threads, set on the command line, has no effect in Braid because threads follow the number of cores",
            "ssl.protocol, set on the command line, has no effect in Braid because there is no TLS yet; a listener that asks for it is refused",
        ]
    );
}

#[test]
fn unknown_keys_warn_with_what_was_perhaps_meant() {
    assert_eq!(
        warnings(&[("num.partition", "1"), ("retention.ms", "1"), ("a.plugin.of.mine", "1")]),
        [
            "unknown configuration a.plugin.of.mine, set on the command line",
            "unknown configuration num.partition, set on the command line; did you mean num.partitions?",
            "unknown configuration retention.ms, set on the command line; did you mean log.retention.ms?",
        ]
    );
}

#[test]
fn advice_is_given_on_what_is_probably_not_meant() {
    assert_eq!(
        warnings(&[
            ("log.retention.ms", "5"),
            ("log.retention.hours", "5"),
            ("offsets.topic.replication.factor", "3"),
            ("listeners", "PLAINTEXT://0.0.0.0:9092,CONTROLLER://:9093"),
            ("advertised.listeners", "PLAINTEXT://broker:9092"),
            ("controller.listener.names", "CONTROLLER"),
        ]),
        [
            "listener PLAINTEXT on 0.0.0.0:9092 is open to other machines, without login or encryption",
            "log.retention.hours, set on the command line, has no effect because log.retention.ms is set too",
            "offsets.topic.replication.factor is 3, but there is one broker: topics that ask for more than one replica cannot be created",
            "listener CONTROLLER is not opened: the metadata quorum of one node needs no socket",
        ]
    );
}

/// The environment of the single-node compose file that Kafka's documentation shows.
#[test]
fn the_environment_of_a_kafka_container_starts_a_broker() {
    let environment = owned(&[
        ("KAFKA_NODE_ID", "7"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        (
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
        ),
        ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT_HOST://localhost:9092,PLAINTEXT://broker:19092"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "7@broker:29093"),
        ("KAFKA_LISTENERS", "CONTROLLER://:29093,PLAINTEXT_HOST://:9092,PLAINTEXT://:19092"),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "PLAINTEXT"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
        ("KAFKA_LOG_DIRS", "/tmp/kraft-combined-logs"),
        ("KAFKA_HEAP_OPTS", "-Xmx1g"),
    ]);
    let config = Config::load(&Sources { environment, ..Sources::default() }, &RealFs).unwrap();
    assert_eq!(config.node.id, BrokerId(7));
    assert_eq!(config.node.cluster_id.as_deref(), Some("4L6g3nShT-eMCtK--X86sw"));
    let addresses: Vec<_> = config
        .network
        .listeners
        .iter()
        .map(|listener| (listener.bind_address(), listener.advertised(0)))
        .collect();
    assert_eq!(
        addresses,
        [
            ("0.0.0.0:9092".to_owned(), ("localhost", 9092)),
            ("0.0.0.0:19092".to_owned(), ("broker", 19092))
        ]
    );
    assert_eq!(config.group.initial_rebalance_delay, Duration::ZERO);
    assert!(config.warnings.iter().all(|warning| !matches!(warning, Warning::Unknown { .. })));
}

#[test]
fn advertised_listeners_in_the_environment_open_their_ports() {
    let environment = owned(&[("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://broker:9095")]);
    let sources = Sources { environment, ..Sources::default() };
    let config = Config::load(&sources, &RealFs).unwrap();
    assert_eq!(config.network.listeners[0].bind_address(), "0.0.0.0:9095");
    let overrides = owned(&[("listeners", "PLAINTEXT://127.0.0.1:9096")]);
    let config = Config::load(&Sources { overrides, ..sources }, &RealFs).unwrap();
    assert_eq!(config.network.listeners[0].bind_address(), "127.0.0.1:9096");
}

#[test]
fn broker_id_stands_for_node_id() {
    let config = Config::of(&[("broker.id", "4")]).unwrap();
    assert_eq!(config.node.id, BrokerId(4));
    let described = config.describe_broker();
    for name in ["node.id", "broker.id"] {
        let one = described.iter().find(|d| d.name == name).unwrap();
        assert_eq!(one.value.as_deref(), Some("4"), "{name}");
        assert_eq!(one.source, ConfigSource::StaticBroker);
    }
}

#[test]
fn retention_of_a_topic_comes_from_the_strongest_name() {
    let retention = |settings: &[(&str, &str)], topic: &[(&str, &str)]| {
        Config::of(settings).unwrap().topic(&own(topic)).retention_ms
    };
    assert_eq!(retention(&[], &[]), Some(604_800_000));
    assert_eq!(retention(&[("log.retention.hours", "2")], &[]), Some(7_200_000));
    assert_eq!(
        retention(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")], &[]),
        Some(180_000)
    );
    assert_eq!(
        retention(&[("log.retention.minutes", "3"), ("log.retention.ms", "4")], &[]),
        Some(4)
    );
    assert_eq!(retention(&[("log.retention.ms", "4")], &[("retention.ms", "5")]), Some(5));
    assert_eq!(retention(&[("log.retention.hours", "-1")], &[]), None);
    assert_eq!(retention(&[], &[("retention.ms", "-1")]), None);
    assert_eq!(retention(&[], &[("cleanup.policy", "compact")]), None);
    assert_eq!(retention(&[], &[("cleanup.policy", "")]), None);
    assert_eq!(retention(&[], &[("cleanup.policy", "compact, delete")]), Some(604_800_000));
}

/// What Kafka's defaults say of compaction.
const KAFKAS_COMPACTION: CompactionConfig = CompactionConfig {
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    dirty_ratio_min: 0.5,
    delete_retention_ms: 86_400_000,
    head_age_ms: 604_800_000,
    head_size_bytes: 1 << 30,
};

#[test]
fn a_topic_overrides_its_broker() {
    let config = Config::of(&[
        ("message.max.bytes", "1000"),
        ("log.message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "2"),
        ("compression.type", "lz4"),
        ("log.retention.bytes", "77"),
    ])
    .unwrap();
    let inherited = config.topic(&BTreeMap::new());
    assert_eq!(
        inherited,
        TopicConfig {
            delete: true,
            compact: false,
            compaction: KAFKAS_COMPACTION,
            compression: Compression::Lz4(9),
            batch_size_bytes_max: 1000,
            timestamp_type: TimestampType::LogAppendTime,
            timestamp_before_ms_max: i64::MAX,
            timestamp_after_ms_max: 3_600_000,
            message_type: MessageType::Normal,
            min_insync_replicas: 2,
            retention_ms: Some(604_800_000),
            retention_bytes: Some(77),
        }
    );
    let own = own(&[
        ("cleanup.policy", "compact"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "5"),
        ("max.message.bytes", "2000"),
        ("message.timestamp.type", "CreateTime"),
        ("message.type", "DELAY"),
        ("message.timestamp.before.max.ms", "1"),
        ("message.timestamp.after.max.ms", "2"),
        ("min.compaction.lag.ms", "1"),
        ("max.compaction.lag.ms", "2"),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("delete.retention.ms", "3"),
        ("segment.ms", "4"),
        ("segment.bytes", "1048576"),
        ("min.insync.replicas", "1"),
    ]);
    assert_eq!(
        config.topic(&own),
        TopicConfig {
            delete: false,
            compact: true,
            compaction: CompactionConfig {
                min_lag_ms: 1,
                max_lag_ms: 2,
                dirty_ratio_min: 0.25,
                delete_retention_ms: 3,
                head_age_ms: 4,
                head_size_bytes: 1_048_576,
            },
            compression: Compression::Zstd(5),
            batch_size_bytes_max: 2000,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_ms_max: 1,
            timestamp_after_ms_max: 2,
            message_type: MessageType::Delay,
            min_insync_replicas: 1,
            retention_ms: None,
            retention_bytes: None,
        }
    );
}

#[test]
fn a_stored_topic_value_that_no_longer_reads_counts_as_not_set() {
    let config = Config::of(&[("message.max.bytes", "1000")]).unwrap();
    assert_eq!(config.topic(&own(&[("max.message.bytes", "huge")])).batch_size_bytes_max, 1000);
}

#[test]
fn topic_settings_are_checked_in_kafkas_words() {
    let config = Config::of(&[]).unwrap();
    let check =
        |name, text| config.validate_topic([(name, text)]).map_err(|error| error.to_string());
    for (name, text, message) in [
        ("no.such.key", Some("1"), "Unknown topic config name: no.such.key"),
        (
            "message.timestamp.difference.max.ms",
            Some("1"),
            "Unknown topic config name: message.timestamp.difference.max.ms",
        ),
        ("retention.ms", None, "Null value not supported for topic configs: retention.ms"),
        (
            "retention.ms",
            Some("x"),
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (
            "retention.ms",
            Some("-2"),
            "Invalid value -2 for configuration retention.ms: Value must be at least -1",
        ),
        (
            "segment.bytes",
            Some("10"),
            "Invalid value 10 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            "cleanup.policy",
            Some("compat"),
            "Invalid value compat for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        (
            "min.cleanable.dirty.ratio",
            Some("1.5"),
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        ),
        (
            "min.cleanable.dirty.ratio",
            Some("NaN"),
            "Invalid value NaN for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE",
        ),
        (
            "message.timestamp.type",
            Some("createtime"),
            "Invalid value createtime for configuration message.timestamp.type: String must be one of: CreateTime, LogAppendTime",
        ),
        (
            "leader.replication.throttled.replicas",
            Some("1:x"),
            "Invalid value [1:x] for configuration leader.replication.throttled.replicas: leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
        (
            "remote.storage.enable",
            Some("true"),
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
        ),
        (
            "min.compaction.lag.ms",
            Some("9223372036854775808"),
            "Invalid value 9223372036854775808 for configuration min.compaction.lag.ms: Not a number of type LONG",
        ),
    ] {
        assert_eq!(check(name, text), Err(message.to_owned()));
    }
    let lags = [("min.compaction.lag.ms", Some("5")), ("max.compaction.lag.ms", Some("4"))];
    assert_eq!(
        config.validate_topic(lags).map_err(|error| error.to_string()),
        Err("conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (4)"
            .to_owned())
    );
}

#[test]
fn topic_settings_are_stored_as_given_without_those_that_kafka_has_dropped() {
    let config = Config::of(&[]).unwrap();
    let stored = config
        .validate_topic([
            ("retention.ms", Some("1000")),
            ("message.format.version", Some("2.8")),
            ("message.downconversion.enable", None),
            ("leader.replication.throttled.replicas", Some("0:1, 1:2")),
            ("follower.replication.throttled.replicas", Some("*")),
            ("segment.bytes", Some("1048576")),
        ])
        .unwrap();
    assert_eq!(
        stored,
        own(&[
            ("follower.replication.throttled.replicas", "*"),
            ("leader.replication.throttled.replicas", "0:1, 1:2"),
            ("retention.ms", "1000"),
            ("segment.bytes", "1048576"),
        ])
    );
}

#[test]
fn topic_settings_without_effect_are_found() {
    let own = own(&[("segment.jitter.ms", "1"), ("retention.ms", "1"), ("flush.ms", "1")]);
    let found: Vec<_> = topic_settings_without_effect(&own).map(|(key, _)| key.name).collect();
    assert_eq!(found, ["flush.ms", "segment.jitter.ms"]);
}

#[test]
fn describing_a_topic_names_the_source_and_every_synonym() {
    let config =
        Config::of(&[("log.retention.hours", "24"), ("message.max.bytes", "2000")]).unwrap();
    let synonym = |name: &str, value: &str, source| ConfigSynonym {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source,
    };
    let described = |own: &BTreeMap<String, String>| {
        let all = config.describe_topic(own);
        all.into_iter().find(|d| d.name == "retention.ms").unwrap()
    };
    let inherited = described(&BTreeMap::new());
    assert_eq!(inherited.value.as_deref(), Some("86400000"));
    // Kafka names no synonym before log.retention.ms, which is not set, and so no source.
    assert_eq!((inherited.source, &inherited.synonyms[..]), (ConfigSource::Default, &[][..]));
    let later = config.with_dynamic(&own(&[("log.retention.ms", "77")]), &BTreeMap::new());
    let later = later.describe_topic(&BTreeMap::new());
    let later = later.iter().find(|d| d.name == "retention.ms").unwrap();
    assert_eq!((later.value.as_deref(), later.source), (Some("77"), ConfigSource::DynamicBroker));
    let broker = [
        synonym("log.retention.ms", "77", ConfigSource::DynamicBroker),
        synonym("log.retention.hours", "24", ConfigSource::StaticBroker),
        synonym("log.retention.hours", "168", ConfigSource::Default),
    ];
    assert_eq!(later.synonyms, broker);
    let all = config.describe_topic(&BTreeMap::new());
    let size = all.iter().find(|d| d.name == "max.message.bytes").unwrap();
    assert_eq!((size.value.as_deref(), size.source), (Some("2000"), ConfigSource::StaticBroker));
    let own = described(&own(&[("retention.ms", " 1000 ")]));
    assert_eq!(own.value.as_deref(), Some("1000"));
    assert_eq!(own.source, ConfigSource::Topic);
    assert_eq!(own.synonyms[0], synonym("retention.ms", "1000", ConfigSource::Topic));
    assert_eq!(own.synonyms.len(), 1);
    assert!(!own.read_only);
}

#[test]
fn describing_the_broker_hides_secrets_and_says_what_does_nothing() {
    let config = Config::of(&[("ssl.key.password", "hunter2"), ("num.io.threads", "4")]).unwrap();
    let described = config.describe_broker();
    assert!(described.is_sorted_by_key(|d| &d.name));
    let secret = described.iter().find(|d| d.name == "ssl.key.password").unwrap();
    assert_eq!((secret.value.as_deref(), secret.kind), (None, Some(Kind::Password)));
    assert!(secret.synonyms.iter().all(|synonym| synonym.value.is_none()));
    assert!(!format!("{described:?}").contains("hunter2"));
    let threads = described.iter().find(|d| d.name == "num.io.threads").unwrap();
    assert_eq!(threads.value.as_deref(), Some("4"));
    assert_eq!(threads.source.code(), 4);
    assert!(
        threads
            .documentation
            .as_deref()
            .unwrap()
            .ends_with("It has no effect in Braid because threads follow the number of cores.")
    );
    let retention = described.iter().find(|d| d.name == "log.retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.read_only), (None, false));
    assert!(described.iter().find(|d| d.name == "log.dirs").unwrap().read_only);
}
