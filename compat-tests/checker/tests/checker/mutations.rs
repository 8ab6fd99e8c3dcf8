//! Good histories, broken: nothing is found before, and something of the right kind is found after, every time.

use std::collections::BTreeSet;

use braid_checker::model::{Plan, history};
use braid_checker::{Anomaly, F, History, Isolation, Op, Type, check};

use crate::script::found;

const SEEDS: u64 = 20;

fn plan(seed: u64) -> Plan {
    Plan { seed, inputs: 400, partitions: 2, aborts: 15, deaths: 8 }
}

fn good(seed: u64) -> Vec<Op> {
    history(plan(seed)).into_ops()
}

/// Breaks each good history at the place that a seed picks out of `places`, and asks what the checker says.
fn all_detected(
    what: &str,
    expected: &[Anomaly],
    places: impl Fn(&[Op]) -> Vec<usize>,
    break_at: impl Fn(&mut Vec<Op>, usize),
) {
    let mut tried = 0;
    for seed in 0..SEEDS {
        let ops = good(seed);
        let places = places(&ops);
        let wanted = 10.min(places.len());
        for turn in 0..wanted {
            let place = places[(turn * places.len()) / wanted];
            let mut broken = ops.clone();
            break_at(&mut broken, place);
            let fired = found(&History::new(broken).unwrap());
            let right: BTreeSet<Anomaly> = expected.iter().copied().collect();
            assert!(
                fired.iter().any(|anomaly| right.contains(anomaly)),
                "{what}, seed {seed}, operation {place}: found {fired:?}"
            );
            tried += 1;
        }
    }
    assert!(tried >= 100, "{what}: only {tried} places");
}

fn where_is(ops: &[Op], fits: impl Fn(&Op) -> bool) -> Vec<usize> {
    ops.iter().enumerate().filter(|(_, op)| fits(op)).map(|(at, _)| at).collect()
}

fn records(op: &mut Op) -> &mut Vec<(i64, String)> {
    match &mut op.f {
        F::Poll { records, .. } | F::Drain { records, .. } => records,
        _ => panic!("no records"),
    }
}

fn is_drain(op: &Op, least: usize) -> bool {
    matches!(&op.f, F::Drain { records, .. } if records.len() >= least)
}

fn is_long_poll(op: &Op) -> bool {
    matches!(&op.f, F::Poll { records, .. } if records.len() >= 3)
}

fn is_copy(op: &Op) -> bool {
    matches!(&op.f, F::Send { txn: Some(_), .. })
}

#[test]
fn good_histories_are_clean() {
    for seed in 0..50 {
        let history = history(plan(seed));
        let verdict = check(&history);
        assert!(verdict.is_clean(), "seed {seed}: {}", verdict.explain(&history));
        // A verdict on nothing would be clean as well.
        assert_eq!(verdict.judged.len(), 15, "seed {seed} tries only {:?}", verdict.judged);
    }
}

#[test]
fn a_dropped_record_is_missed() {
    let expected = [Anomaly::LostWrite, Anomaly::TornTransaction];
    all_detected(
        "drop from a drain",
        &expected,
        |ops| where_is(ops, |op| is_drain(op, 2)),
        |ops, at| {
            // One that was acknowledged: of the others nobody can know.
            let acked: BTreeSet<String> = ops
                .iter()
                .filter(|op| op.kind == Type::Ok)
                .filter_map(|op| {
                    if let F::Send { value, .. } = &op.f { Some(value.clone()) } else { None }
                })
                .collect();
            let records = records(&mut ops[at]);
            let middle = records.len() / 2;
            let known = (0..records.len())
                .find(|i| acked.contains(&records[(middle + i) % records.len()].1));
            let known = (middle + known.unwrap()) % records.len();
            records.remove(known);
        },
    );
    let expected = [Anomaly::PollSkip];
    all_detected(
        "drop from a poll",
        &expected,
        |ops| where_is(ops, is_long_poll),
        |ops, at| {
            let records = records(&mut ops[at]);
            records.remove(records.len() / 2);
        },
    );
}

