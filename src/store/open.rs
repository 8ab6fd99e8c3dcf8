//! Opening and closing a store: identity and lock of the directory, recovery, threads.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::allocate::{self, Allocator};
use super::begin::Writes;
use super::checkpoint::{Checkpoint, Meta};
use super::config::{OnDamage, StoreConfig};
use super::error::{AppendError, Damage, IoFailure, LogFailed, MaintainError, OpenError};
use super::follow::REPLICATED;
use super::frame::{self, ACCEPTS_LOSS};
use super::handle::LogHandle;
use super::keeper;
use super::recovery::{Listing, recover};
use super::segment::name;
use super::sequencer::Sequencer;
use super::shared::{Parts, Shared};
use super::truncate;
use super::writer::{self, Writer};
use crate::env::Env;
use crate::env::fs::Lock;

/// An open store: owner of the directory and of the threads that serve it.
#[derive(Debug)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    damage: Vec<Damage>,
    _lock: Box<dyn Lock>,
}

impl Store {
    /// Opens a directory, recovering what is there, with threads of a writer, an allocator and a keeper.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing is deleted or made anew that might hold records.
    pub fn open(
        env: &Env,
        config: StoreConfig,
        sequencer: Box<dyn Sequencer>,
    ) -> Result<Self, OpenError> {
        let mut store = Self::open_with(env, config, sequencer, true)?;
        store.start_thread("log-writer", writer::run)?;
        store.start_thread("log-allocator", allocate::run)?;
        store.start_thread("log-keeper", keeper::run)?;
        Ok(store)
    }

