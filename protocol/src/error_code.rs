//! Kafka's error codes: number, name, whether a client tries again, and a text for people. The texts
//! that answers carry are Kafka's, since tools and people look for them.
//!
//! A newtype and not an enum, because a code from a newer peer must survive unchanged. Only
//! protocol/ and the one map from domain errors name the constants.

use std::fmt;

/// An error as it stands on the wire; [`ErrorCode::NONE`] is success.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(pub i16);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    Again,
    Final,
}

/// What Kafka says of one code.
struct Entry {
    name: &'static str,
    retry: Retry,
    message: &'static str,
}

/// The first code of the table.
const FIRST: i16 = -1;

macro_rules! error_codes {
    ($(($code:literal, $name:ident, $retry:expr, $message:literal),)+) => {
        impl ErrorCode {
            $(
                #[doc = $message]
                pub const $name: Self = Self($code);
            )+
        }

        static ENTRIES: &[Entry] = &[
            $(Entry { name: stringify!($name), retry: $retry, message: $message },)+
        ];

        #[cfg(test)]
        const CODES: &[i16] = &[$($code),+];
    };
}

impl ErrorCode {
    /// Whether this is success.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether this is an error.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 != 0
    }

    /// Kafka's name of the code; `UNKNOWN_ERROR_CODE` if it has none.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().map_or("UNKNOWN_ERROR_CODE", |entry| entry.name)
    }

    /// Whether Kafka's clients try again after this error.
    #[must_use]
    pub fn retriable(self) -> bool {
        self.entry().is_some_and(|entry| entry.retry == Retry::Again)
    }

    /// What the code means, for an error message field; `None` for success and unknown codes.
    #[must_use]
    pub fn message(self) -> Option<&'static str> {
        self.entry().map(|entry| entry.message).filter(|_| self.is_error())
    }

    fn entry(self) -> Option<&'static Entry> {
        ENTRIES.get(usize::try_from(i32::from(self.0) - i32::from(FIRST)).ok()?)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.0
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[rustfmt::skip]
error_codes! {
    (-1, UNKNOWN_SERVER_ERROR, Retry::Final, "The server failed in a way it did not expect"),
    (0, NONE, Retry::Final, "No error"),
    (1, OFFSET_OUT_OF_RANGE, Retry::Final, "The offset lies outside the offsets the server holds"),
    (2, CORRUPT_MESSAGE, Retry::Again, "The message fails its checksum, is too large, lacks a key on a compacted topic, or is damaged"),
    (3, UNKNOWN_TOPIC_OR_PARTITION, Retry::Again, "This server does not host this topic-partition."),
    (4, INVALID_FETCH_SIZE, Retry::Final, "The fetch size is invalid"),
    (5, LEADER_NOT_AVAILABLE, Retry::Again, "The partition has no leader: an election is under way"),
    (6, NOT_LEADER_OR_FOLLOWER, Retry::Again, "This broker is not the leader, or not a replica, of the partition"),
    (7, REQUEST_TIMED_OUT, Retry::Again, "The request timed out."),
    (8, BROKER_NOT_AVAILABLE, Retry::Final, "The broker is not available"),
    (9, REPLICA_NOT_AVAILABLE, Retry::Again, "The replica is not available for this topic-partition"),
    (10, MESSAGE_TOO_LARGE, Retry::Final, "The message is larger than the server accepts"),
    (11, STALE_CONTROLLER_EPOCH, Retry::Final, "The controller moved to another broker"),
    (12, OFFSET_METADATA_TOO_LARGE, Retry::Final, "The metadata of the offset commit is too large"),
    (13, NETWORK_EXCEPTION, Retry::Again, "The connection broke before a response arrived"),
    (14, COORDINATOR_LOAD_IN_PROGRESS, Retry::Again, "The coordinator is loading and cannot serve requests yet"),
    (15, COORDINATOR_NOT_AVAILABLE, Retry::Again, "The coordinator is not available"),
    (16, NOT_COORDINATOR, Retry::Again, "This is not the right coordinator"),
    (17, INVALID_TOPIC_EXCEPTION, Retry::Final, "The topic is not one this operation may be carried out on"),
    (18, RECORD_LIST_TOO_LARGE, Retry::Final, "The batch is larger than a segment of the server"),
    (19, NOT_ENOUGH_REPLICAS, Retry::Again, "Fewer replicas are in sync than the topic requires"),
    (20, NOT_ENOUGH_REPLICAS_AFTER_APPEND, Retry::Again, "The messages are written, but to fewer in-sync replicas than required"),
    (21, INVALID_REQUIRED_ACKS, Retry::Final, "The required acks are none of -1, 0 and 1"),
    (22, ILLEGAL_GENERATION, Retry::Final, "The group generation id is not valid"),
    (23, INCONSISTENT_GROUP_PROTOCOL, Retry::Final, "The member's protocols match none of the group's, or are empty"),
    (24, INVALID_GROUP_ID, Retry::Final, "The group id is invalid"),
    (25, UNKNOWN_MEMBER_ID, Retry::Final, "The coordinator does not know this member"),
    (26, INVALID_SESSION_TIMEOUT, Retry::Final, "The session timeout is outside what the broker allows"),
    (27, REBALANCE_IN_PROGRESS, Retry::Final, "The group is rebalancing; join again"),
    (28, INVALID_COMMIT_OFFSET_SIZE, Retry::Final, "The size of the offset commit is not valid"),
    (29, TOPIC_AUTHORIZATION_FAILED, Retry::Final, "Not authorized to access the topic"),
    (30, GROUP_AUTHORIZATION_FAILED, Retry::Final, "Not authorized to access the group"),
    (31, CLUSTER_AUTHORIZATION_FAILED, Retry::Final, "Not authorized to access the cluster"),
    (32, INVALID_TIMESTAMP, Retry::Final, "The timestamp of the message is out of acceptable range."),
    (33, UNSUPPORTED_SASL_MECHANISM, Retry::Final, "The broker does not support this SASL mechanism"),
    (34, ILLEGAL_SASL_STATE, Retry::Final, "The request does not fit the state of the SASL exchange"),
    (35, UNSUPPORTED_VERSION, Retry::Final, "The version of the API is not supported"),
    (36, TOPIC_ALREADY_EXISTS, Retry::Final, "A topic of this name already exists"),
    (37, INVALID_PARTITIONS, Retry::Final, "The number of partitions is below 1"),
    (38, INVALID_REPLICATION_FACTOR, Retry::Final, "The replication factor is below 1 or above the number of available brokers"),
    (39, INVALID_REPLICA_ASSIGNMENT, Retry::Final, "The replica assignment is invalid"),
    (40, INVALID_CONFIG, Retry::Final, "The configuration is invalid"),
    (41, NOT_CONTROLLER, Retry::Again, "This is not the correct controller for this cluster."),
    (42, INVALID_REQUEST, Retry::Final, "The request is malformed, or went to a broker that cannot understand it"),
    (43, UNSUPPORTED_FOR_MESSAGE_FORMAT, Retry::Final, "The message format on the broker does not support the request"),
    (44, POLICY_VIOLATION, Retry::Final, "The request does not satisfy the configured policy"),
    (45, OUT_OF_ORDER_SEQUENCE_NUMBER, Retry::Final, "The sequence number is out of order"),
    (46, DUPLICATE_SEQUENCE_NUMBER, Retry::Final, "The sequence number was used before"),
    (47, INVALID_PRODUCER_EPOCH, Retry::Final, "The producer's epoch is older than the current one"),
    (48, INVALID_TXN_STATE, Retry::Final, "The transaction is not in a state that allows this operation"),
    (49, INVALID_PRODUCER_ID_MAPPING, Retry::Final, "The producer id does not belong to the transactional id"),
    (50, INVALID_TRANSACTION_TIMEOUT, Retry::Final, "The transaction timeout is larger than the broker allows"),
    (51, CONCURRENT_TRANSACTIONS, Retry::Again, "Another operation on the same transaction is under way"),
    (52, TRANSACTION_COORDINATOR_FENCED, Retry::Final, "The transaction coordinator that sent the marker is no longer the current one"),
    (53, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Retry::Final, "Not authorized to access the transactional id"),
    (54, SECURITY_DISABLED, Retry::Final, "Security features are switched off"),
    (55, OPERATION_NOT_ATTEMPTED, Retry::Final, "The operation was not attempted, because another one of the batch failed"),
    (56, KAFKA_STORAGE_ERROR, Retry::Again, "The disk failed while accessing the log"),
    (57, LOG_DIR_NOT_FOUND, Retry::Final, "The log directory is not one of the broker's"),
    (58, SASL_AUTHENTICATION_FAILED, Retry::Final, "SASL authentication failed"),
    (59, UNKNOWN_PRODUCER_ID, Retry::Final, "The broker holds no state of this producer id"),
    (60, REASSIGNMENT_IN_PROGRESS, Retry::Final, "A reassignment of the partition is under way"),
    (61, DELEGATION_TOKEN_AUTH_DISABLED, Retry::Final, "Delegation tokens are not enabled"),
    (62, DELEGATION_TOKEN_NOT_FOUND, Retry::Final, "The server does not know the delegation token"),
    (63, DELEGATION_TOKEN_OWNER_MISMATCH, Retry::Final, "The principal is neither owner nor renewer of the token"),
    (64, DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, Retry::Final, "Delegation tokens cannot be requested over this connection"),
    (65, DELEGATION_TOKEN_AUTHORIZATION_FAILED, Retry::Final, "Not authorized to access the delegation token"),
    (66, DELEGATION_TOKEN_EXPIRED, Retry::Final, "The delegation token is expired"),
    (67, INVALID_PRINCIPAL_TYPE, Retry::Final, "The principal type is not supported"),
    (68, NON_EMPTY_GROUP, Retry::Final, "The group is not empty."),
    (69, GROUP_ID_NOT_FOUND, Retry::Final, "The group id does not exist."),
    (70, FETCH_SESSION_ID_NOT_FOUND, Retry::Again, "The fetch session does not exist"),
    (71, INVALID_FETCH_SESSION_EPOCH, Retry::Again, "The epoch of the fetch session is invalid"),
    (72, LISTENER_NOT_FOUND, Retry::Again, "The leader has no listener like the one this request came in on"),
    (73, TOPIC_DELETION_DISABLED, Retry::Final, "Topic deletion is disabled."),
    (74, FENCED_LEADER_EPOCH, Retry::Again, "The leader epoch of the request is older than the broker's"),
    (75, UNKNOWN_LEADER_EPOCH, Retry::Again, "The leader epoch of the request is newer than the broker's"),
    (76, UNSUPPORTED_COMPRESSION_TYPE, Retry::Final, "The client does not support the compression of the partition"),
    (77, STALE_BROKER_EPOCH, Retry::Final, "The broker's epoch has changed"),
    (78, OFFSET_NOT_AVAILABLE, Retry::Again, "The leader's high watermark has not caught up after an election"),
    (79, MEMBER_ID_REQUIRED, Retry::Final, "The member needs a member id before it can join the group"),
    (80, PREFERRED_LEADER_NOT_AVAILABLE, Retry::Again, "The preferred leader is not available"),
    (81, GROUP_MAX_SIZE_REACHED, Retry::Final, "The group has as many members as it may have"),
    (82, FENCED_INSTANCE_ID, Retry::Final, "Another member has registered with the same group.instance.id"),
    (83, ELIGIBLE_LEADERS_NOT_AVAILABLE, Retry::Again, "No eligible leader of the partition is available"),
    (84, ELECTION_NOT_NEEDED, Retry::Again, "Leader election not needed for topic partition."),
    (85, NO_REASSIGNMENT_IN_PROGRESS, Retry::Final, "No partition reassignment is in progress."),
    (86, GROUP_SUBSCRIBED_TO_TOPIC, Retry::Final, "Offsets of a topic cannot be deleted while the group is subscribed to it"),
    (87, INVALID_RECORD, Retry::Final, "The record fails the broker's validation"),
    (88, UNSTABLE_OFFSET_COMMIT, Retry::Again, "Offsets of an open transaction are still pending"),
    (89, THROTTLING_QUOTA_EXCEEDED, Retry::Again, "The throttling quota is exceeded"),
    (90, PRODUCER_FENCED, Retry::Final, "A newer producer with the same transactional id fences this one"),
    (91, RESOURCE_NOT_FOUND, Retry::Final, "The request names a resource that does not exist"),
    (92, DUPLICATE_RESOURCE, Retry::Final, "The request names the same resource twice"),
    (93, UNACCEPTABLE_CREDENTIAL, Retry::Final, "The credential does not meet the criteria"),
    (94, INCONSISTENT_VOTER_SET, Retry::Final, "The sender or the receiver is not one of the expected voters"),
    (95, INVALID_UPDATE_VERSION, Retry::Final, "The version of the update is invalid"),
    (96, FEATURE_UPDATE_FAILED, Retry::Final, "The finalized features could not be updated"),
    (97, PRINCIPAL_DESERIALIZATION_FAILURE, Retry::Final, "The forwarded principal could not be read"),
    (98, SNAPSHOT_NOT_FOUND, Retry::Final, "The snapshot does not exist"),
    (99, POSITION_OUT_OF_RANGE, Retry::Final, "The position lies outside the snapshot"),
    (100, UNKNOWN_TOPIC_ID, Retry::Again, "This server does not host this topic ID."),
    (101, DUPLICATE_BROKER_REGISTRATION, Retry::Final, "The broker id is already in use"),
    (102, BROKER_ID_NOT_REGISTERED, Retry::Final, "The broker id is not registered"),
    (103, INCONSISTENT_TOPIC_ID, Retry::Again, "The topic id differs from the one of the log"),
    (104, INCONSISTENT_CLUSTER_ID, Retry::Final, "The cluster id differs from the server's"),
    (105, TRANSACTIONAL_ID_NOT_FOUND, Retry::Final, "The transactional id does not exist"),
    (106, FETCH_SESSION_TOPIC_ID_ERROR, Retry::Again, "The fetch session mixes topic names and topic ids"),
    (107, INELIGIBLE_REPLICA, Retry::Final, "The new ISR holds an ineligible replica"),
    (108, NEW_LEADER_ELECTED, Retry::Final, "The partition was altered, but its leader has changed"),
    (109, OFFSET_MOVED_TO_TIERED_STORAGE, Retry::Final, "The offset has moved to tiered storage"),
    (110, FENCED_MEMBER_EPOCH, Retry::Final, "The member epoch is fenced: give up all partitions and join again"),
    (111, UNRELEASED_INSTANCE_ID, Retry::Final, "Another member of the group still uses the instance id"),
    (112, UNSUPPORTED_ASSIGNOR, Retry::Final, "The group does not support the assignor or its versions"),
    (113, STALE_MEMBER_EPOCH, Retry::Final, "The member epoch is stale: retry with the new one"),
    (114, MISMATCHED_ENDPOINT_TYPE, Retry::Final, "The request went to an endpoint of the wrong type"),
    (115, UNSUPPORTED_ENDPOINT_TYPE, Retry::Final, "The endpoint type is not supported"),
    (116, UNKNOWN_CONTROLLER_ID, Retry::Final, "The controller id is not known"),
    (117, UNKNOWN_SUBSCRIPTION_ID, Retry::Final, "The telemetry subscription id is invalid or outdated"),
    (118, TELEMETRY_TOO_LARGE, Retry::Final, "The telemetry is larger than the broker accepts"),
    (119, INVALID_REGISTRATION, Retry::Final, "The controller takes the broker's registration for invalid"),
    (120, TRANSACTION_ABORTABLE, Retry::Final, "The transaction failed; abort it to go on with this transactional id"),
    (121, INVALID_RECORD_STATE, Retry::Final, "The record is not in a state that can be acknowledged"),
    (122, SHARE_SESSION_NOT_FOUND, Retry::Again, "The share session does not exist"),
    (123, INVALID_SHARE_SESSION_EPOCH, Retry::Again, "The epoch of the share session is invalid"),
    (124, FENCED_STATE_EPOCH, Retry::Final, "The state epoch differs from the coordinator's"),
    (125, INVALID_VOTER_KEY, Retry::Final, "The voter key differs from the receiving replica's"),
    (126, DUPLICATE_VOTER, Retry::Final, "The voter is already one of the voters"),
    (127, VOTER_NOT_FOUND, Retry::Final, "The voter is not one of the voters"),
    (128, INVALID_REGULAR_EXPRESSION, Retry::Final, "The regular expression is not valid"),
    (129, REBOOTSTRAP_REQUIRED, Retry::Final, "The client's metadata is stale: bootstrap again"),
    (130, STREAMS_INVALID_TOPOLOGY, Retry::Final, "The topology is invalid"),
    (131, STREAMS_INVALID_TOPOLOGY_EPOCH, Retry::Final, "The topology epoch is invalid"),
    (132, STREAMS_TOPOLOGY_FENCED, Retry::Final, "The topology epoch is outdated"),
    (133, SHARE_SESSION_LIMIT_REACHED, Retry::Again, "The broker holds as many share sessions as it may"),
    (134, GROUP_DELETION_FAILED, Retry::Final, "The groups could not be deleted; each result says why"),
    (135, STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED, Retry::Final, "The topology description could not be updated"),
    (136, CONTROLLER_ID_NOT_REGISTERED, Retry::Final, "The controller id is not registered"),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code_from_minus_1_to_136_at_its_place() {
        assert!(CODES.iter().copied().eq(FIRST..=136));
    }

    #[test]
    fn codes_know_their_name_and_whether_to_try_again() {
        assert_eq!(ErrorCode::KAFKA_STORAGE_ERROR.name(), "KAFKA_STORAGE_ERROR");
        assert_eq!(format!("{:?}", ErrorCode(3)), "UNKNOWN_TOPIC_OR_PARTITION(3)");
        assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.retriable());
        assert!(!ErrorCode::UNKNOWN_SERVER_ERROR.retriable());
        assert_eq!(ErrorCode::NONE.message(), None);
        for unknown in [ErrorCode(i16::MIN), ErrorCode(-2), ErrorCode(137), ErrorCode(i16::MAX)] {
            assert_eq!(unknown.name(), "UNKNOWN_ERROR_CODE");
            assert!(!unknown.retriable() && unknown.message().is_none());
        }
    }

    /// What a tool of Kafka shows of a broker of Kafka's.
    #[test]
    fn texts_that_answers_carry_are_kafkas() {
        for (code, text) in [
            (
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                "This server does not host this topic-partition.",
            ),
            (ErrorCode::NON_EMPTY_GROUP, "The group is not empty."),
            (ErrorCode::GROUP_ID_NOT_FOUND, "The group id does not exist."),
            (ErrorCode::ELECTION_NOT_NEEDED, "Leader election not needed for topic partition."),
            (ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress."),
            (ErrorCode::UNKNOWN_TOPIC_ID, "This server does not host this topic ID."),
        ] {
            assert_eq!(code.message(), Some(text));
        }
    }

    #[test]
    fn codes_agree_with_the_generated_ones() {
        use kafka_protocol::ResponseError;
        for code in (FIRST..=133).filter(|code| *code != 0) {
            let ours = ErrorCode(code).name().replace('_', "").to_lowercase();
            let Some(generated) = ResponseError::try_from_code(code) else {
                panic!("{code} is unknown to the generated codec");
            };
            let theirs = format!("{generated:?}").to_lowercase();
            assert_eq!(ours.trim_end_matches("exception"), theirs.trim_end_matches("exception"));
            // Kafka made this one retriable after the generated codec was made.
            let retriable = generated.is_retriable() || code == 51;
            assert_eq!(ErrorCode(code).retriable(), retriable, "{code}");
        }
    }
}
