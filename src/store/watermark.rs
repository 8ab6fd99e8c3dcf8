//! How far the log is durable, how far it is committed, and who waits for either.
//!
//! Of a log of one broker alone what is durable is committed: there is one mark. A replica's has two,
//! and what both have passed is visible.
//!
//! The writer moves the mark; tasks wait as futures, the keeper by blocking. A waiter is checked
//! under the list's lock after the mark was stored, so no wake-up is lost; wakers are called after
//! the lock is dropped. The mark only grows; a failure is final and answers everyone.

use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use super::error::LogFailed;
use crate::model::Position;

#[derive(Debug, Default)]
pub(super) struct Watermark {
    durable: AtomicU64,
    /// Of a replica: everything below is durable on all that count.
    committed: AtomicU64,
    is_replica: bool,
    failed: OnceLock<LogFailed>,
    waiters: Mutex<Waiters>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Waiters {
    tasks: BinaryHeap<Waiter>,
    /// Those that wait for more than this disk; of a replica only.
    for_visible: BinaryHeap<Waiter>,
    /// Threads that wait by blocking.
    blocked: usize,
}

#[derive(Debug)]
struct Waiter {
    position: u64,
    waker: Waker,
}

/// The nearest position comes first out of the heap.
impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> Order {
        other.position.cmp(&self.position)
    }
}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl Eq for Waiter {}

impl Watermark {
    pub(super) fn at(durable: u64) -> Self {
        Self { durable: AtomicU64::new(durable), ..Self::default() }
    }

    /// The marks of a replica.
    pub(super) fn of_replica(durable: u64, committed: u64) -> Self {
        let committed = AtomicU64::new(committed);
        Self { committed, is_replica: true, ..Self::at(durable) }
    }

    pub(super) fn is_replica(&self) -> bool {
        self.is_replica
    }

    /// Everything below may be seen.
    pub(super) fn visible(&self) -> u64 {
        let durable = self.durable();
        if self.is_replica { durable.min(self.committed.load(Ordering::Acquire)) } else { durable }
    }

    /// The committed mark of a replica.
    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Moves the committed mark of a replica, and wakes whom that reached.
    pub(super) fn commit(&self, committed: u64) {
        self.committed.fetch_max(committed, Ordering::AcqRel);
        self.wake_visible();
    }

