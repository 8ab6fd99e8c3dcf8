//! Files, as narrow as the broker needs them.
//!
//! A write is either *unsynced* (lost, torn or reordered by a power cut until [`File::sync`]
//! returns) or *synced* (on disk when the call returns). Creating, renaming and removing a name
//! is durable only after [`Fs::sync_dir`] of its directory. A failed sync must never be retried:
//! the kernel may have dropped the data and will report success the second time.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What [`Mode::Direct`] demands of a write: position, length and every slice's address are
/// multiples of this.
pub const DIRECT_ALIGN_BYTES: usize = 4096;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new empty file, for reading and writing; an existing one is `AlreadyExists`.
    CreateNew,
    /// An existing file for aligned synced writes that bypass the page cache where the file
    /// system can (`O_DIRECT|O_DSYNC`), and `pwrite` + `fdatasync` where it cannot.
    Direct,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// Size of the file; zero for a directory.
    pub size_bytes: u64,
    /// Whether the name is a directory.
    pub is_dir: bool,
}

/// A held exclusive lock on a path; released when dropped or when the process dies.
pub trait Lock: Send + Sync + fmt::Debug {}

/// Bytes of a read-only map. The map lives as long as any clone of the `Arc`.
pub type Map = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The file system.
pub trait Fs: Send + Sync + fmt::Debug {
    /// Creates a directory and its parents; an existing one is fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;
    /// Renames within one file system, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the directory's names durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// The size of a file, or `None` when there is no such name.
    fn size(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Takes the exclusive lock of a path, creating the file; `WouldBlock` when it is held.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Bytes that unprivileged writers may still use on the file system of `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Bytes that the file system of `dir` has in all.
    fn volume_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// The path from the root on; it need not exist. Links are left as they are.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf>;

    /// Creates a directory and its parents, durably. Syncs what stood before too: an earlier
    /// process may have been killed between making a name and syncing it.
    fn create_dir_synced(&self, dir: &Path) -> io::Result<()> {
        self.create_dir_all(dir)?;
        for parent in dir.ancestors().skip(1) {
            let unnamed = parent.as_os_str().is_empty();
            match self.sync_dir(if unnamed { Path::new(".") } else { parent }) {
                // Not ours: then we made no name in it either.
                Err(error) if is_foreign(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Replaces `path` by `bytes` so that a crash leaves the old content or the new, never less:
    /// write beside it, sync, rename, sync the directory.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("new");
        if self.size(&beside)?.is_some() {
            self.remove(&beside)?;
        }
        let file = self.open(&beside, Mode::CreateNew)?;
        file.write_at(&[IoSlice::new(bytes)], 0)?;
        file.sync()?;
        self.rename(&beside, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        self.sync_dir(dir.unwrap_or_else(|| Path::new(".")))
    }

    /// The whole content of a file.
    fn read_all(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Mode::Read)?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        let n = file.read_at(&mut bytes, 0)?;
        bytes.truncate(n);
        Ok(bytes)
    }
}

/// Whether an error says that the device cannot give back what stands at that place; other places
/// of the file may be well.
#[must_use]
pub fn is_unreadable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error).is_some_and(|errno| {
        [Errno::IO, Errno::NODATA, Errno::BADMSG, Errno::ILSEQ, Errno::UCLEAN].contains(&errno)
    })
}

/// Whether a directory cannot be synced by whoever may not write it either.
fn is_foreign(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
}

/// An open file. Calls block; async code reaches them through [`super::Spawner::blocking`].
pub trait File: Send + Sync + fmt::Debug {
    /// Size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads until `buf` is full or the file ends; returns the bytes read.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all slices at `at`, one behind the other; on error any part may have been written.
    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<()>;
    /// As [`File::write_at`], and these bytes are on disk when it returns, with the size and space
    /// to read them back. Earlier unsynced writes to other bytes stay unsynced.
    fn write_synced_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<()>;
    /// Puts everything written so far on disk (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Lets memory forget what it holds of the file and is not unsynced, so that reads ask the
    /// device. Recovery calls it behind [`File::sync`] before it believes what it reads: after a
    /// failed write of an earlier process, memory may show bytes that the device never took.
    fn drop_cached(&self) -> io::Result<()>;
    /// Reserves blocks for the first `len` bytes and grows the file to at least that size;
    /// `StorageFull` when the disk has no room.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or grows (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Says that these bytes are about to be read, so that the system may fetch them meanwhile, in
    /// large pieces and many at a time. Faulting a map page by page is tens of times slower.
    fn prefetch(&self, at: u64, len: u64) -> io::Result<()> {
        let _ = (at, len);
        Ok(())
    }
    /// Position behind the last byte that may ever have been written: from there on the file reads
    /// as zeros. Where the file system cannot tell, or has read there before, it is larger.
    fn data_end(&self) -> io::Result<u64> {
        self.len()
    }
    /// Maps the file read-only. Only for files that are never cut while a map lives.
    fn map(&self) -> io::Result<Map>;
}

#[cfg(test)]
mod tests;
