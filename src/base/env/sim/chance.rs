//! The simulator's own dice (splitmix64): small, fast, and the same for a seed in every build,
//! so that a failed seed written down today still fails after a library upgrade.

#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for each `salt`, so that one file's draws do not shift another's.
    pub(super) fn fork(&self, salt: u64) -> Self {
        let mut child = Self(self.0 ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93));
        child.next();
        child
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; zero when `end` is zero.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// True in `of_256` of 256 draws.
    pub(super) fn hit(&mut self, of_256: u64) -> bool {
        self.next() & 255 < of_256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        let draw = |seed| {
            let mut chance = Chance::of(seed);
            [chance.next(), chance.next(), chance.below(10)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        // The published first output of splitmix64 for seed 0.
        assert_eq!(Chance::of(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn hit_respects_its_bounds() {
        let mut chance = Chance::of(1);
        assert!((0..1000).all(|_| !chance.hit(0)));
        assert!((0..1000).all(|_| chance.hit(256)));
        let hits = (0..10_000).filter(|_| chance.hit(128)).count();
        assert!((4_000..6_000).contains(&hits));
    }
}
