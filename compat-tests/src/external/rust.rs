//! The tests of rdkafka and of rskafka, which their crates carry. Both are built at once, for what they share, with a lock
//! file of ours: rskafka's own wants an older compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Outcomes, Run, run_bounded};
use crate::install;

const LIMIT: Duration = Duration::from_secs(180);

/// The programs with rdkafka's tests that reach for the broker of the environment. Those of their helpers are in each.
const OF_RDKAFKA: [&str; 7] = [
    "test_admin",
    "test_high_consumers",
    "test_high_producers",
    "test_low_consumers",
    "test_low_producers",
    "test_metadata",
    "test_transactions",
];

/// Those of rskafka.
const OF_RSKAFKA: [&str; 4] = ["client", "consumer", "produce_consume", "producer"];

pub(super) fn rdkafka() -> Result<Run> {
    let home = install()?;
    Ok(Box::new(move |bootstrap| {
        let environment = [("KAFKA_HOST", bootstrap), ("KAFKA_VERSION", "4.0")];
        run("rdkafka", &home, &OF_RDKAFKA, &environment)
    }))
}

pub(super) fn rskafka() -> Result<Run> {
    let home = install()?;
    Ok(Box::new(move |bootstrap| {
        let environment = [
            ("TEST_INTEGRATION", "1"),
            ("TEST_BROKER_IMPL", "kafka"),
            ("KAFKA_CONNECT", bootstrap),
        ];
        run("rskafka", &home, &OF_RSKAFKA, &environment)
    }))
}

/// The directory with the programs of both.
fn install() -> Result<PathBuf> {
    let library = install::librdkafka()?;
    let workspace = install::package_dir().join("suites/rust");
    let this = install::package_dir().join("src/external/rust.rs");
    let manifests = ["Cargo.toml", "Cargo.lock"].map(|name| workspace.join(name));
    let inputs = [manifests.as_slice(), &[this, library.join("made")]].concat();
    install::installed("suite-rust", &inputs, |home| {
        for manifest in &manifests {
            std::fs::copy(manifest, home.join(manifest.file_name().context("a file has a name")?))?;
        }
        for name in ["rdkafka", "rskafka"] {
            let copy = home.join(name);
            install::run(Command::new("cp").arg("-r").arg(install::crate_dir(name)?).arg(&copy))?;
            for own in ["Cargo.lock", "rust-toolchain.toml"] {
                // Of a workspace it is the root's that counts.
                let _absent = std::fs::remove_file(copy.join(own));
            }
        }
        let mut build = install::cargo();
        build.args(["test", "--workspace", "--tests", "--no-run", "--locked", "-j2"]);
        build.args(["--features", "rdkafka/dynamic-linking,rskafka/full"]);
        build.args(["--message-format=json", "--quiet"]).current_dir(home);
        build.arg("--target-dir").arg(home.join("target"));
        install::with_librdkafka(&mut build, &library);
        let told = install::run(&mut build)?;
        for (name, program) in programs(&told) {
            if OF_RDKAFKA.contains(&name.as_str()) || OF_RSKAFKA.contains(&name.as_str()) {
                std::fs::copy(program, home.join(name))?;
            }
        }
        Ok(std::fs::remove_dir_all(home.join("target"))?)
    })
}

/// Names and paths of the test programs that cargo says it has built.
fn programs(told: &str) -> Vec<(String, PathBuf)> {
    let lines = told.lines().filter_map(|line| serde_json::from_str(line).ok());
    let program = |line: serde_json::Value| {
        let name = line["target"]["name"].as_str()?.to_owned();
        Some((name, PathBuf::from(line["executable"].as_str()?)))
    };
    lines.filter_map(program).collect()
}

fn run(
    suite: &str,
    home: &Path,
    programs: &[&str],
    environment: &[(&str, &str)],
) -> Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    for program in programs {
        let mut command = Command::new(home.join(program));
        command.args(["--test-threads", "4"]).current_dir(home.join(suite));
        command.envs(environment.iter().copied());
        let (status, said, log) = run_bounded(&format!("{suite}-{program}"), &mut command, LIMIT)?;
        let of_it = parse(program, &said);
        ensure!(
            !of_it.is_empty(),
            "{program} ended with {status} and no result, see {}",
            log.display()
        );
        outcomes.extend(of_it);
    }
    Ok(outcomes)
}

/// Reads what Rust's test programs print, a line for each test; the word may come behind what the test prints itself.
fn parse(program: &str, said: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        let Some(told) = line.strip_prefix("test ") else { continue };
        let Some((name, word)) = told.rsplit_once(" ... ") else { continue };
        let outcome = match word {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed,
            _ if word.starts_with("ignored") => Outcome::Skipped,
            _ => continue,
        };
        outcomes.insert(format!("{program}::{name}"), outcome);
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_rusts_tests_are_read() {
        let said = "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored, why\n\
                    test c has been running for over 60 seconds\ntest result: FAILED. 1 passed\n";
        let outcomes = parse("p", said);
        assert_eq!(outcomes.len(), 3);
        assert_eq!(outcomes["p::a::b"], Outcome::Passed);
        assert_eq!(outcomes["p::c"], Outcome::Failed);
        assert_eq!(outcomes["p::d"], Outcome::Skipped);
    }

    #[test]
    fn programs_are_those_that_can_be_run() {
        let told = "{\"target\":{\"name\":\"lib\"},\"executable\":null}\n\
                    {\"target\":{\"name\":\"client\"},\"executable\":\"/x/client-1\"}\nnoise\n";
        assert_eq!(programs(told), [("client".to_owned(), PathBuf::from("/x/client-1"))]);
    }
}
