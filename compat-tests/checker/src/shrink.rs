//! Makes what shows an anomaly as small as it goes: first without the operations, then without the records, that it
//! does not take.

use crate::anomaly::Violation;
use crate::detect;
use crate::history::History;
use crate::looks::Looks;
use crate::op::{F, Op, Record};

/// The smallest part of `ops` that still shows the violation: nothing can be left out of it.
pub(crate) fn smallest(ops: &[Op], violation: &Violation) -> History {
    let mut part: Vec<Op> = violation.evidence.iter().map(|at| ops[*at].clone()).collect();
    let shows = |part: &[Op]| {
        let (found, _) = detect::run(part, &Looks::default());
        found.iter().any(|v| v.anomaly == violation.anomaly && v.subject == violation.subject)
    };
    if shows(&part) {
        let mut at = 0;
        while at < part.len() {
            let op = part.remove(at);
            if !shows(&part) {
                part.insert(at, op);
                at += 1;
            }
        }
        for at in 0..part.len() {
            thin(&mut part, at, &shows);
        }
    }
    History::of(part)
}

fn records(op: &mut Op) -> Option<&mut Vec<Record>> {
    match &mut op.f {
        F::Poll { records, .. } | F::Drain { records, .. } | F::Dump { records, .. } => {
            Some(records)
        }
        F::Init { .. }
        | F::Send { .. }
        | F::End { .. }
        | F::Assign { .. }
        | F::CommitOffset { .. }
        | F::FetchOffset { .. }
        | F::State { .. }
        | F::Copy { .. }
        | F::Nemesis { .. } => None,
    }
}

/// Leaves out records of one operation, by halves, quarters and so on.
fn thin(part: &mut [Op], at: usize, shows: &impl Fn(&[Op]) -> bool) {
    let Some(mut kept) = records(&mut part[at]).map(|records| records.clone()) else { return };
    let mut chunk = kept.len();
    while chunk > 0 {
        let mut from = 0;
        while from < kept.len() {
            let to = (from + chunk).min(kept.len());
            let fewer = [&kept[..from], &kept[to..]].concat();
            if let Some(records) = records(&mut part[at]) {
                records.clone_from(&fewer);
            }
            if shows(part) {
                kept = fewer;
            } else {
                from = to;
            }
        }
        chunk /= 2;
    }
    if let Some(records) = records(&mut part[at]) {
        *records = kept;
    }
}
