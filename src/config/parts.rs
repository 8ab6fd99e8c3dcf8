//! The settings as each part of the broker takes them: typed, in the units of their names.
//!
//! A part receives its own struct and nothing else. What these structs hold has been checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use braid_base::model::BrokerId;

use super::broker as keys;
use super::inert;
use super::listener::ListenerConfig;
use super::native::NativeListenerConfig;
use super::quorum::QuorumConfig;
use super::value::{address_and_count, parts as parts_of_text};
use super::values::Values;

/// Who this broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its number.
    pub id: BrokerId,
    /// Its rack, as clients see it.
    pub rack: Option<String>,
    /// The cluster id a new data directory is to get, and an old one must have.
    pub cluster_id: Option<String>,
    /// The metadata quorum it is part of; none for a node alone.
    pub quorum: Option<QuorumConfig>,
}

/// Sockets and what they may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// At least one.
    pub listeners: Vec<ListenerConfig>,
    /// Largest request frame.
    pub request_size_bytes_max: usize,
    /// Bytes of requests in memory at once, over all connections; not less than one request.
    pub request_memory_bytes: usize,
    /// Idle time after which a connection is closed; `None` never.
    pub idle_max: Option<Duration>,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once of one client address.
    pub connections_per_ip_max: usize,
    /// Instead of the limit above, for these addresses.
    pub connections_by_ip_max: BTreeMap<IpAddr, usize>,
    /// New connections in a second.
    pub connection_creations_per_second_max: u32,
    /// How long a connection may take to send its first request.
    pub first_request_max: Duration,
}

/// The native API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeConfig {
    /// None: it is off.
    pub listeners: Vec<NativeListenerConfig>,
    /// Largest body of a request.
    pub request_size_bytes_max: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// For how long a message id is remembered that a sender gave.
    pub message_id_window: Duration,
    /// Partitions in all, above which the metrics do not tell of each.
    pub metrics_partitions_max: usize,
}

/// The data directory and the CommitLog in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// The data directory.
    pub dir: PathBuf,
    /// Size of a CommitLog file.
    pub segment_size_bytes: u64,
    /// Memory for the newest end of the log.
    pub ring_size_bytes: usize,
    /// Whether appends go on behind damage that hides acknowledged records.
    pub accept_loss: bool,
    /// How often retention is applied.
    pub retention_check_interval: Duration,
    /// Compaction, and giving space back.
    pub cleaner: CleanerConfig,
}

/// How old records are cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanerConfig {
    /// Whether compacted topics are compacted.
    pub compacts: bool,
    /// How long it rests after a round.
    pub backoff: Duration,
    /// Memory for keys.
    pub key_memory_bytes: usize,
    /// Most bytes it reads and writes in a second.
    pub bytes_per_second_max: u64,
}

/// How topics come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicsConfig {
    /// Partitions where the creator leaves the number open.
    pub partitions: i32,
    /// Replicas where the creator leaves the number open.
    pub replication_factor: i16,
    /// The most replicas that a partition may have.
    pub replication_factor_max: i16,
    /// Whether a first mention creates a topic.
    pub auto_create: bool,
    /// Whether topics can be deleted.
    pub deletion: bool,
    /// Partitions that one answer of DescribeTopicPartitions lists at most.
    pub described_partitions_max: usize,
}

/// Fetch limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchConfig {
    /// Most bytes of records in one answer.
    pub response_size_bytes_max: usize,
    /// Incremental fetch sessions kept.
    pub sessions_max: usize,
}

/// Idempotent and transactional producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerConfig {
    /// Idle time after which a producer's state in a partition is dropped.
    pub expiration: Duration,
    /// How far ahead a message may be due, in ms.
    pub delay_max_ms: i64,
    /// Partitions of `__transaction_state`.
    pub transaction_partitions: i32,
    /// Replicas of `__transaction_state`.
    pub transaction_replication_factor: i16,
    /// Longest transaction timeout a producer may ask for.
    pub transaction_timeout_max_ms: i32,
    /// Idle time after which a transactional id is forgotten.
    pub transactional_id_expiration: Duration,
}

