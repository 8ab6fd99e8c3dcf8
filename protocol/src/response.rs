//! From a response in its newest shape to the bytes of the version that was asked for.
//!
//! Handlers fill the newest shape; [`fit`](crate::fit) makes it legal; the frame's length is filled
//! in last. Several responses may be appended to one [`Outgoing`] before it is written. Produce is
//! not among them: [`crate::produce`] writes its answers.

mod beyond;

use bytes::BufMut;
use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, AlterConfigsResponse,
    AlterPartitionReassignmentsResponse, AlterReplicaLogDirsResponse, ApiVersionsResponse,
    CreateAclsResponse, CreatePartitionsResponse, CreateTopicsResponse, DeleteAclsResponse,
    DeleteGroupsResponse, DeleteRecordsResponse, DeleteTopicsResponse, DescribeAclsResponse,
    DescribeClientQuotasResponse, DescribeClusterResponse, DescribeConfigsResponse,
    DescribeGroupsResponse, DescribeLogDirsResponse, DescribeProducersResponse,
    DescribeQuorumResponse, DescribeTopicPartitionsResponse, DescribeTransactionsResponse,
    DescribeUserScramCredentialsResponse, ElectLeadersResponse, EndTxnResponse,
    FindCoordinatorResponse, HeartbeatResponse, IncrementalAlterConfigsResponse,
    InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse, ListConfigResourcesResponse,
    ListGroupsResponse, ListOffsetsResponse, ListPartitionReassignmentsResponse,
    ListTransactionsResponse, MetadataResponse, OffsetCommitResponse, OffsetDeleteResponse,
    OffsetFetchResponse, OffsetForLeaderEpochResponse, SyncGroupResponse, UnregisterBrokerResponse,
    UpdateFeaturesResponse, WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::Encodable;

use crate::api::{Api, ApiKey};
use crate::feature;
use crate::fetch_response::FetchResponse;
use crate::fit::fit;
use crate::header::RequestHeader;
use crate::outgoing::Outgoing;
use crate::primitives::put_unsigned_varint;
use crate::transactions::TxnOffsetCommitAnswer;

/// A response that cannot be put into bytes: a defect of the handler that filled it, or an answer
/// larger than a frame can be. The connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value does not fit its field.
    #[error("a response of {} version {version} cannot be encoded: {reason}", api.name())]
    Unfit { api: ApiKey, version: i16, reason: String },
    /// A frame's length is a signed 32-bit number.
    #[error("a response of {} is {size_bytes} bytes long, more than a frame holds", api.name())]
    TooLarge { api: ApiKey, size_bytes: usize },
}

macro_rules! responses {
    ($($api:ident($message:ident),)+) => {
        /// A response in its newest shape.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the names are Kafka's own")]
        pub enum Response {
            $($api($message),)+
            Fetch(FetchResponse),
            TxnOffsetCommit(TxnOffsetCommitAnswer),
        }

        impl Response {
            /// The API this is a response of.
            #[must_use]
            pub fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$api(_) => ApiKey::$api,)+
                    Self::Fetch(_) => ApiKey::Fetch,
                    Self::TxnOffsetCommit(_) => ApiKey::TxnOffsetCommit,
                }
            }
        }

        fn encode_body(response: Response, version: i16, out: &mut Outgoing) -> Result<(), String> {
            match response {
                Response::DeleteGroups(message) if feature::delete_groups_has_messages(version) => {
                    beyond::delete_groups(&message, out.buffer()).map_err(|error| error.to_string())
                }
                Response::DescribeLogDirs(message)
                    if feature::describe_log_dirs_has_cordons(version) =>
                {
                    beyond::describe_log_dirs(&message, out.buffer())
                        .map_err(|error| error.to_string())
                }
                $(Response::$api(message) => {
                    let version = version.min(ApiKey::$api.api().generated_response_max);
                    // Some answers are large, and growing towards their size would double it.
                    let size = message.compute_size(version).map_err(|e| e.to_string())?;
                    out.buffer().reserve(size);
                    message.encode(out.buffer(), version).map_err(|error| error.to_string())
                })+
                Response::Fetch(fetch) => {
                    fetch.encode(version, out).map_err(|error| error.to_string())
                }
                Response::TxnOffsetCommit(answer)
                    if feature::txn_offset_commit_has_topic_ids(version) =>
                {
                    beyond::txn_offset_commit(&answer, out.buffer())
                        .map_err(|error| error.to_string())
                }
                Response::TxnOffsetCommit(answer) => {
                    let message = answer.response;
                    message.encode(out.buffer(), version).map_err(|error| error.to_string())
                }
            }
        }
    };
}

