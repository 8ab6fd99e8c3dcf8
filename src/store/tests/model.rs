//! The store against its naive model, driven by scripts that shrink.

use proptest::prelude::*;

use super::support::{sim_dir, sim_env};
use super::world::{Dice, World, random_config};
use crate::env::sim::SimFs;
use crate::store::check;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Appends, reads, log starts, retention, drops, recycling, clean stops and kills: a store
    /// with tiny segments and chunks is at all times what the model says.
    #[test]
    fn a_store_is_what_its_model_says(
        sizes in proptest::collection::vec(0u64..1000, 8),
        lives in proptest::collection::vec(
            proptest::collection::vec(0u64..100_000, 0..400), 1..4),
    ) {
        let config = random_config(&Dice::scripted(sizes));
        let mut world = World::default();
        let mut fs = SimFs::new(1);
        for script in lives {
            let steps = script.len() as u64 / 3;
            prop_assert!(world.live(&fs, &config, &Dice::scripted(script), steps).is_ok());
            fs = fs.restart();
        }
        prop_assert!(world.live(&fs, &config, &Dice::scripted(Vec::new()), 0).is_ok());
        let report = check(&sim_env(&fs), &sim_dir()).unwrap();
        prop_assert_eq!(report.findings, []);
    }
}
