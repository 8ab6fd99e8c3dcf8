//! Kafka's console tools: what an operator types first.

use anyhow::{Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::Kind;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::tools::run;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("console::an_operator_makes_fills_reads_and_removes_a_topic", operator);
    suite.add("console::an_operator_sees_and_moves_a_group", group);
}

fn operator(world: &World) -> Result<()> {
    let server = world.server()?;
    let topics = |arguments: &[&str]| run(server, "TopicCommand", arguments, "");
    let said = topics(&[
        "--create",
        "--topic",
        "console",
        "--partitions",
        "3",
        "--replication-factor",
        "1",
    ])?;
    ensure!(said.contains("Created topic console."), "{said}");
    let said = topics(&["--describe", "--topic", "console"])?;
    ensure!(said.contains("PartitionCount: 3") && said.contains("ReplicationFactor: 1"), "{said}");
    ensure!(said.matches("Leader: ").count() == 3 && !said.contains("Leader: none"), "{said}");

    let lines: String = (0..100).map(|i| format!("key {}:line {i}\n", i % 7)).collect();
    let keys = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"];
    run(server, "ConsoleProducer", &[&["--topic", "console"], keys.as_slice()].concat(), &lines)?;
    let read = [
        "--topic",
        "console",
        "--from-beginning",
        "--max-messages",
        "100",
        "--timeout-ms",
        "30000",
    ];
    let print =
        ["--formatter-property", "print.key=true", "--formatter-property", "key.separator=:"];
    let said = run(server, "consumer.ConsoleConsumer", &[read.as_slice(), &print].concat(), "")?;
    let mut found: Vec<&str> = said.lines().collect();
    let mut wanted: Vec<&str> = lines.lines().collect();
    found.sort_unstable();
    wanted.sort_unstable();
    ensure!(found == wanted, "{said}");

    let said = run(server, "GetOffsetShell", &["--topic", "console"], "")?;
    let ends: Vec<i64> = said
        .lines()
        .filter_map(|line| line.strip_prefix("console:")?.split_once(':')?.1.parse().ok())
        .collect();
    ensure!(ends.len() == 3 && ends.iter().sum::<i64>() == 100, "{said}");
    topics(&["--delete", "--topic", "console"])?;
    let said = topics(&["--list"])?;
    ensure!(!said.lines().any(|line| line == "console"), "{said}");
    world.shown(Kind::Java, Capability::ConsoleTools, 7);
    Ok(())
}

/// A group read half of a topic and left: it is listed, described, set back and removed.
fn group(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "console-group";
    Kind::Java.shared()?.new_topic(server, topic, 1, &[])?;
    let lines: String = (0..100).map(|i| format!("line {i}\n")).collect();
    run(server, "ConsoleProducer", &["--topic", topic], &lines)?;
    let read = [
        "--topic",
        topic,
        "--group",
        topic,
        "--from-beginning",
        "--max-messages",
        "40",
        "--timeout-ms",
        "30000",
    ];
    let said = run(server, "consumer.ConsoleConsumer", &read, "")?;
    ensure!(said.lines().eq(lines.lines().take(40)), "{said}");

    let groups =
        |arguments: &[&str]| run(server, "consumer.group.ConsumerGroupCommand", arguments, "");
    let said = groups(&["--list"])?;
    ensure!(said.lines().any(|line| line == topic), "{said}");
    // Columns: group, topic, partition, current offset, end, lag, and three of the member, which is gone.
    let described = |said: &str| -> Option<Vec<String>> {
        let row = said.lines().find(|line| line.split_whitespace().take(2).eq([topic, topic]))?;
        Some(row.split_whitespace().skip(2).take(4).map(str::to_owned).collect())
    };
    let said = groups(&["--describe", "--group", topic])?;
    ensure!(described(&said).is_some_and(|row| row == ["0", "40", "100", "60"]), "{said}");
    let said = groups(&["--describe", "--group", topic, "--state"])?;
    ensure!(said.contains("Empty"), "{said}");
    groups(&[
        "--reset-offsets",
        "--group",
        topic,
        "--topic",
        topic,
        "--to-offset",
        "7",
        "--execute",
    ])?;
    let said = groups(&["--describe", "--group", topic])?;
    ensure!(described(&said).is_some_and(|row| row == ["0", "7", "100", "93"]), "{said}");
    groups(&["--delete", "--group", topic])?;
    let said = groups(&["--list"])?;
    ensure!(!said.lines().any(|line| line == topic), "{said}");
    world.shown(Kind::Java, Capability::ConsoleTools, 6);
    Ok(())
}
