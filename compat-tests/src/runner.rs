//! Runs the scenarios: names and filters as `cargo test` has them, a broker shared by those that do not disturb it, and
//! a count of verified facts for each client and capability, so that a run that showed nothing does not pass.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::capability::Capability;
use crate::client::{Client, Kind};
use crate::install;
use crate::programs::{self, Program};
use crate::server::{self, Server};

/// What every scenario gets.
#[derive(Debug, Default)]
pub struct World {
    server: OnceLock<Result<Server, String>>,
    facts: Mutex<BTreeMap<(Kind, Capability), usize>>,
    programs: programs::Facts,
}

impl World {
    /// The broker of all scenarios that leave it in peace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn server(&self) -> Result<&Server> {
        let started =
            self.server.get_or_init(|| Server::start(&[]).map_err(|error| format!("{error:#}")));
        started.as_ref().map_err(|error| anyhow::Error::msg(error.clone()))
    }

    /// Counts things that a client was seen to do right.
    pub fn shown(&self, client: Kind, capability: Capability, count: usize) {
        *self
            .facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((client, capability))
            .or_default() += count;
    }

    /// Counts things that a program was seen to do right.
    pub fn ran(&self, program: Program, count: usize) {
        self.programs.add(program, count);
    }

    fn count(&self, client: Kind, capability: Capability) -> usize {
        self.facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(client, capability))
            .copied()
            .unwrap_or(0)
    }
}

type Scenario = Box<dyn Fn(&World) -> Result<()> + Send + Sync>;

struct Case {
    name: String,
    /// Alone: it kills brokers or measures.
    alone: bool,
    scenario: Scenario,
}

/// Which table of docs/compatibility.md a whole run has to show.
#[derive(Clone, Copy, Debug)]
enum Table {
    Clients,
    Programs,
    None,
}

/// All scenarios, by name.
pub struct Suite {
    cases: Vec<Case>,
    /// How many run at once, unless the command line says otherwise.
    threads: usize,
    table: Table,
}

impl Default for Suite {
    fn default() -> Suite {
        Suite { cases: Vec::new(), threads: 4, table: Table::Clients }
    }
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.cases.iter().map(|case| &case.name)).finish()
    }
}

#[derive(Default)]
struct Options {
    filters: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
    threads: usize,
}

impl Options {
    /// Takes what `cargo test` passes on and passes over what only its own harness knows.
    fn parse(arguments: impl Iterator<Item = String>, threads: usize) -> Options {
        let mut options = Options { threads, ..Options::default() };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            match flag.as_str() {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--skip" => options.skipped.extend(value.or_else(|| arguments.next())),
                "--test-threads" => {
                    let count = value.or_else(|| arguments.next());
                    options.threads =
                        count.and_then(|n| n.parse().ok()).unwrap_or(options.threads).max(1);
                }
                "--format" | "--color" | "--logfile" | "--report-time" | "-Z"
                    if value.is_none() =>
                {
                    arguments.next();
                }
                flag if flag.starts_with('-') => {}
                filter => options.filters.push(filter.to_owned()),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let fits =
            |text: &String| if self.exact { name == text } else { name.contains(text.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skipped.iter().any(fits)
    }
}

impl Suite {
    /// One whose scenarios show the table of programs.
    #[must_use]
    pub fn of_programs() -> Suite {
        Suite { table: Table::Programs, threads: 2, ..Suite::default() }
    }

    /// One whose scenarios show no table, `threads` at once.
    #[must_use]
    pub fn without_table(threads: usize) -> Suite {
        Suite { threads, table: Table::None, ..Suite::default() }
    }

    /// Adds a scenario that shares the broker.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        scenario: impl Fn(&World) -> Result<()> + Send + Sync + 'static,
    ) {
        self.cases.push(Case { name: name.into(), alone: false, scenario: Box::new(scenario) });
    }

    /// Adds a scenario that runs when no other does.
    pub fn add_alone(
        &mut self,
        name: impl Into<String>,
        scenario: impl Fn(&World) -> Result<()> + Send + Sync + 'static,
    ) {
        self.cases.push(Case { name: name.into(), alone: true, scenario: Box::new(scenario) });
    }

    /// Runs what the command line asks for.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let options = Options::parse(std::env::args().skip(1), self.threads);
        let wanted: Vec<&Case> =
            self.cases.iter().filter(|case| options.wants(&case.name)).collect();
        if options.list {
            wanted.iter().for_each(|case| println!("{}: test", case.name));
            return ExitCode::SUCCESS;
        }
        println!("\nrunning {} scenarios against {:?}", wanted.len(), server::kind());
        if let (Table::Clients | Table::Programs, Ok(logs)) = (self.table, install::logs()) {
            // Only the last run's are kept.
            let _removed = std::fs::remove_dir_all(logs);
        }
        let world = World::default();
        let begun = Instant::now();
        let (alone, together): (Vec<&Case>, Vec<&Case>) =
            wanted.iter().partition(|case| case.alone);
        let mut failed = run_all(&together, options.threads, &world);
        failed.extend(run_all(&alone, 1, &world));
        let whole = wanted.len() == self.cases.len() && failed.is_empty();
        let table = match self.table {
            Table::Clients => report(&world, whole),
            Table::Programs => report_programs(&world, whole),
            Table::None => Report { text: String::new(), problems: Vec::new() },
        };
        println!("{}", table.text);
        failed.extend(table.problems);
        drop(world);
        install::end_run();
        let passed = if failed.is_empty() { "ok" } else { "FAILED" };
        println!(
            "test result: {passed}. {} scenarios, {:.1} s",
            wanted.len(),
            begun.elapsed().as_secs_f64()
        );
        for failure in &failed {
            println!("    {failure}");
        }
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs scenarios on `threads` threads and gives the names of the failed ones.
fn run_all(cases: &[&Case], threads: usize, world: &World) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| (case.scenario)(world)));
                    let seconds = begun.elapsed().as_secs_f64();
                    let failure = match outcome {
                        Ok(Ok(())) => {
                            println!("test {} ... ok ({seconds:.1} s)", case.name);
                            continue;
                        }
                        Ok(Err(error)) => {
                            error.chain().map(|cause| format!("    {cause}\n")).collect()
                        }
                        Err(_) => "panicked, see above".to_owned(),
                    };
                    println!("test {} ... FAILED ({seconds:.1} s)\n{failure}", case.name);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).push(case.name.clone());
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let (false, Some(Ok(server))) = (failed.is_empty(), world.server.get()) {
        println!(
            "the shared broker's last lines (all are in target/compat/logs):\n{}",
            server.log_tail(30)
        );
    }
    failed
}

