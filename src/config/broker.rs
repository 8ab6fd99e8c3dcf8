//! The broker keys that Braid honours, in the order of `conf/server.properties`.
//!
//! Keys of Kafka that exist but do nothing here are in [`super::inert`].

use super::key::{Check, Key, Kind, Synonym, keys};

const RETENTION: &[Synonym] = &[
    Synonym::same("log.retention.ms"),
    Synonym::minutes("log.retention.minutes"),
    Synonym::hours("log.retention.hours"),
];
const DATA_DIR: &[Synonym] = &[Synonym::same("log.dirs"), Synonym::same("log.dir")];
const NODE: &[Synonym] = &[Synonym::same("node.id"), Synonym::same("broker.id")];

keys! {
    /// Who this broker is and where it listens.
    NETWORK:
    /// This broker's number in the cluster. Clients see it in metadata; it must not change over the
    /// life of a data directory.
    NODE_ID = Key::int("node.id", "1").at_least(0).synonyms(NODE)
        .differs("Kafka wants it set; one node needs no choice");
    /// The older name of node.id; -1 is not set. Set one of the two, or both to the same number.
    BROKER_ID = Key::int("broker.id", "-1").at_least(-1).synonyms(NODE);
    /// What this process does in the cluster: `broker`, or `broker,controller`.
    PROCESS_ROLES = Key::list("process.roles", "broker,controller").check(Check::EachOf(&["broker", "controller"]))
        .partial("A node alone is always both, so `broker` and `broker,controller` mean the same there. In a cluster every node is both yet.")
        .differs("Kafka wants it set; every node is broker and controller");
    /// The nodes that agree on the metadata, as a list of id@host:port with the address of each one's
    /// controller listener: all nodes of the cluster, the same on each of them. One or none is a node
    /// alone. The cluster is formed once, when all of them are there with empty directories; who
    /// votes cannot be changed afterwards yet.
    CONTROLLER_QUORUM_VOTERS = Key::list("controller.quorum.voters", "");
    /// What all nodes of a cluster know and nobody else, 16 bytes or more. With it they prove to each
    /// other that they belong together; what they say is protected against change, not against being
    /// read. Without it the controller listener has to be one that only this machine reaches.
    CLUSTER_SECRET = Key::null("braid.cluster.secret", Kind::Password);
    /// For how many milliseconds a node waits to hear of a leader of the metadata quorum before it
    /// stands for election; up to twice as long, at random.
    CONTROLLER_QUORUM_ELECTION_TIMEOUT_MS = Key::int("controller.quorum.election.timeout.ms", "1000").between(100, 60_000);
    /// How often in milliseconds a broker of a cluster tells the controller that it lives.
    BROKER_HEARTBEAT_INTERVAL_MS = Key::int("broker.heartbeat.interval.ms", "2000").at_least(10);
    /// For how many milliseconds the controller may not hear of a broker before its partitions have no
    /// leader.
    BROKER_SESSION_TIMEOUT_MS = Key::int("broker.session.timeout.ms", "9000").at_least(100);
    /// Whether the controller gives leadership back to the first replica of a partition, where that is
    /// up and in sync.
    AUTO_LEADER_REBALANCE_ENABLE = Key::boolean("auto.leader.rebalance.enable", "true");
    /// How often in seconds the controller looks whether it can give leadership back.
    LEADER_IMBALANCE_CHECK_INTERVAL_SECONDS = Key::long("leader.imbalance.check.interval.seconds", "300").at_least(1);
    /// Whether a replica that may lack records leads where no other is up: better than waiting, at the
    /// price of records.
    UNCLEAN_LEADER_ELECTION_ENABLE = Key::boolean("unclean.leader.election.enable", "false").cluster_wide();
    /// The rack or zone this broker stands in, as clients see it in metadata.
    BROKER_RACK = Key::null("broker.rack", Kind::String);
    /// The cluster id a new data directory gets: 22 characters of URL-safe base64. Unset, a random
    /// one is made. A directory that has an id refuses another. The environment variable CLUSTER_ID
    /// sets it too.
    CLUSTER_ID = Key::null("braid.cluster.id", Kind::String).check(Check::ClusterId);
    /// Where the broker listens, as a list of NAME://host:port. An empty host or 0.0.0.0 means
    /// every interface and needs advertised.listeners; port 0 takes a free port.
    LISTENERS = Key::list("listeners", "PLAINTEXT://127.0.0.1:9092").per_broker().check(Check::NonEmpty)
        .partial("Only the security protocol PLAINTEXT is served.")
        .differs("Kafka's is PLAINTEXT://:9092 on every interface; an open broker should be a decision");
    /// The addresses that clients are told to connect to, as a list of NAME://host:port, one for
    /// each listener it names. Unset, a listener's own address. It cannot be 0.0.0.0 or ::, because
    /// no client can reach that; port 0 stands for the port really taken.
    ADVERTISED_LISTENERS = Key::null("advertised.listeners", Kind::List);
    /// Which security protocol each listener name speaks, as a list of NAME:PROTOCOL.
    LISTENER_SECURITY_PROTOCOL_MAP = Key::string("listener.security.protocol.map",
            "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT").per_broker()
        .partial("Only PLAINTEXT is served.");
    /// Names of the listeners that only controllers use. In a cluster the first of them is where this
    /// node hears the others.
    CONTROLLER_LISTENER_NAMES = Key::null("controller.listener.names", Kind::List)
        .partial("A node alone does not open them, and controllers speak a protocol of Braid's own there.");
    /// The largest request in bytes. A connection that announces a larger one is closed.
    SOCKET_REQUEST_MAX_BYTES = Key::int("socket.request.max.bytes", "104857600").at_least(1);
    /// How many bytes of large requests may be in memory at once, over all connections. When they
    /// are used up the broker stops reading further ones. Small requests may take a quarter of it
    /// besides, and answers on their way out half of it: when that is used up fetch answers get
    /// smaller, and clients that do not take their answers are disconnected.
    REQUEST_MEMORY_BYTES = Key::long("braid.request.memory.bytes", "134217728").at_least(1_048_576);
    /// After how many milliseconds without a request a connection is closed; -1 never.
    CONNECTIONS_MAX_IDLE_MS = Key::long("connections.max.idle.ms", "600000");
    /// After how many milliseconds a connection is closed that has not sent a whole request yet.
    FIRST_REQUEST_MAX_MS = Key::long("braid.first.request.max.ms", "10000").at_least(1);
    /// How many connections the broker holds at most. Further ones take the places of those that
    /// have not sent a request yet; when there are none, they are closed at once. The system's limit
    /// of open files lowers it.
    MAX_CONNECTIONS = Key::int("max.connections", "10000").at_least(0).cluster_wide()
        .differs("Kafka's is 2147483647, no limit; connections cost memory that no other limit bounds");
    /// How many connections one client address may hold. Further ones are closed at once.
    MAX_CONNECTIONS_PER_IP = Key::int("max.connections.per.ip", "1000").at_least(0).cluster_wide()
        .differs("Kafka's is 2147483647, no limit; one address should not take all the places");
    /// How many connections single client addresses may hold, as a list of address:count.
    MAX_CONNECTIONS_PER_IP_OVERRIDES = Key::string("max.connections.per.ip.overrides", "").cluster_wide()
        .check(Check::CountByAddress)
        .partial("Clients are told apart by addresses; names of hosts are not looked up.");
    /// How many new connections the broker accepts in a second, over a window of ten seconds. Those
    /// that come faster wait, and are not refused. As listener.name.NAME.max.connection.creation.rate
    /// it bounds one listener besides, and is read at the start only.
    MAX_CONNECTION_CREATION_RATE = Key::int("max.connection.creation.rate", "2147483647").at_least(0).cluster_wide();
}

