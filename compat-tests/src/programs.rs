//! The table of programs: Kafka's command-line tools, the frameworks on top of Kafka and the consoles, each shown by the
//! scenarios of `tests/programs/`. A row that a whole run did not show is a failure of the run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::install;

/// One row of the table in docs/compatibility.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    Topics,
    Configs,
    Groups,
    Records,
    Partitions,
    Cluster,
    Load,
    Refusals,
    Streams,
    StreamsSmoke,
    Compaction,
    Connect,
    MirrorMaker,
    Registry,
    Kafbat,
    Akhq,
    Kafdrop,
    RedpandaConsole,
}

impl Program {
    /// All rows, in the table's order.
    pub const ALL: [Program; 18] = [
        Program::Topics,
        Program::Configs,
        Program::Groups,
        Program::Records,
        Program::Partitions,
        Program::Cluster,
        Program::Load,
        Program::Refusals,
        Program::Streams,
        Program::StreamsSmoke,
        Program::Compaction,
        Program::Connect,
        Program::MirrorMaker,
        Program::Registry,
        Program::Kafbat,
        Program::Akhq,
        Program::Kafdrop,
        Program::RedpandaConsole,
    ];

    /// The row's first cell.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Program::Topics => "kafka-topics",
            Program::Configs => "kafka-configs, kafka-client-metrics",
            Program::Groups => "kafka-consumer-groups, kafka-groups",
            Program::Records => {
                "kafka-console-producer, kafka-console-consumer, kafka-get-offsets, kafka-delete-records"
            }
            Program::Partitions => {
                "kafka-log-dirs, kafka-leader-election, kafka-reassign-partitions"
            }
            Program::Cluster => {
                "kafka-cluster, kafka-features, kafka-metadata-quorum, kafka-broker-api-versions"
            }
            Program::Load => {
                "kafka-producer-perf-test, kafka-consumer-perf-test, kafka-e2e-latency, kafka-verifiable-producer, \
                 kafka-verifiable-consumer, ClientCompatibilityTest, TransactionalMessageCopier"
            }
            Program::Refusals => "kafka-acls, kafka-transactions, kafka-delegation-tokens",
            Program::Streams => "Kafka Streams",
            Program::StreamsSmoke => "StreamsSmokeTest of Kafka's system tests",
            Program::Compaction => "LogCompactionTester of Kafka's system tests",
            Program::Connect => "Kafka Connect, standalone, file connectors",
            Program::MirrorMaker => "MirrorMaker 2 between two brokers",
            Program::Registry => "Apicurio Registry on Kafka topics",
            Program::Kafbat => "kafbat UI's calls",
            Program::Akhq => "AKHQ's calls",
            Program::Kafdrop => "Kafdrop's calls",
            Program::RedpandaConsole => "Redpanda Console's calls",
        }
    }

    /// What the row's *yes* stands for.
    #[must_use]
    pub fn shows(self) -> &'static str {
        match self {
            Program::Topics => {
                "create, list, describe with every filter, alter, delete, and the refusals of each"
            }
            Program::Configs => {
                "settings of topics, brokers, groups, client metrics and loggers set, described and taken back; clients and \
                 users described"
            }
            Program::Groups => {
                "list, describe (offsets, members, state, verbose), every form of reset, delete offsets, delete"
            }
            Program::Records => "records in and out, offsets at every `--time`, deletion",
            Program::Partitions => {
                "sizes; elections; reassignment generated, executed, verified, listed and cancelled"
            }
            Program::Cluster => "every read, and the refusals of unregister, upgrade and downgrade",
            Program::Load => "all records arrive, and every feature is found",
            Program::Refusals => {
                "security is disabled; producers of a partition; transactions written, listed, described and, when left open, aborted; what is not built is refused by the client"
            }
            Program::StreamsSmoke => {
                "20,000 records through aggregates, windows, suppression and joins by foreign keys (at_least_once), judged by \
                 its own verifier"
            }
            Program::Streams => {
                "word count of real text (at_least_once, exactly_once_v2), state restored in between, equal to a recount"
            }
            Program::Compaction => {
                "20,000 values and deletions compacted, what is left held against them by itself"
            }
            Program::Connect => "a file of real text through a topic into a file, byte for byte",
            Program::MirrorMaker => {
                "topic, settings, records and a group's offsets arrive at the other broker"
            }
            Program::Registry => {
                "schemas registered over HTTP, read back after broker and registry were started again"
            }
            Program::Kafbat => {
                "start, brokers, settings, topics, records, groups, access control: each call answered as by Kafka; not \
                 served: its change of quotas (49)"
            }
            Program::Akhq | Program::Kafdrop => {
                "start, brokers, settings, topics, records, groups, access control: each call answered as by Kafka"
            }
            Program::RedpandaConsole => {
                "start, brokers, settings, topics, records, transactions, groups, access control: each call answered as by \
                 Kafka; not served: its changes of quotas (49) and of users (51), whose pages it hides or whose calls its \
                 client refuses"
            }
        }
    }

    /// The pinned version, from the file that pins it.
    ///
    /// # Errors
    /// When the file does not say it.
    pub fn version(self) -> Result<String> {
        let distribution = || pinned("clients/kafka/pom.xml", "<kafka.version>", "<");
        Ok(match self {
            Program::StreamsSmoke | Program::Connect | Program::MirrorMaker => {
                pinned("clients/kafka/pom.xml", "<older.version>", "<")?
            }
            Program::Registry => install::REGISTRY_VERSION.to_owned(),
            Program::Kafbat | Program::Kafdrop => {
                format!("kafka-clients {}", pinned("clients/consoles/pom.xml", "<newer>", "<")?)
            }
            Program::Akhq => {
                format!("kafka-clients {}", pinned("clients/consoles/pom.xml", "<older>", "<")?)
            }
            Program::RedpandaConsole => {
                format!("franz-go {}", pinned("clients/consoles/go.mod", "franz-go v", "\n")?)
            }
            _ => distribution()?,
        })
    }
}

