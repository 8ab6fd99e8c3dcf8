//! What judging costs grows with the history, not with its square.

use std::fs::read_to_string;

use braid_checker::check;
use braid_checker::model::{Plan, history};

/// Processor time of this thread so far, in nanoseconds: other work on the machine does not count.
fn spent() -> u64 {
    let told = read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split_whitespace().next().unwrap().parse().unwrap()
}

/// The least that judging such a history took.
fn cost(inputs: usize) -> u64 {
    let history = history(Plan { seed: 3, inputs, partitions: 4, aborts: 10, deaths: 3 });
    let judged = (0..3).map(|_| {
        let before = spent();
        assert!(check(&history).is_clean());
        spent() - before
    });
    judged.min().unwrap()
}

/// A pass over pairs would take 256 times as much. Larger histories fall out of the processor's caches,
/// more so beside other work, hence the room above 16.
#[test]
fn sixteen_times_the_history_costs_far_less_than_its_square() {
    let (small, large) = (cost(1_250), cost(20_000));
    assert!(large < 128 * small, "{large} ns, and {small} ns for a sixteenth of it");
}
