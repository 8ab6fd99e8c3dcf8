//! Puts what was appended on disk: one synced write for everything that is ready.
//!
//! While a write runs the next group fills, so groups form by themselves. Whole blocks go to disk
//! straight from the ring; the block that the log ends in goes through a zero-padded buffer and is
//! written again with the next group, with the same beginning, so tearing it harms nothing. A
//! failed write is final. Runs on the writer's thread, or inline when the store has no threads.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use super::chunk::AlignedBuffer;
use super::config::{BLOCK_BYTES, StoreConfig};
use super::error::{IoFailure, LogFailed};
use super::frame::Kind;
use super::ring::Piece;
use super::segment::Segment;
use super::shared::Shared;
use super::state::{Content, State};
use super::width::index;
use crate::env::fs::File;
use crate::model::QueueId;

/// Groups up to this size are extended with zeros when they reach fresh blocks.
const SMALL_GROUP_BYTES: u64 = 64 << 10;

/// Scratch memory of the one who writes.
#[derive(Debug)]
pub(super) struct Writer {
    block: AlignedBuffer,
    zeros: AlignedBuffer,
}

impl Writer {
    pub(super) fn new(config: &StoreConfig) -> std::io::Result<Self> {
        let zeros = index(config.zero_ahead_bytes.max(BLOCK_BYTES));
        Ok(Self {
            block: AlignedBuffer::allocate(index(BLOCK_BYTES))?,
            zeros: AlignedBuffer::allocate(zeros)?,
        })
    }
}

/// What one write puts on disk.
struct Group {
    direct: Arc<dyn File>,
    path: std::path::PathBuf,
    /// Where in the file the write begins.
    at: u64,
    /// The bytes, from a block's start on.
    pieces: Vec<Piece>,
    /// How many of them there are.
    bytes: usize,
    /// Zeros behind the last block.
    zeros: usize,
    /// Everything below is durable afterwards.
    durable: u64,
    /// Whether it completes its segment.
    completes: bool,
}

/// What there is to do.
enum Next {
    Write(Group),
    /// Nothing is stored up to this position, where a closed segment ends.
    Jump(u64),
    Nothing,
}

impl Shared {
    /// Writes the next group; whether there was one.
    pub(super) fn write_group(&self, writer: &mut Writer) -> Result<bool, LogFailed> {
        if let Some(failed) = self.watermark.failed() {
            return Err(failed.clone());
        }
        let mut state = self.state();
        let durable = self.watermark.durable();
        let told = state.take_notified(self.watermark.visible());
        let next = self.next_write(&mut state, durable);
        drop(state);
        told.iter().for_each(|notify| notify.notify_one());
        match next {
            Next::Nothing => Ok(false),
            Next::Jump(end) => {
                self.watermark.advance(end);
                self.call_keeper();
                Ok(true)
            }
            Next::Write(group) => {
                if let Err(source) = write(writer, &group) {
                    return Err(self.fail(IoFailure::of("write", &group.path)(source)));
                }
                self.watermark.advance(group.durable);
                if group.completes {
                    self.call_keeper();
                }
                Ok(true)
            }
        }
    }

    fn call_keeper(&self) {
        let mut state = self.state();
        state.keeper_due = true;
        self.release(state);
    }

    /// Writes until nothing is left.
    pub(super) fn write_all(&self) -> Result<(), LogFailed> {
        let mut writer = self.locked(&self.writer);
        while self.write_group(&mut writer)? {}
        Ok(())
    }

