//! Offsets committed by one client and read by every other that it meets, before and after the broker was killed.

use anyhow::{Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Input, Kind, Produce};
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;

const PARTITIONS: [i32; 3] = [0, 1, 2];

pub(crate) fn add(suite: &mut Suite) {
    suite.add("commits::survive_kill_9_and_are_read_by_all", survive);
}

fn clients() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| Capability::Commits.excuse(*kind).is_none())
}

fn group(kind: Kind) -> String {
    format!("commits.{kind}")
}

fn check(world: &World, server: &Server, topic: &str, greatest: i64) -> Result<()> {
    for reader in clients() {
        let client = reader.shared()?;
        for writer in clients().filter(|writer| writer.meets(reader)) {
            let mut found = client.committed(server, &group(writer), topic, &PARTITIONS)?;
            // librdkafka's Python binding sends the zero that ends its string.
            found
                .iter_mut()
                .for_each(|(_, metadata)| metadata.truncate(metadata.trim_end_matches('\0').len()));
            let mut wanted =
                [(7, String::new()), (greatest, format!("of {writer}")), (-1, String::new())];
            // Its own binding takes the last letter of what others wrote for such a zero.
            if reader == Kind::KafkaJavascript && wanted[1].1.len() > found[1].1.len() {
                wanted[1].1.pop();
            }
            ensure!(
                found == wanted,
                "{reader} finds {found:?} committed by {writer}, expected {wanted:?}"
            );
            world.shown(reader, Capability::Commits, 3);
        }
        let none = client.committed(server, "never-seen", topic, &PARTITIONS)?;
        ensure!(
            none.iter().all(|(offset, _)| *offset == -1),
            "{reader} finds {none:?} in a group never seen"
        );
    }
    Ok(())
}

fn survive(world: &World) -> Result<()> {
    let mut server = Server::start(&[])?;
    let topic = "commits";
    Kind::Java.shared()?.new_topic(&server, topic, 3, &[])?;
    // Something to commit: a member that finds no record at its offset may commit another one.
    let some = |i: i32| {
        let mut record = Record::new(topic, None, Some(b"value"));
        record.partition = i % 2;
        record
    };
    let records: Vec<Record> = (0..100).map(some).collect();
    Kind::Java.shared()?.produce_all(&server, &Produce::new(Input::Records(&records)))?;
    let mut greatest = 40;
    for round in 0..2 {
        greatest += 1;
        for writer in clients() {
            let metadata = format!("of {writer}");
            // Twice, so that the later one must win.
            let client = writer.shared()?;
            client.commit(&server, &group(writer), &[(topic, 0, 7, ""), (topic, 1, 3, "stale")])?;
            client.commit(&server, &group(writer), &[(topic, 1, greatest, &metadata)])?;
        }
        check(world, &server, topic, greatest)?;
        if round == 0 {
            server.kill()?;
        } else {
            server.stop()?;
        }
        server.restart()?;
        check(world, &server, topic, greatest)?;
    }
    Ok(())
}
