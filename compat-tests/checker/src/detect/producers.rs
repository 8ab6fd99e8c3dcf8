//! I14: who has been fenced writes nothing.

use std::collections::HashMap;

use super::Case;
use crate::anomaly::{Anomaly, Invariant};
use crate::looks::Ops;
use crate::op::{F, Op};

/// An incarnation of a producer that was told that it is one.
#[derive(Clone, Copy, Debug)]
struct Init {
    op: usize,
    process: u32,
    from: u64,
    to: u64,
    producer_id: Option<i64>,
    epoch: Option<i16>,
}

/// The incarnations of one producer, by the time of their answers; with each, the newest of those up to it.
#[derive(Debug, Default)]
struct Line {
    inits: Vec<Init>,
    newest: Vec<usize>,
}

pub(super) fn check(case: &mut Case<'_>) {
    let ops = case.index.ops;
    let lines = lines(ops);
    let mut facts = 0;
    let mut found = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let Some((producer, epoch)) = producer_of(op).filter(|_| op.is_ok()) else { continue };
        let Some(line) = lines.get(producer) else { continue };
        let told = line.inits.partition_point(|init| init.to < op.t_invoke);
        let Some(newest) = told.checked_sub(1).map(|last| line.inits[line.newest[last]]) else {
            continue;
        };
        facts += 1;
        let own = line.inits[..told].iter().rfind(|init| init.process == op.process);
        let is_zombie = match (own, epoch, newest.epoch) {
            // Its own words say which of two is the newer one.
            (Some(own), _, Some(epoch))
                if own.producer_id.is_some() && own.producer_id == newest.producer_id =>
            {
                own.epoch.is_some_and(|own| own < epoch)
            }
            // Otherwise one that began when the other had its answer.
            (Some(own), _, _) => newest.from > own.to,
            (None, Some(own), Some(epoch)) => own < epoch,
            (None, _, _) => false,
        };
        if is_zombie && newest.process != op.process {
            let told = format!(
                "process {} wrote as {producer}, which process {} had become",
                op.process, newest.process
            );
            let evidence: Vec<usize> =
                own.map(|own| own.op).into_iter().chain([newest.op, at]).collect();
            found.push((
                format!("{producer} in operation {} of process {}", op.op, op.process),
                told,
                evidence,
            ));
        }
    }
    for (subject, told, evidence) in found {
        case.report(Anomaly::ZombieWrite, subject, told, evidence);
    }
    case.judge(Invariant::I14, facts);
}

fn producer_of(op: &Op) -> Option<(&str, Option<i16>)> {
    match &op.f {
        F::Send { producer, epoch, .. } | F::End { producer, epoch, .. } => {
            Some((producer.as_deref()?, *epoch))
        }
        F::Init { .. }
        | F::Assign { .. }
        | F::Poll { .. }
        | F::Drain { .. }
        | F::Dump { .. }
        | F::CommitOffset { .. }
        | F::FetchOffset { .. }
        | F::State { .. }
        | F::Copy { .. }
        | F::Nemesis { .. } => None,
    }
}

fn lines<'a>(ops: Ops<'a>) -> HashMap<&'a str, Line> {
    let mut lines: HashMap<&str, Line> = HashMap::new();
    for (at, op) in ops.iter().enumerate() {
        if let (F::Init { producer, producer_id, epoch }, true) = (&op.f, op.is_ok()) {
            lines.entry(producer).or_default().inits.push(Init {
                op: at,
                process: op.process,
                from: op.t_invoke,
                to: op.ended(),
                producer_id: *producer_id,
                epoch: *epoch,
            });
        }
    }
    for line in lines.values_mut() {
        line.inits.sort_by_key(|init| init.to);
        for at in 0..line.inits.len() {
            let best = line.newest.last().copied().unwrap_or(at);
            let newer = line.inits[at].from >= line.inits[best].from;
            line.newest.push(if newer { at } else { best });
        }
    }
    lines
}
