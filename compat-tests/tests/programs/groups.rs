//! kafka-consumer-groups and kafka-groups: a group seen from every side, moved to every place, and taken away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::{Input, Kind, Membership, Produce, until};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use braid_compat_tests::tools::{Said, run};

const TOOL: &str = "consumer.group.ConsumerGroupCommand";

/// Of the first record; each further one is a second later.
const BEGINNING_MS: i64 = 1_700_000_000_000;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("groups::with_members_are_described_and_left_in_peace", living);
    suite.add("groups::without_members_are_moved_everywhere_and_removed", moved);
}

/// A topic of two partitions with 50 records each: record *i* lies in partition *i* mod 2.
fn fill(server: &Server, topic: &str) -> Result<()> {
    let client = Kind::Java.shared()?;
    // Their times are long ago, and a slow run is not to lose them.
    client.new_topic(server, topic, 2, &[("retention.ms", "-1")])?;
    let one = |i: i32| {
        let mut record = Record::new(topic, None, Some(format!("value {i}").as_bytes()));
        record.partition = i % 2;
        record.timestamp = BEGINNING_MS + i64::from(i) * 1000;
        record
    };
    let records: Vec<Record> = (0..100).map(one).collect();
    client.produce_all(server, &Produce::new(Input::Records(&records)))?;
    Ok(())
}

fn living(world: &World) -> Result<()> {
    let server = world.server()?;
    let name = "tool.living";
    fill(server, name)?;
    let topics = [name];
    let mut member = Kind::Java.shared()?.join(server, &Membership::new(name, &topics))?;
    until(
        &mut [&mut member],
        Duration::from_secs(60),
        "all is read",
        |m| Ok(m[0].received >= 100),
    )?;
    let tool = |arguments: &[&str]| -> Result<Said> {
        run(server, TOOL, &[&["--group", name], arguments].concat(), "")
    };
    let said = tool(&["--describe"])?;
    said.has(&["CONSUMER-ID", "/127.0.0.1"])?;
    for partition in ["0", "1"] {
        let rows = said.rows();
        let row = rows.iter().find(|row| row.len() > 4 && row[..3] == [name, name, partition]);
        ensure!(row.with_context(|| format!("{said:?}"))?[4] == "50", "{said:?}");
    }
    tool(&["--describe", "--verbose"])?.has(&["LEADER-EPOCH"])?;
    tool(&["--describe", "--members"])?.has(&["#PARTITIONS", "/127.0.0.1"])?;
    tool(&["--describe", "--members", "--verbose"])?.has(&["tool.living:0,1"])?;
    tool(&["--describe", "--state"])?.has(&["range", "Stable", &server.bootstrap()])?;
    tool(&["--describe", "--state", "--verbose"])?.has(&["GROUP-EPOCH", "Stable"])?;
    run(server, TOOL, &["--list", "--state", "stable"], "")?.has(&[name, "Stable"])?;
    // These are told on stdout, and the tool ends with 0.
    tool(&["--delete"])?.has(&["GroupNotEmptyException"])?;
    tool(&["--reset-offsets", "--all-topics", "--to-earliest", "--execute"])?
        .has(&["is inactive, but the current state is Stable"])?;
    tool(&["--delete-offsets", "--topic", name])?.has(&["GroupSubscribedToTopicException"])?;
    member.leave()?;
    world.ran(Program::Groups, 10);
    Ok(())
}

/// The group's place in both partitions, as the tool describes it.
fn places(server: &Server, group: &str) -> Result<[String; 2]> {
    let said = run(server, TOOL, &["--describe", "--group", group], "")?;
    said.has(&["has no active members."])?;
    let rows = said.rows();
    let place = |partition: &str| -> Result<String> {
        let row = rows.iter().find(|row| row.len() > 5 && row[0] == group && row[2] == partition);
        Ok(row.with_context(|| format!("{said:?}"))?[3].to_owned())
    };
    Ok([place("0")?, place("1")?])
}

