//! The broker's process: arguments, then the one thing they ask for.
//!
//! Exit codes: 0 done, or stopped in order; 1 could not start or go on, or damage was found; 2 wrong
//! arguments or configuration; 74 a critical part failed and the process ended at once.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use braid::cli::{self, Command};
use braid::config::Config;
use braid::env::{Env, real};
use braid::loggers::Loggers;
use braid::node::{Node, fit_connections};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let env = real::env();
    let outcome = match cli::parse() {
        Command::CheckConfig(sources) => return cli::check_config(&sources, env.fs.as_ref()),
        Command::Run(sources) => match cli::load(&sources, env.fs.as_ref()) {
            Ok(config) => run(env, config),
            Err(code) => return code,
        },
        Command::LogDump { dir, spec } => return cli::dump_log(&env, &dir, spec),
        Command::LogCheck { dir } => return cli::check_log(&env, &dir),
        Command::Remote { target, command } => return cli::ask(&env, &target, *command),
        Command::Completions(shell) => return cli::completions(shell),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal asks to stop. A failed part ends the process at once.
fn run(env: Env, mut config: Config) -> anyhow::Result<()> {
    let loggers = start_logging();
    fit_connections(&mut config, real::raise_descriptor_limit());
    let notify_socket = std::env::var_os(real::NOTIFY_SOCKET);
    let tell = |state| tell(notify_socket.as_ref(), state);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let spawner = env.spawner.clone();
        // Before the start, which may take long: from here on an orderly end is possible.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Left alone it would end the process without a word; this way the write fails.
        let _file_too_large = signal(SignalKind::from_raw(real::FILE_TOO_LARGE_SIGNAL))?;
        let asked = async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        tokio::pin!(asked);
        let node = tokio::select! {
            node = Node::start_with(env, config, loggers) => node?,
            _ = &mut asked => return Ok(()),
        };
        tell(real::State::Ready);
        let why = tokio::select! {
            failed = node.failed() => spawner.fatal(&failed.to_string()),
            why = &mut asked => why,
        };
        tracing::info!("stopping: {why}");
        tell(real::State::Stopping);
        node.stop().await;
        Ok(())
    })
}

/// Tells the service manager, when there is one.
fn tell(socket: Option<&OsString>, state: real::State) {
    if let Some(socket) = socket
        && let Err(error) = real::notify(socket, state)
    {
        tracing::warn!(%error, "cannot tell the service manager: {state:?}");
    }
}

/// Logs to stderr, as `BRAID_LOG` says, and lets clients change the levels.
fn start_logging() -> Loggers {
    let wanted = std::env::var("BRAID_LOG").unwrap_or_default();
    let start = match EnvFilter::try_new(&wanted) {
        Ok(_) if !wanted.is_empty() => wanted,
        Ok(_) | Err(_) => "info,openraft=off".to_owned(),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::new(&start))
        .with_filter_reloading();
    let filter = subscriber.reload_handle();
    subscriber.init();
    let install = move |text: &str| {
        let reloaded = EnvFilter::try_new(text).map(|new| filter.reload(new));
        if !matches!(reloaded, Ok(Ok(()))) {
            tracing::error!("the log filter {text} cannot be installed");
        }
    };
    Loggers::new(start, Box::new(install))
}
