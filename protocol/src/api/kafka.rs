//! What a broker of Apache Kafka 4.4 tells its clients it serves, and where this one differs: the
//! other half of the table in docs/compatibility.md. Facts for people; nothing is served from here.

use std::fmt::Write as _;

use super::{ApiKey, Stages, find};

/// Number, name, and lowest and highest version that Kafka advertises.
const KAFKA: &[(i16, &str, i16, i16)] = &[
    (0, "Produce", 0, 13),
    (1, "Fetch", 4, 18),
    (2, "ListOffsets", 1, 11),
    (3, "Metadata", 0, 13),
    (8, "OffsetCommit", 2, 10),
    (9, "OffsetFetch", 1, 10),
    (10, "FindCoordinator", 0, 6),
    (11, "JoinGroup", 0, 9),
    (12, "Heartbeat", 0, 4),
    (13, "LeaveGroup", 0, 5),
    (14, "SyncGroup", 0, 5),
    (15, "DescribeGroups", 0, 6),
    (16, "ListGroups", 0, 5),
    (17, "SaslHandshake", 0, 1),
    (18, "ApiVersions", 0, 5),
    (19, "CreateTopics", 2, 7),
    (20, "DeleteTopics", 1, 6),
    (21, "DeleteRecords", 0, 2),
    (22, "InitProducerId", 0, 5),
    (23, "OffsetForLeaderEpoch", 2, 4),
    (24, "AddPartitionsToTxn", 0, 5),
    (25, "AddOffsetsToTxn", 0, 4),
    (26, "EndTxn", 0, 5),
    (27, "WriteTxnMarkers", 1, 2),
    (28, "TxnOffsetCommit", 0, 6),
    (29, "DescribeAcls", 1, 3),
    (30, "CreateAcls", 1, 3),
    (31, "DeleteAcls", 1, 3),
    (32, "DescribeConfigs", 1, 4),
    (33, "AlterConfigs", 0, 2),
    (34, "AlterReplicaLogDirs", 1, 2),
    (35, "DescribeLogDirs", 1, 5),
    (36, "SaslAuthenticate", 0, 2),
    (37, "CreatePartitions", 0, 3),
    (38, "CreateDelegationToken", 1, 3),
    (39, "RenewDelegationToken", 1, 2),
    (40, "ExpireDelegationToken", 1, 2),
    (41, "DescribeDelegationToken", 1, 3),
    (42, "DeleteGroups", 0, 3),
    (43, "ElectLeaders", 0, 2),
    (44, "IncrementalAlterConfigs", 0, 1),
    (45, "AlterPartitionReassignments", 0, 1),
    (46, "ListPartitionReassignments", 0, 0),
    (47, "OffsetDelete", 0, 0),
    (48, "DescribeClientQuotas", 0, 1),
    (49, "AlterClientQuotas", 0, 1),
    (50, "DescribeUserScramCredentials", 0, 0),
    (51, "AlterUserScramCredentials", 0, 0),
    (55, "DescribeQuorum", 0, 2),
    (57, "UpdateFeatures", 0, 2),
    (60, "DescribeCluster", 0, 2),
    (61, "DescribeProducers", 0, 0),
    (64, "UnregisterBroker", 0, 0),
    (65, "DescribeTransactions", 0, 0),
    (66, "ListTransactions", 0, 2),
    (68, "ConsumerGroupHeartbeat", 0, 1),
    (69, "ConsumerGroupDescribe", 0, 1),
    (71, "GetTelemetrySubscriptions", 0, 0),
    (72, "PushTelemetry", 0, 0),
    (74, "ListConfigResources", 0, 1),
    (75, "DescribeTopicPartitions", 0, 0),
    (76, "ShareGroupHeartbeat", 1, 1),
    (77, "ShareGroupDescribe", 1, 1),
    (78, "ShareFetch", 1, 2),
    (79, "ShareAcknowledge", 1, 2),
    (80, "AddRaftVoter", 0, 1),
    (81, "RemoveRaftVoter", 0, 0),
    (83, "InitializeShareGroupState", 0, 0),
    (84, "ReadShareGroupState", 0, 0),
    (85, "WriteShareGroupState", 0, 1),
    (86, "DeleteShareGroupState", 0, 0),
    (87, "ReadShareGroupStateSummary", 0, 1),
    (88, "StreamsGroupHeartbeat", 0, 1),
    (89, "StreamsGroupDescribe", 0, 1),
    (90, "DescribeShareGroupOffsets", 0, 1),
    (91, "AlterShareGroupOffsets", 0, 0),
    (92, "DeleteShareGroupOffsets", 0, 0),
    (93, "StreamsGroupTopologyDescriptionUpdate", 0, 0),
    (94, "UnregisterController", 0, 0),
];