responses! {
    ListOffsets(ListOffsetsResponse),
    Metadata(MetadataResponse),
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponse),
    FindCoordinator(FindCoordinatorResponse),
    JoinGroup(JoinGroupResponse),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse),
    SyncGroup(SyncGroupResponse),
    ApiVersions(ApiVersionsResponse),
    CreateTopics(CreateTopicsResponse),
    DeleteTopics(DeleteTopicsResponse),
    InitProducerId(InitProducerIdResponse),
    OffsetForLeaderEpoch(OffsetForLeaderEpochResponse),
    DescribeConfigs(DescribeConfigsResponse),
    DescribeCluster(DescribeClusterResponse),
    DescribeUserScramCredentials(DescribeUserScramCredentialsResponse),
    UnregisterBroker(UnregisterBrokerResponse),
    UpdateFeatures(UpdateFeaturesResponse),
    DescribeClientQuotas(DescribeClientQuotasResponse),
    DescribeAcls(DescribeAclsResponse),
    CreateAcls(CreateAclsResponse),
    DeleteAcls(DeleteAclsResponse),
    AlterReplicaLogDirs(AlterReplicaLogDirsResponse),
    DescribeQuorum(DescribeQuorumResponse),
    AlterPartitionReassignments(AlterPartitionReassignmentsResponse),
    ListPartitionReassignments(ListPartitionReassignmentsResponse),
    ElectLeaders(ElectLeadersResponse),
    AlterConfigs(AlterConfigsResponse),
    IncrementalAlterConfigs(IncrementalAlterConfigsResponse),
    ListConfigResources(ListConfigResourcesResponse),
    DescribeProducers(DescribeProducersResponse),
    DescribeLogDirs(DescribeLogDirsResponse),
    DeleteRecords(DeleteRecordsResponse),
    CreatePartitions(CreatePartitionsResponse),
    DescribeTopicPartitions(DescribeTopicPartitionsResponse),
    OffsetDelete(OffsetDeleteResponse),
    DeleteGroups(DeleteGroupsResponse),
    DescribeGroups(DescribeGroupsResponse),
    ListGroups(ListGroupsResponse),
    AddPartitionsToTxn(AddPartitionsToTxnResponse),
    AddOffsetsToTxn(AddOffsetsToTxnResponse),
    EndTxn(EndTxnResponse),
    WriteTxnMarkers(WriteTxnMarkersResponse),
    DescribeTransactions(DescribeTransactionsResponse),
    ListTransactions(ListTransactionsResponse),
}

/// Appends the whole frame that answers `header` to `out`.
///
/// # Errors
/// The response is unfit for a frame; `out` is then as it was.
pub fn encode(
    header: &RequestHeader,
    mut response: Response,
    out: &mut Outgoing,
) -> Result<(), EncodeError> {
    let api = response.api_key().api();
    let version = layout_version(api, header.api_version);
    fit(&mut response, version);
    let start = out.mark();
    out.buffer().put_i32(0);
    let content = out.mark();
    out.buffer().put_i32(header.correlation_id);
    if api.has_flexible_response_header(version) {
        put_unsigned_varint(out.buffer(), 0);
    }
    if let Err(reason) = encode_body(response, version, out) {
        out.take_back(start);
        return Err(EncodeError::Unfit { api: api.key, version, reason });
    }
    let size_bytes = out.size_bytes_since(content);
    let Ok(length) = i32::try_from(size_bytes) else {
        out.take_back(start);
        return Err(EncodeError::TooLarge { api: api.key, size_bytes });
    };
    out.fill_i32(start, length);
    Ok(())
}

/// A client that asked for ApiVersions in a version nobody here knows reads version 0.
fn layout_version(api: &Api, version: i16) -> i16 {
    if api.key == ApiKey::ApiVersions && !api.accepts(version) { 0 } else { version }
}

#[cfg(test)]
mod tests;
