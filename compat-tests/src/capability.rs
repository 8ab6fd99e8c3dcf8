//! What the scenarios show, and which client's library cannot do it at all. A row that is neither shown nor excused here
//! is a failure of the run, not a gap in the table.

use crate::client::Kind;

/// One row of the table in docs/compatibility.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    Codecs,
    Headers,
    Sizes,
    Timestamps,
    AppendTime,
    OffsetsByTime,
    MaxTimestamp,
    Compaction,
    Acks,
    RecordTooLarge,
    AutoCreate,
    UnknownTopic,
    Topics,
    Configs,
    Cluster,
    AddPartitions,
    DeleteRecords,
    AlterConfigs,
    DescribeGroups,
    DeleteGroups,
    DeleteOffsets,
    Commits,
    Groups,
    Cooperative,
    StaticMembers,
    MixedGroups,
    Idempotence,
    Crashes,
    Transactions,
    ExactlyOnce,
    RealData,
}

impl Capability {
    /// All rows, in the table's order.
    pub const ALL: [Capability; 31] = [
        Capability::Codecs,
        Capability::Headers,
        Capability::Sizes,
        Capability::Timestamps,
        Capability::AppendTime,
        Capability::OffsetsByTime,
        Capability::MaxTimestamp,
        Capability::Compaction,
        Capability::Acks,
        Capability::RecordTooLarge,
        Capability::AutoCreate,
        Capability::UnknownTopic,
        Capability::Topics,
        Capability::Configs,
        Capability::Cluster,
        Capability::AddPartitions,
        Capability::DeleteRecords,
        Capability::AlterConfigs,
        Capability::DescribeGroups,
        Capability::DeleteGroups,
        Capability::DeleteOffsets,
        Capability::Commits,
        Capability::Groups,
        Capability::Cooperative,
        Capability::StaticMembers,
        Capability::MixedGroups,
        Capability::Idempotence,
        Capability::Crashes,
        Capability::Transactions,
        Capability::ExactlyOnce,
        Capability::RealData,
    ];