keys! {
    /// The native API over HTTP.
    NATIVE:
    /// Where the native API, the metrics and the health checks are served, as a list of
    /// http://host:port. Port 0 takes a free port; empty switches them off. An address that other
    /// machines reach needs braid.native.i.know.there.is.no.authentication.
    NATIVE_LISTENERS = Key::list("braid.native.listeners", "http://127.0.0.1:8081");
    /// Whether braid.native.listeners may name addresses that other machines reach. Everybody who
    /// reaches them may read, write and delete everything.
    NATIVE_OPEN = Key::boolean("braid.native.i.know.there.is.no.authentication", "false");
    /// The largest body of a request to the native API, in bytes.
    NATIVE_REQUEST_MAX_BYTES = Key::int("braid.native.request.max.bytes", "8388608").between(1024, 1_073_741_824);
    /// How many connections the native API holds at most. Further ones wait until one has ended.
    NATIVE_MAX_CONNECTIONS = Key::int("braid.native.max.connections", "1024").at_least(1);
    /// For how many milliseconds a message id that a sender gave is remembered: a message of the
    /// same id that comes again is not written again, but answered with the first one's place.
    NATIVE_MESSAGE_ID_WINDOW_MS = Key::long("braid.native.message.id.window.ms", "600000").between(0, 86_400_000);
    /// With how many partitions at most in all topics the metrics tell of each partition. With
    /// more they tell of topics and groups alone.
    NATIVE_METRICS_PARTITIONS_MAX = Key::int("braid.native.metrics.partitions.max", "10000").at_least(0);
}

