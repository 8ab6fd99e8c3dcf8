//! Sets of offsets as ranges that do not touch.

use std::collections::BTreeMap;

/// Offsets, stored as half-open ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// Start to end; neither overlapping nor adjacent.
    ends: BTreeMap<i64, i64>,
}

impl Ranges {
    /// Adds `start..end`.
    pub(super) fn insert(&mut self, mut start: i64, mut end: i64) {
        if start >= end {
            return;
        }
        while let Some((&other_start, &other_end)) = self.ends.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            start = start.min(other_start);
            end = end.max(other_end);
            self.ends.remove(&other_start);
        }
        self.ends.insert(start, end);
    }

    /// Whether the offset is one of them.
    pub(super) fn contains(&self, offset: i64) -> bool {
        self.ends.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// Takes everything below `offset` out, and the range that then begins there; returns where
    /// the offsets that are not in the set begin.
    pub(super) fn absorb(&mut self, offset: i64) -> i64 {
        let mut reached = offset;
        while let Some((&start, &end)) = self.ends.first_key_value() {
            if start > reached {
                break;
            }
            reached = reached.max(end);
            self.ends.remove(&start);
        }
        reached
    }

    /// Takes everything from `offset` on out.
    pub(super) fn cut(&mut self, offset: i64) {
        self.ends.split_off(&offset);
        if let Some(mut last) = self.ends.last_entry() {
            *last.get_mut() = (*last.get()).min(offset);
        }
    }

    /// Behind the last of the offsets.
    pub(super) fn end(&self) -> Option<i64> {
        self.ends.last_key_value().map(|(_, end)| *end)
    }

    /// The ranges in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.ends.iter().map(|(start, end)| (*start, *end))
    }

    /// How many ranges.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many offsets these are.
    #[cfg(test)]
    pub(super) fn count(&self) -> i64 {
        self.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_their_offsets(
            inserted in prop::collection::vec((0i64..60, 0i64..8), 0..30),
            absorbed in 0i64..70,
            cut in 0i64..70,
        ) {
            let mut ranges = Ranges::default();
            let mut naive = BTreeSet::new();
            for (start, len) in inserted {
                ranges.insert(start, start + len);
                naive.extend(start..start + len);
            }
            for offset in 0..80 {
                prop_assert_eq!(ranges.contains(offset), naive.contains(&offset));
            }
            let pairs: Vec<_> = ranges.iter().collect();
            prop_assert!(pairs.windows(2).all(|w| w[0].1 < w[1].0));
            prop_assert_eq!(ranges.count(), i64::try_from(naive.len()).unwrap());
            prop_assert_eq!(ranges.end(), naive.last().map(|last| last + 1));
            ranges.cut(cut);
            naive.retain(|offset| *offset < cut);
            let left: Vec<_> = (0..80).filter(|offset| ranges.contains(*offset)).collect();
            prop_assert_eq!(left, naive.iter().copied().collect::<Vec<_>>());
            let reached = ranges.absorb(absorbed);
            let expected = (absorbed..).find(|o| !naive.contains(o)).unwrap();
            prop_assert_eq!(reached, expected);
            prop_assert_eq!(ranges.count(), i64::try_from(naive.range(reached..).count()).unwrap());
        }
    }
}
