//! Looks at a store's directory that no broker has open: prints its frames, or checks all of it.
//!
//! Sorted segments come first, as far as the newest checkpoint names them. Changes nothing. Judges damage by the same rule as recovery, but reads every segment, also
//! those that recovery takes from their index.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{Checkpoint, Meta};
use super::error::{DamageReason, IoFailure};
use super::frame::{Header, Kind, Lineage};
use super::index::MappedIndex;
use super::recovery::{Listing, newest_checkpoint, reason};
use super::scan::Scanner;
use super::segment::name;
use super::walk::{Durability, Step};
use crate::env::Env;
use crate::env::fs::{Lock, Mode};
use crate::model::{Position, QueueId};

mod sorted_files;

/// Why a directory could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A broker has it open.
    #[error("{} is in use by a broker: stop it first", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It is no store's, or what tells whose it is is damaged.
    #[error("{} does not say whose log this is: {} is missing or damaged", dir.display(), name::META)]
    NoStore {
        /// The directory.
        dir: PathBuf,
    },
    /// The disk failed, or the output.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The output failed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Which frames to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DumpSpec {
    /// Only this queue's.
    pub queue: Option<QueueId>,
    /// Only from this position on.
    pub from: Position,
    /// Only so many.
    pub count_max: Option<u64>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in the log, when it is a place.
    pub at: Option<Position>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Stored bytes are not what was written.
    #[error("{0}")]
    Damage(DamageReason),
    /// A checkpoint names it, and it is not there.
    #[error("the file is missing")]
    Missing,
    /// It is shorter than it has to be.
    #[error("the file was cut")]
    Cut,
    /// Its checksum differs.
    #[error("the checksum differs")]
    Checksum,
    /// The index names a frame that is not there, or lacks one that is.
    #[error("the index does not match the segment")]
    IndexDiffers,
}

/// What a check saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Problems, by file.
    pub findings: Vec<Finding>,
    /// Segments read, sorted ones among them.
    pub segments: u64,
    /// Whole frames read.
    pub frames: u64,
    /// Bytes of batches in them.
    pub bytes: u64,
    /// Where the log ends.
    pub end: Position,
}

/// Prints the frames of a directory, one per line.
///
/// # Errors
/// See [`InspectError`].
pub fn dump(
    env: &Env,
    dir: &Path,
    spec: DumpSpec,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    let mut inspection = Inspection::open(env, dir)?;
    let mut left = spec.count_max.unwrap_or(u64::MAX);
    if spec.from == Position(0) {
        // The oldest records; they have left their positions.
        inspection.dump_sorted(spec, &mut left, out)?;
    }
    for (first, size_bytes) in inspection.segments.clone() {
        if first + size_bytes <= spec.from.0 || !inspection.durability.logs.contains_key(&first) {
            continue;
        }
        let path = name::log(dir, first);
        writeln!(out, "segment {} {size_bytes} bytes", path.display())?;
        let ended = inspection.walk(first, size_bytes, &mut |step, _| {
            let line = match step {
                Step::Frame(header) => line(header, "whole", spec),
                Step::Bent(header) => line(header, "batch damaged", spec),
                Step::Lost { at, next } => Some(format!("{at:>14} lost up to {next}")),
                Step::LostTail { at, tail } => Some(format!("{at:>14} lost up to {tail}")),
                Step::Full { closed_at } => Some(format!("{closed_at:>14} end of the segment")),
                Step::Tail(at) => Some(format!("{at:>14} end of the log")),
            };
            match line {
                Some(_) if left == 0 => Ok(()),
                Some(line) => {
                    left -= 1;
                    writeln!(out, "{line}").map_err(InspectError::from)
                }
                None => Ok(()),
            }
        })?;
        if ended || left == 0 {
            break;
        }
    }
    Ok(())
}

fn line(header: &Header, state: &str, spec: DumpSpec) -> Option<String> {
    if header.position < spec.from.0 || spec.queue.is_some_and(|queue| queue != header.queue) {
        return None;
    }
    let Header { position, epoch, generation, store_time_ms, durable, .. } = header;
    let what = match header.kind {
        Kind::Data => format!(
            "data queue {} offsets {}..{} length {}",
            header.queue,
            header.base_offset,
            header.base_offset.saturating_add(i64::from(header.offsets)),
            header.length,
        ),
        Kind::Filler => "filler".to_owned(),
        Kind::Start => "start".to_owned(),
        Kind::EpochStart => "epoch start".to_owned(),
        Kind::LogStart => format!("log start queue {} at {}", header.queue, header.base_offset),
        Kind::QueueDropped => format!("queue {} dropped", header.queue),
        Kind::Mark => "mark".to_owned(),
    };
    Some(format!(
        "{position:>14} {what} epoch {epoch} generation {generation} time {store_time_ms} \
         durable {durable} {state}"
    ))
}

