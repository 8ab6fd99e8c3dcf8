//! `braid dlq`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, segment};
use super::message;
use super::output::{Column, Printer};

/// What there is to do with the dead letters of a group.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List those that were neither sent again nor deleted
    #[command(after_help = "discarded.halves and discarded.timers stand for what was discarded.")]
    List {
        /// The group
        group: String,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Send them again, to the topics they came from or to another
    #[command(after_help = "Examples:\n  braid dlq redrive billing --all\n  \
                            braid dlq redrive billing 3 4 --topic orders.repair")]
    Redrive {
        /// The group
        group: String,
        #[command(flatten)]
        which: Which,
        /// To this topic instead
        #[arg(long)]
        topic: Option<String>,
    },
    /// Delete them
    Delete {
        /// The group
        group: String,
        #[command(flatten)]
        which: Which,
    },
}

/// Some dead letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Their offsets
    offsets: Vec<i64>,
    /// All of the group
    #[arg(long)]
    all: bool,
}

const COLUMNS: &[Column] = &[
    Column("OFFSET", "offset"),
    Column("FROM", "origin.topic"),
    Column("PARTITION", "origin.partition"),
    Column("AT", "origin.offset"),
    Column("ATTEMPTS", "attempts"),
    Column("REASON", "reason"),
    Column("PAYLOAD", "payload.shown"),
];

pub(super) fn run(command: Command, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    let path = |group: &str| format!("/api/v1/groups/{}/dead-letters", segment(group));
    match command {
        Command::List { group, limit } => {
            let query = [("limit", Some(limit.to_string()))];
            message::show(&api.get(&path(&group), &query)?["messages"], COLUMNS, printer)
        }
        Command::Redrive { group, which, topic } => {
            let mut body = which.body();
            if let Some(topic) = topic {
                body["topic"] = json!(topic);
            }
            printer.record(&api.post(&format!("{}/re-drive", path(&group)), &body)?)
        }
        Command::Delete { group, which } => {
            printer.record(&api.post(&format!("{}/delete", path(&group)), &which.body())?)
        }
    }
}

impl Which {
    fn body(&self) -> Value {
        if self.all { json!({"all": true}) } else { json!({"offsets": self.offsets}) }
    }
}
