//! `braid topic`.

use std::collections::BTreeMap;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, segment};
use super::output::{Column, Format, Printer};

/// What there is to do with topics.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List topics
    List,
    /// Show a topic, its partitions and settings
    Show {
        /// Its name
        topic: String,
        /// Settings at their defaults, too
        #[arg(long)]
        all_configs: bool,
    },
    /// Create a topic
    #[command(after_help = "Examples:\n  braid topic create orders --partitions 3\n  \
                            braid topic create reminders --type delay --set retention.ms=86400000")]
    Create {
        /// Its name
        topic: String,
        /// How many partitions
        #[arg(long)]
        partitions: Option<i32>,
        /// Which messages it takes
        #[arg(long = "type", value_enum)]
        message_type: Option<MessageType>,
        /// A setting, by Kafka's key; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::super::setting)]
        settings: Vec<(String, String)>,
    },
    /// Change a topic's settings
    #[command(
        after_help = "Example:\n  braid topic configure orders --set retention.ms=3600000 --unset retention.bytes"
    )]
    Configure {
        /// Its name
        topic: String,
        /// A setting; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::super::setting)]
        settings: Vec<(String, String)>,
        /// A setting to give back its default; may be repeated
        #[arg(long = "unset", value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Delete a topic with all its messages
    Delete {
        /// Its name
        topic: String,
    },
}

/// Which messages a topic takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MessageType {
    /// Any, at once
    Normal,
    /// In order within each message group
    Fifo,
    /// Each at a time of its own
    Delay,
    /// By half messages
    Transaction,
}

impl MessageType {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
        }
    }
}

const COLUMNS: &[Column] = &[
    Column("NAME", "name"),
    Column("TYPE", "messageType"),
    Column("PARTITIONS", "partitions"),
    Column("INTERNAL", "internal"),
];
const PARTITION_COLUMNS: &[Column] = &[
    Column("PARTITION", "partition"),
    Column("START", "startOffset"),
    Column("END", "endOffset"),
    Column("BYTES", "sizeBytes"),
];
const CONFIG_COLUMNS: &[Column] =
    &[Column("KEY", "name"), Column("VALUE", "value"), Column("OWN", "own")];

pub(super) fn run(command: Command, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    match command {
        Command::List => printer.rows(&all(api)?, COLUMNS),
        Command::Show { topic, all_configs } => {
            let query = [("allConfigs", all_configs.then(|| "true".to_owned()))];
            show(&api.get(&path(&topic), &query)?, printer)
        }
        Command::Create { topic, partitions, message_type, settings } => {
            let mut body = json!({"name": topic, "configs": BTreeMap::from_iter(settings)});
            if let Some(partitions) = partitions {
                body["partitions"] = json!(partitions);
            }
            if let Some(message_type) = message_type {
                body["messageType"] = json!(message_type.name());
            }
            show(&api.post("/api/v1/topics", &body)?, printer)
        }
        Command::Configure { topic, settings, unset } => {
            let set = settings.into_iter().map(|(key, value)| (key, Some(value)));
            let unset = unset.into_iter().map(|key| (key, None));
            let configs: BTreeMap<String, Option<String>> = set.chain(unset).collect();
            show(
                &api.patch(&format!("{}/configs", path(&topic)), &json!({"configs": configs}))?,
                printer,
            )
        }
        Command::Delete { topic } => {
            api.delete(&path(&topic))?;
            printer.done(&format!("deleted {topic}"))
        }
    }
}

fn path(topic: &str) -> String {
    format!("/api/v1/topics/{}", segment(topic))
}

/// Every page of the list.
fn all(api: &Api) -> Result<Value, Failure> {
    let mut topics = Vec::new();
    let mut after = None;
    loop {
        let page = api.get("/api/v1/topics", &[("after", after)])?;
        topics.extend(page["topics"].as_array().into_iter().flatten().cloned());
        after = page["next"].as_str().map(ToOwned::to_owned);
        if after.is_none() {
            return Ok(Value::Array(topics));
        }
    }
}

fn show(topic: &Value, printer: &mut Printer) -> Result<(), Failure> {
    if printer.format != Format::Table {
        return printer.record(topic);
    }
    printer.rows(&json!([topic]), COLUMNS)?;
    printer.text("")?;
    printer.rows(&topic["partitionMarks"], PARTITION_COLUMNS)?;
    if topic["configs"].as_array().is_some_and(|configs| !configs.is_empty()) {
        printer.text("")?;
        printer.rows(&topic["configs"], CONFIG_COLUMNS)?;
    }
    Ok(())
}
