//! The last offset of every key, in bounded memory.
//!
//! A key is known by a digest of 128 bits, so that it costs the same whatever its length. Digests
//! begin with a secret of this run: nobody can choose keys that meet in one.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use crate::env::Env;

/// What a key costs at most, while the table grows.
const KEY_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct Keys {
    secrets: [u64; 2],
    offsets: HashMap<[u64; 2], i64>,
    count_max: usize,
}

impl Keys {
    /// A table that takes about so many bytes at most.
    pub(super) fn new(env: &Env, size_bytes_max: usize) -> Self {
        let secrets = [env.rng.next_u64(), env.rng.next_u64()];
        Self { secrets, offsets: HashMap::new(), count_max: (size_bytes_max / KEY_BYTES).max(1) }
    }

    /// Forgets all keys.
    pub(super) fn clear(&mut self) {
        self.offsets.clear();
    }

    /// Whether so many keys more still fit. An empty table takes any number: a batch is bounded.
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.offsets.is_empty() || self.offsets.len() + count <= self.count_max
    }

    /// Enters a record of a key; offsets only grow.
    pub(super) fn note(&mut self, key: &[u8], offset: i64) {
        self.offsets.insert(self.digest(key), offset);
    }

    /// Whether no record of the key behind this offset was entered.
    pub(super) fn is_last(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.digest(key)).is_none_or(|last| *last <= offset)
    }

    fn digest(&self, key: &[u8]) -> [u64; 2] {
        self.secrets.map(|secret| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(secret);
            hasher.write(key);
            hasher.finish()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::support::real_env;

    #[test]
    fn the_last_offset_of_each_key_counts_and_room_is_bounded() {
        let mut keys = Keys::new(&real_env(), 3 * KEY_BYTES);
        assert!(keys.has_room(100), "an empty table takes a whole batch");
        for (key, offset) in [("a", 1), ("b", 2), ("a", 5)] {
            keys.note(key.as_bytes(), offset);
        }
        assert!(!keys.is_last(b"a", 1) && keys.is_last(b"a", 5) && keys.is_last(b"b", 2));
        assert!(keys.is_last(b"c", 0), "never entered");
        assert!(keys.has_room(1) && !keys.has_room(2));
        keys.clear();
        assert!(keys.is_last(b"a", 1));
    }
}
