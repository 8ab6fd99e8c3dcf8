//! What is refused is told in the log: one line that names the connection, the client and its
//! version, the API and its version, the topic and the reason.
//!
//! Refusing costs a hostile client nothing, so lines are rationed: a burst, then one a second, and
//! the next line says how many were left out. Texts of clients are cut short and escaped.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use braid_protocol::header::Head;
use braid_protocol::produce::{Refusal, TopicKey};
use braid_protocol::{ErrorCode, RequestHeader, Response, api};

use super::{Broker, Caller};

/// Lines told at once.
const BURST: u32 = 20;
/// Until one more line may be told.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Of a client's text, shown at most.
const SHOWN_CHARS_MAX: usize = 100;

/// The ration of log lines about refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Ration>);

#[derive(Debug, Default)]
struct Ration {
    /// Lines told and not yet paid for by time.
    owed: u32,
    /// Up to when time has paid.
    paid_until: Duration,
    left_out: u64,
}

impl Ration {
    /// Whether a line may be told now, and how many were left out before it.
    fn take(&mut self, now: Duration) -> Option<u64> {
        let paid = (now.saturating_sub(self.paid_until)).as_secs() / LINE_EVERY.as_secs();
        let paid = u32::try_from(paid).unwrap_or(u32::MAX);
        self.owed = self.owed.saturating_sub(paid);
        self.paid_until = if self.owed == 0 { now } else { self.paid_until + LINE_EVERY * paid };
        if self.owed == BURST {
            self.left_out += 1;
            return None;
        }
        self.owed += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Refusals {
    /// Whether a line may be told now, and how many were left out before it.
    pub(crate) fn take(&self, now: Duration) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

/// Tells that a request was refused.
pub(super) fn tell_request(
    broker: &Broker,
    caller: &Caller,
    header: &RequestHeader,
    topic: Option<&str>,
    reason: &dyn Display,
) {
    let Some(left_out) = broker.refusals.take(broker.env.clock.monotonic()) else { return };
    let (name, version) = software(caller);
    tracing::info!(
        connection = caller.connection,
        peer = %caller.peer,
        client_id = shown(header.client_id.as_deref().unwrap_or_default()),
        software = name,
        software_version = version,
        api = api::find(header.api_key).map_or("unknown", |api| api.name),
        api_key = header.api_key,
        api_version = header.api_version,
        topic = topic.map(shown),
        reason = shown(&reason.to_string()),
        left_out,
        "refused a request"
    );
}

/// Tells that a connection was ended for what its client did.
pub(crate) fn tell_connection(broker: &Broker, caller: &Caller, reason: &dyn Display) {
    let Some(left_out) = broker.refusals.take(broker.env.clock.monotonic()) else { return };
    let (name, version) = software(caller);
    tracing::info!(
        connection = caller.connection,
        peer = %caller.peer,
        software = name,
        software_version = version,
        reason = shown(&reason.to_string()),
        left_out,
        "closed a connection"
    );
}

/// Tells the first thing that an answer refuses, if any.
pub(crate) fn tell_answer(
    broker: &Broker,
    caller: &Caller,
    header: &RequestHeader,
    response: &Response,
) {
    if let Some((topic, code, message)) = refused(response) {
        let reason = match message {
            Some(message) => format!("{code}: {message}"),
            None => code.to_string(),
        };
        tell_request(broker, caller, header, topic, &reason);
    }
}

/// Tells the first batch that a produce refuses.
pub(super) fn tell_produce(
    broker: &Broker,
    caller: &Caller,
    head: &Head<'_>,
    key: TopicKey<'_>,
    refusal: &Refusal,
) {
    if !is_refusal(refusal.code) {
        return;
    }
    let id;
    let topic = match key {
        TopicKey::Name(name) => name,
        TopicKey::Id(uuid) => {
            id = uuid.to_string();
            &id
        }
    };
    let reason = match &refusal.message {
        Some(message) => format!("{}: {message}", refusal.code),
        None => refusal.code.to_string(),
    };
    tell_request(broker, caller, &head.to_header(), Some(topic), &reason);
}

type Refused<'a> = (Option<&'a str>, ErrorCode, Option<&'a str>);

/// Errors that are part of the conversation, or pass, are not refusals.
fn refused(response: &Response) -> Option<Refused<'_>> {
    let told = |(topic, code, message): (Option<_>, i16, Option<_>)| {
        let code = ErrorCode(code);
        is_refusal(code).then_some((topic, code, message))
    };
    match response {
        Response::CreateTopics(r) => r.topics.iter().find_map(|topic| {
            told((Some(&*topic.name.0), topic.error_code, topic.error_message.as_deref()))
        }),
        Response::DeleteTopics(r) => r.responses.iter().find_map(|topic| {
            let name = topic.name.as_ref().map(|name| &*name.0);
            told((name, topic.error_code, topic.error_message.as_deref()))
        }),
        Response::CreatePartitions(r) => r.results.iter().find_map(|topic| {
            told((Some(&*topic.name.0), topic.error_code, topic.error_message.as_deref()))
        }),
        Response::DeleteRecords(r) => r.topics.iter().find_map(|topic| {
            topic.partitions.iter().find_map(|p| told((Some(&*topic.name.0), p.error_code, None)))
        }),
        Response::OffsetCommit(r) => r.topics.iter().find_map(|topic| {
            topic.partitions.iter().find_map(|p| told((Some(&*topic.name.0), p.error_code, None)))
        }),
        Response::IncrementalAlterConfigs(r) => r.responses.iter().find_map(|one| {
            told((Some(&*one.resource_name), one.error_code, one.error_message.as_deref()))
        }),
        Response::AlterConfigs(r) => r.responses.iter().find_map(|one| {
            told((Some(&*one.resource_name), one.error_code, one.error_message.as_deref()))
        }),
        Response::JoinGroup(r) => told((None, r.error_code, None)),
        Response::InitProducerId(r) => told((None, r.error_code, None)),
        _ => None,
    }
}

fn is_refusal(code: ErrorCode) -> bool {
    code.is_error()
        && !matches!(
            code,
            ErrorCode::MEMBER_ID_REQUIRED
                | ErrorCode::REBALANCE_IN_PROGRESS
                | ErrorCode::UNKNOWN_MEMBER_ID
                | ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::NOT_COORDINATOR
                | ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        )
}

fn software(caller: &Caller) -> (Option<String>, Option<String>) {
    match &caller.software {
        Some((name, version)) => (Some(shown(name)), Some(shown(version))),
        None => (None, None),
    }
}

/// A text that may have come from a client: escaped, so that it cannot make lines of its own.
fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_a_burst_then_a_line_a_second_that_counts_the_rest() {
        let mut ration = Ration::default();
        let at = Duration::from_millis;
        let burst = (0..1_000).filter_map(|_| ration.take(at(5_000))).count();
        assert_eq!(burst, 20);
        assert_eq!(ration.take(at(5_999)), None);
        assert_eq!(ration.take(at(6_000)), Some(981));
        assert_eq!(ration.take(at(6_500)), None);
        assert_eq!(ration.take(at(7_000)), Some(1));
        // A quiet time pays for the next burst, not for a longer one.
        let burst = (0..100).filter_map(|_| ration.take(at(900_000))).count();
        assert_eq!(burst, 20);
    }

    #[test]
    fn texts_of_clients_make_no_lines_and_no_novels() {
        assert_eq!(shown("a\nb\u{1b}[31m\"ü"), "a\\nb\\u{1b}[31m\\\"ü");
        assert_eq!(shown(&"x".repeat(30_000)).chars().count(), 101);
    }
}
