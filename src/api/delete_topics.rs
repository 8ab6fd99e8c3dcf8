//! DeleteTopics v1–6, by name or (v6) by id. The records' space comes back as segments die.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_REQUEST, TOPIC_DELETION_DISABLED,
//! INVALID_TOPIC_EXCEPTION for the broker's own topics.

use std::sync::Arc;

use braid_protocol::messages::delete_topics_request::DeleteTopicState;
use braid_protocol::messages::delete_topics_response::DeletableTopicResult;
use braid_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use braid_protocol::{ErrorCode, RequestHeader, StrBytes, feature};
use braid_raft::command::DeleteTopics;

use super::Broker;
use super::error::propose_code;
use super::respond::{is_internal, text};
use crate::model::TopicId;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let image = broker.metadata.image();
    let mut results = Vec::new();
    let mut doomed = Vec::new();
    for asked in request.topics {
        match find(broker, header, &image, &asked) {
            Ok(id) => doomed.push((asked, id)),
            Err((code, why)) => results.push(result(asked, code, why)),
        }
    }
    if !doomed.is_empty() {
        let command = DeleteTopics { topics: doomed.iter().map(|(_, id)| *id).collect() };
        match broker.metadata.propose(command).await {
            Ok(outcomes) => {
                for ((asked, id), outcome) in doomed.into_iter().zip(outcomes) {
                    let asked = asked.with_topic_id(id.0);
                    results.push(match outcome {
                        Ok(()) => result(asked, ErrorCode::NONE, None),
                        Err(why) => {
                            result(asked, ErrorCode::UNKNOWN_TOPIC_ID, Some(why.to_string()))
                        }
                    });
                }
            }
            Err(error) => {
                let code = propose_code(&error);
                let failed = |asked| result(asked, code, Some(error.to_string()));
                results.extend(doomed.into_iter().map(|(asked, _)| failed(asked)));
            }
        }
    }
    DeleteTopicsResponse::default().with_responses(results)
}

fn find(
    broker: &Broker,
    header: &RequestHeader,
    image: &braid_raft::image::MetadataImage,
    asked: &DeleteTopicState,
) -> Result<TopicId, (ErrorCode, Option<String>)> {
    if !broker.config.topics.deletion {
        // Clients before the code existed know it as an invalid request.
        let code = if feature::delete_topics_has_disabled_error(header.api_version) {
            ErrorCode::TOPIC_DELETION_DISABLED
        } else {
            ErrorCode::INVALID_REQUEST
        };
        return Err((
            code,
            Some("Topic deletion is disabled: set delete.topic.enable=true.".into()),
        ));
    }
    let topic = match (&asked.name, asked.topic_id) {
        (Some(name), id) if id.is_nil() => {
            image.topic(name).ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None))?
        }
        (None, id) if !id.is_nil() => {
            image.topic_by_id(TopicId(id)).ok_or((ErrorCode::UNKNOWN_TOPIC_ID, None))?
        }
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
    Ok(topic.id)
}

fn result(asked: DeleteTopicState, code: ErrorCode, why: Option<String>) -> DeletableTopicResult {
    let message =
        why.or_else(|| code.message().filter(|_| code != ErrorCode::NONE).map(Into::into));
    DeletableTopicResult::default()
        .with_name(asked.name.or_else(|| Some(TopicName(text("")))).filter(|n| !n.is_empty()))
        .with_topic_id(asked.topic_id)
        .with_error_code(code.0)
        .with_error_message(message.map(StrBytes::from_string))
}
