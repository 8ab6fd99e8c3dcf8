//! The broker's process: arguments, then the one thing they ask for.

use std::process::ExitCode;

use braid::cli::{self, Command};
use braid::env::real;

fn main() -> ExitCode {
    let env = real::env();
    match cli::parse() {
        Command::CheckConfig(sources) => cli::check_config(&sources, env.fs.as_ref()),
        Command::Run(_) | Command::LogDump { .. } | Command::LogCheck { .. } => ExitCode::FAILURE,
    }
}
