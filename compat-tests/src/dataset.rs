//! Real data: files that a machine with a Rust toolchain has anyway. What is taken is the same for the same machine.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::install;

/// Larger files are left out: they would not fit into one record.
const FILE_SIZE_BYTES_MAX: u64 = 900_000;

/// One file of the set.
#[derive(Debug)]
pub struct DataFile {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl DataFile {
    /// The file's lines without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        whole.split(|byte| *byte == b'\n')
    }
}

/// Takes files in turn from every place that has some, until they make `size_bytes`.
///
/// # Errors
/// When the machine has not that much.
pub fn collect(size_bytes: u64) -> Result<Vec<DataFile>> {
    let mut walks: VecDeque<Walk> =
        roots()?.into_iter().filter(|root| root.is_dir()).map(Walk::new).collect();
    let mut files = Vec::new();
    let mut taken = 0;
    while taken < size_bytes {
        let Some(mut walk) = walks.pop_front() else { break };
        let Some(path) = walk.next() else { continue };
        walks.push_back(walk);
        // What cannot be read or has vanished is not part of the set.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if !bytes.is_empty() {
            taken += bytes.len() as u64;
            files.push(DataFile { path, bytes });
        }
    }
    ensure!(
        taken >= size_bytes,
        "this machine has only {taken} bytes of files to take, {size_bytes} were asked for"
    );
    Ok(files)
}

fn roots() -> Result<Vec<PathBuf>> {
    let sysroot = install::run(Command::new("rustc").args(["--print", "sysroot"]))?;
    let sysroot = Path::new(sysroot.trim());
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home =
        cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).unwrap_or_default();
    Ok(vec![
        sysroot.join("share"),
        sysroot.join("lib/rustlib/src"),
        cargo_home.join("registry/src"),
        PathBuf::from("/var/lib/dpkg/info"),
        PathBuf::from("/usr/share/doc"),
        PathBuf::from("/usr/include"),
        PathBuf::from("/usr/lib"),
    ])
}

/// A directory's regular files in the order of their names, depth first.
struct Walk {
    /// Sorted backwards: the next is the last.
    open: Vec<PathBuf>,
}

impl Walk {
    fn new(root: PathBuf) -> Walk {
        Walk { open: vec![root] }
    }

    fn next(&mut self) -> Option<PathBuf> {
        loop {
            let path = self.open.pop()?;
            let Ok(found) = path.symlink_metadata() else { continue };
            if found.is_file() && found.len() <= FILE_SIZE_BYTES_MAX {
                return Some(path);
            }
            if found.is_dir() {
                let entries = std::fs::read_dir(&path).into_iter().flatten();
                let mut inside: Vec<PathBuf> =
                    entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
                inside.sort_unstable_by(|a, b| b.cmp(a));
                self.open.append(&mut inside);
            }
        }
    }
}
