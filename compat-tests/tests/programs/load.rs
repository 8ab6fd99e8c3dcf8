//! The tools that measure and check themselves: performance tests and verifiable clients.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::tools::{run, run_plain};
use serde_json::Value;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("load::all_of_it_arrives", load);
    suite.add("load::verifiable_clients_agree", verifiable);
    suite.add("load::the_transactional_copier_copies_once", copier);
    suite.add("load::the_compatibility_test_finds_every_feature", compatibility);
}

fn load(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.load";
    run(server, "TopicCommand", &["--create", "--topic", topic, "--partitions", "2"], "")?;
    let write =
        ["--topic", topic, "--num-records", "20000", "--record-size", "200", "--throughput", "-1"];
    let said = run(
        server,
        "ProducerPerformance",
        &[&write[..], &["--command-property", "acks=all"]].concat(),
        "",
    )?;
    said.has(&["20000 records sent, ", "ms 99.9th."])?;
    let read = ["--topic", topic, "--num-records", "20000", "--timeout", "30000"];
    let said = run(server, "ConsumerPerformance", &read, "")?;
    let numbers = said.rows();
    ensure!(numbers.last().is_some_and(|row| row.contains(&"20000,")), "{said:?}");
    let there_and_back =
        ["--topic", "tool.latency", "--num-records", "100", "--producer-acks", "all"];
    let said = run(
        server,
        "EndToEndLatency",
        &[&there_and_back[..], &["--record-size", "100"]].concat(),
        "",
    )?;
    said.has(&["Avg latency: ", "Percentiles: 50th = "])?;
    world.ran(Program::Load, 3);
    Ok(())
}

/// What every line says that is an event of this name.
fn events(out: &str, name: &str) -> Vec<Value> {
    let lines = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|event| event["name"] == name).collect()
}

fn verifiable(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.verifiable";
    run(server, "TopicCommand", &["--create", "--topic", topic, "--partitions", "3"], "")?;
    let write = ["--topic", topic, "--max-messages", "500", "--acks", "-1", "--value-prefix", "7"];
    let said = run(server, "VerifiableProducer", &write, "")?;
    let place = |event: &Value| (event["partition"].as_i64(), event["offset"].as_i64());
    let acked: BTreeSet<_> = events(&said.out, "producer_send_success").iter().map(place).collect();
    ensure!(acked.len() == 500, "{} of 500 were acknowledged", acked.len());
    for assignor in ["RangeAssignor", "CooperativeStickyAssignor"] {
        let class = format!("org.apache.kafka.clients.consumer.{assignor}");
        let group = format!("tool.verifiable.{assignor}");
        let read = ["--topic", topic, "--group-id", &group, "--max-messages", "500", "--verbose"];
        let how = ["--assignment-strategy", &class, "--reset-policy", "earliest"];
        let said = run(server, "VerifiableConsumer", &[&read[..], &how].concat(), "")?;
        let read: BTreeSet<_> = events(&said.out, "record_data").iter().map(place).collect();
        ensure!(
            read == acked,
            "{assignor}: {} were acknowledged, {} read",
            acked.len(),
            read.len()
        );
        let committed = events(&said.out, "offsets_committed");
        ensure!(committed.last().is_some_and(|event| event["success"] == true), "{said:?}");
    }
    world.ran(Program::Load, 3);
    Ok(())
}

/// What Kafka's system tests copy with, aborting at random what it then copies again: one run for each partition.
fn copier(world: &World) -> Result<()> {
    const MESSAGES: usize = 600;
    let server = world.server()?;
    let (from, to) = ("tool.copied", "tool.copies");
    for topic in [from, to] {
        run(server, "TopicCommand", &["--create", "--topic", topic, "--partitions", "2"], "")?;
    }
    let count = MESSAGES.to_string();
    let write = ["--topic", from, "--max-messages", &count, "--repeating-keys", "50"];
    run(server, "VerifiableProducer", &write, "")?;
    let told = run(server, "GetOffsetShell", &["--topic", from], "")?;
    for (partition, line) in told.out.lines().enumerate() {
        let has = line.rsplit(':').next().unwrap_or_default();
        let bootstrap = server.bootstrap();
        let number = partition.to_string();
        let what = ["--broker-list", &bootstrap, "--input-topic", from, "--output-topic", to];
        let which = ["--input-partition", &number, "--max-messages", has];
        let who = ["--consumer-group", "tool.copier", "--transactional-id", &number];
        let how = ["--transaction-size", "50", "--enable-random-aborts", "--use-group-metadata"];
        let arguments = [&what[..], &which, &who, &how].concat();
        let said = run_plain("TransactionalMessageCopier", &arguments, "")?;
        ensure!(said.status == 0, "{said:?}");
        said.has(&["\"ShutdownComplete\"", "\"remaining\":0"])?;
    }
    let values = |topic: &str| -> Result<Vec<String>> {
        let read = ["--topic", topic, "--from-beginning", "--max-messages", &count];
        let how = ["--isolation-level", "read_committed", "--timeout-ms", "30000"];
        let said = run(server, "consumer.ConsoleConsumer", &[&read[..], &how].concat(), "")?;
        let mut values: Vec<String> = said.out.lines().map(str::to_owned).collect();
        values.sort_unstable();
        Ok(values)
    };
    let (originals, copies) = (values(from)?, values(to)?);
    ensure!(originals.len() == MESSAGES && copies == originals, "{} copies", copies.len());
    world.ran(Program::Load, 2);
    Ok(())
}

/// What Kafka's system tests hold old and new brokers against.
fn compatibility(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.compatibility";
    run(server, "TopicCommand", &["--create", "--topic", topic, "--partitions", "1"], "")?;
    let features = [
        ("--offsets-for-times-supported", "true"),
        ("--cluster-id-supported", "true"),
        // Of brokers before KIP-74, which did not return a record larger than the client asked for.
        ("--expect-record-too-large-exception", "false"),
        ("--create-topics-supported", "true"),
        ("--describe-acls-supported", "true"),
        ("--describe-configs-supported", "true"),
        ("--idempotent-producer-supported", "true"),
        ("--num-cluster-nodes", "1"),
    ];
    let features = features.iter().flat_map(|(feature, value)| [*feature, *value]);
    let arguments: Vec<&str> = ["--topic", topic].into_iter().chain(features).collect();
    run(server, "ClientCompatibilityTest", &arguments, "")?.has(&["SUCCESS."])?;
    world.ran(Program::Load, 8);
    Ok(())
}
