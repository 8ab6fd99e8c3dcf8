//! librdkafka's tests, from the sources in the crate that binds it for Rust.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Outcome, Outcomes, Run, run_bounded};
use crate::install;

const LIMIT: Duration = Duration::from_secs(240);

/// Those that need a broker and neither Kafka's own scripts nor root's rights nor minutes. Not among them are 0103, which
/// wants three brokers, and 0129, which makes a topic with a `segment.bytes` that Kafka 4 refuses: they fail on Kafka too, and
/// the runner then aborts and loses the part of its table that it has not printed. 0137 does nothing in quick mode.
const TESTS: &str = "0001,0002,0003,0005,0007,0008,0012,0013,0015,0017,0021,0022,0029,0031,0034,0036,0039,0040,0041,0042,\
                     0044,0048,0054,0056,0059,0060,0063,0064,0065,0070,0073,0085,0086,0112,0125,0140";

pub(super) fn install() -> Result<Run> {
    let library = install::librdkafka()?;
    let this = install::package_dir().join("src/external/librdkafka.rs");
    let home = install::installed("suite-librdkafka", &[this, library.join("made")], |home| {
        let tests = library.join("source/tests");
        install::run(Command::new("make").args(["-j2", "-C"]).arg(&tests).arg("test-runner"))?;
        std::fs::copy(tests.join("test-runner"), home.join("test-runner")).map(drop)?;
        // What tests read lies where they run.
        install::run(Command::new("cp").arg("-r").arg(tests.join("fixtures")).arg(home)).map(drop)
    })?;
    Ok(Box::new(move |bootstrap| run(&library, &home, bootstrap)))
}

fn run(library: &Path, home: &Path, bootstrap: &str) -> Result<Outcomes> {
    let dir = tempfile::Builder::new().prefix("librdkafka-").tempdir_in(install::scratch()?)?;
    std::fs::write(dir.path().join("test.conf"), format!("bootstrap.servers={bootstrap}\n"))?;
    let mut command = Command::new(home.join("test-runner"));
    command
        .args(["-Q", "-E", "-L", "-K", "-p4"])
        .env("TESTS", TESTS)
        .env("TEST_KAFKA_VERSION", "4.0.0")
        .env("TEST_MODE", "bare")
        // Some tests take other limits when they are told that the machine may be busy.
        .env("CI", "true")
        .env("LD_LIBRARY_PATH", library.join("lib"))
        .current_dir(dir.path());
    let (status, said, log) = run_bounded("librdkafka", &mut command, LIMIT)?;
    let outcomes = parse(&said);
    ensure!(
        !outcomes.is_empty(),
        "librdkafka's tests ended with {status} and no result, see {}",
        log.display()
    );
    Ok(outcomes)
}

/// Reads the table at the end: name, outcome, seconds, each line in colours.
fn parse(said: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        let fields: Vec<String> = line.split('|').map(without_colours).collect();
        let [_, name, outcome, seconds, ..] = fields.as_slice() else { continue };
        // The first line is the runner's own.
        if name.starts_with('<') {
            continue;
        }
        let seconds = seconds.trim_end_matches('s').parse::<f64>();
        let outcome = match (outcome.as_str(), seconds) {
            // In quick mode many return at once and say that they passed.
            ("PASSED", Ok(0.0..0.002)) | ("SKIPPED", _) => Outcome::Skipped,
            ("PASSED", _) => Outcome::Passed,
            ("FAILED", _) => Outcome::Failed,
            _ => continue,
        };
        outcomes.insert(name.clone(), outcome);
    }
    outcomes
}

fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain += before;
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    (plain + rest).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_what_did_nothing_is_not_a_pass() {
        let said = "|\u{1b}[32m 0014_reconsume_191                       |     PASSED |   3.743s \u{1b}[0m|\n\
                    |\u{1b}[32m 0018_cgrp_term                           |     PASSED |   0.000s \u{1b}[0m|\n\
                    |\u{1b}[31m 0052_msg_timestamps |     FAILED |  49.980s \u{1b}[0m|\u{1b}[31m test_kafka_topics()\n\
                    |\u{1b}[36m 0105_mock |    SKIPPED |   0.000s \u{1b}[0m|\n";
        let outcomes = parse(said);
        assert_eq!(outcomes["0014_reconsume_191"], Outcome::Passed);
        assert_eq!(outcomes["0018_cgrp_term"], Outcome::Skipped);
        assert_eq!(outcomes["0052_msg_timestamps"], Outcome::Failed);
        assert_eq!(outcomes["0105_mock"], Outcome::Skipped);
    }
}
