//! Copiers in transactions: what they consume, write and commit belongs together, while brokers and clients are killed at
//! moments that a seed picks. All that clients did and saw is a history, which the checker judges.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use braid_checker::{F, History, Invariant, Isolation, Op, Type, check};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Client, Copying, Input, Kind, Produce, Transaction};
use braid_compat_tests::driver::Call;
use braid_compat_tests::install;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use serde_json::{Value, json};

const PARTITIONS: i32 = 4;
const COPIERS: usize = 2;
const ROUNDS: usize = 10;
/// Written before each round.
const INPUTS: usize = 60;
/// So many events at most pass between two kills.
const EVENTS: u64 = 200;
const TIMEOUT: Duration = Duration::from_secs(90);

pub(crate) fn add(suite: &mut Suite) {
    for kind in Kind::ALL.into_iter().filter(|k| Capability::ExactlyOnce.excuse(*k).is_none()) {
        let name = format!("transactions::copies_come_once_through_kill_9_{kind}");
        suite.add(name, move |world| copies(world, kind));
    }
    suite.add("transactions::ends_are_seen_by_all", ends);
}

fn in_transactions() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| Capability::Transactions.excuse(*kind).is_none())
}

/// Each client commits, aborts and commits; each client reads what all have written.
fn ends(world: &World) -> Result<()> {
    let server = world.server()?;
    let java = Kind::Java.shared()?;
    let topics: Vec<String> = in_transactions().map(|kind| format!("ends.{kind}")).collect();
    for (writer, topic) in in_transactions().zip(&topics) {
        java.new_topic(server, topic, 2, &[])?;
        let values = |of: &str| -> Vec<String> { (0..20).map(|n| format!("{of}-{n}")).collect() };
        let mut stands = -1;
        for (of, commit, offset) in [("kept", true, 11), ("gone", false, 99), ("more", true, 7)] {
            // Its only way to send offsets is its group session, which the copier uses.
            let sends_offset = writer != Kind::FranzGo;
            let transaction = Transaction {
                id: topic,
                commit,
                offset: sends_offset.then_some((topic.as_str(), topic.as_str(), 1, offset)),
            };
            let records = records(topic, &values(of), 2);
            let produce = Produce {
                transaction: Some(transaction),
                ..Produce::new(Input::Records(&records))
            };
            writer.shared()?.produce_all(server, &produce)?;
            if sends_offset && commit {
                stands = offset;
            }
            let found = java.committed(server, topic, topic, &[1])?;
            ensure!(found[0].0 == stands, "{writer}: {found:?} after {of}, expected {stands}");
            world.shown(writer, Capability::Transactions, 1);
        }
        // The last of each partition is no marker: not every client would know that it is at the end.
        let last = records(topic, &["end-0".to_owned(), "end-1".to_owned()], 2);
        java.produce_all(server, &Produce::new(Input::Records(&last)))?;
    }
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    for reader in in_transactions() {
        for (isolation, counts) in
            [("read_committed", [20, 0, 20, 2]), ("read_uncommitted", [20, 20, 20, 2])]
        {
            let found = reader.shared()?.consume_with(server, &topics, isolation)?;
            for topic in &topics {
                let count = |of: &str| {
                    let values = found.iter().filter(|record| record.topic == *topic);
                    let values = values.filter_map(|record| record.value.as_deref());
                    values.filter(|value| value.starts_with(of.as_bytes())).count()
                };
                let read = ["kept", "gone", "more", "end"].map(count);
                ensure!(read == counts, "{reader} reads {read:?} of {topic} as {isolation}");
            }
            world.shown(reader, Capability::Transactions, found.len());
        }
    }
    Ok(())
}

/// Records of which each names its partition.
fn records(topic: &str, values: &[String], partitions: i32) -> Vec<Record> {
    let numbered = values.iter().zip((0..partitions).cycle());
    numbered
        .map(|(value, partition)| {
            let key = format!("k{partition}");
            Record { partition, ..Record::new(topic, Some(key.as_bytes()), Some(value.as_bytes())) }
        })
        .collect()
}

fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros())?)
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What was done and seen, as it is told.
#[derive(Default)]
struct Story {
    ops: Vec<Op>,
    /// What has begun, by process and number.
    open: HashMap<(u32, u64), Value>,
    next: u64,
    /// Group offsets of transactions that have not ended.
    pending: HashMap<String, Vec<(i32, i64)>>,
    /// The group's offset of each partition, as far as it is known.
    committed: BTreeMap<i32, i64>,
    events: u64,
}

impl Story {
    /// Something that the harness did itself.
    fn told(&mut self, begun: u64, f: F) -> Result<()> {
        self.next += 1;
        self.ops.push(Op {
            process: 0,
            op: self.next,
            client: "harness".to_owned(),
            kind: Type::Ok,
            t_invoke: begun,
            t_done: Some(now()?),
            node: None,
            f,
        });
        Ok(())
    }

    /// A line of a copier.
    fn hear(&mut self, process: u32, client: Kind, event: &Value) -> Result<()> {
        ensure!(event["event"] == "history", "{client} said {event}");
        self.events += 1;
        let number = event["op"].as_u64().context("an operation has a number")?;
        let mut line = self.open.remove(&(process, number)).unwrap_or_else(|| json!({}));
        let told = event.as_object().context("a line is an object")?;
        for (key, value) in
            told.iter().filter(|(key, _)| !["id", "event", "t"].contains(&key.as_str()))
        {
            line[key] = value.clone();
        }
        line["process"] = json!(process);
        line["client"] = json!(client.name());
        let ended = event["type"] != "invoke";
        line[if ended { "t_done" } else { "t_invoke" }] = event["t"].clone();
        if !ended {
            self.open.insert((process, number), line);
            return Ok(());
        }
        let op: Op = serde_json::from_value(line.clone()).with_context(|| format!("{line}"))?;
        if op.kind == Type::Ok {
            self.follow(&op.f);
        }
        self.ops.push(op);
        Ok(())
    }

    /// Keeps up with where the group stands.
    fn follow(&mut self, f: &F) {
        match f {
            F::CommitOffset { partition, offset, txn: Some(txn), .. } => {
                self.pending.entry(txn.clone()).or_default().push((*partition, *offset));
            }
            F::End { txn, commit, .. } => {
                let offsets = self.pending.remove(txn).unwrap_or_default();
                self.committed.extend(offsets.into_iter().filter(|_| *commit));
            }
            F::FetchOffset { partition, offset, .. } => {
                self.committed.insert(*partition, *offset);
            }
            _ => {}
        }
    }

    /// The whole; what did not come to its end is of unknown end.
    fn history(&self) -> Result<History> {
        let open = self.open.values().map(|line| serde_json::from_value::<Op>(line.clone()));
        let open: Vec<Op> = open.collect::<Result<_, _>>()?;
        Ok(History::new(self.ops.iter().cloned().chain(open))?)
    }
}

/// One life of a copier.
struct Life<'a> {
    client: &'a Client,
    process: u32,
    call: Call<'a>,
}

impl Life<'_> {
    /// Takes in what it has said, waiting for the first word at most `timeout`.
    fn listen(&mut self, story: &mut Story, timeout: Duration) -> Result<()> {
        let mut event = self.call.event_within(timeout);
        while let Some(said) = event {
            story.hear(self.process, self.client.kind, &said)?;
            event = self.call.event_within(Duration::ZERO);
        }
        Ok(())
    }

    /// Ends it without warning; what it had said before counts.
    fn kill(mut self, story: &mut Story) -> Result<()> {
        self.client.driver()?.kill()?;
        while !self.call.has_ended() {
            self.listen(story, TIMEOUT)?;
        }
        Ok(())
    }

    /// Tells it to end, and hears it out.
    fn stop(mut self, story: &mut Story) -> Result<()> {
        self.call.stop()?;
        while let Some(said) = self.call.event(TIMEOUT)? {
            story.hear(self.process, self.client.kind, &said)?;
        }
        self.call.finish(TIMEOUT).map(drop)
    }
}

