//! One file: what the running process sees, what the platter holds, and what lies between.
//!
//! Data between is kept per sector as every version that an unsynced write gave it: a cut leaves
//! any one of them, or none. Size and reserved space are metadata, which file systems journal in
//! order: a cut leaves a prefix of their changes. Invariant: after [`Inode::sync`] both sides are
//! equal and nothing lies between.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::content::{Content, PAGE_BYTES, Page, SECTORS_PER_PAGE, touched};
use super::mood::Mood;
use crate::env::sim::chance::Chance;

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    live: Content,
    durable: Content,
    /// Pages that `allocate` has set aside from the start of the file.
    reserved_pages: u64,
    durable_reserved_pages: u64,
    unsynced: BTreeMap<u64, Vec<Version>>,
    metadata: Vec<Metadata>,
    /// Open descriptors and maps; they keep an unlinked file's space taken.
    pub(super) open: u32,
    pub(super) maps: u32,
    pub(super) linked: bool,
    pub(super) unreadable: Vec<Range<u64>>,
}

/// What a page held after an unsynced operation, and which of its sectors that operation wrote.
#[derive(Debug, Clone)]
struct Version {
    operation: u64,
    sectors: u8,
    page: Arc<Page>,
}

#[derive(Debug, Clone)]
struct Metadata {
    operation: u64,
    size_bytes: u64,
    reserved_pages: u64,
    /// Where a shrinking cut; bytes from here on went away with it.
    cut_to: Option<u64>,
}

impl Inode {
    /// A new file with a name.
    pub(super) fn empty() -> Self {
        Self { linked: true, ..Self::default() }
    }

    pub(super) fn content(&self) -> &Content {
        &self.live
    }

    pub(super) fn durable_size_bytes(&self) -> u64 {
        self.durable.size_bytes()
    }