    /// Opens a directory without threads: nothing is written or looked after but by
    /// [`Store::write_ready`] and [`Store::maintain`], or by its [`Driver`](super::Driver). For the
    /// simulator and for tests.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_inline(
        env: &Env,
        config: StoreConfig,
        sequencer: Box<dyn Sequencer>,
    ) -> Result<Self, OpenError> {
        Self::open_with(env, config, sequencer, false)
    }

    fn start_thread(&mut self, name: &'static str, body: fn(&Shared)) -> Result<(), IoFailure> {
        let shared = Arc::clone(&self.shared);
        let thread = shared.env.spawner.clone().thread(name, move || body(&shared));
        self.threads.push(thread.map_err(IoFailure::of("start thread", Path::new(name)))?);
        Ok(())
    }

    fn open_with(
        env: &Env,
        config: StoreConfig,
        sequencer: Box<dyn Sequencer>,
        threaded: bool,
    ) -> Result<Self, OpenError> {
        config.check()?;
        let dir = config.dir.clone();
        if config.expects_log {
            // Before anything is made there: it may be the empty place of a disk not mounted.
            let meta = dir.join(name::META);
            if env.fs.size(&meta).map_err(IoFailure::of("look up", &meta))?.is_none() {
                return Err(OpenError::NoLog { dir });
            }
        }
        create_dir(env, &dir)?;
        let lock = lock(env, &dir)?;
        // Names that a killed process left behind count from now on.
        env.fs.sync_dir(&dir).map_err(IoFailure::of("sync directory", &dir))?;
        let meta = identify(env, &config)?;
        truncate::finish(env, &config, meta.log_tag())?;
        let recovered = recover(env, &config, meta, sequencer)?;
        let writer = Writer::new(&config).map_err(IoFailure::of("take memory for", &dir))?;
        let mut state = recovered.state;
        let is_replica = config.replica_of.is_some();
        if !is_replica && state.generation >= REPLICATED {
            return Err(OpenError::Replicated { dir });
        }
        state.following = is_replica;
        let loses = recovered.unknown_loss;
        if config.on_damage == OnDamage::RefuseAppends {
            state.damaged = loses;
            if let Some(at) = loses {
                tracing::error!(
                    at,
                    "damage hides which offsets were handed out: no record is taken until the loss \
                     is accepted (braid.commitlog.loss.accept)"
                );
            }
        }
        let parts = Parts {
            state,
            writer,
            allocator: Allocator { spares: recovered.spares },
            keeper: recovered.keeper,
            threaded,
            committed: is_replica.then_some(recovered.checkpoint),
        };
        let shared = Shared::new(env.clone(), config, parts);
        let damaged = shared.state().damaged;
        match damaged {
            None if is_replica => begin_following(&shared)?,
            None => begin_generation(&shared, loses.is_some())?,
            Some(_) => {}
        }
        Ok(Self { shared, threads: Vec::new(), damage: recovered.damage, _lock: lock })
    }

    /// The handle that everyone works with.
    #[must_use]
    pub fn handle(&self) -> LogHandle {
        LogHandle::new(Arc::clone(&self.shared))
    }

    /// Damage that recovery met, in order of position.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Writes the next group; whether there was one. For stores without threads.
    ///
    /// # Errors
    /// The log failed.
    pub fn write_ready(&self) -> Result<bool, LogFailed> {
        let mut writer = self.shared.locked(&self.shared.writer);
        self.shared.write_group(&mut writer)
    }

    /// Does what the keeper's thread does: prepares, seals, checkpoints, frees. For stores without
    /// threads; blocks.
    ///
    /// # Errors
    /// The log failed, or the disk is full and part of it is to be tried again.
    pub fn maintain(&self) -> Result<(), MaintainError> {
        let mut keeper = self.shared.locked(&self.shared.keeper);
        self.shared.keep(&mut keeper, false)
    }

    /// Makes everything durable and leaves the directory so that opening it needs no scan.
    ///
    /// # Errors
    /// The log failed; or the disk is full: then everything is durable, and opening scans.
    pub fn close(mut self) -> Result<(), MaintainError> {
        self.stop_threads();
        if let Some(failed) = self.shared.watermark.failed() {
            return Err(failed.clone().into());
        }
        self.shared.keep_last()
    }

    /// Lets the threads write what is appended, and end.
    pub(super) fn stop_threads(&mut self) {
        let mut state = self.shared.state();
        state.closing = true;
        self.shared.publish(&state);
        drop(state);
        self.shared.allocated.notify_waiters();
        self.shared.writer_wake.notify_all();
        self.shared.keeper_wake.notify_all();
        self.shared.allocator_wake.notify_all();
        self.shared.cleaner_wake.notify_all();
        // Whoever cleans notices, and touches the directory no more.
        drop(self.shared.locked(&self.shared.cleaner));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop_threads();
        self.shared.end(LogFailed::Closed);
    }
}

/// Makes the directory, durable with all its parents. A directory without a `meta` file may be
/// the work of a run that was killed before it synced them.
fn create_dir(env: &Env, dir: &Path) -> Result<(), IoFailure> {
    let fs = &env.fs;
    let meta = dir.join(name::META);
    fs.create_dir_all(dir).map_err(IoFailure::of("create directory", dir))?;
    if fs.size(&meta).map_err(IoFailure::of("look up", &meta))?.is_some() {
        return Ok(());
    }
    // Neither the root nor the current directory has a name; both exist for good.
    for made in dir.ancestors().filter(|ancestor| ancestor.file_name().is_some()) {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        match fs.sync_dir(parent) {
            Ok(()) => {}
            // Whoever may not look into a directory has made nothing in it.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => break,
            Err(error) => return Err(IoFailure::of("sync directory", parent)(error)),
        }
    }
    Ok(())
}

fn lock(env: &Env, dir: &Path) -> Result<Box<dyn Lock>, OpenError> {
    let path = dir.join(name::LOCK);
    match env.fs.lock(&path) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(OpenError::InUse { dir: dir.to_owned() })
        }
        Err(error) => Err(IoFailure::of("lock", &path)(error).into()),
    }
}