    fn wake_visible(&self) {
        if !self.is_replica {
            return;
        }
        let visible = self.visible();
        let mut reached = Vec::new();
        let mut waiters = self.waiters();
        while waiters.for_visible.peek().is_some_and(|waiter| waiter.position <= visible) {
            reached.extend(waiters.for_visible.pop());
        }
        drop(waiters);
        reached.into_iter().for_each(|waiter| waiter.waker.wake());
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn failed(&self) -> Option<&LogFailed> {
        self.failed.get()
    }

    /// Moves the mark and wakes whom it reached.
    pub(super) fn advance(&self, durable: u64) {
        let before = self.durable.fetch_max(durable, Ordering::AcqRel);
        debug_assert!(before <= durable, "the durable watermark went from {before} to {durable}");
        let mut reached = Vec::new();
        let mut waiters = self.waiters();
        while waiters.tasks.peek().is_some_and(|waiter| waiter.position <= durable) {
            reached.extend(waiters.tasks.pop());
        }
        let blocked = waiters.blocked > 0;
        drop(waiters);
        if blocked {
            self.moved.notify_all();
        }
        reached.into_iter().for_each(|waiter| waiter.waker.wake());
        self.wake_visible();
    }

    /// Answers everyone, now and later, with the failure. Only the first counts.
    pub(super) fn fail(&self, failed: LogFailed) {
        if self.failed.set(failed).is_ok() {
            let mut waiters = self.waiters();
            let all = std::mem::take(&mut waiters.tasks);
            let others = std::mem::take(&mut waiters.for_visible);
            drop(waiters);
            self.moved.notify_all();
            all.into_iter().chain(others).for_each(|waiter| waiter.waker.wake());
        }
    }

    fn reached(&self, position: u64, mark: Mark) -> Option<Result<(), LogFailed>> {
        let reached = match mark {
            Mark::Durable => self.durable(),
            Mark::Visible => self.visible(),
        };
        if reached >= position {
            return Some(Ok(()));
        }
        self.failed().map(|failed| Err(failed.clone()))
    }

    /// Blocks until the mark reaches a position. For the keeper's thread only.
    pub(super) fn wait_blocking(&self, position: u64) -> Result<(), LogFailed> {
        let mut waiters = self.waiters();
        loop {
            if let Some(answer) = self.reached(position, Mark::Durable) {
                return answer;
            }
            waiters.blocked += 1;
            waiters = self.moved.wait(waiters).unwrap_or_else(PoisonError::into_inner);
            waiters.blocked -= 1;
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        // Plain data, valid after any panic of a waker.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Durable,
    Visible,
}

/// Resolves once everything below a position is durable, or committed as well, or the log failed.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct WaitDurable {
    watermark: Arc<Watermark>,
    position: u64,
    mark: Mark,
    registered: Option<Waker>,
}

impl WaitDurable {
    pub(super) fn new(watermark: Arc<Watermark>, position: Position, mark: Mark) -> Self {
        // Where there is one mark only one list is looked after.
        let mark = if watermark.is_replica { mark } else { Mark::Durable };
        Self { watermark, position: position.0, mark, registered: None }
    }
}

impl Future for WaitDurable {
    type Output = Result<(), LogFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.watermark.reached(self.position, self.mark) {
            return Poll::Ready(answer);
        }
        if self.registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
        let mut waiters = self.watermark.waiters();
        if let Some(answer) = self.watermark.reached(self.position, self.mark) {
            return Poll::Ready(answer);
        }
        let waker = context.waker().clone();
        let waiter = Waiter { position: self.position, waker: waker.clone() };
        match self.mark {
            Mark::Durable => waiters.tasks.push(waiter),
            Mark::Visible => waiters.for_visible.push(waiter),
        }
        drop(waiters);
        self.registered = Some(waker);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll(wait: &mut WaitDurable, count: &Arc<Count>) -> Poll<Result<(), LogFailed>> {
        let waker = Waker::from(Arc::clone(count));
        Pin::new(wait).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn waiters_are_woken_once_their_position_is_reached_and_not_before() {
        let mark = Arc::new(Watermark::at(10));
        let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
        let mut waits: Vec<WaitDurable> = [30, 20, 25]
            .map(|at| WaitDurable::new(Arc::clone(&mark), Position(at), Mark::Durable))
            .into_iter()
            .collect();
        for (wait, count) in waits.iter_mut().zip(&counts) {
            assert!(poll(wait, count).is_pending());
            assert!(poll(wait, count).is_pending(), "polling again registers nothing new");
        }
        let woken =
            || -> Vec<usize> { counts.iter().map(|c| c.0.load(Ordering::SeqCst)).collect() };
        mark.advance(24);
        assert_eq!(woken(), [0, 1, 0]);
        mark.advance(30);
        assert_eq!(woken(), [1, 1, 1]);
        assert!(matches!(poll(&mut waits[0], &counts[0]), Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_failure_answers_those_above_the_mark_and_only_those() {
        let mark = Arc::new(Watermark::at(10));
        let count = Arc::new(Count::default());
        let mut above = WaitDurable::new(Arc::clone(&mark), Position(11), Mark::Durable);
        let mut below = WaitDurable::new(Arc::clone(&mark), Position(10), Mark::Durable);
        assert!(poll(&mut above, &count).is_pending());
        mark.fail(LogFailed::Closed);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(matches!(poll(&mut above, &count), Poll::Ready(Err(LogFailed::Closed))));
        assert!(matches!(poll(&mut below, &count), Poll::Ready(Ok(()))));
        assert!(mark.wait_blocking(10).is_ok() && mark.wait_blocking(11).is_err());
    }

    #[test]
    fn what_is_visible_of_a_replica_is_durable_and_committed() {
        let mark = Arc::new(Watermark::of_replica(10, 5));
        let count = Arc::new(Count::default());
        let wait =
            |position, mark_of| WaitDurable::new(Arc::clone(&mark), Position(position), mark_of);
        let (mut durable, mut visible) = (wait(20, Mark::Durable), wait(20, Mark::Visible));
        assert!(poll(&mut durable, &count).is_pending() && poll(&mut visible, &count).is_pending());
        assert_eq!(mark.visible(), 5);
        mark.commit(30);
        assert_eq!((mark.visible(), count.0.load(Ordering::SeqCst)), (10, 0));
        mark.commit(7);
        mark.advance(25);
        assert_eq!((mark.visible(), count.0.load(Ordering::SeqCst)), (25, 2));
        assert!(matches!(poll(&mut visible, &count), Poll::Ready(Ok(()))));
        let alone = Watermark::at(10);
        alone.commit(3);
        assert_eq!(alone.visible(), 10, "of one broker alone nothing else counts");
        let mut late = wait(26, Mark::Visible);
        assert!(poll(&mut late, &count).is_pending());
        mark.fail(LogFailed::Closed);
        assert!(matches!(poll(&mut late, &count), Poll::Ready(Err(LogFailed::Closed))));
    }
}
