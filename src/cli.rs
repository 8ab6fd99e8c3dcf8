//! The command line: what was asked for, and the answers that need no running broker.
//!
//! Arguments only name settings; their meaning and checks are [`crate::config`]'s. Configuration
//! errors end with exit code 2 and are printed as `error: …` with a `hint: …` below.

mod log;
mod remote;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Config, LoadError, Sources};
use crate::env::Fs;
use crate::model::{Position, QueueId};
use crate::store::DumpSpec;

pub use log::{check as check_log, dump as dump_log};
pub use remote::{Remote, Target, run as ask};

/// Exit code for a configuration that cannot be used; clap ends with the same on wrong arguments.
pub const EXIT_BAD_CONFIG: u8 = 2;

/// What the user asked for.
#[derive(Debug)]
pub enum Command {
    /// Run the broker.
    Run(Sources),
    /// Say what the configuration amounts to, and stop.
    CheckConfig(Sources),
    /// Print the content of a data directory that no broker has open.
    LogDump {
        /// The data directory, or the log's own.
        dir: PathBuf,
        /// Which frames.
        spec: DumpSpec,
    },
    /// Verify a data directory that no broker has open.
    LogCheck {
        /// The data directory.
        dir: PathBuf,
    },
    /// Ask a running broker.
    Remote {
        /// Which broker, and how its answer is shown.
        target: Target,
        /// What to ask.
        command: Box<Remote>,
    },
    /// Print what makes a shell complete the command line.
    Completions(Shell),
}

/// A message broker: Kafka on the wire, RocketMQ inside.
///
/// Without arguments: data in ./braid-data, clients at 127.0.0.1:9092.
#[derive(Debug, Parser)]
#[command(name = "braid", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    serve: Serve,
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

/// How the broker runs.
#[derive(Debug, Args)]
struct Serve {
    /// Read settings from a server.properties file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key; stronger than the environment (KAFKA_…) and the file. May be repeated.
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Short for -X log.dirs=DIR.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Short for -X listeners=PLAINTEXT://HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Print what has been set and what is wrong with it, and stop.
    #[arg(long)]
    check_config: bool,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Look into a data directory while no broker runs on it.
    #[command(subcommand)]
    Log(LogCommand),
    /// Run the broker, as without a command
    Serve(Serve),
    /// Print what makes a shell complete the command line
    #[command(
        after_help = "Example:\n  braid completions bash > ~/.local/share/bash-completion/completions/braid"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
    #[command(flatten)]
    Remote(Remote),
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print every frame of the CommitLog.
    Dump {
        /// The data directory of a stopped broker
        dir: PathBuf,
        /// Only this queue
        #[arg(long)]
        queue: Option<u32>,
        /// Only from this position on
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Only so many frames
        #[arg(long)]
        max: Option<u64>,
    },
    /// Verify checksums, positions and offsets; exit code 1 when something is wrong.
    Check {
        /// The data directory.
        dir: PathBuf,
    },
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected KEY=VALUE"),
    }
}

/// Reads the process's arguments and environment. Wrong arguments, `--help` and `--version` end
/// the process.
#[must_use]
pub fn parse() -> Command {
    let text = |os: OsString| os.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    command(Arguments::parse(), environment.collect())
}

fn command(arguments: Arguments, environment: Vec<(String, String)>) -> Command {
    let serve = match arguments.command {
        Some(Subcommands::Log(LogCommand::Dump { dir, queue, from, max })) => {
            let spec = DumpSpec { queue: queue.map(QueueId), from: Position(from), count_max: max };
            return Command::LogDump { dir, spec };
        }
        Some(Subcommands::Log(LogCommand::Check { dir })) => return Command::LogCheck { dir },
        Some(Subcommands::Remote(command)) => {
            return Command::Remote { target: arguments.target, command: Box::new(command) };
        }
        Some(Subcommands::Completions { shell }) => return Command::Completions(shell),
        Some(Subcommands::Serve(serve)) => serve,
        None => arguments.serve,
    };
    let mut overrides = Vec::new();
    if let Some(dir) = serve.data_dir {
        overrides.push(("log.dirs".to_owned(), dir));
    }
    if let Some(address) = serve.listen {
        let listener =
            if address.contains("://") { address } else { format!("PLAINTEXT://{address}") };
        overrides.push(("listeners".to_owned(), listener));
    }
    overrides.extend(serve.settings);
    let sources = Sources { file: serve.config, environment, overrides };
    if serve.check_config { Command::CheckConfig(sources) } else { Command::Run(sources) }
}

/// Prints what makes a shell complete the command line.
#[must_use]
pub fn completions(shell: Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Arguments::command(), "braid", &mut io::stdout());
    ExitCode::SUCCESS
}

/// Loads the configuration; what is wrong is printed on stderr.
///
/// # Errors
/// The exit code to end with.
pub fn load(sources: &Sources, fs: &dyn Fs) -> Result<Config, ExitCode> {
    Config::load(sources, fs).map_err(|error| {
        // Nothing can be told when even stderr is gone; the exit code remains.
        let _told = explain(&error, &mut io::stderr().lock());
        ExitCode::from(EXIT_BAD_CONFIG)
    })
}

/// Prints what has been set, and the findings: 0 when a broker would start, else 2.
#[must_use]
pub fn check_config(sources: &Sources, fs: &dyn Fs) -> ExitCode {
    let (result, code) = match Config::load(sources, fs) {
        Ok(config) => (summarise(&config, &mut io::stdout().lock()), ExitCode::SUCCESS),
        Err(error) => (explain(&error, &mut io::stderr().lock()), ExitCode::from(EXIT_BAD_CONFIG)),
    };
    if result.is_ok() { code } else { ExitCode::FAILURE }
}

fn summarise(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    for (key, text, origin) in config.settings() {
        writeln!(out, "{}={text}    # {origin}", key.name)?;
    }
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for listener in &config.network.listeners {
        writeln!(out, "ok: would listen on {}", listener.bind_address())?;
    }
    for listener in &config.native.listeners {
        writeln!(out, "ok: would serve the native API at http://{}", listener.bind_address())?;
    }
    writeln!(out, "ok: would keep its data in {}", config.storage.dir.display())
}

fn explain(error: &LoadError, out: &mut dyn Write) -> io::Result<()> {
    match error {
        LoadError::File(error) => {
            writeln!(out, "error: {error}")?;
            writeln!(
                out,
                "hint: --config names a server.properties file; without it the defaults hold"
            )
        }
        LoadError::Faults { faults, warnings } => {
            for fault in faults {
                writeln!(out, "error: {fault}")?;
                writeln!(out, "hint: {}", fault.hint())?;
            }
            for warning in warnings {
                writeln!(out, "warning: {warning}")?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