#[test]
fn swapped_values_and_offsets_are_seen() {
    let expected = [Anomaly::InconsistentOffset, Anomaly::WrongAck, Anomaly::Duplicate];
    all_detected(
        "swap in a drain",
        &expected,
        |ops| where_is(ops, |op| is_drain(op, 2)),
        |ops, at| {
            let records = records(&mut ops[at]);
            let (one, two) = (records[0].1.clone(), records[1].1.clone());
            (records[0].1, records[1].1) = (two, one);
        },
    );
    let expected = [Anomaly::NonmonotonicPoll];
    all_detected(
        "swap order in a poll",
        &expected,
        |ops| where_is(ops, is_long_poll),
        |ops, at| {
            records(&mut ops[at]).swap(0, 1);
        },
    );
    let expected = [Anomaly::WrongAck, Anomaly::InconsistentOffset];
    all_detected(
        "swap two acknowledgements",
        &expected,
        |ops| where_is(ops, is_copy),
        |ops, at| {
            let place = |op: &Op| match &op.f {
                F::Send { topic, partition, offset: Some(_), .. } => {
                    Some((topic.clone(), *partition))
                }
                _ => None,
            };
            let offset = |op: &Op| if let F::Send { offset, .. } = &op.f { *offset } else { None };
            let other =
                (0..ops.len()).find(|other| *other != at && place(&ops[*other]) == place(&ops[at]));
            let other = other.unwrap();
            let (one, two) = (offset(&ops[at]), offset(&ops[other]));
            for (op, new) in [(at, two), (other, one)] {
                if let F::Send { offset, .. } = &mut ops[op].f {
                    *offset = new;
                }
            }
        },
    );
}

#[test]
fn what_comes_twice_is_counted() {
    let expected = [Anomaly::Duplicate];
    all_detected(
        "a record twice",
        &expected,
        |ops| where_is(ops, |op| is_drain(op, 1)),
        |ops, at| {
            let records = records(&mut ops[at]);
            let (last, _) = records[records.len() - 1];
            let again = records[0].1.clone();
            records.push((last + 1, again));
        },
    );
    let expected = [Anomaly::RepeatedCopy];
    // The copy is written a second time, with a value of its own.
    all_detected(
        "a copy twice",
        &expected,
        |ops| where_is(ops, is_copy),
        |ops, at| {
            let input = match &ops[at].f {
                F::Send { input, .. } => input.clone(),
                _ => None,
            };
            // Read in the end, in a place that is free, and acknowledged there.
            let drains = where_is(
                ops,
                |op| matches!(&op.f, F::Drain { topic, isolation: Isolation::ReadCommitted, .. } if topic == "out"),
            );
            let mut send = Op { process: 900, op: 1, ..ops[at].clone() };
            let F::Drain { partition: to, end: free, .. } = ops[drains[0]].f.clone() else {
                return;
            };
            if let F::Send {
                partition, value, offset, txn, producer, epoch, input: made_of, ..
            } = &mut send.f
            {
                (*partition, *offset, *value) = (to, Some(free), "again".to_owned());
                (*txn, *producer, *epoch, *made_of) = (None, None, None, input.clone());
            }
            records(&mut ops[drains[0]]).push((free, "again".to_owned()));
            // Its input was copied for good: an aborted copy is none.
            send.kind = Type::Info;
            ops.push(send);
            let mut end = ops.iter().filter_map(|op| match &op.f {
                F::Drain { topic, records, isolation: Isolation::ReadCommitted, .. }
                    if topic == "in" =>
                {
                    Some(records.iter().any(|(_, value)| Some(value) == input.as_ref()))
                }
                _ => None,
            });
            assert!(end.any(|there| there));
        },
    );
}

#[test]
fn shifted_offsets_are_seen() {
    let expected = [Anomaly::WrongAck, Anomaly::InconsistentOffset, Anomaly::Duplicate];
    all_detected(
        "shift an acknowledgement",
        &expected,
        |ops| where_is(ops, is_copy),
        |ops, at| {
            if let F::Send { offset: Some(offset), .. } = &mut ops[at].f {
                *offset += 1;
            }
        },
    );
    all_detected(
        "shift a drain",
        &expected,
        |ops| where_is(ops, |op| is_drain(op, 2)),
        |ops, at| {
            records(&mut ops[at]).iter_mut().for_each(|record| record.0 += 1);
        },
    );
    let expected = [Anomaly::StaleGroupOffset, Anomaly::UnknownGroupOffset, Anomaly::TornOffsets];
    let last = |ops: &[Op]| {
        where_is(ops, |op| matches!(op.f, F::FetchOffset { offset, .. } if offset > 0))
    };
    all_detected("shift a group's offset", &expected, last, |ops, at| {
        if let F::FetchOffset { offset, .. } = &mut ops[at].f {
            *offset -= 1;
        }
    });
}

