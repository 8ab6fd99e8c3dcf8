//! Halves by the message id that their sender gave them, so that a send that is tried again, since
//! its answer was lost, finds the half of the first time.
//!
//! What is kept is a hash: who finds something compares with what the log says. A half is found as
//! long as it is pending and for ten minutes after, the newest [`ENDED_MAX`] of those that ended.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;

use super::ends::REMEMBER_MS;
use crate::model::{Offset, TopicId};

/// Ended halves that are found: some 30 MiB.
const ENDED_MAX: usize = 1 << 19;

/// Stands for a group's message id on a topic. Of one run only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MessageKey(NonZeroU64);

impl MessageKey {
    pub(super) fn of(topic_id: TopicId, group: &str, message_id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (topic_id, group, message_id).hash(&mut hasher);
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MAX))
    }
}

#[derive(Debug, Default)]
pub(super) struct Ids {
    halves: BTreeMap<MessageKey, i64>,
    /// In the order of their ends: when, and which.
    ended: VecDeque<(i64, MessageKey, i64)>,
}

impl Ids {
    /// The newest half of a key is the one that is found.
    pub(super) fn insert(&mut self, key: MessageKey, half: Offset) {
        self.halves.insert(key, half.0);
    }

    /// From now on the half is only found for a while.
    pub(super) fn end(&mut self, key: MessageKey, half: Offset, at_ms: i64) {
        if self.ended.len() == ENDED_MAX {
            self.forget_first();
        }
        self.ended.push_back((at_ms, key, half.0));
    }

    pub(super) fn find(&self, key: MessageKey) -> Option<Offset> {
        self.halves.get(&key).copied().map(Offset)
    }

    /// Forgets what ended too long before `now_ms`.
    pub(super) fn forget(&mut self, now_ms: i64) {
        let oldest_ms = now_ms.saturating_sub(REMEMBER_MS);
        while self.ended.front().is_some_and(|(at_ms, ..)| *at_ms < oldest_ms) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((_, key, half)) = self.ended.pop_front() else { return };
        if self.halves.get(&key) == Some(&half) {
            self.halves.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn key(message_id: &str) -> MessageKey {
        MessageKey::of(TopicId(Uuid::nil()), "g", message_id)
    }

    #[test]
    fn an_old_half_that_is_forgotten_does_not_take_the_newer_of_its_id_along() {
        let mut ids = Ids::default();
        ids.insert(key("a"), Offset(1));
        ids.end(key("a"), Offset(1), 1000);
        ids.insert(key("a"), Offset(5));
        ids.forget(1001 + REMEMBER_MS);
        assert_eq!(ids.find(key("a")), Some(Offset(5)));
        ids.end(key("a"), Offset(5), 2000);
        ids.forget(2000 + REMEMBER_MS);
        assert_eq!(ids.find(key("a")), Some(Offset(5)));
        ids.forget(2001 + REMEMBER_MS);
        assert_eq!(ids.find(key("a")), None);
    }

    #[test]
    fn of_too_many_ended_halves_the_oldest_are_not_found() {
        let mut ids = Ids::default();
        let end = i64::try_from(ENDED_MAX).unwrap() + 1;
        for half in 0..end {
            ids.insert(key(&half.to_string()), Offset(half));
            ids.end(key(&half.to_string()), Offset(half), 0);
        }
        let found = |half: i64| ids.find(key(&half.to_string()));
        assert_eq!([found(0), found(1)], [None, Some(Offset(1))]);
    }

    #[test]
    fn topic_group_and_id_make_the_key() {
        let of = |topic, group, id| MessageKey::of(TopicId(Uuid::from_u128(topic)), group, id);
        assert_eq!(of(1, "g", "a"), of(1, "g", "a"));
        for other in [of(2, "g", "a"), of(1, "h", "a"), of(1, "g", "b"), of(1, "ga", "")] {
            assert_ne!(other, of(1, "g", "a"));
        }
    }
}