/// Consumer groups and their offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// Shortest session timeout a member may ask for.
    pub session_timeout_min: Duration,
    /// Longest session timeout a member may ask for; not less than the shortest.
    pub session_timeout_max: Duration,
    /// Members of one group.
    pub members_max: usize,
    /// Partitions of `__consumer_offsets`.
    pub offsets_partitions: i32,
    /// What `__consumer_offsets` is told to have as `segment.bytes`.
    pub offsets_segment_bytes: i32,
    /// Replicas of `__consumer_offsets`.
    pub offsets_replication_factor: i16,
    /// How long the offsets of a group without members are kept.
    pub offsets_retention: Duration,
    /// How often expired offsets are looked for.
    pub offsets_retention_check_interval: Duration,
    /// Longest text beside an offset.
    pub offset_metadata_bytes_max: usize,
}

/// Half messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfConfig {
    /// From the sending of a half message to its first check.
    pub first_check: Duration,
    /// From a check to the next, and from the last to the expiry.
    pub check_interval: Duration,
    /// Checks of one half message.
    pub checks_max: u16,
    /// Age at which a half message expires.
    pub age_max: Duration,
}

/// All parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) node: NodeConfig,
    pub(super) network: NetworkConfig,
    pub(super) native: NativeConfig,
    pub(super) storage: StorageConfig,
    pub(super) topics: TopicsConfig,
    pub(super) fetch: FetchConfig,
    pub(super) producer: ProducerConfig,
    pub(super) group: GroupConfig,
    pub(super) half: HalfConfig,
}

impl Parts {
    pub(super) fn read(
        values: &Values,
        (id, quorum): (BrokerId, Option<QuorumConfig>),
        listeners: Vec<ListenerConfig>,
        native: Vec<NativeListenerConfig>,
        dir: PathBuf,
    ) -> Self {
        Self {
            node: NodeConfig {
                id,
                rack: values.optional_text(&keys::BROKER_RACK),
                cluster_id: values.optional_text(&keys::CLUSTER_ID),
                quorum,
            },
            network: network(values, listeners),
            native: NativeConfig {
                listeners: native,
                request_size_bytes_max: count(values.int(&keys::NATIVE_REQUEST_MAX_BYTES)),
                connections_max: count(values.int(&keys::NATIVE_MAX_CONNECTIONS)),
                message_id_window: ms(values.long(&keys::NATIVE_MESSAGE_ID_WINDOW_MS)),
                metrics_partitions_max: count(values.int(&keys::NATIVE_METRICS_PARTITIONS_MAX)),
            },
            storage: StorageConfig {
                dir,
                segment_size_bytes: unsigned(values.long(&keys::COMMITLOG_SEGMENT_BYTES)),
                ring_size_bytes: size(values.long(&keys::COMMITLOG_RING_BYTES)),
                accept_loss: values.boolean(&keys::COMMITLOG_LOSS_ACCEPT),
                retention_check_interval: ms(values.long(&keys::LOG_RETENTION_CHECK_INTERVAL_MS)),
                cleaner: cleaner(values),
            },
            topics: TopicsConfig {
                partitions: values.int(&keys::NUM_PARTITIONS),
                replication_factor: i16::try_from(values.int(&keys::DEFAULT_REPLICATION_FACTOR))
                    .unwrap_or(i16::MAX),
                replication_factor_max: if values.boolean(&keys::REPLICATION_ENABLE) {
                    i16::MAX
                } else {
                    1
                },
                auto_create: values.boolean(&keys::AUTO_CREATE_TOPICS_ENABLE),
                deletion: values.boolean(&keys::DELETE_TOPIC_ENABLE),
                described_partitions_max: count(
                    values.int(&keys::MAX_REQUEST_PARTITION_SIZE_LIMIT),
                ),
            },
            fetch: FetchConfig {
                response_size_bytes_max: count(values.int(&keys::FETCH_MAX_BYTES)),
                sessions_max: count(values.int(&keys::MAX_INCREMENTAL_FETCH_SESSION_CACHE_SLOTS)),
            },
            producer: ProducerConfig {
                expiration: ms(values.int(&keys::PRODUCER_ID_EXPIRATION_MS)),
                delay_max_ms: values.long(&keys::TIMER_DELAY_MAX_MS),
                transaction_partitions: values.int(&keys::TRANSACTION_STATE_LOG_NUM_PARTITIONS),
                transaction_replication_factor: values
                    .short(&keys::TRANSACTION_STATE_LOG_REPLICATION_FACTOR),
                transaction_timeout_max_ms: values.int(&keys::TRANSACTION_MAX_TIMEOUT_MS),
                transactional_id_expiration: ms(values.int(&keys::TRANSACTIONAL_ID_EXPIRATION_MS)),
            },
            group: group(values),
            half: HalfConfig {
                first_check: ms(values.long(&keys::HALF_CHECK_FIRST_MS)),
                check_interval: ms(values.long(&keys::HALF_CHECK_INTERVAL_MS)),
                checks_max: u16::try_from(values.int(&keys::HALF_CHECK_MAX)).unwrap_or(u16::MAX),
                age_max: ms(values.long(&keys::HALF_AGE_MAX_MS)),
            },
        }
    }
}

