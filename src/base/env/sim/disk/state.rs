//! The whole disk behind one lock: names, files, space, the fault plan and the trace. Every
//! mutating or syncing call passes [`Disk::begin`], which numbers it and decides how it ends.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::Path;

use super::content::PAGE_BYTES;
use super::fault::{Fault, Plan, PowerOff, Traced, Turn};
use super::inode::Inode;
use super::mood::Mood;
use super::names::{Ino, Name, Names, ROOT};
use crate::env::sim::chance::Chance;

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) names: Names,
    pub(super) files: BTreeMap<Ino, Inode>,
    pub(super) locks: BTreeSet<Ino>,
    pub(super) plan: Plan,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) violations: Vec<String>,
    pub(super) trace: Vec<Traced>,
    pub(super) operations: u64,
    pub(super) bytes_read: u64,
    off: bool,
    used_pages: u64,
    next_ino: Ino,
    chance: Chance,
    /// How this disk came to be: the first line of a dump.
    origin: String,
}

impl Disk {
    pub(super) fn empty(seed: u64) -> Self {
        Self {
            names: Names::with_root(),
            files: BTreeMap::new(),
            locks: BTreeSet::new(),
            plan: Plan::default(),
            capacity_bytes: None,
            violations: Vec::new(),
            trace: Vec::new(),
            operations: 0,
            bytes_read: 0,
            off: false,
            used_pages: 0,
            next_ino: ROOT + 1,
            chance: Chance::of(seed),
            origin: format!("new disk, seed {seed}"),
        }
    }

