//! `braid consume` and `braid message`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, segment};
use super::output::{Column, Format, Printer};
use super::produce::duration_ms;

/// How long one request waits for messages.
const WAIT_MS: i64 = 20_000;
/// Messages asked for at once.
const AT_ONCE: u64 = 32;

/// A consumer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  braid consume orders --group billing\n  \
                        braid consume orders --group billing --tags 'paid || refunded' --max 10\n\n\
                        Each message is acknowledged once it is written out; of what is not, the \
                        group gets the message again. To look without taking part, use braid message.")]
pub struct Consume {
    /// The topic
    topic: String,
    /// The group that the messages are delivered to
    #[arg(long)]
    group: String,
    /// Only messages with one of these tags, written a || b
    #[arg(long)]
    tags: Option<String>,
    /// Stop after so many messages; without it when none came for as long as --wait
    #[arg(long)]
    max: Option<u64>,
    /// How long to wait for messages, such as 10s
    #[arg(long, value_parser = duration_ms, default_value = "2s")]
    wait: i64,
    /// Do not stop: wait for more
    #[arg(long, conflicts_with = "wait")]
    follow: bool,
    /// How long a message stays with this consumer unacknowledged
    #[arg(long, value_parser = duration_ms, default_value = "30s")]
    invisible: i64,
    /// Leave messages unacknowledged
    #[arg(long)]
    no_ack: bool,
}

/// What there is to look at.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show messages of a partition from an offset on
    #[command(after_help = "Example:\n  braid message get orders 0 --offset 1200 --limit 5")]
    Get {
        /// The topic
        topic: String,
        /// The partition
        partition: i32,
        /// The first offset; the partition's beginning without it
        #[arg(long)]
        offset: Option<i64>,
        /// How many at most
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Find messages of a topic by key or time
    #[command(after_help = "Example:\n  braid message find orders --key 42")]
    Find {
        /// The topic
        topic: String,
        /// With this key
        #[arg(long)]
        key: Option<String>,
        /// From this time on, in milliseconds since 1970
        #[arg(long)]
        from_ms: Option<i64>,
        /// Before this time
        #[arg(long)]
        to_ms: Option<i64>,
        /// How many at most
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

const COLUMNS: &[Column] = &[
    Column("PARTITION", "partition"),
    Column("OFFSET", "offset"),
    Column("TIMESTAMP", "timestampMs"),
    Column("KEY", "key.shown"),
    Column("TAGS", "tags"),
    Column("PAYLOAD", "payload.shown"),
];

pub(super) fn run(command: Command, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    let text = |number: Option<i64>| number.map(|number| number.to_string());
    let answer = match command {
        Command::Get { topic, partition, offset, limit } => api.get(
            &format!("/api/v1/topics/{}/partitions/{partition}/messages", segment(&topic)),
            &[("offset", text(offset)), ("limit", Some(limit.to_string()))],
        )?,
        Command::Find { topic, key, from_ms, to_ms, limit } => api.get(
            &format!("/api/v1/topics/{}/messages", segment(&topic)),
            &[
                ("key", key),
                ("fromMs", text(from_ms)),
                ("toMs", text(to_ms)),
                ("limit", Some(limit.to_string())),
            ],
        )?,
    };
    show(&answer["messages"], COLUMNS, printer)
}

/// Shows messages; in a table, payloads in the form that people read.
pub(super) fn show(
    messages: &Value,
    columns: &[Column],
    printer: &mut Printer,
) -> Result<(), Failure> {
    if printer.format != Format::Table {
        return printer.rows(messages, columns);
    }
    let mut shown = messages.clone();
    for message in shown.as_array_mut().into_iter().flatten() {
        for field in ["key", "payload"] {
            let readable = readable(&message[field]);
            if !readable.is_null() {
                message[field] = json!({"shown": readable});
            }
        }
    }
    printer.rows(&shown, columns)
}

/// The text of a content, or what stands for it.
fn readable(content: &Value) -> Value {
    match (content.get("text"), content.get("base64"), content.get("json")) {
        (Some(text), _, _) => text.clone(),
        (None, Some(base64), _) => json!(format!("base64:{}", base64.as_str().unwrap_or("?"))),
        (None, None, Some(json)) => json.clone(),
        (None, None, None) => Value::Null,
    }
}

pub(super) fn consume(consume: &Consume, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    let group = format!("/api/v1/groups/{}", segment(&consume.group));
    let wait_ms = if consume.follow { WAIT_MS } else { consume.wait.min(WAIT_MS) };
    let mut left = consume.max.unwrap_or(u64::MAX);
    while left > 0 {
        let request = json!({
            "topic": consume.topic,
            "max": left.min(AT_ONCE),
            "invisibleMs": consume.invisible,
            "waitMs": wait_ms,
            "tags": consume.tags,
        });
        let answer = api.post_when_ready(&format!("{group}/receive"), &request)?;
        let messages = answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        if messages.is_empty() && !consume.follow {
            break;
        }
        left = left.saturating_sub(messages.len() as u64);
        take(consume, messages, &group, api, printer)?;
    }
    Ok(())
}

/// Writes messages out and acknowledges them.
fn take(
    consume: &Consume,
    messages: &[Value],
    group: &str,
    api: &Api,
    printer: &mut Printer,
) -> Result<(), Failure> {
    for message in messages {
        match printer.format {
            Format::Table => {
                let text = readable(&message["payload"]);
                let text = text.as_str().map_or_else(|| text.to_string(), ToOwned::to_owned);
                printer.line(text.as_bytes())?;
            }
            Format::Json => printer.line(message.to_string().as_bytes())?,
            Format::Yaml => printer.record(message)?,
        }
    }
    if consume.no_ack || messages.is_empty() {
        return Ok(());
    }
    let handles: Vec<&Value> = messages.iter().map(|message| &message["handle"]).collect();
    let answer = api.post_when_ready(&format!("{group}/ack"), &json!({"handles": handles}))?;
    let failed = answer["results"].as_array().into_iter().flatten();
    match failed.filter(|result| result["ok"] == false).count() {
        0 => Ok(()),
        count => Err(Failure::new(
            format!("{count} messages were not acknowledged"),
            "they took longer than --invisible and will be delivered again",
        )),
    }
}
