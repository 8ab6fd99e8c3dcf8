//! Cutting the log of a follower that went another way than its leader.
//!
//! A store is cut closed, by itself, and opened again. A file says where to, before anything is
//! touched; a start that finds it finishes the cut. What was behind is removed or written over with
//! zeros: it may have any epoch, so nothing that is written later could void it. Only what is not
//! committed may be cut, and of that nothing is sealed or in a checkpoint.

use std::io::IoSlice;
use std::path::Path;

use bytes::{Buf, BufMut};

use super::chunk::AlignedBuffer;
use super::config::{BLOCK_BYTES, StoreConfig};
use super::error::{IoFailure, LogFailed, OpenError, TruncateError};
use super::frame::Lineage;
use super::open::Store;
use super::recovery::Listing;
use super::scan::Scanner;
use super::segment::name;
use super::state::State;
use super::width::index;
use crate::env::Env;
use crate::env::fs::Mode;
use crate::model::Position;

const MAGIC: [u8; 4] = *b"BTR\x01";

/// A cut that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    log_tag: u32,
    to: u64,
    /// Nothing was written behind.
    end: u64,
}

impl Cut {
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(28);
        out.put_slice(&MAGIC);
        out.put_u32(self.log_tag);
        out.put_u64(self.to);
        out.put_u64(self.end);
        out.put_u32(crc32fast::hash(&out));
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<28>().filter(|_| bytes.len() == 28)?;
        let (covered, crc) = bytes.split_at(24);
        let mut rest = covered.strip_prefix(&MAGIC)?;
        if crc32fast::hash(covered).to_be_bytes() != *crc {
            return None;
        }
        Some(Self { log_tag: rest.get_u32(), to: rest.get_u64(), end: rest.get_u64() })
    }
}

impl Store {
    /// Closes the store of a follower and takes everything from a position on, where a frame
    /// begins, out of its log, for good. Blocks. The directory is opened again afterwards.
    ///
    /// # Errors
    /// See [`TruncateError`].
    pub fn truncate(mut self, to: Position) -> Result<(), TruncateError> {
        let state = self.shared.state();
        let end = state.appended + state.room_in_segment();
        let end = end.min(state.appended.next_multiple_of(BLOCK_BYTES));
        let (log_tag, following) = (state.log_tag, state.following);
        drop(state);
        let committed = self.shared.watermark.committed();
        if !following {
            return Err(TruncateError::NotFollowing);
        }
        if to.0 > end {
            return Err(TruncateError::BehindEnd(Position(end)));
        }
        if to.0 < committed {
            return Err(TruncateError::BelowCommitted(Position(committed)));
        }
        self.stop_threads();
        self.shared.end(LogFailed::Closed);
        let (env, dir) = (&self.shared.env, &self.shared.config.dir);
        let path = dir.join(name::TRUNCATE);
        let cut = Cut { log_tag, to: to.0, end };
        env.fs.replace(&path, &cut.encode()).map_err(IoFailure::of("write", &path))?;
        carry_out(env, dir, cut)?;
        Ok(())
    }
}

/// Finishes a cut that was begun, if one was.
pub(super) fn finish(env: &Env, config: &StoreConfig, log_tag: u32) -> Result<(), OpenError> {
    let path = config.dir.join(name::TRUNCATE);
    if env.fs.size(&path).map_err(IoFailure::of("look up", &path))?.is_none() {
        return Ok(());
    }
    let bytes = env.fs.read_all(&path).map_err(IoFailure::of("read", &path))?;
    match Cut::decode(&bytes).filter(|cut| cut.log_tag == log_tag) {
        Some(cut) => Ok(carry_out(env, &config.dir, cut)?),
        None => Err(OpenError::Unreadable { path, what: "its checksum or log differs" }),
    }
}

fn carry_out(env: &Env, dir: &Path, cut: Cut) -> Result<(), IoFailure> {
    let fs = &env.fs;
    for (first, size_bytes) in Listing::read(env, dir)?.logs {
        let path = name::log(dir, first);
        if first > cut.to {
            fs.remove(&path).map_err(IoFailure::of("remove", &path))?;
        } else if cut.to < first + size_bytes {
            let end = cut.end.min(first + size_bytes);
            wipe(env, &path, cut.to - first, end.saturating_sub(first))?;
        }
    }
    fs.sync_dir(dir).map_err(IoFailure::of("sync directory", dir))?;
    let path = dir.join(name::TRUNCATE);
    fs.remove(&path).map_err(IoFailure::of("remove", &path))?;
    fs.sync_dir(dir).map_err(IoFailure::of("sync directory", dir))
}

/// Writes over frames that a torn write left whole behind the end of a replica's log. Its leader
/// may write there in any epoch, so nothing else would void them.
pub(super) fn wipe_behind_end(env: &Env, state: &State) -> Result<(), IoFailure> {
    let tail = state.appended;
    let Some(active) = state.segments.values().next_back().filter(|it| tail < it.end()) else {
        return Ok(());
    };
    let path = &active.reader.path;
    let file = env.fs.open(path, Mode::Read).map_err(IoFailure::of("open", path))?;
    let mut scanner = Scanner::new(file, active.first, active.size_bytes, state.log_tag)
        .map_err(IoFailure::of("read", path))?;
    let (mut at, mut end) = (tail, tail);
    while let Some(header) =
        scanner.header_from(at, Lineage::FIRST).map_err(IoFailure::of("read", path))?
    {
        end = header.end().min(active.end());
        at = header.position + 1;
    }
    if end > tail { wipe(env, path, tail - active.first, end - active.first) } else { Ok(()) }
}

/// Makes the bytes of a file between two places zeros, on disk, up to the end of a block.
fn wipe(env: &Env, path: &Path, from: u64, to: u64) -> Result<(), IoFailure> {
    const AT_ONCE: u64 = 64 * BLOCK_BYTES;
    if from >= to {
        return Ok(());
    }
    let read = env.fs.open(path, Mode::Read).map_err(IoFailure::of("open", path))?;
    let write = env.fs.open(path, Mode::Direct).map_err(IoFailure::of("open", path))?;
    let mut buffer =
        AlignedBuffer::allocate(index(AT_ONCE)).map_err(IoFailure::of("take memory for", path))?;
    let mut at = from - from % BLOCK_BYTES;
    buffer.get_mut().fill(0);
    let kept = index(from - at);
    if kept > 0 {
        let block = buffer.get_mut().get_mut(..kept).unwrap_or_default();
        read.read_at(block, at).map_err(IoFailure::of("read", path))?;
    }
    let end = to.next_multiple_of(BLOCK_BYTES);
    while at < end {
        let size = index((end - at).min(AT_ONCE));
        let bytes = buffer.get().get(..size).unwrap_or_default();
        write
            .write_synced_at(&[IoSlice::new(bytes)], at)
            .map_err(IoFailure::of("write over", path))?;
        buffer.get_mut().get_mut(..kept).unwrap_or_default().fill(0);
        at += size as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_reads_back_and_any_flipped_bit_is_noticed() {
        let cut = Cut { log_tag: 0xdead_beef, to: 0x1000, end: 0x2000 };
        let mut bytes = cut.encode();
        assert_eq!(bytes[..8], [b'B', b'T', b'R', 1, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(Cut::decode(&bytes), Some(cut));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Cut::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
