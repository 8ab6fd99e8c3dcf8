//! What waits to be said to one other broker.
//!
//! Of each shard there is one question and one answer at most: every message can be lost, so a newer
//! one takes the place of the older. What is short goes first, since others' acknowledgements wait for
//! it; answers with frames follow in turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::letter::Letter;
use crate::model::ShardId;
use crate::replication::Message;

/// Shard, and whether it is a question.
type Key = (ShardId, bool);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    letters: BTreeMap<Key, Letter>,
    short: VecDeque<Key>,
    long: VecDeque<Key>,
}

impl Outbox {
    /// Adds a message, or puts it in the place of the one before it.
    pub(super) fn put(&self, letter: Letter) {
        let is_question = matches!(letter.envelope.message, Message::Fetch { .. });
        let key = (letter.envelope.stamp.shard, is_question);
        let is_short = letter.log.is_none();
        let mut waiting = self.waiting();
        let Waiting { letters, short, long } = &mut *waiting;
        let queue = if is_short { short } else { long };
        if letters.insert(key, letter).is_none() || !queue.contains(&key) {
            queue.push_back(key);
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// The next message. For one task alone.
    pub(super) async fn next(&self) -> Letter {
        loop {
            let taken = self.waiting().take();
            match taken {
                Some(letter) => return letter,
                None => self.news.notified().await,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Letter> {
        // A key whose message was taken under its other length has none any more.
        while let Some(key) = self.short.pop_front().or_else(|| self.long.pop_front()) {
            if let Some(letter) = self.letters.remove(&key) {
                return Some(letter);
            }
        }
        None
    }
}
