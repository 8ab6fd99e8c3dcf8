//! Directories that are there after a power cut: a new name counts only once the directory
//! it is in was synced.

use std::io;
use std::path::{Path, PathBuf};

use braid_base::env::fs::Fs;

/// Creates a directory with its parents; none for one that exists. Returns the directories to
/// hand to [`sync`], which is cheap once something in the new directory was synced.
pub(crate) fn create(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut unsynced = Vec::new();
    let mut at = dir;
    // The root and the working directory are there.
    while let Some(parent) = at.parent()
        && fs.size(at)?.is_none()
    {
        unsynced.push(or_here(parent).to_owned());
        at = parent;
    }
    if !unsynced.is_empty() {
        fs.create_dir_all(dir)?;
    }
    Ok(unsynced)
}

/// Makes names durable: of `dirs` the innermost first, so that a name is never there without what
/// it leads to.
pub(crate) fn sync(fs: &dyn Fs, dirs: &[PathBuf]) -> io::Result<()> {
    dirs.iter().try_for_each(|dir| fs.sync_dir(dir))
}

fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use braid_base::env::sim;

    use super::*;

    #[test]
    fn a_created_directory_survives_a_power_cut_with_its_parents() {
        for seed in 0..32 {
            let (env, machine) = sim::env(seed);
            let unsynced = create(&*env.fs, Path::new("/a/b/c")).unwrap();
            assert_eq!(unsynced, ["/a/b", "/a", "/"].map(PathBuf::from));
            sync(&*env.fs, &unsynced).unwrap();
            let (env, _) = machine.reboot(seed);
            assert!(env.fs.size(Path::new("/a/b/c")).unwrap().is_some());
            assert!(create(&*env.fs, Path::new("/a/b/c")).unwrap().is_empty());
        }
    }

    #[test]
    fn a_relative_name_is_in_the_working_directory() {
        assert_eq!(or_here(Path::new("data").parent().unwrap()), Path::new("."));
        assert_eq!(or_here(Path::new("data/x").parent().unwrap()), Path::new("data"));
    }
}
