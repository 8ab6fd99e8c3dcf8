//! I3 and I4 as far as order goes: against time, and against the order of one producer's sends.

use std::collections::HashMap;

use super::Case;
use crate::anomaly::Anomaly;
use crate::op::F;

/// One acknowledged send.
struct Sent {
    op: usize,
    value: usize,
    offset: i64,
}

pub(super) fn check(case: &mut Case<'_>) {
    let mut by_place: HashMap<usize, Vec<Sent>> = HashMap::new();
    for value in 0..case.index.values.len() {
        let Some(offset) = case.index.ack(value) else { continue };
        let known = &case.index.values[value];
        let op = known.sends[0];
        if !case.wrong_acks.contains(&op) {
            by_place.entry(known.place).or_default().push(Sent { op, value, offset });
        }
    }
    for sent in by_place.values_mut() {
        // Operations stand in the order in which they began.
        sent.sort_by_key(|sent| sent.op);
        backdated(case, sent);
        nonmonotonic(case, sent);
    }
}

/// An offset that was known before the send began, and is not below the send's own.
fn backdated(case: &mut Case<'_>, sent: &[Sent]) {
    let ops = case.index.ops;
    let mut ended: Vec<&Sent> = sent.iter().collect();
    ended.sort_by_key(|sent| ops.at(sent.op).ended());
    let mut ended = ended.into_iter().peekable();
    let mut greatest: Option<&Sent> = None;
    for one in sent {
        while let Some(before) = ended.next_if(|e| ops.at(e.op).ended() < ops.at(one.op).t_invoke) {
            if greatest.is_none_or(|greatest| greatest.offset < before.offset) {
                greatest = Some(before);
            }
        }
        let Some(before) = greatest.filter(|before| before.offset >= one.offset) else { continue };
        if case.blamed.contains(&one.value) || !case.wrong_acks.insert(one.op) {
            continue;
        }
        let name = case.index.value_name(one.value);
        let told = format!(
            "{name} was acknowledged at {}, though {} was at {} before it was sent",
            one.offset,
            case.index.value_name(before.value),
            before.offset
        );
        case.report(Anomaly::BackdatedAck, name.to_owned(), told, [one.op, before.op]);
    }
}

fn nonmonotonic(case: &mut Case<'_>, sent: &[Sent]) {
    let ops = case.index.ops;
    let mut last: HashMap<u32, &Sent> = HashMap::new();
    for one in sent {
        let idempotent = matches!(ops.at(one.op).f, F::Send { idempotent: true, .. });
        if !idempotent || case.wrong_acks.contains(&one.op) {
            continue;
        }
        let before = last.entry(ops.at(one.op).process).or_insert(one);
        if before.offset <= one.offset {
            *before = one;
            continue;
        }
        let (before, name) = (*before, case.index.value_name(one.value));
        if !case.blamed.contains(&one.value) {
            let told = format!(
                "{name} at {} was sent after {} at {}, by one producer",
                one.offset,
                case.index.value_name(before.value),
                before.offset
            );
            case.report(Anomaly::NonmonotonicSend, name.to_owned(), told, [one.op, before.op]);
        }
    }
}
