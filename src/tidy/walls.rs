//! Which words may stand where, one row each. A row's `fires` is a line that must break it and
//! `passes` one that must not: both are tried, so no row can go blind unseen.
//!
//! Words that no tracked file may hold, this one included, are written with a `|` inside.

use super::Breach;
use super::source::Source;

/// Which lines a row looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Rust code: no comments, no strings.
    Code,
    /// Rust code outside tests.
    ProductCode,
    /// Rust code of tests, in files that do not pause tokio's clock.
    TestCode,
    /// Every line of every text file.
    Text,
}

/// What a row looks for in a line.
#[derive(Debug, Clone, Copy)]
enum Find {
    /// Any of these, as whole words.
    Words(&'static [&'static str]),
    /// Any of these, anywhere, once `|` is taken out.
    Masked(&'static [&'static str]),
    /// Something called version compared with a number, or matched.
    VersionCompared,
    /// `tokio::` of anything but `sync`.
    TokioRuntime,
}

struct Row {
    rule: &'static str,
    look: Look,
    find: Find,
    /// Path prefixes that the row looks at; empty is everywhere.
    only_in: &'static [&'static str],
    /// Path prefixes where the words may stand.
    allowed_in: &'static [&'static str],
    why: &'static str,
    fires: &'static str,
    passes: &'static str,
}

const ENV: &str = "src/base/env/";
const OUTSIDE_BROKER: [&str; 2] = ["compat-tests/", "benches/"];