/// Reads everything of a directory and says what is wrong with it.
///
/// # Errors
/// See [`InspectError`]; damage is no error but a finding.
pub fn check(env: &Env, dir: &Path) -> Result<CheckReport, InspectError> {
    let mut inspection = Inspection::open(env, dir)?;
    let mut report = CheckReport {
        findings: std::mem::take(&mut inspection.findings),
        ..CheckReport::default()
    };
    inspection.check_sorted(&mut report)?;
    for (first, size_bytes) in inspection.segments.clone() {
        let path = name::log(dir, first);
        let problem = match inspection.durability.logs.get(&first) {
            None => Some(Problem::Missing),
            Some(size) if *size < size_bytes => Some(Problem::Cut),
            Some(_) => None,
        };
        if let Some(problem) = problem {
            report.findings.push(Finding { path, at: None, problem });
            continue;
        }
        if inspection.check_segment(first, size_bytes, &mut report)? {
            break;
        }
    }
    Ok(report)
}

struct Inspection {
    env: Env,
    dir: PathBuf,
    durability: Durability,
    checkpoint: Option<Checkpoint>,
    /// First position and size of every segment that holds part of the log.
    segments: Vec<(u64, u64)>,
    /// Sorted segments, by number, and their sizes.
    sorted: BTreeMap<u64, u64>,
    /// Of the queues in the checkpoint: below this they have nothing in the CommitLog's segments.
    gone_below: HashMap<QueueId, i64>,
    lineage: Lineage,
    findings: Vec<Finding>,
    _lock: Box<dyn Lock>,
}

