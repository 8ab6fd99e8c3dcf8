//! kafka-console-producer, kafka-console-consumer, kafka-get-offsets and kafka-delete-records.

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::{Input, Kind, Produce};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use braid_compat_tests::tools::{Said, refused, run};

pub(crate) fn add(suite: &mut Suite) {
    suite.add("records::typed_at_the_console_are_printed_there", console);
    suite.add("records::offsets_are_told_for_every_time_and_moved_by_deletion", offsets);
}

fn console(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.console";
    run(server, "TopicCommand", &["--create", "--topic", topic, "--partitions", "3"], "")?;
    let lines: String = (0..100).map(|i| format!("key {}:line {i}\n", i % 7)).collect();
    let keys = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"];
    let codec = ["--topic", topic, "--compression-codec", "zstd"];
    run(server, "ConsoleProducer", &[codec, keys].concat(), &lines)?;
    let read = |arguments: &[&str]| -> Result<Said> {
        let waiting = ["--timeout-ms", "30000"];
        run(server, "consumer.ConsoleConsumer", &[&waiting, arguments].concat(), "")
    };
    let print = |property: &'static str| ["--formatter-property", property];
    let printed = [print("print.key=true"), print("key.separator=:")].concat();
    let all = ["--topic", topic, "--group", topic, "--from-beginning", "--max-messages", "100"];
    let said = read(&[&all[..], &printed].concat())?;
    let (mut found, mut wanted): (Vec<&str>, Vec<&str>) =
        (said.out.lines().collect(), lines.lines().collect());
    found.sort_unstable();
    wanted.sort_unstable();
    ensure!(found == wanted, "{said:?}");
    said.has(&["Processed a total of 100 messages"])?;

    let from = ["--partition", "0", "--offset", "5", "--max-messages", "2", "--topic", topic];
    let where_it_lies = [print("print.offset=true"), print("print.partition=true")].concat();
    let said = read(&[&from[..], &where_it_lies].concat())?;
    said.has(&["Partition:0\tOffset:5\tline ", "Partition:0\tOffset:6\tline "])?;
    let several = ["--include", "tool\\.console.*", "--from-beginning", "--max-messages", "100"];
    ensure!(read(&several)?.out.lines().count() == 100, "by pattern");
    world.ran(Program::Records, 4);
    Ok(())
}

/// Offsets by partition, as the tool tells them of a topic.
fn told(server: &Server, topic: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let said = run(server, "GetOffsetShell", &[&["--topic", topic], arguments].concat(), "")?;
    Ok(said.out.lines().map(str::to_owned).collect())
}

fn offsets(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.offsets";
    let client = Kind::Java.shared()?;
    client.new_topic(server, topic, 2, &[("retention.ms", "-1")])?;
    // The third of five in each partition is the latest of all times.
    let one = |i: i32| {
        let mut record = Record::new(topic, None, Some(b"of a time"));
        record.partition = i % 2;
        record.timestamp =
            if i / 2 == 2 { 1_700_000_090_000 } else { 1_700_000_000_000 + i64::from(i) * 1000 };
        record
    };
    let records: Vec<Record> = (0..10).map(one).collect();
    client.produce_all(server, &Produce::new(Input::Records(&records)))?;

    let times: [(&str, &[&str]); 15] = [
        ("-1", &["tool.offsets:0:5", "tool.offsets:1:5"]),
        ("latest", &["tool.offsets:0:5", "tool.offsets:1:5"]),
        ("-2", &["tool.offsets:0:0", "tool.offsets:1:0"]),
        ("earliest", &["tool.offsets:0:0", "tool.offsets:1:0"]),
        ("-3", &["tool.offsets:0:2", "tool.offsets:1:2"]),
        ("max-timestamp", &["tool.offsets:0:2", "tool.offsets:1:2"]),
        ("-4", &["tool.offsets:0:0", "tool.offsets:1:0"]),
        ("earliest-local", &["tool.offsets:0:0", "tool.offsets:1:0"]),
        // Nothing lies in a remote tier.
        ("-5", &[]),
        ("latest-tiered", &[]),
        ("-6", &[]),
        ("earliest-pending-upload", &[]),
        ("0", &["tool.offsets:0:0", "tool.offsets:1:0"]),
        ("1700000001000", &["tool.offsets:0:1", "tool.offsets:1:0"]),
        ("4102444800000", &[]),
    ];
    for (time, wanted) in times {
        let found = told(server, topic, &["--time", time])?;
        ensure!(found == wanted, "{time}: {found:?}");
    }
    ensure!(
        told(server, "tool\\.offs.*", &["--partitions", "1"])? == ["tool.offsets:1:5"],
        "one partition"
    );
    let said = run(server, "GetOffsetShell", &["--exclude-internal-topics"], "")?;
    ensure!(said.out.contains("tool.offsets:0:5") && !said.out.contains("__consumer"), "{said:?}");
    refused(
        server,
        "GetOffsetShell",
        &["--topic", "tool.none"],
        &["Could not match any topic-partitions"],
    )?;

    let file = install::scratch()?.join("delete.json");
    let path = file.to_str().context("a path is text")?;
    let partition = |number: i32, offset: i32| {
        format!(r#"{{"topic": "{topic}", "partition": {number}, "offset": {offset}}}"#)
    };
    let delete = |partitions: [String; 2]| -> Result<Said> {
        std::fs::write(
            &file,
            format!(r#"{{"version": 1, "partitions": [{}]}}"#, partitions.join(",")),
        )?;
        run(server, "DeleteRecordsCommand", &["--offset-json-file", path], "")
    };
    delete([partition(0, 3), partition(1, -1)])?.has(&[
        "partition: tool.offsets-0\tlow_watermark: 3",
        "partition: tool.offsets-1\tlow_watermark: 5",
    ])?;
    let found = told(server, topic, &["--time", "earliest"])?;
    ensure!(found == ["tool.offsets:0:3", "tool.offsets:1:5"], "{found:?}");
    delete([partition(0, 6), partition(1, 5)])?.has(&[
        "partition: tool.offsets-0\terror: org.apache.kafka.common.errors.OffsetOutOfRangeException",
        "partition: tool.offsets-1\tlow_watermark: 5",
    ])?;
    world.ran(Program::Records, times.len() + 6);
    Ok(())
}
