//! kill -9 of the broker while clients write: what was acknowledged is there, once, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Client, Input, Kind, Produce, Produced, Production, Start};
use braid_compat_tests::record::{Record, read_records};
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;

const TIMEOUT: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 4;
const KEYS: u32 = 40;

pub(crate) fn add(suite: &mut Suite) {
    suite.add_alone("crashes::idempotent_writes_come_once_through_kill_9", |world| {
        idempotent(world, Kind::is_core)
    });
    suite.add_alone("crashes::idempotent_writes_of_more_clients_come_once", |world| {
        idempotent(world, |kind| !kind.is_core())
    });
    suite.add_alone("crashes::twenty_kills_under_load_lose_nothing", twenty);
}

/// One client's stream of numbered records.
pub(crate) struct Stream {
    pub(crate) kind: Kind,
    topic: String,
    idempotent: bool,
    acks: &'static str,
}

impl Stream {
    pub(crate) fn new(kind: Kind, idempotent: bool, acks: &'static str) -> Stream {
        let topic = format!("crash.{kind}.{}", if idempotent { "once" } else { acks });
        Stream { kind, topic, idempotent, acks }
    }

    fn begin<'a>(
        &self,
        client: &'a Client,
        server: &Server,
        count: u64,
        window: u32,
    ) -> Result<Production<'a>> {
        let input =
            Input::Numbers { topic: &self.topic, prefix: "n", count, keys: KEYS, value_bytes: 100 };
        let produce = Produce {
            idempotent: self.idempotent,
            acks: self.acks,
            window,
            linger_ms: 1,
            delivery_timeout_ms: 120_000,
            ..Produce::new(input)
        };
        client.begin_produce(server, &produce)
    }

    /// Holds what was acknowledged against what every partition holds in the end.
    fn check(&self, produced: &Produced, read: &[Record]) -> Result<u64> {
        let codes: BTreeSet<i16> = produced.acks.iter().map(|ack| ack.code).collect();
        ensure!(
            produced.failed == 0,
            "{}: {} of {} were refused, codes {codes:?}",
            self.topic,
            produced.failed,
            produced.sent
        );
        let mut at: HashMap<(i32, i64), u64> = HashMap::new();
        let mut last: BTreeMap<&[u8], u64> = BTreeMap::new();
        let mut next: BTreeMap<i32, i64> = BTreeMap::new();
        let mut seen: HashMap<u64, u32> = HashMap::new();
        for record in read {
            let value = std::str::from_utf8(record.value.as_deref().unwrap_or_default())?;
            let number: u64 = value
                .strip_prefix("n-")
                .context("not our record")?
                .trim_end_matches('.')
                .parse()?;
            let key = record.key.as_deref().context("no key")?;
            ensure!(
                key == format!("k{}", number % u64::from(KEYS)).as_bytes(),
                "{number} came under another key"
            );
            let next = next.entry(record.partition).or_default();
            ensure!(
                record.offset == *next,
                "{}/{}: offset {} after {next}",
                self.topic,
                record.partition,
                record.offset
            );
            *next += 1;
            if self.idempotent {
                let before = last.insert(key, number);
                ensure!(
                    before.is_none_or(|before| before < number),
                    "{}: {number} after {before:?}",
                    self.topic
                );
            }
            *seen.entry(number).or_default() += 1;
            at.insert((record.partition, record.offset), number);
        }
        for ack in &produced.acks {
            let index = u64::try_from(ack.index)?;
            ensure!(
                seen.contains_key(&index),
                "{}: record {index} was acknowledged and is lost",
                self.topic
            );
            // Without idempotence an offset may be that of an earlier try.
            if self.idempotent && ack.offset >= 0 {
                let found = at.get(&(ack.partition, ack.offset));
                ensure!(
                    found == Some(&index),
                    "{}: {found:?} lies where {index} was acknowledged",
                    self.topic
                );
            }
        }
        let twice = seen.values().filter(|count| **count > 1).count();
        ensure!(!self.idempotent || twice == 0, "{}: {twice} records come twice", self.topic);
        ensure!(
            !self.idempotent || seen.len() as u64 == produced.sent,
            "{}: {} of {}",
            self.topic,
            seen.len(),
            produced.sent
        );
        Ok(seen.len() as u64)
    }
}

