//! For each anomaly a history of as few lines as it takes, which fires that detector and no other; without any one of its
//! lines it fires nothing of the kind, and hidden in a large history it is found and shown as small as it was.

use braid_checker::model::{self, Plan};
use braid_checker::{Anomaly, F, History, Op, Role, Type, check};

use crate::script::*;

#[expect(clippy::too_many_lines, reason = "a table: one row for each anomaly")]
fn minimal(anomaly: Anomaly) -> Vec<Op> {
    match anomaly {
        Anomaly::LostWrite => vec![ok(1, (1, 2), send("a", 0)), ok(9, (90, 91), drain(RU, 0, &[]))],
        Anomaly::InconsistentOffset => vec![
            op(1, Type::Info, (1, 2), send("a", -1)),
            op(2, Type::Info, (1, 2), send("b", -1)),
            ok(3, (5, 6), poll(RU, &[(0, "a")])),
            ok(4, (5, 6), poll(RU, &[(0, "b")])),
        ],
        Anomaly::PhantomValue => vec![ok(3, (5, 6), poll(RU, &[(0, "a")]))],
        Anomaly::WrongAck => {
            vec![ok(1, (1, 2), send("a", 0)), ok(3, (5, 6), poll(RU, &[(57, "a")]))]
        }
        Anomaly::BackdatedAck => {
            vec![ok(1, (1, 2), send("a", 5)), ok(2, (3, 4), send("b", 4))]
        }
        Anomaly::Duplicate => vec![
            op(1, Type::Info, (1, 2), send("a", -1)),
            ok(3, (5, 6), poll(RU, &[(0, "a"), (1, "a")])),
        ],
        Anomaly::NonmonotonicSend => {
            vec![ok(1, (1, 9), send("a", 5)), ok(1, (2, 9), send("b", 4))]
        }
        Anomaly::NonmonotonicPoll => vec![
            op(1, Type::Info, (1, 2), send("a", -1)),
            ok(3, (5, 6), poll(RU, &[(0, "a")])),
            ok(3, (7, 8), poll(RU, &[(0, "a")])),
        ],
        Anomaly::PollSkip => vec![
            op(1, Type::Info, (1, 2), send("a", -1)),
            op(1, Type::Info, (2, 3), send("b", -1)),
            op(1, Type::Info, (3, 4), send("c", -1)),
            ok(3, (5, 6), poll(RC, &[(0, "a")])),
            ok(3, (7, 8), poll(RC, &[(2, "c")])),
            ok(4, (5, 6), poll(RC, &[(1, "b")])),
        ],
        Anomaly::MissingReplica => vec![
            on(1, ok(0, (1, 1), state(Role::Leader, 3, [5, 5, 9, 9]))),
            on(2, ok(0, (2, 2), state(Role::Follower, 3, [4, 4, 4, 9]))),
        ],
        Anomaly::TwoLeaders => vec![
            on(1, ok(0, (1, 1), state(Role::Leader, 3, [5, 5, 5, 5]))),
            on(
                2,
                ok(
                    1,
                    (2, 3),
                    with(send("a", 0), |f| {
                        let F::Send { leader_epoch, .. } = f else { return };
                        *leader_epoch = Some(3);
                    }),
                ),
            ),
        ],
        Anomaly::EpochRegression => vec![
            on(2, ok(0, (1, 1), state(Role::Follower, 3, [5, 5, 5, 5]))),
            on(2, ok(0, (2, 2), state(Role::Follower, 2, [5, 5, 5, 5]))),
        ],
        Anomaly::WatermarkRegression => vec![
            ok(3, (1, 2), marked(7, 7, poll(RC, &[]))),
            ok(3, (3, 4), marked(6, 6, poll(RC, &[]))),
        ],
        Anomaly::MarkOrder => vec![on(2, ok(0, (1, 1), state(Role::Follower, 3, [5, 6, 5, 7])))],
        Anomaly::AboveHighWatermark => vec![
            op(1, Type::Info, (1, 2), send("a", -1)),
            ok(3, (5, 6), marked(7, 7, poll(RU, &[(7, "a")]))),
        ],
        Anomaly::AboveLastStable => vec![
            op(1, Type::Info, (1, 2), send("a", -1)),
            ok(3, (5, 6), marked(9, 7, poll(RC, &[(7, "a")]))),
        ],
        Anomaly::AbortedRead => vec![
            ok(1, (1, 2), in_txn("x", send("a", 0))),
            ok(1, (3, 4), end("x", false)),
            ok(3, (5, 6), poll(RC, &[(0, "a")])),
        ],
        Anomaly::TornTransaction => vec![
            ok(1, (1, 2), in_txn("x", send("a", 0))),
            ok(1, (2, 3), in_txn("x", send_to("u", "b", 0))),
            ok(1, (3, 4), end("x", true)),
            ok(9, (90, 91), drain(RC, 2, &[(0, "a")])),
            ok(9, (91, 92), drain_of("u", RC, 2, &[])),
        ],
        Anomaly::TornOffsets => vec![
            ok(1, (1, 2), in_txn("x", send("a", 0))),
            ok(1, (2, 3), in_txn("x", commit(5))),
            op(1, Type::Info, (3, 4), end("x", true)),
            ok(3, (5, 6), poll(RC, &[(0, "a")])),
            ok(9, (90, 91), fetch(-1)),
        ],
        Anomaly::PrecommittedRead => {
            vec![ok(1, (1, 2), in_txn("x", send("a", 0))), ok(3, (3, 4), poll(RC, &[(0, "a")]))]
        }
        Anomaly::CircularRead => vec![
            ok(1, (1, 8), in_txn("x", send("a", 0))),
            ok(2, (1, 8), in_txn("y", send_to("u", "b", 0))),
            ok(1, (3, 8), in_txn("x", poll_of("u", RC, &[(0, "b")]))),
            ok(2, (3, 8), in_txn("y", poll(RC, &[(0, "a")]))),
            ok(1, (4, 8), end("x", true)),
            ok(2, (4, 8), end("y", true)),
        ],
        Anomaly::StaleGroupOffset => {
            vec![ok(1, (1, 2), commit(5)), ok(1, (3, 4), commit(6)), ok(2, (5, 6), fetch(5))]
        }
        Anomaly::PendingGroupOffset => {
            vec![ok(1, (1, 2), in_txn("x", commit(5))), ok(2, (3, 4), fetch(5))]
        }
        Anomaly::UnknownGroupOffset => vec![ok(2, (3, 4), fetch(5))],
        Anomaly::MissingCopy => vec![
            ok(1, (1, 2), send_to("in", "a", 0)),
            ok(0, (80, 81), F::Copy { topic: "in".to_owned(), output: "t".to_owned() }),
            ok(9, (90, 91), drain_of("in", RC, 1, &[(0, "a")])),
        ],
        Anomaly::RepeatedCopy => vec![
            ok(1, (1, 2), send_to("in", "a", 0)),
            ok(2, (3, 4), made_of("a", send("b", 0))),
            ok(3, (5, 6), made_of("a", send("c", 1))),
            ok(0, (80, 81), F::Copy { topic: "in".to_owned(), output: "t".to_owned() }),
            ok(9, (90, 91), drain_of("in", RC, 1, &[(0, "a")])),
            ok(9, (91, 92), drain(RC, 2, &[(0, "b"), (1, "c")])),
        ],
        Anomaly::ZombieWrite => vec![
            ok(1, (1, 2), init("p", 0)),
            ok(2, (3, 4), init("p", 1)),
            ok(1, (5, 6), by("p", send("a", 0))),
        ],
        Anomaly::StuckTransaction => {
            vec![ok(9, (90, 91), drain(RC, 3, &[])), ok(9, (91, 92), drain(RU, 4, &[]))]
        }
    }
}

