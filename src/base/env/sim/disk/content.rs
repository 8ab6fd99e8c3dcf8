//! The bytes of one file, as pages that are shared until written. Absent pages are zeros, so a
//! preallocated file costs nothing and an image is copied by counting references.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Unit of space: what a file system hands out and what the page cache holds.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Unit of atomicity: a power cut leaves a sector old or new, never mixed.
pub(super) const SECTOR_BYTES: u64 = 512;
pub(super) const SECTORS_PER_PAGE: u8 = 8;
pub(super) const ALL_SECTORS: u8 = u8::MAX;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

pub(super) type Page = [u8; PAGE];

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    size_bytes: u64,
}

impl Content {
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn has_page(&self, page: u64) -> bool {
        self.pages.contains_key(&page)
    }

    /// How many pages from `first` on hold written bytes.
    pub(super) fn pages_from(&self, first: u64) -> u64 {
        self.pages.range(first..).count() as u64
    }

    pub(super) fn page(&self, page: u64) -> Option<&Arc<Page>> {
        self.pages.get(&page)
    }

    pub(super) fn put_page(&mut self, page: u64, bytes: Arc<Page>) {
        self.pages.insert(page, bytes);
    }

    /// Copies the sectors named by `mask` from `source`; an absent source is zeros.
    pub(super) fn put_sectors(&mut self, page: u64, mask: u8, source: Option<&Arc<Page>>) {
        match (mask, source) {
            (0, _) => {}
            (ALL_SECTORS, Some(source)) => self.put_page(page, Arc::clone(source)),
            _ => {
                let target = self.page_mut(page);
                for sector in (0..SECTORS_PER_PAGE).filter(|sector| mask & (1 << sector) != 0) {
                    let start = usize::from(sector) * SECTOR;
                    let range = start..start + SECTOR;
                    match source {
                        Some(source) => target[range.clone()].copy_from_slice(&source[range]),
                        None => target[range].fill(0),
                    }
                }
            }
        }
    }

    /// Reads until `buf` is full or the file ends.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> usize {
        let room = self.size_bytes.saturating_sub(at);
        let len = buf.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut filled = 0;
        while filled < len {
            let here = at + filled as u64;
            let within = within_page(here);
            let n = (PAGE - within).min(len - filled);
            let target = &mut buf[filled..filled + n];
            match self.pages.get(&(here / PAGE_BYTES)) {
                Some(page) => target.copy_from_slice(&page[within..within + n]),
                None => target.fill(0),
            }
            filled += n;
        }
        len
    }

    /// Writes, growing the file as needed.
    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let here = at + done as u64;
            let within = within_page(here);
            let n = (PAGE - within).min(bytes.len() - done);
            self.page_mut(here / PAGE_BYTES)[within..within + n]
                .copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        self.size_bytes = self.size_bytes.max(at + bytes.len() as u64);
    }

    /// Drops every byte from `end` on and leaves the size as it is.
    pub(super) fn clear_from(&mut self, end: u64) {
        let within = within_page(end);
        if within != 0 && self.pages.contains_key(&(end / PAGE_BYTES)) {
            self.page_mut(end / PAGE_BYTES)[within..].fill(0);
        }
        drop(self.pages.split_off(&end.div_ceil(PAGE_BYTES)));
    }

    /// Sets the size; bytes beyond it are gone, bytes gained are zeros.
    pub(super) fn resize(&mut self, size_bytes: u64) {
        if size_bytes < self.size_bytes {
            self.clear_from(size_bytes);
        }
        self.size_bytes = size_bytes;
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.size_bytes).unwrap_or(usize::MAX)];
        self.read(&mut bytes, 0);
        bytes
    }

    fn page_mut(&mut self, page: u64) -> &mut Page {
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])))
    }
}

/// The pages that `start..end` touches, each with the mask of its touched sectors.
pub(super) fn touched(start: u64, end: u64) -> impl Iterator<Item = (u64, u8)> {
    (start / PAGE_BYTES..end.div_ceil(PAGE_BYTES)).map(move |page| {
        let mask = (0..SECTORS_PER_PAGE)
            .filter(|sector| {
                let first = page * PAGE_BYTES + u64::from(*sector) * SECTOR_BYTES;
                first < end && start < first + SECTOR_BYTES
            })
            .fold(0u8, |mask, sector| mask | 1 << sector);
        (page, mask)
    })
}

fn within_page(at: u64) -> usize {
    usize::try_from(at % PAGE_BYTES).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_give_back_writes_across_pages_and_zeros_in_holes() {
        let mut content = Content::default();
        content.write(b"abcdef", 4093);
        let mut buf = [9; 12];
        assert_eq!(content.read(&mut buf, 4090), 9);
        assert_eq!(&buf[..9], b"\0\0\0abcdef");
        assert_eq!(content.read(&mut buf, 5000), 0);
    }

    #[test]
    fn cutting_and_growing_again_reads_zeros() {
        let mut content = Content::default();
        content.write(&[7; 10_000], 0);
        content.resize(4100);
        content.resize(10_000);
        let bytes = content.to_vec();
        assert!(bytes[..4100].iter().all(|b| *b == 7) && bytes[4100..].iter().all(|b| *b == 0));
    }

    #[test]
    fn touched_names_exactly_the_sectors_of_a_range() {
        assert_eq!(touched(0, 4096).collect::<Vec<_>>(), [(0, 0xff)]);
        assert_eq!(touched(511, 513).collect::<Vec<_>>(), [(0, 0b11)]);
        assert_eq!(touched(4095, 4097).collect::<Vec<_>>(), [(0, 0x80), (1, 1)]);
        assert_eq!(touched(512, 512).map(|(_, mask)| mask).sum::<u8>(), 0);
    }

    #[test]
    fn pages_are_shared_until_written() {
        let mut live = Content::default();
        live.write(&[1; 4096], 0);
        let image = live.clone();
        live.write(&[2; 1], 0);
        assert_eq!((image.to_vec()[0], live.to_vec()[0]), (1, 2));
    }
}
