//! ElectLeaders v0–2: the preferred replica leads in place of another, or (v1) any replica where none
//! that holds all records is up. Partitions on the same replicas have one leader together: an election
//! for one of them is one for all.
//! Errors: ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE,
//! UNKNOWN_TOPIC_OR_PARTITION; INVALID_REQUEST for an unknown kind of election; NOT_CONTROLLER or
//! REQUEST_TIMED_OUT while the metadata quorum cannot decide. Asked about all partitions it names every
//! topic, and of its partitions those that needed an election, as Kafka does.

use std::collections::{BTreeMap, BTreeSet};

use braid_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use braid_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::command::{ElectLeaders, ElectionKind, ShardElection};
use braid_raft::image::{MetadataImage, TopicImage};
use braid_raft::outcome::{Elected, ElectionRejection};

use super::Broker;
use super::error::propose_code;
use super::respond::text;
use crate::model::ShardId;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
const NOT_NEEDED: &str = "Leader election not needed for topic partition.";

type Held = BTreeMap<ShardId, Result<Elected, ElectionRejection>>;

pub(crate) async fn handle(broker: &Broker, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let answer = ElectLeadersResponse::default();
    let kind = match request.election_type {
        PREFERRED => ElectionKind::Preferred,
        UNCLEAN => ElectionKind::Unclean,
        _ => return answer.with_error_code(ErrorCode::INVALID_REQUEST.0),
    };
    let image = broker.metadata.image();
    let asked = match &request.topic_partitions {
        None => all(&image),
        Some(topics) => {
            let asked = topics.iter().map(|it| (it.topic.to_string(), it.partitions.clone()));
            asked.collect()
        }
    };
    let held = match hold(broker, elections(&image, &asked, kind)).await {
        Ok(held) => held,
        Err(code) => return answer.with_error_code(code.0),
    };
    let told_all = request.topic_partitions.is_some();
    let results = asked.into_iter().map(|(name, indexes)| {
        let topic = image.topic(&name).map(AsRef::as_ref);
        let results =
            indexes.iter().map(|index| result(&image, topic, (&name, *index), kind, &held));
        let results = results
            .filter(|it| told_all || it.error_code != ErrorCode::ELECTION_NOT_NEEDED.0)
            .collect();
        ReplicaElectionResult::default()
            .with_topic(TopicName(StrBytes::from_string(name)))
            .with_partition_result(results)
    });
    answer.with_replica_election_results(results.collect())
}

fn all(image: &MetadataImage) -> Vec<(String, Vec<i32>)> {
    let topic = |topic: &TopicImage| {
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        (topic.name.to_string(), (0..count).collect())
    };
    image.topics().iter().map(|it| topic(it)).collect()
}

/// One election for each shard that partitions are on and several brokers have.
fn elections(
    image: &MetadataImage,
    asked: &[(String, Vec<i32>)],
    kind: ElectionKind,
) -> Vec<ShardElection> {
    let mut shards = BTreeSet::new();
    for (name, indexes) in asked {
        let Some(topic) = image.topic(name) else { continue };
        let partitions = indexes.iter().filter_map(|index| topic.partition(*index));
        shards.extend(partitions.map(|partition| partition.shard));
    }
    let replicated = shards.into_iter().filter_map(|shard| image.shard(shard));
    let replicated = replicated.filter(|shard| shard.is_replicated());
    replicated.map(|shard| ShardElection { shard: shard.id, kind, epoch: None }).collect()
}

async fn hold(broker: &Broker, elections: Vec<ShardElection>) -> Result<Held, ErrorCode> {
    if elections.is_empty() {
        return Ok(Held::new());
    }
    let shards: Vec<ShardId> = elections.iter().map(|election| election.shard).collect();
    let held = broker.metadata.propose(ElectLeaders { elections }).await;
    let held = held.map_err(|error| propose_code(&error))?;
    Ok(shards.into_iter().zip(held).collect())
}

fn result(
    image: &MetadataImage,
    topic: Option<&TopicImage>,
    (name, index): (&str, i32),
    kind: ElectionKind,
    held: &Held,
) -> PartitionResult {
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let outcome = match topic.map(|topic| topic.partition(index)) {
        None => Err((unknown, format!("No such topic as {name}"))),
        Some(None) => Err((unknown, format!("No such partition as {name}-{index}"))),
        Some(Some(partition)) => match held.get(&partition.shard) {
            Some(Ok(_)) => Ok(()),
            Some(Err(rejection)) => Err((rejection_code(*rejection), rejection.to_string())),
            None if image.leader(partition).is_none() => {
                let code = match kind {
                    ElectionKind::Preferred => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
                    ElectionKind::Clean | ElectionKind::Unclean | ElectionKind::Resigned => {
                        ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE
                    }
                };
                Err((code, format!("The one broker that has {name}-{index} is not heard of.")))
            }
            None => Err((ErrorCode::ELECTION_NOT_NEEDED, NOT_NEEDED.to_owned())),
        },
    };
    let result = PartitionResult::default().with_partition_id(index);
    match outcome {
        Ok(()) => result.with_error_message(None),
        Err((code, why)) => result.with_error_code(code.0).with_error_message(Some(text(&why))),
    }
}

fn rejection_code(rejection: ElectionRejection) -> ErrorCode {
    match rejection {
        ElectionRejection::UnknownShard(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ElectionRejection::EpochChanged(_) | ElectionRejection::NotNeeded => {
            ErrorCode::ELECTION_NOT_NEEDED
        }
        ElectionRejection::PreferredUnavailable => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
        ElectionRejection::NobodyEligible => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
    }
}
