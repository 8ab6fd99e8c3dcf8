//! Errors as clients get them: always JSON, always a code, a sentence and a hint.
//!
//! [`Code`] lists everything that can go wrong; a test holds the list against the documentation.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{RefOr, ResponseBuilder, ResponsesBuilder};
use utoipa::{IntoResponses, ToSchema};

/// An error on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Code,
    pub(super) message: String,
    /// What to do, where the code's own hint says too little.
    pub(super) hint: Option<String>,
}

/// What every error answer holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorContent,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorContent {
    /// Which error, for programs.
    code: Code,
    /// What went wrong, for people.
    #[schema(example = "there is no topic orders")]
    message: String,
    /// What to do about it.
    #[schema(example = "GET /api/v1/topics lists those there are")]
    hint: String,
}

/// Declares the codes with their status and hint.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:tt $status:ident $hint:tt;)+) => {
        /// Which error it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        pub(super) enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Code {
            /// Every code.
            #[cfg(test)]
            pub(super) const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)+];

            /// The status it comes with.
            pub(super) fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)+
                }
            }

            /// What to do about it, in general.
            pub(super) fn hint(self) -> &'static str {
                match self {
                    $(Self::$variant => $hint,)+
                }
            }
        }
    };
}

codes! {
    /// No such path.
    RouteNotFound "ROUTE_NOT_FOUND" NOT_FOUND
        "GET /api/openapi.json describes every path";
    /// The path has no such method.
    MethodNotAllowed "METHOD_NOT_ALLOWED" METHOD_NOT_ALLOWED
        "the header Allow of this answer lists the methods of the path";
    /// A parameter of the path or the query.
    InvalidParameter "INVALID_PARAMETER" BAD_REQUEST
        "GET /api/openapi.json describes every parameter";
    /// The body is no JSON.
    MalformedJson "MALFORMED_JSON" BAD_REQUEST
        "send one JSON object in UTF-8";
    /// The body is JSON of another form.
    InvalidBody "INVALID_BODY" UNPROCESSABLE_ENTITY
        "GET /api/openapi.json describes every body";
    /// The body is of another type than JSON.
    UnsupportedMediaType "UNSUPPORTED_MEDIA_TYPE" UNSUPPORTED_MEDIA_TYPE
        "send JSON, with the header Content-Type: application/json";
    /// The body is too large.
    BodyTooLarge "BODY_TOO_LARGE" PAYLOAD_TOO_LARGE
        "send less at once, or raise braid.native.request.max.bytes";
    /// The body did not arrive.
    BodyIncomplete "BODY_INCOMPLETE" BAD_REQUEST
        "send the whole body, as long as Content-Length says";
    /// The request took too long.
    TimedOut "TIMED_OUT" SERVICE_UNAVAILABLE
        "whether it took effect is unknown: ask before trying again, or send with a messageId";
    /// The broker stops, or its log has failed.
    Unavailable "UNAVAILABLE" SERVICE_UNAVAILABLE
        "try again when the broker is ready: GET /readyz";
    /// The disk is full.
    DiskFull "DISK_FULL" INSUFFICIENT_STORAGE
        "make room on the broker's disk; reading and acknowledging still work";
    /// No such topic.
    TopicNotFound "TOPIC_NOT_FOUND" NOT_FOUND
        "GET /api/v1/topics lists those there are; POST /api/v1/topics creates one";
    /// Messages of the topic are on other brokers.
    TopicElsewhere "TOPIC_ELSEWHERE" MISDIRECTED_REQUEST
        "ask the broker that the message names; GET /api/v1/cluster lists the brokers and their addresses";
    /// A topic of the name, or one that differs only in dots and underscores.
    TopicExists "TOPIC_EXISTS" CONFLICT
        "choose another name, or use the topic that there is";
    /// A topic that cannot be.
    TopicInvalid "TOPIC_INVALID" UNPROCESSABLE_ENTITY
        "names have 1 to 249 of the characters a-z A-Z 0-9 . _ -";
    /// The broker's own topic.
    TopicInternal "TOPIC_INTERNAL" FORBIDDEN
        "leave the broker's own topics to the broker";
    /// Topics cannot be deleted.
    TopicDeletionDisabled "TOPIC_DELETION_DISABLED" FORBIDDEN
        "set delete.topic.enable=true in the broker's configuration";
    /// No such partition.
    PartitionNotFound "PARTITION_NOT_FOUND" NOT_FOUND
        "GET /api/v1/topics/{topic} tells the partitions, which are numbered from 0";
    /// No messages at that offset.
    OffsetOutOfRange "OFFSET_OUT_OF_RANGE" BAD_REQUEST
        "GET /api/v1/topics/{topic} tells where each partition begins and ends";
    /// A message that cannot be.
    MessageInvalid "MESSAGE_INVALID" UNPROCESSABLE_ENTITY
        "nothing of the request was written; correct the message and send all of it again";
    /// A message that its topic does not take.
    MessageTypeMismatch "MESSAGE_TYPE_MISMATCH" CONFLICT
        "send to a topic of the right type; a topic's message.type can be changed";
    /// A message or a request that is too large to be stored.
    MessageTooLarge "MESSAGE_TOO_LARGE" PAYLOAD_TOO_LARGE
        "send less at once, or raise max.message.bytes of the topic";
    /// What is stored cannot be read.
    StorageUnreadable "STORAGE_UNREADABLE" SERVICE_UNAVAILABLE
        "see the broker's log; braid log check examines the data of a stopped broker";
    /// No such group.
    GroupNotFound "GROUP_NOT_FOUND" NOT_FOUND
        "GET /api/v1/groups lists those there are";
    /// The handle is not that of a delivery that holds.
    HandleInvalid "HANDLE_INVALID" CONFLICT
        "the message has been or will be delivered again, with another handle";
    /// No such half message.
    HalfNotFound "HALF_MESSAGE_NOT_FOUND" NOT_FOUND
        "GET /api/v1/half-messages lists those that wait";
    /// Another group's half message.
    HalfOfAnother "HALF_MESSAGE_OF_ANOTHER_GROUP" FORBIDDEN
        "name the group that sent it, or none to decide as an operator";
    /// The half message has come to another end, or is not to be checked any more.
    HalfEnded "HALF_MESSAGE_ENDED" CONFLICT
        "GET /api/v1/half-messages/{transaction} tells what became of it";
    /// No such scheduled message.
    TimerNotFound "TIMER_NOT_FOUND" NOT_FOUND
        "GET /api/v1/timers lists those that wait";
    /// The scheduled message was delivered or taken back.
    TimerEnded "TIMER_ENDED" CONFLICT
        "GET /api/v1/timers/{timer} tells what became of it";
    /// No webhook.
    WebhookNotFound "WEBHOOK_NOT_FOUND" NOT_FOUND
        "PUT /api/v1/producer-groups/{group}/webhook names one";
    /// The group is used in another way.
    GroupInUse "GROUP_IN_USE" CONFLICT
        "stop the group's members first, or choose another group";
    /// A group that cannot be.
    GroupInvalid "GROUP_INVALID" UNPROCESSABLE_ENTITY
        "a group's name has 1 to 255 bytes";
    /// No such node.
    NodeNotFound "NODE_NOT_FOUND" NOT_FOUND
        "GET /api/v1/cluster lists the brokers";
    /// The node is in use.
    NodeRunning "NODE_RUNNING" CONFLICT
        "stop the node, and wait until the others do not hear of it";
    /// Settings that cannot be.
    ConfigInvalid "CONFIG_INVALID" UNPROCESSABLE_ENTITY
        "docs/configuration.md lists the keys and their values";
}

