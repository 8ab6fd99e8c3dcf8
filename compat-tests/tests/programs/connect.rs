//! Kafka Connect standalone: a file goes line by line through a topic into another file, also what is added while the
//! worker runs; the sink's place is committed as that of any consumer group.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::Kind;
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::service::Service;
use braid_compat_tests::tools::{java_connect, run};

use crate::text;

const LINES: usize = 5000;
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn add(suite: &mut Suite) {
    suite.add("connect::a_file_comes_out_as_it_went_in", file_to_file);
}

fn properties(path: &Path, settings: &[(&str, &str)]) -> Result<()> {
    let lines: String = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    std::fs::write(path, lines).with_context(|| format!("write {}", path.display()))
}

fn file_to_file(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "connect.lines";
    Kind::Java.shared()?.new_topic(server, topic, 1, &[])?;
    let dir = tempfile::Builder::new().prefix("connect-").tempdir_in(install::scratch()?)?;
    let path = |name: &str| -> Result<String> {
        Ok(dir.path().join(name).to_str().context("a path is text")?.to_owned())
    };
    let (from, to) = (path("from.txt")?, path("to.txt")?);
    let lines: String = text::lines(LINES)?.iter().map(|line| format!("{line}\n")).collect();
    let (before, after) =
        lines.split_at(lines[..lines.len() / 2].rfind('\n').unwrap_or_default() + 1);
    std::fs::write(&from, before)?;

    let string = "org.apache.kafka.connect.storage.StringConverter";
    let bootstrap = server.bootstrap();
    properties(
        &dir.path().join("worker.properties"),
        &[
            ("bootstrap.servers", &bootstrap),
            ("key.converter", string),
            ("value.converter", string),
            ("offset.storage.file.filename", &path("offsets")?),
            ("offset.flush.interval.ms", "500"),
            ("listeners", "http://127.0.0.1:0"),
            ("plugin.discovery", "service_load"),
        ],
    )?;
    let source = [
        ("name", "source"),
        ("connector.class", "FileStreamSource"),
        ("file", &from),
        ("topic", topic),
    ];
    properties(&dir.path().join("source.properties"), &source)?;
    let sink =
        [("name", "sink"), ("connector.class", "FileStreamSink"), ("file", &to), ("topics", topic)];
    properties(&dir.path().join("sink.properties"), &sink)?;

    let mut worker = java_connect(512)?;
    worker.arg("org.apache.kafka.connect.cli.ConnectStandalone").current_dir(dir.path());
    worker.args(["worker.properties", "source.properties", "sink.properties"]);
    let mut worker = Service::start("Connect", &mut worker)?;
    let arrived = |wanted: &str| {
        let found = std::fs::read_to_string(&to).unwrap_or_default();
        Ok((found.len() >= wanted.len()).then_some(found))
    };
    ensure!(worker.wait(TIMEOUT, || arrived(before))? == before, "the file differs");
    std::fs::OpenOptions::new().append(true).open(&from)?.write_all(after.as_bytes())?;
    ensure!(worker.wait(TIMEOUT, || arrived(&lines))? == lines, "the longer file differs");
    worker.stop()?;
    let group = ["--describe", "--group", "connect-sink"];
    let said = run(server, "consumer.group.ConsumerGroupCommand", &group, "")?;
    let count = LINES.to_string();
    let wanted = ["connect-sink", topic, "0", &count, &count, "0"];
    ensure!(said.rows().iter().any(|row| row.len() > 6 && row[..6] == wanted), "{said:?}");
    world.ran(Program::Connect, LINES + 1);
    Ok(())
}
