//! The commands of the contract as functions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Call, Driver};
use crate::record::{Ack, Record, RecordWriter, read_acks, read_records};
use crate::server::{self, Server};
use crate::{install, kcat};

pub use crate::kind::Kind;

/// How long any one command may take unless it says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(90);

/// Kafka's codecs, by the numbers of a batch's attributes.
pub const CODECS: [(&str, i8); 5] =
    [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];

/// What to produce.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    Records(&'a [Record]),
    File(&'a Path),
    /// Record *i* is `{prefix}-{i}` padded with dots, under the key `k{i mod keys}`.
    Numbers {
        topic: &'a str,
        prefix: &'a str,
        count: u64,
        keys: u32,
        value_bytes: u32,
    },
}

/// How to produce.
#[derive(Clone, Debug)]
pub struct Produce<'a> {
    pub input: Input<'a>,
    /// `0`, `1` or `all`.
    pub acks: &'a str,
    pub codec: &'a str,
    pub idempotent: bool,
    pub linger_ms: u32,
    pub delivery_timeout_ms: u32,
    /// Unacknowledged records at most, where the client can bound them.
    pub window: u32,
    /// Greater than a client's default for large records.
    pub max_request_bytes: Option<u32>,
    pub transaction: Option<Transaction<'a>>,
}

/// All records in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    pub id: &'a str,
    pub commit: bool,
    /// Group, topic, partition and offset of an offset to send with it.
    pub offset: Option<(&'a str, &'a str, i32, i64)>,
}

impl<'a> Produce<'a> {
    /// Plain and safe: acks=all, no codec.
    #[must_use]
    pub fn new(input: Input<'a>) -> Produce<'a> {
        Produce {
            input,
            acks: "all",
            codec: "none",
            idempotent: false,
            linger_ms: 5,
            delivery_timeout_ms: 60_000,
            window: 100_000,
            max_request_bytes: None,
            transaction: None,
        }
    }
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Produced {
    pub sent: u64,
    pub acked: u64,
    pub failed: u64,
    /// One for each record whose fate the client told; kcat tells none.
    pub acks: Vec<Ack>,
}

/// Where to begin to read.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    Earliest,
    Offset(i64),
    Timestamp(i64),
}

/// How a group member behaves.
#[derive(Clone, Debug)]
pub struct Membership<'a> {
    pub group: &'a str,
    pub topics: &'a [&'a str],
    pub assignor: &'a str,
    pub instance_id: Option<&'a str>,
    pub session_timeout_ms: u32,
    pub commit: bool,
}

impl<'a> Membership<'a> {
    /// A committing member under the range assignor.
    #[must_use]
    pub fn new(group: &'a str, topics: &'a [&'a str]) -> Membership<'a> {
        Membership {
            group,
            topics,
            assignor: "range",
            instance_id: None,
            session_timeout_ms: 10_000,
            commit: true,
        }
    }
}

/// What a copier in transactions is told.
#[derive(Clone, Copy, Debug)]
pub struct Copying<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub output: &'a str,
    pub output_partitions: i32,
    pub transactional_id: &'a str,
    /// As a static member it takes the place of its predecessor at once.
    pub instance_id: &'a str,
    /// Stands in what it writes, so that no other life writes the same.
    pub process: u32,
    /// Records for one transaction, at most.
    pub batch: u32,
}

/// One client program and a directory for its files.
#[derive(Debug)]
pub struct Client {
    pub kind: Kind,
    /// kcat has none: it is one process for each command.
    driver: Option<Driver>,
    dir: TempDir,
}

impl Client {
    /// Starts a program of its own: for a member that is to be killed.
    ///
    /// # Errors
    /// When it cannot be installed or started, or is not the version it should be.
    pub fn start(kind: Kind) -> Result<Client> {
        let dir = tempfile::Builder::new().prefix("client-").tempdir_in(install::scratch()?)?;
        let driver = if kind == Kind::Kcat {
            install::kcat()?;
            None
        } else {
            Some(Driver::start(kind.name(), kind.command()?)?)
        };
        let client = Client { kind, driver, dir };
        if let Some(driver) = &client.driver {
            driver.call("hello", json!({}), TIMEOUT)?;
        }
        Ok(client)
    }