const ROWS: &[Row] = &[
    Row {
        rule: "kafka structs",
        look: Look::Code,
        find: Find::Words(&["kafka_protocol", "braid_protocol::messages"]),
        only_in: &[],
        // The tests of the node speak to it as clients do.
        allowed_in: &[
            "protocol/",
            "src/api/",
            "src/server/",
            "src/node/tests/",
            "compat-tests/",
            "benches/",
        ],
        why: "the domain speaks its own small structs, so that a second wire needs no third language",
        fires: "use braid_protocol::messages::FetchRequest;",
        passes: "use braid_protocol::records::BatchHeader;",
    },
    Row {
        rule: "openraft",
        look: Look::Code,
        find: Find::Words(&["openraft"]),
        only_in: &[],
        allowed_in: &["raft/"],
        why: "no openraft type leaves the crate, so that it can be replaced",
        fires: "let raft = openraft::Raft::new();",
        passes: "let openrafting = 1;",
    },
    Row {
        rule: "unsafe",
        look: Look::ProductCode,
        find: Find::Words(&["unsafe", "memmap2"]),
        only_in: &[],
        allowed_in: &["src/base/env/real/map.rs", "src/store/chunk.rs"],
        why: "two files keep the promises that make shared memory sound, and two are read with care",
        fires: "let map = unsafe { map() };",
        passes: "#![deny(unsafe_code)]",
    },
    Row {
        rule: "real time",
        look: Look::Code,
        find: Find::Words(&["SystemTime::now", "std::time::Instant", "thread::sleep"]),
        only_in: &[],
        allowed_in: &[ENV, OUTSIDE_BROKER[0], OUTSIDE_BROKER[1]],
        why: "time comes from env::Clock, so that a test decides what time it is",
        fires: "use std::time::Instant;",
        passes: "use tokio::time::Instant;",
    },
    Row {
        rule: "machine",
        look: Look::ProductCode,
        find: Find::Words(&[
            "std::fs",
            "tokio::fs",
            "tokio::net",
            "tokio::process",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "rand",
            "getrandom",
            "tokio::spawn",
            "tokio::task::spawn",
            "spawn_blocking",
            "std::thread::spawn",
        ]),
        only_in: &[],
        allowed_in: &[ENV],
        why: "files, sockets, chance, tasks and threads come from env::Env, so that the simulator \
              stands in for all of them",
        fires: "let id: u64 = rand::random();",
        passes: "env.spawner.critical(name, task); let operand = 1;",
    },
    Row {
        rule: "lint exceptions",
        look: Look::ProductCode,
        find: Find::Words(&["clippy::disallowed_methods", "clippy::disallowed_types"]),
        only_in: &[],
        allowed_in: &[ENV, "src/main.rs", OUTSIDE_BROKER[0], OUTSIDE_BROKER[1]],
        why: "the seam is where the banned calls are made; elsewhere an exception is a hole in it",
        fires: "#[expect(clippy::disallowed_methods, reason = \"\")]",
        passes: "#[expect(clippy::cast_sign_loss, reason = \"\")]",
    },
    Row {
        rule: "synchronous floors",
        look: Look::ProductCode,
        find: Find::TokioRuntime,
        only_in: &["src/store/", "src/config", "protocol/src/"],
        allowed_in: &[],
        why: "these run without a runtime, inline in the simulator; `tokio::sync` alone needs none",
        fires: "tokio::time::sleep(pause).await;",
        passes: "use tokio::sync::watch;",
    },
    Row {
        rule: "error codes",
        look: Look::ProductCode,
        find: Find::Words(&["ErrorCode", "ResponseError"]),
        only_in: &[],
        allowed_in: &["protocol/", "src/api/"],
        why: "an error becomes a Kafka code in one place; below it is an enum that says what happened",
        fires: "Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)",
        passes: "Err(AppendError::Fenced)",
    },
    Row {
        rule: "anyhow",
        look: Look::ProductCode,
        find: Find::Words(&["anyhow"]),
        only_in: &[],
        allowed_in: &["src/main.rs"],
        why: "below main an error is matched, not printed: one enum per operation",
        fires: "fn open() -> anyhow::Result<()> {",
        passes: "fn open() -> Result<(), OpenError> {",
    },
    Row {
        rule: "api versions",
        look: Look::ProductCode,
        find: Find::VersionCompared,
        only_in: &["src/api/", "src/server/", "src/group", "src/partition", "src/reconcile.rs"],
        // Kafka's stored group records carry versions of their own.
        allowed_in: &["src/group/record/"],
        why: "protocol/ names what a version can do (feature.rs) and makes answers legal (fit.rs)",
        fires: "if header.api_version >= 12 {",
        passes: "if feature::topic_ids(header.api_version) { version += 1; }",
    },
    Row {
        rule: "ignored tests",
        look: Look::Code,
        find: Find::Words(&["#[ignore"]),
        only_in: &[],
        allowed_in: &[],
        why: "a test that does not run proves nothing",
        fires: "#[ignore]",
        passes: "#[test]",
    },
    Row {
        rule: "sleeping tests",
        look: Look::TestCode,
        find: Find::Words(&["sleep("]),
        only_in: &[],
        // A load that is paced has to wait for its time.
        allowed_in: &["benches/"],
        why: "wait for an event, hand the time in, or pause tokio's clock (start_paused)",
        fires: "tokio::time::sleep(pause).await;",
        passes: "listener.accept().await;",
    },
    Row {
        rule: "unfinished",
        look: Look::Code,
        find: Find::Words(&["todo!", "unimplemented!", "dbg!"]),
        only_in: &[],
        allowed_in: &[],
        why: "what is on main is finished",
        fires: "None => todo!(),",
        passes: "None => unreachable!(),",
    },
    Row {
        rule: "notes to self",
        look: Look::Text,
        find: Find::Masked(&["TO|DO", "FIX|ME", "X|XX:"]),
        only_in: &["src/", "protocol/src/", "raft/src/", "compat-tests/src/", "benches/"],
        allowed_in: &["src/tidy/"],
        why: "an open end is an issue, not a comment",
        fires: "// TO|DO later",
        passes: "// do it later",
    },
    Row {
        rule: "machine paths",
        look: Look::Text,
        find: Find::Masked(&["/wo|rk/", "/ro|ot/", "/ho|me/"]),
        only_in: &[],
        allowed_in: &[],
        why: "the tree must build and read the same on any machine",
        fires: "cd /ro|ot/.cargo",
        passes: "cd compat-tests/clients",
    },
    Row {
        rule: "registry hosts",
        look: Look::Text,
        find: Find::Masked(&[
            "index.crates|.io",
            "static.crates|.io",
            "//crates|.io",
            "registry.npm|js.org",
            "registry.yarn|pkg.com",
            "pypi|.org",
            "files.python|hosted.org",
            "repo1.mav|en.org",
            "repo.mav|en.apache.org",
            "proxy.gol|ang.org",
            "sum.gol|ang.org",
            "deb.deb|ian.org",
            "registry-1.dock|er.io",
        ]),
        only_in: &[],
        allowed_in: &[],
        why: "which mirror serves a package is the machine's configuration, not the tree's",
        fires: "\"resolved\": \"https://registry.npm|js.org/kafkajs\"",
        passes: "\"kafkajs\": \"2.2.4\"",
    },
    Row {
        rule: "dependencies",
        look: Look::Text,
        find: Find::Masked(&[
            "\"openssl|-sys\"",
            "\"aws-lc|-sys\"",
            "\"rdkafka|-sys\"",
            "\"librocksdb|-sys\"",
            "\"link-cplus|plus\"",
            "\"git+|http",
        ]),
        only_in: &["Cargo.lock"],
        allowed_in: &[],
        why: "the tree builds with a Rust toolchain and a C compiler, from published crates alone",
        fires: "name = \"openssl-sys\"",
        passes: "name = \"ring\"",
    },
];

