//! From a request's bytes to its newest shape.
//!
//! The guard walks the body first, so the generated decoder meets no claim that the bytes do not
//! justify. What older versions say differently (one group instead of several, names instead of
//! states) is turned into the newest shape here, so that handlers know one shape only. Strings and
//! records are slices of the frame: whoever keeps them beyond the request copies them.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest,
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, BrokerId, CreateAclsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteAclsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeAclsRequest, DescribeClientQuotasRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    DescribeTransactionsRequest, DescribeUserScramCredentialsRequest, ElectLeadersRequest,
    EndTxnRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListConfigResourcesRequest, ListGroupsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, ListTransactionsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    SyncGroupRequest, UnregisterBrokerRequest, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::Decodable;

use crate::api::{Api, ApiKey};
use crate::api_versions::ApiVersionsRequest;
use crate::feature;
use crate::guard::{self, GuardError};
use crate::header::RequestHeader;
use crate::produce::ProduceBody;
use crate::transactions::{TxnOffsetCommit, WriteTxnMarkers};
pub use by_hand::BodyError;

pub(crate) mod by_hand;

/// Why a request cannot be carried out. The connection is to be closed, as Kafka does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No such API is served.
    #[error("API {api_key} is not served")]
    UnknownApi { api_key: i16 },
    /// The API is served, but not in this version.
    #[error("{} is not served in version {version}", api.name())]
    UnsupportedVersion { api: ApiKey, version: i16 },
    /// The body claims what its bytes do not justify.
    #[error("the body of {} version {version} is refused: {source}", api.name())]
    Refused { api: ApiKey, version: i16, source: GuardError },
    /// The body is not what its version says.
    #[error("the body of {} version {version} is malformed: {reason}", api.name())]
    Malformed { api: ApiKey, version: i16, reason: String },
}

macro_rules! requests {
    ($($api:ident($message:ident, $decode:ident),)+) => {
        /// A request in its newest shape.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the names are Kafka's own")]
        #[allow(clippy::large_enum_variant, reason = "lives on the stack of one handler")]
        pub enum Request {
            $($api($message),)+
            ApiVersions(ApiVersionsRequest),
        }

        impl Request {
            /// The API this is a request of.
            #[must_use]
            pub fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$api(_) => ApiKey::$api,)+
                    Self::ApiVersions(_) => ApiKey::ApiVersions,
                }
            }
        }

        fn decode_body(api: &Api, version: i16, body: Bytes) -> Result<Request, String> {
            match api.key {
                $(ApiKey::$api => $decode(api, version, body).map(Request::$api),)+
                ApiKey::ApiVersions => by_hand(ApiVersionsRequest::decode(version, &body))
                    .map(Request::ApiVersions),
            }
        }
    };
}

requests! {
    Produce(ProduceBody, produce),
    Fetch(FetchRequest, generated),
    ListOffsets(ListOffsetsRequest, generated),
    Metadata(MetadataRequest, generated),
    OffsetCommit(OffsetCommitRequest, offset_commit),
    OffsetFetch(OffsetFetchRequest, offset_fetch),
    FindCoordinator(FindCoordinatorRequest, generated),
    JoinGroup(JoinGroupRequest, generated),
    Heartbeat(HeartbeatRequest, generated),
    LeaveGroup(LeaveGroupRequest, generated),
    SyncGroup(SyncGroupRequest, generated),
    CreateTopics(CreateTopicsRequest, generated),
    DeleteTopics(DeleteTopicsRequest, generated),
    InitProducerId(InitProducerIdRequest, generated),
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest, generated),
    DescribeConfigs(DescribeConfigsRequest, generated),
    DescribeCluster(DescribeClusterRequest, generated),
    DescribeUserScramCredentials(DescribeUserScramCredentialsRequest, generated),
    UnregisterBroker(UnregisterBrokerRequest, generated),
    UpdateFeatures(UpdateFeaturesRequest, generated),
    DescribeClientQuotas(DescribeClientQuotasRequest, generated),
    DescribeAcls(DescribeAclsRequest, generated),
    CreateAcls(CreateAclsRequest, generated),
    DeleteAcls(DeleteAclsRequest, generated),
    AlterReplicaLogDirs(AlterReplicaLogDirsRequest, generated),
    DescribeQuorum(DescribeQuorumRequest, generated),
    AlterPartitionReassignments(AlterPartitionReassignmentsRequest, generated),
    ListPartitionReassignments(ListPartitionReassignmentsRequest, generated),
    ElectLeaders(ElectLeadersRequest, generated),
    AlterConfigs(AlterConfigsRequest, generated),
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest, generated),
    ListConfigResources(ListConfigResourcesRequest, generated),
    DescribeProducers(DescribeProducersRequest, generated),
    DescribeLogDirs(DescribeLogDirsRequest, generated),
    DeleteRecords(DeleteRecordsRequest, generated),
    CreatePartitions(CreatePartitionsRequest, generated),
    DescribeTopicPartitions(DescribeTopicPartitionsRequest, generated),
    OffsetDelete(OffsetDeleteRequest, generated),
    DeleteGroups(DeleteGroupsRequest, generated),
    DescribeGroups(DescribeGroupsRequest, generated),
    ListGroups(ListGroupsRequest, generated),
    AddPartitionsToTxn(AddPartitionsToTxnRequest, generated),
    AddOffsetsToTxn(AddOffsetsToTxnRequest, generated),
    EndTxn(EndTxnRequest, generated),
    WriteTxnMarkers(WriteTxnMarkers, write_txn_markers),
    TxnOffsetCommit(TxnOffsetCommit, txn_offset_commit),
    DescribeTransactions(DescribeTransactionsRequest, generated),
    ListTransactions(ListTransactionsRequest, generated),
}