#[test]
fn each_fires_its_own_detector_and_no_other() {
    for anomaly in Anomaly::ALL {
        let history = history(minimal(*anomaly));
        let verdict = check(&history);
        assert_eq!(verdict.violations.len(), 1, "{anomaly}: {}", verdict.explain(&history));
        assert_eq!(verdict.violations[0].anomaly, *anomaly, "{}", verdict.explain(&history));
    }
}

/// Without any one line, what is left does not show it, or does not show it alone: no detector fires at half a case.
#[test]
fn each_needs_every_line() {
    for anomaly in Anomaly::ALL {
        let whole = minimal(*anomaly);
        for left_out in 0..whole.len() {
            let mut part = whole.clone();
            part.remove(left_out);
            let fired = found(&history(part));
            assert!(!fired.iter().eq([anomaly]), "{anomaly} fires without line {left_out}");
        }
    }
}

/// Other ways to the same anomalies.
#[test]
fn there_is_more_than_one_way() {
    let before_its_commit = |read: F| {
        vec![
            ok(1, (1, 2), in_txn("x", send("a", 0))),
            ok(1, (2, 3), in_txn("x", commit(5))),
            ok(3, (4, 5), read),
            ok(1, (6, 7), end("x", true)),
        ]
    };
    let refused =
        || vec![op(1, Type::Fail, (1, 2), send("a", -1)), ok(3, (3, 4), poll(RC, &[(0, "a")]))];
    let aborted_offset = || {
        vec![
            ok(1, (1, 2), in_txn("x", commit(5))),
            ok(1, (3, 4), end("x", false)),
            ok(2, (5, 6), fetch(5)),
        ]
    };
    let offset_without_records = || {
        vec![
            ok(1, (1, 2), in_txn("x", send("a", 0))),
            ok(1, (3, 4), in_txn("x", commit(5))),
            op(1, Type::Info, (5, 6), end("x", true)),
            ok(2, (7, 8), fetch(5)),
            ok(9, (90, 91), drain(RC, 2, &[])),
        ]
    };
    // Its successor was told that it is the one: what was under way has ended by then.
    let settled = || {
        vec![
            ok(1, (1, 2), commit(4)),
            ok(1, (3, 4), in_txn("x", commit(5))),
            op(1, Type::Info, (5, 6), by("p", end("x", true))),
            ok(2, (7, 8), init("p", 1)),
            ok(2, (9, 10), commit(6)),
            ok(2, (11, 12), fetch(5)),
        ]
    };
    let acked_twice = || vec![ok(1, (1, 9), send("a", 3)), ok(2, (2, 9), send("b", 3))];
    let lost_after_it_was_read = || {
        vec![
            op(1, Type::Info, (1, 2), send("a", -1)),
            ok(3, (5, 6), poll(RC, &[(0, "a")])),
            ok(9, (90, 91), drain(RC, 1, &[])),
        ]
    };
    let by_epoch = || {
        let late = with(by("p", send("a", 0)), |f| {
            let F::Send { epoch, .. } = f else { return };
            *epoch = Some(0);
        });
        vec![ok(2, (3, 4), init("p", 1)), ok(1, (5, 6), late)]
    };
    let by_time = || {
        let nameless = |f: F| {
            with(f, |f| {
                let F::Init { producer_id, epoch, .. } = f else { return };
                (*producer_id, *epoch) = (None, None);
            })
        };
        vec![
            ok(1, (1, 2), nameless(init("p", 0))),
            ok(2, (3, 4), nameless(init("p", 0))),
            ok(1, (5, 6), by("p", send("a", 0))),
        ]
    };
    for (anomaly, ops) in [
        (Anomaly::PrecommittedRead, before_its_commit(poll(RC, &[(0, "a")]))),
        (Anomaly::PendingGroupOffset, before_its_commit(fetch(5))),
        (Anomaly::AbortedRead, refused()),
        (Anomaly::TornOffsets, aborted_offset()),
        (Anomaly::TornOffsets, offset_without_records()),
        (Anomaly::StaleGroupOffset, settled()),
        (Anomaly::InconsistentOffset, acked_twice()),
        (Anomaly::LostWrite, lost_after_it_was_read()),
        (Anomaly::ZombieWrite, by_epoch()),
        (Anomaly::ZombieWrite, by_time()),
    ] {
        let history = history(ops);
        let verdict = check(&history);
        assert_eq!(
            found(&history).into_iter().collect::<Vec<_>>(),
            [anomaly],
            "{}",
            verdict.explain(&history)
        );
    }
}

