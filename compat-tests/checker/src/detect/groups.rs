//! I12, and I10 as far as group offsets go: a group's offset of a partition is a register. Each read of it must name a
//! value whose writing may have been the last one before the read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Case;
use crate::anomaly::{Anomaly, Invariant};
use crate::index::Fate;
use crate::op::{F, Type};

/// A commit that was carried out, or may have been, at some time from `from` to `to`.
#[derive(Clone, Copy, Debug)]
struct Write {
    op: usize,
    offset: i64,
    txn: Option<usize>,
    from: u64,
    to: u64,
    /// It was, and so replaced what was there before.
    certain: bool,
}

/// One group and partition.
#[derive(Debug, Default)]
struct Register {
    writes: Vec<Write>,
    /// Those of transactions that did not begin to commit.
    never: Vec<Write>,
    reads: Vec<usize>,
}

pub(super) fn check(case: &mut Case<'_>) {
    let mut registers: HashMap<(&str, &str, i32), Register> = HashMap::new();
    // The last one of a transaction counts.
    let mut of_txn: HashMap<(usize, (&str, &str, i32)), usize> = HashMap::new();
    for (at, op) in case.index.ops.iter().enumerate() {
        match &op.f {
            F::CommitOffset { group, topic, partition, offset, txn } if op.kind != Type::Fail => {
                let key = (group.as_str(), topic.as_str(), *partition);
                let register = registers.entry(key).or_default();
                let txn = txn.as_deref().and_then(|txn| case.index.find_txn(txn));
                let (from, to) = (op.t_invoke, op.ended());
                let write = Write { op: at, offset: *offset, txn, from, to, certain: op.is_ok() };
                let Some(txn) = txn else {
                    register.writes.push(write);
                    continue;
                };
                let (list, write) = match interval(case, txn) {
                    Some(Span { from, to, certain }) => {
                        (&mut register.writes, Write { from, to, certain, ..write })
                    }
                    None => (&mut register.never, write),
                };
                match of_txn.entry((txn, key)) {
                    Entry::Occupied(at) => list[*at.get()] = write,
                    Entry::Vacant(at) => {
                        at.insert(list.len());
                        list.push(write);
                    }
                }
            }
            F::FetchOffset { group, topic, partition, .. } if op.is_ok() => {
                let key = (group.as_str(), topic.as_str(), *partition);
                registers.entry(key).or_default().reads.push(at);
            }
            _ => {}
        }
    }
    let mut registers: Vec<_> = registers.into_iter().collect();
    registers.sort_unstable_by_key(|(key, _)| *key);
    for ((group, topic, partition), mut register) in registers {
        case.judge(Invariant::I12, register.reads.len());
        judge(case, &format!("{group} of {topic}-{partition}"), &mut register);
    }
}

/// When something was carried out, if it was.
struct Span {
    from: u64,
    to: u64,
    certain: bool,
}

/// When the end of a transaction wrote its group offsets.
fn interval(case: &Case<'_>, txn: usize) -> Option<Span> {
    match case.fates[txn] {
        Fate::Committed { from, to } => Some(Span { from, to, certain: true }),
        // Whoever has read a record of it has seen that it is committed.
        Fate::Maybe { from } => {
            let values = case.index.txns[txn].sends.iter().filter_map(|send| {
                let F::Send { value, .. } = &case.index.ops.at(*send).f else { return None };
                case.index.values[case.index.find_value(value)?].committed_read
            });
            let seen = values.map(|read| case.index.ops.at(read).ended()).min();
            let to = case.index.settled(txn, from).min(seen.unwrap_or(u64::MAX));
            Some(Span { from, to, certain: seen.is_some() })
        }
        Fate::Open | Fate::Aborted => None,
    }
}