/// Decodes the body that belongs to `header` into the newest shape.
///
/// An ApiVersions request of any version succeeds: its answer says what is served.
///
/// # Errors
/// The API or its version is not served, or the body is not what its version says.
pub fn decode(header: &RequestHeader, body: Bytes) -> Result<Request, DecodeError> {
    let version = header.api_version;
    let Some(api) = header.api() else {
        return Err(DecodeError::UnknownApi { api_key: header.api_key });
    };
    let malformed = |reason| DecodeError::Malformed { api: api.key, version, reason };
    if api.key == ApiKey::ApiVersions {
        return decode_body(api, version, body).map_err(malformed);
    }
    if !api.accepts(version) {
        return Err(DecodeError::UnsupportedVersion { api: api.key, version });
    }
    if api.key == ApiKey::Produce {
        // Its walk is its guard.
        return decode_body(api, version, body).map_err(malformed);
    }
    guard::check(api.key, version, &body).map_err(|source| DecodeError::Refused {
        api: api.key,
        version,
        source,
    })?;
    let mut request = decode_body(api, version, body).map_err(malformed)?;
    normalise(&mut request, version);
    Ok(request)
}

fn generated<T: Decodable>(api: &Api, version: i16, mut body: Bytes) -> Result<T, String> {
    let version = version.min(api.generated_request_max);
    T::decode(&mut body, version).map_err(|error| error.to_string())
}

fn by_hand<T>(decoded: Result<T, BodyError>) -> Result<T, String> {
    decoded.map_err(|error| error.to_string())
}

fn produce(_: &Api, version: i16, body: Bytes) -> Result<ProduceBody, String> {
    by_hand(ProduceBody::decode(version, body))
}

fn offset_commit(api: &Api, version: i16, body: Bytes) -> Result<OffsetCommitRequest, String> {
    if feature::offset_commit_has_topic_ids(version) {
        by_hand(by_hand::offset_commit(&body))
    } else {
        generated(api, version, body)
    }
}

fn offset_fetch(api: &Api, version: i16, body: Bytes) -> Result<OffsetFetchRequest, String> {
    if feature::offset_fetch_has_topic_ids(version) {
        by_hand(by_hand::offset_fetch(&body))
    } else {
        generated(api, version, body)
    }
}

fn write_txn_markers(api: &Api, version: i16, body: Bytes) -> Result<WriteTxnMarkers, String> {
    if feature::write_txn_markers_has_transaction_versions(version) {
        by_hand(by_hand::write_txn_markers(&body))
    } else {
        let request = generated(api, version, body)?;
        Ok(WriteTxnMarkers { request, transaction_versions: Vec::new() })
    }
}

fn txn_offset_commit(api: &Api, version: i16, body: Bytes) -> Result<TxnOffsetCommit, String> {
    if feature::txn_offset_commit_has_topic_ids(version) {
        by_hand(by_hand::txn_offset_commit(&body))
    } else {
        let request = generated(api, version, body)?;
        Ok(TxnOffsetCommit { request, topic_ids: Vec::new() })
    }
}