/// Two topics, a group and its copiers.
struct Job<'a> {
    kind: Kind,
    lives: VecDeque<&'a OnceLock<Client>>,
    born: u32,
    story: Story,
    /// Where each partition of the input ends.
    ends: BTreeMap<i32, i64>,
    written: usize,
}

impl<'a> Job<'a> {
    fn begin(&mut self, server: &Server, slot: usize) -> Result<Life<'a>> {
        let life = self.lives.pop_front().context("no more lives")?;
        let client = match life.set(Client::start(self.kind)?) {
            Ok(()) => life.get().context("it was just begun")?,
            Err(_) => bail!("one life, one client"),
        };
        self.born += 1;
        let copy = Copying {
            group: "copiers",
            topic: "in",
            output: "out",
            output_partitions: PARTITIONS,
            transactional_id: &format!("copier-{slot}"),
            instance_id: &format!("copier-{slot}"),
            process: self.born,
            batch: 10,
        };
        Ok(Life { client, process: self.born, call: client.begin_copy(server, &copy)? })
    }

    /// Writes records of which each names its partition, and takes down where they are.
    fn write(&mut self, server: &Server, topic: &str, values: &[String]) -> Result<()> {
        let records = records(topic, values, PARTITIONS);
        let begun = now()?;
        let produce = Produce { idempotent: true, ..Produce::new(Input::Records(&records)) };
        let mut acks = Kind::Java.shared()?.produce_all(server, &produce)?.acks;
        acks.sort_by_key(|ack| ack.index);
        for ack in acks {
            let value = values.get(usize::try_from(ack.index)?).context("an ack of our record")?;
            if topic == "in" {
                let end = self.ends.entry(ack.partition).or_default();
                *end = (*end).max(ack.offset + 1);
            }
            let (topic, value, offset) = (topic.to_owned(), value.clone(), Some(ack.offset));
            self.story.told(
                begun,
                F::Send {
                    topic,
                    partition: ack.partition,
                    value,
                    offset,
                    txn: None,
                    producer: None,
                    epoch: None,
                    leader_epoch: None,
                    input: None,
                    idempotent: true,
                },
            )?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ends.iter().all(|(partition, end)| self.story.committed.get(partition) >= Some(end))
    }

    /// Listens until so many more events have come, or all is copied.
    fn listen(&mut self, copiers: &mut [Life<'a>], events: u64) -> Result<()> {
        let until = self.story.events.saturating_add(events);
        let mut heard = (self.story.events, Instant::now());
        while self.story.events < until && !self.is_done() {
            for copier in copiers.iter_mut() {
                copier.listen(&mut self.story, Duration::from_millis(5))?;
                ensure!(
                    !copier.call.has_ended(),
                    "{} gave up:\n{}",
                    self.kind,
                    copier.call.log_tail(40)
                );
            }
            if heard.0 < self.story.events {
                heard = (self.story.events, Instant::now());
            }
            if heard.1.elapsed() > TIMEOUT {
                let logs: String = copiers.iter().map(|c| c.call.log_tail(20)).collect();
                bail!(
                    "the copiers fell silent at {:?} of {:?}\n{logs}",
                    self.story.committed,
                    self.ends
                );
            }
        }
        Ok(())
    }

    /// Reads everything to its end, and where the group stands.
    fn drain(&mut self, server: &Server) -> Result<()> {
        // Readers of committed records never see the markers at an end, so that a plain record is to be the last.
        let last: Vec<String> = (0..PARTITIONS).map(|p| format!("end-{p}")).collect();
        self.write(server, "out", &last)?;
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let begun = now()?;
            let found = Kind::FranzGo.shared()?.consume_with(
                server,
                &["in", "out"],
                isolation_name(isolation),
            )?;
            let mut places: BTreeMap<(String, i32), Vec<(i64, String)>> = BTreeMap::new();
            for record in found {
                let value = String::from_utf8(record.value.context("a record has a value")?)?;
                let place = (record.topic, record.partition);
                places.entry(place).or_default().push((record.offset, value));
            }
            ensure!(
                places.len() == 2 * usize::try_from(PARTITIONS)?,
                "not every partition was read"
            );
            for ((topic, partition), records) in places {
                let end = records.last().map_or(0, |(offset, _)| offset + 1);
                self.story
                    .told(begun, F::Drain { topic, partition, isolation, from: 0, end, records })?;
            }
        }
        let begun = now()?;
        let all: Vec<i32> = (0..PARTITIONS).collect();
        let found = Kind::Java.shared()?.committed(server, "copiers", "in", &all)?;
        for (partition, (offset, _)) in all.into_iter().zip(found) {
            let (group, topic) = ("copiers".to_owned(), "in".to_owned());
            self.story.told(begun, F::FetchOffset { group, topic, partition, offset })?;
        }
        self.story.told(begun, F::Copy { topic: "in".to_owned(), output: "out".to_owned() })
    }
}

