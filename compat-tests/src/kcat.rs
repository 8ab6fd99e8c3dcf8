//! Debian's kcat, whose librdkafka is old: one process for each command. It tells no acknowledgements and takes no
//! arbitrary bytes as keys, so scenarios give it what it can carry.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Produce, Produced, Start};
use crate::install;
use crate::record::{Record, UNKNOWN};
use crate::server::Server;

fn kcat(server: &Server, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(install::kcat()?);
    command.args(["-b", &server.bootstrap()]).args(arguments);
    command
        .args(["-X", "fetch.wait.max.ms=100", "-X", "reconnect.backoff.max.ms=250"])
        .stdin(Stdio::null());
    Ok(command)
}

fn ended_well(command: &mut Command) -> Result<Output> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(output)
}

/// Version of kcat and of the librdkafka in it.
///
/// # Errors
/// When it is missing.
pub fn version() -> Result<String> {
    let said = install::run(Command::new(install::kcat()?).arg("-V"))?;
    let word = |after: &str| {
        Some(said.split_once(after)?.1.split([' ', ',', ')', '\n']).next()?.to_owned())
    };
    let own = word("Version ").context("kcat tells no version")?;
    Ok(format!("{own} on {}", word("librdkafka ").context("kcat tells no librdkafka")?))
}

/// Whether kcat can carry the record as it is.
pub(crate) fn carries(record: &Record) -> bool {
    let argument = |bytes: &[u8]| {
        !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_graphic() && !b"=,:".contains(b))
    };
    record.key.as_deref().is_none_or(argument)
        && record.value.as_deref().is_none_or(|value| !value.is_empty())
        && record.timestamp == UNKNOWN
        && record
            .headers
            .iter()
            .all(|(name, value)| argument(name) && value.as_deref().is_some_and(argument))
}

