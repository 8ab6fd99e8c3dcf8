//! The one table of served APIs.
//!
//! It feeds the ApiVersions answer, the version gate, the request header parser, dispatch and the
//! table in docs/compatibility.md. A row exists exactly when a handler does: nothing is advertised
//! that is not served.

mod kafka;

pub use kafka::markdown;

/// An API that is served, by Kafka's name and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
#[allow(missing_docs, reason = "the names are Kafka's own")]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    WriteTxnMarkers = 27,
    TxnOffsetCommit = 28,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35,
    CreatePartitions = 37,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    DescribeUserScramCredentials = 50,
    DescribeQuorum = 55,
    UpdateFeatures = 57,
    DescribeCluster = 60,
    DescribeProducers = 61,
    UnregisterBroker = 64,
    DescribeTransactions = 65,
    ListTransactions = 66,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
}

/// How a request is carried out on a connection with pipelined requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stages {
    /// Carried out whole before the next request of the connection begins.
    One,
    /// Its place in the order is fixed at once; it may complete while later requests begin.
    Two,
}

/// One served API.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// Which one.
    pub key: ApiKey,
    /// Kafka's name of it.
    pub name: &'static str,
    /// Lowest version told to clients. May lie below `accepted_min`; see Produce.
    pub advertised_min: i16,
    /// Lowest version carried out.
    pub accepted_min: i16,
    /// Highest version told to clients and carried out.
    pub max: i16,
    /// First version with compact lengths and tagged fields.
    pub flexible_from: i16,
    /// Highest version of the request whose layout the generated codec knows. Later ones that are
    /// served have the same layout or are decoded by hand.
    pub(crate) generated_request_max: i16,
    /// And of the response.
    pub(crate) generated_response_max: i16,
    /// See [`Stages`].
    pub stages: Stages,
    /// What a principal needs, for people; the handlers ask for it.
    pub authorization: &'static str,
}

impl ApiKey {
    /// Kafka's number of the API.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.api().name
    }

    /// Its row in the table.
    #[must_use]
    pub fn api(self) -> &'static Api {
        match SUPPORTED.binary_search_by_key(&self, |api| api.key) {
            Ok(row) => &SUPPORTED[row],
            Err(_) => unreachable!("every ApiKey has a row; a test holds this"),
        }
    }
}

impl Api {
    /// Whether requests of this version are carried out.
    #[must_use]
    pub fn accepts(&self, version: i16) -> bool {
        (self.accepted_min..=self.max).contains(&version)
    }

    /// Whether this version has compact lengths and tagged fields.
    #[must_use]
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    /// Whether the response header of this version has tagged fields. ApiVersions never has them,
    /// because its client does not know yet which versions the broker speaks.
    #[must_use]
    pub fn has_flexible_response_header(&self, version: i16) -> bool {
        self.key != ApiKey::ApiVersions && self.is_flexible(version)
    }
}

/// The served API of this number.
#[must_use]
pub fn find(code: i16) -> Option<&'static Api> {
    SUPPORTED.binary_search_by_key(&code, |api| api.key.code()).ok().map(|row| &SUPPORTED[row])
}

