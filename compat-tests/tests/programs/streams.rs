//! Kafka Streams: words of real text are counted through a repartition topic and a state store, in two lives of the
//! application. The second one has no files of the first and builds its state again from the changelog topic.
//!
//! And Kafka's own smoke test: an application, and a driver that makes records for it and verifies what comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::{Kind, Start};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::service::Service;
use braid_compat_tests::tools::{java_tests, run_plain};

use crate::text;

const LINES: usize = 4000;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("streams::words_are_counted_as_by_hand", |world| {
        words(world, "streams", "at_least_once")
    });
    suite.add("streams::words_are_counted_as_by_hand_in_transactions", |world| {
        words(world, "exactly", "exactly_once_v2")
    });
    suite.add("streams::kafkas_smoke_test_verifies_what_it_made", smoke);
}

/// Runs of ASCII letters, digits and underscores, in lower case: what `WordCount.java` counts.
fn words_of(line: &str) -> impl Iterator<Item = String> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = line.split(move |c| !inside(c)).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase)
}

fn words(world: &World, name: &str, guarantee: &str) -> Result<()> {
    let server = world.server()?;
    let client = Kind::Java.shared()?;
    let (input, output) = (format!("{name}.lines"), format!("{name}.counts"));
    let (input, output, app) = (input.as_str(), output.as_str(), format!("{name}.app"));
    client.new_topic(server, input, 3, &[])?;
    client.new_topic(server, output, 3, &[("cleanup.policy", "compact")])?;
    let lines = text::lines(LINES)?;
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    for (life, part) in lines.chunks(LINES / 2).enumerate() {
        text::produce(client, server, input, life * LINES / 2, part)?;
        let mut count = 0_usize;
        for word in part.iter().flat_map(|line| words_of(line)) {
            *wanted.entry(word).or_default() += 1;
            count += 1;
        }
        let state = install::scratch()?.join(format!("{name}-{life}"));
        let state = state.to_str().context("a path is text")?;
        let arguments =
            [&server.bootstrap(), &app, input, output, state, &count.to_string(), guarantee];
        let said = run_plain("WordCount", &arguments, "")?;
        ensure!(said.status == 0, "{}\n{}", said.out, said.err);
    }
    // A count is written again whenever it has changed: the last one counts, and it is the greatest.
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for record in client.consume(server, &[output], Start::Earliest)? {
        let word = String::from_utf8(record.key.context("a count has a word")?)?;
        let count: u64 = String::from_utf8(record.value.context("a word has a count")?)?.parse()?;
        let last = found.insert(word.clone(), count);
        ensure!(last < Some(count), "{word} was counted down from {last:?} to {count}");
    }
    ensure!(found.len() == wanted.len(), "{} words of {}", found.len(), wanted.len());
    ensure!(found == wanted, "counts differ");
    world.ran(Program::Streams, found.len());
    Ok(())
}

/// Topics of the smoke test, as its driver reads them.
const SMOKE_TOPICS: [&str; 14] = [
    "data",
    "echo",
    "max",
    "min",
    "min-suppressed",
    "min-raw",
    "dif",
    "sum",
    "sws-raw",
    "sws-suppressed",
    "cnt",
    "avg",
    "tagg",
    "fk",
];
const SMOKE_PARTITIONS: i32 = 5;
/// The driver spends half a minute on making records.
const SMOKE_TIMEOUT: Duration = Duration::from_secs(300);

fn smoke(world: &World) -> Result<()> {
    let server = world.server()?;
    for topic in SMOKE_TOPICS {
        Kind::Java.shared()?.new_topic(server, topic, SMOKE_PARTITIONS, &[])?;
    }
    let dir = tempfile::Builder::new().prefix("smoke-").tempdir_in(install::scratch()?)?;
    let properties = dir.path().join("smoke.properties");
    let settings = format!(
        "bootstrap.servers={}\nstate.dir={}\nprocessing.guarantee=at_least_once\nnum.stream.threads=2\ncommit.interval.ms=1000\n",
        server.bootstrap(),
        dir.path().join("state").display()
    );
    std::fs::write(&properties, settings)?;
    let program = |command: &str| -> Result<Service> {
        let mut java = java_tests(512)?;
        java.arg("org.apache.kafka.streams.tests.StreamsSmokeTest").arg(&properties).arg(command);
        Service::start(&format!("StreamsSmokeTest {command}"), &mut java)
    };
    let application = program("process")?;
    let said = program("run")?.finish(SMOKE_TIMEOUT)?;
    ensure!(said.contains("SUCCESS"), "{said}");
    application.stop()?;
    world.ran(Program::StreamsSmoke, SMOKE_TOPICS.len());
    Ok(())
}
