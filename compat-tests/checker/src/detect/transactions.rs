//! I9, I10 and I11: what readers of committed records saw of transactions.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Case;
use crate::anomaly::{Anomaly, Invariant};
use crate::index::{Fate, read_of};
use crate::op::{F, Type};

pub(super) fn check(case: &mut Case<'_>) {
    let circles = circular(case);
    wrongly_read(case, &circles);
    torn(case);
}

/// I9, and reads that came before the commit.
fn wrongly_read(case: &mut Case<'_>, circle_of: &[Option<usize>]) {
    let (mut facts, mut in_txns) = (0, 0);
    for value in 0..case.index.values.len() {
        let known = &case.index.values[value];
        let (Some(read), Some(send)) = (known.committed_read, case.index.send(value)) else {
            continue;
        };
        if case.blamed.contains(&value) {
            continue;
        }
        facts += 1;
        in_txns += usize::from(known.txn.is_some());
        let fate = known.txn.map(|txn| case.fates[txn]);
        let ended = case.index.ops.at(read).ended();
        let (anomaly, how) = match fate {
            _ if send.kind == Type::Fail => (Anomaly::AbortedRead, "refused"),
            Some(Fate::Aborted) => (Anomaly::AbortedRead, "aborted"),
            Some(Fate::Open) => (Anomaly::PrecommittedRead, "never committed"),
            Some(Fate::Maybe { from } | Fate::Committed { from, .. }) if from > ended => {
                (Anomaly::PrecommittedRead, "not yet committed")
            }
            Some(Fate::Maybe { .. } | Fate::Committed { .. }) | None => continue,
        };
        // A circle of reads says it already.
        let reader =
            read_of(case.index.ops.at(read)).and_then(|read| case.index.find_txn(read.txn?));
        if let (Some(writer), Some(reader), Anomaly::PrecommittedRead) =
            (known.txn, reader, anomaly)
            && writer != reader
            && circle_of[writer].is_some()
            && circle_of[writer] == circle_of[reader]
        {
            continue;
        }
        case.blamed.insert(value);
        let name = case.index.value_name(value);
        let told = format!("{name} was {how}, and read as committed");
        let evidence = case.told_of(value).into_iter().chain([read]).collect::<Vec<_>>();
        case.report(anomaly, name.to_owned(), told, evidence);
    }
    case.judge(Invariant::I9, facts);
    case.judge(Invariant::I11, in_txns);
}

/// I10: of a transaction that was committed, as its client or a reader knows, all is there.
fn torn(case: &mut Case<'_>) {
    let mut facts = 0;
    for txn in 0..case.index.txns.len() {
        let name = case.index.txn_name(txn);
        let sends = &case.index.txns[txn].sends;
        let values: Vec<usize> = sends
            .iter()
            .filter_map(|send| match case.index.ops.at(*send) {
                op if !op.is_ok() => None,
                op => match &op.f {
                    F::Send { value, .. } => case.index.find_value(value),
                    _ => None,
                },
            })
            .filter(|value| !case.blamed.contains(value))
            .collect();
        let known_at = match case.fates[txn] {
            Fate::Committed { to, .. } => to,
            Fate::Maybe { .. } => {
                let reads =
                    values.iter().filter_map(|value| case.index.values[*value].committed_read);
                let shown = reads.chain(case.shown_by_offsets[txn]);
                match shown.map(|read| case.index.ops.at(read).ended()).min() {
                    Some(at) => at,
                    None => continue,
                }
            }
            Fate::Open | Fate::Aborted => continue,
        };
        facts += 1;
        let (mut there, mut missing) = (None, Vec::new());
        for value in &values {
            let known = &case.index.values[*value];
            let drained = case.index.drained[known.place][0];
            let has_to_be = drained.begun.is_some_and(|begun| begun >= known_at)
                && case.index.ack(*value).is_none_or(|offset| offset >= drained.from);
            if known.drained[0] || drained.begun.is_none() && known.committed_read.is_some() {
                there = there.or(Some(*value));
            } else if has_to_be {
                missing.push(*value);
            }
        }
        let Some(first) = missing.first().copied() else { continue };
        let place = case.index.values[first].place;
        let mut evidence = case.told_of(first);
        evidence.push(case.index.drained[place][0].op);
        let lost = case.index.value_name(first);
        let (anomaly, told) = match (there, case.shown_by_offsets[txn]) {
            (Some(there), _) => {
                evidence.extend(case.told_of(there));
                evidence.extend(case.index.values[there].committed_read);
                let there = case.index.value_name(there);
                (Anomaly::TornTransaction, format!("{there} is there, {lost} is not"))
            }
            (None, Some(fetch)) => {
                evidence.push(fetch);
                evidence.extend(case.index.txns[txn].offsets.iter().copied());
                (Anomaly::TornOffsets, format!("its group offset is there, {lost} is not"))
            }
            (None, None) => continue,
        };
        case.blamed.extend(missing);
        case.report(anomaly, name.to_owned(), told, evidence);
    }
    case.judge(Invariant::I10, facts);
}