    /// The row's words in the table.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Capability::Codecs => {
                "codecs none, gzip, snappy, lz4, zstd, written and read across all clients"
            }
            Capability::Headers => {
                "null and empty keys, values and headers, duplicate header names"
            }
            Capability::Sizes => "values from 1 B to 1 MiB",
            Capability::Timestamps => "create time",
            Capability::AppendTime => "log append time",
            Capability::OffsetsByTime => "offsets: earliest, latest, by time",
            Capability::MaxTimestamp => "offset of the greatest timestamp",
            Capability::Compaction => "compacted topics: last values, gaps, tombstones",
            Capability::Acks => "acks 0, 1 and all",
            Capability::RecordTooLarge => "a record over max.message.bytes is refused as such",
            Capability::AutoCreate => "first write creates the topic",
            Capability::UnknownTopic => "an unknown topic is told as such",
            Capability::Topics => "create, list, describe and delete topics",
            Capability::Configs => "describe configs",
            Capability::Cluster => "describe cluster",
            Capability::AddPartitions => "partitions are added",
            Capability::DeleteRecords => "records are deleted",
            Capability::AlterConfigs => "settings are changed",
            Capability::DescribeGroups => "groups are listed and described",
            Capability::DeleteGroups => "groups are deleted",
            Capability::DeleteOffsets => "offsets of a group are deleted",
            Capability::Commits => "committed offsets, kept through kill -9",
            Capability::Groups => "groups: join, leave, die, rebalance",
            Capability::Cooperative => "groups: cooperative rebalance",
            Capability::StaticMembers => "groups: static members",
            Capability::MixedGroups => "groups of different clients",
            Capability::Idempotence => "idempotent writes: no loss, no duplicate through kill -9",
            Capability::Crashes => "20 × kill -9 under load",
            Capability::Transactions => {
                "transactions: committed, aborted, with a group's offset; read committed"
            }
            Capability::ExactlyOnce => {
                "copying in transactions: exactly once through 10 × kill -9 of broker and client"
            }
            Capability::RealData => "the main job on real data",
        }
    }

    /// Why `client` takes no part in this row, if it does not.
    #[must_use]
    pub fn excuse(self, client: Kind) -> Option<&'static str> {
        match (self, client) {
            (
                Capability::MaxTimestamp,
                Kind::Java2
                | Kind::Kcat
                | Kind::Rdkafka
                | Kind::AioKafka
                | Kind::KafkaJs
                | Kind::Sarama
                | Kind::KafkaGo
                | Kind::Rskafka,
            ) => Some("no such call in the client"),
            (
                Capability::Acks
                | Capability::AutoCreate
                | Capability::Topics
                | Capability::Configs
                | Capability::Cluster
                | Capability::AddPartitions
                | Capability::DeleteRecords
                | Capability::AlterConfigs
                | Capability::DescribeGroups
                | Capability::DeleteGroups
                | Capability::DeleteOffsets
                | Capability::Commits
                | Capability::Groups
                | Capability::Cooperative
                | Capability::StaticMembers
                | Capability::MixedGroups
                | Capability::Idempotence,
                Kind::Rskafka,
            ) => Some("not implemented in the client"),
            (Capability::Headers, Kind::KafkaJavascript) => {
                Some("takes a header without a value for an empty one")
            }
            (Capability::Configs | Capability::Cluster, Kind::KafkaJavascript) => {
                Some("no such call in the client")
            }
            (Capability::Headers, Kind::KafkaGo) => Some("takes what is empty for null"),
            (Capability::Headers, Kind::Rskafka) => Some("its headers are a map with values"),
            (Capability::AppendTime, Kind::Platformatic | Kind::KafkaGo | Kind::Rskafka) => {
                Some("tells the time that the producer had set")
            }
            (Capability::Cooperative, Kind::AioKafka) => Some("not implemented in the client"),
            (Capability::Commits, Kind::Platformatic) => Some("its commits carry no metadata"),
            (
                Capability::Cooperative | Capability::StaticMembers,
                Kind::Java2 | Kind::KafkaJs | Kind::KafkaGo,
            ) => Some("not implemented in the client"),
            (
                Capability::Topics
                | Capability::Configs
                | Capability::AddPartitions
                | Capability::DeleteRecords
                | Capability::AlterConfigs
                | Capability::DescribeGroups
                | Capability::DeleteGroups
                | Capability::DeleteOffsets
                | Capability::Commits,
                Kind::Kcat,
            )
            | (Capability::DeleteRecords, Kind::KafkaGo)
            | (Capability::AlterConfigs, Kind::KafkaJavascript)
            | (Capability::DeleteGroups, Kind::AioKafka)
            | (
                Capability::DeleteOffsets,
                Kind::Java2
                | Kind::Librdkafka
                | Kind::Rdkafka
                | Kind::AioKafka
                | Kind::KafkaJs
                | Kind::KafkaJavascript,
            ) => Some("no such call in the client"),
            (
                Capability::MixedGroups
                | Capability::Groups
                | Capability::Cooperative
                | Capability::StaticMembers,
                Kind::Kcat,
            ) => Some("prints records only, not assignments"),
            // Its circuit breaker; on Apache Kafka as well.
            (Capability::Idempotence, Kind::Sarama) => {
                Some("gives records up while the broker is away")
            }
            (Capability::Idempotence, Kind::KafkaGo) => Some("not implemented in the client"),
            (Capability::Idempotence, Kind::Kcat) => {
                Some("one process for each write, so nothing to retry")
            }
            (Capability::Crashes, Kind::Java | Kind::Librdkafka) => None,
            (Capability::Crashes, _) => Some("done with two clients; see the idempotence row"),
            (Capability::Transactions, Kind::Rdkafka | Kind::KafkaJavascript) => {
                Some("librdkafka's own, see there")
            }
            (Capability::Transactions, Kind::Platformatic) => Some("not tried"),
            (Capability::Transactions, Kind::Kcat | Kind::KafkaGo | Kind::Rskafka) => {
                Some("not implemented in the client")
            }
            (
                Capability::ExactlyOnce,
                Kind::Java | Kind::Java3 | Kind::Librdkafka | Kind::FranzGo,
            ) => None,
            (Capability::ExactlyOnce, _) => Some("done with four clients"),
            (Capability::RealData, Kind::Kcat) => {
                Some("lines with arbitrary bytes cannot be told apart")
            }
            (Capability::RealData, kind) if !kind.is_core() => Some("done with five clients"),
            _ => None,
        }
    }
}
