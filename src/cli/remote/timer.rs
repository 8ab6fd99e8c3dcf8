//! `braid timer`.

use clap::Subcommand;
use serde_json::{Map, Value};

use super::Failure;
use super::api::{Api, segment};
use super::output::{Column, Printer};

/// What there is to do with scheduled messages.
#[derive(Debug, Subcommand)]
#[command(after_help = "A message is scheduled by braid produce --delay, on a DELAY topic.")]
pub enum Command {
    /// List scheduled messages by due time
    List {
        /// Only those for this topic
        #[arg(long)]
        topic: Option<String>,
        /// Due from this time on, in milliseconds since 1970
        #[arg(long)]
        from_ms: Option<i64>,
        /// Due before this time
        #[arg(long)]
        to_ms: Option<i64>,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one
    Show {
        /// What its sender was answered
        timer: String,
    },
    /// Take one back before it is delivered
    Recall {
        /// What its sender was answered
        timer: String,
    },
    /// Deliver one at once
    Deliver {
        /// What its sender was answered
        timer: String,
    },
}

const COLUMNS: &[Column] = &[
    Column("TIMER", "timer"),
    Column("TOPIC", "topic"),
    Column("PARTITION", "partition"),
    Column("DUE", "dueMs"),
];

pub(super) fn run(command: Command, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    let path = |timer: &str| format!("/api/v1/timers/{}", segment(timer));
    let act = |timer: &str, what: &str| -> Result<Value, Failure> {
        api.post(&format!("{}/{what}", path(timer)), &Value::Object(Map::new()))
    };
    match command {
        Command::List { topic, from_ms, to_ms, limit } => {
            let query = [
                ("topic", topic),
                ("fromMs", from_ms.map(|ms| ms.to_string())),
                ("toMs", to_ms.map(|ms| ms.to_string())),
                ("limit", Some(limit.to_string())),
            ];
            printer.rows(&api.get("/api/v1/timers", &query)?["timers"], COLUMNS)
        }
        Command::Show { timer } => printer.record(&api.get(&path(&timer), &[])?),
        Command::Recall { timer } => {
            act(&timer, "recall")?;
            printer.done("recalled: it will not be delivered")
        }
        Command::Deliver { timer } => printer.record(&act(&timer, "deliver")?),
    }
}
