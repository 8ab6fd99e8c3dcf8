//! Scenarios: testdata/*.txt hold commands and, indented below each, everything that happened.
//! `UPDATE=1 cargo test` writes what happens now; read the difference before you commit it.
//!
//! ```text
//! shard [min=2] [out]         begins anew: A leads, B and C follow, C outside of the set if `out`
//! learn A                     it sees the controller's image
//! append A    sync A          a record of a client; what it has goes to disk
//! ask B A     answer A B      the question, or the answer, under way arrives
//! round B A                   B asks A until it has everything on disk, and A knows
//! agree 0                     the controller hears a proposal
//! lag A       lapse A         time passes: followers may lag; the lease is over
//! crash A [loses]   wipe A    start A    fence A    hear A
//! unclean                     an operator lets anybody be elected
//! show
//! ```

use std::fmt::Write as _;

use super::show;
use super::world::{Action, Shard, World, broker};
use crate::env::Fs as _;
use crate::env::real::RealFs;
use crate::golden;
use crate::replication::Unclean;

const DIR: &str = "src/replication/testdata";

#[test]
fn scenarios_happen_as_they_are_written() {
    let files = RealFs.list(&golden::path(DIR)).unwrap();
    assert!(files.len() >= 6, "the scenarios are gone");
    for file in files {
        let path = format!("{DIR}/{}", file.name);
        golden::check(&path, &run(&golden::read(&path)));
    }
}

fn run(golden: &str) -> String {
    let mut shard = shard(&[]);
    let mut world = World::warm(&shard);
    let mut out = String::new();
    for line in golden.lines().filter(|line| !line.starts_with("    ")) {
        writeln!(out, "{line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [command, rest @ ..] = words.as_slice() else { continue };
        if command.starts_with('#') {
            continue;
        }
        if *command == "shard" {
            shard = self::shard(rest);
            world = World::warm(&shard);
        }
        let before = world.controller.clone();
        world.told = Some(Vec::new());
        obey(&mut world, &shard, command, rest);
        let mut told = world.told.take().unwrap_or_default();
        if world.controller != before || *command == "shard" || *command == "show" {
            told.push(show::controller(&world.controller));
        }
        told.extend(world.wrong.map(|wrong| format!("WRONG: {wrong}")));
        if !world.electable_hold_all() {
            told.push("WRONG: somebody who may be elected lacks what was committed".to_owned());
        }
        for line in told {
            writeln!(out, "    {line}").unwrap();
        }
    }
    out
}

fn shard(words: &[&str]) -> Shard {
    Shard {
        in_sync_min: if words.contains(&"min=2") { 2 } else { 1 },
        one_is_out: words.contains(&"out"),
        epochs: 9,
        records: 99,
        faults: 99,
        only_crashes: false,
        lags: 99,
        leader_syncs_at_once: false,
        answers_at_once: false,
        broken: None,
    }
}

fn obey(world: &mut World, shard: &Shard, command: &str, words: &[&str]) {
    let node = |at: usize| match words.get(at) {
        Some(&"A") => 0,
        Some(&"B") => 1,
        Some(&"C") => 2,
        other => panic!("{command}: no such broker: {other:?}"),
    };
    let action = match command {
        "shard" => return,
        "show" => return show_nodes(world),
        "round" => {
            let (follower, leader) = (node(0), node(1));
            for _ in 0..3 {
                world.act(shard, Action::Ask(follower, leader));
                world.act(shard, Action::Answer(leader, follower));
                world.act(shard, Action::Sync(follower));
            }
            return;
        }
        "unclean" => return world.elect(Unclean::Asked),
        "learn" => Action::Learn(node(0)),
        "append" => Action::Append(node(0)),
        "sync" => Action::Sync(node(0)),
        "ask" => Action::Ask(node(0), node(1)),
        "answer" => Action::Answer(node(0), node(1)),
        "agree" => Action::Propose(words[0].parse().unwrap()),
        "lag" => Action::Lag(node(0)),
        "lapse" => Action::Lapse(node(0)),
        "crash" => Action::Crash { node: node(0), loses: words.contains(&"loses") },
        "wipe" => Action::Wipe(node(0)),
        "start" => Action::Start(node(0)),
        "fence" => Action::Fence(node(0)),
        "hear" => Action::Hear(node(0)),
        other => panic!("no such command: {other}"),
    };
    world.act(shard, action);
}

fn show_nodes(world: &mut World) {
    let lines: Vec<String> = (0..3u8)
        .map(|id| {
            let node = &world.nodes[usize::from(id)];
            let state = if node.up { world.role_of(id) } else { "down" };
            let name = show::name(broker(id));
            format!("{name}: {state}, log {:?}, durable {}", node.log, node.durable)
        })
        .collect();
    if let Some(told) = &mut world.told {
        told.extend(lines);
    }
}
