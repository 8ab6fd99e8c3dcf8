//! One simulated machine as an [`Env`], and the handles by which a test holds it.
//!
//! A process on it that ends by [`Spawner::fatal`] is dead: its disk answers nothing any more, the
//! reason is in [`SimHandles::fatal`], and the next life begins with [`SimHandles::restart`] (the
//! process died) or [`SimHandles::reboot`] (the power went).

use std::convert::Infallible;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};

use super::clock::SimClock;
use super::disk::SimFs;
use super::net::SimNet;
use crate::env::rng::SeededRng;
use crate::env::spawn::Blocking;
use crate::env::{Env, Spawner};

/// Where simulated wall time begins: 2025-01-01, a date that no test mistakes for a small number.
pub const START_WALL_MS: i64 = 1_735_689_600_000;

/// What a test holds of a simulated machine.
#[derive(Debug, Clone)]
pub struct SimHandles {
    /// Time.
    pub clock: Arc<SimClock>,
    /// The disk.
    pub fs: SimFs,
    /// The network; it outlives a reboot.
    pub net: SimNet,
    fatal: Arc<Mutex<Vec<String>>>,
    seed: u64,
    lives: u64,
}

/// A machine with an empty disk, repeatable by its seed. Made inside a tokio runtime, its clock
/// follows that runtime's (see [`SimClock`]); blocking work runs on the spot.
#[must_use]
pub fn env(seed: u64) -> (Env, SimHandles) {
    env_on(seed, SimNet::default())
}

/// As [`env`], on a network that other machines may share; see [`SimNet::host`].
#[must_use]
pub fn env_on(seed: u64, net: SimNet) -> (Env, SimHandles) {
    let handles = SimHandles {
        clock: Arc::new(SimClock::at_wall_ms(START_WALL_MS)),
        fs: SimFs::new(seed),
        net,
        fatal: Arc::default(),
        seed,
        lives: 0,
    };
    (handles.env(), handles)
}

impl SimHandles {
    /// Why the process of this life ended itself, the first reason first; empty while it lives.
    #[must_use]
    pub fn fatal(&self) -> Vec<String> {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The machine after a power cut now; `seed` picks among what the cut may leave.
    #[must_use]
    pub fn reboot(&self, seed: u64) -> (Env, Self) {
        self.next_life(self.fs.reboot(seed))
    }

    /// The machine after `kill -9` of the process now.
    #[must_use]
    pub fn restart(&self) -> (Env, Self) {
        self.next_life(self.fs.restart())
    }

    fn next_life(&self, fs: SimFs) -> (Env, Self) {
        let net = self.net.next_life();
        let lives = self.lives + 1;
        let next = Self { fs, net, fatal: Arc::default(), lives, ..self.clone() };
        (next.env(), next)
    }

    fn env(&self) -> Env {
        let (fatal, fs) = (Arc::clone(&self.fatal), self.fs.clone());
        let on_fatal = move |why: &str| -> Infallible {
            fatal.lock().unwrap_or_else(PoisonError::into_inner).push(why.to_owned());
            fs.cut_power();
            // Unwinds without the panic hook's noise: a simulation dies thousands of times.
            resume_unwind(Box::new("the simulated process ended"))
        };
        Env {
            clock: Arc::<SimClock>::clone(&self.clock),
            rng: Arc::new(SeededRng::from_seed(self.seed.wrapping_add(self.lives))),
            fs: Arc::new(self.fs.clone()),
            net: Arc::new(self.net.clone()),
            spawner: Spawner::new(on_fatal, Blocking::Inline),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::env::fs::Mode;

    #[test]
    fn a_seed_repeats_the_machine() {
        let draw = |seed| {
            let (env, _) = env(seed);
            (env.rng.next_uuid(), env.clock.wall_ms())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn outside_a_runtime_time_moves_only_when_told() {
        let (env, handles) = env(1);
        assert_eq!((env.clock.monotonic(), env.clock.wall_ms()), (Duration::ZERO, START_WALL_MS));
        handles.clock.advance(Duration::from_millis(5));
        handles.clock.jump_wall_ms(-3);
        assert_eq!(env.clock.monotonic(), Duration::from_millis(5));
        assert_eq!(env.clock.wall_ms(), START_WALL_MS + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn inside_a_runtime_time_follows_its_sleeps_from_any_thread() {
        let (env, _) = env(1);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(env.clock.monotonic(), Duration::from_secs(3600));
        let clock = Arc::clone(&env.clock);
        let thread = env.spawner.thread("reader", move || {
            assert_eq!(clock.wall_ms(), START_WALL_MS + 3_600_000);
        });
        thread.unwrap().join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_fatal_end_is_recorded_and_stops_the_disk() {
        let (env, handles) = env(1);
        let spawner = env.spawner.clone();
        let task = env.spawner.critical("writer", async move { spawner.fatal("sync failed") });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(handles.fatal()[0], "sync failed");
        assert!(handles.fs.is_off());
        let (env, handles) = handles.restart();
        assert!(handles.fatal().is_empty() && env.fs.list(Path::new("/")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn blocking_work_runs_on_the_spot_and_its_panic_is_an_error() {
        let (env, _) = env(1);
        let here = std::thread::current().id();
        let there = env.spawner.blocking(|| std::thread::current().id()).await.unwrap();
        assert_eq!(here, there);
        let panicked = env.spawner.blocking(|| resume_unwind(Box::new(1))).await;
        assert!(panicked.map(|(): ()| ()).is_err());
    }

    #[test]
    fn a_reboot_loses_what_was_unsynced_and_a_restart_does_not() {
        let (env, handles) = env(1);
        let path = Path::new("/a");
        let file = env.fs.open(path, Mode::CreateNew).unwrap();
        file.write_at(&[IoSlice::new(b"x")], 0).unwrap();
        let (env, handles) = handles.restart();
        assert_eq!(env.fs.read_all(path).unwrap(), b"x");
        let lost = (0..64).filter(|seed| handles.reboot(*seed).0.fs.size(path).unwrap().is_none());
        assert!((1..64).contains(&lost.count()));
    }
}
