//! The document of the native API says the truth: requests made from it, right ones and wrong ones, get the answers that it
//! describes, none of them a server error, and the broker lives on.

use std::process::Command;

use anyhow::Result;
use braid_compat_tests::install;
use braid_compat_tests::runner::Suite;
use braid_compat_tests::server::Server;

use crate::cli;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

pub(crate) fn add(suite: &mut Suite) {
    suite.add("fuzz::the_document_is_valid_openapi", |world| validate(world.server()?));
    suite.add("fuzz::every_answer_is_as_the_document_says", |_| fuzz());
}

/// By a validator that nobody of us wrote.
fn validate(server: &Server) -> Result<()> {
    let mut command = Command::new(install::fuzzer()?);
    command.arg(install::package_dir().join("clients/fuzz/validate.py"));
    command.arg(format!("{}/api/openapi.json", server.native()));
    install::run(command.current_dir(install::scratch()?)).map(drop)
}

fn fuzz() -> Result<()> {
    let server = Server::start(&[])?;
    for kind in ["normal", "fifo", "delay", "transaction"] {
        // Something to find.
        cli::said(&server, &["topic", "create", kind, "--type", kind])?;
    }
    let mut command = Command::new(install::fuzzer()?);
    command.args(["-m", "schemathesis.cli", "run"]);
    command.arg(format!("{}/api/openapi.json", server.native()));
    command.args(["--checks", CHECKS, "--max-examples", "20", "--seed", "7", "--no-color"]);
    // Longer than any wait that a request may ask for.
    command.args(["--request-timeout", "60"]);
    install::run(command.current_dir(install::scratch()?))?;
    cli::said(&server, &["topic", "list"])?;
    Ok(())
}
