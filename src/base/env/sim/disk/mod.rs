//! A disk in memory that keeps exactly the promises of [`crate::env::fs`] and no others.
//!
//! The running process sees every write at once. What a power cut leaves is another matter:
//! whatever was not synced survives by chance, in sectors of 512 bytes, in any order and of any
//! version; `write_synced_at` and `sync` make that file's bytes and size durable, `sync_dir` a
//! directory's names (`names.rs` says what an unsynced name may become). Every mutating or syncing
//! call is an *operation*, numbered from 1; a test runs once, asks [`SimFs::operations`], and then
//! cuts or breaks each number in turn. The same seed and calls give the same image.
//!
//! Beyond the promises: `Mode::Direct` insists on its alignment as Linux does, for reads too; a
//! write to a mapped file is a [`SimFs::violations`] entry; space is finite when asked to be.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::fs::{DIRECT_ALIGN_BYTES, Entry, File, Fs, Lock, Map, Mode};

mod content;
mod fault;
mod inode;
mod mood;
mod names;
mod state;
#[cfg(test)]
mod tests;

pub use fault::{Fault, PowerOff};

use content::PAGE_BYTES;
use fault::{EBADF, EINVAL, EIO};
use names::{Ino, ROOT};
use state::Disk;

/// Free space reported when no capacity is set.
const UNLIMITED_BYTES: u64 = 1 << 40;

/// The simulated file system. Clones share one disk.
#[derive(Clone)]
pub struct SimFs(Arc<Mutex<Disk>>);

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFs").finish_non_exhaustive()
    }
}

/// Control: what a test does to the disk.
impl SimFs {
    /// An empty disk; `seed` decides how injected faults tear.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk::empty(seed))))
    }

    /// Mutating and syncing calls so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Cuts the power while the operation of this number runs (1 is the first). It and every later
    /// call fail with [`PowerOff`]. Followed by [`SimFs::restart`] instead of [`SimFs::reboot`], it
    /// was not the power but a `kill -9` in the middle of that operation.
    pub fn cut_at(&self, operation: u64) {
        self.disk().plan.cut_at = Some(operation);
    }

    /// Makes one operation go wrong.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.disk().plan.at.insert(operation, fault);
    }

    /// Makes this and every later operation go wrong.
    pub fn fail_from(&self, operation: u64, fault: Fault) {
        self.disk().plan.from = Some((operation, fault));
    }

    /// Takes back every planned fault and cut.
    pub fn clear_faults(&self) {
        self.disk().plan = fault::Plan::default();
    }

    /// Cuts the power between operations.
    pub fn cut_power(&self) {
        self.disk().switch_off();
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.disk().is_off()
    }

    /// What a power cut at this point leaves, as a disk that shares nothing with this one, which
    /// is off from here on. Another seed gives another possible outcome of the same cut.
    #[must_use]
    pub fn reboot(&self, seed: u64) -> Self {
        let mut disk = self.disk();
        disk.switch_off();
        Self(Arc::new(Mutex::new(disk.after_cut(seed))))
    }

    /// What `kill -9` leaves: everything written, what was unsynced still unsynced, no lock held.
    /// This disk is off for the killed process.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut disk = self.disk();
        disk.switch_off();
        Self(Arc::new(Mutex::new(disk.after_kill())))
    }

    /// Limits the space (bytes), or lifts the limit. May be below what is used.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.disk().capacity_bytes = capacity_bytes;
    }

    /// Space taken: written or reserved blocks, also of removed files that are still open.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.disk().used_pages() * PAGE_BYTES
    }

    /// Bytes that reads of files asked for so far; looks through maps are not counted.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.disk().bytes_read
    }

    /// Inverts a bit of a file, in memory and on the platter.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn flip_bit(&self, path: &Path, at: u64, bit: u8) -> io::Result<()> {
        let mut disk = self.disk();
        let ino = file_at(&disk, path)?;
        disk.files.entry(ino).or_default().flip_bit(at, bit);
        Ok(())
    }

    /// Makes reads (and maps) that touch `range` of a file fail with EIO, also after a reboot.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn fail_reads(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let mut disk = self.disk();
        let ino = file_at(&disk, path)?;
        disk.files.entry(ino).or_default().unreadable.push(range);
        Ok(())
    }

    /// Rules of the seam that the code under test broke. Tests assert that it is empty.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.disk().violations.clone()
    }

    /// Every operation so far, one line each.
    #[must_use]
    pub fn trace(&self) -> String {
        self.disk().trace.iter().map(|traced| format!("{traced}\n")).collect()
    }

    /// How this disk came to be, its files, and what is not durable.
    #[must_use]
    pub fn dump(&self) -> String {
        self.disk().dump()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        disk.check_on()?;
        Ok(disk)
    }
}

fn file_at(disk: &Disk, path: &Path) -> io::Result<Ino> {
    let ino = disk.names.get(&disk.names.resolve(path)?).ok_or(io::ErrorKind::NotFound)?;
    if disk.names.is_dir(ino) { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(ino) }
}

