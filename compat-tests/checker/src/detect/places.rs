//! I2, I3 and I4 as far as places go: which value is where, by all that anybody said.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Case;
use crate::anomaly::{Anomaly, Invariant};
use crate::index::read_of;

pub(super) fn check(case: &mut Case<'_>) {
    let slots = readers(case);
    duplicates(case);
    acknowledgements(case, &slots);
}

/// Place and offset to value, and who saw it first.
type Slots = HashMap<(usize, i64), (usize, usize)>;

fn readers(case: &mut Case<'_>) -> Slots {
    let ops = case.index.ops;
    let mut slots = Slots::new();
    let mut facts = 0;
    for (at, op) in ops.iter().enumerate() {
        let Some(read) = read_of(op) else { continue };
        let Some(place) = case.index.places.find(read.place) else { continue };
        facts += read.records.len();
        for (offset, name) in read.records {
            let Some(value) = case.index.find_value(name) else { continue };
            let known = &case.index.values[value];
            if known.sends.is_empty() || known.place != place {
                if case.blamed.insert(value) {
                    let place = case.index.place_name(place);
                    let told =
                        format!("{name} was read at {offset} of {place}; nobody sent it there");
                    let evidence = known.sends.iter().copied().chain([at]).collect::<Vec<_>>();
                    case.report(Anomaly::PhantomValue, (*name).clone(), told, evidence);
                }
                continue;
            }
            match slots.entry((place, *offset)) {
                Entry::Vacant(free) => {
                    free.insert((value, at));
                }
                Entry::Occupied(taken) => {
                    let (other, by) = *taken.get();
                    if other != value {
                        conflict(case, (place, *offset), (other, by), (value, at));
                    }
                }
            }
        }
    }
    case.judge(Invariant::I2, facts);
    slots
}

/// Two values at one offset, each as some operation told it.
fn conflict(case: &mut Case<'_>, at: (usize, i64), one: (usize, usize), two: (usize, usize)) {
    let fresh = [case.blamed.insert(one.0), case.blamed.insert(two.0)];
    if fresh == [false, false] {
        return;
    }
    let subject = format!("{}@{}", case.index.place_name(at.0), at.1);
    let names = (case.index.value_name(one.0), case.index.value_name(two.0));
    let told = format!("{subject} is {} and {}", names.0, names.1);
    let sends = [one.0, two.0].map(|value| case.index.values[value].sends.clone()).concat();
    case.report(
        Anomaly::InconsistentOffset,
        subject,
        told,
        sends.into_iter().chain([one.1, two.1]),
    );
}

fn duplicates(case: &mut Case<'_>) {
    let mut facts = 0;
    for value in 0..case.index.values.len() {
        let known = &case.index.values[value];
        if known.sends.is_empty() || !case.index.is_idempotent(value) {
            continue;
        }
        facts += 1;
        let [first, second, ..] = known.seen[..] else { continue };
        if !case.blamed.insert(value) {
            continue;
        }
        let evidence = [known.sends.clone(), vec![first.op, second.op]].concat();
        let name = case.index.value_name(value);
        let told = format!(
            "{name} lies at {} and at {} of {}",
            first.offset,
            second.offset,
            case.index.place_name(case.index.values[value].place)
        );
        case.report(Anomaly::Duplicate, name.to_owned(), told, evidence);
    }
    case.judge(Invariant::I4, facts);
}

fn acknowledgements(case: &mut Case<'_>, slots: &Slots) {
    let mut acked: HashMap<(usize, i64), usize> = HashMap::new();
    let mut facts = 0;
    for value in 0..case.index.values.len() {
        let Some(offset) = case.index.ack(value) else { continue };
        facts += 1;
        let known = &case.index.values[value];
        let (place, send) = (known.place, known.sends[0]);
        // All copies of a value that may come twice are known only when everything was read.
        let all_known = case.index.is_idempotent(value) || known.drained[1];
        let elsewhere = known.seen.first().filter(|_| all_known);
        if let Some(elsewhere) = elsewhere
            && !known.seen.iter().any(|seen| seen.offset == offset)
        {
            let name = case.index.value_name(value);
            let told =
                format!("{name} was acknowledged at {offset} and lies at {}", elsewhere.offset);
            let evidence = [send, elsewhere.op];
            case.wrong_acks.insert(send);
            case.report(Anomaly::WrongAck, name.to_owned(), told, evidence);
            continue;
        }
        if known.seen.is_empty()
            && let Some(other) = slots.get(&(place, offset))
        {
            case.wrong_acks.insert(send);
            conflict(case, (place, offset), *other, (value, send));
        } else if let Some(other) = acked.insert((place, offset), value) {
            let by = case.index.values[other].sends[0];
            case.wrong_acks.insert(send);
            conflict(case, (place, offset), (other, by), (value, send));
        }
    }
    case.judge(Invariant::I3, facts);
}
