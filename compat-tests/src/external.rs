//! Test suites that other projects wrote for their own clients, run against the broker as they are. Nothing of theirs is
//! kept here but the names of the tests: `suites/NAME.txt` lists those that pass on Apache Kafka on the same machine
//! (`BRAID_COMPAT_SERVER=kafka UPDATE=1` writes it), and every one of them has to pass on Braid.
//!
//! A name may carry a mark: `-- debt: why` for a test that does not pass on Braid yet, `-- unsteady: why` for one that
//! does not always pass on Kafka either and is not judged. A debt that is paid has to be taken off the list.

mod franz_go;
mod kafka_python;
mod librdkafka;
mod rust;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::install;
use crate::server::{self, Server};

/// What became of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// Not run, or run without doing anything.
    Skipped,
}

/// What every test of a run came to, by name.
pub type Outcomes = BTreeMap<String, Outcome>;

/// The suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum External {
    KafkaPython,
    FranzGo,
    Librdkafka,
    Rdkafka,
    Rskafka,
}

impl External {
    /// All of them.
    pub const ALL: [External; 5] = [
        External::KafkaPython,
        External::FranzGo,
        External::Librdkafka,
        External::Rdkafka,
        External::Rskafka,
    ];

    /// As used in names of tests and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            External::KafkaPython => "kafka-python",
            External::FranzGo => "franz-go",
            External::Librdkafka => "librdkafka",
            External::Rdkafka => "rdkafka",
            External::Rskafka => "rskafka",
        }
    }

    /// What its tests take for granted of the broker.
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            External::KafkaPython | External::FranzGo | External::Librdkafka => &[],
            External::Rdkafka => &[("node.id", "0"), ("num.partitions", "3")],
            External::Rskafka => &[("auto.create.topics.enable", "false")],
        }
    }

    /// Installs the suite, runs it on a fresh broker and holds it against its list.
    ///
    /// # Errors
    /// When it cannot be run, or when a test that has to pass does not.
    pub fn judge(self) -> Result<()> {
        let run = match self {
            External::KafkaPython => kafka_python::install()?,
            External::FranzGo => franz_go::install()?,
            External::Librdkafka => librdkafka::install()?,
            External::Rdkafka => rust::rdkafka()?,
            External::Rskafka => rust::rskafka()?,
        };
        let server = Server::start(self.settings())?;
        let begun = Instant::now();
        let outcomes = run(&server.bootstrap())?;
        let seconds = begun.elapsed().as_secs_f64();
        let path = install::package_dir().join(format!("suites/{}.txt", self.name()));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut list = List::parse(&text)?;
        let count = |wanted| outcomes.values().filter(|outcome| **outcome == wanted).count();
        println!(
            "    {}: {} passed, {} failed, {} skipped in {seconds:.0} s; {} are on the list, {} of them debts",
            self.name(),
            count(Outcome::Passed),
            count(Outcome::Failed),
            count(Outcome::Skipped),
            list.entries.len(),
            list.entries.values().filter(|mark| matches!(mark, Mark::Debt(_))).count(),
        );
        let update = std::env::var_os("UPDATE").is_some();
        let problems = match (server::kind(), update) {
            (server::Kind::Kafka, true) => list.learn(&outcomes),
            (kind, _) => list.judge(&outcomes, kind, update),
        };
        if update {
            std::fs::write(&path, list.text())?;
        }
        ensure!(
            problems.is_empty(),
            "{}\nthe broker's last lines:\n{}",
            problems.join("\n"),
            server.log_tail(20)
        );
        Ok(())
    }
}

/// Runs a suite against a broker's address.
type Run = Box<dyn Fn(&str) -> Result<Outcomes>>;

/// What a listed test is expected to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Passes,
    Debt(String),
    Unsteady(String),
}

/// The list of one suite: comments, then a line for each test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct List {
    head: String,
    entries: BTreeMap<String, Mark>,
}

impl List {
    fn parse(text: &str) -> Result<List> {
        let mut list = List::default();
        for line in text.lines() {
            if line.starts_with('#') || line.is_empty() {
                writeln!(list.head, "{line}")?;
                continue;
            }
            let (name, mark) = match line.split_once(" -- ") {
                None => (line, Mark::Passes),
                Some((name, mark)) => match mark.split_once(": ") {
                    Some(("debt", why)) => (name, Mark::Debt(why.to_owned())),
                    Some(("unsteady", why)) => (name, Mark::Unsteady(why.to_owned())),
                    _ => bail!("neither a debt nor unsteady, or without a reason: {line}"),
                },
            };
            list.entries.insert(name.to_owned(), mark);
        }
        Ok(list)
    }

