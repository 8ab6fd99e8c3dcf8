//! franz-go's tests of its client package, which its module carries.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Outcomes, Run, run_bounded};
use crate::{install, server};

const MODULE: &str = "github.com/twmb/franz-go@v1.22.2";
const LIMIT: Duration = Duration::from_secs(240);

/// Tests that would never end on Braid, those of KIP-848's groups; the list names their debts.
const ENDLESS: &str = "^TestTxnEtl$/.*/^848$";

pub(super) fn install() -> Result<Run> {
    let this = install::package_dir().join("src/external/franz_go.rs");
    let home = install::installed("suite-franz-go", &[this], |home| {
        install::tool("go", &["golang-go"])?;
        let told = install::run(Command::new("go").args(["mod", "download", "-json", MODULE]))?;
        let told: serde_json::Value = serde_json::from_str(&told)?;
        let source = told["Dir"].as_str().context("go tells where the module lies")?;
        // Tests write beside themselves, and the module cache is for reading only.
        let copy = home.join("source");
        install::run(Command::new("cp").arg("-r").arg(source).arg(&copy))?;
        install::run(Command::new("chmod").args(["-R", "u+w"]).arg(&copy))?;
        install::run(
            Command::new("go")
                .args(["test", "-c", "-o"])
                .arg(home.join("kgo.test"))
                .arg("./pkg/kgo")
                .current_dir(&copy),
        )
        .map(drop)
    })?;
    Ok(Box::new(move |bootstrap| run(&home, bootstrap)))
}

fn run(home: &Path, bootstrap: &str) -> Result<Outcomes> {
    let mut command = Command::new(home.join("kgo.test"));
    command
        .args(["-test.v", "-test.count=1", "-test.run=^Test", "-test.timeout=4m"])
        .env("KGO_SEEDS", bootstrap)
        .env("KGO_TEST_RF", "1")
        .env("KGO_TEST_RECORDS", "50000")
        .env("KGO_LOG_LEVEL", "none")
        .current_dir(home.join("source/pkg/kgo"));
    if server::kind() == server::Kind::Braid {
        command.arg(format!("-test.skip={ENDLESS}"));
    }
    let (status, said, log) = run_bounded("franz-go", &mut command, LIMIT)?;
    let outcomes = parse(&said);
    ensure!(
        !outcomes.is_empty(),
        "franz-go's tests ended with {status} and no result, see {}",
        log.display()
    );
    Ok(outcomes)
}

fn parse(said: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        let Some(told) = line.trim_start().strip_prefix("--- ") else { continue };
        let Some((word, rest)) = told.split_once(": ") else { continue };
        let outcome = match word {
            "PASS" => Outcome::Passed,
            "FAIL" => Outcome::Failed,
            "SKIP" => Outcome::Skipped,
            _ => continue,
        };
        let name = rest.split(' ').next().unwrap_or(rest);
        outcomes.insert(name.to_owned(), outcome);
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_go_test_are_read() {
        let said = "=== RUN   TestA\n--- PASS: TestA (0.00s)\n    --- SKIP: TestA/b#01 (0.00s)\n--- FAIL: TestC (1.00s)\nPASS\n";
        let outcomes = parse(said);
        assert_eq!(outcomes["TestA"], Outcome::Passed);
        assert_eq!(outcomes["TestA/b#01"], Outcome::Skipped);
        assert_eq!(outcomes["TestC"], Outcome::Failed);
    }
}
