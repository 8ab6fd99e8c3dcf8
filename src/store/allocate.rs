//! Prepares the segment behind the active one: renames an emptied one, or makes a new one.
//!
//! Runs on a thread of its own, or inline: the keeper can be long about an index or a checkpoint,
//! and a fast log has filled the next segment meanwhile.
//!
//! A file has its final name, size and blocks, all durable, before the log can reach it, so a
//! roll touches no disk. A full disk is not a failure: the log says so and this is tried again.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::{IoFailure, MaintainError};
use super::segment::{SegmentReader, name};
use super::shared::Shared;
use super::state::Prepared;
use crate::env::fs::{File, Mode};

/// Emptied segment files of the configured size.
#[derive(Debug, Default)]
pub(super) struct Allocator {
    pub(super) spares: Vec<PathBuf>,
}

impl Shared {
    /// Prepares the next segment unless that is done; whether there is one now.
    pub(super) fn prepare_segment(&self) -> Result<bool, MaintainError> {
        let mut allocator = self.locked(&self.allocator);
        let state = self.state();
        if state.prepared.is_some() || state.damaged.is_some() {
            return Ok(true);
        }
        let next = state.segments.values().next_back().map_or(state.appended, |last| last.end());
        drop(state);
        match self.make_segment(&mut allocator, next) {
            Ok(prepared) => {
                let mut state = self.state();
                if state.segments.is_empty() {
                    // The first of all; the next call makes the one behind it.
                    state.activate(prepared);
                    self.publish(&state);
                    return Ok(false);
                }
                state.prepared = Some(prepared);
                if std::mem::take(&mut state.full) {
                    tracing::info!("the disk has room again: appends go on");
                }
                self.publish(&state);
                drop(state);
                self.allocated.notify_waiters();
                Ok(true)
            }
            Err(failure) if failure.is_full() => {
                let mut state = self.state();
                if !std::mem::replace(&mut state.full, true) {
                    tracing::warn!(%failure, "no room for another segment: appends are refused");
                }
                self.publish(&state);
                drop(state);
                self.allocated.notify_waiters();
                Ok(false)
            }
            Err(failure) => Err(self.fail(failure).into()),
        }
    }

    fn make_segment(&self, allocator: &mut Allocator, first: u64) -> Result<Prepared, IoFailure> {
        let (fs, dir) = (&self.env.fs, &self.config.dir);
        let size_bytes = self.config.segment_size_bytes;
        let path = name::log(dir, first);
        let recycled = match allocator.spares.pop() {
            Some(spare) => {
                fs.rename(&spare, &path).map_err(IoFailure::of("rename", &spare))?;
                true
            }
            None => {
                self.create_segment(&path, size_bytes)?;
                false
            }
        };
        fs.sync_dir(dir).map_err(IoFailure::of("sync directory", dir))?;
        let reader = Arc::new(SegmentReader::open(fs, &path, first)?);
        let direct = fs.open(&path, Mode::Direct).map_err(IoFailure::of("open", &path))?;
        let written_to = if recycled { first + size_bytes } else { first };
        Ok(Prepared { size_bytes, reader, direct, written_to })
    }

    fn create_segment(&self, path: &std::path::Path, size_bytes: u64) -> Result<(), IoFailure> {
        let (fs, dir) = (&self.env.fs, &self.config.dir);
        let free = fs.free_bytes(dir).map_err(IoFailure::of("measure", dir))?;
        if free < size_bytes.saturating_add(self.config.reserve_bytes) {
            let full = std::io::ErrorKind::StorageFull.into();
            return Err(IoFailure::of("allocate", path)(full));
        }
        // The name comes last: whatever has it is whole and on disk, also for the next run.
        let unfinished = path.with_extension(&name::UNFINISHED[1..]);
        if fs.size(&unfinished).map_err(IoFailure::of("look up", &unfinished))?.is_some() {
            fs.remove(&unfinished).map_err(IoFailure::of("remove", &unfinished))?;
        }
        let file: Arc<dyn File> =
            fs.open(&unfinished, Mode::CreateNew).map_err(IoFailure::of("create", &unfinished))?;
        let made = file
            .allocate(size_bytes)
            .map_err(IoFailure::of("allocate", &unfinished))
            .and_then(|()| file.sync().map_err(IoFailure::of("sync", &unfinished)));
        drop(file);
        if let Err(failure) = made {
            fs.remove(&unfinished).map_err(IoFailure::of("remove", &unfinished))?;
            return Err(failure);
        }
        fs.rename(&unfinished, path).map_err(IoFailure::of("rename", &unfinished))
    }
}

/// The allocator's thread. Once the disk is full the keeper tries, who also frees segments.
pub(super) fn run(shared: &Shared) {
    loop {
        if shared.prepare_segment().is_err() {
            return;
        }
        let mut state = shared.state();
        while !state.lacks_segment() {
            if state.closing || shared.watermark.failed().is_some() {
                return;
            }
            state.allocator_idle = true;
            let Ok(woken) = shared.allocator_wake.wait(state) else {
                shared.env.spawner.fatal("a panic left the log half changed")
            };
            state = woken;
        }
        if state.closing || shared.watermark.failed().is_some() {
            return;
        }
    }
}