keys! {
    /// Where and how the data is kept.
    STORAGE:
    /// The data directory. It is created when it is missing.
    LOG_DIRS = Key::null("log.dirs", Kind::List).synonyms(DATA_DIR)
        .partial("One directory: all partitions share one CommitLog.");
    /// The data directory, when log.dirs is not set.
    LOG_DIR = Key::list("log.dir", "braid-data").synonyms(DATA_DIR).check(Check::NonEmpty)
        .differs("Kafka's is /tmp/kafka-logs, which a restart of the machine may empty");
    /// Size in bytes of a CommitLog file. Files are preallocated to this size and used again once
    /// all their records are gone. A record batch must fit into one.
    COMMITLOG_SEGMENT_BYTES = Key::long("braid.commitlog.segment.bytes", "134217728").between(1_048_576, 2_147_483_648);
    /// Memory in bytes for the newest end of the CommitLog. Consumers that keep up are served from
    /// it without touching the disk.
    COMMITLOG_RING_BYTES = Key::long("braid.commitlog.ring.bytes", "33554432").between(1_048_576, 17_179_869_184);
    /// Whether the CommitLog takes records again although damage hides some that were
    /// acknowledged, and with them which offsets they had. To be set for one start, after a
    /// restart was tried and nothing better is to be had: what is lost stays lost, the rest is kept.
    COMMITLOG_LOSS_ACCEPT = Key::boolean("braid.commitlog.loss.accept", "false");
}

