//! The commands that ask a running broker, by its native API and nothing else: what they can do,
//! `curl` can do.
//!
//! A command is a request or a few, and how its answer is shown. Which broker is meant is said by
//! `--api`, by a context (`braid context`), by `BRAID_API`, or it is the one on this machine.

mod api;
mod config;
mod context;
mod dead_letter;
mod group;
mod half;
mod message;
mod output;
mod produce;
mod timer;
mod topic;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::env::Env;
use api::Api;
use context::Contexts;
use output::{Format, Printer};

/// Where the broker is and how answers are shown.
#[derive(Debug, Clone, Default, Args)]
pub struct Target {
    /// Address of the broker's native API, such as http://127.0.0.1:8081
    #[arg(long, global = true, value_name = "URL", env = "BRAID_API")]
    api: Option<String>,
    /// The context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// How answers are shown
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
}

/// A command for a running broker.
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Topics: list, show, create, configure, delete
    #[command(subcommand)]
    Topic(topic::Command),
    /// Groups: list, show their lag, set, reset
    #[command(subcommand)]
    Group(group::Command),
    /// Send messages: one from the arguments, or each line of standard input
    Produce(produce::Produce),
    /// Receive messages, and acknowledge them
    Consume(message::Consume),
    /// Look at stored messages by place, key or time
    #[command(subcommand)]
    Message(message::Command),
    /// Half messages: list, show, commit, roll back, check now
    #[command(subcommand)]
    Half(half::Command),
    /// Scheduled messages: list, show, recall, deliver now
    #[command(subcommand)]
    Timer(timer::Command),
    /// Dead letters: list, send again, delete
    #[command(subcommand)]
    Dlq(dead_letter::Command),
    /// The cluster and its brokers
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Settings of the running broker: show, set, unset
    #[command(subcommand)]
    Config(config::Command),
    /// The clusters this command line knows: list, use, add, remove
    #[command(subcommand)]
    Context(context::Command),
}

/// What there is to ask about the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the cluster and its brokers
    Show,
    /// Show whether the broker is ready, part by part
    Health,
    /// Take an empty directory for that of a node which has lost its own
    Replace {
        /// The node's number
        node: i32,
        /// The mark of the directory, as the node's refused start tells it
        #[arg(long)]
        directory: String,
    },
}

/// Why a command failed, for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    message: String,
    hint: String,
}

impl Failure {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Runs a command; answers go to standard output, errors with a hint to standard error.
#[must_use]
pub fn run(env: &Env, target: &Target, command: Remote) -> ExitCode {
    match perform(env, target, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, hint }) => {
            output::complain(&message, &hint);
            ExitCode::FAILURE
        }
    }
}

fn perform(env: &Env, target: &Target, command: Remote) -> Result<(), Failure> {
    let mut contexts = Contexts::read(env)?;
    let mut printer = Printer::new(target.output);
    if let Remote::Context(command) = command {
        return context::run(&command, &mut contexts, &mut printer);
    }
    let address = contexts.address(target.api.as_deref(), target.context.as_deref())?;
    let api = Api::new(&address)?;
    match command {
        Remote::Topic(command) => topic::run(command, &api, &mut printer),
        Remote::Group(command) => group::run(command, &api, &mut printer),
        Remote::Produce(produce) => produce::run(produce, &api, &mut printer),
        Remote::Consume(consume) => message::consume(&consume, &api, &mut printer),
        Remote::Message(command) => message::run(command, &api, &mut printer),
        Remote::Half(command) => half::run(command, &api, &mut printer),
        Remote::Timer(command) => timer::run(command, &api, &mut printer),
        Remote::Dlq(command) => dead_letter::run(command, &api, &mut printer),
        Remote::Config(command) => config::run(command, &api, &mut printer),
        Remote::Cluster(command) => cluster(&command, &api, &mut printer),
        Remote::Context(_) => unreachable!("answered above, without a broker"),
    }
}

fn cluster(command: &ClusterCommand, api: &Api, printer: &mut Printer) -> Result<(), Failure> {
    match command {
        ClusterCommand::Show => printer.record(&api.get("/api/v1/cluster", &[])?),
        ClusterCommand::Health => printer.text(&api.get_text("/readyz?verbose")?),
        ClusterCommand::Replace { node, directory } => {
            let body = serde_json::json!({ "directory": directory });
            api.post_when_ready(&format!("/api/v1/cluster/nodes/{node}/replace"), &body)?;
            printer.text(&format!("node {node} can be started\n"))
        }
    }
}
