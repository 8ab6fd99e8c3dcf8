//! LogCompactionTester of Kafka's system tests: it writes values and deletions under the keys of a compacted topic, reads
//! what is left, and holds the newest of each key against what it wrote.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::{self, Server};
use braid_compat_tests::service::Service;
use braid_compat_tests::tools::java;

const TIMEOUT: Duration = Duration::from_secs(180);
const TOPICS: u32 = 2;
/// In each topic.
const MESSAGES: u32 = 10_000;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("compaction::the_newest_of_every_key_is_left", newest);
}

fn newest(world: &World) -> Result<()> {
    let settings = [
        ("log.cleaner.backoff.ms", "200"),
        ("log.cleaner.min.cleanable.ratio", "0.01"),
        ("log.roll.ms", "200"),
    ];
    let server = Server::start(&settings)?;
    let dir = tempfile::Builder::new().prefix("compaction-").tempdir_in(install::scratch()?)?;
    let mut tester = java(256)?;
    // It leaves what it wrote and read behind.
    tester.env("JAVA_TOOL_OPTIONS", format!("-Djava.io.tmpdir={}", dir.path().display()));
    tester.arg("org.apache.kafka.tools.LogCompactionTester");
    tester.args(["--bootstrap-server", &server.bootstrap(), "--sleep", "3"]);
    tester.args(["--topics", &TOPICS.to_string()]);
    tester.args(["--messages", &MESSAGES.to_string(), "--percent-deletes", "20"]);
    let said = Service::start("LogCompactionTester", &mut tester)?.finish(TIMEOUT)?;
    ensure!(
        said.contains(", 0 mismatches.") && said.contains("Data verification is completed"),
        "{said}"
    );
    let rows = |what: &str| -> Result<u32> {
        let line = said.lines().find(|line| line.contains("rows of data produced"));
        let words: Vec<&str> = line.with_context(|| said.clone())?.split_whitespace().collect();
        let at = words.iter().position(|word| word.trim_end_matches(',') == what);
        Ok(words[at.context("a word is missing")? - 4].parse()?)
    };
    let (produced, consumed) = (rows("produced")?, rows("consumed")?);
    ensure!(produced == TOPICS * MESSAGES, "{said}");
    // Kafka compacts nothing of the segment it writes to.
    ensure!(
        consumed < produced || server::kind() == server::Kind::Kafka,
        "nothing was compacted: {said}"
    );
    world.ran(Program::Compaction, 2);
    Ok(())
}
