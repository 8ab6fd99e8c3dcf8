//! `braid half`.

use clap::Subcommand;
use serde_json::Value;

use super::Failure;
use super::api::{Api, segment};
use super::output::{Column, Printer};

/// What there is to do with half messages.
#[derive(Debug, Subcommand)]
#[command(after_help = "docs/guides/transactional-messages.md tells how programs use them.")]
pub enum Command {
    /// List half messages that are not decided, the oldest first
    List {
        /// Only those of this producer group
        #[arg(long)]
        producer_group: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one
    Show {
        /// What its sender was answered
        transaction_id: String,
    },
    /// Deliver it
    Commit {
        /// What its sender was answered
        transaction_id: String,
    },
    /// Drop it
    Rollback {
        /// What its sender was answered
        transaction_id: String,
    },
    /// Ask its producers about it now
    Check {
        /// What its sender was answered
        transaction_id: String,
    },
}

const COLUMNS: &[Column] = &[
    Column("TRANSACTION", "transactionId"),
    Column("TOPIC", "topic"),
    Column("PRODUCER-GROUP", "producerGroup"),
    Column("AGE-MS", "ageMs"),
    Column("CHECKS", "checks"),
];

pub(super) fn run(command: Command, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    let path = |id: &str| format!("/api/v1/half-messages/{}", segment(id));
    let act = |id: &str, what: &str| -> Result<Value, Failure> {
        api.post(&format!("{}/{what}", path(id)), &Value::Object(serde_json::Map::new()))
    };
    match command {
        Command::List { producer_group, limit } => {
            let query = [("producerGroup", producer_group), ("limit", Some(limit.to_string()))];
            printer.rows(&api.get("/api/v1/half-messages", &query)?["halfMessages"], COLUMNS)
        }
        Command::Show { transaction_id } => printer.record(&api.get(&path(&transaction_id), &[])?),
        Command::Commit { transaction_id } => printer.record(&act(&transaction_id, "commit")?),
        Command::Rollback { transaction_id } => printer.record(&act(&transaction_id, "rollback")?),
        Command::Check { transaction_id } => printer.record(&act(&transaction_id, "check")?),
    }
}
