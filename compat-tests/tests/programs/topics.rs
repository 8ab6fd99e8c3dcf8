//! kafka-topics: what an operator does with topics, and what it says when it cannot be done.

use anyhow::{Context, Result, ensure};
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::tools::{Said, broker_id, refused, run};

pub(crate) fn add(suite: &mut Suite) {
    suite.add("topics::are_created_described_altered_and_deleted", topics);
    suite.add("topics::refusals_are_told_in_kafkas_words", refusals);
}

fn topics(world: &World) -> Result<()> {
    let server = world.server()?;
    let tool = |arguments: &[&str]| -> Result<Said> { run(server, "TopicCommand", arguments, "") };
    let create = ["--create", "--topic", "tool.topics", "--partitions", "3"];
    let with = ["--replication-factor", "1", "--config", "retention.ms=86400000"];
    tool(&[&create[..], &with].concat())?.has(&["Created topic tool.topics."])?;
    tool(&["--create", "--topic", "tool.topics", "--if-not-exists"])?;
    let id = broker_id(server)?;
    let twice = format!("{id},{id}");
    tool(&["--create", "--topic", "tool.assigned", "--replica-assignment", &twice])?;

    let said = tool(&["--describe", "--topic", "tool.topics"])?;
    said.has(&["PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=86400000"])?;
    let rows = said.rows();
    ensure!(rows.iter().filter(|row| row.contains(&"Leader:")).count() == 3, "{said:?}");
    ensure!(!said.out.contains("Leader: none"), "{said:?}");
    // One partition for each answer: the tool asks on where the last answer ended.
    let limited = ["--partition-size-limit-per-response", "1"];
    let paged = tool(&[&["--describe", "--topic", "tool.topics"][..], &limited].concat())?;
    ensure!(paged.out == said.out, "{paged:?}");

    for filter in [
        "--under-replicated-partitions",
        "--unavailable-partitions",
        "--under-min-isr-partitions",
        "--at-min-isr-partitions",
    ] {
        let said = tool(&["--describe", "--topic", "tool.topics", filter])?;
        // Whoever has one replica of one has all it needs.
        let at_minimum = filter == "--at-min-isr-partitions" && said.out.contains("Leader: ");
        ensure!(said.out.trim().is_empty() || at_minimum, "{filter}: {said:?}");
    }
    tool(&["--describe", "--topics-with-overrides"])?.has(&["Topic: tool.topics\t"])?;
    tool(&["--describe", "--topic", "tool.none", "--if-exists"])?;
    let named = said.out.split_once("TopicId: ").and_then(|(_, rest)| rest.split_once('\t'));
    let (topic_id, _) = named.with_context(|| format!("{said:?}"))?;
    let by_id = tool(&["--describe", "--topic-id", topic_id])?;
    by_id.has(&[&format!("Topic: tool.topics\tTopicId: {topic_id}\tPartitionCount: 3")])?;
    ensure!(by_id.rows().iter().filter(|row| row.contains(&"Leader:")).count() == 3, "{by_id:?}");

    tool(&["--alter", "--topic", "tool.topics", "--partitions", "5"])?;
    tool(&["--describe", "--topic", "tool.topics"])?.has(&["PartitionCount: 5"])?;
    tool(&["--list"])?.has(&["tool.topics\n", "tool.assigned\n"])?;
    tool(&["--delete", "--topic", "tool.topics"])?;
    tool(&["--delete", "--topic", "tool.none", "--if-exists"])?;
    let said = tool(&["--list", "--exclude-internal"])?;
    ensure!(!said.out.lines().any(|line| line == "tool.topics"), "{said:?}");
    ensure!(!said.out.contains("__consumer_offsets"), "{said:?}");
    world.ran(Program::Topics, 17);
    Ok(())
}

fn create<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--create", "--topic", "tool.refused"], more].concat()
}

fn refusals(world: &World) -> Result<()> {
    let server = world.server()?;
    run(server, "TopicCommand", &create(&["--partitions", "4"]), "")?;
    let wrong: [(Vec<&str>, &str); 10] = [
        (create(&[]), "Topic 'tool.refused' already exists."),
        (
            vec!["--create", "--topic", "bad name"],
            "Topic name is invalid: 'bad name' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'",
        ),
        (
            vec!["--create", "--topic", "tool.three", "--replication-factor", "3"],
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because only \
             1 broker(s) are registered",
        ),
        (
            vec!["--create", "--topic", "tool.config", "--config", "nope=1"],
            "Unknown topic config name: nope",
        ),
        (
            vec!["--alter", "--topic", "tool.refused", "--partitions", "2"],
            "The topic tool.refused currently has 4 partition(s); 2 would not be an increase.",
        ),
        (
            vec!["--alter", "--topic", "tool.none", "--partitions", "2"],
            "does not exist as expected",
        ),
        (
            vec!["--describe", "--topic", "tool.none"],
            "Topic 'tool.none' does not exist as expected",
        ),
        (
            vec!["--describe", "--topic-id", "AAAAAAAAAAAAAAAAAAAABA"],
            "TopicId 'AAAAAAAAAAAAAAAAAAAABA' does not exist as expected",
        ),
        // The tool deletes by name alone.
        (
            vec!["--delete", "--topic-id", "AAAAAAAAAAAAAAAAAAAABA"],
            "Missing required argument \"[topic]\"",
        ),
        (vec!["--delete", "--topic", "tool.none"], "Topic 'tool.none' does not exist as expected"),
    ];
    for (arguments, sentence) in &wrong {
        refused(server, "TopicCommand", arguments, &[sentence])?;
    }
    world.ran(Program::Topics, wrong.len());
    Ok(())
}