    pub(super) fn check_on(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other(PowerOff)) } else { Ok(()) }
    }

    pub(super) fn is_off(&self) -> bool {
        self.off
    }

    pub(super) fn switch_off(&mut self) {
        self.off = true;
    }

    /// The disk that a cut now leaves.
    pub(super) fn after_cut(&self, seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let mood = Mood::of_cut(&mut chance, self.operations);
        let names = self.names.after_cut(&mood, &mut chance.fork(0));
        let reachable = names.durable_reachable();
        let files = self.files.iter().filter(|(ino, _)| reachable.contains(ino));
        let files = files
            .map(|(ino, file)| (*ino, file.after_cut(&mood, &mut chance.fork(*ino))))
            .collect();
        let origin = format!("after power cut, seed {seed}, {mood:?}");
        self.successor(names, files, chance, origin)
    }

    /// The disk as the next process finds it when only this one died.
    pub(super) fn after_kill(&self) -> Self {
        let files = self.files.iter().map(|(ino, file)| (*ino, file.after_kill())).collect();
        let origin = "after the process was killed".to_owned();
        let mut next = self.successor(self.names.clone(), files, self.chance.clone(), origin);
        // Unsynced changes carry their operations' numbers, so the count goes on.
        next.operations = self.operations;
        next
    }

    fn successor(
        &self,
        names: Names,
        files: BTreeMap<Ino, Inode>,
        chance: Chance,
        origin: String,
    ) -> Self {
        let used_pages = files.values().filter(|file| file.linked).map(Inode::space_pages).sum();
        Self {
            names,
            files,
            capacity_bytes: self.capacity_bytes,
            used_pages,
            next_ino: self.next_ino,
            chance,
            origin,
            ..Self::empty(0)
        }
    }

    /// Numbers an operation and says how it ends.
    fn begin(
        &mut self,
        verb: &'static str,
        path: &Path,
        range: Option<(u64, u64)>,
    ) -> io::Result<(u64, Turn)> {
        self.check_on()?;
        self.operations += 1;
        let operation = self.operations;
        let turn = self.plan.turn(operation);
        self.trace.push(Traced { operation, verb, path: path.to_owned(), range, turn });
        Ok((operation, turn))
    }

    /// Runs an operation that either happens, unsynced, or does not.
    pub(super) fn change<T>(
        &mut self,
        verb: &'static str,
        path: &Path,
        apply: impl FnOnce(&mut Self, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let (operation, turn) = self.begin(verb, path, None)?;
        match turn {
            Turn::Done | Turn::Fail(Fault::Lost | Fault::Misdirected(_)) => apply(self, operation),
            Turn::Cut => {
                // Whether it happened is for the cut to decide, also when it would have failed.
                drop(apply(self, operation));
                self.power_cut()
            }
            Turn::Fail(fault @ (Fault::Eio | Fault::Enospc | Fault::ShortWrite)) => {
                Err(fault.error())
            }
        }
    }

    pub(super) fn create(&mut self, operation: u64, name: Name) -> Ino {
        let ino = self.take_ino();
        self.files.insert(ino, Inode::empty());
        self.names.link(operation, name, ino);
        ino
    }

    pub(super) fn create_dir(&mut self, operation: u64, name: Name) -> Ino {
        let ino = self.take_ino();
        self.names.link_dir(operation, name, ino);
        ino
    }

    pub(super) fn rename(&mut self, operation: u64, from: Name, to: Name) -> io::Result<()> {
        let source = self.names.get(&from).ok_or(io::ErrorKind::NotFound)?;
        match self.names.get(&to) {
            Some(target) if target == source => return Ok(()),
            Some(target) if self.names.is_dir(target) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Some(target) => self.unlinked(target),
            None => {}
        }
        self.names.rename(operation, from, to);
        Ok(())
    }

    pub(super) fn remove(&mut self, operation: u64, name: Name) -> io::Result<()> {
        let ino = self.names.get(&name).ok_or(io::ErrorKind::NotFound)?;
        if self.names.is_dir(ino) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.names.unlink(operation, name);
        self.unlinked(ino);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let (_, turn) = self.begin("sync_dir", path, None)?;
        let dir = self.names.resolve_dir(path)?;
        match turn {
            Turn::Done | Turn::Fail(Fault::Misdirected(_)) => {
                self.names.sync_dir(dir);
                self.forget_unreachable();
                Ok(())
            }
            Turn::Fail(Fault::Lost) => Ok(()),
            Turn::Cut => self.power_cut(),
            Turn::Fail(fault @ (Fault::Eio | Fault::Enospc | Fault::ShortWrite)) => {
                Err(fault.error())
            }
        }
    }

    pub(super) fn write(
        &mut self,
        ino: Ino,
        path: &Path,
        slices: &[IoSlice<'_>],
        at: u64,
        synced: bool,
    ) -> io::Result<()> {
        let bytes = joined(slices);
        let verb = if synced { "write_synced" } else { "write" };
        let (operation, turn) = self.begin(verb, path, Some((at, at + bytes.len() as u64)))?;
        self.check_unmapped(ino, operation, verb, path);
        let at = match turn {
            Turn::Fail(Fault::Lost) => return Ok(()),
            Turn::Fail(Fault::Misdirected(by_bytes)) => at + by_bytes,
            Turn::Done | Turn::Cut | Turn::Fail(_) => at,
        };
        let fitting = self.fitting(ino, at, bytes.len());
        let written = match turn {
            Turn::Fail(Fault::Enospc | Fault::ShortWrite) => self.prefix_of(fitting),
            Turn::Fail(Fault::Eio) if !synced => self.prefix_of(fitting),
            Turn::Done | Turn::Cut | Turn::Fail(_) => fitting,
        };
        let file = self.files.entry(ino).or_default();
        let space_before = file.space_pages();
        if written > 0 {
            file.write(operation, &bytes[..written], at);
        }
        self.used_pages += file.space_pages() - space_before;
        match turn {
            Turn::Cut => self.power_cut(),
            Turn::Fail(Fault::ShortWrite) => Err(io::ErrorKind::WriteZero.into()),
            Turn::Fail(fault @ Fault::Enospc) => Err(fault.error()),
            Turn::Fail(fault @ Fault::Eio) => {
                if synced {
                    file.settle(&Mood::Sectors { of_256: 128 }, &mut self.chance);
                }
                Err(fault.error())
            }
            Turn::Done | Turn::Fail(Fault::Lost | Fault::Misdirected(_)) => {
                if written < bytes.len() {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                if synced {
                    file.sync_range(at, at + written as u64);
                }
                Ok(())
            }
        }
    }

    pub(super) fn sync(&mut self, ino: Ino, path: &Path) -> io::Result<()> {
        let (_, turn) = self.begin("sync", path, None)?;
        let file = self.files.entry(ino).or_default();
        match turn {
            Turn::Done | Turn::Fail(Fault::Misdirected(_)) => {
                file.sync();
                Ok(())
            }
            Turn::Fail(Fault::Lost) => Ok(()),
            Turn::Cut => self.power_cut(),
            Turn::Fail(fault @ (Fault::Eio | Fault::Enospc | Fault::ShortWrite)) => {
                file.settle(&Mood::Sectors { of_256: 128 }, &mut self.chance);
                Err(fault.error())
            }
        }
    }

    pub(super) fn drop_cached(&mut self, ino: Ino) {
        let file = self.files.entry(ino).or_default();
        let space_before = file.space_pages();
        file.drop_cached();
        self.used_pages = self.used_pages + file.space_pages() - space_before;
    }

    pub(super) fn allocate(&mut self, ino: Ino, path: &Path, end: u64) -> io::Result<()> {
        self.change("allocate", path, |disk, operation| {
            let free = disk.free_pages();
            let file = disk.files.entry(ino).or_default();
            let added = file.reservation_pages_added(end);
            if added > free {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.reserve(operation, end);
            disk.used_pages += added;
            Ok(())
        })
    }

    pub(super) fn set_len(&mut self, ino: Ino, path: &Path, size_bytes: u64) -> io::Result<()> {
        self.change("set_len", path, |disk, operation| {
            disk.check_unmapped(ino, operation, "set_len", path);
            let file = disk.files.entry(ino).or_default();
            let space_before = file.space_pages();
            file.resize(operation, size_bytes);
            disk.used_pages = disk.used_pages + file.space_pages() - space_before;
            Ok(())
        })
    }

    pub(super) fn free_pages(&self) -> u64 {
        match self.capacity_bytes {
            Some(capacity) => (capacity / PAGE_BYTES).saturating_sub(self.used_pages),
            None => u64::MAX / PAGE_BYTES,
        }
    }

    pub(super) fn used_pages(&self) -> u64 {
        self.used_pages
    }

    /// One descriptor or map of a file is gone.
    pub(super) fn closed(&mut self, ino: Ino, of: impl FnOnce(&mut Inode) -> &mut u32) {
        if let Some(file) = self.files.get_mut(&ino) {
            let count = of(file);
            *count = count.saturating_sub(1);
            self.free_if_gone(ino);
        }
    }

    pub(super) fn dump(&self) -> String {
        let mut out =
            format!("{}; {} operations, off: {}\n", self.origin, self.operations, self.off);
        for (path, ino) in self.names.live_paths() {
            let line = match self.files.get(&ino) {
                None => format!("{path}/\n"),
                Some(file) => format!(
                    "{path} #{ino} {} bytes (durable {}){}\n",
                    file.content().size_bytes(),
                    file.durable_size_bytes(),
                    if file.has_unsynced() { ", unsynced" } else { "" },
                ),
            };
            out.push_str(&line);
        }
        for change in self.names.unsynced_changes() {
            writeln!(out, "unsynced name {change}").unwrap_or_default();
        }
        out
    }

    fn power_cut<T>(&mut self) -> io::Result<T> {
        self.off = true;
        Err(io::Error::other(PowerOff))
    }

    fn unlinked(&mut self, ino: Ino) {
        if let Some(file) = self.files.get_mut(&ino) {
            file.linked = false;
            self.free_if_gone(ino);
        }
    }

    /// Gives back the space of a file without a name, descriptor or map.
    fn free_if_gone(&mut self, ino: Ino) {
        if let Some(file) = self.files.get(&ino)
            && !file.linked
            && file.open == 0
            && file.maps == 0
        {
            self.used_pages -= file.space_pages();
        }
    }

    /// Forgets files that neither a name, a cut nor a descriptor can bring back.
    fn forget_unreachable(&mut self) {
        if self.names.unsynced_changes().next().is_none() {
            let reachable = self.names.durable_reachable();
            self.files.retain(|ino, file| {
                file.linked || file.open > 0 || file.maps > 0 || reachable.contains(ino)
            });
        }
    }

    /// How many of `len` bytes at `at` the free space takes.
    fn fitting(&self, ino: Ino, at: u64, len: usize) -> usize {
        let free = self.free_pages();
        let Some(file) = self.files.get(&ino) else { return len };
        let end = at + len as u64;
        if file.space_pages_added(at, end) <= free {
            return len;
        }
        let mut fitting_end = at;
        while fitting_end < end {
            let next = ((fitting_end / PAGE_BYTES + 1) * PAGE_BYTES).min(end);
            if file.space_pages_added(at, next) > free {
                break;
            }
            fitting_end = next;
        }
        usize::try_from(fitting_end - at).unwrap_or(len)
    }

    fn prefix_of(&mut self, len: usize) -> usize {
        usize::try_from(self.chance.below(len as u64)).unwrap_or(0)
    }

    fn check_unmapped(&mut self, ino: Ino, operation: u64, verb: &str, path: &Path) {
        if self.files.get(&ino).is_some_and(|file| file.maps > 0) {
            let path = path.display();
            self.violations.push(format!("#{operation} {verb} {path}: the file is mapped"));
        }
    }

    fn take_ino(&mut self) -> Ino {
        self.next_ino += 1;
        self.next_ino - 1
    }
}

fn joined<'a>(slices: &'a [IoSlice<'_>]) -> Cow<'a, [u8]> {
    match slices {
        [one] => Cow::Borrowed(one),
        many => Cow::Owned(many.iter().flat_map(|slice| slice.iter().copied()).collect()),
    }
}