/// Longest file, in lines.
const LINES_MAX: usize = 1000;
/// Longest decision record, in lines: one page.
const ADR_LINES_MAX: usize = 80;
/// Extensions of files that people write and read.
const WRITTEN: [&str; 6] = [".rs", ".md", ".toml", ".py", ".js", ".go"];

pub(super) fn check(source: &Source) -> Vec<Breach> {
    let mut breaches: Vec<Breach> = ROWS.iter().flat_map(|row| row.check(source)).collect();
    breaches.extend(check_length(source));
    breaches
}

fn check_length(source: &Source) -> Option<Breach> {
    let is_adr = source.path.starts_with("docs/adr/");
    let is_written = WRITTEN.iter().any(|extension| source.path.ends_with(extension));
    let max = if is_adr { ADR_LINES_MAX } else { LINES_MAX };
    (is_written && source.lines.len() > max).then(|| Breach {
        path: source.path.clone(),
        line: max,
        rule: "length",
        what: format!("{} lines, more than {max}", source.lines.len()),
        why: "a file is about one thing, a decision record fits a page",
    })
}

impl Row {
    fn check(&self, source: &Source) -> Vec<Breach> {
        let starts = |places: &[&str]| places.iter().any(|place| source.path.starts_with(place));
        if !self.only_in.is_empty() && !starts(self.only_in) || starts(self.allowed_in) {
            return Vec::new();
        }
        let lines = if self.look == Look::Text { &source.lines } else { &source.code };
        let looked_at = |index: usize| match self.look {
            Look::Code | Look::Text => true,
            Look::ProductCode => !source.is_test(index),
            Look::TestCode => source.is_test(index) && !pauses_time(source),
        };
        let hits = lines
            .iter()
            .enumerate()
            .filter(|(index, line)| looked_at(*index) && self.find.hits(line));
        hits.map(|(index, line)| Breach {
            path: source.path.clone(),
            line: index + 1,
            rule: self.rule,
            what: line.trim().chars().take(90).collect(),
            why: self.why,
        })
        .collect()
    }
}

fn pauses_time(source: &Source) -> bool {
    source.code.iter().any(|line| line.contains("start_paused = true"))
}

impl Find {
    fn hits(self, line: &str) -> bool {
        match self {
            Self::Words(words) => {
                words.iter().any(|word| has_word(line, word) || imports_in_group(line, word))
            }
            Self::Masked(words) => words.iter().any(|word| has_masked(line, word)),
            Self::VersionCompared => compares_version(line),
            Self::TokioRuntime => {
                line.match_indices("tokio::").any(|(at, _)| !line[at + 7..].starts_with("sync"))
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let joined = |outside: Option<char>, inside: Option<char>| {
            outside.is_some_and(is_word) && inside.is_some_and(is_word)
        };
        !joined(before.chars().next_back(), word.chars().next())
            && !joined(after.chars().next(), word.chars().next_back())
    })
}

fn has_masked(line: &str, masked: &str) -> bool {
    line.contains(&unmasked(masked))
}

/// Whether `a::b` stands as `a::{.., b}`.
fn imports_in_group(line: &str, path: &str) -> bool {
    let Some((parent, last)) = path.rsplit_once("::") else { return false };
    let opened = format!("{parent}::{{");
    let group = line.split_once(&opened).map_or("", |(_, group)| group);
    has_word(group.split('}').next().unwrap_or(""), last)
}

fn unmasked(word: &str) -> String {
    word.replace('|', "")
}

/// Whether a name that ends in `version` meets a comparison and a digit, or is matched.
fn compares_version(line: &str) -> bool {
    const COMPARISONS: [&str; 6] = ["<=", ">=", "==", "!=", "<", ">"];
    let starts_number = |text: &str| text.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let names = line
        .match_indices("version")
        .filter(|(at, word)| !line[at + word.len()..].starts_with(is_word));
    names.into_iter().any(|(at, word)| {
        let after = line[at + word.len()..].trim_start_matches(['(', ')', '.', '0', ' ']);
        let compared =
            COMPARISONS.iter().filter_map(|op| after.strip_prefix(op)).any(starts_number);
        let name = line[..at].trim_end_matches(|c: char| is_word(c) || c == '.' || c == '&');
        let compares = COMPARISONS
            .iter()
            .filter_map(|op| name.trim_end().strip_suffix(op))
            .any(|before| before.trim_end().ends_with(|c: char| c.is_ascii_digit()));
        let matched = name.trim_end().ends_with("match") && after.starts_with('{');
        let contained = name.trim_end().ends_with(".contains(");
        compared || compares || matched || contained
    })
}

#[cfg(test)]
fn broken(path: &str, text: &str) -> Vec<&'static str> {
    check(&Source::new(path, text)).into_iter().map(|breach| breach.rule).collect()
}

