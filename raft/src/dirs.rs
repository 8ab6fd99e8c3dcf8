//! Directories that are there after a power cut: a new name counts only once the directory
//! it is in was synced.

use std::io;
use std::path::Path;

use braid_base::env::fs::Fs;

/// Creates a directory with its parents, durably. Does nothing for one that exists.
pub(crate) fn create(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = dir;
    // The root and the working directory are there.
    while let Some(parent) = at.parent()
        && fs.size(at)?.is_none()
    {
        missing.push(at);
        at = parent;
    }
    if missing.is_empty() {
        return Ok(());
    }
    fs.create_dir_all(dir)?;
    missing.into_iter().rev().try_for_each(|created| fs.sync_dir(parent(created)))
}

/// The directory that holds a name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use braid_base::env::sim;

    use super::*;

    #[test]
    fn a_created_directory_survives_a_power_cut_with_its_parents() {
        for seed in 0..32 {
            let (env, machine) = sim::env(seed);
            create(&*env.fs, Path::new("/a/b/c")).unwrap();
            let (env, _) = machine.reboot(seed);
            assert!(env.fs.size(Path::new("/a/b/c")).unwrap().is_some());
        }
    }

    #[test]
    fn a_relative_name_is_in_the_working_directory() {
        assert_eq!(parent(Path::new("data")), Path::new("."));
        assert_eq!(parent(&PathBuf::from("data/x")), Path::new("data"));
    }
}
