//! `braid dlq`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, segment};
use super::message;
use super::output::{Column, Printer, progress};

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
            let more = topic.map_or_else(|| json!({}), |topic| json!({"topic": topic}));
            printer.record(&settle(api, &path(&group), "re-drive", &which, &more)?)
        }
        Command::Delete { group, which } => {
            printer.record(&settle(api, &path(&group), "delete", &which, &json!({}))?)
        }
    }
}

/// Dead letters that are settled by one request: each is answered well in time, however many there
/// are in all.
const AT_ONCE: usize = 500;
/// Letters that were not settled and are told of.
const OTHERS_MAX: usize = 1_000;

/// Settles dead letters, page by page if it is all of them; what became of them.
fn settle(api: &Api, path: &str, how: &str, which: &Which, more: &Value) -> Result<Value, Failure> {
    let ask = |partition: &Value, offsets: Vec<Value>| {
        let mut body = more.clone();
        body["offsets"] = Value::Array(offsets);
        body["partition"] = partition.clone();
        api.post(&format!("{path}/{how}"), &body)
    };
    if !which.all {
        return ask(&json!(0), which.offsets.iter().map(|offset| json!(offset)).collect());
    }
    let progress = progress("dead letters");
    let (mut after, mut count, mut others) = (None::<String>, 0_u64, Vec::new());
    loop {
        let query = [("limit", Some(AT_ONCE.to_string())), ("after", after)];
        let page = api.get(path, &query)?;
        let mut letters = page["messages"].as_array().cloned().unwrap_or_default();
        letters.sort_by_key(|letter| letter["partition"].as_i64());
        for of_partition in letters.chunk_by(|a, b| a["partition"] == b["partition"]) {
            let Some(first) = of_partition.first() else { continue };
            let offsets = of_partition.iter().map(|letter| letter["offset"].clone()).collect();
            let told = |failure: Failure| Failure {
                message: format!("after {count} dead letters: {}", failure.message),
                ..failure
            };
            let settled = ask(&first["partition"], offsets).map_err(told)?;
            count += settled["count"].as_u64().unwrap_or(0);
            others.extend(settled["others"].as_array().cloned().unwrap_or_default());
            others.truncate(OTHERS_MAX);
            progress.set_position(count);
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    progress.finish_and_clear();
    Ok(json!({"count": count, "others": others}))
}
