//! CreateTopics v2–7, and topics made on first use.
//!
//! -1 partitions or replicas mean the broker's default (v4). v5 echoes the configs in force, v7 the
//! topic id. Each topic has its own result; a name asked for twice is refused in every place.
//! Errors: TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_PARTITIONS,
//! INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG, INVALID_REQUEST,
//! POLICY_VIOLATION for too many partitions in all, TOPIC_AUTHORIZATION_FAILED for Kafka's metadata.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use braid_protocol::messages::create_topics_request::CreatableTopic;
use braid_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use braid_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::ProposeError;
use braid_raft::command::{CreateTopics, NewTopic, PartitionRun};
use braid_raft::plan::{Assignment, Limits, PlacementError, TopicRequest, place_topic};

use super::Broker;
use super::error::{create_rejection_code, placement_code, propose_code};
use super::respond::text;
use super::transactions::TRANSACTIONS_TOPIC;
use crate::config::MessageType;
use crate::model::{BrokerId, TopicId};

/// A request that asks for more partitions, over all of its topics, is refused as a whole. Kafka's
/// `MAX_PARTITIONS_PER_BATCH`: what one command holds is bounded by it.
pub(super) const PARTITIONS_PER_REQUEST_MAX: u32 = 10_000;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times_named: HashMap<TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name.clone()).or_insert(0) += 1;
    }
    if partitions_asked(broker, &request.topics) > u64::from(PARTITIONS_PER_REQUEST_MAX) {
        let error = PlacementError::TooManyPartitions;
        let refused = |name| failed(name, placement_code(&error), error.to_string());
        let names: BTreeSet<TopicName> = times_named.into_keys().collect();
        return CreateTopicsResponse::default()
            .with_topics(names.into_iter().map(refused).collect());
    }
    let mut results = Vec::new();
    let mut planned = Vec::new();
    for topic in request.topics {
        let name = topic.name.clone();
        if times_named.get(&name).is_some_and(|times| *times > 1) {
            if !results.iter().any(|r: &CreatableTopicResult| r.name == name) {
                let why = "Duplicate topic name.";
                results.push(failed(name, ErrorCode::INVALID_REQUEST, why.into()));
            }
            continue;
        }
        match plan(broker, topic) {
            Ok(new) => planned.push((name, new)),
            Err((code, why)) => results.push(failed(name, code, why)),
        }
    }
    if request.validate_only {
        results.extend(
            planned.iter().map(|(name, new)| {
                succeeded(broker, name.clone(), new, TopicId(uuid::Uuid::nil()))
            }),
        );
    } else if !planned.is_empty() {
        results.extend(create(broker, planned).await);
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// How many partitions a request asks for in all, the wrong numbers left out.
fn partitions_asked(broker: &Broker, topics: &[CreatableTopic]) -> u64 {
    let asked = |topic: &CreatableTopic| match topic.num_partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len() as u64,
        -1 => u64::try_from(broker.config.topics.partitions).unwrap_or(0),
        count => u64::try_from(count).unwrap_or(0),
    };
    topics.iter().map(asked).sum()
}

type Refusal = (ErrorCode, String);

fn plan(broker: &Broker, mut topic: CreatableTopic) -> Result<NewTopic, Refusal> {
    if topic.name.as_str() == METADATA_TOPIC {
        let why = format!("{METADATA_TOPIC} stands for the cluster's metadata and is no topic.");
        return Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, why));
    }
    if topic.name.as_str() == OFFSETS_TOPIC && topic.assignments.is_empty() {
        // Groups are spread over as many partitions as the configuration says.
        let partitions = broker.config.group.offsets_partitions;
        if !matches!(topic.num_partitions, -1) && topic.num_partitions != partitions {
            let why = format!(
                "{OFFSETS_TOPIC} has {partitions} partitions, as offsets.topic.num.partitions says."
            );
            return Err((ErrorCode::INVALID_PARTITIONS, why));
        }
        topic.num_partitions = partitions;
    }
    let configs = topic.configs.iter().map(|c| (c.name.as_str(), c.value.as_deref()));
    let configs = broker
        .live
        .load()
        .validate_topic(configs)
        .map_err(|error| (ErrorCode::INVALID_CONFIG, error.to_string()))?;
    let assignments = topic
        .assignments
        .iter()
        .map(|a| Assignment {
            partition: a.partition_index,
            replicas: a.broker_ids.iter().map(|id| BrokerId(id.0)).collect(),
        })
        .collect();
    let request = TopicRequest {
        name: topic.name.to_string(),
        id: TopicId(broker.env.rng.next_uuid()),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs,
    };
    place(broker, request, None)
}

