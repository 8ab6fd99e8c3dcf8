//! What may be asked of the coordinator and what it answers: plain structs, one pair per Kafka API,
//! shaped like the newest version. `api` fills and reads them; nothing here knows the wire.
//!
//! Opaque bytes may be slices of a request buffer: whatever outlives the request is copied.

use std::sync::Arc;

use bytes::Bytes;

use super::error::GroupError;
use super::state::State;
use crate::model::TopicId;

/// JoinGroup.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    pub group_id: String,
    /// Empty: the member has no id yet.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<JoinProtocol>,
    pub session_timeout_ms: i32,
    /// Negative (v0 has none): the session timeout.
    pub rebalance_timeout_ms: i32,
    pub client_id: String,
    /// The peer's address as Kafka prints it: `/192.0.2.1`.
    pub client_host: String,
    /// The version (v4 and later) makes a new dynamic member join a second time with its id.
    pub member_id_required: bool,
    /// The version (v9 and later) knows `skip_assignment`.
    pub skip_assignment_supported: bool,
    pub reason: Option<String>,
}

/// One protocol a member offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinProtocol {
    pub name: String,
    /// Opaque: only relayed to the leader.
    pub metadata: Bytes,
}

/// The answer to JoinGroup.
pub type JoinReply = Result<Joined, JoinRejected>;

/// A generation the member belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub leader: Arc<str>,
    pub skip_assignment: bool,
    pub member_id: Arc<str>,
    /// Every member, for the leader; empty for the others.
    pub members: Vec<JoinedMember>,
}

/// A member as its group's leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub metadata: Bytes,
}

/// A join that was refused, or must be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRejected {
    pub error: GroupError,
    /// The member id to put into the answer: with `MemberIdRequired` the one to join with.
    pub member_id: Arc<str>,
}

/// SyncGroup.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    pub group_id: String,
    pub generation: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    /// v5 and later; compared only if the request has it.
    pub protocol_type: Option<String>,
    /// v5 and later; compared only if the request has it.
    pub protocol_name: Option<String>,
    /// Member id and its assignment; from the leader only.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to SyncGroup.
pub type SyncReply = Result<Synced, GroupError>;

/// What a member is to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Debug, Clone)]
pub struct HeartbeatRequest {
    pub group_id: String,
    pub generation: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
}

/// The answer to Heartbeat.
pub type HeartbeatReply = Result<(), GroupError>;

/// LeaveGroup; before v3 with exactly one member.
#[derive(Debug, Clone)]
pub struct LeaveRequest {
    pub group_id: String,
    pub members: Vec<LeaveMember>,
}

/// One member that leaves, or is made to leave.
#[derive(Debug, Clone)]
pub struct LeaveMember {
    /// Empty: whoever holds the instance id.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub reason: Option<String>,
}

/// The answer to LeaveGroup. Before v3 the one member's result is the answer's error.
pub type LeaveReply = Result<Vec<LeftMember>, GroupError>;

/// What became of one member that was to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub result: Result<(), GroupError>,
}

/// OffsetCommit. The group id may be empty.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    pub group_id: String,
    /// Negative: not a member's commit.
    pub generation: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    /// v2 to v4; negative: the broker's own retention.
    pub retention_ms: i64,
    pub topics: Vec<CommitTopic>,
}

/// A topic that exists and may be written by the client; `api` has seen to both.
#[derive(Debug, Clone)]
pub struct CommitTopic {
    pub name: String,
    pub topic_id: TopicId,
    pub partitions: Vec<CommitPartition>,
}

/// One offset to commit.
#[derive(Debug, Clone)]
pub struct CommitPartition {
    pub partition: i32,
    pub offset: i64,
    /// -1: none.
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

/// The answer to OffsetCommit: topics and partitions in the order of the request.
pub type CommitReply = Result<Vec<CommittedTopic>, GroupError>;

/// What became of a topic's offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedTopic {
    pub name: String,
    pub topic_id: TopicId,
    pub partitions: Vec<(i32, Result<(), GroupError>)>,
}

/// OffsetFetch for one group. The group id may be empty.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    pub group_id: String,
    /// `None`: every offset the group has.
    pub topics: Option<Vec<FetchTopic>>,
    /// Answer only when commits under way are durable, and not for offsets of open transactions.
    pub require_stable: bool,
}

/// A topic whose offsets are asked for.
#[derive(Debug, Clone)]
pub struct FetchTopic {
    pub name: String,
    /// If known: an offset committed for another topic of this name is not returned.
    pub topic_id: Option<TopicId>,
    pub partitions: Vec<i32>,
}

/// The answer to OffsetFetch. An unknown group has no offsets; that is no error.
pub type FetchReply = Result<Vec<FetchedTopic>, GroupError>;

/// A topic's offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    pub name: Arc<str>,
    pub partitions: Vec<FetchedPartition>,
}

/// A partition's offset; `Ok(None)` where nothing is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    pub partition: i32,
    pub result: Result<Option<FetchedOffset>, GroupError>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    pub offset: i64,
    /// -1: none.
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
}

/// Which groups ListGroups returns. An empty list lets everything pass.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// State names, in any case.
    pub states: Vec<String>,
    /// Type names, in any case; unknown ones match nothing.
    pub types: Vec<String>,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: Arc<str>,
    /// Empty: a group that only commits offsets.
    pub protocol_type: Arc<str>,
    pub state: State,
    /// Kafka's name of the type.
    pub group_type: &'static str,
}

/// A group in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    pub group_id: Arc<str>,
    pub state: State,
    pub protocol_type: Arc<str>,
    /// The protocol in use; empty unless the group is stable.
    pub protocol: Arc<str>,
    pub members: Vec<DescribedMember>,
}

/// A member in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// OffsetDelete.
#[derive(Debug, Clone)]
pub struct DeleteOffsetsRequest {
    pub group_id: String,
    pub topics: Vec<(String, Vec<i32>)>,
}

/// What became of a topic's offsets that were to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    pub name: String,
    pub partitions: Vec<(i32, Result<(), GroupError>)>,
}
