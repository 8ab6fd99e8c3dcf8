//! Real text: lines of the machine's own files that every program can carry.

use anyhow::{Result, ensure};
use braid_compat_tests::client::{Client, Input, Produce};
use braid_compat_tests::dataset;
use braid_compat_tests::record::Record;
use braid_compat_tests::server::Server;

/// Non-empty lines of valid UTF-8 without control characters, in the same order on every call.
pub(crate) fn lines(count: usize) -> Result<Vec<String>> {
    let mut lines = Vec::with_capacity(count);
    for file in dataset::collect(8 << 20)? {
        let text = file.lines().filter_map(|line| std::str::from_utf8(line).ok());
        let plain = text.filter(|line| !line.is_empty() && !line.contains(char::is_control));
        lines.extend(plain.map(str::to_owned).take(count - lines.len()));
    }
    ensure!(lines.len() == count, "this machine has only {} lines of text", lines.len());
    Ok(lines)
}

/// Writes lines into a topic that is there, keyed by their numbers, which begin at `from`.
pub(crate) fn produce(
    client: &Client,
    server: &Server,
    topic: &str,
    from: usize,
    lines: &[String],
) -> Result<()> {
    let numbered = lines.iter().enumerate();
    let records: Vec<Record> = numbered
        .map(|(i, line)| {
            Record::new(topic, Some((from + i).to_string().as_bytes()), Some(line.as_bytes()))
        })
        .collect();
    client
        .produce_all(server, &Produce { codec: "lz4", ..Produce::new(Input::Records(&records)) })?;
    Ok(())
}
