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

#[test]
fn four_times_the_history_costs_less_than_eight_times_as_much() {
    let (small, large) = (cost(5_000), cost(20_000));
    assert!(large < 8 * small, "{large} ns, and {small} ns for a quarter of it");
}
