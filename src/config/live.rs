//! The configuration in force: the one the broker started with, under what has been set since.
//!
//! Readers load a whole [`Config`] and keep it for one request. Whoever sees the metadata change
//! calls [`LiveConfig::follow`]; an older view never replaces a newer one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::load::Config;

/// Settings as the metadata has them.
pub type Settings = BTreeMap<String, String>;

/// The configuration in force, shared by all who obey it.
#[derive(Debug)]
pub struct LiveConfig {
    /// Grows with every change, so that what was made from a configuration can tell its age.
    generation: AtomicU64,
    now: RwLock<Now>,
}

#[derive(Debug)]
struct Now {
    config: Arc<Config>,
    of_this: Settings,
    of_all: Settings,
    seen: u64,
}

impl LiveConfig {
    /// With nothing set but at the start.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        let now = Now { config, of_this: Settings::new(), of_all: Settings::new(), seen: 0 };
        Self { generation: AtomicU64::new(0), now: RwLock::new(now) }
    }

    /// What is in force.
    #[must_use]
    pub fn load(&self) -> Arc<Config> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// A number that differs after every change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts in force what stands in the metadata as of `seen`, for this broker and for all.
    /// Whether anything changed.
    pub fn follow(&self, seen: u64, of_this: Option<&Settings>, of_all: Option<&Settings>) -> bool {
        let nothing = Settings::new();
        let (of_this, of_all) = (of_this.unwrap_or(&nothing), of_all.unwrap_or(&nothing));
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if seen < now.seen {
            return false;
        }
        now.seen = seen;
        if now.of_this == *of_this && now.of_all == *of_all {
            return false;
        }
        now.config = Arc::new(now.config.with_dynamic(of_this, of_all));
        now.of_this.clone_from(of_this);
        now.of_all.clone_from(of_all);
        self.generation.fetch_add(1, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &str) -> Settings {
        Settings::from([("max.connections".to_owned(), value.to_owned())])
    }

    #[test]
    fn the_newest_view_is_in_force_and_an_older_one_comes_too_late() {
        let live = LiveConfig::new(Arc::new(Config::of(&[]).unwrap()));
        let at = |live: &LiveConfig| live.load().network.connections_max;
        let started_with = at(&live);
        assert!(live.follow(5, Some(&set("7")), Some(&set("9"))));
        assert_eq!((at(&live), live.generation()), (7, 1));
        assert!(!live.follow(4, None, None), "an older view");
        assert_eq!(at(&live), 7);
        assert!(!live.follow(6, Some(&set("7")), Some(&set("9"))), "the same");
        assert!(live.follow(7, None, Some(&set("9"))));
        assert_eq!((at(&live), live.generation()), (9, 2));
        assert!(live.follow(8, None, None));
        assert_eq!(at(&live), started_with);
    }
}
