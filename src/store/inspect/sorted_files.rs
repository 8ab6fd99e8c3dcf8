//! The sorted segments of a directory: printed and checked.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use super::{CheckReport, DumpSpec, Finding, InspectError, Inspection, Problem, line};
use crate::env::fs::Mode;
use crate::model::Position;
use crate::store::error::{DamageReason, IoFailure};
use crate::store::frame::Header;
use crate::store::index::MappedIndex;
use crate::store::scan::Scanner;
use crate::store::segment::name;
use crate::store::sorted::{self, Seen};

/// A sorted segment that the checkpoint names, and its file.
struct Named {
    path: PathBuf,
    first: u64,
    size_bytes: u64,
    problem: Option<Problem>,
}

impl Inspection {
    fn sorted(&self) -> Vec<Named> {
        let named = self.checkpoint.iter().flat_map(|checkpoint| &checkpoint.sorted);
        let named = named.map(|(number, size_bytes)| Named {
            path: name::sorted(&self.dir, *number),
            first: sorted::first_of(*number),
            size_bytes: *size_bytes,
            problem: match self.sorted.get(number) {
                None => Some(Problem::Missing),
                Some(size) if size < size_bytes => Some(Problem::Cut),
                Some(_) => None,
            },
        });
        named.collect()
    }

    fn scanner(&self, named: &Named, frames_end: u64) -> Result<Scanner, IoFailure> {
        let path = &named.path;
        let file = self.env.fs.open(path, Mode::Read).map_err(IoFailure::of("open", path))?;
        let frames_bytes = frames_end - named.first;
        Scanner::new(file, named.first, frames_bytes, self.durability.log_tag)
            .map_err(IoFailure::of("read", path))
    }

    fn frames_and_index(&self, named: &Named) -> Result<Option<(u64, MappedIndex)>, IoFailure> {
        sorted::frames_and_index(&self.env.fs, &named.path, named.first, self.durability.log_tag)
    }

    /// Prints the frames of all sorted segments, at most `left`.
    pub(super) fn dump_sorted(
        &self,
        spec: DumpSpec,
        left: &mut u64,
        out: &mut dyn Write,
    ) -> Result<(), InspectError> {
        for named in self.sorted().iter().filter(|named| named.problem.is_none()) {
            let Named { path, size_bytes, .. } = named;
            writeln!(out, "sorted segment {} {size_bytes} bytes", path.display())?;
            let whole = self.frames_and_index(named)?;
            let end = whole.map_or(named.first + size_bytes - size_bytes % 8, |(end, _)| end);
            let mut scanner = self.scanner(named, end)?;
            sorted::walk::<InspectError>(&mut scanner, |seen, _| {
                let line = match seen {
                    Seen::Frame(header) => line(&header, "whole", spec),
                    Seen::Bent(header) => line(&header, "batch damaged", spec),
                    Seen::Lost(at) => Some(format!("{at:>14} lost")),
                };
                if let Some(line) = line.filter(|_| *left > 0) {
                    *left -= 1;
                    writeln!(out, "{line}")?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Checks the frames of all sorted segments against their checksums and their index.
    pub(super) fn check_sorted(&self, report: &mut CheckReport) -> Result<(), InspectError> {
        for named in self.sorted() {
            let mut found = |at: Option<u64>, problem| {
                let (path, at) = (named.path.clone(), at.map(Position));
                report.findings.push(Finding { path, at, problem });
            };
            if let Some(problem) = named.problem {
                found(None, problem);
                continue;
            }
            let Some((end, index)) = self.frames_and_index(&named)? else {
                found(None, Problem::Checksum);
                continue;
            };
            let (mut stored, mut bytes) = (HashMap::new(), 0);
            let mut scanner = self.scanner(&named, end)?;
            let reached = sorted::walk::<InspectError>(&mut scanner, |seen, _| {
                match seen {
                    Seen::Frame(header) => {
                        bytes += u64::from(header.length);
                        stored.insert(header.position, header);
                    }
                    Seen::Bent(header) => {
                        found(Some(header.position), Problem::Damage(DamageReason::Body));
                        stored.insert(header.position, header);
                    }
                    Seen::Lost(at) => found(Some(at), Problem::Damage(DamageReason::Header)),
                }
                Ok(())
            })?;
            if reached < end {
                found(Some(reached), Problem::Damage(DamageReason::Header));
            }
            if !index_matches(&index, named.first, &stored) {
                found(None, Problem::IndexDiffers);
            }
            report.segments += 1;
            report.frames += stored.len() as u64;
            report.bytes += bytes;
        }
        Ok(())
    }
}

/// Whether an index names exactly the frames that are there, by queue and offset.
fn index_matches(index: &MappedIndex, first: u64, stored: &HashMap<u64, Header>) -> bool {
    let Ok(mem) = index.to_mem() else { return false };
    let entries = mem.runs().iter().flat_map(|run| run.entries.iter().map(|it| (run.queue, it)));
    let mut named = 0;
    for (queue, entry) in entries {
        named += 1;
        let same = stored.get(&(first + u64::from(entry.at))).is_some_and(|frame| {
            frame.queue == queue
                && frame.base_offset == entry.base_offset
                && frame.length == entry.length
                && frame.offsets == entry.offsets
        });
        if !same {
            return false;
        }
    }
    named == stored.len()
}