/// One transaction read what another wrote.
#[derive(Clone, Copy, Debug)]
struct Edge {
    to: usize,
    send: usize,
    read: usize,
}

/// I11: circles of reads. Gives for each transaction the circle that it is in.
fn circular(case: &mut Case<'_>) -> Vec<Option<usize>> {
    let index = &case.index;
    let mut edges: Vec<Vec<Edge>> = vec![Vec::new(); index.txns.len()];
    let may_stand =
        |txn: usize| matches!(case.fates[txn], Fate::Maybe { .. } | Fate::Committed { .. });
    let mut facts = 0;
    for (reader, txn) in index.txns.iter().enumerate() {
        if !may_stand(reader) {
            continue;
        }
        for read in &txn.reads {
            let Some(found) = read_of(index.ops.at(*read)) else { continue };
            if !found.is_committed() {
                continue;
            }
            let mut last = None;
            for (_, name) in found.records {
                let Some(value) = index.find_value(name) else { continue };
                let Some(writer) = index.values[value].txn else { continue };
                // A batch is mostly of one writer.
                if writer == reader || last == Some(writer) || !may_stand(writer) {
                    continue;
                }
                last = Some(writer);
                let send = index.values[value].sends[0];
                edges[writer].push(Edge { to: reader, send, read: *read });
                facts += 1;
            }
        }
    }
    case.judge(Invariant::I11, facts);
    let component = components(&edges);
    let mut size: HashMap<usize, usize> = HashMap::new();
    component.iter().for_each(|one| *size.entry(*one).or_default() += 1);
    let circle_of: Vec<Option<usize>> =
        component.iter().map(|one| Some(*one).filter(|one| size[one] > 1)).collect();
    let mut told = HashSet::new();
    for start in 0..edges.len() {
        if !circle_of[start].is_some_and(|circle| told.insert(circle)) {
            continue;
        }
        let path = shortest_circle(&edges, &circle_of, start);
        let mut evidence = Vec::new();
        let mut names = Vec::new();
        for edge in &path {
            let txn = &case.index.txns[edge.to];
            evidence.extend([edge.send, edge.read]);
            evidence.extend(txn.ends.iter().copied());
            names.push(case.index.txn_name(edge.to));
        }
        names.sort_unstable();
        let subject = names.join(", ");
        let explanation = format!("{} transactions read each other's records", names.len());
        case.report(Anomaly::CircularRead, subject, explanation, evidence);
    }
    circle_of
}

/// The shortest way from a transaction back to itself, inside its component.
fn shortest_circle(edges: &[Vec<Edge>], circle_of: &[Option<usize>], start: usize) -> Vec<Edge> {
    let mut came_by: HashMap<usize, (usize, Edge)> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for edge in edges[at].iter().filter(|edge| circle_of[edge.to] == circle_of[start]) {
            if came_by.contains_key(&edge.to) {
                continue;
            }
            came_by.insert(edge.to, (at, *edge));
            if edge.to == start {
                queue.clear();
                break;
            }
            queue.push_back(edge.to);
        }
    }
    let mut path = Vec::new();
    let mut at = start;
    while let Some((before, edge)) = came_by.remove(&at) {
        path.push(edge);
        at = before;
        if at == start {
            break;
        }
    }
    path
}

/// Tarjan's strongly connected components, with a stack of its own instead of recursion: the component of each node.
fn components(edges: &[Vec<Edge>]) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let mut number = vec![NONE; edges.len()];
    let mut low = vec![0; edges.len()];
    let mut component = vec![NONE; edges.len()];
    let (mut next, mut count) = (0, 0);
    let mut open: Vec<usize> = Vec::new();
    let mut calls: Vec<(usize, usize)> = Vec::new();
    for root in 0..edges.len() {
        if number[root] != NONE {
            continue;
        }
        calls.push((root, 0));
        while let Some((node, edge)) = calls.pop() {
            if edge == 0 {
                number[node] = next;
                low[node] = next;
                next += 1;
                open.push(node);
            } else {
                low[node] = low[node].min(low[edges[node][edge - 1].to]);
            }
            let mut at = edge;
            let mut descends = false;
            while let Some(to) = edges[node].get(at).map(|edge| edge.to) {
                at += 1;
                if number[to] == NONE {
                    calls.push((node, at));
                    calls.push((to, 0));
                    descends = true;
                    break;
                }
                if component[to] == NONE {
                    low[node] = low[node].min(number[to]);
                }
            }
            if !descends && low[node] == number[node] {
                while let Some(member) = open.pop() {
                    component[member] = count;
                    if member == node {
                        break;
                    }
                }
                count += 1;
            }
        }
    }
    component
}
