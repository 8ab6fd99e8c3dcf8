//! Power cuts at every operation of random lives, and kills in between.

use super::support::{sim_dir, sim_env};
use super::world::{Dice, World, random_config};
use crate::env::sim::SimFs;
use crate::store::check;

const STEPS: u64 = 120;

/// Lives and dies: a life cut at one operation, then lives cut or killed anywhere, then a last one
/// that must find everything. Returns the number of power cuts.
fn cut_and_recover(seed: u64, cut: u64) -> u64 {
    let dice = Dice::of(seed);
    let config = random_config(&dice);
    let mut world = World::default();
    let mut fs = SimFs::new(seed);
    fs.cut_at(cut);
    drop(world.live(&fs, &config, &dice, STEPS));
    let mut cuts = 1;
    let later = Dice::of(seed ^ cut << 20);
    for life in 0..2 {
        // After a cut, a restart is what kill -9 in the midst of a call leaves.
        fs = if later.below(3) > 0 { fs.reboot(later.below(u64::MAX)) } else { fs.restart() };
        if later.below(4) > 0 {
            fs.cut_at(fs.operations() + 1 + later.below(40));
        }
        drop(world.live(&fs, &config, &later, 30 + life));
        cuts += u64::from(fs.is_off());
    }
    fs = if later.below(2) == 0 { fs.reboot(later.below(u64::MAX)) } else { fs.restart() };
    let last = world.live(&fs, &config, &later, 0);
    assert!(last.is_ok(), "{}", fs.dump());
    let report = check(&sim_env(&fs), &sim_dir()).unwrap();
    assert_eq!(report.findings, [], "{}", fs.dump());
    cuts
}

fn operations_of(seed: u64) -> u64 {
    let dice = Dice::of(seed);
    let config = random_config(&dice);
    let fs = SimFs::new(seed);
    let whole = World::default().live(&fs, &config, &dice, STEPS);
    assert!(whole.is_ok(), "nothing was cut in {}", sim_dir().display());
    fs.operations()
}

fn cut_everywhere(seeds: std::ops::Range<u64>) -> u64 {
    let mut cuts = 0;
    for seed in seeds {
        for cut in 1..=operations_of(seed) {
            let lived = std::panic::catch_unwind(|| cut_and_recover(seed, cut));
            cuts += lived.unwrap_or_else(|_| panic!("cut_and_recover({seed}, {cut}) failed"));
        }
    }
    cuts
}

macro_rules! shards {
    ($($name:ident: $seeds:expr),+ $(,)?) => {$(
        #[test]
        fn $name() {
            let cuts = cut_everywhere($seeds);
            assert!(cuts >= CUTS_MIN, "only {cuts} cuts");
        }
    )+};
}

/// Per shard: 10,000 in every run of the tests.
const CUTS_MIN: u64 = 2500;

// Apart, so that they run side by side.
shards! {
    acknowledged_batches_survive_every_cut_a: 0..12,
    acknowledged_batches_survive_every_cut_b: 12..24,
    acknowledged_batches_survive_every_cut_c: 24..36,
    acknowledged_batches_survive_every_cut_d: 36..48,
}