    fn next_write(&self, state: &mut State, from: u64) -> Next {
        let appended = state.appended;
        let Some((_, segment)) = state.segments.range_mut(..=from).next_back() else {
            return Next::Nothing;
        };
        let limit = segment.closed_at.unwrap_or(appended);
        if from >= limit {
            return match segment.closed_at {
                Some(_) if from < segment.end() => {
                    segment.direct = None;
                    Next::Jump(segment.end())
                }
                Some(_) | None => Next::Nothing,
            };
        }
        let start = from - from % BLOCK_BYTES;
        let to = limit.min(start + self.config.group_size_bytes_max);
        let to = state.groups.end_of_write(from, to);
        let to = state.barriers.end_of_write(from, to);
        let block_end = to.next_multiple_of(BLOCK_BYTES);
        let zeros_end = self.zeros_end(segment, block_end, to - from);
        segment.written_to = segment.written_to.max(zeros_end);
        let completes = segment.closed_at == Some(to);
        let direct = if completes { segment.direct.take() } else { segment.direct.clone() };
        let (Some(pieces), Some(direct)) = (state.ring.pieces(start..to), direct) else {
            unreachable!("what is not durable has its file open and is in the ring");
        };
        Next::Write(Group {
            direct,
            path: segment.reader.path.clone(),
            at: start - segment.first,
            pieces,
            bytes: index(to - start),
            zeros: index(zeros_end - block_end),
            durable: if completes { segment.end() } else { to },
            completes,
        })
    }

    /// Where a write that ends with `block_end` should end, to leave written blocks behind it.
    fn zeros_end(&self, segment: &Segment, block_end: u64, group_bytes: u64) -> u64 {
        let ahead = self.config.zero_ahead_bytes;
        if ahead == 0 || block_end <= segment.written_to || group_bytes > SMALL_GROUP_BYTES {
            return block_end;
        }
        block_end.next_multiple_of(ahead).min(segment.end())
    }
}

fn write(writer: &mut Writer, group: &Group) -> std::io::Result<()> {
    let block = index(BLOCK_BYTES);
    let whole = group.bytes - group.bytes % block;
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(group.pieces.len() + 2);
    let mut seen = 0;
    let last = writer.block.get_mut();
    last.fill(0);
    for (chunk, range) in &group.pieces {
        let bytes = chunk.get(range.clone());
        let (direct, rest) = bytes.split_at(bytes.len().min(whole.saturating_sub(seen)));
        if !direct.is_empty() {
            slices.push(IoSlice::new(direct));
        }
        let at = (seen + direct.len()).saturating_sub(whole);
        last[at..at + rest.len()].copy_from_slice(rest);
        seen += bytes.len();
    }
    if whole < group.bytes {
        slices.push(IoSlice::new(writer.block.get()));
    }
    if let Some(zeros) = writer.zeros.get().get(..group.zeros).filter(|zeros| !zeros.is_empty()) {
        slices.push(IoSlice::new(zeros));
    }
    group.direct.write_synced_at(&slices, group.at)
}

/// The writer's thread.
pub(super) fn run(shared: &Shared) {
    let mut writer = shared.locked(&shared.writer);
    loop {
        match shared.write_group(&mut writer) {
            Ok(true) => {}
            Ok(false) => {
                if !wait_for_work(shared) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Sleeps until something is appended; false when the log ends.
fn wait_for_work(shared: &Shared) -> bool {
    let mut state = shared.state();
    let quiet = Duration::from_millis(shared.config.mark_after_ms);
    while state.appended <= shared.watermark.durable() {
        if state.closing || shared.watermark.failed().is_some() {
            return false;
        }
        state.writer_idle = true;
        if state.unmarked && state.damaged.is_none() {
            let waited = shared.writer_wake.wait_timeout(state, quiet);
            let Ok((woken, timeout)) = waited else {
                shared.env.spawner.fatal("a panic left the log half changed")
            };
            state = woken;
            if timeout.timed_out() && state.appended <= shared.watermark.durable() {
                let moment = shared.moment();
                let mark = Content::control(Kind::Mark, QueueId(0), 0);
                // A full segment takes no mark; the next frame records as much.
                if state.append_control(mark, moment).is_err() {
                    state.unmarked = false;
                }
                shared.publish(&state);
            }
        } else {
            let Ok(woken) = shared.writer_wake.wait(state) else {
                shared.env.spawner.fatal("a panic left the log half changed")
            };
            state = woken;
        }
    }
    state.writer_idle = false;
    true
}
