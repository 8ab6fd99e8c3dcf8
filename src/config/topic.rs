//! The topic keys: one table, the checks of CreateTopics, and the values in force for a topic.
//!
//! A topic's own settings are plain text in the metadata; what is in force is the topic's setting,
//! else the broker's under the synonym, else the default. Nothing here does I/O.

use std::collections::BTreeMap;

use super::broker::{COMPRESSION_TYPES, TIMESTAMP_TYPES};
use super::key::{Check, Effect, Key, Synonym, keys};
use super::value::{InvalidValue, Value};
use super::values::Values;

const SHARED_LOG: &str = "all partitions share one CommitLog and retention is exact to the record";
const SYNCED: &str = "every acknowledged write is on disk already, by group commit";
const ONE_NODE: &str = "there is one broker and nothing to replicate yet";
const SHARED_LEADER: &str =
    "partitions of many topics have one leader together: set it for the cluster";
const TIERED: &str = "tiered storage is not built yet";

macro_rules! synonyms {
    ($($synonym:expr),+) => {{ const LIST: &[Synonym] = &[$($synonym),+]; LIST }};
}

keys! {
    /// Every topic key, sorted by name.
    TOPIC_KEYS:
    /// What happens to old records: `delete` applies retention, `compact` keeps the newest of each
    /// key, empty keeps everything.
    CLEANUP_POLICY = Key::list("cleanup.policy", "delete").check(Check::EachOf(&["compact", "delete"]))
        .synonyms(synonyms![Synonym::same("log.cleanup.policy")]);
    /// The level when compression.type is gzip.
    COMPRESSION_GZIP_LEVEL = Key::int("compression.gzip.level", "-1").check(Check::GzipLevel)
        .synonyms(synonyms![Synonym::same("compression.gzip.level")]);
    /// The level when compression.type is lz4.
    COMPRESSION_LZ4_LEVEL = Key::int("compression.lz4.level", "9").between(1, 17)
        .synonyms(synonyms![Synonym::same("compression.lz4.level")]);
    /// The codec batches are stored with: `producer` keeps what the producer chose.
    COMPRESSION_TYPE = Key::string("compression.type", "producer").check(Check::OneOf(COMPRESSION_TYPES))
        .synonyms(synonyms![Synonym::same("compression.type")]);
    /// The level when compression.type is zstd.
    COMPRESSION_ZSTD_LEVEL = Key::int("compression.zstd.level", "3").between(-131_072, 22)
        .synonyms(synonyms![Synonym::same("compression.zstd.level")]);
    /// How many milliseconds a tombstone outlives its record on a compacted topic.
    DELETE_RETENTION_MS = Key::long("delete.retention.ms", "86400000").at_least(0)
        .synonyms(synonyms![Synonym::same("log.cleaner.delete.retention.ms")]);
    /// Whether undeliverable records of a share group may be written to this topic.
    ERRORS_DEADLETTERQUEUE_GROUP_ENABLE = Key::boolean("errors.deadletterqueue.group.enable", "false")
        .nothing("share groups are not built yet");
    /// How many milliseconds a removed segment file is kept.
    FILE_DELETE_DELAY_MS = Key::long("file.delete.delay.ms", "60000").at_least(0)
        .synonyms(synonyms![Synonym::same("log.segment.delete.delay.ms")]).nothing(SHARED_LOG);
    /// Records after which the partition is flushed.
    FLUSH_MESSAGES = Key::long("flush.messages", "9223372036854775807").at_least(1)
        .synonyms(synonyms![Synonym::same("log.flush.interval.messages")]).nothing(SYNCED);
    /// Milliseconds after which the partition is flushed.
    FLUSH_MS = Key::long("flush.ms", "9223372036854775807").at_least(0)
        .synonyms(synonyms![Synonym::same("log.flush.interval.ms"), Synonym::same("log.flush.scheduler.interval.ms")])
        .nothing(SYNCED);
    /// Replicas whose replication is throttled on the follower's side.
    FOLLOWER_REPLICATION_THROTTLED_REPLICAS = Key::list("follower.replication.throttled.replicas", "")
        .check(Check::ThrottledReplicas).nothing(ONE_NODE);
    /// Bytes of records between two index entries.
    INDEX_INTERVAL_BYTES = Key::int("index.interval.bytes", "4096").at_least(0)
        .synonyms(synonyms![Synonym::same("log.index.interval.bytes")])
        .nothing("every batch has an index entry, written with it");
    /// Replicas whose replication is throttled on the leader's side.
    LEADER_REPLICATION_THROTTLED_REPLICAS = Key::list("leader.replication.throttled.replicas", "")
        .check(Check::ThrottledReplicas).nothing(ONE_NODE);
    /// How many bytes stay on the local disk of a tiered topic; -2 as retention.bytes.
    LOCAL_RETENTION_BYTES = Key::long("local.retention.bytes", "-2").at_least(-2)
        .synonyms(synonyms![Synonym::same("log.local.retention.bytes")]).nothing(TIERED);
    /// How many milliseconds records stay on the local disk of a tiered topic; -2 as retention.ms.
    LOCAL_RETENTION_MS = Key::long("local.retention.ms", "-2").at_least(-2)
        .synonyms(synonyms![Synonym::same("log.local.retention.ms")]).nothing(TIERED);
    /// After how many milliseconds compaction must have seen a record.
    MAX_COMPACTION_LAG_MS = Key::long("max.compaction.lag.ms", "9223372036854775807").at_least(1)
        .synonyms(synonyms![Synonym::same("log.cleaner.max.compaction.lag.ms")]);
    /// The largest record batch in bytes, as it is sent, compressed or not.
    MAX_MESSAGE_BYTES = Key::int("max.message.bytes", "1048588").at_least(0)
        .synonyms(synonyms![Synonym::same("message.max.bytes")]);
    /// How far in milliseconds a producer's timestamp may lie after the broker's clock.
    MESSAGE_TIMESTAMP_AFTER_MAX_MS = Key::long("message.timestamp.after.max.ms", "3600000").at_least(0)
        .synonyms(synonyms![Synonym::same("log.message.timestamp.after.max.ms")]);
    /// How far in milliseconds a producer's timestamp may lie before the broker's clock.
    MESSAGE_TIMESTAMP_BEFORE_MAX_MS = Key::long("message.timestamp.before.max.ms", "9223372036854775807").at_least(0)
        .synonyms(synonyms![Synonym::same("log.message.timestamp.before.max.ms")]);
    /// Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).
    MESSAGE_TIMESTAMP_TYPE = Key::string("message.timestamp.type", "CreateTime").check(Check::OneOf(TIMESTAMP_TYPES))
        .synonyms(synonyms![Synonym::same("log.message.timestamp.type")]);
    /// Which messages the topic takes. DELAY: every record needs a header TIMER_DELIVER_MS or
    /// TIMER_DELAY_MS, and appears when it is due. The native API holds all four apart:
    /// FIFO messages name a message group, DELAY messages a time, and only half messages that are
    /// committed get into a TRANSACTION topic.
    MESSAGE_TYPE = Key::string("message.type", "NORMAL").check(Check::OneOf(MessageType::NAMES));
    /// More than this share of a partition must be new before it is compacted.
    MIN_CLEANABLE_DIRTY_RATIO = Key::double("min.cleanable.dirty.ratio", "0.5").between(0, 1)
        .synonyms(synonyms![Synonym::same("log.cleaner.min.cleanable.ratio")]);
    /// How many milliseconds a record stays as it is before compaction.
    MIN_COMPACTION_LAG_MS = Key::long("min.compaction.lag.ms", "0").at_least(0)
        .synonyms(synonyms![Synonym::same("log.cleaner.min.compaction.lag.ms")]);
    /// How many replicas must have a record on disk before acks=all is answered, if the partition
    /// has as many. With fewer alive, such writes are refused.
    MIN_INSYNC_REPLICAS = Key::int("min.insync.replicas", "1").at_least(1)
        .synonyms(synonyms![Synonym::same("min.insync.replicas")]);
    /// Whether segment files are preallocated.
    PREALLOCATE = Key::boolean("preallocate", "false")
        .synonyms(synonyms![Synonym::same("log.preallocate")]).nothing("CommitLog files are always preallocated");
    /// How many bytes may wait before records are copied to the object store.
    REMOTE_COPY_LAG_BYTES = Key::long("remote.copy.lag.bytes", "-1").at_least(-2)
        .synonyms(synonyms![Synonym::same("log.remote.copy.lag.bytes")]).nothing(TIERED);
    /// How many milliseconds records may wait before they are copied to the object store.
    REMOTE_COPY_LAG_MS = Key::long("remote.copy.lag.ms", "0").at_least(-2)
        .synonyms(synonyms![Synonym::same("log.remote.copy.lag.ms")]).nothing(TIERED);
    /// Whether copying to the object store is paused.
    REMOTE_LOG_COPY_DISABLE = Key::boolean("remote.log.copy.disable", "false").nothing(TIERED);
    /// Whether the copies are removed when tiering is switched off.
    REMOTE_LOG_DELETE_ON_DISABLE = Key::boolean("remote.log.delete.on.disable", "false").nothing(TIERED);
    /// Whether old records move to an object store.
    REMOTE_STORAGE_ENABLE = Key::boolean("remote.storage.enable", "false").refused("Tiered storage is not built yet.");
    /// How many bytes of records a partition keeps; the oldest go first; -1 no limit.
    RETENTION_BYTES = Key::long("retention.bytes", "-1")
        .synonyms(synonyms![Synonym::same("log.retention.bytes")]);
    /// How many milliseconds records are kept; -1 for ever.
    RETENTION_MS = Key::long("retention.ms", "604800000").at_least(-1)
        .synonyms(synonyms![Synonym::same("log.retention.ms"), Synonym::minutes("log.retention.minutes"),
                            Synonym::hours("log.retention.hours")]);
    /// Size in bytes of the head of a compacted partition, which compaction leaves as it is. Nothing
    /// else, since all partitions share one CommitLog.
    SEGMENT_BYTES = Key::int("segment.bytes", "1073741824").at_least(1_048_576)
        .synonyms(synonyms![Synonym::same("log.segment.bytes")]);
    /// Largest size in bytes of a segment's offset index.
    SEGMENT_INDEX_BYTES = Key::int("segment.index.bytes", "10485760").at_least(4)
        .synonyms(synonyms![Synonym::same("log.index.size.max.bytes")]).nothing(SHARED_LOG);
    /// Spread in milliseconds of the age at which segments are closed.
    SEGMENT_JITTER_MS = Key::long("segment.jitter.ms", "0").at_least(0)
        .synonyms(synonyms![Synonym::same("log.roll.jitter.ms"), Synonym::hours("log.roll.jitter.hours")])
        .nothing(SHARED_LOG);
    /// Age in milliseconds up to which records are the head of a compacted partition, which compaction
    /// leaves as it is.
    SEGMENT_MS = Key::long("segment.ms", "604800000").at_least(1)
        .synonyms(synonyms![Synonym::same("log.roll.ms"), Synonym::hours("log.roll.hours")]);
    /// Whether a replica that is behind may lead, at the price of records.
    UNCLEAN_LEADER_ELECTION_ENABLE = Key::boolean("unclean.leader.election.enable", "false")
        .synonyms(synonyms![Synonym::same("unclean.leader.election.enable")]).nothing(SHARED_LEADER);
}