    /// What the library calls its version.
    ///
    /// # Errors
    /// When the program is broken.
    pub fn version(&self) -> Result<String> {
        let Some(driver) = &self.driver else { return kcat::version() };
        let hello = driver.call("hello", json!({}), TIMEOUT)?;
        Ok(hello["version"].as_str().unwrap_or_default().to_owned())
    }

    /// The driver behind the client.
    ///
    /// # Errors
    /// For kcat, which has none.
    pub fn driver(&self) -> Result<&Driver> {
        self.driver.as_ref().with_context(|| format!("{} has no driver", self.kind))
    }

    /// A fresh path in the client's directory.
    fn path(&self, name: &str) -> Result<PathBuf> {
        let (_, path) =
            tempfile::Builder::new().prefix(name).tempfile_in(self.dir.path())?.keep()?;
        Ok(path)
    }

    /// Begins to produce; the paths are the acks file and, for inline records, the input file.
    ///
    /// # Errors
    /// When the program is broken.
    pub fn begin_produce(&self, server: &Server, produce: &Produce<'_>) -> Result<Production<'_>> {
        let acks = self.path("acks-")?;
        let mut command = json!({
            "bootstrap": server.bootstrap(), "acks_output": acks, "acks": produce.acks, "codec": produce.codec,
            "idempotent": produce.idempotent, "linger_ms": produce.linger_ms,
            "delivery_timeout_ms": produce.delivery_timeout_ms, "window": produce.window,
        });
        if let Some(bytes) = produce.max_request_bytes {
            command["max_request_bytes"] = json!(bytes);
        }
        if let Some(transaction) = produce.transaction {
            command["transactional_id"] = json!(transaction.id);
            command["end"] = json!(if transaction.commit { "commit" } else { "abort" });
            if let Some((group, topic, partition, offset)) = transaction.offset {
                command["group"] = json!(group);
                command["offsets"] =
                    json!([{"topic": topic, "partition": partition, "offset": offset}]);
            }
        }
        let mut input = None;
        match produce.input {
            Input::Records(records) => {
                let path = self.path("input-")?;
                let mut writer = RecordWriter::create(&path)?;
                records.iter().try_for_each(|record| writer.write(record))?;
                writer.finish()?;
                command["input"] = json!(path);
                input = Some(path);
            }
            Input::File(path) => command["input"] = json!(path),
            Input::Numbers { topic, prefix, count, keys, value_bytes } => {
                command["numbers"] = json!({"topic": topic, "prefix": prefix, "count": count, "keys": keys, "value_bytes": value_bytes});
            }
        }
        Ok(Production { call: self.driver()?.begin("produce", command)?, acks, input })
    }

    /// Produces to the end.
    ///
    /// # Errors
    /// When the program is broken; a record that is refused is no error here.
    pub fn produce(&self, server: &Server, produce: &Produce<'_>) -> Result<Produced> {
        if self.driver.is_none() {
            let Input::Records(records) = produce.input else { bail!("kcat takes records only") };
            return kcat::produce(server, self.dir.path(), records, produce);
        }
        self.begin_produce(server, produce)?.finish(TIMEOUT)
    }

    /// Produces records of which none may be refused.
    ///
    /// # Errors
    /// When one is.
    pub fn produce_all(&self, server: &Server, produce: &Produce<'_>) -> Result<Produced> {
        let produced = self.produce(server, produce)?;
        if produced.failed > 0 || produced.acked != produced.sent {
            let refused: Vec<&Ack> =
                produced.acks.iter().filter(|ack| ack.code != 0).take(5).collect();
            let log = self.driver.as_ref().map(|driver| driver.log_tail(20)).unwrap_or_default();
            bail!(
                "{}: {} of {} records were refused: {refused:?}\n{log}",
                self.kind,
                produced.failed,
                produced.sent
            );
        }
        Ok(produced)
    }

    /// Reads topics up to the ends that their partitions had at the start.
    ///
    /// # Errors
    /// When the client cannot, in time.
    pub fn consume(&self, server: &Server, topics: &[&str], from: Start) -> Result<Vec<Record>> {
        if self.driver.is_none() {
            return kcat::consume(server, topics, from);
        }
        let output = self.consume_into_file(server, topics, from, TIMEOUT)?;
        let records = read_records(&output)?;
        std::fs::remove_file(output)?;
        Ok(records)
    }

    /// As [`Client::consume`], leaving the records in a file.
    ///
    /// # Errors
    /// When the client cannot, in time.
    pub fn consume_into_file(
        &self,
        server: &Server,
        topics: &[&str],
        from: Start,
        timeout: Duration,
    ) -> Result<PathBuf> {
        let output = self.path("read-")?;
        let timeout_ms = u64::try_from(timeout.as_millis())?;
        let mut command = json!({
            "bootstrap": server.bootstrap(), "topics": topics, "output": output, "timeout_ms": timeout_ms,
        });
        match from {
            Start::Earliest => {}
            Start::Offset(offset) => command["from_offset"] = json!(offset),
            Start::Timestamp(timestamp) => command["from_timestamp"] = json!(timestamp),
        }
        self.driver()?.call("consume", command, timeout + Duration::from_secs(10))?;
        Ok(output)
    }

    /// As [`Client::consume`] from the earliest record, of committed ones only or of all.
    ///
    /// # Errors
    /// When the client cannot, in time.
    pub fn consume_with(
        &self,
        server: &Server,
        topics: &[&str],
        isolation: &str,
    ) -> Result<Vec<Record>> {
        let output = self.path("read-")?;
        let timeout_ms = u64::try_from(TIMEOUT.as_millis())?;
        let command = json!({
            "bootstrap": server.bootstrap(), "topics": topics, "output": output, "timeout_ms": timeout_ms,
            "isolation": isolation,
        });
        self.driver()?.call("consume", command, TIMEOUT + Duration::from_secs(10))?;
        let records = read_records(&output)?;
        std::fs::remove_file(output)?;
        Ok(records)
    }

    /// Begins to copy in transactions; its events are lines of a history.
    ///
    /// # Errors
    /// When the program is broken.
    pub fn begin_copy(&self, server: &Server, copy: &Copying<'_>) -> Result<Call<'_>> {
        let command = json!({
            "bootstrap": server.bootstrap(), "group": copy.group, "topic": copy.topic, "output": copy.output,
            "output_partitions": copy.output_partitions, "transactional_id": copy.transactional_id,
            "instance_id": copy.instance_id, "process": copy.process, "batch": copy.batch,
        });
        self.driver()?.begin("copy", command)
    }

    /// Joins a group.
    ///
    /// # Errors
    /// When the program is broken.
    pub fn join(&self, server: &Server, membership: &Membership<'_>) -> Result<Member<'_>> {
        let output = self.path("member-")?;
        let mut command = json!({
            "bootstrap": server.bootstrap(), "group": membership.group, "topics": membership.topics, "output": output,
            "assignor": membership.assignor, "session_timeout_ms": membership.session_timeout_ms,
            "commit": membership.commit,
        });
        if let Some(instance_id) = membership.instance_id {
            command["instance_id"] = json!(instance_id);
        }
        Ok(Member::new(self.kind, self.driver()?.begin("group", command)?, output))
    }

    /// Offset and timestamp for each partition; `at` is `earliest`, `latest`, `max-timestamp` or milliseconds.
    ///
    /// # Errors
    /// When the client cannot.
    pub fn list_offsets(
        &self,
        server: &Server,
        topic: &str,
        partitions: &[i32],
        at: &str,
    ) -> Result<Vec<(i64, i64)>> {
        if self.driver.is_none() {
            return kcat::list_offsets(server, topic, partitions, at);
        }
        let answer = self.ask(
            "list_offsets",
            server,
            json!({"topic": topic, "partitions": partitions, "at": at}),
        )?;
        list(&answer["offsets"], |o| Ok((number(&o["offset"])?, number(&o["timestamp"])?)))
    }

    /// Commits offsets of a group without members: (topic, partition, offset, metadata).
    ///
    /// # Errors
    /// When the client cannot.
    pub fn commit(
        &self,
        server: &Server,
        group: &str,
        offsets: &[(&str, i32, i64, &str)],
    ) -> Result<()> {
        let offsets: Vec<Value> = offsets
            .iter()
            .map(|(topic, partition, offset, metadata)| {
                json!({"topic": topic, "partition": partition, "offset": offset, "metadata": metadata})
            })
            .collect();
        self.ask("commit", server, json!({"group": group, "offsets": offsets})).map(drop)
    }

    /// Committed offset and metadata for each partition; −1 for none.
    ///
    /// # Errors
    /// When the client cannot.
    pub fn committed(
        &self,
        server: &Server,
        group: &str,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<(i64, String)>> {
        let answer = self.ask(
            "committed",
            server,
            json!({"group": group, "topic": topic, "partitions": partitions}),
        )?;
        list(&answer["offsets"], |o| Ok((number(&o["offset"])?, text(&o["metadata"])?)))
    }

    /// Creates a topic and gives the error code.
    ///
    /// # Errors
    /// When the program is broken.
    pub fn create_topic(
        &self,
        server: &Server,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<i64> {
        let configs: BTreeMap<&str, &str> = configs.iter().copied().collect();
        let topic =
            json!({"name": name, "partitions": partitions, "replication": 1, "configs": configs});
        let answer = self.ask("create_topics", server, json!({"topics": [topic]}))?;
        number(&answer["results"][name])
    }

    /// Creates a topic that must not exist.
    ///
    /// # Errors
    /// When it is refused.
    pub fn new_topic(
        &self,
        server: &Server,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let code = self.create_topic(server, name, partitions, configs)?;
        ensure!(code == 0, "{}: creating {name} ended with code {code}", self.kind);
        if server::kind() == server::Kind::Kafka {
            // Kafka answers before its partitions take requests.
            let all: Vec<i32> = (0..partitions).collect();
            let asks = || Kind::Java.shared()?.list_offsets(server, name, &all, "latest");
            let deadline = Instant::now() + Duration::from_secs(30);
            while let Err(error) = asks() {
                ensure!(Instant::now() < deadline, "{name} takes no requests: {error:#}");
            }
        }
        Ok(())
    }

    /// Any other command of the contract.
    ///
    /// # Errors
    /// When the client cannot.
    pub fn ask(&self, op: &str, server: &Server, mut command: Value) -> Result<Value> {
        command["bootstrap"] = json!(server.bootstrap());
        self.driver()?.call(op, command, TIMEOUT)
    }
}

fn list<T>(values: &Value, each: impl FnMut(&Value) -> Result<T>) -> Result<Vec<T>> {
    values.as_array().context("a list is missing from the answer")?.iter().map(each).collect()
}

fn number(value: &Value) -> Result<i64> {
    value.as_i64().with_context(|| format!("{value} is no number"))
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("{value} is no text"))?.to_owned())
}

/// A producer at work.
#[derive(Debug)]
pub struct Production<'a> {
    pub call: Call<'a>,
    acks: PathBuf,
    input: Option<PathBuf>,
}

impl Production<'_> {
    /// Waits until at least `count` records are acknowledged.
    ///
    /// # Errors
    /// When it ends before, or says nothing in time.
    pub fn acked(&mut self, count: u64, timeout: Duration) -> Result<u64> {
        loop {
            let event = self
                .call
                .event(timeout)?
                .context("the producer ended before the awaited record")?;
            let acked = event["count"].as_u64().unwrap_or_default();
            if acked >= count {
                return Ok(acked);
            }
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn finish(self, timeout: Duration) -> Result<Produced> {
        let answer = self.call.finish(timeout)?;
        let count = |name: &str| {
            answer[name].as_u64().with_context(|| format!("{name} is missing: {answer}"))
        };
        let produced = Produced {
            sent: count("sent")?,
            acked: count("acked")?,
            failed: count("failed")?,
            acks: read_acks(&self.acks)?,
        };
        std::fs::remove_file(&self.acks)?;
        if let Some(input) = &self.input {
            std::fs::remove_file(input)?;
        }
        Ok(produced)
    }
}

/// A group member at work, and what it said of its partitions.
#[derive(Debug)]
pub struct Member<'a> {
    pub kind: Kind,
    call: Call<'a>,
    /// Where it writes what it reads.
    pub output: PathBuf,
    /// Topic and partition of all that it owns now.
    pub owned: BTreeSet<(String, i32)>,
    /// How often it was given partitions.
    pub assignments: usize,
    /// Every partition it ever gave up, in order.
    pub given_up: Vec<(String, i32)>,
    /// How many records it wrote to its output.
    pub received: u64,
    ended: bool,
}

impl<'a> Member<'a> {
    fn new(kind: Kind, call: Call<'a>, output: PathBuf) -> Member<'a> {
        let (owned, given_up) = (BTreeSet::new(), Vec::new());
        Member { kind, call, output, owned, assignments: 0, given_up, received: 0, ended: false }
    }

    /// Takes in what it has said, waiting for the first word at most `timeout`.
    ///
    /// # Errors
    /// When it says what the contract does not know.
    pub fn listen(&mut self, timeout: Duration) -> Result<()> {
        let mut event = self.call.event_within(timeout);
        while let Some(said) = event {
            self.hear(&said)?;
            event = self.call.event_within(Duration::ZERO);
        }
        self.ended = self.call.has_ended();
        Ok(())
    }

    fn hear(&mut self, event: &Value) -> Result<()> {
        let partitions =
            || list(&event["partitions"], |p| Ok((text(&p[0])?, i32::try_from(number(&p[1])?)?)));
        match event["event"].as_str() {
            Some("assigned") => {
                self.owned.extend(partitions()?);
                self.assignments += 1;
            }
            Some("revoked") => {
                let gone = partitions()?;
                self.owned.retain(|partition| !gone.contains(partition));
                self.given_up.extend(gone);
            }
            Some("received") => {
                self.received = event["count"].as_u64().context("a count is missing")?
            }
            _ => bail!("{} said {event}", self.kind),
        }
        Ok(())
    }

    /// Tells it to leave and waits until it has.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn leave(self) -> Result<()> {
        self.call.stop()?;
        self.call.finish(TIMEOUT).map(drop)
    }
}

/// Listens to all members until `settled` holds of what they said.
///
/// # Errors
/// When it does not in time, or when a member ends.
pub fn until<'a>(
    members: &mut [&mut Member<'a>],
    timeout: Duration,
    what: &str,
    mut settled: impl FnMut(&[&mut Member<'a>]) -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        for member in members.iter_mut() {
            member.listen(Duration::from_millis(10))?;
        }
        if settled(members)? {
            return Ok(());
        }
        if let Some(member) = members.iter().find(|member| member.ended) {
            bail!("{} ended while waiting for {what}:\n{}", member.kind, member.call.log_tail(30));
        }
        if Instant::now() > deadline {
            let tell = |m: &&mut Member<'_>| {
                format!("{} owns {:?}, received {}", m.kind, m.owned, m.received)
            };
            let told: Vec<String> = members.iter().map(tell).collect();
            let logs: String = members.iter().map(|m| m.call.log_tail(15)).collect();
            bail!("{what} did not come about within {timeout:?}: {told:#?}\n{logs}");
        }
    }
}