pub(crate) fn check_all(
    server: &Server,
    streams: &[Stream],
    produced: &[Produced],
) -> Result<Vec<u64>> {
    let reader = Kind::FranzGo.shared()?;
    let mut counts = Vec::new();
    for (stream, produced) in streams.iter().zip(produced) {
        let output =
            reader.consume_into_file(server, &[&stream.topic], Start::Earliest, TIMEOUT)?;
        counts.push(stream.check(produced, &read_records(&output)?)?);
        std::fs::remove_file(output)?;
    }
    Ok(counts)
}

/// Kills and restarts `rounds` times, one broker of a cluster after the other, each time after every stream was
/// acknowledged something new. Each stream knows one of the brokers at first.
pub(crate) fn run(
    servers: &mut [Server],
    streams: &[Stream],
    rounds: u64,
    step: u64,
    window: u32,
) -> Result<Vec<Produced>> {
    let clients: Vec<Client> =
        streams.iter().map(|stream| Client::start(stream.kind)).collect::<Result<_>>()?;
    for stream in streams {
        Kind::Java.shared()?.new_topic(&servers[0], &stream.topic, PARTITIONS, &[])?;
    }
    let mut running = Vec::new();
    for ((stream, client), known) in streams.iter().zip(&clients).zip((0..servers.len()).cycle()) {
        running.push(stream.begin(client, &servers[known], u64::MAX >> 12, window)?);
    }
    let mut acked = vec![0; running.len()];
    for round in 0..rounds {
        for (production, acked) in running.iter_mut().zip(&mut acked) {
            // Not always at the same distance.
            let more = step + (round * 617) % step;
            *acked = production.acked(*acked + more, TIMEOUT)?;
        }
        let next = usize::try_from(round)? % servers.len();
        servers[next].kill()?;
        servers[next].restart()?;
    }
    for (production, acked) in running.iter_mut().zip(&mut acked) {
        *acked = production.acked(*acked + step, TIMEOUT)?;
        production.call.stop()?;
    }
    let mut produced = Vec::new();
    for (production, client) in running.into_iter().zip(&clients) {
        let told = production.finish(TIMEOUT)?;
        if told.failed > 0 {
            println!("    {} said last:\n{}", client.kind, client.driver()?.log_tail(5));
        }
        produced.push(told);
    }
    Ok(produced)
}

fn idempotent(world: &World, taken: fn(Kind) -> bool) -> Result<()> {
    let able = |kind: &Kind| taken(*kind) && Capability::Idempotence.excuse(*kind).is_none();
    let kinds = Kind::ALL.into_iter().filter(able);
    let streams: Vec<Stream> = kinds.map(|kind| Stream::new(kind, true, "all")).collect();
    let mut server = Server::start(&[])?;
    let produced = run(std::slice::from_mut(&mut server), &streams, 3, 1000, 500)?;
    let counts = check_all(&server, &streams, &produced)?;
    for (stream, count) in streams.iter().zip(counts) {
        world.shown(stream.kind, Capability::Idempotence, usize::try_from(count)?);
    }
    Ok(())
}

fn twenty(world: &World) -> Result<()> {
    let streams = [
        Stream::new(Kind::Java, true, "all"),
        Stream::new(Kind::Librdkafka, true, "all"),
        Stream::new(Kind::Java, false, "1"),
        Stream::new(Kind::Librdkafka, false, "all"),
    ];
    let mut server = Server::start(&[])?;
    let produced = run(std::slice::from_mut(&mut server), &streams, 20, 2000, 2000)?;
    let counts = check_all(&server, &streams, &produced)?;
    for (stream, count) in streams.iter().zip(counts) {
        world.shown(stream.kind, Capability::Crashes, usize::try_from(count)?);
    }
    Ok(())
}
