//! kafka-python's integration tests, from its source distribution.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Outcomes, Run, run_bounded};
use crate::install;

const VERSION: &str = "3.0.12";
const LIMIT: Duration = Duration::from_secs(240);

pub(super) fn install() -> Result<Run> {
    let ours = install::package_dir().join("suites/kafka-python");
    let inputs = [ours.join("requirements.txt"), ours.join("service.py"), ours.join("steady.py")];
    let home = install::installed("suite-kafka-python", &inputs, |home| {
        install::tool("python3", &["python3", "python3-venv"])?;
        install::run(Command::new("python3").args(["-m", "venv"]).arg(home.join("venv")))?;
        let pip = |arguments: &[&str]| {
            install::run(
                Command::new(home.join("venv/bin/python"))
                    .args(["-m", "pip", "-q"])
                    .args(arguments)
                    .current_dir(home),
            )
        };
        pip(&["install", "-r", inputs[0].to_str().context("a path is text")?])?;
        let source = format!("kafka-python=={VERSION}");
        pip(&["download", "--no-deps", "--no-binary", ":all:", &source])?;
        let archive = format!("kafka_python-{VERSION}.tar.gz");
        install::run(Command::new("tar").arg("xzf").arg(archive).current_dir(home))?;
        // The distribution leaves out what starts brokers.
        let test = home.join(format!("kafka_python-{VERSION}/test"));
        std::fs::write(test.join("__init__.py"), "")?;
        std::fs::copy(&inputs[1], test.join("service.py"))?;
        std::fs::copy(&inputs[2], test.join("steady.py"))?;
        Ok(())
    })?;
    Ok(Box::new(move |bootstrap| run(&home, bootstrap)))
}

fn run(home: &Path, bootstrap: &str) -> Result<Outcomes> {
    let source = home.join(format!("kafka_python-{VERSION}"));
    let mut command = Command::new(home.join("venv/bin/python"));
    command
        .args(["-B", "-m", "pytest", "--rootdir=.", "-p", "no:cacheprovider", "-p", "test.steady"])
        .arg("test/integration")
        .args(["--timeout", "45", "--timeout-method=signal", "-q", "-rA", "--tb=short"])
        // They start brokers of their own.
        .args(["--ignore=test/integration/test_ssl_integration.py"])
        .args(["--ignore=test/integration/test_sasl_integration.py"])
        .env("PYTHONPATH", ".")
        .env("KAFKA_ROOT", home)
        .env("KAFKA_VERSION", "4.1.0")
        .env("KAFKA_URI", format!("kafka://{bootstrap}"))
        .current_dir(&source);
    let (status, said, log) = run_bounded("kafka-python", &mut command, LIMIT)?;
    let outcomes = parse(&said);
    ensure!(
        !outcomes.is_empty(),
        "kafka-python's tests ended with {status} and no result, see {}",
        log.display()
    );
    Ok(outcomes)
}

fn parse(said: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        let outcome = match word {
            "PASSED" => Outcome::Passed,
            "FAILED" | "ERROR" => Outcome::Failed,
            _ => continue,
        };
        let Some(name) = rest.strip_prefix("test/integration/") else { continue };
        let name = name.split_once(" - ").map_or(name, |(name, _)| name);
        // A test that passed and could not clean up has failed.
        let known = outcomes.entry(name.to_owned()).or_insert(outcome);
        if outcome == Outcome::Failed {
            *known = outcome;
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_pytest_is_read() {
        let said = "PASSED test/integration/test_a.py::test_x[4]\nFAILED test/integration/test_a.py::test_y - E: x\n\
                    PASSED test/integration/test_a.py::test_z\nERROR test/integration/test_a.py::test_z - gone\n2 passed\n";
        let outcomes = parse(said);
        assert_eq!(outcomes["test_a.py::test_x[4]"], Outcome::Passed);
        assert_eq!(outcomes["test_a.py::test_y"], Outcome::Failed);
        assert_eq!(outcomes["test_a.py::test_z"], Outcome::Failed);
        assert_eq!(outcomes.len(), 3);
    }
}