    pub(super) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty() || !self.metadata.is_empty()
    }

    /// Pages of space that the file takes.
    pub(super) fn space_pages(&self) -> u64 {
        self.reserved_pages + self.live.pages_from(self.reserved_pages)
    }

    /// Pages of space that a write of `start..end` would add.
    pub(super) fn space_pages_added(&self, start: u64, end: u64) -> u64 {
        (start / PAGE_BYTES..end.div_ceil(PAGE_BYTES))
            .filter(|page| *page >= self.reserved_pages && !self.live.has_page(*page))
            .count() as u64
    }

    /// Pages of space that reserving the first `end` bytes would add.
    pub(super) fn reservation_pages_added(&self, end: u64) -> u64 {
        let pages = end.div_ceil(PAGE_BYTES).max(self.reserved_pages);
        let held = self.live.pages_from(self.reserved_pages) - self.live.pages_from(pages);
        pages - self.reserved_pages - held
    }

    /// Writes for the running process alone.
    pub(super) fn write(&mut self, operation: u64, bytes: &[u8], at: u64) {
        let size_before = self.live.size_bytes();
        self.live.write(bytes, at);
        self.mark_unsynced(operation, at, at + bytes.len() as u64);
        if self.live.size_bytes() != size_before {
            self.note_metadata(operation, None);
        }
    }

    pub(super) fn reserve(&mut self, operation: u64, end: u64) {
        self.reserved_pages = self.reserved_pages.max(end.div_ceil(PAGE_BYTES));
        if self.live.size_bytes() < end {
            self.live.resize(end);
        }
        self.note_metadata(operation, None);
    }

    pub(super) fn resize(&mut self, operation: u64, size_bytes: u64) {
        let cut_to = (size_bytes < self.live.size_bytes()).then_some(size_bytes);
        self.live.resize(size_bytes);
        if cut_to.is_some() {
            self.reserved_pages = self.reserved_pages.min(size_bytes.div_ceil(PAGE_BYTES));
            let page_end = size_bytes.next_multiple_of(PAGE_BYTES);
            self.mark_unsynced(operation, size_bytes, page_end);
        }
        self.note_metadata(operation, cut_to);
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        self.sync_metadata();
        for (page, versions) in std::mem::take(&mut self.unsynced) {
            let mask = versions.iter().fold(0, |mask, version| mask | version.sectors);
            self.durable.put_sectors(page, mask, self.live.page(page));
        }
    }

    /// Makes the bytes of `start..end` durable, and the metadata to read them back; earlier
    /// unsynced writes elsewhere stay unsynced, as with `O_DSYNC`.
    pub(super) fn sync_range(&mut self, start: u64, end: u64) {
        self.sync_metadata();
        for (page, mask) in touched(start, end) {
            self.durable.put_sectors(page, mask, self.live.page(page));
            if let Some(versions) = self.unsynced.get_mut(&page) {
                versions.iter_mut().for_each(|version| version.sectors &= !mask);
                versions.retain(|version| version.sectors != 0);
                if versions.is_empty() {
                    self.unsynced.remove(&page);
                }
            }
        }
    }

    /// Lets `mood` decide what of the unsynced reached the platter, and forgets the rest. The
    /// running process goes on seeing all of it: this is a failed sync, after which the kernel
    /// holds the pages clean.
    pub(super) fn settle(&mut self, mood: &Mood, chance: &mut Chance) {
        let survive = mood.metadata(self.metadata.iter().map(|m| m.operation), chance);
        let changes: Vec<Metadata> = std::mem::take(&mut self.metadata);
        for change in changes.into_iter().take(survive) {
            self.apply_metadata(&change);
        }
        for (page, versions) in std::mem::take(&mut self.unsynced) {
            self.settle_page(page, &versions, mood, chance);
        }
        // Sectors that arrived beyond the size that survived belong to no file.
        let size_bytes = self.durable.size_bytes();
        self.durable.clear_from(size_bytes);
    }

    /// Shows the running process what is on the platter, but for pages that are still unsynced.
    pub(super) fn drop_cached(&mut self) {
        let mut seen = self.durable.clone();
        seen.resize(self.live.size_bytes());
        for page in self.unsynced.keys() {
            if let Some(bytes) = self.live.page(*page) {
                seen.put_page(*page, Arc::clone(bytes));
            }
        }
        self.live = seen;
    }

    /// What a cut leaves, as the file of a fresh system.
    pub(super) fn after_cut(&self, mood: &Mood, chance: &mut Chance) -> Self {
        let mut left = self.clone();
        left.settle(mood, chance);
        Self {
            live: left.durable.clone(),
            durable: left.durable,
            reserved_pages: left.durable_reserved_pages,
            durable_reserved_pages: left.durable_reserved_pages,
            unreadable: left.unreadable,
            ..Self::empty()
        }
    }

    /// What the end of the process alone leaves: everything, but nothing is open.
    pub(super) fn after_kill(&self) -> Self {
        Self { open: 0, maps: 0, ..self.clone() }
    }

    /// Inverts one bit in memory and on the platter alike.
    pub(super) fn flip_bit(&mut self, at: u64, bit: u8) {
        let flip = |content: &mut Content| {
            let mut byte = [0];
            if content.read(&mut byte, at) == 1 {
                content.write(&[byte[0] ^ (1 << (bit & 7))], at);
            }
        };
        flip(&mut self.live);
        flip(&mut self.durable);
    }

    fn settle_page(&mut self, page: u64, versions: &[Version], mood: &Mood, chance: &mut Chance) {
        for sector in 0..SECTORS_PER_PAGE {
            let bit = 1 << sector;
            let candidates = versions.iter().filter(|version| version.sectors & bit != 0).rev();
            for version in candidates {
                if mood.sector(version.operation, chance) {
                    self.durable.put_sectors(page, bit, Some(&version.page));
                    break;
                }
            }
        }
    }

    fn mark_unsynced(&mut self, operation: u64, start: u64, end: u64) {
        for (page, sectors) in touched(start, end) {
            if let Some(bytes) = self.live.page(page) {
                let version = Version { operation, sectors, page: Arc::clone(bytes) };
                self.unsynced.entry(page).or_default().push(version);
            }
        }
    }

    fn note_metadata(&mut self, operation: u64, cut_to: Option<u64>) {
        self.metadata.push(Metadata {
            operation,
            size_bytes: self.live.size_bytes(),
            reserved_pages: self.reserved_pages,
            cut_to,
        });
    }

    fn sync_metadata(&mut self) {
        for change in std::mem::take(&mut self.metadata) {
            self.apply_metadata(&change);
        }
    }

    fn apply_metadata(&mut self, change: &Metadata) {
        if let Some(end) = change.cut_to {
            self.durable.clear_from(end);
            // What was written beyond the cut before it went away with it.
            for (_, versions) in self.unsynced.range_mut(end.div_ceil(PAGE_BYTES)..) {
                versions.retain(|version| version.operation > change.operation);
            }
            self.unsynced.retain(|_, versions| !versions.is_empty());
        }
        self.durable.resize(change.size_bytes);
        self.durable_reserved_pages = change.reserved_pages;
    }
}
