//! I5: what each reader was given, in order and without a hole.

use std::collections::HashMap;

use super::Case;
use crate::anomaly::{Anomaly, Invariant};
use crate::index::{Fate, Read, Seen, Source, read_of, side};
use crate::op::{F, Isolation, Mode, Op, Type};

/// Where a reader stands.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    /// The offset before the next; none if it may begin anywhere.
    last: Option<i64>,
    generation: Option<i64>,
    /// Who says so.
    by: Option<usize>,
}

pub(super) fn check(case: &mut Case<'_>) {
    let visible = visible(case);
    let mut positions: HashMap<(u32, usize), Position> = HashMap::new();
    let mut facts = 0;
    for (at, op) in case.index.ops.iter().enumerate() {
        if let (F::Assign { topic, partition, offset }, true) = (&op.f, op.is_ok()) {
            if let Some(place) = case.index.places.find((topic, *partition)) {
                let last = offset.map(|offset| offset - 1);
                let position = Position { last, generation: None, by: Some(at) };
                positions.insert((op.process, place), position);
            }
            continue;
        }
        let Some(read) = read_of(op) else { continue };
        let Some(place) = case.index.places.find(read.place) else { continue };
        facts += read.records.len();
        let mut position = match read.source {
            Source::Poll => *positions.entry((op.process, place)).or_default(),
            Source::Drain | Source::Dump => Position::default(),
        };
        if may_jump(op, &mut position) {
            position.last = None;
        }
        walk(case, (at, place), &read, &mut position, &visible);
        if read.source == Source::Poll {
            positions.insert((op.process, place), position);
        }
    }
    case.judge(Invariant::I5, facts);
}

/// Whether a reader may be elsewhere than where it stood, as its partitions were given out anew.
fn may_jump(op: &Op, position: &mut Position) -> bool {
    let F::Poll { mode: Mode::Subscribe, generation, .. } = &op.f else { return false };
    let same = generation.is_some() && position.generation == *generation;
    position.generation = *generation;
    !same
}

fn walk(
    case: &mut Case<'_>,
    (at, place): (usize, usize),
    read: &Read<'_>,
    position: &mut Position,
    visible: &[[Vec<Visible>; 2]],
) {
    let op = case.index.ops.at(at);
    for (offset, name) in read.records {
        let Some(last) = position.last.replace(*offset) else {
            position.by = Some(at);
            continue;
        };
        let by = position.by.replace(at);
        let subject = || format!("process {} at {}", op.process, case.index.place_name(place));
        if *offset <= last {
            let told = format!("{name} at {offset} came after offset {last}");
            let subject = format!("{} after {last}", subject());
            case.report(Anomaly::NonmonotonicPoll, subject, told, by.into_iter().chain([at]));
            continue;
        }
        let (Some(isolation), Source::Poll) = (read.isolation, read.source) else { continue };
        let known = &visible[place][side(isolation)];
        let next = known.partition_point(|seen| seen.offset <= last);
        let Some(missed) = known.get(next).filter(|missed| missed.offset < *offset) else {
            continue;
        };
        let told = format!("from {last} to {offset}, past {}, which others read", missed.offset);
        let subject = format!("{} past {}", subject(), missed.offset);
        let told_of = case.told_of(missed.value);
        let evidence = by.into_iter().chain([at, missed.op]).chain(told_of).collect::<Vec<_>>();
        case.report(Anomaly::PollSkip, subject, told, evidence);
    }
}

/// A record that somebody read, rightly.
#[derive(Clone, Copy, Debug)]
struct Visible {
    offset: i64,
    op: usize,
    value: usize,
}

/// For each place and isolation, what was read with it, by offset.
fn visible(case: &Case<'_>) -> Vec<[Vec<Visible>; 2]> {
    let index = &case.index;
    let mut visible = vec![[Vec::new(), Vec::new()]; index.places.names.len()];
    for (id, value) in index.values.iter().enumerate() {
        if case.blamed.contains(&id) || value.sends.is_empty() {
            continue;
        }
        for Seen { offset, op } in value.seen.iter().copied() {
            if read_of(index.ops.at(op)).is_some_and(|read| read.isolation.is_some()) {
                let seen = Visible { offset, op, value: id };
                visible[value.place][side(Isolation::ReadUncommitted)].push(seen);
            }
        }
        let fate = value.txn.map(|txn| case.fates[txn]);
        let wrongly = matches!(fate, Some(Fate::Aborted | Fate::Open))
            || index.send(id).is_some_and(|send| send.kind == Type::Fail);
        if let (Some(op), Some(seen), false) = (value.committed_read, value.seen.first(), wrongly) {
            let seen = Visible { offset: seen.offset, op, value: id };
            visible[value.place][side(Isolation::ReadCommitted)].push(seen);
        }
    }
    for [committed, all] in &mut visible {
        committed.sort_unstable_by_key(|seen| seen.offset);
        all.sort_unstable_by_key(|seen| seen.offset);
    }
    visible
}
