//! Directories: the names that the running process sees, those on the platter, and the changes
//! between.
//!
//! POSIX promises nothing about an unsynced change, and journals differ in what they promise, so
//! a cut keeps any subset of the changes under one rule: **changes that touch the same name keep
//! their order**; a change survives only if every earlier one of its names did. A rename is one
//! change of two names and never half done. A directory that was not itself synced into its
//! parent takes everything in it along. `sync_dir` makes the changes of its directory durable,
//! with the earlier ones that they rest on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::mood::Mood;
use crate::env::sim::chance::Chance;

/// The number of a file or directory.
pub(super) type Ino = u64;

pub(super) const ROOT: Ino = 0;

#[derive(Debug, Clone)]
pub(super) struct Names {
    dirs: BTreeMap<Ino, Dir>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone, Default)]
struct Dir {
    live: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) dir: Ino,
    pub(super) name: String,
}

#[derive(Debug, Clone)]
struct Change {
    operation: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Link { name: Name, ino: Ino },
    Unlink { name: Name },
    Rename { from: Name, to: Name },
}

impl Kind {
    fn names(&self) -> impl Iterator<Item = &Name> {
        let (first, second) = match self {
            Self::Link { name, .. } | Self::Unlink { name } => (name, None),
            Self::Rename { from, to } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }
}

impl Names {
    pub(super) fn with_root() -> Self {
        Self { dirs: BTreeMap::from([(ROOT, Dir::default())]), unsynced: Vec::new() }
    }

    pub(super) fn is_dir(&self, ino: Ino) -> bool {
        self.dirs.contains_key(&ino)
    }

    /// The directory and name of a path; its directory must exist.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<Name> {
        let (name, dirs) = components(path)?
            .split_last()
            .map(|(name, dirs)| (name.clone(), dirs.to_vec()))
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Name { dir: self.walk(&dirs)?, name })
    }

    pub(super) fn resolve_dir(&self, path: &Path) -> io::Result<Ino> {
        self.walk(&components(path)?)
    }

    pub(super) fn get(&self, name: &Name) -> Option<Ino> {
        self.dirs.get(&name.dir)?.live.get(&name.name).copied()
    }

    pub(super) fn list(&self, dir: Ino) -> impl Iterator<Item = (&String, Ino)> {
        self.dirs.get(&dir).into_iter().flat_map(|dir| dir.live.iter().map(|(n, i)| (n, *i)))
    }

    pub(super) fn link(&mut self, operation: u64, name: Name, ino: Ino) {
        self.dir_mut(name.dir).live.insert(name.name.clone(), ino);
        self.unsynced.push(Change { operation, kind: Kind::Link { name, ino } });
    }

    pub(super) fn link_dir(&mut self, operation: u64, name: Name, ino: Ino) {
        self.dirs.insert(ino, Dir::default());
        self.link(operation, name, ino);
    }

    pub(super) fn unlink(&mut self, operation: u64, name: Name) {
        self.dir_mut(name.dir).live.remove(&name.name);
        self.unsynced.push(Change { operation, kind: Kind::Unlink { name } });
    }

    pub(super) fn rename(&mut self, operation: u64, from: Name, to: Name) {
        if let Some(ino) = self.dir_mut(from.dir).live.remove(&from.name) {
            self.dir_mut(to.dir).live.insert(to.name.clone(), ino);
            self.unsynced.push(Change { operation, kind: Kind::Rename { from, to } });
        }
    }

    /// Makes the changes of one directory durable, and those they rest on.
    pub(super) fn sync_dir(&mut self, dir: Ino) {
        let mut wanted = BTreeSet::new();
        let mut synced = vec![false; self.unsynced.len()];
        for (change, synced) in self.unsynced.iter().zip(&mut synced).rev() {
            *synced = change.kind.names().any(|name| name.dir == dir || wanted.contains(name));
            if *synced {
                wanted.extend(change.kind.names().cloned());
            }
        }
        for (change, synced) in std::mem::take(&mut self.unsynced).into_iter().zip(synced) {
            if synced {
                self.apply(change.kind);
            } else {
                self.unsynced.push(change);
            }
        }
    }

    /// What a cut leaves, as the names of a fresh system; unreachable directories are gone.
    pub(super) fn after_cut(&self, mood: &Mood, chance: &mut Chance) -> Self {
        let mut left = self.clone();
        let mut lost = BTreeSet::new();
        for Change { operation, kind } in std::mem::take(&mut left.unsynced) {
            let held = kind.names().all(|name| !lost.contains(name));
            if held && mood.name(operation, chance) {
                left.apply(kind);
            } else {
                lost.extend(kind.names().cloned());
            }
        }
        let reachable = left.durable_reachable();
        left.dirs.retain(|ino, _| reachable.contains(ino));
        for dir in left.dirs.values_mut() {
            dir.live = dir.durable.clone();
        }
        left
    }

    /// Every file and directory that a durable name leads to.
    pub(super) fn durable_reachable(&self) -> BTreeSet<Ino> {
        let mut reachable = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop().and_then(|ino| self.dirs.get(&ino)) {
            let new = dir.durable.values().copied().filter(|ino| reachable.insert(*ino));
            todo.extend(new.filter(|ino| self.dirs.contains_key(ino)).collect::<Vec<_>>());
        }
        reachable
    }

    /// Every live path, with what it names, in order.
    pub(super) fn live_paths(&self) -> Vec<(String, Ino)> {
        let mut paths = Vec::new();
        let mut todo = vec![(String::new(), ROOT)];
        while let Some((prefix, dir)) = todo.pop() {
            for (name, ino) in self.list(dir) {
                let path = format!("{prefix}/{name}");
                if self.is_dir(ino) {
                    todo.push((path.clone(), ino));
                }
                paths.push((path, ino));
            }
        }
        paths.sort();
        paths
    }

    pub(super) fn unsynced_changes(&self) -> impl Iterator<Item = String> {
        self.unsynced.iter().map(|change| format!("#{} {:?}", change.operation, change.kind))
    }

    fn apply(&mut self, kind: Kind) {
        match kind {
            Kind::Link { name, ino } => {
                self.dir_mut(name.dir).durable.insert(name.name, ino);
            }
            Kind::Unlink { name } => {
                self.dir_mut(name.dir).durable.remove(&name.name);
            }
            Kind::Rename { from, to } => {
                if let Some(ino) = self.dir_mut(from.dir).durable.remove(&from.name) {
                    self.dir_mut(to.dir).durable.insert(to.name, ino);
                }
            }
        }
    }

    fn walk(&self, dirs: &[String]) -> io::Result<Ino> {
        dirs.iter().try_fold(ROOT, |dir, name| {
            let ino = self.get(&Name { dir, name: name.clone() }).ok_or(io::ErrorKind::NotFound)?;
            if self.is_dir(ino) { Ok(ino) } else { Err(io::ErrorKind::NotADirectory.into()) }
        })
    }

    fn dir_mut(&mut self, ino: Ino) -> &mut Dir {
        self.dirs.entry(ino).or_default()
    }
}

/// The names of a path from the root; relative paths start there too.
pub(super) fn components(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