/// Keys that Kafka 4 has dropped and that older tools still send: taken and forgotten.
pub static FORGOTTEN_TOPIC_KEYS: &[&str] =
    &["message.format.version", "message.downconversion.enable"];

const INTERNAL_TOPICS: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// Whether clients must treat a topic of this name as the broker's own.
#[must_use]
pub fn is_internal_topic(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// The topic key of that name.
#[must_use]
pub fn topic_key(name: &str) -> Option<&'static Key> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

/// Those of a topic's settings that do nothing here, and why: the text completes "has no effect
/// because …". They are taken, because tools send them; whoever takes them should say so.
pub fn topic_settings_without_effect(
    own: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&'static Key, &'static str)> {
    own.keys().filter_map(|name| {
        let key = topic_key(name)?;
        match key.effect {
            Effect::Nothing(because) => Some((key, because)),
            Effect::Full | Effect::Partial(_) | Effect::Refused(_) => None,
        }
    })
}

/// Why a topic's settings are refused (INVALID_CONFIG). Prints as Kafka does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicConfigError {
    /// No topic key has this name.
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    /// A key came without a value.
    #[error("Null value not supported for topic configs: {0}")]
    Null(String),
    /// A value is not of the type or out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// The two compaction lags contradict each other.
    #[error(
        "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
    )]
    CompactionLags {
        /// min.compaction.lag.ms in force.
        min: i64,
        /// max.compaction.lag.ms in force.
        max: i64,
    },
    /// A tiered topic was asked for.
    #[error(
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
    )]
    TieredStorage,
}

