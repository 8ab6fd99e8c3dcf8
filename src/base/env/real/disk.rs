//! Files of the operating system.

use std::fs;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags, SeekFrom};

use crate::env::fs::{Entry, File, Fs, Lock, Map, Mode};

/// The operating system's file system.
#[derive(Debug)]
pub struct RealFs;

/// An open file of the operating system. `dsync` says that every write is synced by the
/// descriptor's own flags.
#[derive(Debug)]
struct RealFile {
    file: fs::File,
    dsync: bool,
}

#[derive(Debug)]
struct FileLock {
    _file: fs::File,
}

impl Lock for FileLock {}

impl Fs for RealFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        let (file, dsync) = match mode {
            Mode::Read => (options.open(path)?, false),
            Mode::Write => (options.write(true).open(path)?, false),
            Mode::CreateNew => (options.write(true).create_new(true).open(path)?, false),
            Mode::Direct => {
                let mut direct = options.clone();
                direct.write(true).custom_flags(flags(OFlags::DIRECT | OFlags::DSYNC));
                match direct.open(path) {
                    Ok(file) => (file, true),
                    // The file system refuses O_DIRECT (EINVAL): synced by `fdatasync` instead.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                        (options.write(true).open(path)?, false)
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(Arc::new(RealFile { file, dsync }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let is_dir = meta.is_dir();
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                size_bytes: if is_dir { 0 } else { meta.len() },
                is_dir,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(FileLock { _file: file }))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn volume_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

impl RealFile {
    fn write_all(&self, slices: &[IoSlice<'_>], mut at: u64) -> io::Result<()> {
        if let [one] = slices {
            return self.file.write_all_at(one, at);
        }
        let mut owned: Vec<IoSlice<'_>> = slices.iter().map(|s| IoSlice::new(s)).collect();
        let mut rest = &mut owned[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = rest.len().min(1024);
            match rustix::io::pwritev(&self.file, &rest[..batch], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read_at(&mut buf[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        self.write_all(slices, at)
    }

    fn write_synced_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        self.write_all(slices, at)?;
        if self.dsync { Ok(()) } else { self.file.sync_data() }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_cached(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // No fallocate here: the size alone; a full disk then shows at the write.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                if self.len()? < len {
                    self.file.set_len(len)
                } else {
                    Ok(())
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn data_end(&self) -> io::Result<u64> {
        // Reads and writes name their positions, so moving the descriptor's own disturbs nobody.
        let len = self.len()?;
        let mut end = 0;
        while end < len {
            let data = match rustix::fs::seek(&self.file, SeekFrom::Data(end)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => break,
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => return Ok(len),
                Err(error) => return Err(error.into()),
            };
            end = rustix::fs::seek(&self.file, SeekFrom::Hole(data))?.max(data + 1);
        }
        Ok(end.min(len))
    }

    fn prefetch(&self, at: u64, len: u64) -> io::Result<()> {
        let Some(len) = NonZeroU64::new(len) else { return Ok(()) };
        Ok(rustix::fs::fadvise(&self.file, at, Some(len), Advice::WillNeed)?)
    }

    fn map(&self) -> io::Result<Map> {
        super::map::map(&self.file)
    }
}
