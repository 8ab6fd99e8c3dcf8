//! What is planned to go wrong, and the record of what was done.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// How one operation goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device fails. Of a write, some sectors may have arrived; after a sync, an arbitrary
    /// part of the unsynced has and the rest never will, and **the next sync reports success**,
    /// as with Linux. A failed directory sync leaves its changes unsynced.
    Eio,
    /// No space, whatever the capacity says: a write stops somewhere, anything else is not done.
    Enospc,
    /// A write stops somewhere with `WriteZero`; anything else fails with `Eio`'s error, not done.
    ShortWrite,
    /// The operation reports success and is not done: a lying disk.
    Lost,
    /// A write reports success and its bytes land this much further on (bytes; multiples of 512
    /// are what disks do); anything else is done as asked.
    Misdirected(u64),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) cut_at: Option<u64>,
    pub(super) at: BTreeMap<u64, Fault>,
    pub(super) from: Option<(u64, Fault)>,
}

impl Plan {
    pub(super) fn turn(&self, operation: u64) -> Turn {
        let from = self.from.filter(|(first, _)| operation >= *first).map(|(_, fault)| fault);
        match self.at.get(&operation).copied().or(from) {
            _ if self.cut_at == Some(operation) => Turn::Cut,
            Some(fault) => Turn::Fail(fault),
            None => Turn::Done,
        }
    }
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Done,
    /// The power goes while it runs.
    Cut,
    Fail(Fault),
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Enospc => io::ErrorKind::StorageFull.into(),
            Self::Eio | Self::ShortWrite | Self::Lost | Self::Misdirected(_) => {
                io::Error::from_raw_os_error(EIO)
            }
        }
    }
}

pub(super) const EIO: i32 = 5;
pub(super) const EBADF: i32 = 9;
pub(super) const EINVAL: i32 = 22;

/// The error of every call after the power went.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("power is off")]
pub struct PowerOff;

impl PowerOff {
    /// Whether an error is this one.
    #[must_use]
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// One line of the trace.
#[derive(Debug, Clone)]
pub(super) struct Traced {
    pub(super) operation: u64,
    pub(super) verb: &'static str,
    pub(super) path: PathBuf,
    pub(super) range: Option<(u64, u64)>,
    pub(super) turn: Turn,
}

impl fmt::Display for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {}", self.operation, self.verb, self.path.display())?;
        if let Some((start, end)) = self.range {
            write!(f, " [{start}..{end})")?;
        }
        match self.turn {
            Turn::Done => Ok(()),
            Turn::Cut => f.write_str(" POWER CUT"),
            Turn::Fail(fault) => write!(f, " FAULT {fault:?}"),
        }
    }
}
