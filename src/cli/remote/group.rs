//! `braid group`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, segment};
use super::output::{Column, Format, Printer};

/// What there is to do with groups.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List groups
    List,
    /// Show a group's progress and settings
    Show {
        /// Its name
        group: String,
    },
    /// Change a group's settings
    #[command(after_help = "Example:\n  braid group configure billing --set delivery.retry.max=5")]
    Configure {
        /// Its name
        group: String,
        /// A setting; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::super::setting)]
        settings: Vec<(String, String)>,
        /// A setting to give back its default; may be repeated
        #[arg(long = "unset", value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Move a group to another place in a topic; --latest skips all that waits
    #[command(after_help = "Example:\n  braid group reset billing orders --latest")]
    Reset {
        /// Its name
        group: String,
        /// The topic
        topic: String,
        #[command(flatten)]
        to: To,
    },
    /// Forget a group
    Delete {
        /// Its name
        group: String,
    },
}

/// A place in a topic.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct To {
    /// Its beginning
    #[arg(long)]
    earliest: bool,
    /// Its end
    #[arg(long)]
    latest: bool,
    /// An offset, the same in every partition
    #[arg(long)]
    offset: Option<i64>,
    /// A time, in milliseconds since 1970
    #[arg(long)]
    time_ms: Option<i64>,
}

const COLUMNS: &[Column] =
    &[Column("GROUP", "group"), Column("KIND", "kind"), Column("STATE", "state")];
const PARTITION_COLUMNS: &[Column] = &[
    Column("TOPIC", "topic"),
    Column("PARTITION", "partition"),
    Column("COMMITTED", "committedOffset"),
    Column("END", "endOffset"),
    Column("LAG", "lag"),
    Column("LAG-MS", "lagMs"),
    Column("IN-FLIGHT", "inFlight"),
];

pub(super) fn run(command: Command, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    let path = |group: &str| format!("/api/v1/groups/{}", segment(group));
    match command {
        Command::List => printer.rows(&api.get("/api/v1/groups", &[])?["groups"], COLUMNS),
        Command::Show { group } => show(&api.get(&path(&group), &[])?, printer),
        Command::Configure { group, settings, unset } => {
            let set = settings.into_iter().map(|(key, value)| (key, Some(value)));
            let unset = unset.into_iter().map(|key| (key, None));
            let configs: BTreeMap<String, Option<String>> = set.chain(unset).collect();
            show(&api.patch(&path(&group), &json!({"configs": configs}))?, printer)
        }
        Command::Reset { group, topic, to } => {
            let mut body = to.body();
            body["topic"] = json!(topic);
            printer.record(&api.post(&format!("{}/reset", path(&group)), &body)?)
        }
        Command::Delete { group } => {
            api.delete(&path(&group))?;
            printer.done(&format!("forgot {group}"))
        }
    }
}

impl To {
    fn body(&self) -> Value {
        match (self.offset, self.time_ms) {
            (Some(offset), _) => json!({"offset": offset}),
            (None, Some(time_ms)) => json!({"timestampMs": time_ms}),
            (None, None) if self.latest => json!({"to": "latest"}),
            (None, None) => json!({"to": "earliest"}),
        }
    }
}

fn show(group: &Value, printer: &mut Printer) -> Result<(), Failure> {
    if printer.format != Format::Table {
        return printer.record(group);
    }
    printer.rows(&json!([group]), COLUMNS)?;
    printer.text("")?;
    printer.rows(&group["partitions"], PARTITION_COLUMNS)
}
