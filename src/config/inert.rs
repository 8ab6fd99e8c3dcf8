//! Kafka's broker keys that do nothing here, so that a server.properties from a Kafka broker
//! starts Braid, with one honest warning per key that has been set.
//!
//! A key whose being ignored would be dangerous (security, cluster membership) is refused instead
//! when it is set to anything but its default.

use super::key::{Check, Key, Kind, keys};

const THREADS: &str = "threads follow the number of cores";
const SHARED_LOG: &str = "all partitions share one CommitLog (braid.commitlog.segment.bytes) and retention is exact to the record";
const SYNCED: &str = "every acknowledged write is on disk already, by group commit";
const CLEANER: &str = "one partition is compacted at a time";
const BETWEEN_BROKERS: &str = "what brokers say to each other takes no settings yet";
const TRANSACTIONS: &str = "a transaction ends in one step of the one log";
const SOCKETS: &str = "the system sizes socket buffers and queues";
const JVM: &str = "Braid is not a Java program and loads no classes";
const QUOTAS: &str = "quotas are not built yet";
const NEW_GROUPS: &str = "only classic consumer groups are built yet";
const TIERED: &str = "tiered storage is not built yet";
const QUORUM: &str = "the metadata log keeps itself small";

keys! {
    /// Known keys without effect.
    INERT:
    /// Threads that read requests and write answers.
    NUM_NETWORK_THREADS = Key::int("num.network.threads", "3").at_least(1).cluster_wide().nothing(THREADS);
    /// Threads that work on requests.
    NUM_IO_THREADS = Key::int("num.io.threads", "8").at_least(1).cluster_wide().nothing(THREADS);
    /// Threads for work in the background.
    BACKGROUND_THREADS = Key::int("background.threads", "10").at_least(1).cluster_wide().nothing(THREADS);
    /// Threads that recover and flush a data directory.
    NUM_RECOVERY_THREADS_PER_DATA_DIR = Key::int("num.recovery.threads.per.data.dir", "2").at_least(1).cluster_wide()
        .nothing("recovery reads only what follows the last checkpoint");
    /// Threads that move replicas between data directories.
    NUM_REPLICA_ALTER_LOG_DIRS_THREADS = Key::null("num.replica.alter.log.dirs.threads", Kind::Int)
        .nothing("there is one data directory");
    /// How many requests may wait for a thread.
    QUEUED_MAX_REQUESTS = Key::int("queued.max.requests", "500").at_least(1)
        .nothing("requests are bounded in bytes by braid.request.memory.bytes");
    /// How many bytes of requests may wait for a thread.
    QUEUED_MAX_REQUEST_BYTES = Key::long("queued.max.request.bytes", "-1")
        .nothing("requests are bounded in bytes by braid.request.memory.bytes");
    /// The send buffer of a socket.
    SOCKET_SEND_BUFFER_BYTES = Key::int("socket.send.buffer.bytes", "102400").nothing(SOCKETS);
    /// The receive buffer of a socket.
    SOCKET_RECEIVE_BUFFER_BYTES = Key::int("socket.receive.buffer.bytes", "102400").nothing(SOCKETS);
    /// The backlog of a listening socket.
    SOCKET_LISTEN_BACKLOG_SIZE = Key::int("socket.listen.backlog.size", "50").at_least(1).nothing(SOCKETS);
    /// How long an answer to a failed login is held back.
    CONNECTION_FAILED_AUTHENTICATION_DELAY_MS = Key::int("connection.failed.authentication.delay.ms", "100").at_least(0)
        .nothing("there is no authentication yet");
    /// How long the broker waits for its own requests.
    REQUEST_TIMEOUT_MS = Key::int("request.timeout.ms", "30000").nothing(BETWEEN_BROKERS);

    /// Spread of the age at which segments are closed.
    LOG_ROLL_JITTER_MS = Key::null("log.roll.jitter.ms", Kind::Long).cluster_wide().nothing(SHARED_LOG);
    /// Spread in hours of the age at which segments are closed.
    LOG_ROLL_JITTER_HOURS = Key::int("log.roll.jitter.hours", "0").at_least(0).nothing(SHARED_LOG);
    /// Largest size of a segment's offset index.
    LOG_INDEX_SIZE_MAX_BYTES = Key::int("log.index.size.max.bytes", "10485760").at_least(4).cluster_wide().nothing(INDEX);
    /// Bytes of records between two index entries.
    LOG_INDEX_INTERVAL_BYTES = Key::int("log.index.interval.bytes", "4096").at_least(0).cluster_wide().nothing(INDEX);
    /// How long a removed file is kept.
    LOG_SEGMENT_DELETE_DELAY_MS = Key::long("log.segment.delete.delay.ms", "60000").at_least(0).cluster_wide().nothing(SHARED_LOG);
    /// Whether segment files are preallocated.
    LOG_PREALLOCATE = Key::boolean("log.preallocate", "false").cluster_wide().nothing("CommitLog files are always preallocated");
    /// Records after which a partition is flushed.
    LOG_FLUSH_INTERVAL_MESSAGES = Key::long("log.flush.interval.messages", "9223372036854775807").at_least(1).cluster_wide().nothing(SYNCED);
    /// Milliseconds after which a partition is flushed.
    LOG_FLUSH_INTERVAL_MS = Key::null("log.flush.interval.ms", Kind::Long).cluster_wide().nothing(SYNCED);
    /// How often partitions are checked for a flush.
    LOG_FLUSH_SCHEDULER_INTERVAL_MS = Key::long("log.flush.scheduler.interval.ms", "9223372036854775807").nothing(SYNCED);
    /// How often the recovery point is written.
    LOG_FLUSH_OFFSET_CHECKPOINT_INTERVAL_MS = Key::int("log.flush.offset.checkpoint.interval.ms", "60000").at_least(0)
        .nothing("checkpoints follow the bytes written");
    /// How often log start offsets are written.
    LOG_FLUSH_START_OFFSET_CHECKPOINT_INTERVAL_MS = Key::int("log.flush.start.offset.checkpoint.interval.ms", "60000").at_least(0)
        .nothing("checkpoints follow the bytes written");
    /// How long a broker with a failed directory stays up.
    LOG_DIR_FAILURE_TIMEOUT_MS = Key::long("log.dir.failure.timeout.ms", "30000").at_least(1)
        .nothing("a failed disk stops the broker at once");
    /// A class that may forbid topics.
    CREATE_TOPIC_POLICY_CLASS_NAME = Key::null("create.topic.policy.class.name", Kind::Class)
        .refused("A policy class cannot be loaded, and ignoring it would allow what it forbids.");
    /// A class that may forbid configuration changes.
    ALTER_CONFIG_POLICY_CLASS_NAME = Key::null("alter.config.policy.class.name", Kind::Class)
        .refused("A policy class cannot be loaded, and ignoring it would allow what it forbids.");

    /// Threads of compaction.
    LOG_CLEANER_THREADS = Key::int("log.cleaner.threads", "1").at_least(0).cluster_wide().nothing(CLEANER);

    /// Which listener brokers use among themselves.
    INTER_BROKER_LISTENER_NAME = Key::null("inter.broker.listener.name", Kind::String).nothing(BETWEEN_BROKERS);
    /// Which security protocol brokers use among themselves.
    SECURITY_INTER_BROKER_PROTOCOL = Key::string("security.inter.broker.protocol", "PLAINTEXT")
        .check(Check::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])).nothing(BETWEEN_BROKERS);
    /// The protocol version brokers spoke among themselves before Kafka 4.
    INTER_BROKER_PROTOCOL_VERSION = Key::null("inter.broker.protocol.version", Kind::String)
        .nothing("Kafka 4 has removed it; clients read the finalized metadata.version");
    /// How long a follower may lag before it leaves the in-sync replicas.
    REPLICA_LAG_TIME_MAX_MS = Key::long("replica.lag.time.max.ms", "30000").nothing(BETWEEN_BROKERS);
    /// Bytes a follower asks for of one partition.
    REPLICA_FETCH_MAX_BYTES = Key::int("replica.fetch.max.bytes", "1048576").at_least(0).nothing(BETWEEN_BROKERS);
    /// Threads of a follower.
    NUM_REPLICA_FETCHERS = Key::int("num.replica.fetchers", "1").at_least(1).cluster_wide().nothing(BETWEEN_BROKERS);
    /// A class that chooses a replica near the consumer.
    REPLICA_SELECTOR_CLASS = Key::null("replica.selector.class", Kind::String).nothing(BETWEEN_BROKERS);
    /// Bytes in a second that replication may send.
    LEADER_REPLICATION_THROTTLED_RATE = Key::long("leader.replication.throttled.rate", "9223372036854775807").at_least(0).cluster_wide().nothing(BETWEEN_BROKERS);
    /// Bytes in a second that replication may receive.
    FOLLOWER_REPLICATION_THROTTLED_RATE = Key::long("follower.replication.throttled.rate", "9223372036854775807").at_least(0).cluster_wide().nothing(BETWEEN_BROKERS);
    /// Whether leadership moves away before a stop.
    CONTROLLED_SHUTDOWN_ENABLE = Key::boolean("controlled.shutdown.enable", "true").nothing(BETWEEN_BROKERS);
    /// Where to find the controllers, as a list of host:port.
    CONTROLLER_QUORUM_BOOTSTRAP_SERVERS = Key::list("controller.quorum.bootstrap.servers", "")
        .nothing("controller.quorum.voters names the controllers");
    /// Directory of the metadata log.
    METADATA_LOG_DIR = Key::null("metadata.log.dir", Kind::String).nothing("metadata lives in the data directory");

    /// Replicas of __transaction_state that must have a record.
    TRANSACTION_STATE_LOG_MIN_ISR = Key::int("transaction.state.log.min.isr", "1").at_least(1)
        .differs("Kafka's is 2; one node holds one replica").nothing(TRANSACTIONS);

    /// Group protocols the coordinator serves.
    GROUP_COORDINATOR_REBALANCE_PROTOCOLS = Key::list("group.coordinator.rebalance.protocols", "classic")
        .check(Check::EachOf(&["classic", "consumer", "streams", "share"]))
        .differs("Kafka's is classic,consumer,streams").nothing(NEW_GROUPS);
    /// Threads of the group coordinator.
    GROUP_COORDINATOR_THREADS = Key::int("group.coordinator.threads", "4").at_least(1).nothing(THREADS);
    /// Size of a segment file of __consumer_offsets.
    OFFSETS_TOPIC_SEGMENT_BYTES = Key::int("offsets.topic.segment.bytes", "104857600").at_least(1).nothing(SHARED_LOG);
    /// Codec of __consumer_offsets, by its number.
    OFFSETS_TOPIC_COMPRESSION_CODEC = Key::int("offsets.topic.compression.codec", "0").nothing("offsets are stored uncompressed");
    /// Bytes read at once when a group's offsets are loaded.
    OFFSETS_LOAD_BUFFER_SIZE = Key::int("offsets.load.buffer.size", "5242880").at_least(1).nothing("offsets are read in whole batches");
    /// How long an offset commit may wait for the log.
    OFFSETS_COMMIT_TIMEOUT_MS = Key::int("offsets.commit.timeout.ms", "5000").at_least(1).nothing("a commit is answered when it is on disk");

    /// Whether records can move to an object store.
    REMOTE_LOG_STORAGE_SYSTEM_ENABLE = Key::boolean("remote.log.storage.system.enable", "false")
        .refused("Tiered storage is not built yet.");
    /// How long records stay on the local disk.
    LOG_LOCAL_RETENTION_MS = Key::long("log.local.retention.ms", "-2").at_least(-2).cluster_wide().nothing(TIERED);
    /// How many bytes stay on the local disk.
    LOG_LOCAL_RETENTION_BYTES = Key::long("log.local.retention.bytes", "-2").at_least(-2).cluster_wide().nothing(TIERED);
    /// How old records are before they are copied.
    LOG_REMOTE_COPY_LAG_MS = Key::long("log.remote.copy.lag.ms", "0").at_least(-2).cluster_wide().nothing(TIERED);
    /// How many bytes stay before records are copied.
    LOG_REMOTE_COPY_LAG_BYTES = Key::long("log.remote.copy.lag.bytes", "-1").at_least(-2).cluster_wide().nothing(TIERED);

    /// A class that decides who may do what.
    AUTHORIZER_CLASS_NAME = Key::string("authorizer.class.name", "")
        .refused("Access control is not built yet, and ignoring it would open the broker to everyone.");
    /// Principals that may do everything.
    SUPER_USERS = Key::string("super.users", "").nothing("there is no access control yet");
    /// Whether a resource without rules is open to everyone.
    ALLOW_EVERYONE_IF_NO_ACL_FOUND = Key::boolean("allow.everyone.if.no.acl.found", "false").nothing("there is no access control yet");
    /// Logins the broker accepts.
    SASL_ENABLED_MECHANISMS = Key::list("sasl.enabled.mechanisms", "GSSAPI").per_broker()
        .nothing("there is no authentication yet; a listener that asks for SASL is refused");
    /// Whether clients must show a certificate.
    SSL_CLIENT_AUTH = Key::string("ssl.client.auth", "none").per_broker().check(Check::OneOf(&["required", "requested", "none"]))
        .nothing("there is no TLS yet; a listener that asks for it is refused");
    /// Password of the key store.
    SSL_KEYSTORE_PASSWORD = Key::null("ssl.keystore.password", Kind::Password).per_broker().nothing(TLS);
    /// Password of the private key.
    SSL_KEY_PASSWORD = Key::null("ssl.key.password", Kind::Password).per_broker().nothing(TLS);
    /// Password of the trust store.
    SSL_TRUSTSTORE_PASSWORD = Key::null("ssl.truststore.password", Kind::Password).per_broker().nothing(TLS);
    /// The private key.
    SSL_KEYSTORE_KEY = Key::null("ssl.keystore.key", Kind::Password).per_broker().nothing(TLS);
    /// The certificate chain.
    SSL_KEYSTORE_CERTIFICATE_CHAIN = Key::null("ssl.keystore.certificate.chain", Kind::Password).per_broker().nothing(TLS);
    /// The trusted certificates.
    SSL_TRUSTSTORE_CERTIFICATES = Key::null("ssl.truststore.certificates", Kind::Password).per_broker().nothing(TLS);
    /// Logins of the JVM's own kind.
    SASL_JAAS_CONFIG = Key::null("sasl.jaas.config", Kind::Password).per_broker().nothing("there is no authentication yet");

    /// The largest metrics push of a client.
    TELEMETRY_MAX_BYTES = Key::int("telemetry.max.bytes", "1048576").at_least(1).nothing("client telemetry is not served yet");
    /// Classes that export metrics.
    METRIC_REPORTERS = Key::list("metric.reporters", "").cluster_wide().nothing(JVM);
}

