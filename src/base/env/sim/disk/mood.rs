//! How a power cut treats what was not synced. Uniform coins would make every image a hash of
//! noise; real cuts have a character, and each character finds other bugs: nothing arrived, all
//! arrived, all up to a torn last operation, whole operations in any order, single sectors.

use crate::env::sim::chance::Chance;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mood {
    Nothing,
    Everything,
    /// In order; of the operation named last, some sectors.
    UpTo {
        operation: u64,
    },
    /// Each operation whole or not at all, in any order.
    Operations {
        salt: u64,
        of_256: u64,
    },
    /// Each sector by itself.
    Sectors {
        of_256: u64,
    },
}

impl Mood {
    /// The mood of a cut after `operations` operations.
    pub(super) fn of_cut(chance: &mut Chance, operations: u64) -> Self {
        const SHARES: [u64; 5] = [16, 64, 128, 192, 240];
        let of_256 = SHARES[usize::try_from(chance.below(5)).unwrap_or(0)];
        match chance.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::UpTo { operation: operations },
            3 => Self::UpTo { operation: chance.below(operations + 1) },
            4 | 5 => Self::Operations { salt: chance.next(), of_256 },
            _ => Self::Sectors { of_256 },
        }
    }

    /// How many of the metadata changes, given in order, survive.
    pub(super) fn metadata(
        &self,
        changes: impl ExactSizeIterator<Item = u64>,
        chance: &mut Chance,
    ) -> usize {
        let count = changes.len();
        match self {
            Self::Nothing => 0,
            Self::Everything => count,
            Self::UpTo { .. } => {
                let mut changes = changes;
                changes.position(|change| !self.survives(change, chance)).unwrap_or(count)
            }
            Self::Operations { .. } | Self::Sectors { .. } => {
                usize::try_from(chance.below(count as u64 + 1)).unwrap_or(count)
            }
        }
    }

    /// Whether what `operation` wrote to one sector survives.
    pub(super) fn sector(&self, operation: u64, chance: &mut Chance) -> bool {
        self.survives(operation, chance)
    }

    /// Whether the name that `operation` changed survives changed.
    pub(super) fn name(&self, operation: u64, chance: &mut Chance) -> bool {
        self.survives(operation, chance)
    }

    fn survives(&self, operation: u64, chance: &mut Chance) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::UpTo { operation: last } if operation == *last => chance.hit(128),
            Self::UpTo { operation: last } => operation < *last,
            Self::Operations { salt, of_256 } => Chance::of(*salt).fork(operation).hit(*of_256),
            Self::Sectors { of_256 } => chance.hit(*of_256),
        }
    }
}
