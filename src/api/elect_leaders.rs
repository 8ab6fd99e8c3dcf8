//! ElectLeaders v0–2: there is one broker, and it leads everything already.
//! Errors: ELECTION_NOT_NEEDED, UNKNOWN_TOPIC_OR_PARTITION; INVALID_REQUEST for an unknown kind of
//! election. Asked about all partitions it names every topic and no partition, as Kafka does: only
//! those that need an election are told.

use braid_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use braid_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::image::{MetadataImage, TopicImage};

use super::Broker;
use super::respond::text;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) fn handle(broker: &Broker, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let answer = ElectLeadersResponse::default();
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        return answer.with_error_code(ErrorCode::INVALID_REQUEST.0);
    }
    let image = broker.metadata.image();
    let Some(asked) = request.topic_partitions else {
        let topics = image.topics().iter().map(|topic| TopicName(text(&topic.name)));
        let results = topics.map(|name| ReplicaElectionResult::default().with_topic(name));
        return answer.with_replica_election_results(results.collect());
    };
    let results = asked
        .into_iter()
        .map(|asked| {
            let topic = image.topic(&asked.topic).map(AsRef::as_ref);
            let name = asked.topic.as_str();
            let results =
                asked.partitions.iter().map(|index| elect(&image, topic, name, *index)).collect();
            ReplicaElectionResult::default().with_topic(asked.topic).with_partition_result(results)
        })
        .collect();
    answer.with_replica_election_results(results)
}

fn elect(
    image: &MetadataImage,
    topic: Option<&TopicImage>,
    name: &str,
    index: i32,
) -> PartitionResult {
    let (code, why) = match topic {
        None => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("No such topic as {name}")),
        Some(topic) if topic.partition(index).is_none() => {
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("No such partition as {name}-{index}"))
        }
        Some(topic) if topic.partition(index).is_some_and(|p| image.leader(p).is_none()) => {
            let why = format!("The one broker that has {name}-{index} is not heard of.");
            (ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE, why)
        }
        Some(_) => {
            let result = PartitionResult::default().with_partition_id(index);
            return result
                .with_error_code(ErrorCode::ELECTION_NOT_NEEDED.0)
                .with_error_message(Some(text("Leader election not needed for topic partition.")));
        }
    };
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(code.0)
        .with_error_message(Some(StrBytes::from_string(why)))
}
