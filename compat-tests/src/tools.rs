//! Kafka's command-line tools, as operators type them, one after another in one JVM (`clients/kafka/ToolHost.java`).

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::install;
use crate::server::Server;

/// Includes the wait for other scenarios' tools.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a shell would see of a tool.
#[derive(Clone, Debug)]
pub struct Said {
    pub status: i64,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Whether stdout or stderr has all of these texts.
    ///
    /// # Errors
    /// Names the first that is missing, with everything that was said.
    pub fn has(&self, texts: &[&str]) -> Result<()> {
        for text in texts {
            let said = self.out.contains(text) || self.err.contains(text);
            ensure!(said, "{text:?} is missing in what was said:\n{}\n{}", self.out, self.err);
        }
        Ok(())
    }

    /// The rows of a printed table, split at blanks.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<&str>> {
        self.out.lines().map(|line| line.split_whitespace().collect()).collect()
    }
}

/// Runs a tool, named as its class in `org.apache.kafka.tools`, with exactly these arguments and `input` on its stdin.
///
/// # Errors
/// When the tools cannot be installed or started.
pub fn run_plain(tool: &str, arguments: &[&str], input: &str) -> Result<Said> {
    static HOST: OnceLock<Result<Driver, String>> = OnceLock::new();
    let host = HOST.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    let host = host.as_ref().map_err(|error| anyhow::Error::msg(error.clone()))?;
    let main = match tool {
        "WordCount" => tool.to_owned(),
        tool => format!("org.apache.kafka.tools.{tool}"),
    };
    let command = json!({"main": main, "args": arguments, "input": input});
    let told = host.call("run", command, TIMEOUT)?;
    let text = |name: &str| told[name].as_str().map(str::to_owned).context("a tool's output");
    let status = told["status"].as_i64().context("a tool's status")?;
    Ok(Said { status, out: text("out")?, err: text("err")? })
}

/// As [`run_plain`], with `--bootstrap-server` before the arguments.
///
/// # Errors
/// As [`run_plain`].
pub fn try_run(server: &Server, tool: &str, arguments: &[&str], input: &str) -> Result<Said> {
    let bootstrap = server.bootstrap();
    run_plain(tool, &[&["--bootstrap-server", &bootstrap], arguments].concat(), input)
}

/// As [`try_run`] for a tool that must succeed.
///
/// # Errors
/// When it ends with a failure; the error carries what it printed.
pub fn run(server: &Server, tool: &str, arguments: &[&str], input: &str) -> Result<Said> {
    let said = try_run(server, tool, arguments, input)?;
    ensure!(
        said.status == 0,
        "{tool} {arguments:?} ended with {}: {}\n{}",
        said.status,
        said.out,
        said.err
    );
    Ok(said)
}

/// As [`try_run`] for a tool that must fail, saying all of `texts`.
///
/// # Errors
/// When it succeeds or says something else.
pub fn refused(server: &Server, tool: &str, arguments: &[&str], texts: &[&str]) -> Result<()> {
    let said = try_run(server, tool, arguments, "")?;
    ensure!(said.status != 0, "{tool} {arguments:?} was not refused: {}\n{}", said.out, said.err);
    said.has(texts).with_context(|| format!("{tool} {arguments:?}"))
}

/// The number of the only broker, as text: what tools take as an argument.
///
/// # Errors
/// When kafka-cluster does not tell it.
pub fn broker_id(server: &Server) -> Result<String> {
    let arguments = ["list-endpoints", "--bootstrap-server", &server.bootstrap()];
    let said = run_plain("ClusterTool", &arguments, "")?;
    let rows = said.rows();
    let id = rows.get(1).and_then(|row| row.first()).with_context(|| format!("{said:?}"))?;
    Ok((*id).to_owned())
}

fn start() -> Result<Driver> {
    let mut command = java(512)?;
    command.arg("ToolHost");
    let host = Driver::start("kafka-tools", command)?;
    let hello: Value = host.call("hello", json!({}), TIMEOUT)?;
    ensure!(hello["version"].is_string(), "{hello}");
    Ok(host)
}

/// A JVM with the tools and Kafka Streams on its class path; the class and its arguments are still to be added.
///
/// # Errors
/// When the distribution cannot be installed.
pub fn java(heap_mib: u32) -> Result<Command> {
    java_with(heap_mib, &["lib/*", "classes"])
}

/// As [`java`], with Kafka Streams and the programs of its own tests instead of the tools.
///
/// # Errors
/// As [`java`].
pub fn java_tests(heap_mib: u32) -> Result<Command> {
    java_with(heap_mib, &["tests/*"])
}

/// As [`java`], with Kafka Connect and MirrorMaker 2 instead of the tools.
///
/// # Errors
/// As [`java`].
pub fn java_connect(heap_mib: u32) -> Result<Command> {
    java_with(heap_mib, &["connect/*"])
}

fn java_with(heap_mib: u32, parts: &[&str]) -> Result<Command> {
    let home = install::kafka_distribution()?;
    let classes = std::env::join_paths(parts.iter().map(|part| home.join(part)))?;
    let mut command = Command::new("java");
    command.arg(format!("-Xmx{heap_mib}m"));
    // For the host, which runs what tools leave to the end of their process.
    command.args(["--add-opens", "java.base/java.lang=ALL-UNNAMED"]);
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", install::java_logging().display()));
    command.arg("-cp").arg(classes);
    Ok(command)
}
