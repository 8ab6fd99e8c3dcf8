//! CreatePartitions v0–3: gives topics more partitions. Each topic has its own result; a name
//! asked for twice is refused. A request adds no more than 10,000 partitions, as with Kafka.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT,
//! INVALID_REQUEST, POLICY_VIOLATION, INVALID_TOPIC_EXCEPTION for the broker's own topics.

use std::collections::HashMap;
use std::sync::Arc;

use braid_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use braid_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use braid_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::command::CreatePartitions;
use braid_raft::outcome::CreatePartitionsRejection;
use braid_raft::plan::{AddPartitionsRequest, Limits, add_partitions};

use super::Broker;
use super::create_topics::{limits, make_shards};
use super::error::{add_rejection_code, placement_code, propose_code};
use super::respond::{UNKNOWN_TOPIC, is_internal};
use crate::model::BrokerId;

type Refusal = (ErrorCode, String);

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut times_named: HashMap<TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name.clone()).or_insert(0) += 1;
    }
    let mut results = Vec::new();
    let mut limits = limits(broker);
    for topic in request.topics {
        let outcome = match times_named.get_mut(&topic.name) {
            // Answered at its first place.
            Some(0) => continue,
            Some(times) if *times > 1 => {
                *times = 0;
                Err((ErrorCode::INVALID_REQUEST, "Duplicate topic name.".to_owned()))
            }
            Some(_) | None => add(broker, &topic, &limits, request.validate_only).await,
        };
        if let Ok(added) = outcome {
            limits.partitions_max = limits.partitions_max.saturating_sub(added);
        }
        results.push(result(topic.name, outcome.map(drop)));
    }
    CreatePartitionsResponse::default().with_results(results)
}

/// Adds the partitions; how many those are.
async fn add(
    broker: &Broker,
    topic: &CreatePartitionsTopic,
    limits: &Limits,
    validate_only: bool,
) -> Result<u32, Refusal> {
    loop {
        let command = plan(broker, topic, limits)?;
        let added = command.added.iter().map(|run| run.count).sum();
        if validate_only {
            return Ok(added);
        }
        let proposed = async {
            make_shards(broker, command.added.iter()).await?;
            broker.metadata.propose(command.clone()).await
        };
        let outcome = proposed.await;
        match outcome.map_err(|error| (propose_code(&error), error.to_string()))? {
            Ok(_) => return Ok(added),
            // Somebody else was first: whether this is still an increase is decided anew.
            Err(CreatePartitionsRejection::CountChanged { .. }) => {}
            Err(rejection) => return Err((add_rejection_code(&rejection), rejection.to_string())),
        }
    }
}

fn plan(
    broker: &Broker,
    asked: &CreatePartitionsTopic,
    limits: &Limits,
) -> Result<CreatePartitions, Refusal> {
    let image = broker.metadata.image();
    let topic = image
        .topic(&asked.name)
        .ok_or_else(|| (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC.to_owned()))?;
    if is_internal(&topic.name) {
        let why = format!(
            "Topic {} is the broker's own: with more partitions groups would be looked for in the \
             wrong ones.",
            topic.name
        );
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, why));
    }
    let assignments = asked.assignments.as_ref().map(|assignments| {
        let replicas = assignments.iter().map(|a| a.broker_ids.iter().map(|id| BrokerId(id.0)));
        replicas.map(Iterator::collect).collect()
    });
    let request = AddPartitionsRequest { count: asked.count, assignments };
    add_partitions(&image, topic, &request, limits)
        .map_err(|error| (placement_code(&error), error.to_string()))
}

fn result(name: TopicName, outcome: Result<(), Refusal>) -> CreatePartitionsTopicResult {
    let result = CreatePartitionsTopicResult::default().with_name(name);
    match outcome {
        Ok(()) => result.with_error_message(None),
        Err((code, why)) => {
            result.with_error_code(code.0).with_error_message(Some(StrBytes::from_string(why)))
        }
    }
}
