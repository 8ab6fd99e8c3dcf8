//! `braid config`.

use std::collections::BTreeMap;

use clap::Subcommand;
use serde_json::json;

use super::Failure;
use super::api::Api;
use super::output::{Column, Printer};

/// What there is to do with the settings of a running broker.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the settings that are not at their defaults
    Show {
        /// All settings
        #[arg(long)]
        all: bool,
    },
    /// Change settings while the broker runs
    #[command(after_help = "Example:\n  braid config set log.retention.ms=86400000")]
    Set {
        /// A setting; several may be given
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = super::super::setting)]
        settings: Vec<(String, String)>,
    },
    /// Take back what was set while the broker ran
    Unset {
        /// A setting's key; several may be given
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

const PATH: &str = "/api/v1/broker/configs";
const COLUMNS: &[Column] =
    &[Column("KEY", "name"), Column("VALUE", "value"), Column("SOURCE", "source")];

pub(super) fn run(command: Command, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    let configs: BTreeMap<String, Option<String>> = match command {
        Command::Show { all } => {
            let query = [("all", all.then(|| "true".to_owned()))];
            return printer.rows(&api.get(PATH, &query)?["configs"], COLUMNS);
        }
        Command::Set { settings } => {
            settings.into_iter().map(|(key, value)| (key, Some(value))).collect()
        }
        Command::Unset { keys } => keys.into_iter().map(|key| (key, None)).collect(),
    };
    printer.rows(&api.patch(PATH, &json!({"configs": configs}))?["configs"], COLUMNS)
}
