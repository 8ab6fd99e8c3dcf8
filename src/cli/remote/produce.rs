//! `braid produce`.

use std::io::{self, BufRead};

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, segment};
use super::output::{Column, Printer, progress};

/// Messages sent in one request.
const BATCH_MAX: usize = 500;
/// Bytes of payload sent in one request.
const BATCH_SIZE_BYTES_MAX: usize = 512 << 10;

/// A message, or many.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  braid produce orders 'one order' --key 42\n  \
                        braid produce reminders 'wake up' --delay 90s\n  \
                        seq 1000 | braid produce numbers")]
pub struct Produce {
    /// The topic
    topic: String,
    /// The message; without it each line of standard input is one
    message: Option<String>,
    /// Its key
    #[arg(long)]
    key: Option<String>,
    /// A header; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = super::super::setting)]
    headers: Vec<(String, String)>,
    /// To this partition
    #[arg(long)]
    partition: Option<i32>,
    /// Its tag, by which consumers choose
    #[arg(long)]
    tags: Option<String>,
    /// In order within this group of messages, on a FIFO topic
    #[arg(long)]
    message_group: Option<String>,
    /// An id: sent again, the message is not stored again
    #[arg(long, requires = "message")]
    message_id: Option<String>,
    /// Delivered after so long, such as 500ms, 90s, 2h, 30d, on a DELAY topic
    #[arg(long, value_parser = duration_ms)]
    delay: Option<i64>,
    /// Delivered at this time, in milliseconds since 1970, on a DELAY topic
    #[arg(long, conflicts_with = "delay")]
    deliver_at_ms: Option<i64>,
    /// Lines of standard input are KEY, this text, MESSAGE
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["message", "key"])]
    key_separator: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column("PARTITION", "partition"),
    Column("OFFSET", "offset"),
    Column("MESSAGE-ID", "messageId"),
    Column("TIMER", "timer"),
];

pub(super) fn run(produce: Produce, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    match &produce.message {
        Some(message) => {
            let message = produce.message(produce.key.as_deref(), message);
            let answer = produce.send(api, vec![message])?;
            printer.rows(&answer["messages"], COLUMNS)
        }
        None => produce.lines(io::stdin().lock(), api, printer),
    }
}

impl Produce {
    fn message(&self, key: Option<&str>, text: &str) -> Value {
        let headers: Vec<Value> = self
            .headers
            .iter()
            .map(|(name, value)| json!({"name": name, "value": {"text": value}}))
            .collect();
        let mut message = json!({"payload": {"text": text}, "headers": headers});
        let fields = [
            ("key", key.map(|key| json!({"text": key}))),
            ("partition", self.partition.map(Value::from)),
            ("tags", self.tags.clone().map(Value::from)),
            ("messageGroup", self.message_group.clone().map(Value::from)),
            ("messageId", self.message_id.clone().map(Value::from)),
            ("delayMs", self.delay.map(Value::from)),
            ("deliverAtMs", self.deliver_at_ms.map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                message[name] = value;
            }
        }
        message
    }

    fn send(&self, api: &Api, messages: Vec<Value>) -> Result<Value, Failure> {
        let path = format!("/api/v1/topics/{}/messages", segment(&self.topic));
        api.post(&path, &json!({"messages": messages}))
    }

    /// Sends each line, some at once.
    fn lines(&self, input: impl BufRead, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
        let progress = progress("messages");
        let (mut batch, mut size_bytes, mut sent) = (Vec::new(), 0, 0_u64);
        for line in input.lines() {
            let line = line.map_err(|error| {
                Failure::new(format!("cannot read standard input: {error}"), "lines are UTF-8")
            })?;
            size_bytes += line.len();
            batch.push(self.of_line(&line)?);
            if batch.len() == BATCH_MAX || size_bytes >= BATCH_SIZE_BYTES_MAX {
                let count = batch.len() as u64;
                self.send(api, std::mem::take(&mut batch)).map_err(|error| after(sent, error))?;
                (size_bytes, sent) = (0, sent + count);
                progress.set_position(sent);
            }
        }
        if !batch.is_empty() {
            sent += batch.len() as u64;
            self.send(api, batch).map_err(|error| after(sent, error))?;
        }
        progress.finish_and_clear();
        printer.done(&format!("sent {sent} messages to {}", self.topic))
    }

    fn of_line(&self, line: &str) -> Result<Value, Failure> {
        let Some(separator) = &self.key_separator else {
            return Ok(self.message(self.key.as_deref(), line));
        };
        match line.split_once(separator) {
            Some((key, text)) => Ok(self.message(Some(key), text)),
            None => Err(Failure::new(
                format!("the line {line:?} has no {separator:?}"),
                "each line is KEY, the separator, MESSAGE",
            )),
        }
    }
}

fn after(sent: u64, error: Failure) -> Failure {
    Failure { message: format!("after {sent} messages: {}", error.message), ..error }
}

/// Reads 250ms, 10s, 5m, 2h or 30d.
pub(super) fn duration_ms(text: &str) -> Result<i64, &'static str> {
    const WHAT: &str = "expected a duration such as 500ms, 90s, 5m, 2h or 30d";
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(WHAT)?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(WHAT),
    };
    number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit_ms)).ok_or(WHAT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_do_not_overflow() {
        for (text, ms) in [("0ms", 0), ("90s", 90_000), ("5m", 300_000), ("30d", 2_592_000_000)] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "5", "s", "-5s", "1.5h", "99999999999999999999s", "9223372036854775807d"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }
}
