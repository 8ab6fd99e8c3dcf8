//! The bytes that requests may take until they are answered, shared by all connections.
//!
//! A large frame takes its share before its bytes are read and gives it back when its request has
//! been handed over: to the log, or answered. Small frames take none and are counted instead. When
//! together they are a quarter of the memory, only tiny ones are free. A share may be held only for
//! so long while others wait, so that a sender who stalls stops nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A frame that fits into this needs no share.
pub(super) const FREE_FRAME_BYTES: usize = 64 * 1024;
/// What every connection may hold uncounted, and all that is free when memory is short.
pub(super) const TINY_FRAME_BYTES: usize = 4 * 1024;
/// How long a frame may take to arrive whole while others wait for its share. Producers give a
/// request up after as long by themselves.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct RequestMemory {
    size_bytes: usize,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Bytes that connections hold without a share.
    loose_bytes: AtomicUsize,
}

/// What one connection holds without a share; uncounted when dropped.
#[derive(Debug)]
pub(super) struct Loose {
    memory: Arc<RequestMemory>,
    size_bytes: usize,
}

/// A share of the memory, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    _permit: OwnedSemaphorePermit,
}

/// Counts one who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RequestMemory {
    /// Room for `size_bytes` of requests, at least one of any size.
    pub(crate) fn new(size_bytes: usize) -> Self {
        let size_bytes = size_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self {
            size_bytes,
            free: Arc::new(Semaphore::new(size_bytes)),
            waiting: AtomicUsize::new(0),
            loose_bytes: AtomicUsize::new(0),
        }
    }

    /// The largest frame that needs no share now.
    pub(super) fn free_frame_bytes(&self) -> usize {
        if self.loose_bytes.load(Ordering::Relaxed) < self.size_bytes / 4 {
            FREE_FRAME_BYTES
        } else {
            TINY_FRAME_BYTES
        }
    }

    /// Waits for the share of a frame of this size.
    pub(super) async fn share(&self, size_bytes: usize) -> Share {
        let share = u32::try_from(size_bytes.min(self.size_bytes)).unwrap_or(u32::MAX);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _counted = Waiting(&self.waiting);
        match Arc::clone(&self.free).acquire_many_owned(share).await {
            Ok(permit) => Share { _permit: permit },
            Err(_) => unreachable!("nobody closes the semaphore"),
        }
    }

    /// Whether somebody waits for a share.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes that nobody holds.
    pub(crate) fn free_bytes(&self) -> usize {
        self.free.available_permits()
    }
}

impl Loose {
    pub(super) fn new(memory: &Arc<RequestMemory>) -> Self {
        Self { memory: Arc::clone(memory), size_bytes: 0 }
    }

    /// Tells what is held now.
    pub(super) fn set(&mut self, size_bytes: usize) {
        let counted = if size_bytes > TINY_FRAME_BYTES { size_bytes } else { 0 };
        if counted != self.size_bytes {
            self.memory.loose_bytes.fetch_add(counted, Ordering::Relaxed);
            self.memory.loose_bytes.fetch_sub(self.size_bytes, Ordering::Relaxed);
            self.size_bytes = counted;
        }
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_are_free_until_they_are_many() {
        let memory = Arc::new(RequestMemory::new(1 << 20));
        let mut held: Vec<Loose> = (0..5).map(|_| Loose::new(&memory)).collect();
        for loose in &mut held[..4] {
            assert_eq!(memory.free_frame_bytes(), FREE_FRAME_BYTES);
            loose.set(1_000);
            loose.set(70_000);
            loose.set(FREE_FRAME_BYTES);
        }
        assert_eq!(memory.free_frame_bytes(), TINY_FRAME_BYTES);
        held[4].set(TINY_FRAME_BYTES);
        held[0].set(TINY_FRAME_BYTES);
        assert_eq!(memory.free_frame_bytes(), FREE_FRAME_BYTES);
        drop(held);
        assert_eq!(memory.loose_bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_frame_larger_than_the_memory_takes_all_of_it() {
        let memory = RequestMemory::new(100);
        let share = memory.share(1000).await;
        assert_eq!(memory.free_bytes(), 0);
        drop(share);
        assert_eq!(memory.free_bytes(), 100);
    }

    #[tokio::test]
    async fn who_waits_is_seen_until_served_or_gone() {
        let memory = RequestMemory::new(100);
        let held = memory.share(60).await;
        assert!(!memory.is_wanted());
        let mut waiter = Box::pin(memory.share(60));
        assert!(is_pending(&mut waiter) && memory.is_wanted());
        drop(waiter);
        assert!(!memory.is_wanted());
        let mut waiter = Box::pin(memory.share(60));
        assert!(is_pending(&mut waiter));
        drop(held);
        drop(waiter.await);
        assert!(!memory.is_wanted() && memory.free_bytes() == 100);
    }

    fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(future).poll(&mut context).is_pending()
    }
}
