//! One foreign client program: commands in, events and answers out, as `clients/README.md` says. Commands run
//! concurrently; each answer finds its call by id.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use thiserror::Error;

use crate::log::Log;

/// What the client library answered instead of doing what it was told.
#[derive(Debug, Error)]
#[error("the client says: {message} (code {code})")]
pub struct ClientError {
    /// Kafka's error code; −1000 for an error of the client's own.
    pub code: i64,
    pub message: String,
}

type Calls = Arc<Mutex<HashMap<u64, Sender<Value>>>>;

/// A running client program.
#[derive(Debug)]
pub struct Driver {
    name: String,
    child: Mutex<Child>,
    stdin: Mutex<ChildStdin>,
    next: Mutex<u64>,
    calls: Calls,
    log: Log,
}

impl Driver {
    /// Starts the program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Result<Driver> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}: {:?}", command.get_program()))?;
        let log = Log::default();
        log.follow(child.stderr.take().context("stderr is piped")?);
        let calls = Calls::default();
        let stdout = child.stdout.take().context("stdout is piped")?;
        let (routes, told) = (Arc::clone(&calls), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(answer) = serde_json::from_str::<Value>(&line) else {
                    told.push(format!("not an answer: {line}"));
                    continue;
                };
                let id = answer["id"].as_u64().unwrap_or_default();
                let mut routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(call) = routes.get(&id) {
                    let last = answer.get("event").is_none();
                    // Nobody listens to a call that was given up.
                    let _unheard = call.send(answer);
                    if last {
                        routes.remove(&id);
                    }
                }
            }
            // Dropping the senders ends every open call.
            routes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        let stdin = Mutex::new(child.stdin.take().context("stdin is piped")?);
        Ok(Driver {
            name: name.to_owned(),
            child: Mutex::new(child),
            stdin,
            next: Mutex::new(1),
            calls,
            log,
        })
    }

    /// Sends a command and leaves it running.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn begin(&self, op: &str, mut command: Value) -> Result<Call<'_>> {
        let id = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next += 1;
            *next
        };
        command["id"] = json!(id);
        command["op"] = json!(op);
        let (sender, answers) = channel();
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(stdin, "{command}")
            .and_then(|()| stdin.flush())
            .with_context(|| format!("{} has ended:\n{}", self.name, self.log.tail(50)))?;
        Ok(Call { driver: self, op: op.to_owned(), id, answers, outcome: None })
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError`] when the client says so; otherwise a broken or silent program.
    pub fn call(&self, op: &str, command: Value, timeout: Duration) -> Result<Value> {
        self.begin(op, command)?.finish(timeout)
    }

    /// Ends the program without warning (SIGKILL), as a crash of the client would.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self, count: usize) -> String {
        self.log.tail(count)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Already gone after `kill`.
        let _gone = self.kill();
    }
}

/// One command under way.
#[derive(Debug)]
pub struct Call<'a> {
    driver: &'a Driver,
    op: String,
    id: u64,
    answers: Receiver<Value>,
    outcome: Option<Value>,
}

impl Call<'_> {
    /// The next event, or `None` when the command has ended.
    ///
    /// # Errors
    /// When nothing is said in time or the program ends.
    pub fn event(&mut self, timeout: Duration) -> Result<Option<Value>> {
        if self.outcome.is_some() {
            return Ok(None);
        }
        let failure = match self.answers.recv_timeout(timeout) {
            Ok(answer) if answer.get("event").is_some() => return Ok(Some(answer)),
            Ok(answer) => {
                self.outcome = Some(answer);
                return Ok(None);
            }
            Err(RecvTimeoutError::Timeout) => format!("said nothing within {timeout:?}"),
            Err(RecvTimeoutError::Disconnected) => "has ended".to_owned(),
        };
        bail!(
            "{} {failure} (during {}); its log:\n{}",
            self.driver.name,
            self.op,
            self.driver.log.tail(50)
        )
    }

    /// An event that comes in time; `None` also when the command has ended.
    pub fn event_within(&mut self, timeout: Duration) -> Option<Value> {
        if self.outcome.is_some() {
            return None;
        }
        match self.answers.recv_timeout(timeout) {
            Ok(answer) if answer.get("event").is_some() => Some(answer),
            Ok(answer) => {
                self.outcome = Some(answer);
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.outcome =
                    Some(json!({"error": {"code": 0, "message": "the program has ended"}}));
                None
            }
        }
    }

    /// Whether the command has ended, well or not.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether the command has ended, passing over events.
    pub fn has_ended_by_now(&mut self) -> bool {
        while self.event_within(Duration::ZERO).is_some() {}
        self.has_ended()
    }

    /// The last lines of the program's log.
    #[must_use]
    pub fn log_tail(&self, count: usize) -> String {
        self.driver.log.tail(count)
    }

    /// Passes over the remaining events and gives the answer.
    ///
    /// # Errors
    /// As [`Driver::call`].
    pub fn finish(mut self, timeout: Duration) -> Result<Value> {
        let deadline = Instant::now() + timeout;
        while self.event(deadline.saturating_duration_since(Instant::now()))?.is_some() {}
        let mut outcome = self.outcome.take().context("a call ends with an outcome")?;
        if let Some(error) = outcome.get("error") {
            let message = format!(
                "{} {}: {}",
                self.driver.name,
                self.op,
                error["message"].as_str().unwrap_or_default()
            );
            return Err(
                ClientError { code: error["code"].as_i64().unwrap_or_default(), message }.into()
            );
        }
        Ok(outcome["ok"].take())
    }

    /// Tells the command to stop; its answer still comes.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn stop(&self) -> Result<()> {
        self.driver.call("stop", json!({"target": self.id}), Duration::from_secs(30)).map(drop)
    }
}
