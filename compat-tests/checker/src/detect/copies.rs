//! I13: copying in transactions makes exactly one of each.

use std::collections::HashMap;

use super::Case;
use crate::anomaly::{Anomaly, Invariant};
use crate::op::F;

pub(super) fn check(case: &mut Case<'_>) {
    for (at, op) in case.index.ops.iter().enumerate() {
        if let (F::Copy { topic, output }, true) = (&op.f, op.is_ok()) {
            judge(case, at, topic, output);
        }
    }
}

fn judge(case: &mut Case<'_>, job: usize, topic: &str, output: &str) {
    let index = &case.index;
    let topic_of = |value: usize| index.places.names[index.values[value].place].0;
    let mut copies: HashMap<&str, Vec<usize>> = HashMap::new();
    for (id, value) in index.values.iter().enumerate() {
        if let Some(F::Send { input: Some(input), .. }) = index.send(id).map(|op| &op.f)
            && topic_of(id) == output
            // What is lost or torn has been told of.
            && (value.drained[0] || case.blamed.contains(&id))
        {
            copies.entry(input).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    let mut facts = 0;
    for (id, value) in index.values.iter().enumerate() {
        if topic_of(id) != topic || !value.drained[0] || case.blamed.contains(&id) {
            continue;
        }
        facts += 1;
        let name = index.value_name(id);
        let copies = copies.get(name).map_or(&[][..], Vec::as_slice);
        let seen = value.seen.first().map(|seen| seen.op);
        let told_of =
            case.told_of(id).into_iter().chain([job]).chain(seen).chain(value.committed_read);
        match copies {
            [] => {
                let drains = index.places.names.iter().zip(&index.drained);
                let drains = drains.filter(|((topic, _), _)| *topic == output);
                let drains =
                    drains.filter_map(|(_, [drained, _])| drained.begun.map(|_| drained.op));
                let evidence: Vec<usize> = told_of.chain(drains).collect();
                found.push((
                    Anomaly::MissingCopy,
                    name,
                    "it was never copied".to_owned(),
                    evidence,
                ));
            }
            [_] => {}
            [first, second, ..]
                if ![first, second].iter().any(|copy| case.blamed.contains(copy)) =>
            {
                let of = [first, second].map(|copy| {
                    let reads = index.values[*copy].committed_read;
                    case.told_of(*copy).into_iter().chain(reads).collect::<Vec<_>>()
                });
                let told = format!(
                    "{} copies, {} and {} among them",
                    copies.len(),
                    index.value_name(*first),
                    index.value_name(*second)
                );
                let evidence: Vec<usize> = told_of.chain(of.concat()).collect();
                found.push((Anomaly::RepeatedCopy, name, told, evidence));
            }
            [_, _, ..] => {}
        }
    }
    for (anomaly, subject, told, evidence) in found {
        case.report(anomaly, subject.to_owned(), told, evidence);
    }
    case.judge(Invariant::I13, facts);
}
