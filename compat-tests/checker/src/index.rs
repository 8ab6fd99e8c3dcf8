//! The facts of a history, gathered in one pass: names become numbers, and each value and each transaction knows what
//! happened to it.

use std::collections::HashMap;
use std::hash::Hash;

use crate::looks::{Facts, Ops};
use crate::op::{F, Isolation, Op, Record, Type};

/// Gives names numbers, from 0.
#[derive(Debug)]
pub(crate) struct Interner<K> {
    ids: HashMap<K, usize>,
    pub(crate) names: Vec<K>,
}

impl<K: Copy + Eq + Hash> Interner<K> {
    fn new() -> Interner<K> {
        Interner { ids: HashMap::new(), names: Vec::new() }
    }

    pub(crate) fn id(&mut self, name: K) -> usize {
        *self.ids.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }

    pub(crate) fn find(&self, name: K) -> Option<usize> {
        self.ids.get(&name).copied()
    }
}

/// A topic and a partition's number.
pub(crate) type Place<'a> = (&'a str, i32);

/// How an operation came by its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Poll,
    Drain,
    Dump,
}

/// Records of one partition that an operation was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) source: Source,
    /// A dump has none: it shows what no reader may see.
    pub(crate) isolation: Option<Isolation>,
    pub(crate) records: &'a [Record],
    pub(crate) txn: Option<&'a str>,
}

impl Read<'_> {
    /// Whether only what is committed may be in it.
    pub(crate) fn is_committed(&self) -> bool {
        self.isolation == Some(Isolation::ReadCommitted)
    }
}

/// What an operation read, if it was a successful read.
pub(crate) fn read_of(op: &Op) -> Option<Read<'_>> {
    if !op.is_ok() {
        return None;
    }
    match &op.f {
        F::Poll { topic, partition, isolation, records, txn, .. } => Some(Read {
            place: (topic, *partition),
            source: Source::Poll,
            isolation: Some(*isolation),
            records,
            txn: txn.as_deref(),
        }),
        F::Drain { topic, partition, isolation, records, .. } => Some(Read {
            place: (topic, *partition),
            source: Source::Drain,
            isolation: Some(*isolation),
            records,
            txn: None,
        }),
        F::Dump { topic, partition, records } => Some(Read {
            place: (topic, *partition),
            source: Source::Dump,
            isolation: None,
            records,
            txn: None,
        }),
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

/// A place where a value was seen, and by which operation first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: i64,
    pub(crate) op: usize,
}

/// What is known of one value.
#[derive(Debug, Default)]
pub(crate) struct Value {
    /// The operation that sent it; several only if a history breaks the rule that values are unique.
    pub(crate) sends: Vec<usize>,
    pub(crate) place: usize,
    pub(crate) txn: Option<usize>,
    /// Where readers saw it: one place, unless something is wrong or its producer is not idempotent.
    pub(crate) seen: Vec<Seen>,
    /// The read of committed records that ended first.
    pub(crate) committed_read: Option<usize>,
    /// In a last read of committed records, and of all.
    pub(crate) drained: [bool; 2],
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody tried to end it: it is aborted by a timeout or by the next incarnation.
    Open,
    /// Its commit began at this time, and may have been carried out.
    Maybe { from: u64 },
    /// It was carried out between these times.
    Committed { from: u64, to: u64 },
    /// Certainly aborted.
    Aborted,
}

/// What is known of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Txn {
    pub(crate) sends: Vec<usize>,
    pub(crate) reads: Vec<usize>,
    pub(crate) offsets: Vec<usize>,
    pub(crate) ends: Vec<usize>,
}

/// The last reads of one partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    /// When the first of them began: what ended before has to be in them.
    pub(crate) begun: Option<u64>,
    /// Where the log began, at the latest.
    pub(crate) from: i64,
    pub(crate) end: i64,
    pub(crate) op: usize,
}

#[derive(Debug)]
pub(crate) struct Index<'a> {
    pub(crate) ops: Ops<'a>,
    pub(crate) places: Interner<Place<'a>>,
    pub(crate) values: Facts<'a, Value>,
    value_ids: Interner<&'a str>,
    pub(crate) txns: Facts<'a, Txn>,
    txn_ids: Interner<&'a str>,
    /// By place: read committed, read uncommitted.
    pub(crate) drained: Vec<[Drained; 2]>,
    /// When the initialisations of each producer began and ended, in the order in which they began.
    inits: HashMap<&'a str, Vec<(u64, u64)>>,
}

/// Index of an isolation in pairs.
pub(crate) fn side(isolation: Isolation) -> usize {
    match isolation {
        Isolation::ReadCommitted => 0,
        Isolation::ReadUncommitted => 1,
    }
}

