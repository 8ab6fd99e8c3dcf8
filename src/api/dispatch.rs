//! From a decoded request to its handler: one arm per API.

use std::sync::Arc;

use braid_protocol::{Request, RequestHeader, Response};

use super::{Broker, Caller, Reply};
use super::{
    add_offsets_to_txn, add_partitions_to_txn, alter_configs, alter_partition_reassignments,
    alter_replica_log_dirs, create_acls, create_partitions, create_topics, delete_acls,
    delete_groups, delete_records, delete_topics, describe_acls, describe_client_quotas,
    describe_cluster, describe_configs, describe_groups, describe_log_dirs, describe_producers,
    describe_quorum, describe_topic_partitions, describe_transactions,
    describe_user_scram_credentials, elect_leaders, end_txn, fetch, find_coordinator, heartbeat,
    incremental_alter_configs, init_producer_id, join_group, leave_group, list_config_resources,
    list_groups, list_offsets, list_partition_reassignments, list_transactions, metadata,
    offset_commit, offset_delete, offset_fetch, offset_for_leader_epoch, sync_group,
    txn_offset_commit, unregister_broker, update_features, write_txn_markers,
};

/// The second stage of every request that is handled alone.
pub(super) async fn serve(
    broker: Arc<Broker>,
    caller: Caller,
    header: RequestHeader,
    request: Request,
) -> Reply {
    let (b, listener) = (&broker, &*caller.listener);
    let response = match request {
        Request::Produce(_) | Request::ApiVersions(_) => {
            // To say nothing here would leave a client waiting for ever.
            unreachable!("`accept_produce` and `accept` answer these in the first stage")
        }
        Request::Fetch(r) => return fetch::handle(b, listener, header, r).await,
        Request::ListOffsets(r) => Response::ListOffsets(list_offsets::handle(b, &header, r).await),
        Request::Metadata(r) => Response::Metadata(metadata::handle(b, listener, &header, r).await),
        Request::OffsetCommit(r) => {
            Response::OffsetCommit(offset_commit::handle(b, &header, r).await)
        }
        Request::OffsetFetch(r) => Response::OffsetFetch(offset_fetch::handle(b, &header, r).await),
        Request::FindCoordinator(r) => {
            Response::FindCoordinator(find_coordinator::handle(b, listener, r).await)
        }
        Request::JoinGroup(r) => {
            Response::JoinGroup(join_group::handle(b, &caller, &header, r).await)
        }
        Request::Heartbeat(r) => Response::Heartbeat(heartbeat::handle(b, r).await),
        Request::LeaveGroup(r) => Response::LeaveGroup(leave_group::handle(b, r).await),
        Request::SyncGroup(r) => Response::SyncGroup(sync_group::handle(b, r).await),
        Request::CreateTopics(r) => Response::CreateTopics(create_topics::handle(b, r).await),
        Request::DeleteTopics(r) => {
            Response::DeleteTopics(delete_topics::handle(b, &header, r).await)
        }
        Request::InitProducerId(r) => {
            Response::InitProducerId(init_producer_id::handle(b, r).await)
        }
        Request::OffsetForLeaderEpoch(r) => {
            Response::OffsetForLeaderEpoch(offset_for_leader_epoch::handle(b, r).await)
        }
        Request::DescribeConfigs(r) => Response::DescribeConfigs(describe_configs::handle(b, r)),
        Request::DescribeCluster(r) => {
            Response::DescribeCluster(describe_cluster::handle(b, listener, &r))
        }
        Request::IncrementalAlterConfigs(r) => {
            Response::IncrementalAlterConfigs(incremental_alter_configs::handle(b, r).await)
        }
        Request::AlterConfigs(r) => Response::AlterConfigs(alter_configs::handle(b, r).await),
        Request::ElectLeaders(r) => Response::ElectLeaders(elect_leaders::handle(b, r).await),
        Request::ListPartitionReassignments(_) => {
            Response::ListPartitionReassignments(list_partition_reassignments::handle())
        }
        Request::AlterPartitionReassignments(r) => {
            Response::AlterPartitionReassignments(alter_partition_reassignments::handle(b, r))
        }
        Request::DescribeQuorum(r) => Response::DescribeQuorum(describe_quorum::handle(b, r).await),
        Request::DescribeAcls(_) => Response::DescribeAcls(describe_acls::handle()),
        Request::CreateAcls(r) => Response::CreateAcls(create_acls::handle(&r)),
        Request::DeleteAcls(r) => Response::DeleteAcls(delete_acls::handle(&r)),
        Request::AlterReplicaLogDirs(r) => {
            Response::AlterReplicaLogDirs(alter_replica_log_dirs::handle(b, r))
        }
        Request::DescribeClientQuotas(r) => {
            Response::DescribeClientQuotas(describe_client_quotas::handle(&r))
        }
        Request::UpdateFeatures(r) => Response::UpdateFeatures(update_features::handle(b, r)),
        Request::UnregisterBroker(r) => {
            Response::UnregisterBroker(unregister_broker::handle(b, &r))
        }
        Request::DescribeUserScramCredentials(r) => {
            Response::DescribeUserScramCredentials(describe_user_scram_credentials::handle(r))
        }
        Request::ListGroups(r) => Response::ListGroups(list_groups::handle(b, r).await),
        Request::DescribeGroups(r) => Response::DescribeGroups(describe_groups::handle(b, r).await),
        Request::DeleteGroups(r) => Response::DeleteGroups(delete_groups::handle(b, r).await),
        Request::OffsetDelete(r) => Response::OffsetDelete(offset_delete::handle(b, r).await),
        Request::DescribeTopicPartitions(r) => {
            Response::DescribeTopicPartitions(describe_topic_partitions::handle(b, r))
        }
        Request::CreatePartitions(r) => {
            Response::CreatePartitions(create_partitions::handle(b, r).await)
        }
        Request::DeleteRecords(r) => Response::DeleteRecords(delete_records::handle(b, r).await),
        Request::DescribeLogDirs(r) => Response::DescribeLogDirs(describe_log_dirs::handle(b, r)),
        Request::DescribeProducers(r) => {
            Response::DescribeProducers(describe_producers::handle(b, r))
        }
        Request::AddPartitionsToTxn(r) => {
            Response::AddPartitionsToTxn(add_partitions_to_txn::handle(b, &header, r).await)
        }
        Request::AddOffsetsToTxn(r) => {
            Response::AddOffsetsToTxn(add_offsets_to_txn::handle(b, r).await)
        }
        Request::EndTxn(r) => Response::EndTxn(end_txn::handle(b, &header, r).await),
        Request::WriteTxnMarkers(r) => {
            Response::WriteTxnMarkers(write_txn_markers::handle(b, r).await)
        }
        Request::TxnOffsetCommit(r) => {
            Response::TxnOffsetCommit(txn_offset_commit::handle(b, &header, r).await)
        }
        Request::DescribeTransactions(r) => {
            Response::DescribeTransactions(describe_transactions::handle(b, r))
        }
        Request::ListTransactions(r) => Response::ListTransactions(list_transactions::handle(b, r)),
        Request::ListConfigResources(r) => {
            Response::ListConfigResources(list_config_resources::handle(b, listener, &r))
        }
    };
    Reply::answer(header, response)
}
