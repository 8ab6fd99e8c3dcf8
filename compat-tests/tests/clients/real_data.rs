//! The main job: real files, line by line and file by file, written by three clients with three codecs into topics of 1,
//! 12 and 200 partitions, while a group of four clients reads them, one member dies, another comes and the broker is
//! killed twice. Every line arrives, in order per key, byte for byte, and lies in the log exactly once.
//!
//! A few megabytes run with every test run. `BRAID_REAL_DATA_MB=200` makes it the whole job.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{
    Client, Input, Kind, Member, Membership, Produce, Production, Start, until,
};
use braid_compat_tests::dataset::{self, DataFile};
use braid_compat_tests::record::{Record, RecordReader, RecordWriter};
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use braid_compat_tests::{install, server};

const SHORT_MB: u64 = 8;

/// The broker dies in the first two.
const PHASES: u64 = 3;

const TIMEOUT: Duration = Duration::from_secs(1800);
const QUIET: Duration = Duration::from_secs(120);

pub(crate) fn add(suite: &mut Suite) {
    suite.add_alone("real_data::every_line_arrives_once_in_order", main_job);
}

/// One third of the job: a topic, who writes it, and how.
struct Part {
    topic: &'static str,
    partitions: i32,
    producer: Kind,
    codec: &'static str,
    /// Or file by file.
    by_line: bool,
    /// The files that go here, as indexes into the set.
    files: Vec<u32>,
    records: u64,
    bytes: u64,
}

impl Part {
    fn produce<'a>(&self, input: &'a Path) -> Result<Produce<'a>> {
        Ok(Produce {
            codec: self.codec,
            idempotent: true,
            linger_ms: 20,
            window: u32::try_from(self.records / 20)?.clamp(10, 20_000),
            delivery_timeout_ms: 600_000,
            max_request_bytes: Some(1_500_000),
            ..Produce::new(Input::File(input))
        })
    }
}

/// Where in the set a record of the log comes from.
#[derive(Clone, Copy)]
struct Origin {
    file: u32,
    start: u32,
    end: u32,
}

struct Job {
    files: Vec<DataFile>,
    parts: Vec<Part>,
}

fn key(file: u32) -> String {
    format!("file-{file}")
}

impl Job {
    fn new(size_bytes: u64) -> Result<Job> {
        let files = dataset::collect(size_bytes)?;
        let part = |topic, partitions, producer, codec, by_line| Part {
            topic,
            partitions,
            producer,
            codec,
            by_line,
            files: Vec::new(),
            records: 0,
            bytes: 0,
        };
        let mut parts = vec![
            part("real.1", 1, Kind::Java, "zstd", true),
            part("real.12", 12, Kind::Librdkafka, "lz4", true),
            part("real.200", 200, Kind::FranzGo, "gzip", false),
        ];
        for (i, file) in files.iter().enumerate() {
            let part = parts.iter_mut().min_by_key(|part| part.bytes).context("three parts")?;
            part.files.push(u32::try_from(i)?);
            part.bytes += file.bytes.len() as u64;
            part.records += if part.by_line { file.lines().count() as u64 } else { 1 };
        }
        Ok(Job { files, parts })
    }

    /// Writes a part as one record file for each phase, taking lines of many files in turn, as a busy producer would
    /// send them.
    fn write(&self, part: &Part, dir: &Path) -> Result<Vec<PathBuf>> {
        let paths: Vec<PathBuf> =
            (0..PHASES).map(|phase| dir.join(format!("{}.{phase}", part.topic))).collect();
        let mut writers: Vec<RecordWriter> =
            paths.iter().map(|path| RecordWriter::create(path)).collect::<Result<_>>()?;
        let mut written = 0;
        let mut write = |file: u32, value: &[u8]| {
            let phase = usize::try_from(written * PHASES / part.records)?;
            written += 1;
            writers[phase].write(&Record::new(part.topic, Some(key(file).as_bytes()), Some(value)))
        };
        for some in part.files.chunks(20) {
            let file = |index: &u32| &self.files[*index as usize];
            if !part.by_line {
                some.iter().try_for_each(|index| write(*index, &file(index).bytes))?;
                continue;
            }
            let mut sources: Vec<_> =
                some.iter().map(|index| (*index, file(index).lines())).collect();
            while !sources.is_empty() {
                let mut left = Vec::new();
                for (index, mut lines) in sources {
                    let Some(line) = lines.next() else { continue };
                    write(index, line)?;
                    left.push((index, lines));
                }
                sources = left;
            }
        }
        writers.into_iter().try_for_each(RecordWriter::finish)?;
        Ok(paths)
    }