impl<'a> Index<'a> {
    pub(crate) fn new(ops: Ops<'a>) -> Index<'a> {
        let mut index = Index {
            ops,
            places: Interner::new(),
            values: Facts::new(ops.looks()),
            value_ids: Interner::new(),
            txns: Facts::new(ops.looks()),
            txn_ids: Interner::new(),
            drained: Vec::new(),
            inits: HashMap::new(),
        };
        for (at, op) in ops.iter().enumerate() {
            index.take_write(at, op);
        }
        for (at, op) in ops.iter().enumerate() {
            if let Some(read) = read_of(op) {
                index.take_read(at, op, &read);
            }
        }
        index
    }

    fn place(&mut self, place: Place<'a>) -> usize {
        let id = self.places.id(place);
        if id == self.drained.len() {
            self.drained.push(Default::default());
        }
        id
    }

    fn value(&mut self, value: &'a str, place: usize) -> usize {
        let id = self.value_ids.id(value);
        if id == self.values.len() {
            self.values.push(Value { place, ..Value::default() });
        }
        id
    }

    fn txn(&mut self, txn: &'a str) -> usize {
        let id = self.txn_ids.id(txn);
        if id == self.txns.len() {
            self.txns.push(Txn::default());
        }
        id
    }

    fn take_write(&mut self, at: usize, op: &'a Op) {
        match &op.f {
            F::Send { topic, partition, value, txn, .. } => {
                let place = self.place((topic, *partition));
                let value = self.value(value, place);
                let txn = txn.as_deref().map(|txn| self.txn(txn));
                self.values[value].sends.push(at);
                self.values[value].place = place;
                self.values[value].txn = txn;
                if let Some(txn) = txn {
                    self.txns[txn].sends.push(at);
                }
            }
            F::End { txn, .. } => {
                let txn = self.txn(txn);
                self.txns[txn].ends.push(at);
            }
            F::CommitOffset { txn: Some(txn), .. } => {
                let txn = self.txn(txn);
                self.txns[txn].offsets.push(at);
            }
            F::Poll { txn: Some(txn), .. } => {
                let txn = self.txn(txn);
                self.txns[txn].reads.push(at);
            }
            F::Init { producer, .. } if op.is_ok() => {
                self.inits.entry(producer).or_default().push((op.t_invoke, op.ended()));
            }
            F::Init { .. }
            | F::CommitOffset { .. }
            | F::Assign { .. }
            | F::Poll { .. }
            | F::Drain { .. }
            | F::Dump { .. }
            | F::FetchOffset { .. }
            | F::State { .. }
            | F::Copy { .. }
            | F::Nemesis { .. } => {}
        }
    }

    fn take_read(&mut self, at: usize, op: &'a Op, read: &Read<'a>) {
        let place = self.place(read.place);
        if let F::Drain { isolation, from, end, .. } = &op.f {
            let drained = &mut self.drained[place][side(*isolation)];
            let begun = drained.begun.map_or(op.t_invoke, |begun| begun.min(op.t_invoke));
            drained.begun = Some(begun);
            drained.from = drained.from.max(*from);
            drained.end = drained.end.max(*end);
            drained.op = at;
        }
        for (offset, name) in read.records {
            let id = self.value(name, place);
            let committed_before = self.values[id]
                .committed_read
                .is_some_and(|known| self.ops.at(known).ended() <= op.ended());
            let value = &mut self.values[id];
            if !value.seen.iter().any(|seen| seen.offset == *offset) {
                value.seen.push(Seen { offset: *offset, op: at });
            }
            if read.is_committed() && !committed_before {
                value.committed_read = Some(at);
            }
            if let (Source::Drain, Some(isolation)) = (read.source, read.isolation) {
                value.drained[side(isolation)] = true;
            }
        }
    }

    pub(crate) fn find_value(&self, name: &str) -> Option<usize> {
        self.value_ids.find(name)
    }

    pub(crate) fn value_name(&self, id: usize) -> &'a str {
        self.value_ids.names[id]
    }

    pub(crate) fn find_txn(&self, name: &str) -> Option<usize> {
        self.txn_ids.find(name)
    }

    pub(crate) fn txn_name(&self, id: usize) -> &'a str {
        self.txn_ids.names[id]
    }

    /// `topic-partition`, as Kafka writes it.
    pub(crate) fn place_name(&self, place: usize) -> String {
        let (topic, partition) = self.places.names[place];
        format!("{topic}-{partition}")
    }

    /// What became of a transaction, by its own client's words. An abort that succeeded tells that an earlier commit
    /// of which nobody knew the end was not carried out, and the other way round.
    pub(crate) fn fate(&self, txn: usize) -> Fate {
        let ends = &self.txns[txn].ends;
        let mut fate = Fate::Open;
        for end in ends {
            let op = self.ops.at(*end);
            let F::End { commit, .. } = &op.f else { continue };
            fate = match (commit, op.kind, fate) {
                (true, Type::Ok, _) => Fate::Committed { from: op.t_invoke, to: op.ended() },
                (_, _, Fate::Committed { .. }) => fate,
                (false, Type::Ok, _) => Fate::Aborted,
                (true, Type::Invoke | Type::Info, Fate::Open) => Fate::Maybe { from: op.t_invoke },
                (true, Type::Fail, Fate::Open) | (false, _, Fate::Open) => Fate::Aborted,
                (_, _, Fate::Maybe { .. } | Fate::Aborted) => fate,
            };
        }
        fate
    }

    /// When a transaction whose commit began at `from` had ended at the latest: the next incarnation of its producer is
    /// told that it is one only after that.
    pub(crate) fn settled(&self, txn: usize, from: u64) -> u64 {
        let producer = self.txns[txn].ends.iter().find_map(|end| match &self.ops.at(*end).f {
            F::End { producer, .. } => producer.as_deref(),
            _ => None,
        });
        let Some(inits) = producer.and_then(|producer| self.inits.get(producer)) else {
            return u64::MAX;
        };
        let next = inits.partition_point(|(begun, _)| *begun < from);
        inits.get(next).map_or(u64::MAX, |(_, ended)| *ended)
    }

    /// The send of a value, if there was one.
    pub(crate) fn send(&self, value: usize) -> Option<&'a Op> {
        self.values[value].sends.first().map(|at| self.ops.at(*at))
    }

    /// Where the acknowledgement says that a value is.
    pub(crate) fn ack(&self, value: usize) -> Option<i64> {
        let op = self.send(value)?;
        match &op.f {
            F::Send { offset, .. } if op.is_ok() => offset.filter(|offset| *offset >= 0),
            _ => None,
        }
    }

    pub(crate) fn is_idempotent(&self, value: usize) -> bool {
        self.send(value).is_none_or(|op| matches!(op.f, F::Send { idempotent: true, .. }))
    }
}