const INDEX: &str = "every batch has an index entry, written with it";
const TLS: &str = "there is no TLS yet";
const GONE: &str = "Kafka 4 has removed it";
const LISTENERS: &str = "Kafka 3 has removed it; use listeners and advertised.listeners";

/// Kafka's keys, by name or by the beginning of the name, that are known only as a whole, and why
/// they do nothing.
pub(super) static FAMILIES: &[(&str, &str)] = &[
    ("ssl.", "there is no TLS yet; a listener that asks for it is refused"),
    ("sasl.", "there is no authentication yet; a listener that asks for SASL is refused"),
    (
        "listener.name.",
        "listeners have no other settings of their own than max.connection.creation.rate yet",
    ),
    ("delegation.token.", "there is no authentication yet"),
    ("password.encoder.", "there is no authentication yet"),
    ("connections.max.reauth.ms", "there is no authentication yet"),
    ("principal.builder.", JVM),
    ("security.providers", JVM),
    ("zookeeper.", "there is no ZooKeeper; metadata lives in the broker"),
    ("controller.quota.", QUOTAS),
    ("quota.", QUOTAS),
    ("client.quota.", QUOTAS),
    ("replication.quota.", QUOTAS),
    ("alter.log.dirs.replication.quota.", QUOTAS),
    ("controller.", BETWEEN_BROKERS),
    ("control.plane.", BETWEEN_BROKERS),
    ("early.start.listeners", BETWEEN_BROKERS),
    ("initial.broker.registration.", BETWEEN_BROKERS),
    ("leader.imbalance.", BETWEEN_BROKERS),
    ("replica.", BETWEEN_BROKERS),
    ("controlled.shutdown.", BETWEEN_BROKERS),
    ("socket.connection.setup.", BETWEEN_BROKERS),
    ("broker.id.generation.enable", BETWEEN_BROKERS),
    ("reserved.broker.max.id", BETWEEN_BROKERS),
    ("cordoned.log.dirs", "there is one data directory"),
    ("metadata.", QUORUM),
    ("log.cleaner.", CLEANER),
    ("log.message.format.version", GONE),
    ("log.message.downconversion.enable", GONE),
    ("log.message.timestamp.difference.max.ms", GONE),
    ("group.coordinator.new.enable", GONE),
    ("offsets.commit.required.acks", GONE),
    ("host.name", LISTENERS),
    ("port", LISTENERS),
    ("advertised.host.name", LISTENERS),
    ("advertised.port", LISTENERS),
    ("remote.log.", TIERED),
    ("remote.fetch.", TIERED),
    ("remote.list.offsets.", TIERED),
    ("rsm.config.", TIERED),
    ("rlmm.config.", TIERED),
    ("follower.fetch.last.tiered.", TIERED),
    ("transaction.", TRANSACTIONS),
    ("transactional.", TRANSACTIONS),
    ("add.partitions.to.txn.", TRANSACTIONS),
    ("group.consumer.", NEW_GROUPS),
    ("group.share.", NEW_GROUPS),
    ("group.streams.", NEW_GROUPS),
    ("group.coordinator.", NEW_GROUPS),
    ("share.", NEW_GROUPS),
    ("fetch.purgatory.", "waiting requests are purged as they are answered"),
    ("producer.purgatory.", "waiting requests are purged as they are answered"),
    ("delete.records.purgatory.", "waiting requests are purged as they are answered"),
    ("config.providers.", "values are taken as they stand"),
    ("config.providers", "values are taken as they stand"),
    ("kafka.metrics.", JVM),
    ("metrics.", JVM),
    ("auto.include.jmx.", JVM),
    ("confluent.", "it belongs to another product"),
];