/// Renames what a minimal history speaks of, so that it has nothing in common with the one that it is put into.
fn apart(ops: Vec<Op>, from: u64) -> Vec<Op> {
    let rename = |text: String| {
        let text = text.replace("\"t\"", "\"other\"").replace("\"in\"", "\"source\"");
        text.replace("\"output\":\"out\"", "\"output\":\"other\"")
    };
    let moved = ops.into_iter().map(|op| {
        let late = if op.t_invoke >= 80 { u64::MAX / 4 } else { 0 };
        Op {
            process: 1000 + op.process,
            t_invoke: op.t_invoke + from + late,
            t_done: op.t_done.map(|done| done + from + late),
            ..op
        }
    });
    moved
        .map(|op| serde_json::from_str(&rename(serde_json::to_string(&op).unwrap())).unwrap())
        .collect()
}

#[test]
fn each_is_found_in_a_large_history_and_shown_small() {
    let plan = Plan { seed: 11, inputs: 300, partitions: 3, aborts: 10, deaths: 5 };
    let clean = model::history(plan).into_ops();
    for anomaly in Anomaly::ALL {
        let small = minimal(*anomaly);
        let lines = small.len();
        let hidden = history(clean.iter().cloned().chain(apart(small, 5000)).collect());
        let verdict = check(&hidden);
        let shown = verdict.shown(&hidden);
        assert_eq!(shown.len(), 1, "{anomaly}: {}", verdict.explain(&hidden));
        assert_eq!(shown[0].violation.anomaly, *anomaly);
        assert!(shown[0].part.ops().len() <= lines, "{anomaly} takes {lines} lines: {}", shown[0]);
        let again = check(&shown[0].part);
        assert!(again.violations.iter().any(|v| v.anomaly == *anomaly), "{}", shown[0]);
    }
}

