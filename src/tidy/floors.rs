//! Which module may use which. A module uses lower floors and itself; on one floor it uses another
//! only where [`SIDEWAYS`] says so. The table is also ARCHITECTURE.md's.

use super::Breach;
use super::source::Source;

/// The floor of each module of this package and of each crate of the workspace.
const FLOORS: &[(&str, u8)] = &[
    ("braid_base", 0),
    ("env", 0),
    ("model", 0),
    ("config", 0),
    ("golden", 0),
    ("loggers", 0),
    ("traffic", 0),
    ("braid_protocol", 1),
    ("store", 2),
    ("braid_raft", 2),
    ("partition", 3),
    ("replication", 3),
    ("group", 3),
    ("txn", 3),
    ("delivery", 3),
    ("timer", 3),
    ("half", 3),
    ("security", 3),
    ("quota", 3),
    ("api", 4),
    ("native", 4),
    ("reconcile", 4),
    ("server", 5),
    ("http", 5),
    ("rmq", 5),
    ("node", 6),
    ("cli", 6),
    ("main", 6),
    ("braid", 6),
    ("docs", 6),
];

/// Uses on one floor that are meant: (user, used).
const SIDEWAYS: &[(&str, &str)] = &[
    ("config", "env"),
    ("config", "model"),
    ("config", "braid_base"),
    ("config", "golden"),
    ("golden", "env"),
    ("traffic", "model"),
    ("replication", "partition"),
    ("group", "partition"),
    ("txn", "partition"),
    ("delivery", "partition"),
    ("timer", "partition"),
    ("half", "partition"),
    ("main", "node"),
    ("main", "cli"),
    ("main", "braid"),
    ("cli", "node"),
];

/// Crates that the member crates below the broker may name.
const MEMBERS: &[(&str, &[&str])] = &[
    ("src/base/", &[]),
    ("protocol/", &["braid_base", "braid_protocol"]),
    ("raft/", &["braid_base", "braid_raft"]),
    ("compat-tests/checker/", &["braid_checker"]),
];

const WHY: &str = "a module uses lower floors and itself; what must flow upward goes by a trait, a \
                   handle or a published image";

pub(super) fn check(source: &Source, all: &[Source]) -> Vec<Breach> {
    if !source.is_rust() {
        return Vec::new();
    }
    let breach =
        |line: usize, rule, what| Breach { path: source.path.clone(), line, rule, what, why: WHY };
    if let Some((_, allowed)) = MEMBERS.iter().find(|(dir, _)| source.path.starts_with(dir)) {
        let used = uses(source).filter(|(_, used)| used.starts_with("braid"));
        return used
            .filter(|(_, used)| !allowed.contains(&used.as_str()))
            .map(|(line, used)| breach(line, "member crate", format!("uses {used}")))
            .collect();
    }
    let Some(module) = module(&source.path) else { return Vec::new() };
    let Some(floor) = floor(module) else {
        let what = format!("module {module} has no floor: give it one in src/tidy/floors.rs");
        return vec![breach(1, "floors", what)];
    };
    let climbing = climbs(source, all).map(|(line, used)| (line, used.to_owned()));
    uses(source)
        .chain(climbing)
        .filter(|(_, used)| used != module)
        .filter_map(|(line, used)| Some((line, self::floor(&used)?, used)))
        .filter(|(_, used_floor, used)| {
            *used_floor > floor
                || *used_floor == floor && !SIDEWAYS.contains(&(module, used.as_str()))
        })
        .map(|(line, used_floor, used)| {
            breach(line, "floors", format!("{module} (F{floor}) uses {used} (F{used_floor})"))
        })
        .collect()
}

/// The top module that a file of this package belongs to; none for the root and for this test.
fn module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let first = rest.split('/').next()?.trim_end_matches(".rs");
    (!matches!(first, "lib" | "tidy")).then_some(first)
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// What each line names below `crate::`, and which of our crates.
fn uses(source: &Source) -> impl Iterator<Item = (usize, String)> {
    let lines = source.code.iter().enumerate();
    lines.flat_map(|(index, line)| {
        let below_crate = after(line, "crate::").flat_map(names);
        let crates = FLOORS.iter().map(|(name, _)| *name).filter(|name| name.starts_with("braid"));
        let crates = crates.filter(|name| after(line, &format!("{name}::")).next().is_some());
        below_crate
            .chain(crates.map(str::to_owned))
            .map(move |name| (index + 1, name))
            .collect::<Vec<_>>()
    })
}

