//! One broker's native API, over plain HTTP. Blocking: a command line has nothing else to do.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::Failure;

/// Longer than any long poll.
const TIMEOUT: Duration = Duration::from_secs(90);
/// How often, and after which pause, a broker is asked again that is not ready yet.
const READY_TRIES: u32 = 300;
const READY_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of an answer.
const ANSWER_SIZE_BYTES_MAX: u64 = 256 << 20;

/// A broker's native API.
#[derive(Debug)]
pub(super) struct Api {
    agent: Agent,
    base: String,
}

/// Parameters of a query; those without value are left out.
pub(super) type Query<'a> = &'a [(&'a str, Option<String>)];

impl Api {
    pub(super) fn new(address: &str) -> Result<Self, Failure> {
        let base = address.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            let message = format!("{address} is no address of a native API");
            return Err(Failure::new(message, "write it as http://HOST:PORT"));
        }
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT));
        Ok(Self { agent: config.build().new_agent(), base })
    }

    pub(super) fn get(&self, path: &str, query: Query<'_>) -> Result<Value, Failure> {
        let request = query.iter().fold(
            self.agent.get(self.url(path)),
            |request, (name, value)| match value {
                Some(value) => request.query(name, value),
                None => request,
            },
        );
        self.read(request.call())
    }

    /// The text at a path, whatever the status.
    pub(super) fn get_text(&self, path: &str) -> Result<String, Failure> {
        let response = self.agent.get(self.url(path)).call();
        let text = response.and_then(|mut response| response.body_mut().read_to_string());
        text.map_err(|error| self.unreachable(&error))
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.read(self.agent.post(self.url(path)).send_json(body))
    }

    /// As [`Api::post`], and asks again for a while if the broker says that it is not ready: for what
    /// may be repeated.
    pub(super) fn post_when_ready(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut tries = READY_TRIES;
        loop {
            match self.post(path, body) {
                Err(failure) if tries > 0 && failure.message.contains("(UNAVAILABLE)") => {
                    tries -= 1;
                    std::thread::park_timeout(READY_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    pub(super) fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.read(self.agent.patch(self.url(path)).send_json(body))
    }

    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.read(self.agent.delete(self.url(path)).call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let hint = "is the broker running, and is braid.native.listeners its address? Name another by \
                    --api http://HOST:PORT";
        Failure::new(format!("no answer from {}: {error}", self.base), hint)
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, Failure> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_SIZE_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        if body.is_empty() && status.is_success() {
            return Ok(Value::Null);
        }
        let content: Value = serde_json::from_slice(&body).map_err(|_| {
            let hint = "does another program listen there?";
            Failure::new(format!("{} answered {status} without JSON", self.base), hint)
        })?;
        if status.is_success() { Ok(content) } else { Err(refusal(&content, status.as_str())) }
    }
}

fn refusal(content: &Value, status: &str) -> Failure {
    let said = |field: &str| content["error"][field].as_str().map(ToOwned::to_owned);
    let message = said("message").unwrap_or_else(|| format!("the broker answered {status}"));
    let message = match said("code") {
        Some(code) => format!("{message} ({code})"),
        None => message,
    };
    Failure::new(message, said("hint").unwrap_or_else(|| "see the broker's log".to_owned()))
}

/// A name as a part of a path.
pub(super) fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    name.bytes().fold(String::new(), |mut path, byte| {
        if plain(byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_cannot_leave_its_part_of_the_path() {
        assert_eq!(segment("a.b-c_d~1"), "a.b-c_d~1");
        assert_eq!(segment("../x?y#z ü%"), "..%2Fx%3Fy%23z%20%C3%BC%25");
    }

    #[test]
    fn a_refusal_keeps_the_brokers_words() {
        let body = json!({"error": {"code": "TOPIC_NOT_FOUND", "message": "no", "hint": "do"}});
        let Failure { message, hint } = refusal(&body, "404");
        assert_eq!((message.as_str(), hint.as_str()), ("no (TOPIC_NOT_FOUND)", "do"));
        assert_eq!(refusal(&json!([]), "502").message, "the broker answered 502");
    }

    #[test]
    fn only_plain_http_addresses_are_taken() {
        assert!(Api::new("http://127.0.0.1:8081/").is_ok());
        assert!(Api::new("127.0.0.1:8081").is_err());
    }
}
