//! I6 to I8 and I15: marks, epochs and roles, as brokers and fetch answers tell them.

use std::collections::HashMap;

use super::Case;
use crate::anomaly::{Anomaly, Invariant};
use crate::index::Source;
use crate::index::read_of;
use crate::op::{F, Isolation, Role};

pub(super) fn check(case: &mut Case<'_>) {
    samples(case);
    replicas(case);
    leaders(case);
    readers(case);
    stuck(case);
}

fn samples(case: &mut Case<'_>) {
    let mut epochs: HashMap<(Option<u32>, &str, i32), (i32, usize)> = HashMap::new();
    let mut facts = 0;
    for (at, op) in case.index.ops.iter().enumerate() {
        let F::State {
            topic, partition, epoch, last_stable, high_watermark, durable, log_end, ..
        } = &op.f
        else {
            continue;
        };
        facts += 1;
        let node = op.node.map_or("a broker".to_owned(), |node| format!("broker {node}"));
        let subject = format!("{topic}-{partition} on {node}");
        let marks = [last_stable, high_watermark, durable, log_end];
        if !marks.is_sorted() {
            let told = format!(
                "stable {last_stable}, high {high_watermark}, durable {durable}, end {log_end}"
            );
            case.report(Anomaly::MarkOrder, subject.clone(), told, [at]);
        }
        let known = epochs.entry((op.node, topic, *partition)).or_insert((*epoch, at));
        if *epoch < known.0 {
            let told = format!("epoch {epoch} after {}", known.0);
            case.report(Anomaly::EpochRegression, subject, told, [known.1, at]);
        } else {
            *known = (*epoch, at);
        }
    }
    case.judge(Invariant::I8, facts);
}

/// I6, at each cut.
fn replicas(case: &mut Case<'_>) {
    let ops = case.index.ops;
    let mut cut: HashMap<(u64, &str, i32, u32), usize> = HashMap::new();
    for (at, op) in ops.iter().enumerate() {
        if let (F::State { step, topic, partition, .. }, Some(node)) = (&op.f, op.node) {
            cut.insert((*step, topic, *partition, node), at);
        }
    }
    let mut facts = 0;
    for (at, op) in ops.iter().enumerate() {
        let F::State {
            step, topic, partition, role: Role::Leader, high_watermark, in_sync, ..
        } = &op.f
        else {
            continue;
        };
        for node in in_sync {
            let Some(member) = cut.get(&(*step, topic.as_str(), *partition, *node)) else {
                continue;
            };
            let F::State { durable, .. } = &ops.at(*member).f else { continue };
            facts += 1;
            if durable < high_watermark {
                let subject = format!("{topic}-{partition} on broker {node} at step {step}");
                let told = format!("it has {durable}, the high watermark is {high_watermark}");
                case.report(Anomaly::MissingReplica, subject, told, [at, *member]);
            }
        }
    }
    case.judge(Invariant::I6, facts);
}

/// I7, brokers: one leader for an epoch.
fn leaders(case: &mut Case<'_>) {
    let mut leaders: HashMap<(&str, i32, i32), (u32, usize)> = HashMap::new();
    let mut facts = 0;
    for (at, op) in case.index.ops.iter().enumerate() {
        let (topic, partition, epoch) = match &op.f {
            F::State { topic, partition, role: Role::Leader, epoch, .. } => {
                (topic, partition, *epoch)
            }
            F::Send { topic, partition, leader_epoch: Some(epoch), .. } if op.is_ok() => {
                (topic, partition, *epoch)
            }
            _ => continue,
        };
        let Some(node) = op.node else { continue };
        facts += 1;
        let (leader, by) = *leaders.entry((topic, *partition, epoch)).or_insert((node, at));
        if leader != node {
            let subject = format!("{topic}-{partition} in epoch {epoch}");
            let told = format!("brokers {leader} and {node} led");
            case.report(Anomaly::TwoLeaders, subject, told, [by, at]);
        }
    }
    case.judge(Invariant::I7, facts);
}

/// I7 and I8, readers: no record beyond its mark, and no mark that falls.
fn readers(case: &mut Case<'_>) {
    let mut marks: HashMap<(u32, &str, i32), (i64, usize)> = HashMap::new();
    let mut facts = [0, 0];
    for (at, op) in case.index.ops.iter().enumerate() {
        let (F::Poll { topic, partition, isolation, high_watermark, last_stable, .. }, Some(read)) =
            (&op.f, read_of(op).filter(|read| read.source == Source::Poll))
        else {
            continue;
        };
        let subject = format!("process {} at {topic}-{partition}", op.process);
        let last = read.records.iter().map(|(offset, _)| *offset).max();
        let stable = last_stable.filter(|_| *isolation == Isolation::ReadCommitted);
        facts[1] += usize::from(high_watermark.is_some());
        match (last, *high_watermark, stable) {
            (Some(last), Some(mark), _) if last >= mark => {
                let told = format!("it was given {last}, the high watermark was {mark}");
                case.report(Anomaly::AboveHighWatermark, subject.clone(), told, [at]);
            }
            (Some(last), _, Some(mark)) if last >= mark => {
                let told = format!("it was given {last}, the last stable offset was {mark}");
                case.report(Anomaly::AboveLastStable, subject.clone(), told, [at]);
            }
            _ => {}
        }
        let Some(mark) = *high_watermark else { continue };
        facts[0] += 1;
        let known = marks.entry((op.process, topic, *partition)).or_insert((mark, at));
        if mark < known.0 {
            let told = format!("high watermark {mark} after {}", known.0);
            case.report(Anomaly::WatermarkRegression, subject, told, [known.1, at]);
        } else {
            *known = (mark, at);
        }
    }
    case.judge(Invariant::I7, facts[0]);
    case.judge(Invariant::I8, facts[1]);
}

/// I15: in the end nothing is held back.
fn stuck(case: &mut Case<'_>) {
    let mut facts = 0;
    for place in 0..case.index.drained.len() {
        let [committed, all] = case.index.drained[place];
        if committed.begun.is_none() || all.begun.is_none() {
            continue;
        }
        facts += 1;
        if committed.end < all.end {
            let subject = case.index.place_name(place);
            let told = format!("stable up to {}, written up to {}", committed.end, all.end);
            case.report(Anomaly::StuckTransaction, subject, told, [committed.op, all.op]);
        }
    }
    case.judge(Invariant::I15, facts);
}