/// What is in force for one topic, as the parts that obey it need it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicConfig {
    /// Whether retention by time and size applies.
    pub delete: bool,
    /// Whether the newest record of each key is kept; such a topic refuses records without a key.
    pub compact: bool,
    /// How, if so.
    pub compaction: CompactionConfig,
    /// The codec batches are stored with.
    pub compression: Compression,
    /// Largest batch in bytes.
    pub batch_size_bytes_max: usize,
    /// Whose clock stamps records.
    pub timestamp_type: TimestampType,
    /// How far a producer's timestamp may lie before now.
    pub timestamp_before_ms_max: i64,
    /// How far a producer's timestamp may lie after now.
    pub timestamp_after_ms_max: i64,
    /// Which messages it takes.
    pub message_type: MessageType,
    /// Replicas that must have a record on disk for acks=all.
    pub min_insync_replicas: i32,
    /// How long records are kept; `None` for ever, also when `delete` is false.
    pub retention_ms: Option<i64>,
    /// How many bytes a partition keeps; `None` without limit, also when `delete` is false.
    pub retention_bytes: Option<i64>,
}

/// When and how a topic is compacted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionConfig {
    /// How long a record stays as it is.
    pub min_lag_ms: i64,
    /// After how long compaction must have seen a record.
    pub max_lag_ms: i64,
    /// More than this part must be new.
    pub dirty_ratio_min: f64,
    /// How long tombstones stay.
    pub delete_retention_ms: i64,
    /// Up to which age records are the head, which stays as it is.
    pub head_age_ms: i64,
    /// How large the head is at most.
    pub head_size_bytes: u64,
}

