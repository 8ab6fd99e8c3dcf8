//! Mistakes that replication is known to have been built with elsewhere, to be made on purpose: a
//! model that does not find them proves nothing. Only tests can make one: those of this crate, and
//! those of crates that ask for the feature `mistakes`.

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// The leader counts the set it asked for, before the controller has agreed.
    CommitByProposedSet,
    /// The leader counts the set it knows to be agreed, though it asked for a larger one
    /// (RocketMQ's issue 5663).
    CommitByKnownSet,
    /// A replica that lags is no longer waited for as soon as its removal is asked for.
    ShrinkBeforeAgreed,
    /// A follower cuts its log at the committed mark it knows of (before KIP-101).
    TruncateToCommitted,
    /// A follower that is past the committed mark joins, though the epoch began behind its end.
    ExpandBeforeEpochStart,
    /// A follower joins whatever it lacks.
    ExpandAnyone,
    /// What a follower has in memory counts as acknowledged.
    CountUnsynced,
    /// A follower's words count without its log being compared.
    CountUnvalidated,
    /// The leader listens to earlier runs of a broker, and to other terms.
    IgnoreStamps,
    /// Any replica that is up may be elected.
    ElectAnyone,
    /// A leader that starts again goes on in its old term.
    KeepEpochAtRestart,
}

/// Whether rules are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rules {
    /// The one that is broken, if any.
    #[cfg(any(test, feature = "mistakes"))]
    pub broken: Option<Mistake>,
}

impl Rules {
    /// Whether this one is not.
    #[cfg(any(test, feature = "mistakes"))]
    #[must_use]
    pub fn breaks(self, mistake: Mistake) -> bool {
        self.broken == Some(mistake)
    }

    /// Whether this one is not: all are kept outside of tests.
    #[cfg(not(any(test, feature = "mistakes")))]
    #[must_use]
    pub const fn breaks(self, _: Mistake) -> bool {
        false
    }
}