    fn part(&self, topic: &str) -> Result<&Part> {
        self.parts
            .iter()
            .find(|part| part.topic == topic)
            .with_context(|| format!("a record of {topic}"))
    }

    fn slice(&self, origin: Origin) -> &[u8] {
        &self.files[origin.file as usize].bytes[origin.start as usize..origin.end as usize]
    }

    fn is(&self, origin: Origin, record: &Record) -> bool {
        record.key.as_deref() == Some(key(origin.file).as_bytes())
            && record.value.as_deref() == Some(self.slice(origin))
    }
}

/// The whole log as one reader saw it: for each partition the origin of each offset.
struct Contents(HashMap<(String, i32), Vec<Origin>>);

impl Contents {
    /// Reads the dump of the log: every line of every file once, in the file's order, at offsets without gaps.
    fn check(job: &Job, dump: &Path) -> Result<Contents> {
        let mut contents: HashMap<(String, i32), Vec<Origin>> = HashMap::new();
        let mut next: HashMap<u32, u32> = HashMap::new();
        let mut homes: HashMap<u32, i32> = HashMap::new();
        let mut reader = RecordReader::open(dump)?;
        while let Some(record) = reader.read_next()? {
            let part = job.part(&record.topic)?;
            let name = record
                .key
                .as_deref()
                .and_then(|key| std::str::from_utf8(key).ok()?.strip_prefix("file-"));
            let file: u32 = name.context("a key that nobody wrote")?.parse()?;
            let bytes = &job.files.get(file as usize).context("a file that nobody wrote")?.bytes;
            let start = *next.get(&file).unwrap_or(&0);
            let rest = bytes.get(start as usize..).context("more lines than the file has")?;
            let length = match rest.iter().position(|byte| *byte == b'\n') {
                Some(length) if part.by_line => length,
                _ => rest.len(),
            };
            let origin = Origin { file, start, end: start + u32::try_from(length)? };
            let where_ =
                || format!("{}/{} offset {}", record.topic, record.partition, record.offset);
            ensure!(
                job.is(origin, &record),
                "{}: not what follows in {}",
                where_(),
                job.files[file as usize].path.display()
            );
            next.insert(file, origin.end + 1);
            let home = *homes.entry(file).or_insert(record.partition);
            ensure!(
                home == record.partition,
                "{}: the key's other records lie in {home}",
                where_()
            );
            let partition = contents.entry((record.topic.clone(), record.partition)).or_default();
            ensure!(
                record.offset == i64::try_from(partition.len())?,
                "{}: {} is due",
                where_(),
                partition.len()
            );
            partition.push(origin);
        }
        for part in &job.parts {
            for file in &part.files {
                let bytes = &job.files[*file as usize].bytes;
                let read = *next.get(file).unwrap_or(&0) as usize;
                // An end of line that ends the file begins no further line.
                ensure!(
                    read >= bytes.len(),
                    "{} of {} bytes of {} are there",
                    read,
                    bytes.len(),
                    key(*file)
                );
            }
            let count: usize = contents
                .iter()
                .filter(|((topic, _), _)| topic == part.topic)
                .map(|(_, list)| list.len())
                .sum();
            ensure!(
                count as u64 == part.records,
                "{}: {count} records for {}",
                part.topic,
                part.records
            );
        }
        Ok(Contents(contents))
    }
}

/// What the group was given so far.
struct Delivered<'a> {
    job: &'a Job,
    contents: &'a Contents,
    seen: HashMap<(String, i32), Vec<bool>>,
    count: u64,
    total: u64,
}