impl Fs for SimFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.running()?;
        let mut parent = ROOT;
        for name in names::components(dir)? {
            let name = names::Name { dir: parent, name };
            parent = match disk.names.get(&name) {
                Some(ino) if disk.names.is_dir(ino) => ino,
                Some(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => disk.change("create_dir", dir, |disk, operation| {
                    Ok(disk.create_dir(operation, name))
                })?,
            };
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut disk = self.running()?;
        let ino = match mode {
            Mode::Read | Mode::Write | Mode::Direct => file_at(&disk, path)?,
            Mode::CreateNew => disk.change("create", path, |disk, operation| {
                let name = disk.names.resolve(path)?;
                if disk.names.get(&name).is_some() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Ok(disk.create(operation, name))
            })?,
        };
        disk.files.entry(ino).or_default().open += 1;
        Ok(Arc::new(SimFile { fs: self.clone(), ino, mode, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.running()?.change("rename", from, |disk, operation| {
            let (from, to) = (disk.names.resolve(from)?, disk.names.resolve(to)?);
            disk.rename(operation, from, to)
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.running()?.change("remove", path, |disk, operation| {
            let name = disk.names.resolve(path)?;
            disk.remove(operation, name)
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.running()?.sync_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let disk = self.running()?;
        let dir = disk.names.resolve_dir(dir)?;
        let entry = |(name, ino): (&String, Ino)| Entry {
            name: name.clone(),
            size_bytes: disk.files.get(&ino).map_or(0, |file| file.content().size_bytes()),
            is_dir: disk.names.is_dir(ino),
        };
        Ok(disk.names.list(dir).map(entry).collect())
    }

    fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        let disk = self.running()?;
        match disk.names.resolve(path) {
            Ok(name) => Ok(disk
                .names
                .get(&name)
                .map(|ino| disk.files.get(&ino).map_or(0, |file| file.content().size_bytes()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut disk = self.running()?;
        let name = disk.names.resolve(path)?;
        let ino = match disk.names.get(&name) {
            Some(ino) => ino,
            None => disk
                .change("create lock", path, |disk, operation| Ok(disk.create(operation, name)))?,
        };
        if !disk.locks.insert(ino) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        disk.files.entry(ino).or_default().open += 1;
        Ok(Box::new(SimLock { fs: self.clone(), ino }))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok((self.running()?.free_pages().saturating_mul(PAGE_BYTES)).min(UNLIMITED_BYTES))
    }

    fn volume_bytes(&self, _dir: &Path) -> io::Result<u64> {
        self.running().map(|_| UNLIMITED_BYTES)
    }

    /// A simulated process stands at the root.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        self.running().map(|_| Path::new("/").join(path))
    }
}

#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    ino: Ino,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.fs.disk();
        disk.locks.remove(&self.ino);
        disk.closed(self.ino, |file| &mut file.open);
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    ino: Ino,
    mode: Mode,
    path: PathBuf,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.fs.disk().closed(self.ino, |file| &mut file.open);
    }
}

impl SimFile {
    fn writable(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.fs.running()?;
        match self.mode {
            Mode::Read => Err(io::Error::from_raw_os_error(EBADF)),
            Mode::Write | Mode::CreateNew | Mode::Direct => Ok(disk),
        }
    }

    /// What `O_DIRECT` asks of a position and of each slice's address and length.
    fn check_alignment(&self, at: u64, slices: &[&[u8]]) -> io::Result<()> {
        let aligned = |n: usize| n.is_multiple_of(DIRECT_ALIGN_BYTES);
        let fine = self.mode != Mode::Direct
            || at.is_multiple_of(DIRECT_ALIGN_BYTES as u64)
                && slices.iter().all(|s| aligned(s.as_ptr().addr()) && aligned(s.len()));
        if fine { Ok(()) } else { Err(io::Error::from_raw_os_error(EINVAL)) }
    }

    fn write(&self, slices: &[IoSlice<'_>], at: u64, synced: bool) -> io::Result<()> {
        let mut disk = self.writable()?;
        self.check_alignment(at, &slices.iter().map(|slice| &**slice).collect::<Vec<_>>())?;
        disk.write(self.ino, &self.path, slices, at, synced)
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let disk = self.fs.running()?;
        Ok(disk.files.get(&self.ino).map_or(0, |file| file.content().size_bytes()))
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut disk = self.fs.running()?;
        self.check_alignment(at, &[&*buf])?;
        disk.bytes_read += buf.len() as u64;
        let Some(file) = disk.files.get(&self.ino) else { return Ok(0) };
        let end = at + buf.len() as u64;
        if file.unreadable.iter().any(|broken| broken.start < end && at < broken.end) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(file.content().read(buf, at))
    }

    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        self.write(slices, at, false)
    }

    fn write_synced_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        self.write(slices, at, true)
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.running()?.sync(self.ino, &self.path)
    }

    fn drop_cached(&self) -> io::Result<()> {
        self.fs.running()?.drop_cached(self.ino);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Err(io::Error::from_raw_os_error(EINVAL));
        }
        self.writable()?.allocate(self.ino, &self.path, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?.set_len(self.ino, &self.path, len)
    }

    fn map(&self) -> io::Result<Map> {
        let mut disk = self.fs.running()?;
        let file = disk.files.entry(self.ino).or_default();
        if !file.unreadable.is_empty() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        file.maps += 1;
        let bytes = file.content().to_vec();
        Ok(Arc::new(SimMap { bytes, fs: self.fs.clone(), ino: self.ino }))
    }
}

/// A copy of a sealed file's bytes, counted so that a write under it shows.
#[derive(Debug)]
struct SimMap {
    bytes: Vec<u8>,
    fs: SimFs,
    ino: Ino,
}

impl AsRef<[u8]> for SimMap {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for SimMap {
    fn drop(&mut self) {
        self.fs.disk().closed(self.ino, |file| &mut file.maps);
    }
}