impl Problem {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// What is told of it.
    pub(super) fn content(self) -> ErrorContent {
        let Self { code, message, hint } = self;
        let hint = hint.unwrap_or_else(|| code.hint().to_owned());
        ErrorContent { code, message, hint }
    }

    pub(super) fn hinted(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.code;
        let body = Json(ErrorBody { error: self.content() });
        let mut response = (code.status(), body).into_response();
        if code == Code::BodyTooLarge {
            // The rest of the body is not read.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The answers that any route may give instead of its own.
pub(super) struct Problems;

/// Statuses of [`Code`], and when they come.
const STATUSES: &[(StatusCode, &str)] = &[
    (StatusCode::BAD_REQUEST, "The request cannot be read, or a parameter is wrong."),
    (StatusCode::FORBIDDEN, "The broker does not do that."),
    (StatusCode::NOT_FOUND, "What is named does not exist."),
    (StatusCode::METHOD_NOT_ALLOWED, "The path has no such method."),
    (StatusCode::CONFLICT, "What is there is in the way."),
    (StatusCode::PAYLOAD_TOO_LARGE, "Too large."),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not JSON."),
    (StatusCode::MISDIRECTED_REQUEST, "It is on another broker."),
    (StatusCode::UNPROCESSABLE_ENTITY, "What is asked for cannot be."),
    (StatusCode::SERVICE_UNAVAILABLE, "Not now."),
    (StatusCode::INSUFFICIENT_STORAGE, "The disk is full."),
];

impl IntoResponses for Problems {
    fn responses() -> std::collections::BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let content = utoipa::openapi::ContentBuilder::new()
            .schema(Some(utoipa::openapi::Ref::from_schema_name("ErrorBody")))
            .build();
        let responses = STATUSES.iter().fold(ResponsesBuilder::new(), |all, (status, when)| {
            let response = ResponseBuilder::new()
                .description(*when)
                .content("application/json", content.clone())
                .build();
            all.response(status.as_str(), response)
        });
        responses.build().responses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_hint_and_a_documented_status() {
        let documented = Problems::responses();
        for (code, name) in Code::ALL {
            assert!(code.hint().len() > 10, "{name}");
            assert!(documented.contains_key(code.status().as_str()), "{name}");
            assert_eq!(serde_json::to_value(code).unwrap(), *name);
        }
        let used = |status| Code::ALL.iter().any(|(code, _)| code.status() == status);
        assert!(STATUSES.iter().all(|(status, _)| used(*status)));
    }
}