#[test]
fn every_row_fires_on_its_example_and_passes_its_counter_example() {
    for row in ROWS {
        let dir = row.only_in.first().copied().unwrap_or("src/delivery/").trim_end_matches('/');
        let name = if row.look == Look::TestCode { "tests.rs" } else { "x.rs" };
        let path = format!("{dir}/{name}");
        let fires = unmasked(row.fires);
        assert!(broken(&path, &fires).contains(&row.rule), "{} does not fire", row.rule);
        assert_eq!(broken(&path, row.passes), [""; 0], "{} fires wrongly", row.rule);
        for allowed in row.allowed_in {
            let name = if allowed.ends_with('/') { "x.rs" } else { "" };
            let path = format!("{allowed}{name}");
            assert!(!broken(&path, &fires).contains(&row.rule), "{} in {path}", row.rule);
        }
    }
}

#[test]
fn versions_compared_with_numbers_are_seen_in_every_shape() {
    let compared = [
        "if version < 4 {",
        "self.api_version() == 0",
        "version.0 >= 12",
        "if 3 <= request.version {",
        "match header.api_version {",
        "(0..=3).contains(&version)",
    ];
    for line in compared {
        assert!(compares_version(line), "{line}");
    }
    for line in ["versions > 3", "version == other", "let version = 3;", "conversion(3) > 2"] {
        assert!(!compares_version(line), "{line}");
    }
}

#[test]
fn grouped_imports_are_seen() {
    assert_eq!(broken("src/x.rs", "use std::time::{Duration, Instant};"), ["real time"]);
    assert_eq!(broken("src/x.rs", "use std::{fs, io};"), ["machine"]);
    assert_eq!(broken("src/x.rs", "use std::{fmt, io}; use crate::env::fs;"), [""; 0]);
}

#[test]
fn tests_are_spared_only_where_a_row_says_so() {
    let in_tests = |line: &str| format!("#[cfg(test)]\nmod tests {{\n{line}\n}}\n");
    let test_of = |line: &str| broken("src/store/x.rs", &in_tests(line));
    assert_eq!(test_of("std::fs::read(path);"), [""; 0]);
    assert_eq!(test_of("SystemTime::now();"), ["real time"]);
    assert_eq!(test_of("thread::sleep(second);"), ["real time", "sleeping tests"]);
    let paused = in_tests("#[tokio::test(start_paused = true)]\nsleep(second).await;");
    assert_eq!(broken("src/store/x.rs", &paused), [""; 0]);
}

#[test]
fn long_files_are_seen() {
    let lines = |count: usize| "a\n".repeat(count);
    assert_eq!(broken("src/x.rs", &lines(LINES_MAX)), [""; 0]);
    assert_eq!(broken("src/x.rs", &lines(LINES_MAX + 1)), ["length"]);
    assert_eq!(broken("docs/adr/0001.md", &lines(ADR_LINES_MAX + 1)), ["length"]);
    assert_eq!(broken("docs/formats.md", &lines(ADR_LINES_MAX + 1)), [""; 0]);
    assert_eq!(broken("Cargo.lock", &lines(LINES_MAX + 1)), [""; 0]);
}