fn place(
    broker: &Broker,
    request: TopicRequest,
    defaults: Option<(i32, i16)>,
) -> Result<NewTopic, Refusal> {
    let topics = &broker.config.topics;
    let (default_partitions, default_replication_factor) =
        defaults.unwrap_or((topics.partitions, topics.replication_factor));
    let mut limits = Limits { default_partitions, default_replication_factor, ..limits(broker) };
    if is_kept_once(broker, &request) {
        limits.replication_factor_max = 1;
    }
    place_topic(&broker.metadata.image(), request, &limits)
        .map_err(|error| (placement_code(&error), error.to_string()))
}

/// Whether the broker's engines keep something beside a topic's records, which is not replicated.
fn is_kept_once(broker: &Broker, request: &TopicRequest) -> bool {
    match broker.live.load().topic(&request.configs).message_type {
        MessageType::Delay | MessageType::Transaction => true,
        MessageType::Normal | MessageType::Fifo => super::respond::is_internal(&request.name),
    }
}

/// What the broker's configuration says about new partitions.
pub(super) fn limits(broker: &Broker) -> Limits {
    Limits {
        default_partitions: broker.config.topics.partitions,
        default_replication_factor: broker.config.topics.replication_factor,
        partitions_max: PARTITIONS_PER_REQUEST_MAX,
        replication_factor_max: broker.config.topics.replication_factor_max,
    }
}

async fn create(
    broker: &Arc<Broker>,
    planned: Vec<(TopicName, NewTopic)>,
) -> Vec<CreatableTopicResult> {
    let topics: Vec<NewTopic> = planned.iter().map(|(_, new)| new.clone()).collect();
    let command = CreateTopics { topics, created_ms: broker.env.clock.wall_ms() };
    let proposed = async {
        make_shards(broker, command.topics.iter().flat_map(|topic| &topic.partitions)).await?;
        broker.metadata.propose(command).await
    };
    match proposed.await {
        Ok(outcomes) => planned
            .into_iter()
            .zip(outcomes)
            .map(|((name, new), outcome)| match outcome {
                Ok(created) => succeeded(broker, name, &new, created.id),
                Err(rejection) => {
                    failed(name, create_rejection_code(&rejection), rejection.to_string())
                }
            })
            .collect(),
        Err(error) => planned
            .into_iter()
            .map(|(name, _)| failed(name, propose_code(&error), error.to_string()))
            .collect(),
    }
}

/// Makes the shards that partitions are to be on, if need be.
pub(super) async fn make_shards(
    broker: &Broker,
    runs: impl Iterator<Item = &PartitionRun>,
) -> Result<(), ProposeError> {
    let in_sync_min = broker.live.load().topic(&BTreeMap::new()).min_insync_replicas;
    broker.metadata.make_shards(runs, in_sync_min, &*broker.env.rng).await
}

fn partitions_of(new: &NewTopic) -> u64 {
    new.partitions.iter().map(|run| u64::from(run.count)).sum()
}