#[test]
fn what_changes_its_transaction_is_seen() {
    let ends = |commits: bool| {
        move |ops: &[Op]| {
            where_is(ops, |op| {
                op.kind == Type::Ok && matches!(&op.f, F::End { commit, .. } if *commit == commits)
            })
        }
    };
    let expected = [Anomaly::AbortedRead];
    all_detected("a commit told as abort", &expected, ends(true), |ops, at| {
        if let F::End { commit, .. } = &mut ops[at].f {
            *commit = false;
        }
    });
    let expected = [Anomaly::LostWrite];
    all_detected("an abort told as commit", &expected, ends(false), |ops, at| {
        if let F::End { commit, .. } = &mut ops[at].f {
            *commit = true;
        }
    });
    // One record of a committed transaction stands in an aborted one.
    let expected = [Anomaly::AbortedRead];
    let committed = |ops: &[Op]| {
        let commits: BTreeSet<String> = ops
            .iter()
            .filter_map(|op| match &op.f {
                F::End { txn, commit: true, .. } if op.kind == Type::Ok => Some(txn.clone()),
                _ => None,
            })
            .collect();
        where_is(ops, |op| matches!(&op.f, F::Send { txn: Some(txn), .. } if commits.contains(txn)))
    };
    all_detected("a record of another transaction", &expected, committed, |ops, at| {
        let aborted = ops.iter().find_map(|op| match &op.f {
            F::End { txn, commit: false, .. } => Some(txn.clone()),
            _ => None,
        });
        if let F::Send { txn, .. } = &mut ops[at].f {
            *txn = Some(aborted.unwrap_or_else(|| "of nobody".to_owned()));
        }
        // Without an aborted one it stands in one that nobody ends.
        let none = !ops.iter().any(|op| matches!(op.f, F::End { commit: false, .. }));
        if none {
            ops.push(crate::script::ok(901, (1, 2), crate::script::end("of nobody", false)));
        }
    });
}

#[test]
fn a_fenced_producer_that_goes_on_is_seen() {
    let expected = [Anomaly::ZombieWrite];
    let after = |ops: &[Op]| {
        // Copies of an incarnation that is not the first of its producer.
        where_is(
            ops,
            |op| matches!(&op.f, F::Send { producer: Some(_), epoch: Some(epoch), .. } if *epoch > 0),
        )
    };
    all_detected("a send of an older incarnation", &expected, after, |ops, at| {
        let F::Send { producer: Some(of), .. } = ops[at].f.clone() else { return };
        let first = ops.iter().find_map(|op| match &op.f {
            F::Init { producer, epoch: Some(0), .. } if *producer == of => Some(op.process),
            _ => None,
        });
        let zombie = first.unwrap();
        ops[at].process = zombie;
        ops[at].op += 1_000_000;
        if let F::Send { epoch, .. } = &mut ops[at].f {
            *epoch = Some(0);
        }
    });
}

#[test]
fn marks_that_lie_are_seen() {
    let expected = [Anomaly::AboveHighWatermark];
    all_detected(
        "a lower high watermark",
        &expected,
        |ops| where_is(ops, is_long_poll),
        |ops, at| {
            if let F::Poll { records, high_watermark, .. } = &mut ops[at].f {
                *high_watermark = records.last().map(|(offset, _)| *offset);
            }
        },
    );
    let expected = [Anomaly::MissingReplica];
    let member = |ops: &[Op]| {
        where_is(ops, |op| {
            op.node == Some(2)
                && matches!(op.f, F::State { high_watermark, .. } if high_watermark > 0)
        })
    };
    all_detected("a follower that lags", &expected, member, |ops, at| {
        if let F::State { last_stable, high_watermark, durable, .. } = &mut ops[at].f {
            *durable -= 1;
            *high_watermark = (*high_watermark).min(*durable);
            *last_stable = (*last_stable).min(*durable);
        }
    });
    let expected = [Anomaly::StuckTransaction];
    let drains = |ops: &[Op]| {
        where_is(ops, |op| matches!(op.f, F::Drain { isolation: Isolation::ReadCommitted, .. }))
    };
    // 4 places for each seed.
    let mut tried = 0;
    for seed in 0..SEEDS {
        for at in drains(&good(seed)) {
            let mut ops = good(seed);
            if let F::Drain { end, .. } = &mut ops[at].f {
                *end -= 1;
            }
            assert!(found(&History::new(ops).unwrap()).contains(&expected[0]));
            tried += 1;
        }
    }
    assert_eq!(tried, 4 * SEEDS);
}