keys! {
    /// What a topic gets when it does not say otherwise.
    TOPICS:
    /// How many partitions a topic gets when its creator leaves the number open.
    NUM_PARTITIONS = Key::int("num.partitions", "1").at_least(1);
    /// How many replicas a partition gets when its creator leaves the number open.
    DEFAULT_REPLICATION_FACTOR = Key::int("default.replication.factor", "1").at_least(1)
        .partial("In a cluster of several nodes without braid.replication.enable more than one counts as one.");
    /// Whether partitions of a cluster may have several replicas. What such partitions cannot do yet is
    /// listed in docs/cluster.md.
    REPLICATION_ENABLE = Key::boolean("braid.replication.enable", "false");
    /// Whether a client's first mention of a topic creates it.
    AUTO_CREATE_TOPICS_ENABLE = Key::boolean("auto.create.topics.enable", "true");
    /// How many partitions one answer of DescribeTopicPartitions lists at most.
    MAX_REQUEST_PARTITION_SIZE_LIMIT = Key::int("max.request.partition.size.limit", "2000").at_least(1);
    /// Whether topics can be deleted.
    DELETE_TOPIC_ENABLE = Key::boolean("delete.topic.enable", "true");
    /// How many replicas must have a record on disk before acks=all is answered, if the partition
    /// has as many. With fewer alive, such writes are refused.
    MIN_INSYNC_REPLICAS = Key::int("min.insync.replicas", "1").at_least(1).cluster_wide();
    /// The largest record batch in bytes, as it is sent, compressed or not.
    MESSAGE_MAX_BYTES = Key::int("message.max.bytes", "1048588").at_least(0).cluster_wide();
    /// The codec batches are stored with: `producer` keeps what the producer chose.
    COMPRESSION_TYPE = Key::string("compression.type", "producer").cluster_wide()
        .check(Check::OneOf(COMPRESSION_TYPES));
    /// The level when compression.type is gzip.
    COMPRESSION_GZIP_LEVEL = Key::int("compression.gzip.level", "-1").cluster_wide().check(Check::GzipLevel);
    /// The level when compression.type is lz4.
    COMPRESSION_LZ4_LEVEL = Key::int("compression.lz4.level", "9").cluster_wide().between(1, 17);
    /// The level when compression.type is zstd.
    COMPRESSION_ZSTD_LEVEL = Key::int("compression.zstd.level", "3").cluster_wide().between(-131_072, 22);
    /// What happens to old records: `delete` applies retention, `compact` keeps the newest of each
    /// key, empty keeps everything.
    LOG_CLEANUP_POLICY = Key::list("log.cleanup.policy", "delete").cluster_wide()
        .check(Check::EachOf(&["compact", "delete"]));
    /// Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).
    LOG_MESSAGE_TIMESTAMP_TYPE = Key::string("log.message.timestamp.type", "CreateTime").cluster_wide()
        .check(Check::OneOf(TIMESTAMP_TYPES));
    /// How far in milliseconds a producer's timestamp may lie before the broker's clock.
    LOG_MESSAGE_TIMESTAMP_BEFORE_MAX_MS = Key::long("log.message.timestamp.before.max.ms", "9223372036854775807").at_least(0).cluster_wide();
    /// How far in milliseconds a producer's timestamp may lie after the broker's clock.
    LOG_MESSAGE_TIMESTAMP_AFTER_MAX_MS = Key::long("log.message.timestamp.after.max.ms", "3600000").at_least(0).cluster_wide();
    /// How many milliseconds records are kept; -1 for ever. Stronger than log.retention.minutes and
    /// log.retention.hours.
    LOG_RETENTION_MS = Key::null("log.retention.ms", Kind::Long).cluster_wide().synonyms(RETENTION);
    /// How many minutes records are kept, when log.retention.ms is not set.
    LOG_RETENTION_MINUTES = Key::null("log.retention.minutes", Kind::Int).synonyms(RETENTION);
    /// How many hours records are kept, when neither log.retention.ms nor log.retention.minutes is
    /// set.
    LOG_RETENTION_HOURS = Key::int("log.retention.hours", "168").synonyms(RETENTION);
    /// How many bytes of records a partition keeps; the oldest go first; -1 no limit.
    LOG_RETENTION_BYTES = Key::long("log.retention.bytes", "-1").cluster_wide();
    /// How often in milliseconds retention is applied.
    LOG_RETENTION_CHECK_INTERVAL_MS = Key::long("log.retention.check.interval.ms", "300000").at_least(1);
    /// Size in bytes of the head of a compacted partition, which compaction leaves as it is. Nothing
    /// else, since all partitions share one CommitLog.
    LOG_SEGMENT_BYTES = Key::int("log.segment.bytes", "1073741824").at_least(1_048_576).cluster_wide();
    /// Age in milliseconds up to which records are the head of a compacted partition, which compaction
    /// leaves as it is. Stronger than log.roll.hours.
    LOG_ROLL_MS = Key::null("log.roll.ms", Kind::Long).cluster_wide();
    /// Age in hours up to which records are the head of a compacted partition, when log.roll.ms is
    /// not set.
    LOG_ROLL_HOURS = Key::int("log.roll.hours", "168").at_least(1);
    /// Whether compacted topics are compacted.
    LOG_CLEANER_ENABLE = Key::boolean("log.cleaner.enable", "true");
    /// How long in milliseconds cleaning rests after a round.
    LOG_CLEANER_BACKOFF_MS = Key::long("log.cleaner.backoff.ms", "15000").at_least(0).cluster_wide();
    /// Memory in bytes for the keys of a partition that is compacted. More keys take more rounds.
    LOG_CLEANER_DEDUPE_BUFFER_SIZE = Key::long("log.cleaner.dedupe.buffer.size", "134217728").cluster_wide();
    /// The most bytes that cleaning reads and writes in a second; never more than 134217728, so
    /// that producers do not feel it.
    LOG_CLEANER_IO_MAX_BYTES_PER_SECOND = Key::double("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308").cluster_wide();
    /// How many milliseconds a tombstone outlives its record on a compacted topic.
    LOG_CLEANER_DELETE_RETENTION_MS = Key::long("log.cleaner.delete.retention.ms", "86400000").at_least(0).cluster_wide();
    /// How many milliseconds a record stays as it is before compaction.
    LOG_CLEANER_MIN_COMPACTION_LAG_MS = Key::long("log.cleaner.min.compaction.lag.ms", "0").at_least(0).cluster_wide();
    /// After how many milliseconds compaction must have seen a record.
    LOG_CLEANER_MAX_COMPACTION_LAG_MS = Key::long("log.cleaner.max.compaction.lag.ms", "9223372036854775807").at_least(1).cluster_wide();
    /// More than this share of a partition must be new before it is compacted.
    LOG_CLEANER_MIN_CLEANABLE_RATIO = Key::double("log.cleaner.min.cleanable.ratio", "0.5").between(0, 1).cluster_wide();
}

