//! What looks wrong and is not: each of these would be an anomaly if Kafka promised more than it does.

use braid_checker::{Op, Type, check};

use crate::script::*;

fn is_legal(what: &str, ops: Vec<Op>) {
    let history = history(ops);
    let verdict = check(&history);
    assert!(verdict.is_clean(), "{what}: {}", verdict.explain(&history));
}

/// Two committed transactions whose writes lie in opposite order in two partitions.
fn mixed() -> Vec<Op> {
    vec![
        ok(1, (1, 2), in_txn("x", send("xa", 0))),
        ok(2, (3, 4), in_txn("y", send("ya", 1))),
        ok(2, (5, 6), in_txn("y", send_to("u", "yb", 0))),
        ok(1, (7, 8), in_txn("x", send_to("u", "xb", 1))),
        ok(1, (9, 10), end("x", true)),
        ok(2, (9, 10), end("y", true)),
    ]
}

#[test]
fn writes_of_two_transactions_may_mix() {
    is_legal("G0", mixed());
}

/// x is before y by the order of their writes, y before z by a read, z before x by order again.
#[test]
fn a_circle_that_needs_the_order_of_writes_is_none() {
    let mut ops = mixed();
    ops.push(ok(3, (12, 13), in_txn("z", poll(RC, &[(0, "xa"), (1, "ya")]))));
    ops.push(ok(3, (14, 15), in_txn("z", send("za", 4))));
    ops.push(ok(3, (16, 17), end("z", true)));
    is_legal("G1c with ww edges", ops);
}

#[test]
fn two_transactions_may_miss_each_others_writes() {
    let ops = vec![
        ok(1, (1, 2), in_txn("x", poll(RC, &[]))),
        ok(2, (1, 2), in_txn("y", poll_of("u", RC, &[]))),
        ok(1, (3, 4), in_txn("x", send_to("u", "a", 0))),
        ok(2, (3, 4), in_txn("y", send("b", 0))),
        ok(1, (5, 6), end("x", true)),
        ok(2, (5, 6), end("y", true)),
    ];
    is_legal("write skew", ops);
}

#[test]
fn others_may_write_between_the_sends_of_a_producer() {
    let ops =
        vec![ok(1, (1, 9), send("a", 0)), ok(2, (1, 9), send("b", 1)), ok(1, (2, 9), send("c", 2))];
    is_legal("skip between sends", ops);
}

#[test]
fn a_member_goes_elsewhere_when_its_partitions_are_given_out_anew() {
    let sends = ["a", "b", "c"].iter().enumerate();
    let mut ops: Vec<Op> =
        sends.map(|(i, v)| ok(1, (i as u64, 3), send(v, i64::try_from(i).unwrap()))).collect();
    let all = [(0, "a"), (1, "b"), (2, "c")];
    ops.push(ok(2, (10, 11), poll(RC, &all)));
    for generation in [(Some(1), Some(2)), (None, None)] {
        let mut jumps = ops.clone();
        jumps.push(ok(3, (12, 13), subscribed(generation.0, poll(RC, &all[..1]))));
        jumps.push(ok(3, (14, 15), subscribed(generation.1, poll(RC, &all[2..]))));
        jumps.push(ok(3, (16, 17), subscribed(generation.0, poll(RC, &all[..1]))));
        is_legal("subscribe", jumps.clone());
        // The same within one assignment is not.
        if generation.0.is_some() {
            jumps[5] = ok(3, (14, 15), subscribed(generation.0, poll(RC, &all[2..])));
            assert!(!check(&history(jumps)).is_clean());
        }
    }
}

#[test]
fn what_nobody_knows_the_end_of_may_be_there_or_not() {
    for records in [&[][..], &[(0, "a")][..]] {
        let ops =
            vec![op(1, Type::Info, (1, 2), send("a", -1)), ok(9, (90, 91), drain(RU, 1, records))];
        is_legal("a send of unknown end", ops);
        let ops = vec![
            ok(1, (1, 2), in_txn("x", send("a", 0))),
            ok(1, (2, 3), in_txn("x", commit(5))),
            op(1, Type::Info, (3, 4), end("x", true)),
            ok(9, (90, 91), drain(RC, 2, records)),
            ok(9, (91, 92), fetch(if records.is_empty() { -1 } else { 5 })),
        ];
        is_legal("a commit of unknown end", ops);
    }
}

#[test]
fn an_aborted_record_is_seen_by_who_asks_for_all() {
    let ops = vec![
        ok(1, (1, 2), in_txn("x", send("a", 0))),
        ok(2, (1, 2), send("b", 1)),
        ok(3, (3, 4), poll(RU, &[(0, "a"), (1, "b")])),
        ok(1, (5, 6), end("x", false)),
        ok(4, (7, 8), poll(RC, &[(1, "b")])),
        ok(9, (90, 91), drain(RC, 3, &[(1, "b")])),
        ok(9, (91, 92), drain_of("u", RC, 0, &[])),
    ];
    is_legal("dirty reads of who asks for them", ops);
}

#[test]
fn retries_of_a_producer_that_is_not_idempotent_are_new_records() {
    let plain = with(send("a", 1), |f| {
        let braid_checker::F::Send { idempotent, .. } = f else { return };
        *idempotent = false;
    });
    let ops = vec![ok(1, (1, 2), plain), ok(9, (90, 91), drain(RU, 2, &[(0, "a"), (1, "a")]))];
    is_legal("at least once", ops);
}

#[test]
fn a_group_may_go_back_if_it_says_so() {
    let ops = vec![
        ok(1, (1, 2), commit(5)),
        ok(1, (3, 4), commit(3)),
        ok(2, (5, 6), fetch(3)),
        // Two commits at once: either may be the last, until one is seen.
        ok(1, (10, 20), commit(8)),
        ok(3, (10, 20), commit(9)),
        ok(2, (12, 13), fetch(8)),
        ok(2, (30, 31), fetch(9)),
    ];
    is_legal("a lower commit, and concurrent ones", ops);
}

#[test]
fn what_ran_together_with_a_newer_incarnation_may_have_been_first() {
    let ops = vec![
        ok(1, (1, 2), init("p", 0)),
        ok(2, (3, 10), init("p", 1)),
        ok(1, (5, 12), by("p", send("a", 0))),
    ];
    is_legal("a send during an initialisation", ops);
}

#[test]
fn what_retention_removed_is_not_lost() {
    let later = with(drain(RU, 2, &[(1, "b")]), |f| {
        let braid_checker::F::Drain { from, .. } = f else { return };
        *from = 1;
    });
    let ops =
        vec![ok(1, (1, 2), send("a", 0)), ok(1, (3, 4), send("b", 1)), ok(9, (90, 91), later)];
    is_legal("a log that begins later", ops);
}