fn judge(case: &mut Case<'_>, subject: &str, register: &mut Register) {
    let ops = case.index.ops;
    let mut by_offset: HashMap<i64, Vec<usize>> = HashMap::new();
    for (at, write) in register.writes.iter().enumerate() {
        by_offset.entry(write.offset).or_default().push(at);
    }
    // Who has read an offset that one commit alone can have written has seen that commit carried out.
    for read in &register.reads {
        let F::FetchOffset { offset, .. } = &ops.at(*read).f else { continue };
        if let Some([only]) = by_offset.get(offset).map(Vec::as_slice) {
            let write = &mut register.writes[*only];
            if ops.at(*read).ended() >= write.from {
                write.to = write.to.min(ops.at(*read).ended());
                write.certain = true;
                if let (Some(txn), Some(Fate::Maybe { .. })) =
                    (write.txn, write.txn.map(|txn| case.fates[txn]))
                {
                    case.shown_by_offsets[txn].get_or_insert(*read);
                }
            }
        }
    }
    // By end: the latest beginning of those that had ended.
    let certain = |at: &usize| register.writes[*at].certain;
    let mut ended: Vec<usize> = (0..register.writes.len()).filter(certain).collect();
    ended.sort_by_key(|at| register.writes[*at].to);
    let mut latest: Vec<usize> = Vec::with_capacity(ended.len());
    for at in &ended {
        let best = latest.last().copied().unwrap_or(*at);
        let newer = register.writes[*at].from >= register.writes[best].from;
        latest.push(if newer { *at } else { best });
    }
    // By beginning: the latest end of those with this offset that had begun.
    let mut begun: HashMap<i64, Vec<(u64, u64)>> = HashMap::new();
    for (offset, mut writes) in by_offset {
        writes.sort_by_key(|at| register.writes[*at].from);
        let mut latest_end = 0;
        let list = writes.iter().map(|at| {
            latest_end = latest_end.max(register.writes[*at].to);
            (register.writes[*at].from, latest_end)
        });
        begun.insert(offset, list.collect());
    }
    for read in register.reads.clone() {
        let F::FetchOffset { offset, .. } = &ops.at(read).f else { continue };
        let before = ended.partition_point(|at| register.writes[*at].to < ops.at(read).t_invoke);
        let newest = before.checked_sub(1).map(|last| register.writes[latest[last]]);
        let replaced_at = newest.map_or(0, |write| write.from);
        let alive = begun.get(offset).is_some_and(|writes| {
            let known = writes.partition_point(|(from, _)| *from <= ops.at(read).ended());
            known.checked_sub(1).is_some_and(|last| writes[last].1 >= replaced_at)
        });
        let first = *offset < 0 && newest.is_none();
        if !alive && !first {
            explain(case, subject, register, read, *offset, newest);
        }
    }
}

fn explain(
    case: &mut Case<'_>,
    subject: &str,
    register: &Register,
    read: usize,
    offset: i64,
    newest: Option<Write>,
) {
    let ends = |case: &Case<'_>, txn: Option<usize>| {
        txn.into_iter().flat_map(|txn| case.ends(txn)).collect::<Vec<_>>()
    };
    let same = |writes: &[Write]| {
        writes.iter().filter(|write| write.offset == offset).copied().collect::<Vec<_>>()
    };
    let (carried_out, never) = (same(&register.writes), same(&register.never));
    let mut evidence: Vec<usize> = vec![read];
    for write in newest.iter().chain(&carried_out).chain(&never) {
        evidence.push(write.op);
        evidence.extend(ends(case, write.txn));
    }
    let too_early = carried_out.iter().any(|write| write.from > case.index.ops.at(read).ended());
    let aborted = never
        .iter()
        .find(|write| write.txn.is_some_and(|txn| matches!(case.fates[txn], Fate::Aborted)));
    let (anomaly, told) = if let Some(write) = aborted {
        let txn = write.txn.map_or("", |txn| case.index.txn_name(txn));
        (Anomaly::TornOffsets, format!("offset {offset} is that of {txn}, which was aborted"))
    } else if too_early || !never.is_empty() {
        let told = format!("offset {offset} was read before its transaction began to commit");
        (Anomaly::PendingGroupOffset, told)
    } else if offset >= 0 && carried_out.is_empty() {
        (Anomaly::UnknownGroupOffset, format!("nobody committed offset {offset}"))
    } else {
        let newer = newest.map_or(-1, |write| write.offset);
        let shown = newest.and_then(|write| write.txn).and_then(|txn| shown_by_records(case, txn));
        if let Some((send, by)) = shown {
            evidence.extend([send, by]);
            let told = format!("offset {offset}, but the records that came with {newer} are there");
            (Anomaly::TornOffsets, told)
        } else {
            (Anomaly::StaleGroupOffset, format!("offset {offset}, which {newer} had replaced"))
        }
    };
    case.report(anomaly, subject.to_owned(), told, evidence);
}

/// A record of a transaction that a reader of committed ones was given: its send, and the read.
fn shown_by_records(case: &Case<'_>, txn: usize) -> Option<(usize, usize)> {
    case.index.txns[txn].sends.iter().find_map(|send| {
        let F::Send { value, .. } = &case.index.ops.at(*send).f else { return None };
        let value = case.index.find_value(value)?;
        Some((*send, case.index.values[value].committed_read?))
    })
}
