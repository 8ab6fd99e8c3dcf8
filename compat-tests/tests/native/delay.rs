//! Delayed messages from a Kafka producer to a Kafka consumer, with the broker killed in between: none early, none lost,
//! none twice.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use braid_compat_tests::install;
use braid_compat_tests::runner::Suite;
use braid_compat_tests::server::Server;

use crate::cli;

const COUNT: usize = 100_000;
const SECONDS: &str = "60";
/// Tenths of them received when the broker dies.
const KILL_AT: [usize; 2] = [3, 6];

pub(crate) fn add(suite: &mut Suite) {
    suite.add_alone("delay::a_hundred_thousand_messages_come_once_and_never_early", |_| delayed());
}

fn delayed() -> Result<()> {
    let mut server = Server::start(&[])?;
    let topic = ["topic", "create", "delayed", "--type", "delay", "--partitions", "4"];
    cli::said(&server, &topic)?;
    let mut command = Command::new(install::python()?);
    command.arg(install::package_dir().join("clients/native/delayed.py"));
    command.args([&server.bootstrap(), "delayed", &COUNT.to_string(), SECONDS]);
    let mut script = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let printed = BufReader::new(script.stdout.take().context("stdout is piped")?);
    let mut late = None;
    for line in printed.lines() {
        let line = line?;
        if KILL_AT.iter().any(|tenth| line == format!("received {}", COUNT / 10 * tenth)) {
            server.kill()?;
            server.restart()?;
        }
        late = line.starts_with("late by ms").then_some(line).or(late);
    }
    let output = script.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{error}\n{}", output.status, server.log_tail(30));
    println!("    {}", late.context("the script says how late they were")?);
    Ok(())
}
