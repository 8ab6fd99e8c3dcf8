//! kafka-log-dirs, kafka-leader-election and kafka-reassign-partitions on a single broker.

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::{Input, Kind, Produce};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use braid_compat_tests::tools::{Said, broker_id, refused, run, try_run};
use serde_json::Value;

const TOPIC: &str = "tool.partitions";
const REASSIGN: &str = "reassign.ReassignPartitionsCommand";

pub(crate) fn add(suite: &mut Suite) {
    suite.add("partitions::are_measured_elected_and_reassigned", partitions);
}

fn partitions(world: &World) -> Result<()> {
    let server = world.server()?;
    let client = Kind::Java.shared()?;
    client.new_topic(server, TOPIC, 2, &[])?;
    let one = |i: i32| {
        let mut record = Record::new(TOPIC, None, Some(&[b'x'; 1000]));
        record.partition = i % 2;
        record
    };
    let records: Vec<Record> = (0..20).map(one).collect();
    client.produce_all(server, &Produce::new(Input::Records(&records)))?;
    let id = broker_id(server)?;
    log_dirs(server, &id)?;
    elections(server)?;
    reassignments(server, &id)?;
    world.ran(Program::Partitions, 17);
    Ok(())
}

fn log_dirs(server: &Server, id: &str) -> Result<()> {
    let described = ["--describe", "--topic-list", TOPIC, "--broker-list", id];
    let said = run(server, "LogDirsCommand", &described, "")?;
    let json = said.out.lines().find(|line| line.starts_with('{')).context("no JSON")?;
    let told: Value = serde_json::from_str(json)?;
    let dir = &told["brokers"][0]["logDirs"][0];
    ensure!(dir["error"].is_null(), "{told}");
    let sizes: Vec<&Value> = dir["partitions"].as_array().context("partitions")?.iter().collect();
    ensure!(sizes.len() == 2, "{told}");
    for partition in sizes {
        let size = partition["size"].as_u64().unwrap_or_default();
        ensure!((10_000..12_000).contains(&size), "{partition}");
        ensure!(partition["offsetLag"] == 0 && partition["isFuture"] == false, "{partition}");
    }
    run(server, "LogDirsCommand", &["--describe"], "")?.has(&[TOPIC])?;
    let stranger = ["--describe", "--broker-list", "4711"];
    refused(
        server,
        "LogDirsCommand",
        &stranger,
        &["The given brokers do not exist from --broker-list: 4711"],
    )
}

fn elections(server: &Server) -> Result<()> {
    let elect = |arguments: &[&str]| -> Result<Said> {
        try_run(server, "LeaderElectionCommand", &[&["--election-type"], arguments].concat(), "")
    };
    let already = "Valid replica already elected for partitions tool.partitions-0";
    for kind in ["preferred", "unclean"] {
        let said = elect(&[kind, "--topic", TOPIC, "--partition", "0"])?;
        ensure!(said.status == 0, "{said:?}");
        said.has(&[already])?;
    }
    ensure!(elect(&["preferred", "--all-topic-partitions"])?.status == 0, "all partitions");
    let said = elect(&["preferred", "--topic", "tool.none", "--partition", "0"])?;
    ensure!(said.status != 0, "{said:?}");
    said.has(&["UnknownTopicOrPartitionException: No such topic as tool.none"])
}

fn reassignments(server: &Server, id: &str) -> Result<()> {
    let dir = install::scratch()?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = dir.join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().context("a path is text")?.to_owned())
    };
    let moves = file("move.json", r#"{"version": 1, "topics": [{"topic": "tool.partitions"}]}"#)?;
    let generate = ["--generate", "--topics-to-move-json-file", &moves, "--broker-list", id];
    let said = run(server, REASSIGN, &generate, "")?;
    said.has(&[
        "Current partition replica assignment",
        "Proposed partition reassignment configuration",
    ])?;
    let proposed = said.out.lines().rfind(|line| line.starts_with('{')).context("no plan")?;
    let plan = file("plan.json", proposed)?;
    let with_plan = |verb: &str| -> Result<Said> {
        run(server, REASSIGN, &[verb, "--reassignment-json-file", &plan], "")
    };
    with_plan("--execute")?.has(&[
        "Successfully started partition reassignments for tool.partitions-0,tool.partitions-1",
    ])?;
    with_plan("--verify")?.has(&[
        "Reassignment of partition tool.partitions-0 is completed.",
        "Clearing topic-level throttles on topic tool.partitions",
    ])?;
    let slow = ["--execute", "--reassignment-json-file", &plan, "--throttle", "1000000"];
    run(server, REASSIGN, &slow, "")?
        .has(&["The inter-broker throttle limit was set to 1000000 B/s"])?;
    with_plan("--verify")?.has(&[&format!("Clearing broker-level throttles on broker {id}")])?;
    run(server, REASSIGN, &["--list"], "")?.has(&["No partition reassignments found."])?;
    with_plan("--cancel")?.has(&["None of the specified partition reassignments are active."])?;
    // Into the directory where they lie already, by its name.
    let lies =
        said.out.lines().find(|line| line.starts_with('{')).context("no current assignment")?;
    let here = file("here.json", lies)?;
    run(server, REASSIGN, &["--execute", "--reassignment-json-file", &here], "")?
        .has(&["Successfully started"])?;
    for (name, topic, broker, sentence) in [
        ("stranger.json", TOPIC, "4711", "Unknown broker id 4711"),
        ("nowhere.json", "tool.none", id, "Topic tool.none not found."),
    ] {
        let text = format!(
            r#"{{"version": 1, "partitions": [{{"topic": "{topic}", "partition": 0, "replicas": [{broker}]}}]}}"#
        );
        let wrong = ["--execute", "--reassignment-json-file", &file(name, &text)?];
        refused(server, REASSIGN, &wrong, &[sentence])?;
    }
    Ok(())
}
