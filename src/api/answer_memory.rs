//! The memory that fetched records take between reading them and the client's taking them.
//!
//! Records of the ring stay in memory, and small batches are copied, for as long as an answer is
//! on its way; a client decides how long that is. So answers together have a bound: when memory
//! is short they get smaller, and no client waits for another.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a fetch may always read, whatever the others hold.
const FLOOR_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct AnswerMemory(Arc<Semaphore>);

/// Memory of one answer, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    size_bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl AnswerMemory {
    /// Memory for answers of `size_bytes` in all.
    pub(crate) fn new(size_bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(size_bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Memory for an answer of up to `wanted` bytes. Nobody gets more than half of what is left.
    pub(crate) fn lease(&self, wanted: usize) -> Lease {
        let share = wanted.min(self.0.available_permits() / 2);
        let permits = u32::try_from(share).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0).try_acquire_many_owned(permits).ok();
        let leased = permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        Lease { size_bytes: leased.max(FLOOR_BYTES.min(wanted)), permit }
    }

    /// Bytes that no answer holds.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.0.available_permits()
    }
}

impl Lease {
    /// Bytes that the answer may have.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Gives back what the answer turned out not to need.
    pub(crate) fn shrink_to(&mut self, size_bytes: usize) {
        self.size_bytes = self.size_bytes.min(size_bytes);
        if let Some(permit) = &mut self.permit {
            let surplus = permit.num_permits().saturating_sub(size_bytes);
            drop(permit.split(surplus));
        }
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
        lease.shrink_to(1_000);
        assert_eq!((lease.size_bytes(), memory.free_bytes()), (1_000, (1 << 20) - 1_000));
        lease.shrink_to(2_000);
        assert_eq!(memory.free_bytes(), (1 << 20) - 1_000);
        assert_eq!(memory.lease(10).size_bytes(), 10);
    }
}