impl Inspection {
    fn open(env: &Env, dir: &Path) -> Result<Self, InspectError> {
        let no_store = || InspectError::NoStore { dir: dir.to_owned() };
        let meta = dir.join(name::META);
        if env.fs.size(&meta).map_err(IoFailure::of("look up", &meta))?.is_none() {
            return Err(no_store());
        }
        let lock = match env.fs.lock(&dir.join(name::LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(InspectError::InUse { dir: dir.to_owned() });
            }
            Err(error) => return Err(IoFailure::of("lock", dir)(error).into()),
        };
        let bytes = env.fs.read_all(&meta).map_err(IoFailure::of("read", &meta))?;
        let log_tag = Meta::decode(&bytes).map_err(|_| no_store())?.log_tag();
        let listing = Listing::read(env, dir)?;
        let findings = checkpoint_findings(env, dir, &listing)?;
        let checkpoint = newest_checkpoint(env, dir, log_tag, &listing.checkpoints)?;
        let checkpoint = checkpoint.map(|(checkpoint, _)| checkpoint);
        let rows = checkpoint.iter().flat_map(|checkpoint| &checkpoint.queues);
        let mut gone_below: HashMap<_, _> =
            rows.map(|row| (QueueId(row.queue), row.log_start)).collect();
        for (queue, to) in checkpoint.iter().flat_map(|checkpoint| &checkpoint.compacted) {
            gone_below.entry(QueueId(*queue)).and_modify(|from| *from = (*from).max(*to));
        }
        let segments = segments_of(checkpoint.as_ref(), &listing.logs);
        let durability = Durability {
            fs: Arc::clone(&env.fs),
            dir: dir.to_owned(),
            logs: listing.logs,
            log_tag,
            known: checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.durable),
        };
        Ok(Self {
            env: env.clone(),
            dir: dir.to_owned(),
            durability,
            checkpoint,
            segments,
            sorted: listing.sorted,
            gone_below,
            lineage: Lineage::FIRST,
            findings,
            _lock: lock,
        })
    }

    /// Steps through a segment; whether the log ends in it.
    fn walk(
        &mut self,
        first: u64,
        size_bytes: u64,
        each: &mut dyn FnMut(&Step, &mut Scanner) -> Result<(), InspectError>,
    ) -> Result<bool, InspectError> {
        let path = name::log(&self.dir, first);
        let io = |source| IoFailure { operation: "read", path: path.clone(), source };
        let file = self.env.fs.open(&path, Mode::Read).map_err(IoFailure::of("open", &path))?;
        let mut scanner =
            Scanner::new(file, first, size_bytes, self.durability.log_tag).map_err(io)?;
        let mut at = first;
        loop {
            let step = self.durability.step(&mut scanner, at, self.since(at)).map_err(io)?;
            if let Step::Frame(header) | Step::Bent(header) = &step {
                self.lineage = self.lineage.max(header.lineage());
            }
            each(&step, &mut scanner)?;
            match step.next() {
                Some(next) => at = next,
                None => return Ok(!matches!(step, Step::Full { .. })),
            }
        }
    }

    fn since(&self, at: u64) -> Lineage {
        match &self.checkpoint {
            Some(checkpoint) if at >= checkpoint.position => self.lineage.max(checkpoint.lineage()),
            Some(_) | None => self.lineage,
        }
    }

    /// Checks the frames of a segment and its index; whether the log ends in it.
    fn check_segment(
        &mut self,
        first: u64,
        size_bytes: u64,
        report: &mut CheckReport,
    ) -> Result<bool, InspectError> {
        let path = name::log(&self.dir, first);
        let mut stored: HashMap<u64, Header> = HashMap::new();
        let mut damage: Vec<(u64, DamageReason)> = Vec::new();
        let mut end = first;
        let ended = self.walk(first, size_bytes, &mut |step, scanner| {
            match step {
                Step::Frame(header) => {
                    report.frames += 1;
                    report.bytes += u64::from(header.length);
                    end = header.end();
                }
                Step::Bent(header) => {
                    damage.push((header.position, reason(scanner, step, DamageReason::Body)));
                    end = header.end();
                }
                Step::Lost { at, .. } | Step::LostTail { at, .. } => {
                    damage.push((*at, reason(scanner, step, DamageReason::Header)));
                }
                Step::Full { closed_at } => end = *closed_at,
                Step::Tail(tail) => end = *tail,
            }
            if let Step::Frame(header) | Step::Bent(header) = step
                && header.kind == Kind::Data
            {
                stored.insert(header.position, *header);
            }
            Ok(())
        })?;
        report.segments += 1;
        report.end = Position(end);
        for (at, reason) in damage {
            let at = Some(Position(at));
            let problem = Problem::Damage(reason);
            report.findings.push(Finding { path: path.clone(), at, problem });
        }
        if !ended {
            self.check_index(first, size_bytes, &stored, report)?;
        }
        Ok(ended)
    }

    fn check_index(
        &self,
        first: u64,
        size_bytes: u64,
        stored: &HashMap<u64, Header>,
        report: &mut CheckReport,
    ) -> Result<(), InspectError> {
        let path = name::index(&self.dir, first);
        let sealed = |checkpoint: &Checkpoint| first + size_bytes <= checkpoint.position;
        if !self.checkpoint.as_ref().is_some_and(sealed) {
            return Ok(());
        }
        let mut found = |problem| {
            report.findings.push(Finding { path: path.clone(), at: None, problem });
        };
        if self.env.fs.size(&path).map_err(IoFailure::of("look up", &path))?.is_none_or(|n| n == 0)
        {
            // Not written yet when the last run ended: the next one makes it.
            return Ok(());
        }
        let file = self.env.fs.open(&path, Mode::Read).map_err(IoFailure::of("open", &path))?;
        let map = file.map().map_err(IoFailure::of("map", &path))?;
        let Ok(mem) = MappedIndex::open(map).and_then(|index| index.to_mem()) else {
            found(Problem::Checksum);
            return Ok(());
        };
        let mut named = 0;
        for run in mem.runs() {
            for entry in &run.entries {
                let frame = stored.get(&(first + u64::from(entry.at)));
                let same = frame.is_some_and(|frame| {
                    frame.queue == run.queue
                        && frame.base_offset == entry.base_offset
                        && frame.length == entry.length
                        && frame.offsets == entry.offsets
                });
                if !same {
                    found(Problem::IndexDiffers);
                    return Ok(());
                }
                named += usize::from(self.is_live(run.queue, entry.next()));
            }
        }
        let live = |frame: &&Header| {
            self.is_live(frame.queue, frame.base_offset.saturating_add(i64::from(frame.offsets)))
        };
        if stored.values().filter(live).count() != named {
            found(Problem::IndexDiffers);
        }
        Ok(())
    }

    /// Whether records of a queue that end at `next` count in the CommitLog. An index that was
    /// made again leaves others out.
    fn is_live(&self, queue: QueueId, next: i64) -> bool {
        self.gone_below.get(&queue).is_some_and(|gone_below| next > *gone_below)
    }
}

fn checkpoint_findings(
    env: &Env,
    dir: &Path,
    listing: &Listing,
) -> Result<Vec<Finding>, IoFailure> {
    let mut findings = Vec::new();
    for number in &listing.checkpoints {
        let path = name::checkpoint(dir, *number);
        let bytes = env.fs.read_all(&path).map_err(IoFailure::of("read", &path))?;
        if Checkpoint::decode(&bytes).is_err() {
            findings.push(Finding { path, at: None, problem: Problem::Checksum });
        }
    }
    if listing.checkpoints.is_empty() {
        let path = name::checkpoint(dir, 1);
        findings.push(Finding { path, at: None, problem: Problem::Missing });
    }
    Ok(findings)
}

/// The segments that the checkpoint names and those that follow them without a gap.
fn segments_of(checkpoint: Option<&Checkpoint>, logs: &BTreeMap<u64, u64>) -> Vec<(u64, u64)> {
    let mut segments = checkpoint.map_or_else(Vec::new, |checkpoint| checkpoint.segments.clone());
    let start = checkpoint.map_or(0, |checkpoint| checkpoint.position);
    let mut next = segments.last().map_or(start, |(first, size_bytes)| first + size_bytes);
    while let Some(size_bytes) = logs.get(&next).filter(|size_bytes| **size_bytes > 0) {
        segments.push((next, *size_bytes));
        next += size_bytes;
    }
    segments
}