keys! {
    /// Fetching and producing.
    CLIENTS:
    /// The most bytes of records in one fetch answer, whatever the client asks for. One whole batch
    /// is always sent.
    FETCH_MAX_BYTES = Key::int("fetch.max.bytes", "57671680").at_least(1024);
    /// How many incremental fetch sessions are kept. Clients beyond that send their whole partition
    /// list with each fetch.
    MAX_INCREMENTAL_FETCH_SESSION_CACHE_SLOTS = Key::int("max.incremental.fetch.session.cache.slots", "1000").at_least(0);
    /// After how many milliseconds without a batch an idempotent producer's state in a partition is
    /// dropped.
    PRODUCER_ID_EXPIRATION_MS = Key::int("producer.id.expiration.ms", "86400000").at_least(1).cluster_wide();
    /// How many milliseconds ahead a message may be due that is to be delivered later; ten years.
    TIMER_DELAY_MAX_MS = Key::long("braid.timer.delay.max.ms", "315360000000").at_least(0);
    /// Partitions of __transaction_state. Applies when that topic is made.
    TRANSACTION_STATE_LOG_NUM_PARTITIONS = Key::int("transaction.state.log.num.partitions", "50").at_least(1);
    /// Replicas of __transaction_state.
    TRANSACTION_STATE_LOG_REPLICATION_FACTOR = Key::short("transaction.state.log.replication.factor", "1").at_least(1)
        .differs("Kafka's is 3; one node holds one replica");
    /// The longest transaction timeout a producer may ask for, in milliseconds.
    TRANSACTION_MAX_TIMEOUT_MS = Key::int("transaction.max.timeout.ms", "900000").at_least(1);
    /// After how many milliseconds without use a transactional id is forgotten.
    TRANSACTIONAL_ID_EXPIRATION_MS = Key::int("transactional.id.expiration.ms", "604800000").at_least(1);
}