/// What stands in a file of this package between `before` and `after`.
fn pinned(file: &str, before: &str, after: &str) -> Result<String> {
    let path = install::package_dir().join(file);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let rest = text.split_once(before).with_context(|| format!("{file} lacks {before}"))?.1;
    Ok(rest.split_once(after).map_or(rest, |(value, _)| value).trim().to_owned())
}

/// How many facts each program was seen to get right.
#[derive(Debug, Default)]
pub struct Facts {
    counts: Mutex<BTreeMap<Program, usize>>,
}

impl Facts {
    /// Counts things that a program was seen to do right.
    pub fn add(&self, program: Program, count: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(program).or_default() += count;
    }

    /// The counts as text, and the rows that a whole run should have shown and did not.
    #[must_use]
    pub fn report(&self) -> (String, Vec<String>) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from("\nverified facts by program:\n");
        let mut missing = Vec::new();
        for program in Program::ALL {
            let count = counts.get(&program).copied().unwrap_or(0);
            if count == 0 {
                missing.push(format!("nothing was shown of {}", program.title()));
            } else {
                let _written = writeln!(text, "  {count:6}  {}", program.title());
            }
        }
        (text, missing)
    }
}

const TABLE_START: &str = "<!-- programs-table:start -->";
const TABLE_END: &str = "<!-- programs-table:end -->";

/// Compares the table in docs/compatibility.md, or writes it when `UPDATE` is set.
///
/// # Errors
/// When it is stale.
pub fn hold_table(page: &Path) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| format!("read {}", page.display()))?;
    let lacks = || format!("{} lacks the markers of the programs table", page.display());
    let (before, rest) = text.split_once(TABLE_START).with_context(lacks)?;
    let (found, after) = rest.split_once(TABLE_END).with_context(lacks)?;
    let mut table = String::from("\n| program | version | shown |\n|---|---|---|\n");
    for program in Program::ALL {
        let (title, version, shows) = (program.title(), program.version()?, program.shows());
        let _written = writeln!(table, "| {title} | {version} | {shows} |");
    }
    if found == table {
        return Ok(());
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(page, format!("{before}{TABLE_START}{table}{TABLE_END}{after}"))?;
        return Ok(());
    }
    anyhow::bail!("the programs table in {} is stale; run again with UPDATE=1", page.display())
}