/// What a served API does otherwise than Kafka's.
fn difference(key: ApiKey) -> &'static str {
    match key {
        ApiKey::Produce => "acks=1 waits for the disk; some batches are judged more strictly",
        ApiKey::Fetch => "smaller answers when memory for them is short",
        ApiKey::FindCoordinator => "groups and transactional ids",
        ApiKey::WriteTxnMarkers => {
            "for tools: the broker ends transactions without it; one that is under way is aborted whole"
        }
        ApiKey::AlterConfigs
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::DescribeConfigs
        | ApiKey::ListConfigResources => "see dynamic settings below",
        ApiKey::DescribeAcls | ApiKey::CreateAcls | ApiKey::DeleteAcls => {
            "as a Kafka without an authorizer: SECURITY_DISABLED"
        }
        ApiKey::DeleteRecords => "answered when the move is on disk",
        ApiKey::DescribeLogDirs => "sizes are of batches, not of files",
        ApiKey::DescribeProducers => "LastTimestamp is the time of storing",
        ApiKey::CreatePartitions => "refused on `__consumer_offsets`",
        ApiKey::ElectLeaders => "for all partitions on the same replicas at once",
        ApiKey::AlterPartitionReassignments
        | ApiKey::ListPartitionReassignments
        | ApiKey::AlterReplicaLogDirs => "as a Kafka with one broker",
        ApiKey::DescribeClientQuotas | ApiKey::DescribeUserScramCredentials => "there are none",
        ApiKey::DescribeQuorum => "directory ids are zero",
        ApiKey::UpdateFeatures => "levels stay as they are",
        ApiKey::UnregisterBroker => "refused: the only broker is the one that answers",
        ApiKey::ListOffsets
        | ApiKey::Metadata
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::JoinGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::ApiVersions
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DeleteGroups
        | ApiKey::OffsetDelete
        | ApiKey::DescribeCluster
        | ApiKey::DescribeTopicPartitions
        | ApiKey::InitProducerId
        | ApiKey::AddPartitionsToTxn
        | ApiKey::AddOffsetsToTxn
        | ApiKey::EndTxn
        | ApiKey::TxnOffsetCommit
        | ApiKey::DescribeTransactions
        | ApiKey::ListTransactions => "–",
    }
}

/// Why an API of Kafka is not served.
fn not_served(code: i16) -> &'static str {
    match code {
        17 | 36 | 38..=41 | 51 => "no authentication yet",
        49 => "no quotas yet",
        68 | 69 => "no consumer protocol of KIP-848 yet",
        71 | 72 => "clients are not asked for metrics",
        76..=79 | 83..=87 | 90..=92 => "no share groups yet",
        80 | 81 | 94 => "one node needs no other controller",
        88 | 89 | 93 => "no streams groups yet",
        _ => "",
    }
}

/// The table of docs/compatibility.md.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| key | API | Kafka 4.4 | versions | advertised | pipelined | difference | authorisation |\n\
         |--:|---|---|---|---|---|---|---|\n",
    );
    for &(code, name, min, max) in KAFKA {
        let row = match find(code) {
            None => {
                let why = not_served(code);
                writeln!(
                    text,
                    "| {code} | {name} | {min}–{max} | – | – | – | not served: {why} | – |"
                )
            }
            Some(api) => {
                let pipelined = match api.stages {
                    Stages::One => "one at a time",
                    Stages::Two => "in order",
                };
                writeln!(
                    text,
                    "| {code} | {name} | {min}–{max} | {}–{} | {}–{} | {pipelined} | {} | {} |",
                    api.accepted_min,
                    api.max,
                    api.advertised_min,
                    api.max,
                    difference(api.key),
                    api.authorization,
                )
            }
        };
        debug_assert!(row.is_ok(), "writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::SUPPORTED;
    use super::*;

    #[test]
    fn every_served_api_is_kafkas_and_every_other_one_says_why_it_is_not() {
        assert!(KAFKA.is_sorted_by(|a, b| a.0 < b.0));
        for api in &SUPPORTED {
            let row = KAFKA.iter().find(|row| row.0 == api.key.code());
            let &(_, name, min, max) = row.expect("a broker of Kafka serves it");
            assert_eq!(name, api.name);
            // More than Kafka has would be told to clients that take it for Kafka's.
            assert!(min <= api.advertised_min && api.max <= max, "{name}");
        }
        for &(code, name, _, _) in KAFKA {
            assert_eq!(not_served(code).is_empty(), find(code).is_some(), "{name}");
        }
    }
}