/// Every served API, by number.
pub static SUPPORTED: [Api; 49] = [
    Api {
        // Versions 0 to 2 are not carried out, but old librdkafka takes a higher minimum for a
        // broker without message headers and compression.
        advertised_min: 0,
        stages: Stages::Two,
        ..row(ApiKey::Produce, "Produce", 3, 13, 9, "Write on the topic")
    },
    row(ApiKey::Fetch, "Fetch", 4, 18, 12, "Read on the topic"),
    Api {
        // Version 11 only adds a special timestamp.
        generated_request_max: 10,
        generated_response_max: 10,
        ..row(ApiKey::ListOffsets, "ListOffsets", 1, 11, 6, "Describe on the topic")
    },
    row(
        ApiKey::Metadata,
        "Metadata",
        0,
        13,
        9,
        "Describe on the topic; Create on topic or cluster to create it",
    ),
    Api {
        // Version 10 is decoded by hand.
        generated_request_max: 9,
        ..row(ApiKey::OffsetCommit, "OffsetCommit", 2, 10, 8, "Read on the group and the topic")
    },
    Api {
        // Version 10 is decoded by hand.
        generated_request_max: 9,
        ..row(ApiKey::OffsetFetch, "OffsetFetch", 1, 10, 6, "Describe on the group and the topic")
    },
    row(
        ApiKey::FindCoordinator,
        "FindCoordinator",
        0,
        6,
        3,
        "Describe on the group or transactional id",
    ),
    row(ApiKey::JoinGroup, "JoinGroup", 0, 9, 6, "Read on the group"),
    row(ApiKey::Heartbeat, "Heartbeat", 0, 4, 4, "Read on the group"),
    row(ApiKey::LeaveGroup, "LeaveGroup", 0, 5, 4, "Read on the group"),
    row(ApiKey::SyncGroup, "SyncGroup", 0, 5, 4, "Read on the group"),
    row(ApiKey::DescribeGroups, "DescribeGroups", 0, 6, 5, "Describe on the group"),
    row(ApiKey::ListGroups, "ListGroups", 0, 5, 3, "Describe on the cluster or the group"),
    Api {
        // Version 5 adds to the request, which is decoded by hand in every version.
        generated_request_max: 4,
        generated_response_max: 4,
        ..row(ApiKey::ApiVersions, "ApiVersions", 0, 5, 3, "none")
    },
    row(ApiKey::CreateTopics, "CreateTopics", 2, 7, 5, "Create on the cluster or the topic"),
    row(ApiKey::DeleteTopics, "DeleteTopics", 1, 6, 4, "Delete on the topic"),
    row(ApiKey::DeleteRecords, "DeleteRecords", 0, 2, 2, "Delete on the topic"),
    row(
        ApiKey::InitProducerId,
        "InitProducerId",
        0,
        5,
        2,
        "Write on the transactional id; IdempotentWrite on the cluster",
    ),
    row(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4, 4, "Describe on the topic"),
    row(ApiKey::AddPartitionsToTxn, "AddPartitionsToTxn", 0, 5, 3, TXN_AND_TOPIC),
    row(
        ApiKey::AddOffsetsToTxn,
        "AddOffsetsToTxn",
        0,
        4,
        3,
        "Write on the transactional id, Read on the group",
    ),
    row(ApiKey::EndTxn, "EndTxn", 0, 5, 3, "Write on the transactional id"),
    Api {
        // Version 2 is decoded by hand; its answer is that of version 1.
        generated_request_max: 1,
        generated_response_max: 1,
        ..row(ApiKey::WriteTxnMarkers, "WriteTxnMarkers", 1, 2, 1, "Alter on the cluster")
    },
    Api {
        // Version 6 is decoded and encoded by hand.
        generated_request_max: 5,
        generated_response_max: 5,
        ..row(
            ApiKey::TxnOffsetCommit,
            "TxnOffsetCommit",
            0,
            6,
            3,
            "Write on the transactional id, Read on the group and the topic",
        )
    },
    row(ApiKey::DescribeAcls, "DescribeAcls", 1, 3, 2, "Describe on the cluster"),
    row(ApiKey::CreateAcls, "CreateAcls", 1, 3, 2, "Alter on the cluster"),
    row(ApiKey::DeleteAcls, "DeleteAcls", 1, 3, 2, "Alter on the cluster"),
    row(
        ApiKey::DescribeConfigs,
        "DescribeConfigs",
        1,
        4,
        4,
        "DescribeConfigs on the topic, group or cluster",
    ),
    row(ApiKey::AlterConfigs, "AlterConfigs", 0, 2, 2, "AlterConfigs on the topic or cluster"),
    row(ApiKey::AlterReplicaLogDirs, "AlterReplicaLogDirs", 1, 2, 2, "Alter on the cluster"),
    Api {
        // Version 5 adds to the answer, which is encoded by hand.
        generated_request_max: 4,
        generated_response_max: 4,
        ..row(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 5, 2, "Describe on the cluster")
    },
    row(ApiKey::CreatePartitions, "CreatePartitions", 0, 3, 2, "Alter on the topic"),
    Api {
        // Version 3 adds to the answer, which is encoded by hand.
        generated_request_max: 2,
        generated_response_max: 2,
        ..row(ApiKey::DeleteGroups, "DeleteGroups", 0, 3, 2, "Delete on the group")
    },
    row(ApiKey::ElectLeaders, "ElectLeaders", 0, 2, 2, "Alter on the cluster"),
    row(
        ApiKey::IncrementalAlterConfigs,
        "IncrementalAlterConfigs",
        0,
        1,
        1,
        "AlterConfigs on the topic or cluster",
    ),
    row(
        ApiKey::AlterPartitionReassignments,
        "AlterPartitionReassignments",
        0,
        1,
        0,
        "Alter on the cluster",
    ),
    row(
        ApiKey::ListPartitionReassignments,
        "ListPartitionReassignments",
        0,
        0,
        0,
        "Describe on the cluster",
    ),
    row(
        ApiKey::OffsetDelete,
        "OffsetDelete",
        0,
        0,
        i16::MAX,
        "Delete on the group, Read on the topic",
    ),
    row(
        ApiKey::DescribeClientQuotas,
        "DescribeClientQuotas",
        0,
        1,
        1,
        "DescribeConfigs on the cluster",
    ),
    row(
        ApiKey::DescribeUserScramCredentials,
        "DescribeUserScramCredentials",
        0,
        0,
        0,
        "Describe on the cluster",
    ),
    row(ApiKey::DescribeQuorum, "DescribeQuorum", 0, 2, 0, "Describe on the cluster"),
    row(ApiKey::UpdateFeatures, "UpdateFeatures", 0, 2, 0, "Alter on the cluster"),
    row(
        ApiKey::DescribeCluster,
        "DescribeCluster",
        0,
        2,
        0,
        "none; Describe on the cluster for its operations",
    ),
    row(ApiKey::DescribeProducers, "DescribeProducers", 0, 0, 0, "Read on the topic"),
    row(ApiKey::UnregisterBroker, "UnregisterBroker", 0, 0, 0, "Alter on the cluster"),
    row(
        ApiKey::DescribeTransactions,
        "DescribeTransactions",
        0,
        0,
        0,
        "Describe on the transactional id",
    ),
    row(ApiKey::ListTransactions, "ListTransactions", 0, 2, 0, "Describe on the transactional id"),
    row(
        ApiKey::ListConfigResources,
        "ListConfigResources",
        0,
        1,
        0,
        "DescribeConfigs on the cluster",
    ),
    row(
        ApiKey::DescribeTopicPartitions,
        "DescribeTopicPartitions",
        0,
        0,
        0,
        "Describe on the topic",
    ),
];