/// Reads whose log this is, or makes it this cluster's when nothing is there yet.
fn identify(env: &Env, config: &StoreConfig) -> Result<Meta, OpenError> {
    let (fs, dir) = (&env.fs, &config.dir);
    let path = dir.join(name::META);
    let listing = Listing::read(env, dir)?;
    let is_new = listing.logs.is_empty() && listing.spares.is_empty();
    let meta = if fs.size(&path).map_err(IoFailure::of("look up", &path))?.is_some() {
        let bytes = fs.read_all(&path).map_err(IoFailure::of("read", &path))?;
        Meta::decode(&bytes)
            .map_err(|_| OpenError::Unreadable { path, what: "its checksum or version differs" })?
    } else if is_new && listing.checkpoints.is_empty() {
        let store_id = config.replica_of.unwrap_or_else(|| env.rng.next_uuid());
        let meta = Meta { store_id, cluster_id: config.cluster_id };
        fs.replace(&path, &meta.encode()).map_err(IoFailure::of("write", &path))?;
        meta
    } else {
        return Err(OpenError::Missing { path });
    };
    if meta.cluster_id != config.cluster_id {
        return Err(OpenError::OtherCluster {
            dir: dir.clone(),
            found: meta.cluster_id,
            expected: config.cluster_id,
        });
    }
    if let Some(expected) = config.replica_of.filter(|expected| *expected != meta.store_id) {
        return Err(OpenError::OtherLog { dir: dir.clone(), found: meta.store_id, expected });
    }
    if is_new && listing.checkpoints.is_empty() {
        let first = Checkpoint {
            log_tag: meta.log_tag(),
            number: 1,
            epochs: vec![(0, 0)],
            ..Checkpoint::default()
        };
        let path = name::checkpoint(dir, 1);
        fs.replace(&path, &first.encode()).map_err(IoFailure::of("write", &path))?;
    }
    Ok(meta)
}

/// Begins this run's part of the log, or leaves that to the keeper when the disk is full.
fn begin_generation(shared: &Arc<Shared>, accepts_loss: bool) -> Result<(), OpenError> {
    forget_clean_stop(shared)?;
    shared.state().unbegun = Some(if accepts_loss { ACCEPTS_LOSS } else { 0 });
    if shared.state().room_in_segment() < frame::frame_bytes(0) {
        prepare(shared)?;
    }
    let has_begun = match shared.begin_run(Writes::ByTheCaller) {
        Ok(has_begun) => has_begun,
        Err(MaintainError::Io(failure)) => return Err(failure.into()),
        Err(MaintainError::Failed(failed)) => return Err(failed.into()),
    };
    if !has_begun && shared.appended() == 0 {
        // Nothing is stored that could be served.
        return Err(AppendError::DiskFull.into());
    }
    // With threads the next segment is made behind the first requests.
    if shared.threaded { Ok(()) } else { prepare(shared) }
}

/// Leaves nothing behind the end of the log that could count again. A replica writes no frame that
/// its leader has not: what begins a run here is the next frame of a leader.
fn begin_following(shared: &Arc<Shared>) -> Result<(), OpenError> {
    forget_clean_stop(shared)?;
    truncate::wipe_behind_end(&shared.env, &shared.state())?;
    let is_new = shared.state().segments.is_empty();
    if is_new {
        prepare(shared)?;
    }
    if shared.threaded { Ok(()) } else { prepare(shared) }
}

fn prepare(shared: &Shared) -> Result<(), OpenError> {
    match shared.prepare_segment() {
        Ok(_) => Ok(()),
        Err(MaintainError::Io(failure)) => Err(failure.into()),
        Err(MaintainError::Failed(failed)) => Err(failed.into()),
    }
}

/// From now on the log goes beyond what the last stop wrote down.
fn forget_clean_stop(shared: &Shared) -> Result<(), IoFailure> {
    let (fs, dir) = (&shared.env.fs, &shared.config.dir);
    let path = dir.join(name::CLEAN);
    if fs.size(&path).map_err(IoFailure::of("look up", &path))?.is_some() {
        fs.remove(&path).map_err(IoFailure::of("remove", &path))?;
        fs.sync_dir(dir).map_err(IoFailure::of("sync directory", dir))?;
    }
    Ok(())
}