keys! {
    /// Consumer groups and their offsets.
    GROUPS:
    /// How many milliseconds an empty group waits for more members before its first rebalance. 0
    /// suits development.
    GROUP_INITIAL_REBALANCE_DELAY_MS = Key::int("group.initial.rebalance.delay.ms", "3000").at_least(0);
    /// The shortest session timeout in milliseconds that a member may ask for.
    GROUP_MIN_SESSION_TIMEOUT_MS = Key::int("group.min.session.timeout.ms", "6000").at_least(0);
    /// The longest session timeout in milliseconds that a member may ask for.
    GROUP_MAX_SESSION_TIMEOUT_MS = Key::int("group.max.session.timeout.ms", "1800000").at_least(0);
    /// How many members a group may have.
    GROUP_MAX_SIZE = Key::int("group.max.size", "2147483647").at_least(1);
    /// How many partitions __consumer_offsets is created with. Later changes do not move groups.
    OFFSETS_TOPIC_NUM_PARTITIONS = Key::int("offsets.topic.num.partitions", "50").at_least(1);
    /// How many replicas __consumer_offsets is created with.
    OFFSETS_TOPIC_REPLICATION_FACTOR = Key::short("offsets.topic.replication.factor", "1").at_least(1)
        .differs("Kafka's is 3; one node holds one replica");
    /// How many minutes a group's offsets are kept after its last member has left, or after the
    /// last commit where a group has no members.
    OFFSETS_RETENTION_MINUTES = Key::int("offsets.retention.minutes", "10080").at_least(1);
    /// How often in milliseconds expired offsets are looked for.
    OFFSETS_RETENTION_CHECK_INTERVAL_MS = Key::long("offsets.retention.check.interval.ms", "600000").at_least(1);
    /// The longest text in bytes that a client may attach to a committed offset.
    OFFSET_METADATA_MAX_BYTES = Key::int("offset.metadata.max.bytes", "4096").at_least(0);
}

keys! {
    /// Half messages: sent now, seen when their producer commits them.
    HALVES:
    /// How many milliseconds after a half message was sent its producers are first asked what became
    /// of it. The message's own immunity, if longer, counts instead.
    HALF_CHECK_FIRST_MS = Key::long("braid.half.check.first.ms", "6000").between(0, 86_400_000);
    /// How many milliseconds pass between two checks of a half message, and from the last one until
    /// it expires.
    HALF_CHECK_INTERVAL_MS = Key::long("braid.half.check.interval.ms", "30000").between(1, 86_400_000);
    /// How often the producers of a half message are asked. Only what a live producer was handed
    /// counts; one nobody decides after that goes to the discard topic.
    HALF_CHECK_MAX = Key::int("braid.half.check.max", "15").between(0, 10_000);
    /// The age in milliseconds at which a half message that nobody decided goes to the discard
    /// topic, checked or not. Jumps of the wall clock while the broker runs do not make it older,
    /// and what is too old at a start waits until its producers could be asked as often as they
    /// may be.
    HALF_AGE_MAX_MS = Key::long("braid.half.age.max.ms", "14400000").between(1000, 2_592_000_000);
}

/// Words of `compression.type`.
pub(super) const COMPRESSION_TYPES: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
/// Words of `message.timestamp.type`.
pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
/// The sections of the file, with their titles.
pub(super) static SECTIONS: &[(&str, &[Key])] = &[
    ("Identity and network", NETWORK),
    ("Native API", NATIVE),
    ("Storage", STORAGE),
    ("Topic defaults and retention", TOPICS),
    ("Fetching and producing", CLIENTS),
    ("Consumer groups", GROUPS),
    ("Half messages", HALVES),
];

/// Every broker key that is honoured.
pub(super) fn honoured() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|(_, keys)| keys.iter())
}
