//! Every command of the guides runs, in order, against a fresh broker, and says what the guide says it does.
//!
//! A block `sh` is run by bash; a block `text` behind it is what it prints, where `…` stands for anything. The addresses
//! of the guides are replaced by the broker's own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use braid_compat_tests::install;
use braid_compat_tests::runner::Suite;
use braid_compat_tests::server::{self, Server};

const GUIDES: &[&str] = &[
    "docs/native-api.md",
    "docs/guides/command-line.md",
    "docs/guides/delay.md",
    "docs/guides/retry-and-dead-letters.md",
    "docs/guides/transactional-messages.md",
];

pub(crate) fn add(suite: &mut Suite) {
    for guide in GUIDES {
        let name = Path::new(guide).file_stem().and_then(|stem| stem.to_str()).unwrap_or(guide);
        suite.add(format!("guides::{name}"), move |_| follow(guide));
    }
    suite.add("guides::every_guide_is_followed", |_| every_guide_is_followed());
}

/// A guide that nobody runs is not to be trusted.
fn every_guide_is_followed() -> Result<()> {
    for entry in std::fs::read_dir(install::package_dir().join("../docs/guides"))? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let path = format!("docs/guides/{name}");
        let is_page = Path::new(&name).extension().is_some_and(|kind| kind == "md");
        ensure!(!is_page || GUIDES.contains(&path.as_str()), "{path} is not run by the tests");
    }
    Ok(())
}

/// A block of commands, and what they print if the guide says so.
#[derive(Debug)]
struct Step {
    line: usize,
    commands: String,
    printed: Option<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (number, line) in page.lines().enumerate() {
        let Some(kind) = line.strip_prefix("```") else {
            if let Some((_, _, text)) = &mut open {
                text.push_str(line);
                text.push('\n');
            }
            continue;
        };
        match open.take() {
            None => open = Some((number + 2, kind.trim().to_owned(), String::new())),
            Some((line, kind, commands)) if kind == "sh" => {
                steps.push(Step { line, commands, printed: None });
            }
            Some((_, kind, printed)) if kind == "text" => {
                if let Some(step) = steps.last_mut() {
                    step.printed.get_or_insert(printed);
                }
            }
            Some(_) => {}
        }
    }
    steps
}

fn follow(guide: &str) -> Result<()> {
    let page = std::fs::read_to_string(install::package_dir().join("..").join(guide))?;
    let server = Server::start(&[("auto.create.topics.enable", "false")])?;
    let steps = steps(&page);
    ensure!(!steps.is_empty(), "{guide} has no commands");
    let scratch = tempfile::Builder::new().prefix("guide-").tempdir_in(install::scratch()?)?;
    // One shell, since a reader has one: what a block sets, the next ones use.
    let mut script = String::new();
    for step in &steps {
        script += &format!("echo '{MARK}{}'\n{}", step.line, step.commands);
    }
    let said = run(&server, scratch.path(), &script).context(guide.to_owned())?;
    let parts: Vec<&str> = said.split(MARK).skip(1).collect();
    ensure!(parts.len() == steps.len(), "{guide}: not every block ran\n{said}");
    for (step, part) in steps.iter().zip(parts) {
        let said = part.split_once('\n').map_or("", |(_, said)| said);
        if let Some(printed) = &step.printed {
            let line = step.line;
            ensure!(
                fits(&lines(printed), &lines(said)),
                "{guide}:{line} should print\n{printed}\nand printed\n{said}"
            );
        }
    }
    Ok(())
}

/// Stands in front of what a block prints, and its line.
const MARK: &str = "==== the block at line ";

fn run(server: &Server, dir: &Path, commands: &str) -> Result<String> {
    let binary = server::binary()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = binary.parent().context("a program is in a directory")?.to_owned();
    let paths = std::iter::once(programs).chain(std::env::split_paths(&path));
    let native = server.native();
    let commands = commands
        .replace("http://127.0.0.1:8081", &native)
        .replace("127.0.0.1:9092", &server.bootstrap());
    let mut bash = Command::new("bash")
        .args(["-euo", "pipefail"])
        .current_dir(dir)
        .env("PATH", std::env::join_paths(paths)?)
        .env("BRAID_API", native)
        .env("GUIDES", install::package_dir().join("../docs/guides"))
        .env("HOME", dir)
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    bash.stdin.take().context("stdin is piped")?.write_all(commands.as_bytes())?;
    let output = bash.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "ended with {}\n{said}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        server.log_tail(20)
    );
    Ok(said)
}

/// Whether lines are what a guide says: `…` stands for anything in a line, and alone for any lines.
fn fits(expected: &[&str], said: &[&str]) -> bool {
    match expected.split_first() {
        None => said.is_empty(),
        Some((&"…", rest)) => (0..=said.len()).any(|skipped| fits(rest, &said[skipped..])),
        Some((line, rest)) => said
            .split_first()
            .is_some_and(|(first, left)| line_fits(line, first) && fits(rest, left)),
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.trim_end().lines().map(str::trim_end).collect()
}

fn line_fits(expected: &str, said: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = said.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}