impl<'a> Delivered<'a> {
    fn new(job: &'a Job, contents: &'a Contents) -> Delivered<'a> {
        let seen = contents
            .0
            .iter()
            .map(|(partition, list)| (partition.clone(), vec![false; list.len()]))
            .collect();
        let total = job.parts.iter().map(|part| part.records).sum();
        Delivered { job, contents, seen, count: 0, total }
    }

    /// Takes in what a member has newly written down.
    fn read(&mut self, output: &mut MemberOutput) -> Result<()> {
        while let Some(record) = output.reader.read_next()? {
            let partition = (record.topic.clone(), record.partition);
            let origins =
                self.contents.0.get(&partition).context("a partition that nobody wrote")?;
            let offset = usize::try_from(record.offset)?;
            let origin = *origins.get(offset).context("an offset that nobody wrote")?;
            ensure!(
                self.job.is(origin, &record),
                "{partition:?} offset {offset} came with other bytes"
            );
            let last = output.last.insert(partition.clone(), record.offset);
            if last.is_some_and(|last| record.offset != last + 1) {
                *output.jumps.entry(partition.clone()).or_default() += 1;
            }
            let seen = self.seen.get_mut(&partition).context("a partition that nobody wrote")?;
            self.count += u64::from(!std::mem::replace(&mut seen[offset], true));
            output.records += 1;
        }
        Ok(())
    }
}

/// One member's words, read on as they grow.
struct MemberOutput {
    kind: Kind,
    reader: RecordReader,
    last: HashMap<(String, i32), i64>,
    /// How often a partition went on elsewhere than at the next offset: at most once for each assignment.
    jumps: HashMap<(String, i32), usize>,
    records: u64,
}

impl MemberOutput {
    fn of(member: &Member<'_>) -> Result<MemberOutput> {
        let reader = RecordReader::open(&member.output)?;
        Ok(MemberOutput {
            kind: member.kind,
            reader,
            last: HashMap::new(),
            jumps: HashMap::new(),
            records: 0,
        })
    }
}

fn size_bytes() -> Result<u64> {
    let mb = match std::env::var("BRAID_REAL_DATA_MB") {
        Ok(mb) => mb.parse().context("BRAID_REAL_DATA_MB is a number of megabytes")?,
        Err(_) => SHORT_MB,
    };
    Ok(mb * 1_000_000)
}

fn main_job(world: &World) -> Result<()> {
    let job = Job::new(size_bytes()?)?;
    let dir = tempfile::Builder::new().prefix("real-").tempdir_in(install::scratch()?)?;
    let inputs: Vec<Vec<PathBuf>> =
        job.parts.iter().map(|part| job.write(part, dir.path())).collect::<Result<_>>()?;

    let mut server = Server::start(&[])?;
    for part in &job.parts {
        Kind::Java.shared()?.new_topic(
            &server,
            part.topic,
            part.partitions,
            &[("max.message.bytes", "2000000")],
        )?;
    }
    // The group stands before the first record is written, so that every member has a share of the work.
    let topics: Vec<&str> = job.parts.iter().map(|part| part.topic).collect();
    let membership = Membership { session_timeout_ms: 6000, ..Membership::new("real", &topics) };
    let kinds = [Kind::Java, Kind::Librdkafka, Kind::KafkaPython, Kind::KafkaJs];
    let clients: Vec<Client> = kinds.into_iter().map(Client::start).collect::<Result<_>>()?;
    let newcomer = Client::start(Kind::FranzGo)?;
    let mut members: Vec<Member<'_>> =
        clients.iter().map(|client| client.join(&server, &membership)).collect::<Result<_>>()?;
    let mut all: Vec<&mut Member<'_>> = members.iter_mut().collect();
    until(&mut all, QUIET, "four members share", |all| {
        Ok(all.iter().all(|member| !member.owned.is_empty())
            && all.iter().map(|member| member.owned.len()).sum::<usize>() == 213)
    })?;

    let begun = Instant::now();
    let producers: Vec<Client> =
        job.parts.iter().map(|part| Client::start(part.producer)).collect::<Result<_>>()?;
    for phase in 0..usize::try_from(PHASES)? {
        let mut writing = Vec::new();
        for ((part, inputs), client) in job.parts.iter().zip(&inputs).zip(&producers) {
            writing.push(client.begin_produce(&server, &part.produce(&inputs[phase])?)?);
        }
        match phase {
            0 => kill_amid(&mut server, &mut writing)?,
            1 => {
                everyone_reads(&mut members)?;
                kill_amid(&mut server, &mut writing)?;
                clients[1].driver()?.kill()?;
                members.push(newcomer.join(&server, &membership)?);
            }
            _ => {}
        }
        for (part, production) in job.parts.iter().zip(writing) {
            let produced = production.finish(TIMEOUT)?;
            let all = produced.acked == produced.sent && produced.failed == 0;
            ensure!(
                all,
                "{} of {} records were acknowledged in {}",
                produced.acked,
                produced.sent,
                part.topic
            );
        }
    }
    let produced_in = begun.elapsed();
    let dump = newcomer.consume_into_file(&server, &topics, Start::Earliest, TIMEOUT)?;
    let contents = Contents::check(&job, &dump)?;
    std::fs::remove_file(dump)?;

    let outputs = deliver(&job, &contents, &mut members)?;
    report(&job, &server, &outputs, produced_in, begun.elapsed())?;
    for part in &job.parts {
        world.shown(part.producer, Capability::RealData, usize::try_from(part.records)?);
    }
    for output in &outputs {
        world.shown(output.kind, Capability::RealData, usize::try_from(output.records)?);
    }
    for (i, member) in members.into_iter().enumerate() {
        if i != 1 {
            member.leave()?;
        }
    }
    Ok(())
}