fn isolation_name(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    }
}

fn copies(world: &World, kind: Kind) -> Result<()> {
    let mut server = Server::start(&[])?;
    for topic in ["in", "out"] {
        Kind::Java.shared()?.new_topic(&server, topic, PARTITIONS, &[])?;
    }
    let lives: Vec<OnceLock<Client>> = (0..COPIERS + ROUNDS).map(|_| OnceLock::new()).collect();
    let mut job = Job {
        kind,
        lives: lives.iter().collect(),
        born: 0,
        story: Story::default(),
        ends: BTreeMap::new(),
        written: 0,
    };
    let mut chance = Chance(u64::from(kind.name().as_bytes()[0]));
    let mut copiers = Vec::new();
    for slot in 0..COPIERS {
        copiers.push(job.begin(&server, slot)?);
    }
    for round in 0..ROUNDS {
        let values: Vec<String> = (0..INPUTS).map(|n| format!("i{}", job.written + n)).collect();
        job.written += INPUTS;
        job.write(&server, "in", &values)?;
        let events = 1 + chance.below(EVENTS);
        job.listen(&mut copiers, events)?;
        let begun = now()?;
        let what = if round % 2 == 0 {
            server.kill()?;
            server.restart()?;
            "the broker".to_owned()
        } else {
            let slot = usize::try_from(chance.below(COPIERS as u64))?;
            copiers.remove(slot).kill(&mut job.story)?;
            copiers.insert(slot, job.begin(&server, slot)?);
            format!("copier {slot}")
        };
        job.story.told(begun, F::Nemesis { what: format!("kill -9 of {what}") })?;
    }
    job.listen(&mut copiers, u64::MAX)?;
    for copier in copiers {
        copier.stop(&mut job.story)?;
    }
    job.drain(&server)?;
    judge(world, kind, &job)
}

fn judge(world: &World, kind: Kind, job: &Job<'_>) -> Result<()> {
    let history = job.story.history()?;
    let kept = install::logs()?.join(format!("copies-{kind}.jsonl"));
    history.write(std::io::BufWriter::new(std::fs::File::create(&kept)?))?;
    let verdict = check(&history);
    ensure!(
        verdict.is_clean(),
        "the history is in {}\n{}",
        kept.display(),
        verdict.explain(&history)
    );
    println!("    {kind}: {verdict}");
    let copied = verdict.judged.get(&Invariant::I13).copied().unwrap_or_default();
    ensure!(copied == job.written as u64, "{copied} of {} inputs were judged", job.written);
    for invariant in [Invariant::I1, Invariant::I9, Invariant::I10, Invariant::I11, Invariant::I12]
    {
        ensure!(verdict.judged.contains_key(&invariant), "nothing was held against {invariant:?}");
    }
    world.shown(kind, Capability::ExactlyOnce, job.written);
    Ok(())
}