/// What a large read shows beside the point is left out of what is shown.
#[test]
fn records_beside_the_point_are_left_out() {
    let sends = (0..100).map(|i| ok(1, (i, i), send(&format!("v{i}"), i64::try_from(i).unwrap())));
    let names: Vec<String> = (0..100).map(|i| format!("v{i}")).collect();
    let read: Vec<(i64, &str)> =
        names.iter().enumerate().map(|(i, v)| (i64::try_from(i).unwrap(), v.as_str())).collect();
    let mut wrong = read.clone();
    wrong[40].1 = "v41";
    wrong.remove(41);
    let ops =
        sends.chain([ok(2, (200, 201), poll(RU, &read)), ok(3, (200, 201), poll(RU, &wrong))]);
    let history = history(ops.collect());
    let verdict = check(&history);
    let shown = verdict.shown(&history);
    let records: usize = shown[0]
        .part
        .ops()
        .iter()
        .map(|op| if let F::Poll { records, .. } = &op.f { records.len() } else { 0 })
        .sum();
    assert!(shown[0].part.ops().len() <= 4 && records <= 2, "{}", shown[0]);
}

#[test]
fn a_verdict_tells_what_it_was_held_against_in_both_forms() {
    let history = history(minimal(Anomaly::LostWrite));
    let verdict = check(&history);
    let lines = verdict.json(&history);
    assert_eq!(lines[0]["clean"], false);
    assert_eq!(lines[0]["judged"]["I1"], 1);
    assert_eq!(lines[1]["anomaly"], "lost-write");
    let part = lines[1]["history"].as_array().unwrap().iter();
    let part = History::new(part.map(|op| serde_json::from_value(op.clone()).unwrap())).unwrap();
    assert_eq!(found(&part).into_iter().collect::<Vec<_>>(), [Anomaly::LostWrite]);
    let told = verdict.explain(&history);
    assert!(told.contains("lost-write (I1): a: a was acknowledged at 0 of t-0"), "{told}");
}
