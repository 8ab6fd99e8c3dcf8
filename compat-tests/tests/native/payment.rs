//! Orders in a database and half messages about them: the guide's example programs die at random, and the broker is killed
//! meanwhile. In the end exactly the paid orders are in the topic, once each, for a Kafka client to read.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::Start;
use braid_compat_tests::runner::Suite;
use braid_compat_tests::server::Server;
use braid_compat_tests::{install, kcat};

use crate::cli;

const ORDERS: &str = "120";
const CRASH: &str = "0.02";
/// Orders seen between two deaths of the broker.
const BETWEEN_KILLS: &str = "25";
const KILLS: usize = 3;
/// More deaths than any run of luck has.
const RUNS_MAX: usize = 200;

pub(crate) fn add(suite: &mut Suite) {
    suite.add_alone("payment::orders_and_messages_agree_in_python", |_| {
        agree("orders", |server, dir| {
            let mut command = Command::new(install::python()?);
            command.arg(example("payment.py")).arg(server).arg(dir.join("orders.db"));
            command.args([ORDERS, "--crash", CRASH]);
            Ok(command)
        })
    });
    suite.add_alone("payment::orders_and_messages_agree_in_java", |_| {
        let home = install::examples()?;
        let classes = std::env::join_paths([home.join("lib/*"), home.join("classes")])?;
        agree("java-orders", move |server, dir| {
            let mut command = Command::new("java");
            command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
            command.arg(&classes).args(["Payment", server]).arg(dir.join("orders"));
            command.args([ORDERS, CRASH]);
            Ok(command)
        })
    });
}

fn example(name: &str) -> std::path::PathBuf {
    install::package_dir().join("../docs/guides/examples").join(name)
}

fn agree(topic: &str, program: impl Fn(&str, &Path) -> Result<Command> + Sync) -> Result<()> {
    let mut server = Server::start(&[
        ("braid.half.check.first.ms", "300"),
        ("braid.half.check.interval.ms", "300"),
    ])?;
    cli::said(&server, &["topic", "create", topic, "--type", "transaction", "--partitions", "3"])?;
    let dir = tempfile::Builder::new().prefix("payment-").tempdir_in(install::scratch()?)?;
    let native = server.native();
    let (paid, deaths) = std::thread::scope(|scope| -> Result<(BTreeSet<String>, usize)> {
        let paying = scope.spawn(|| until_paid(&native, dir.path(), &program));
        for _ in 0..KILLS {
            // An observer's messages are the sign that orders are under way.
            let watch =
                ["consume", topic, "--group", "observer", "--max", BETWEEN_KILLS, "--wait", "5s"];
            cli::said(&server, &watch)?;
            server.kill()?;
            server.restart()?;
        }
        paying.join().map_err(|_| anyhow::anyhow!("the thread that pays panicked"))?
    })?;
    println!("    the program died {deaths} times, the broker {KILLS} times");
    let seen = kcat::consume(&server, &[topic], Start::Earliest)?;
    let keys: Vec<String> = seen
        .iter()
        .map(|record| String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into())
        .collect();
    let once: BTreeSet<String> = keys.iter().cloned().collect();
    ensure!(keys.len() == once.len(), "{} orders came twice", keys.len() - once.len());
    let lost: Vec<_> = paid.difference(&once).collect();
    let false_ones: Vec<_> = once.difference(&paid).collect();
    ensure!(lost.is_empty(), "paid and not in the topic: {lost:?}");
    ensure!(false_ones.is_empty(), "in the topic and not paid: {false_ones:?}");
    ensure!(deaths > 0, "the program never died: the scenario showed nothing");
    Ok(())
}

/// Runs the program until it has done its work; the orders that it says are paid.
fn until_paid(
    native: &str,
    dir: &Path,
    program: &impl Fn(&str, &Path) -> Result<Command>,
) -> Result<(BTreeSet<String>, usize)> {
    for deaths in 0..RUNS_MAX {
        let output = program(native, dir)?.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            let paid = said.lines().filter_map(|line| line.strip_prefix("paid "));
            return Ok((paid.map(ToOwned::to_owned).collect(), deaths));
        }
        // Killed by itself, and not failed.
        ensure!(
            matches!(output.status.code(), None | Some(137)),
            "{}\n{said}\n{error}",
            output.status
        );
    }
    None.context("the program dies and dies")
}
