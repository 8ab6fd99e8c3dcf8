//! Steps through the frames of a segment and tells a torn end of the log from damage.
//!
//! Where no whole frame is, either the log ends there, since what was being written never became
//! durable, or what stood there was durable once: then it is damage. What decides is the highest
//! durable watermark known: the checkpoint's, and those that whole frames further on carry. What
//! the device cannot read is never a torn end: it may have been acknowledged, and nobody can see.
//! Recovery and the offline tools judge by this one rule.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::frame::{ALIGN, HEADER_BYTES, Header, Kind, Lineage};
use super::scan::{Found, Scanner};
use super::segment::name;
use crate::env::Fs;
use crate::env::fs::Mode;

/// What is known to have been durable.
#[derive(Debug)]
pub(super) struct Durability {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    /// Segment files, by first position, and their sizes.
    pub(super) logs: BTreeMap<u64, u64>,
    pub(super) log_tag: u32,
    /// Everything below was durable once.
    pub(super) known: u64,
}

/// What comes next in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A whole frame.
    Frame(Header),
    /// A frame whose batch is damaged.
    Bent(Header),
    /// Frames are lost from `at` on; the next one is at `next`.
    Lost { at: u64, next: u64 },
    /// Frames are lost from `at` on, and the log ends within them.
    LostTail { at: u64, tail: u64 },
    /// The segment is full; its last frame ends at `closed_at`.
    Full { closed_at: u64 },
    /// The log ends here.
    Tail(u64),
}

impl Step {
    /// Where to go on, if the segment goes on.
    pub(super) fn next(&self) -> Option<u64> {
        match self {
            Self::Frame(header) | Self::Bent(header) => Some(header.end()),
            Self::Lost { next, .. } => Some(*next),
            Self::LostTail { .. } | Self::Full { .. } | Self::Tail(_) => None,
        }
    }
}

impl Durability {
    /// What is at a position, given the lineage that frames there must have at least.
    pub(super) fn step(
        &mut self,
        scanner: &mut Scanner,
        at: u64,
        since: Lineage,
    ) -> io::Result<Step> {
        if at + HEADER_BYTES as u64 > scanner.end() {
            return Ok(Step::Full { closed_at: at.min(scanner.end()) });
        }
        let found = scanner.at(at, since)?;
        // A group may end within a frame: only as a whole was it durable.
        let end = match found {
            Found::Frame(header) if header.kind == Kind::Filler => {
                return Ok(Step::Full { closed_at: at + HEADER_BYTES as u64 });
            }
            Found::Frame(header) => return Ok(Step::Frame(header)),
            Found::BentBody(header) => header.end(),
            Found::Nothing => at + HEADER_BYTES as u64,
        };
        let is_unreadable = scanner.is_unreadable(at..end);
        if !self.was_durable(scanner, at, end, since)? && !is_unreadable {
            return Ok(Step::Tail(at));
        }
        if let Found::BentBody(header) = found {
            return Ok(Step::Bent(header));
        }
        if let Some(header) = scanner.header_from(at + 1, since)? {
            return Ok(Step::Lost { at, next: header.position });
        }
        if self.known < scanner.end() && !self.next_segment_began(scanner.end(), since)? {
            // What is known to have been durable is not written over.
            let tail = scanner.readable_from(at.max(self.known).next_multiple_of(ALIGN));
            return Ok(Step::LostTail { at, tail });
        }
        Ok(Step::Lost { at, next: scanner.end() })
    }

    /// Whether what stood between `at` and `end`, where no whole frame is, had been durable.
    fn was_durable(
        &mut self,
        scanner: &mut Scanner,
        at: u64,
        end: u64,
        since: Lineage,
    ) -> io::Result<bool> {
        let mut from = at + 1;
        while self.known < end {
            let Some(header) = scanner.any_header_from(from, since)? else { break };
            self.known = self.known.max(header.durable);
            from = header.position + 1;
        }
        if self.known < end && self.next_segment_began(scanner.end(), since)? {
            self.known = scanner.end();
        }
        Ok(self.known >= end)
    }

    /// Segments are written strictly in order: a frame in the next one says that this one was
    /// durable to its end.
    fn next_segment_began(&self, end: u64, since: Lineage) -> io::Result<bool> {
        let Some(size_bytes) = self.logs.get(&end) else { return Ok(false) };
        let file = self.fs.open(&name::log(&self.dir, end), Mode::Read)?;
        Scanner::new(file, end, *size_bytes, self.log_tag)?.begins(since)
    }
}
