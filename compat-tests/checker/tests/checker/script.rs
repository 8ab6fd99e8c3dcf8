//! Histories written by hand, in few words. The topic is `t` and the partition 0 unless a name says otherwise.

use std::collections::BTreeSet;

use braid_checker::{Anomaly, F, History, Isolation, Mode, Op, Role, Type, check};

pub(crate) const RC: Isolation = Isolation::ReadCommitted;
pub(crate) const RU: Isolation = Isolation::ReadUncommitted;

/// An operation of a process from one time to another.
pub(crate) fn op(process: u32, kind: Type, (from, to): (u64, u64), f: F) -> Op {
    let t_done = (kind != Type::Info).then_some(to);
    Op { process, op: from, client: String::new(), kind, t_invoke: from, t_done, node: None, f }
}

pub(crate) fn ok(process: u32, times: (u64, u64), f: F) -> Op {
    op(process, Type::Ok, times, f)
}

pub(crate) fn on(node: u32, op: Op) -> Op {
    Op { node: Some(node), ..op }
}

pub(crate) fn send_to(topic: &str, value: &str, offset: i64) -> F {
    F::Send {
        topic: topic.to_owned(),
        partition: 0,
        value: value.to_owned(),
        offset: Some(offset),
        txn: None,
        producer: None,
        epoch: None,
        leader_epoch: None,
        input: None,
        idempotent: true,
    }
}

pub(crate) fn send(value: &str, offset: i64) -> F {
    send_to("t", value, offset)
}

/// A send with more facts: the closure is given its transaction, producer, epoch of the leader, and input.
pub(crate) fn with(f: F, change: impl FnOnce(&mut F)) -> F {
    let mut f = f;
    change(&mut f);
    f
}

pub(crate) fn in_txn(name: &str, f: F) -> F {
    with(f, |f| match f {
        F::Send { txn, .. } | F::Poll { txn, .. } | F::CommitOffset { txn, .. } => {
            *txn = Some(name.to_owned());
        }
        _ => panic!("in no transaction"),
    })
}

pub(crate) fn made_of(name: &str, f: F) -> F {
    with(f, |f| match f {
        F::Send { input, .. } => *input = Some(name.to_owned()),
        _ => panic!("made of nothing"),
    })
}

pub(crate) fn by(name: &str, f: F) -> F {
    with(f, |f| match f {
        F::Send { producer, .. } | F::End { producer, .. } => *producer = Some(name.to_owned()),
        _ => panic!("by nobody"),
    })
}

pub(crate) fn end(txn: &str, commit: bool) -> F {
    F::End { txn: txn.to_owned(), commit, producer: None, epoch: None }
}

pub(crate) fn init(producer: &str, epoch: i16) -> F {
    F::Init { producer: producer.to_owned(), producer_id: Some(7), epoch: Some(epoch) }
}

fn owned(records: &[(i64, &str)]) -> Vec<(i64, String)> {
    records.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

pub(crate) fn poll_of(topic: &str, isolation: Isolation, records: &[(i64, &str)]) -> F {
    F::Poll {
        topic: topic.to_owned(),
        partition: 0,
        isolation,
        mode: Mode::Assign,
        generation: None,
        records: owned(records),
        txn: None,
        high_watermark: None,
        last_stable: None,
    }
}

pub(crate) fn poll(isolation: Isolation, records: &[(i64, &str)]) -> F {
    poll_of("t", isolation, records)
}

/// A poll whose answer told its marks.
pub(crate) fn marked(high: i64, stable: i64, f: F) -> F {
    with(f, |f| match f {
        F::Poll { high_watermark, last_stable, .. } => {
            (*high_watermark, *last_stable) = (Some(high), Some(stable));
        }
        _ => panic!("no marks"),
    })
}

/// A poll of a group's member.
pub(crate) fn subscribed(of: Option<i64>, f: F) -> F {
    with(f, |f| match f {
        F::Poll { mode, generation, .. } => (*mode, *generation) = (Mode::Subscribe, of),
        _ => panic!("no member"),
    })
}

pub(crate) fn drain_of(topic: &str, isolation: Isolation, end: i64, records: &[(i64, &str)]) -> F {
    F::Drain {
        topic: topic.to_owned(),
        partition: 0,
        isolation,
        from: 0,
        end,
        records: owned(records),
    }
}

pub(crate) fn drain(isolation: Isolation, end: i64, records: &[(i64, &str)]) -> F {
    drain_of("t", isolation, end, records)
}

pub(crate) fn commit(offset: i64) -> F {
    F::CommitOffset {
        group: "g".to_owned(),
        topic: "in".to_owned(),
        partition: 0,
        offset,
        txn: None,
    }
}

pub(crate) fn fetch(offset: i64) -> F {
    F::FetchOffset { group: "g".to_owned(), topic: "in".to_owned(), partition: 0, offset }
}

/// Marks of a partition in order: stable, high, durable, end.
pub(crate) fn state(role: Role, epoch: i32, marks: [i64; 4]) -> F {
    let [last_stable, high_watermark, durable, log_end] = marks;
    F::State {
        step: 1,
        topic: "t".to_owned(),
        partition: 0,
        role,
        epoch,
        last_stable,
        high_watermark,
        durable,
        log_end,
        in_sync: if role == Role::Leader { vec![1, 2] } else { Vec::new() },
    }
}

pub(crate) fn history(ops: Vec<Op>) -> History {
    History::new(ops).unwrap()
}

/// Judges a history and gives what it found, once each.
pub(crate) fn found(history: &History) -> BTreeSet<Anomaly> {
    check(history).violations.iter().map(|violation| violation.anomaly).collect()
}
