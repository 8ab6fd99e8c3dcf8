//! Bytes on their way to one connection: what was written here, and slices shared with the store.
//!
//! Shared slices are not copied: they are remembered with the place where they belong, so a length
//! written earlier can still be filled in, and everything leaves as a list for one vectored write.
//! Owned by one connection; several responses may be appended before it is taken.

use bytes::{BufMut, Bytes, BytesMut};

/// Shared slices shorter than this are copied: an entry of a vectored write costs more.
pub const SHARE_MIN_SIZE_BYTES: usize = 4096;

/// A buffer filled beyond this is let go with its bytes, so that one large answer does not stay
/// with its connection.
const KEEP_MAX_SIZE_BYTES: usize = 16 * 1024;

/// Collects responses; see the module.
#[derive(Debug, Default)]
pub struct Outgoing {
    written: BytesMut,
    /// Each slice stands before the byte of `written` that its position names; positions grow.
    shared: Vec<(usize, Bytes)>,
    shared_size_bytes: usize,
}

/// Where something began, to measure it, fill it in or take it back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    written: usize,
    shared: usize,
    shared_size_bytes: usize,
}

impl Outgoing {
    /// Nothing to send yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes waiting, shared ones included.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.written.len() + self.shared_size_bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size_bytes() == 0
    }

    /// Takes everything, in order, as slices none of which is empty.
    pub fn take(&mut self) -> Vec<Bytes> {
        let written = if self.written.len() > KEEP_MAX_SIZE_BYTES {
            std::mem::take(&mut self.written)
        } else {
            self.written.split()
        };
        let mut written = written.freeze();
        let mut parts = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut cut = 0;
        for (position, slice) in self.shared.drain(..) {
            if position > cut {
                parts.push(written.split_to(position - cut));
                cut = position;
            }
            parts.push(slice);
        }
        if !written.is_empty() {
            parts.push(written);
        }
        self.shared_size_bytes = 0;
        parts
    }

    /// Appends a copy of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) {
        self.written.put_slice(bytes);
    }

    /// Appends a slice without copying it, unless it is small.
    pub fn share(&mut self, slice: Bytes) {
        if slice.len() < SHARE_MIN_SIZE_BYTES {
            self.written.put_slice(&slice);
        } else {
            self.shared_size_bytes += slice.len();
            self.shared.push((self.written.len(), slice));
        }
    }

    /// The buffer that written bytes are appended to.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.written
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            written: self.written.len(),
            shared: self.shared.len(),
            shared_size_bytes: self.shared_size_bytes,
        }
    }

    /// Bytes appended since `mark`, shared ones included.
    pub(crate) fn size_bytes_since(&self, mark: Mark) -> usize {
        self.written.len() - mark.written + self.shared_size_bytes - mark.shared_size_bytes
    }

    /// Fills in four bytes that were written at `mark`.
    pub(crate) fn fill_i32(&mut self, mark: Mark, value: i32) {
        self.written[mark.written..mark.written + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Forgets everything appended since `mark`.
    pub(crate) fn take_back(&mut self, mark: Mark) {
        self.written.truncate(mark.written);
        self.shared.truncate(mark.shared);
        self.shared_size_bytes = mark.shared_size_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(fill: u8) -> Bytes {
        Bytes::from(vec![fill; SHARE_MIN_SIZE_BYTES])
    }

    #[test]
    fn parts_leave_in_the_order_they_came() {
        let mut out = Outgoing::new();
        out.share(large(1));
        out.buffer().put_slice(b"ab");
        out.share(large(2));
        out.share(large(3));
        out.share(Bytes::from_static(b"c"));
        assert_eq!(out.size_bytes(), 3 * SHARE_MIN_SIZE_BYTES + 3);
        let parts = out.take();
        assert_eq!(parts, [large(1), Bytes::from("ab"), large(2), large(3), Bytes::from("c")]);
        assert!(out.is_empty() && out.take().is_empty());
    }

    #[test]
    fn a_large_slice_is_not_copied() {
        let slice = large(9);
        let mut out = Outgoing::new();
        out.share(slice.clone());
        assert_eq!(out.take()[0].as_ptr(), slice.as_ptr());
    }

    #[test]
    fn a_large_answer_leaves_no_memory_behind() {
        let mut out = Outgoing::new();
        out.buffer().put_bytes(7, KEEP_MAX_SIZE_BYTES + 1);
        let parts = out.take();
        assert!(parts[0].is_unique(), "nobody else holds the buffer");
        assert_eq!(out.buffer().capacity(), 0);
        out.buffer().put_bytes(7, 10);
        assert_eq!(out.take()[0].len(), 10);
    }

    #[test]
    fn what_was_taken_back_is_gone() {
        let mut out = Outgoing::new();
        out.buffer().put_slice(b"kept");
        let mark = out.mark();
        out.buffer().put_i32(0);
        out.share(large(1));
        assert_eq!(out.size_bytes_since(mark), 4 + SHARE_MIN_SIZE_BYTES);
        out.take_back(mark);
        assert_eq!(out.take(), ["kept"]);
    }
}