fn failed(name: TopicName, code: ErrorCode, why: String) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(code.0)
        .with_error_message(Some(StrBytes::from_string(why)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        // The Java client takes null for "not authorized to see the configs".
        .with_configs(Some(Vec::new()))
}

fn succeeded(
    broker: &Broker,
    name: TopicName,
    new: &NewTopic,
    id: TopicId,
) -> CreatableTopicResult {
    let partitions = partitions_of(new);
    let replicas = new.partitions.first().map_or(0, |run| run.replicas.len());
    let configs = broker
        .live
        .load()
        .describe_topic(&new.configs)
        .into_iter()
        .map(|described| {
            CreatableTopicConfigs::default()
                .with_name(text(&described.name))
                .with_is_sensitive(described.sensitive)
                .with_config_source(described.source.code())
                .with_read_only(described.read_only)
                .with_value(described.value.as_deref().map(text))
        })
        .collect();
    CreatableTopicResult::default()
        .with_name(name)
        .with_topic_id(id.0)
        .with_error_message(None)
        .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(replicas).unwrap_or(i16::MAX))
        .with_configs(Some(configs))
}

/// Creates topics that a client has named first by using them; what cannot be created is left to
/// the caller's own lookup to report.
pub(crate) async fn auto_create(broker: &Arc<Broker>, names: &[String]) {
    let planned = names
        .iter()
        .filter_map(|name| {
            let internal = match name.as_str() {
                OFFSETS_TOPIC => Some(offsets_topic_shape(broker)),
                TRANSACTIONS_TOPIC => Some(transactions_topic_shape(broker)),
                _ => None,
            };
            if internal.is_none() && super::respond::is_internal(name) {
                return None;
            }
            let (defaults, configs) =
                internal.map_or((None, BTreeMap::new()), |(d, c)| (Some(d), c));
            let request = TopicRequest {
                name: name.clone(),
                id: TopicId(broker.env.rng.next_uuid()),
                partitions: -1,
                replication_factor: -1,
                assignments: Vec::new(),
                configs,
            };
            match place(broker, request, defaults) {
                Ok(new) => Some((TopicName(text(name)), new)),
                Err((code, why)) => {
                    tracing::debug!(
                        topic = name,
                        error = code.name(),
                        why,
                        "not created on first use"
                    );
                    None
                }
            }
        })
        .collect::<Vec<_>>();
    let partitions: u64 = planned.iter().map(|(_, new)| partitions_of(new)).sum();
    if partitions > u64::from(PARTITIONS_PER_REQUEST_MAX) {
        tracing::warn!(
            topics = planned.len(),
            partitions,
            partitions_max = PARTITIONS_PER_REQUEST_MAX,
            "one request names too many new topics: none is created on first use"
        );
        return;
    }
    if planned.is_empty() {
        return;
    }
    for result in create(broker, planned).await {
        let code = ErrorCode(result.error_code);
        if code == ErrorCode::NONE {
            tracing::info!(topic = %result.name.0, partitions = result.num_partitions, "created a topic on first use");
        } else if code != ErrorCode::TOPIC_ALREADY_EXISTS {
            tracing::warn!(topic = %result.name.0, error = code.name(), "could not create a topic on first use");
        }
    }
}

/// Kafka's name for the log of its metadata, which nobody may create as a topic.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The topic of group offsets and memberships.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What a partition of states may have before it is compacted, which is read at every start;
/// Kafka's default of `transaction.state.log.segment.bytes`.
const TRANSACTIONS_SEGMENT_BYTES: &str = "104857600";

/// The least that `segment.bytes` of a topic may be.
const SEGMENT_BYTES_MIN: i32 = 1 << 20;

fn offsets_topic_shape(broker: &Broker) -> ((i32, i16), BTreeMap<String, String>) {
    let group = &broker.config.group;
    let segment_bytes = group.offsets_segment_bytes.max(SEGMENT_BYTES_MIN).to_string();
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", &segment_bytes),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()));
    ((group.offsets_partitions, group.offsets_replication_factor), configs.into())
}

fn transactions_topic_shape(broker: &Broker) -> ((i32, i16), BTreeMap<String, String>) {
    let producer = &broker.config.producer;
    let shape = (producer.transaction_partitions, producer.transaction_replication_factor);
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", TRANSACTIONS_SEGMENT_BYTES),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()));
    (shape, configs.into())
}
