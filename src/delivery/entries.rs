//! Entries by offset. Those of 64 offsets lie side by side, so that a lease of many costs little
//! more than the entry itself, and one that is stuck among what is done costs no more either.

use std::collections::BTreeMap;

use super::event::Entry;

/// Offsets whose entries lie side by side.
const SPAN: i64 = 64;

/// A map from offsets to entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entries {
    spans: BTreeMap<i64, Span>,
    len: usize,
}

/// The entries of one span, in order. Never empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Span {
    /// Which of the offsets have an entry: the first is the lowest bit.
    taken: u64,
    entries: Vec<Entry>,
}

impl Span {
    /// Where the entry of a bit is, or would be.
    fn place(&self, bit: u64) -> usize {
        (self.taken & (bit - 1)).count_ones() as usize
    }

    fn get(&self, bit: u64) -> Option<&Entry> {
        if self.taken & bit == 0 {
            return None;
        }
        self.entries.get(self.place(bit))
    }

    /// The offsets of the span, of those from `from` on, and their entries.
    fn iter_from(&self, span: i64, from: i64) -> impl Iterator<Item = (i64, &Entry)> {
        let bits = (0..SPAN).filter(|bit| self.taken >> bit & 1 == 1);
        let offsets = bits.map(move |bit| span * SPAN + bit);
        offsets.zip(&self.entries).skip_while(move |(offset, _)| *offset < from)
    }
}

/// The span of an offset and its bit there.
fn split(offset: i64) -> (i64, u64) {
    (offset.div_euclid(SPAN), 1 << offset.rem_euclid(SPAN))
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, offset: i64) -> Option<&Entry> {
        let (span, bit) = split(offset);
        self.spans.get(&span)?.get(bit)
    }

    pub(super) fn contains(&self, offset: i64) -> bool {
        self.get(offset).is_some()
    }

    /// The lowest offset.
    pub(super) fn first(&self) -> Option<i64> {
        let (span, entries) = self.spans.first_key_value()?;
        Some(span * SPAN + i64::from(entries.taken.trailing_zeros()))
    }

    /// The entries in the order of their offsets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Entry)> {
        self.spans.iter().flat_map(|(span, entries)| entries.iter_from(*span, i64::MIN))
    }

    /// Those from an offset on.
    pub(super) fn iter_from(&self, from: i64) -> impl Iterator<Item = (i64, &Entry)> {
        let spans = self.spans.range(split(from).0..);
        spans.flat_map(move |(span, entries)| entries.iter_from(*span, from))
    }

    /// Puts an entry in the place of the one there is, if there is one.
    pub(super) fn insert(&mut self, offset: i64, entry: Entry) {
        let (number, bit) = split(offset);
        let span = self.spans.entry(number).or_default();
        let place = span.place(bit);
        if span.taken & bit == 0 {
            span.taken |= bit;
            span.entries.insert(place, entry);
            self.len += 1;
        } else if let Some(before) = span.entries.get_mut(place) {
            *before = entry;
        }
    }

    pub(super) fn remove(&mut self, offset: i64) -> Option<Entry> {
        let (number, bit) = split(offset);
        let span = self.spans.get_mut(&number)?;
        if span.taken & bit == 0 {
            return None;
        }
        let removed = span.entries.remove(span.place(bit));
        span.taken &= !bit;
        self.len -= 1;
        if span.taken == 0 {
            self.spans.remove(&number);
        } else if span.entries.capacity() > 4 * span.entries.len() {
            span.entries.shrink_to(2 * span.entries.len());
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::event::State;

    fn entry(time_ms: i64) -> Entry {
        Entry { time_ms, receive: 0, message_group: 0, attempts: 1, state: State::Acquired }
    }

    proptest! {
        #[test]
        fn it_is_a_map(
            acts in prop::collection::vec((prop_oneof![-5i64..200, 9_990i64..10_010], 0..3u8), 0..300),
            from in -10i64..10_020,
        ) {
            let (mut entries, mut naive) = (Entries::default(), BTreeMap::new());
            for (nth, (offset, act)) in (0..).zip(acts) {
                if act == 0 {
                    prop_assert_eq!(entries.remove(offset), naive.remove(&offset));
                } else {
                    entries.insert(offset, entry(nth));
                    naive.insert(offset, entry(nth));
                }
                prop_assert_eq!(entries.get(offset), naive.get(&offset));
                prop_assert_eq!(entries.len(), naive.len());
                prop_assert_eq!(entries.first(), naive.first_key_value().map(|(first, _)| *first));
            }
            let all: Vec<_> = entries.iter().map(|(offset, entry)| (offset, *entry)).collect();
            let naive_all: Vec<_> = naive.iter().map(|(offset, entry)| (*offset, *entry)).collect();
            prop_assert_eq!(all, naive_all);
            let later: Vec<_> = entries.iter_from(from).map(|(offset, _)| offset).collect();
            let naive_later: Vec<_> = naive.range(from..).map(|(offset, _)| *offset).collect();
            prop_assert_eq!(later, naive_later);
            for offset in -6..201 {
                prop_assert_eq!(entries.contains(offset), naive.contains_key(&offset));
            }
        }
    }
}