fn moved(world: &World) -> Result<()> {
    let server = world.server()?;
    let name = "tool.moved";
    fill(server, name)?;
    let file = install::scratch()?.join("reset.csv");
    let file = file.to_str().context("a path is text")?;
    let reset = |group: &str, arguments: &[&str]| -> Result<Said> {
        run(server, TOOL, &[&["--reset-offsets", "--group", group], arguments].concat(), "")
    };
    // A group that never was gets its offsets by being reset.
    reset(name, &["--topic", name, "--to-earliest", "--execute"])?;
    ensure!(places(server, name)? == ["0", "0"], "to-earliest");
    // Record 21 lies in partition 1 as its record 10, and the next of partition 0 is number 11.
    let forms: [(&[&str], [&str; 2]); 10] = [
        (&["--to-latest"], ["50", "50"]),
        (&["--to-offset", "7"], ["7", "7"]),
        (&["--to-current"], ["7", "7"]),
        (&["--shift-by", "-3"], ["4", "4"]),
        (&["--shift-by", "100"], ["50", "50"]),
        (&["--to-datetime", "2023-11-14T22:13:41.000Z"], ["11", "10"]),
        (&["--to-datetime", "2030-01-01T00:00:00.000Z"], ["50", "50"]),
        (&["--by-duration", "P10000D"], ["0", "0"]),
        (&["--by-duration", "PT1M"], ["50", "50"]),
        (&["--to-earliest"], ["0", "0"]),
    ];
    for (form, wanted) in forms {
        let said = reset(name, &[&["--topic", name, "--dry-run"], form].concat())?;
        let rows = said.rows();
        for (partition, offset) in ["0", "1"].into_iter().zip(wanted) {
            let row = [name, name, partition, offset];
            ensure!(rows.iter().any(|found| found[..] == row), "{form:?}: {said:?}");
        }
        reset(name, &[&["--all-topics", "--execute"], form].concat())?;
        ensure!(places(server, name)? == wanted, "{form:?}: {:?}", places(server, name)?);
    }
    reset(name, &["--all-topics", "--to-latest", "--dry-run"])?;
    ensure!(places(server, name)? == ["0", "0"], "a dry run moves nothing");
    reset(name, &["--topic", "tool.moved:1", "--to-offset", "9", "--execute"])?;
    ensure!(places(server, name)? == ["0", "9"], "one partition");

    let said = reset(name, &["--all-topics", "--to-current", "--dry-run", "--export"])?;
    said.has(&["tool.moved,0,0", "tool.moved,1,9"])?;
    std::fs::write(file, &said.out)?;
    reset(name, &["--all-topics", "--to-latest", "--execute"])?;
    reset(name, &["--from-file", file, "--execute"])?;
    ensure!(places(server, name)? == ["0", "9"], "from-file");

    run(server, TOOL, &["--list", "--type"], "")?.has(&[name, "Classic"])?;
    run(server, TOOL, &["--describe", "--state", "--group", name], "")?.has(&["Empty"])?;
    run(server, TOOL, &["--describe", "--state", "--all-groups"], "")?.has(&[name])?;
    run(
        server,
        TOOL,
        &["--reset-offsets", "--all-groups", "--all-topics", "--to-current", "--dry-run"],
        "",
    )?
    .has(&[name])?;
    run(server, "GroupsCommand", &["--list", "--group-type", "classic"], "")?.has(&[name])?;
    let said = run(server, "GroupsCommand", &["--list", "--share"], "")?;
    ensure!(!said.out.contains(name), "{said:?}");

    let delete = |what: &[&str]| -> Result<Said> {
        run(server, TOOL, &[&["--group", name], what].concat(), "")
    };
    delete(&["--delete-offsets", "--topic", "tool.moved:0"])?.has(&["Successful"])?;
    let said = run(server, TOOL, &["--describe", "--group", name], "")?;
    ensure!(said.rows().iter().filter(|row| row.first() == Some(&name)).count() == 1, "{said:?}");
    delete(&["--delete"])?.has(&["('tool.moved') was successful"])?;
    delete(&["--delete"])?.has(&["GroupIdNotFoundException: The group id does not exist."])?;
    delete(&["--describe"])?.has(&["GroupIdNotFoundException: Group tool.moved not found."])?;
    world.ran(Program::Groups, 2 * forms.len() + 14);
    Ok(())
}