/// Kills the broker when the parts that are written by lines have begun and not ended, and starts it again.
fn kill_amid(server: &mut Server, writing: &mut [Production<'_>]) -> Result<()> {
    for production in writing.iter_mut().take(2) {
        production.acked(1000, QUIET)?;
    }
    server.kill()?;
    let mut at_work = 0;
    for production in writing {
        at_work += usize::from(!production.call.has_ended_by_now());
    }
    ensure!(at_work > 0, "nothing was being written when the broker was killed");
    server.restart()
}

/// Waits until every member has read something.
fn everyone_reads(members: &mut [Member<'_>]) -> Result<()> {
    let mut all: Vec<&mut Member<'_>> = members.iter_mut().collect();
    until(&mut all, QUIET, "every member reads", |all| {
        Ok(all.iter().all(|member| member.received > 0))
    })
}

/// Follows what the members write down until the group has read the whole log.
fn deliver(
    job: &Job,
    contents: &Contents,
    members: &mut [Member<'_>],
) -> Result<Vec<MemberOutput>> {
    let mut outputs: Vec<MemberOutput> =
        members.iter().map(MemberOutput::of).collect::<Result<_>>()?;
    let mut delivered = Delivered::new(job, contents);
    let begun = Instant::now();
    let mut moved = begun;
    while delivered.count < delivered.total {
        let before = delivered.count;
        for (member, output) in members.iter_mut().zip(&mut outputs) {
            member.listen(Duration::from_millis(20))?;
            delivered.read(output)?;
        }
        if delivered.count > before {
            moved = Instant::now();
        }
        let quiet = moved.elapsed();
        ensure!(
            quiet < QUIET,
            "the group stopped at {} of {} records",
            delivered.count,
            delivered.total
        );
    }
    for (member, output) in members.iter().zip(&outputs) {
        let most = output.jumps.values().copied().max().unwrap_or(0);
        ensure!(
            most <= member.assignments,
            "{} jumped {most} times in {} assignments",
            member.kind,
            member.assignments
        );
    }
    Ok(outputs)
}

fn report(
    job: &Job,
    server: &Server,
    outputs: &[MemberOutput],
    produced_in: Duration,
    read_in: Duration,
) -> Result<()> {
    let usage = server.usage()?;
    let records: u64 = job.parts.iter().map(|part| part.records).sum();
    let bytes: u64 = job.parts.iter().map(|part| part.bytes).sum();
    println!(
        "    {:?}: {records} messages, {bytes} bytes of {} files",
        server::kind(),
        job.files.len()
    );
    for part in &job.parts {
        println!(
            "    {}: {} messages, {} bytes by {} with {}",
            part.topic, part.records, part.bytes, part.producer, part.codec
        );
    }
    for output in outputs {
        println!("    read by {}: {} messages", output.kind, output.records);
    }
    println!(
        "    written in {:.1} s, read by the group in {:.1} s; broker: peak memory {:.1} MB, {:.1} CPU seconds",
        produced_in.as_secs_f64(),
        read_in.as_secs_f64(),
        bytes_as_mb(usage.peak_memory_bytes),
        usage.cpu_seconds
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a report, two digits matter")]
fn bytes_as_mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