/// Produces records one process at a time; neighbours that differ in their values only share one.
///
/// # Errors
/// When a record cannot be carried; a refused one counts as failed.
pub fn produce(
    server: &Server,
    dir: &Path,
    records: &[Record],
    produce: &Produce<'_>,
) -> Result<Produced> {
    let mut produced = Produced { sent: 0, acked: 0, failed: 0, acks: Vec::new() };
    let alike = |a: &Record, b: &Record| {
        let envelope =
            |r: &Record| (r.topic.clone(), r.partition, r.key.clone(), r.headers.clone());
        envelope(a) == envelope(b) && a.value.is_some() && b.value.is_some()
    };
    for run in records.chunk_by(alike) {
        let first = &run[0];
        ensure!(run.iter().all(carries), "kcat cannot carry a record for {}", first.topic);
        let partition = first.partition.to_string();
        let timeout = format!("message.timeout.ms={}", produce.delivery_timeout_ms);
        let acks = format!("acks={}", produce.acks);
        let idempotent = format!("enable.idempotence={}", produce.idempotent);
        let mut command =
            kcat(server, &["-P", "-t", &first.topic, "-p", &partition, "-z", produce.codec])?;
        command.args(["-X", &timeout, "-X", &acks, "-X", &idempotent]);
        if let Some(bytes) = produce.max_request_bytes {
            command.args(["-X", &format!("message.max.bytes={bytes}")]);
        }
        if let (Some(key), Some(_)) = (&first.key, &first.value) {
            command.args(["-k", std::str::from_utf8(key)?]);
        }
        for (name, value) in &first.headers {
            let value = value.as_deref().unwrap_or_default();
            command.args([
                "-H",
                &format!("{}={}", std::str::from_utf8(name)?, std::str::from_utf8(value)?),
            ]);
        }
        let mut files = Vec::new();
        for record in run.iter().filter(|record| record.value.is_some()) {
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(record.value.as_deref().unwrap_or_default())?;
            command.arg(file.path());
            files.push(file);
        }
        if first.value.is_none() {
            // An empty rest of a line under -Z is kcat's only way to say null.
            let mut line = tempfile::tempfile_in(dir)?;
            line.write_all(first.key.as_deref().unwrap_or_default())?;
            line.write_all(b":\n")?;
            line.seek(SeekFrom::Start(0))?;
            command.args(["-Z", "-K", ":"]).stdin(line);
        }
        let count = run.len() as u64;
        produced.sent += count;
        let output = command.output()?;
        if output.status.success() {
            produced.acked += count;
        } else {
            produced.failed += count;
            eprintln!("    kcat: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
    }
    Ok(produced)
}

/// Reads topics to their ends.
///
/// # Errors
/// When kcat fails or prints what it should not.
pub fn consume(server: &Server, topics: &[&str], from: Start) -> Result<Vec<Record>> {
    let start = match from {
        Start::Earliest => "beginning".to_owned(),
        Start::Offset(offset) => offset.to_string(),
        Start::Timestamp(timestamp) => format!("s@{timestamp}"),
    };
    let mut records = Vec::new();
    for topic in topics {
        // Lengths before contents: any byte may come. Header names and values are text in what kcat is used for here.
        let layout = "%p %o %T %K %S %h\n%k%s";
        let arguments = ["-C", "-q", "-e", "-t", topic, "-o", &start, "-f", layout];
        let printed = ended_well(&mut kcat(server, &arguments)?)?.stdout;
        let mut rest = printed.as_slice();
        while !rest.is_empty() {
            records.push(
                parse(topic, &mut rest)
                    .with_context(|| format!("kcat printed {:?}", rest.get(..100)))?,
            );
        }
    }
    Ok(records)
}

fn parse(topic: &str, rest: &mut &[u8]) -> Option<Record> {
    let end = rest.iter().position(|b| *b == b'\n')?;
    let line = &rest[..end];
    let mut fields = line.splitn(6, |b| *b == b' ');
    let mut field = || fields.next();
    let mut number = || std::str::from_utf8(field()?).ok()?.parse::<i64>().ok();
    let (partition, offset, timestamp, key_length, value_length) =
        (number()?, number()?, number()?, number()?, number()?);
    let headers = field().unwrap_or_default();
    *rest = &rest[end + 1..];
    let mut content = |length: i64| -> Option<Option<Vec<u8>>> {
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        let (taken, left) = rest.split_at_checked(length)?;
        *rest = left;
        Some(Some(taken.to_vec()))
    };
    let key = content(key_length)?;
    let value = content(value_length)?;
    let mut record = Record::new(topic, key.as_deref(), value.as_deref());
    record.partition = i32::try_from(partition).ok()?;
    record.offset = offset;
    record.timestamp = timestamp;
    for header in headers.split(|b| *b == b',').filter(|header| !header.is_empty()) {
        let middle = header.iter().position(|b| *b == b'=')?;
        let value = &header[middle + 1..];
        record
            .headers
            .push((header[..middle].to_vec(), (value != b"NULL").then(|| value.to_vec())));
    }
    Some(record)
}

/// Offsets by time; kcat tells no timestamps.
///
/// # Errors
/// When kcat fails.
pub fn list_offsets(
    server: &Server,
    topic: &str,
    partitions: &[i32],
    at: &str,
) -> Result<Vec<(i64, i64)>> {
    let time = match at {
        "earliest" => "-2",
        "latest" => "-1",
        "max-timestamp" => bail!("kcat cannot ask for the greatest timestamp"),
        time => time,
    };
    let mut offsets = Vec::new();
    for partition in partitions {
        let asked = format!("{topic}:{partition}:{time}");
        let printed = ended_well(&mut kcat(server, &["-Q", "-t", &asked])?)?.stdout;
        let printed = String::from_utf8_lossy(&printed);
        let offset = printed.split("offset ").nth(1).and_then(|n| n.trim().parse().ok());
        offsets.push((offset.with_context(|| format!("kcat printed {printed:?}"))?, UNKNOWN));
    }
    Ok(offsets)
}

/// What `kcat -L -J` prints.
///
/// # Errors
/// When kcat fails.
pub fn metadata(server: &Server) -> Result<serde_json::Value> {
    Ok(serde_json::from_slice(&ended_well(&mut kcat(server, &["-L", "-J"])?)?.stdout)?)
}

/// The words of kcat's failure to read a topic.
///
/// # Errors
/// When it does not fail.
pub fn failure_to_read(server: &Server, topic: &str) -> Result<String> {
    let output = kcat(server, &["-C", "-e", "-t", topic])?.output()?;
    ensure!(!output.status.success(), "kcat reads {topic}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