/// Turns what older versions say differently into the newest shape.
fn normalise(request: &mut Request, version: i16) {
    match request {
        Request::Fetch(fetch) => normalise_fetch(fetch, version),
        Request::Metadata(metadata) => normalise_metadata(metadata, version),
        Request::OffsetFetch(fetch) => normalise_offset_fetch(fetch, version),
        Request::FindCoordinator(find) => normalise_find_coordinator(find, version),
        Request::JoinGroup(join) => normalise_join_group(join, version),
        Request::LeaveGroup(leave) => normalise_leave_group(leave, version),
        Request::AddPartitionsToTxn(add) => normalise_add_partitions(add, version),
        Request::DeleteTopics(delete) => normalise_delete_topics(delete, version),
        Request::ListConfigResources(list) => normalise_list_config_resources(list, version),
        Request::UpdateFeatures(update) => normalise_update_features(update, version),
        Request::Produce(_)
        | Request::ListOffsets(_)
        | Request::OffsetCommit(_)
        | Request::Heartbeat(_)
        | Request::SyncGroup(_)
        | Request::ApiVersions(_)
        | Request::CreateTopics(_)
        | Request::InitProducerId(_)
        | Request::OffsetForLeaderEpoch(_)
        | Request::DescribeConfigs(_)
        | Request::DescribeCluster(_)
        | Request::DescribeUserScramCredentials(_)
        | Request::UnregisterBroker(_)
        | Request::DescribeClientQuotas(_)
        | Request::DescribeAcls(_)
        | Request::CreateAcls(_)
        | Request::DeleteAcls(_)
        | Request::AlterReplicaLogDirs(_)
        | Request::DescribeQuorum(_)
        | Request::AlterPartitionReassignments(_)
        | Request::ListPartitionReassignments(_)
        | Request::ElectLeaders(_)
        | Request::AlterConfigs(_)
        | Request::IncrementalAlterConfigs(_)
        | Request::DescribeProducers(_)
        | Request::DescribeLogDirs(_)
        | Request::DeleteRecords(_)
        | Request::CreatePartitions(_)
        | Request::DescribeTopicPartitions(_)
        | Request::OffsetDelete(_)
        | Request::DeleteGroups(_)
        | Request::DescribeGroups(_)
        | Request::ListGroups(_)
        | Request::AddOffsetsToTxn(_)
        | Request::EndTxn(_)
        | Request::WriteTxnMarkers(_)
        | Request::TxnOffsetCommit(_)
        | Request::DescribeTransactions(_)
        | Request::ListTransactions(_) => {}
    }
}

/// The replica says who it is in a structure of its own.
fn normalise_fetch(request: &mut FetchRequest, version: i16) {
    if version < 15 {
        request.replica_state.replica_id = std::mem::replace(&mut request.replica_id, BrokerId(-1));
    }
}

/// "All topics" is null, which the first version could not say.
fn normalise_metadata(request: &mut MetadataRequest, version: i16) {
    if version == 0 {
        request.topics = request.topics.take().filter(|topics| !topics.is_empty());
    }
}

/// One group is a list of one.
fn normalise_offset_fetch(request: &mut OffsetFetchRequest, version: i16) {
    if version >= 8 {
        return;
    }
    let topics = request.topics.replace(Vec::new());
    let group_id = std::mem::take(&mut request.group_id);
    request.groups = vec![
        OffsetFetchRequestGroup::default()
            .with_group_id(group_id)
            .with_topics(topics.map(|topics| topics.into_iter().map(newer_topic).collect())),
    ];
}

fn newer_topic(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics::default()
        .with_name(topic.name)
        .with_partition_indexes(topic.partition_indexes)
}

/// One key is a list of one.
fn normalise_find_coordinator(request: &mut FindCoordinatorRequest, version: i16) {
    if version < 4 {
        request.coordinator_keys = vec![std::mem::take(&mut request.key)];
    }
}

/// One timeout served for both.
fn normalise_join_group(request: &mut JoinGroupRequest, version: i16) {
    if version == 0 {
        request.rebalance_timeout_ms = request.session_timeout_ms;
    }
}

/// One member is a list of one.
fn normalise_leave_group(request: &mut LeaveGroupRequest, version: i16) {
    if version < 3 {
        let member_id = std::mem::take(&mut request.member_id);
        request.members = vec![MemberIdentity::default().with_member_id(member_id)];
    }
}

/// A name is a state without an id.
fn normalise_delete_topics(request: &mut DeleteTopicsRequest, version: i16) {
    if version < 6 {
        request.topics = std::mem::take(&mut request.topic_names)
            .into_iter()
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect();
    }
}

/// One transaction is a list of one.
fn normalise_add_partitions(request: &mut AddPartitionsToTxnRequest, version: i16) {
    if version < 4 {
        let id = std::mem::take(&mut request.v3_and_below_transactional_id);
        let topics = std::mem::take(&mut request.v3_and_below_topics);
        request.transactions = vec![
            AddPartitionsToTxnTransaction::default()
                .with_transactional_id(id)
                .with_producer_id(request.v3_and_below_producer_id)
                .with_producer_epoch(request.v3_and_below_producer_epoch)
                .with_topics(topics),
        ];
    }
}

/// The first version knew client metrics only.
fn normalise_list_config_resources(request: &mut ListConfigResourcesRequest, version: i16) {
    const CLIENT_METRICS: i8 = 16;
    if version < 1 {
        request.resource_types = vec![CLIENT_METRICS];
    }
}

/// The first version allowed downgrades by a flag.
fn normalise_update_features(request: &mut UpdateFeaturesRequest, version: i16) {
    const SAFE_DOWNGRADE: i8 = 2;
    if version < 1 {
        for update in &mut request.feature_updates {
            if std::mem::take(&mut update.allow_downgrade) {
                update.upgrade_type = SAFE_DOWNGRADE;
            }
        }
    }
}

#[cfg(test)]
mod tests;
