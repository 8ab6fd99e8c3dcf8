//! A whole history: read from JSON lines, written by a recorder.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use crate::op::{F, Op, Type};

/// Why a history cannot be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    #[error("line {line} is not a line of a history: {source}")]
    Line { line: usize, source: serde_json::Error },
    #[error("line {line}: operation {op} of process {process} ended twice")]
    EndedTwice { line: usize, process: u32, op: u64 },
    #[error(transparent)]
    Read(#[from] std::io::Error),
}

/// Operations with their ends, in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    ops: Vec<Op>,
}

impl History {
    /// Of lines in any order. An operation that only began is `info`.
    ///
    /// # Errors
    /// When an operation ended twice.
    pub fn new(lines: impl IntoIterator<Item = Op>) -> Result<History, HistoryError> {
        let mut at: HashMap<(u32, u64), usize> = HashMap::new();
        let mut ops: Vec<Op> = Vec::new();
        for (line, op) in lines.into_iter().enumerate() {
            match at.get(&(op.process, op.op)) {
                None => {
                    at.insert((op.process, op.op), ops.len());
                    ops.push(op);
                }
                Some(known) if op.kind == Type::Invoke || ops[*known].kind == Type::Invoke => {
                    if op.kind != Type::Invoke {
                        let invoked = ops[*known].t_invoke.min(op.t_invoke);
                        ops[*known] = Op { t_invoke: invoked, ..op };
                    }
                }
                Some(_) => {
                    let line = line + 1;
                    return Err(HistoryError::EndedTwice { line, process: op.process, op: op.op });
                }
            }
        }
        for op in &mut ops {
            if op.kind == Type::Invoke {
                op.kind = Type::Info;
            }
        }
        ops.sort_by_key(|op| (op.t_invoke, op.process, op.op));
        Ok(History { ops })
    }

    /// Of operations that stand in order and have their ends.
    pub(crate) fn of(ops: Vec<Op>) -> History {
        History { ops }
    }

    /// Reads JSON lines; empty ones are passed over.
    ///
    /// # Errors
    /// When it is not a history.
    pub fn read(from: impl BufRead) -> Result<History, HistoryError> {
        let mut lines = Vec::new();
        for (index, line) in from.lines().enumerate() {
            let line = line?;
            if !line.trim().is_empty() {
                let op = serde_json::from_str(&line)
                    .map_err(|source| HistoryError::Line { line: index + 1, source })?;
                lines.push(op);
            }
        }
        History::new(lines)
    }

    /// Writes JSON lines.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, mut to: impl Write) -> std::io::Result<()> {
        for op in &self.ops {
            serde_json::to_writer(&mut to, op)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    /// All operations, in the order in which they began.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The operations themselves, to make another history of.
    #[must_use]
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }
}

/// An operation under way.
#[derive(Debug)]
#[must_use = "an operation that is not completed counts as one of which nobody knows the end"]
pub struct Begun {
    op: Op,
}

/// Takes down what happens, from any thread. It has no clock: whoever records says what time it is, so that it serves a
/// simulation as well.
#[derive(Debug, Default)]
pub struct Recorder {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    ops: Vec<Op>,
    next: u64,
}

impl Recorder {
    /// Takes down that an operation begins.
    pub fn invoke(&self, process: u32, client: &str, now: u64, f: F) -> Begun {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.next += 1;
        let op = Op {
            process,
            op: taken.next,
            client: client.to_owned(),
            kind: Type::Invoke,
            t_invoke: now,
            t_done: None,
            node: None,
            f,
        };
        taken.ops.push(op.clone());
        Begun { op }
    }

    /// Takes down how it ended; `change` adds what was learned by it.
    pub fn complete(&self, begun: Begun, kind: Type, now: u64, change: impl FnOnce(&mut Op)) {
        let mut op = begun.op;
        op.kind = kind;
        op.t_done = Some(now);
        change(&mut op);
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).ops.push(op);
    }

    /// Takes down something that began and ended, as `ok`.
    pub fn told(&self, process: u32, client: &str, times: (u64, u64), f: F) {
        let begun = self.invoke(process, client, times.0, f);
        self.complete(begun, Type::Ok, times.1, |_| ());
    }

    /// The history so far.
    ///
    /// # Errors
    /// Never, unless an operation was completed twice, which its type forbids.
    pub fn history(&self) -> Result<History, HistoryError> {
        let ops = self.taken.lock().unwrap_or_else(PoisonError::into_inner).ops.clone();
        History::new(ops)
    }
}
