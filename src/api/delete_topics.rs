//! DeleteTopics v1–6, by name or (v6) by id. The records' space comes back as segments die.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_REQUEST, TOPIC_DELETION_DISABLED,
//! INVALID_TOPIC_EXCEPTION for the broker's own topics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use braid_protocol::messages::delete_topics_request::DeleteTopicState;
use braid_protocol::messages::delete_topics_response::DeletableTopicResult;
use braid_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use braid_protocol::{ErrorCode, RequestHeader, StrBytes, feature};
use braid_raft::command::DeleteTopics;
use braid_raft::image::{MetadataImage, TopicImage};
use uuid::Uuid;

use super::Broker;
use super::error::propose_code;
use super::respond::{UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, is_internal, text};
use crate::model::TopicId;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let image = broker.metadata.image();
    let repeated = repeated(&request.topics);
    let mut results = Vec::new();
    let mut doomed: Vec<Arc<TopicImage>> = Vec::new();
    let mut seen = HashSet::new();
    for asked in request.topics {
        let name = named(&asked);
        if let Some(why) = repeated.get(&name) {
            // Neither of them is deleted, and one answer is for all.
            if seen.insert(name) {
                results.push(result(asked, ErrorCode::INVALID_REQUEST, Some((*why).into())));
            }
            continue;
        }
        match find(broker, header, &image, &asked) {
            Ok(topic) if doomed.iter().any(|known| known.id == topic.id) => {
                let why = "The provided topic name maps to an ID that was already supplied.";
                results.push(result(asked, ErrorCode::INVALID_REQUEST, Some(why.into())));
                doomed.retain(|known| known.id != topic.id);
            }
            Ok(topic) => doomed.push(topic),
            Err((code, why)) => results.push(result(asked, code, why)),
        }
    }
    if !doomed.is_empty() {
        results.extend(delete(broker, doomed).await);
    }
    DeleteTopicsResponse::default().with_responses(results)
}

async fn delete(broker: &Arc<Broker>, doomed: Vec<Arc<TopicImage>>) -> Vec<DeletableTopicResult> {
    let command = DeleteTopics { topics: doomed.iter().map(|topic| topic.id).collect() };
    let answer = |topic: &TopicImage, code: ErrorCode, why: Option<String>| {
        let asked = DeleteTopicState::default()
            .with_name(Some(TopicName(text(&topic.name))))
            .with_topic_id(topic.id.0);
        result(asked, code, why)
    };
    match broker.metadata.propose(command).await {
        Ok(outcomes) => doomed
            .iter()
            .zip(outcomes)
            .map(|(topic, outcome)| match outcome {
                Ok(()) => answer(topic, ErrorCode::NONE, None),
                // Somebody else was faster.
                Err(why) => {
                    answer(topic, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(why.to_string()))
                }
            })
            .collect(),
        Err(error) => {
            let code = propose_code(&error);
            doomed.iter().map(|topic| answer(topic, code, Some(error.to_string()))).collect()
        }
    }
}

/// What a request names a topic by.
type Name = (Option<TopicName>, Uuid);

fn named(asked: &DeleteTopicState) -> Name {
    (asked.name.clone(), asked.topic_id)
}

/// Topics that a request names more than once, and what Kafka says to that.
fn repeated(asked: &[DeleteTopicState]) -> HashMap<Name, &'static str> {
    let mut seen = HashSet::new();
    let twice = asked.iter().map(named).filter(|name| !seen.insert(name.clone()));
    twice
        .filter_map(|name| match &name {
            (Some(_), id) if id.is_nil() => Some((name, "Duplicate topic name.")),
            (None, id) if !id.is_nil() => Some((name, "Duplicate topic id.")),
            (Some(_) | None, _) => None,
        })
        .collect()
}

type Refusal = (ErrorCode, Option<String>);

fn find(
    broker: &Broker,
    header: &RequestHeader,
    image: &MetadataImage,
    asked: &DeleteTopicState,
) -> Result<Arc<TopicImage>, Refusal> {
    if !broker.config.topics.deletion {
        // Clients before the code existed know it as an invalid request.
        let code = if feature::delete_topics_has_disabled_error(header.api_version) {
            ErrorCode::TOPIC_DELETION_DISABLED
        } else {
            ErrorCode::INVALID_REQUEST
        };
        let why = "Topic deletion is disabled: set delete.topic.enable=true.";
        return Err((code, Some(why.into())));
    }
    let topic = match (&asked.name, asked.topic_id) {
        (Some(name), id) if id.is_nil() => image.topic(name).ok_or_else(|| {
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(UNKNOWN_TOPIC.to_owned()))
        })?,
        (None, id) if !id.is_nil() => image
            .topic_by_id(TopicId(id))
            .ok_or_else(|| (ErrorCode::UNKNOWN_TOPIC_ID, Some(UNKNOWN_TOPIC_ID.to_owned())))?,
        (Some(_), _) => {
            let why = "You may not specify both topic name and topic id.";
            return Err((ErrorCode::INVALID_REQUEST, Some(why.into())));
        }
        (None, _) => {
            let why = "Neither topic name nor id were specified.";
            return Err((ErrorCode::INVALID_REQUEST, Some(why.into())));
        }
    };
    if is_internal(&topic.name) {
        let why = format!("Topic {} is the broker's own and cannot be deleted.", topic.name);
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, Some(why)));
    }
    Ok(Arc::clone(topic))
}

fn result(asked: DeleteTopicState, code: ErrorCode, why: Option<String>) -> DeletableTopicResult {
    let message =
        why.or_else(|| code.message().filter(|_| code != ErrorCode::NONE).map(Into::into));
    DeletableTopicResult::default()
        .with_name(asked.name)
        .with_topic_id(asked.topic_id)
        .with_error_code(code.0)
        .with_error_message(message.map(StrBytes::from_string))
}
