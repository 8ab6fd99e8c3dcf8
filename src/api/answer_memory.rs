//! The memory that answers take between being made and the client's taking them.
//!
//! Records of the ring stay in memory, and everything else is copied, for as long as an answer is
//! on its way; a client decides how long that is. So answers together have a bound. When memory is
//! short fetches get smaller, and whoever has taken nothing of an answer for longest is given up:
//! no client waits for another. Connections list themselves only once a client makes them wait, so
//! an answer that leaves at once costs two counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What a fetch may always read, whatever the others hold.
const FLOOR_BYTES: usize = 64 * 1024;
/// A client that took something this recently is reading.
const READS: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct AnswerMemory {
    size_bytes: usize,
    held: AtomicUsize,
    /// Connections that wait for their clients, by number.
    waiting: Mutex<HashMap<u64, Waiting>>,
}

/// Memory of one answer, given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    memory: Arc<AnswerMemory>,
    size_bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    _leases: Vec<Lease>,
    given_up: Arc<Notify>,
}

/// Takes a connection off the list.
struct Listed<'a> {
    memory: &'a AnswerMemory,
    connection: u64,
}

impl AnswerMemory {
    /// Memory for answers of `size_bytes` in all.
    pub(crate) fn new(size_bytes: usize) -> Arc<Self> {
        Arc::new(Self { size_bytes, held: AtomicUsize::new(0), waiting: Mutex::default() })
    }

    /// Memory for an answer of up to `wanted` bytes. Nobody gets more than half of what is left.
    pub(crate) fn lease(self: &Arc<Self>, wanted: usize) -> Lease {
        let share = (self.free_bytes() / 2).max(FLOOR_BYTES).min(wanted);
        self.take(share)
    }

    /// Memory for an answer that has its size, whether there is any left or not.
    pub(crate) fn take(self: &Arc<Self>, size_bytes: usize) -> Lease {
        self.hold(size_bytes);
        Lease { memory: Arc::clone(self), size_bytes }
    }

    fn hold(&self, size_bytes: usize) {
        let held = self.held.fetch_add(size_bytes, Ordering::Relaxed) + size_bytes;
        if held > self.size_bytes {
            self.relieve();
        }
    }

    /// Bytes that no answer holds.
    pub(crate) fn free_bytes(&self) -> usize {
        self.size_bytes.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    /// Holds the memory of an answer that a client does not take. Resolves when the memory has
    /// been given to others: the answer must not be kept any longer.
    pub(crate) async fn given_up(&self, connection: u64, leases: Vec<Lease>) {
        if leases.is_empty() {
            return std::future::pending().await;
        }
        let given_up = Arc::new(Notify::new());
        let entry =
            Waiting { since: Instant::now(), _leases: leases, given_up: Arc::clone(&given_up) };
        self.waiting().insert(connection, entry);
        let _listed = Listed { memory: self, connection };
        given_up.notified().await;
    }

    /// The client has taken something of its answer.
    pub(crate) fn moved(&self, connection: u64) {
        if let Some(entry) = self.waiting().get_mut(&connection) {
            entry.since = Instant::now();
        }
    }

    /// Gives up who has taken nothing for longest, until the rest fits.
    fn relieve(&self) {
        let mut waiting = self.waiting();
        let now = Instant::now();
        while self.held.load(Ordering::Relaxed) > self.size_bytes {
            let longest = waiting.iter().min_by_key(|(_, entry)| entry.since);
            let Some((connection, _)) = longest.filter(|(_, e)| now - e.since >= READS) else {
                return;
            };
            let connection = *connection;
            if let Some(entry) = waiting.remove(&connection) {
                entry.given_up.notify_one();
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.memory.waiting().remove(&self.connection);
    }
}

impl Lease {
    /// Bytes that the answer may have.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Makes it the size that the answer turned out to have. Mostly less than was leased; more
    /// when the one batch that is always given is larger.
    pub(crate) fn fit(&mut self, size_bytes: usize) {
        if let Some(surplus) = self.size_bytes.checked_sub(size_bytes) {
            self.memory.held.fetch_sub(surplus, Ordering::Relaxed);
        } else {
            self.memory.hold(size_bytes - self.size_bytes);
        }
        self.size_bytes = size_bytes;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.size_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_get_smaller_when_memory_is_short_and_never_nothing() {
        let memory = AnswerMemory::new(1 << 20);
        let sizes: Vec<usize> = {
            let leases: Vec<Lease> = (0..8).map(|_| memory.lease(400_000)).collect();
            leases.iter().map(Lease::size_bytes).collect()
        };
        assert_eq!(sizes[..2], [400_000, 324_288]);
        assert!(sizes.iter().all(|size| *size >= FLOOR_BYTES), "{sizes:?}");
        assert_eq!(memory.free_bytes(), 1 << 20, "all of it came back");
    }

    #[test]
    fn what_an_answer_does_not_need_is_there_for_others_at_once() {
        let memory = AnswerMemory::new(1 << 20);
        let mut lease = memory.lease(500_000);
        lease.fit(1_000);
        assert_eq!((lease.size_bytes(), memory.free_bytes()), (1_000, (1 << 20) - 1_000));
        lease.fit(2_000);
        assert_eq!(memory.free_bytes(), (1 << 20) - 2_000);
        assert_eq!(memory.lease(10).size_bytes(), 10);
        drop(lease);
        assert_eq!(memory.free_bytes(), 1 << 20);
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(future).poll(&mut context).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_taken_nothing_for_longest_is_given_up_first() {
        let memory = AnswerMemory::new(1_000);
        let mut waits = Vec::new();
        for connection in 0..3 {
            let mut wait = Box::pin(memory.given_up(connection, vec![memory.take(300)]));
            assert!(!poll(&mut wait));
            waits.push(wait);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        memory.moved(0);
        tokio::time::advance(Duration::from_secs(1)).await;
        let _more = memory.take(200);
        let ended: Vec<bool> = waits.iter_mut().map(poll).collect();
        assert_eq!(ended, [false, true, false], "the first has read in the meantime");
        assert_eq!(memory.free_bytes(), 200);
        drop(waits);
        assert_eq!(memory.free_bytes(), 800);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_is_not_given_up_and_may_have_more_than_there_is() {
        let memory = AnswerMemory::new(1_000);
        let mut large = Box::pin(memory.given_up(0, vec![memory.take(5_000)]));
        for _ in 0..100 {
            assert!(!poll(&mut large));
            tokio::time::advance(READS / 2).await;
            memory.moved(0);
            drop(memory.lease(1));
        }
        tokio::time::advance(READS).await;
        drop(memory.lease(1));
        assert!(poll(&mut large));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_without_memory_are_nobodys_business() {
        let memory = AnswerMemory::new(1_000);
        let mut small = Box::pin(memory.given_up(0, Vec::new()));
        assert!(!poll(&mut small) && memory.waiting().is_empty());
        let mut wait = Box::pin(memory.given_up(1, vec![memory.take(900)]));
        assert!(!poll(&mut wait));
        tokio::time::advance(READS).await;
        drop(wait);
        assert!(memory.waiting().is_empty() && memory.free_bytes() == 1_000);
    }
}