/// Modules reached by climbing with `super::` out of the file's own top module.
fn climbs<'a>(
    source: &'a Source,
    all: &'a [Source],
) -> impl Iterator<Item = (usize, &'static str)> {
    let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = stem.split('/').count() - 1;
    let lines = source.code.iter().enumerate();
    lines.flat_map(move |(index, line)| {
        let reached = FLOORS.iter().filter(move |(name, _)| {
            let climb = format!("{}{name}", "super::".repeat(depth));
            // A tests module inside the file climbs one step more, to a sibling of that name.
            let sibling = format!("{stem}/{name}");
            let is_sibling = |other: &Source| other.path.starts_with(&sibling);
            after(line, &climb).next().is_some() && !all.iter().any(is_sibling)
        });
        reached.map(move |(name, _)| (index + 1, *name))
    })
}

/// What follows each whole-word occurrence of `path` in a line.
fn after<'a>(line: &'a str, path: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(path).filter_map(move |(at, _)| {
        let before = line[..at].chars().next_back();
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        whole.then(|| &line[at + path.len()..])
    })
}

/// The names at the front of a path's rest: `a::b` is a, `{a::b, c}` is a and c.
fn names(rest: &str) -> Vec<String> {
    let ident = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![ident(rest)] };
    let mut depth = 0;
    let mut names = vec![ident(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(ident(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
fn found(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(path, text);
    let breaches = check(&source, std::slice::from_ref(&source));
    breaches.into_iter().map(|breach| breach.what).collect()
}

#[test]
fn upward_and_sideways_uses_are_found() {
    let cases = [
        ("src/store/log.rs", "use crate::partition::Partition;", "store (F2) uses partition (F3)"),
        ("src/store/log.rs", "use braid_raft::Image;", "store (F2) uses braid_raft (F2)"),
        ("src/group/mod.rs", "use crate::{env, quota::Quota};", "group (F3) uses quota (F3)"),
        ("src/group.rs", "fn a(b: &crate::api::Context) {}", "group (F3) uses api (F4)"),
        ("src/api/fetch.rs", "use crate::server;", "api (F4) uses server (F5)"),
        ("src/api/fetch.rs", "use super::super::server::X;", "api (F4) uses server (F5)"),
        ("src/store/mod.rs", "use super::node::X;", "store (F2) uses node (F6)"),
        ("src/config/mod.rs", "use braid_protocol::X;", "config (F0) uses braid_protocol (F1)"),
        ("raft/src/a.rs", "use braid_protocol::X;", "uses braid_protocol"),
        ("src/base/env/mod.rs", "use braid_raft::X;", "uses braid_raft"),
        ("src/fresh.rs", "", "module fresh has no floor: give it one in src/tidy/floors.rs"),
    ];
    for (path, text, expected) in cases {
        assert_eq!(found(path, text), [expected], "{path}: {text}");
    }
}

#[test]
fn downward_uses_and_own_names_are_fine() {
    let cases = [
        ("src/server/mod.rs", "use crate::api::dispatch; use crate::{env::Env, model};"),
        (
            "src/group/task.rs",
            "use crate::partition::Partitions; use super::state; use crate::group::x;",
        ),
        ("src/store/log.rs", "// crate::api is told elsewhere\nlet a = \"crate::api\";"),
        ("src/store/log.rs", "pub(crate) fn a() {} use braid_protocol::records;"),
        (
            "src/store/mod.rs",
            "#[cfg(test)]\nmod tests {\n use super::*; use super::super::node2;\n}",
        ),
        ("src/node.rs", "use crate::{api, config, group, server, store};"),
        ("src/main.rs", "use braid::node::Node;"),
        ("src/base/env/mod.rs", "use crate::model;"),
        ("compat-tests/src/lib.rs", "use braid_protocol::X;"),
    ];
    for (path, text) in cases {
        assert_eq!(found(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn the_sideways_table_names_floors_that_exist() {
    for (user, used) in SIDEWAYS {
        assert_eq!(floor(user), floor(used), "{user} → {used} is not sideways");
    }
}