/// What adding partitions to a transaction needs.
const TXN_AND_TOPIC: &str = "Write on the transactional id and the topic";

const fn row(
    key: ApiKey,
    name: &'static str,
    min: i16,
    max: i16,
    flexible_from: i16,
    authorization: &'static str,
) -> Api {
    Api {
        key,
        name,
        advertised_min: min,
        accepted_min: min,
        max,
        flexible_from,
        generated_request_max: max,
        generated_response_max: max,
        stages: Stages::One,
        authorization,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_order_and_are_found() {
        assert!(SUPPORTED.is_sorted_by(|a, b| a.key < b.key));
        for api in &SUPPORTED {
            assert_eq!(api.key.api().key, api.key);
            assert_eq!(find(api.key.code()).map(|found| found.key), Some(api.key));
            assert_eq!(api.name, format!("{:?}", api.key));
            assert!(api.advertised_min <= api.accepted_min && api.accepted_min <= api.max);
        }
        for unknown in [i16::MIN, -1, 4, 7, 17, 36, i16::MAX] {
            assert!(find(unknown).is_none());
        }
    }

    #[test]
    fn flexible_versions_agree_with_the_generated_codec() {
        for api in &SUPPORTED {
            let generated = kafka_protocol::messages::ApiKey::try_from(api.key.code()).unwrap();
            for version in api.accepted_min..=api.max {
                let flexible = generated.request_header_version(version) == 2;
                assert_eq!(api.is_flexible(version), flexible, "{} v{version}", api.name);
                let flexible = generated.response_header_version(version) == 1;
                assert_eq!(api.has_flexible_response_header(version), flexible);
            }
        }
    }

    #[test]
    fn produce_is_advertised_from_0_and_carried_out_from_3() {
        let produce = ApiKey::Produce.api();
        assert_eq!((produce.advertised_min, produce.max), (0, 13));
        assert!(!produce.accepts(2) && produce.accepts(3));
    }
}
