//! The broker's process: arguments, then the one thing they ask for.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use braid::cli::{self, Command};
use braid::config::Config;
use braid::env::{Env, real};
use braid::node::Node;
use tokio::signal::unix::{SignalKind, signal};

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
fn run(env: Env, config: Config) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("BRAID_LOG")
                .unwrap_or_else(|_| "info,openraft=warn".into()),
        )
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let spawner = env.spawner.clone();
        let node = Node::start(env, config).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            failed = node.failed() => spawner.fatal(&failed.to_string()),
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        node.stop().await;
        Ok(())
    })
}
