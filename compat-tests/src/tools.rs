//! Kafka's console tools, each a JVM of its own: what operators type.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::install;
use crate::server::Server;

/// Runs a tool of `org.apache.kafka.tools` with `--bootstrap-server` added, `input` on its stdin, and gives its stdout.
///
/// # Errors
/// When it ends with a failure; the error carries what it printed.
pub fn run(server: &Server, tool: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", install::java_logging().display()));
    command
        .arg("-cp")
        .arg(install::kafka_tools()?.join("*"))
        .arg(format!("org.apache.kafka.tools.{tool}"));
    command.args(["--bootstrap-server", &server.bootstrap()]).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = output.status;
    ensure!(
        status.success(),
        "{tool} ended with {status}: {printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed)
}