    fn text(&self) -> String {
        let mut text = self.head.clone();
        for (name, mark) in &self.entries {
            let _written = match mark {
                Mark::Passes => writeln!(text, "{name}"),
                Mark::Debt(why) => writeln!(text, "{name} -- debt: {why}"),
                Mark::Unsteady(why) => writeln!(text, "{name} -- unsteady: {why}"),
            };
        }
        text
    }

    /// Takes what passes on Kafka as the list; marks of what is known stay.
    fn learn(&mut self, outcomes: &Outcomes) -> Vec<String> {
        let unsteady = |mark: &Mark| matches!(mark, Mark::Unsteady(_));
        self.entries
            .retain(|name, mark| unsteady(mark) || outcomes.get(name) == Some(&Outcome::Passed));
        for (name, _) in outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Passed) {
            self.entries.entry(name.clone()).or_insert(Mark::Passes);
        }
        Vec::new()
    }

    /// What contradicts the list. With `update`, paid debts are taken off it instead.
    fn judge(&mut self, outcomes: &Outcomes, kind: server::Kind, update: bool) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, mark) in &mut self.entries {
            let outcome = outcomes.get(name);
            let passed = outcome == Some(&Outcome::Passed);
            match mark {
                Mark::Debt(_) if kind == server::Kind::Braid => {
                    if passed && update {
                        *mark = Mark::Passes;
                    } else if passed {
                        problems.push(format!("{name} passes: take its debt off with UPDATE=1"));
                    }
                }
                Mark::Passes | Mark::Debt(_) if !passed => {
                    let became = outcome.map_or("did not run".to_owned(), |o| format!("{o:?}"));
                    problems.push(format!("{name}: {became}; it passes on Kafka"));
                }
                Mark::Passes | Mark::Debt(_) | Mark::Unsteady(_) => {}
            }
        }
        problems
    }
}

/// Runs a suite's program to its end, whatever that is, with all that it prints in a file; kills it when it takes longer
/// than `limit`.
fn run_bounded(
    name: &str,
    command: &mut Command,
    limit: Duration,
) -> Result<(ExitStatus, String, PathBuf)> {
    let path = install::root()?.join(format!("suite-{name}.log"));
    let file = std::fs::File::create(&path)?;
    let errors = file.try_clone()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id is positive")?;
    let (ended, told) = mpsc::channel();
    let waiting = std::thread::spawn(move || ended.send(child.wait()));
    let status = match told.recv_timeout(limit) {
        Ok(status) => status?,
        Err(_) => {
            kill_process(pid, Signal::KILL)?;
            drop(waiting.join());
            bail!("the suite {name} did not end within {limit:?}; it said:\n{}", tail(&path)?);
        }
    };
    let said = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
    Ok((status, said, path))
}

fn tail(path: &Path) -> Result<String> {
    let said = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    Ok(lines[lines.len().saturating_sub(40)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# head\na\nb -- debt: not built\nc/d#1 -- unsteady: by the clock\n";

    fn outcomes(list: &[(&str, Outcome)]) -> Outcomes {
        list.iter().map(|(name, outcome)| ((*name).to_owned(), *outcome)).collect()
    }

    #[test]
    fn a_list_is_written_as_it_was_read_and_wants_reasons() {
        assert_eq!(List::parse(LIST).unwrap().text(), LIST);
        assert!(List::parse("a -- debt").is_err());
        assert!(List::parse("a -- known: so").is_err());
    }

    #[test]
    fn what_passes_on_kafka_has_to_pass_unless_it_is_a_debt() {
        let mut list = List::parse(LIST).unwrap();
        let owing = outcomes(&[("a", Outcome::Passed), ("b", Outcome::Failed)]);
        assert!(list.judge(&owing, server::Kind::Braid, false).is_empty());
        assert_eq!(list.judge(&owing, server::Kind::Kafka, false).len(), 1);
        for bad in [outcomes(&[]), outcomes(&[("a", Outcome::Skipped)])] {
            assert_eq!(list.judge(&bad, server::Kind::Braid, false).len(), 1);
        }
    }

    #[test]
    fn a_paid_debt_is_told_and_taken_off() {
        let mut list = List::parse(LIST).unwrap();
        let paid = outcomes(&[("a", Outcome::Passed), ("b", Outcome::Passed)]);
        assert_eq!(list.judge(&paid, server::Kind::Braid, false).len(), 1);
        assert!(list.judge(&paid, server::Kind::Braid, true).is_empty());
        assert_eq!(list.entries["b"], Mark::Passes);
    }

    #[test]
    fn kafka_says_what_is_listed_and_marks_stay() {
        let mut list = List::parse(LIST).unwrap();
        list.learn(&outcomes(&[
            ("b", Outcome::Passed),
            ("new", Outcome::Passed),
            ("x", Outcome::Failed),
        ]));
        assert_eq!(
            list.text(),
            "# head\nb -- debt: not built\nc/d#1 -- unsteady: by the clock\nnew\n"
        );
    }
}