/// The codec of a topic's stored batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent them.
    Producer,
    Uncompressed,
    /// At this level.
    Gzip(i32),
    Snappy,
    /// At this level.
    Lz4(i32),
    /// At this level.
    Zstd(i32),
}

/// Whose clock stamps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// Which messages a topic takes: RocketMQ's `message.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// Any, at once.
    Normal,
    /// Each of a message group, in the group's order.
    Fifo,
    /// Each at a time of its own.
    Delay,
    /// Each by a half message that was committed.
    Transaction,
}

impl MessageType {
    /// The words of the key, in the order of the variants.
    pub const NAMES: &'static [&'static str] = &["NORMAL", "FIFO", "DELAY", "TRANSACTION"];

    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
        }
    }

    /// The type of a word of the key; what is no word of it is NORMAL.
    fn of_name(name: &str) -> Self {
        match name {
            "FIFO" => Self::Fifo,
            "DELAY" => Self::Delay,
            "TRANSACTION" => Self::Transaction,
            _ => Self::Normal,
        }
    }
}

/// Checks a topic's settings as CreateTopics does and returns what is to be stored; keys that
/// older tools still send are left out.
///
/// # Errors
/// The first thing wrong, in Kafka's words.
pub(super) fn validate<'a>(
    settings: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    broker: &Values,
) -> Result<BTreeMap<String, String>, TopicConfigError> {
    let mut stored = BTreeMap::new();
    for (name, text) in settings {
        if FORGOTTEN_TOPIC_KEYS.contains(&name) {
            continue;
        }
        let key = topic_key(name).ok_or_else(|| TopicConfigError::Unknown(name.to_owned()))?;
        let text = text.ok_or_else(|| TopicConfigError::Null(name.to_owned()))?;
        let value = key.parse(text)?;
        if key.name == REMOTE_STORAGE_ENABLE.name && value == Value::Boolean(true) {
            return Err(TopicConfigError::TieredStorage);
        }
        stored.insert(name.to_owned(), text.to_owned());
    }
    let view = View { own: &stored, broker };
    let (min, max) = (view.long(&MIN_COMPACTION_LAG_MS), view.long(&MAX_COMPACTION_LAG_MS));
    if min > max {
        return Err(TopicConfigError::CompactionLags { min, max });
    }
    Ok(stored)
}

