//! What the parts of a store share: the lock, the marks, the wake-ups.
//!
//! Lock order: cleaner, then keeper, then allocator or writer, then state; nothing is called outside the store
//! while the state is locked except the sequencer, and no I/O happens then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::allocate::Allocator;
use super::clean::Cleaner;
use super::config::StoreConfig;
use super::error::{IoFailure, LogFailed};
use super::keeper::Keeper;
use super::state::{Moment, State};
use super::watermark::Watermark;
use super::writer::Writer;
use crate::env::Env;

/// See the module.
pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) config: StoreConfig,
    pub(super) watermark: Arc<Watermark>,
    /// Wakes the writer's thread.
    pub(super) writer_wake: Condvar,
    /// Wakes the keeper's thread.
    pub(super) keeper_wake: Condvar,
    /// Wakes the allocator's thread.
    pub(super) allocator_wake: Condvar,
    /// Wakes whoever cleans and paces himself, when the log ends.
    pub(super) cleaner_wake: Condvar,
    /// Told whenever there may be work, for a store without threads.
    pub(super) inline_work: Notify,
    /// Told when a segment was prepared, the disk became full, or the log failed.
    pub(super) allocated: Notify,
    pub(super) writer: Mutex<Writer>,
    pub(super) allocator: Mutex<Allocator>,
    pub(super) keeper: Mutex<Keeper>,
    pub(super) cleaner: Mutex<Cleaner>,
    /// Whether writer and keeper have threads of their own.
    pub(super) threaded: bool,
    appended: AtomicU64,
    /// Bytes that find room in segments that are made; all where nobody is to wait for one.
    free_bytes: AtomicU64,
    state: Mutex<State>,
    /// How often the lock of `state` was taken.
    #[cfg(test)]
    pub(super) locked: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("dir", &self.config.dir).finish_non_exhaustive()
    }
}

/// The parts with a lock of their own.
pub(super) struct Parts {
    pub(super) state: State,
    pub(super) writer: Writer,
    pub(super) allocator: Allocator,
    pub(super) keeper: Keeper,
    pub(super) threaded: bool,
    /// Of a replica: everything below is known to be committed.
    pub(super) committed: Option<u64>,
}

impl Shared {
    pub(super) fn new(env: Env, config: StoreConfig, parts: Parts) -> Arc<Self> {
        let (appended, free_bytes) = (parts.state.appended, parts.state.free_bytes());
        Arc::new(Self {
            env,
            config,
            watermark: Arc::new(match parts.committed {
                Some(committed) => Watermark::of_replica(appended, committed),
                None => Watermark::at(appended),
            }),
            writer_wake: Condvar::new(),
            keeper_wake: Condvar::new(),
            allocator_wake: Condvar::new(),
            cleaner_wake: Condvar::new(),
            inline_work: Notify::new(),
            allocated: Notify::new(),
            writer: Mutex::new(parts.writer),
            allocator: Mutex::new(parts.allocator),
            keeper: Mutex::new(parts.keeper),
            cleaner: Mutex::default(),
            threaded: parts.threaded,
            appended: AtomicU64::new(appended),
            free_bytes: AtomicU64::new(free_bytes),
            state: Mutex::new(parts.state),
            #[cfg(test)]
            locked: AtomicU64::new(0),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        self.locked.fetch_add(1, Ordering::Relaxed);
        self.locked(&self.state)
    }

    /// A panic under one of the store's locks leaves the log half changed: the process ends.
    pub(super) fn locked<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        match mutex.lock() {
            Ok(guard) => guard,
            Err(_) => self.env.spawner.fatal("a panic left the log half changed"),
        }
    }

    /// Now, for a frame about to be appended.
    pub(super) fn moment(&self) -> Moment {
        Moment { now_ms: self.env.clock.wall_ms(), durable: self.watermark.durable() }
    }

    /// Lets go of the state after something may have been appended.
    pub(super) fn release(&self, mut state: MutexGuard<'_, State>) {
        self.publish(&state);
        let wake_writer = std::mem::take(&mut state.writer_idle);
        let wake_allocator = state.lacks_segment() && std::mem::take(&mut state.allocator_idle);
        let wake_keeper = state.keeper_due && std::mem::take(&mut state.keeper_idle);
        drop(state);
        if wake_writer {
            self.writer_wake.notify_one();
        }
        if wake_keeper {
            self.keeper_wake.notify_one();
        }
        if wake_allocator {
            self.allocator_wake.notify_one();
        }
        if !self.threaded {
            self.inline_work.notify_one();
        }
    }

    /// Lets those without the lock see how far the log goes, and how much further it may.
    pub(super) fn publish(&self, state: &State) {
        self.appended.store(state.appended, Ordering::Release);
        self.free_bytes.store(state.free_bytes(), Ordering::Release);
    }

    /// Bytes that find room in segments that are made.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Acquire)
    }

    /// Position behind the last frame appended.
    pub(super) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Ends the log: nothing more is acknowledged.
    pub(super) fn fail(&self, failure: IoFailure) -> LogFailed {
        tracing::error!(%failure, "the log failed");
        self.end(LogFailed::Io(Arc::new(failure)))
    }

    /// Answers everyone who waits.
    pub(super) fn end(&self, why: LogFailed) -> LogFailed {
        self.watermark.fail(why.clone());
        self.allocated.notify_waiters();
        self.writer_wake.notify_all();
        self.keeper_wake.notify_all();
        self.allocator_wake.notify_all();
        self.cleaner_wake.notify_all();
        self.inline_work.notify_one();
        self.watermark.failed().cloned().unwrap_or(why)
    }
}
