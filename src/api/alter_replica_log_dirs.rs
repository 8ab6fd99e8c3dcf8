//! AlterReplicaLogDirs v1–2: there is one data directory, in which everything lies already, so a
//! move into it is done at once.
//! Errors per partition: LOG_DIR_NOT_FOUND for any other directory, UNKNOWN_TOPIC_OR_PARTITION.

use std::path::Path;

use braid_protocol::ErrorCode;
use braid_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use braid_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use super::Broker;

pub(crate) fn handle(
    broker: &Broker,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let image = broker.metadata.image();
    let mut results = Vec::new();
    for dir in request.dirs {
        let ours = Path::new(&*dir.path) == broker.config.storage.dir;
        for asked in dir.topics {
            let topic = image.topic(&asked.name);
            let answer = |index: i32| {
                let error = if !ours {
                    ErrorCode::LOG_DIR_NOT_FOUND
                } else if topic.is_none_or(|topic| topic.partition(index).is_none()) {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                } else {
                    ErrorCode::NONE
                };
                AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(error.0)
            };
            let partitions = asked.partitions.into_iter().map(answer).collect();
            results.push(
                AlterReplicaLogDirTopicResult::default()
                    .with_topic_name(asked.name.clone())
                    .with_partitions(partitions),
            );
        }
    }
    AlterReplicaLogDirsResponse::default().with_results(results)
}
