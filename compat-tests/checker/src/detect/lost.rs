//! I1: what was acknowledged, or seen by a reader, is there in the end.

use super::Case;
use crate::anomaly::{Anomaly, Invariant};
use crate::index::{Fate, Value};

const COMMITTED: usize = 0;
const ALL: usize = 1;

pub(super) fn check(case: &mut Case<'_>) {
    let mut facts = 0;
    for id in 0..case.index.values.len() {
        if case.blamed.contains(&id) {
            continue;
        }
        let value = &case.index.values[id];
        let offset = case.index.ack(id).or(value.seen.first().map(|seen| seen.offset));
        let has_to_be = [COMMITTED, ALL].map(|side| {
            let drained = case.index.drained[value.place][side];
            let since = since(case, id, value)[side];
            since.is_some_and(|since| drained.begun.is_some_and(|begun| since <= begun))
                && offset.is_none_or(|offset| offset >= drained.from)
        });
        facts += usize::from(has_to_be[COMMITTED] || has_to_be[ALL]);
        let missing =
            [COMMITTED, ALL].into_iter().find(|side| has_to_be[*side] && !value.drained[*side]);
        let Some(side) = missing else { continue };
        let drain = case.index.drained[value.place][side].op;
        let name = case.index.value_name(id);
        let place = case.index.place_name(value.place);
        let seen = value.committed_read.into_iter().chain(value.seen.first().map(|seen| seen.op));
        let evidence = case.told_of(id).into_iter().chain(seen).chain([drain]).collect::<Vec<_>>();
        let at = offset.map(|offset| format!(" at {offset}")).unwrap_or_default();
        let how =
            if case.index.send(id).is_some_and(crate::Op::is_ok) { "acknowledged" } else { "read" };
        let told = format!("{name} was {how}{at} of {place}, and is not there in the end");
        case.blamed.insert(id);
        case.report(Anomaly::LostWrite, name.to_owned(), told, evidence);
    }
    case.judge(Invariant::I1, facts);
}

/// Since when a value must be there for readers of committed records, and for all readers.
fn since(case: &Case<'_>, id: usize, value: &Value) -> [Option<u64>; 2] {
    let ops = case.index.ops;
    let acked = case.index.send(id).filter(|send| send.is_ok()).map(crate::Op::ended);
    let read = value.committed_read.map(|read| ops.at(read).ended());
    let seen = value.seen.first().map(|seen| ops.at(seen.op).ended());
    let committed = match value.txn.map(|txn| case.fates[txn]) {
        None => acked,
        Some(Fate::Committed { to, .. }) => acked.map(|acked| acked.max(to)),
        Some(Fate::Maybe { .. } | Fate::Open | Fate::Aborted) => None,
    };
    let earlier = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
    [earlier(committed, read), earlier(acked, seen)]
}