struct Report {
    text: String,
    problems: Vec<String>,
}

const TABLE_START: &str = "<!-- clients-table:start -->";
const TABLE_END: &str = "<!-- clients-table:end -->";

/// The count of facts; after a whole run also the check that nothing is missing and that the table in the docs says so.
fn report(world: &World, whole: bool) -> Report {
    let mut text = String::from("\nverified facts by client:\n");
    let mut problems = Vec::new();
    for client in Kind::ALL {
        let counts =
            Capability::ALL.map(|capability| (capability, world.count(client, capability)));
        let total: usize = counts.iter().map(|(_, count)| count).sum();
        if total == 0 && !whole {
            // Nobody asked for this client: it need not even be there.
            continue;
        }
        let version =
            client.shared().and_then(Client::version).unwrap_or_else(|error| format!("{error:#}"));
        let _written = writeln!(text, "  {:14}{total:9}  (version {version})", client.name());
        for (capability, count) in counts {
            if count > 0 {
                let _written = writeln!(text, "    {count:10}  {}", capability.title());
            }
            if whole && (count == 0) == capability.excuse(client).is_none() {
                problems.push(format!(
                    "{client}: {count} facts for {capability:?}, which its table contradicts"
                ));
            }
        }
    }
    // Written by any run that is asked to: a whole one holds what the table says.
    let held = whole && problems.is_empty() && server::kind() == server::Kind::Braid;
    if held || std::env::var_os("UPDATE").is_some() {
        problems.extend(hold_table().err().map(|error| format!("{error:#}")));
    }
    Report { text, problems }
}

/// As [`report`], for programs.
fn report_programs(world: &World, whole: bool) -> Report {
    let (text, missing) = world.programs.report();
    let mut problems = if whole { missing } else { Vec::new() };
    if whole && problems.is_empty() && server::kind() == server::Kind::Braid {
        let page = install::package_dir().join("../docs/compatibility.md");
        problems.extend(programs::hold_table(&page).err().map(|error| format!("{error:#}")));
    }
    Report { text, problems }
}

/// Compares the table in docs/compatibility.md, or writes it when `UPDATE` is set.
fn hold_table() -> Result<()> {
    let path: PathBuf = install::package_dir().join("../docs/compatibility.md");
    let page =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let missing = || format!("{} lacks the markers of the clients table", path.display());
    let (before, rest) = page.split_once(TABLE_START).with_context(missing)?;
    let (found, after) = rest.split_once(TABLE_END).with_context(missing)?;
    let table = table()?;
    if found == table {
        return Ok(());
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{TABLE_START}{table}{TABLE_END}{after}"))?;
        return Ok(());
    }
    anyhow::bail!("the clients table in {} is stale; run again with UPDATE=1", path.display())
}

/// The table that a run without failures has shown.
fn table() -> Result<String> {
    let mut table = String::from("\n| |");
    for client in Kind::ALL {
        let _written = write!(table, " {client} |");
    }
    table += "\n|---|";
    table += &"---|".repeat(Kind::ALL.len());
    table += "\n| version |";
    for client in Kind::ALL {
        // kcat alone is not pinned: it is the one that the system has.
        let version = if client == Kind::Kcat {
            "Debian 12's".to_owned()
        } else {
            client.shared()?.version()?
        };
        let _written = write!(table, " {version} |");
    }
    let mut notes: Vec<&str> = Vec::new();
    for capability in Capability::ALL {
        let _written = write!(table, "\n| {} |", capability.title());
        for client in Kind::ALL {
            let Some(excuse) = capability.excuse(client) else {
                table += " yes |";
                continue;
            };
            let note = notes.iter().position(|note| *note == excuse).unwrap_or_else(|| {
                notes.push(excuse);
                notes.len() - 1
            });
            let _written = write!(table, " – ({}) |", note + 1);
        }
    }
    table.push('\n');
    for (i, note) in notes.iter().enumerate() {
        let _written = write!(
            table,
            "\n({}) {note}{}",
            i + 1,
            if i + 1 < notes.len() { "<br>" } else { "\n" }
        );
    }
    Ok(table)
}