/// However fast the disk is said to be: what is more than this, producers feel.
const CLEANER_BYTES_PER_SECOND_MAX: f64 = 134_217_728.0;

fn cleaner(values: &Values) -> CleanerConfig {
    let rate = values.double(&keys::LOG_CLEANER_IO_MAX_BYTES_PER_SECOND);
    let rate = rate.clamp(1.0, CLEANER_BYTES_PER_SECOND_MAX);
    CleanerConfig {
        compacts: values.boolean(&keys::LOG_CLEANER_ENABLE),
        backoff: ms(values.long(&keys::LOG_CLEANER_BACKOFF_MS)),
        key_memory_bytes: size(values.long(&keys::LOG_CLEANER_DEDUPE_BUFFER_SIZE)),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what fits"
        )]
        bytes_per_second_max: rate as u64,
    }
}

fn network(values: &Values, listeners: Vec<ListenerConfig>) -> NetworkConfig {
    let idle_ms = values.long(&keys::CONNECTIONS_MAX_IDLE_MS);
    NetworkConfig {
        listeners,
        request_size_bytes_max: count(values.int(&keys::SOCKET_REQUEST_MAX_BYTES)),
        request_memory_bytes: size(values.long(&keys::REQUEST_MEMORY_BYTES)),
        idle_max: (idle_ms >= 0).then(|| ms(idle_ms)),
        connections_max: count(values.int(&keys::MAX_CONNECTIONS)),
        connections_per_ip_max: count(values.int(&keys::MAX_CONNECTIONS_PER_IP)),
        connections_by_ip_max: by_address(values),
        connection_creations_per_second_max: per_second(
            values.int(&keys::MAX_CONNECTION_CREATION_RATE),
        ),
        first_request_max: ms(values.long(&keys::FIRST_REQUEST_MAX_MS)),
    }
}

fn group(values: &Values) -> GroupConfig {
    let retention_minutes = values.int(&keys::OFFSETS_RETENTION_MINUTES);
    GroupConfig {
        initial_rebalance_delay: ms(values.int(&keys::GROUP_INITIAL_REBALANCE_DELAY_MS)),
        session_timeout_min: ms(values.int(&keys::GROUP_MIN_SESSION_TIMEOUT_MS)),
        session_timeout_max: ms(values.int(&keys::GROUP_MAX_SESSION_TIMEOUT_MS)),
        members_max: count(values.int(&keys::GROUP_MAX_SIZE)),
        offsets_partitions: values.int(&keys::OFFSETS_TOPIC_NUM_PARTITIONS),
        offsets_segment_bytes: values.int(&inert::OFFSETS_TOPIC_SEGMENT_BYTES),
        offsets_replication_factor: values.short(&keys::OFFSETS_TOPIC_REPLICATION_FACTOR),
        offsets_retention: ms(i64::from(retention_minutes) * 60_000),
        offsets_retention_check_interval: ms(
            values.long(&keys::OFFSETS_RETENTION_CHECK_INTERVAL_MS)
        ),
        offset_metadata_bytes_max: count(values.int(&keys::OFFSET_METADATA_MAX_BYTES)),
    }
}

fn by_address(values: &Values) -> BTreeMap<IpAddr, usize> {
    let overrides = values.text(&keys::MAX_CONNECTIONS_PER_IP_OVERRIDES);
    parts_of_text(&overrides).filter_map(address_and_count).collect()
}

/// The checks of the keys keep these numbers from being negative.
fn unsigned(n: impl Into<i64>) -> u64 {
    u64::try_from(n.into()).unwrap_or(0)
}

fn size(n: impl Into<i64>) -> usize {
    usize::try_from(unsigned(n)).unwrap_or(usize::MAX)
}

pub(super) fn per_second(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

fn count(n: i32) -> usize {
    size(n)
}

fn ms(n: impl Into<i64>) -> Duration {
    Duration::from_millis(unsigned(n))
}