/// What is in force for a topic with these settings of its own.
pub(super) fn in_force(own: &BTreeMap<String, String>, broker: &Values) -> TopicConfig {
    let view = View { own, broker };
    let policy = view.list(&CLEANUP_POLICY);
    let delete = policy.iter().any(|word| word == "delete");
    let kept = |limit: i64| (delete && limit >= 0).then_some(limit);
    TopicConfig {
        delete,
        compact: policy.iter().any(|word| word == "compact"),
        compaction: CompactionConfig {
            min_lag_ms: view.long(&MIN_COMPACTION_LAG_MS),
            max_lag_ms: view.long(&MAX_COMPACTION_LAG_MS),
            dirty_ratio_min: view.double(&MIN_CLEANABLE_DIRTY_RATIO),
            delete_retention_ms: view.long(&DELETE_RETENTION_MS),
            head_age_ms: view.long(&SEGMENT_MS),
            head_size_bytes: u64::try_from(view.int(&SEGMENT_BYTES)).unwrap_or(0),
        },
        compression: view.compression(),
        batch_size_bytes_max: usize::try_from(view.int(&MAX_MESSAGE_BYTES)).unwrap_or(0),
        timestamp_type: match view.text(&MESSAGE_TIMESTAMP_TYPE).as_str() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        timestamp_before_ms_max: view.long(&MESSAGE_TIMESTAMP_BEFORE_MAX_MS),
        timestamp_after_ms_max: view.long(&MESSAGE_TIMESTAMP_AFTER_MAX_MS),
        message_type: MessageType::of_name(&view.text(&MESSAGE_TYPE)),
        min_insync_replicas: view.int(&MIN_INSYNC_REPLICAS),
        retention_ms: kept(view.long(&RETENTION_MS)),
        retention_bytes: kept(view.long(&RETENTION_BYTES)),
    }
}

/// The value in force of one topic key: the topic's own, else the broker's, else the default. A
/// stored text that no longer reads (the rules have become stricter since) counts as not set.
pub(super) fn value_in_force(
    key: &'static Key,
    own: &BTreeMap<String, String>,
    broker: &Values,
) -> Value {
    own.get(key.name)
        .and_then(|text| key.parse(text).ok())
        .or_else(|| broker.through_synonyms(key))
        .or_else(|| key.default_value())
        .unwrap_or_else(|| unreachable!("topic key {} has a default", key.name))
}

/// A topic's settings over the broker's.
struct View<'a> {
    own: &'a BTreeMap<String, String>,
    broker: &'a Values,
}

impl View<'_> {
    fn value(&self, key: &'static Key) -> Value {
        value_in_force(key, self.own, self.broker)
    }
    fn long(&self, key: &'static Key) -> i64 {
        match self.value(key) {
            Value::Long(value) => value,
            other => unreachable!("{} is no long: {other:?}", key.name),
        }
    }
    fn int(&self, key: &'static Key) -> i32 {
        match self.value(key) {
            Value::Int(value) => value,
            other => unreachable!("{} is no int: {other:?}", key.name),
        }
    }
    fn double(&self, key: &'static Key) -> f64 {
        match self.value(key) {
            Value::Double(value) => value,
            other => unreachable!("{} is no double: {other:?}", key.name),
        }
    }
    fn text(&self, key: &'static Key) -> String {
        match self.value(key) {
            Value::Text(value) => value,
            other => unreachable!("{} is no text: {other:?}", key.name),
        }
    }
    fn list(&self, key: &'static Key) -> Vec<String> {
        match self.value(key) {
            Value::List(value) => value,
            other => unreachable!("{} is no list: {other:?}", key.name),
        }
    }
    fn compression(&self) -> Compression {
        match self.text(&COMPRESSION_TYPE).as_str() {
            "uncompressed" => Compression::Uncompressed,
            "gzip" => Compression::Gzip(self.int(&COMPRESSION_GZIP_LEVEL)),
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4(self.int(&COMPRESSION_LZ4_LEVEL)),
            "zstd" => Compression::Zstd(self.int(&COMPRESSION_ZSTD_LEVEL)),
            _ => Compression::Producer,
        }
    }
}
