//! Kafka Streams: words of real text are counted through a repartition topic and a state store, in two lives of the
//! application. The second one has no files of the first and builds its state again from the changelog topic.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::{Kind, Start};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::tools::run_plain;

use crate::text;

const LINES: usize = 4000;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("streams::words_are_counted_as_by_hand", words);
}

/// Runs of ASCII letters, digits and underscores, in lower case: what `WordCount.java` counts.
fn words_of(line: &str) -> impl Iterator<Item = String> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = line.split(move |c| !inside(c)).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase)
}

fn words(world: &World) -> Result<()> {
    let server = world.server()?;
    let client = Kind::Java.shared()?;
    let (input, output) = ("streams.lines", "streams.counts");
    client.new_topic(server, input, 3, &[])?;
    client.new_topic(server, output, 3, &[("cleanup.policy", "compact")])?;
    let lines = text::lines(LINES)?;
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    for (life, part) in lines.chunks(LINES / 2).enumerate() {
        text::produce(client, server, input, life * LINES / 2, part)?;
        let mut count = 0_usize;
        for word in part.iter().flat_map(|line| words_of(line)) {
            *wanted.entry(word).or_default() += 1;
            count += 1;
        }
        let state = install::scratch()?.join(format!("streams-{life}"));
        let state = state.to_str().context("a path is text")?;
        let arguments =
            [&server.bootstrap(), "streams.app", input, output, state, &count.to_string()];
        let said = run_plain("WordCount", &arguments, "")?;
        ensure!(said.status == 0, "{}\n{}", said.out, said.err);
    }
    // A count is written again whenever it has changed: the last one counts, and it is the greatest.
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for record in client.consume(server, &[output], Start::Earliest)? {
        let word = String::from_utf8(record.key.context("a count has a word")?)?;
        let count: u64 = String::from_utf8(record.value.context("a word has a count")?)?.parse()?;
        let last = found.insert(word.clone(), count);
        ensure!(last < Some(count), "{word} was counted down from {last:?} to {count}");
    }
    ensure!(found.len() == wanted.len(), "{} words of {}", found.len(), wanted.len());
    ensure!(found == wanted, "counts differ");
    world.ran(Program::Streams, found.len());
    Ok(())
}
