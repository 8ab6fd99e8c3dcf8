//! What judging costs grows with the history, not with its square.

use braid_checker::model::{Plan, history};
use braid_checker::{check, looks};

fn cost(inputs: usize) -> u64 {
    let history = history(Plan { seed: 3, inputs, partitions: 4, aborts: 10, deaths: 3 });
    assert!(check(&history).is_clean());
    looks(&history)
}

/// A pass over pairs would look 256 times as often, and a small share of such passes is seen. Sorting looks a little
/// more than 16 times as often.
#[test]
fn sixteen_times_the_history_is_looked_at_sixteen_times_as_often() {
    let (small, large) = (cost(1_250), cost(20_000));
    assert!(small > 10 * 1_250, "{small} looks are too few to be all");
    assert!(large < 17 * small, "{large} looks, and {small} for a sixteenth of it");
}
