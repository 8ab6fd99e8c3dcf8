mod crash;
mod damage;
mod model;

use std::path::Path;

use openraft::{CommittedLeaderId, EntryPayload, LeaderId};

use super::*;
use crate::command::SetBrokerConfigs;
use crate::log_store::FrameError;
use crate::testing::set;
use crate::types::Proposal;

/// So small that a few entries fill a segment.
const LIMITS: Limits = Limits { segment_bytes: 600, allocate_bytes: 512, spare_bytes: 128 };

const DIR: &str = "/log";

fn open(fs: &Arc<dyn Fs>) -> Result<LogFiles, LogError> {
    LogFiles::open(fs, Path::new(DIR), LIMITS)
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId::new(term, 1), committed: term.is_multiple_of(2) }
}

/// An entry whose payload is of about `size_bytes`.
fn entry(term: u64, index: u64, size_bytes: usize) -> Entry {
    let payload = if size_bytes == 0 {
        EntryPayload::Blank
    } else {
        let changes = vec![set("k", &"v".repeat(size_bytes))];
        let command = SetBrokerConfigs { broker: None, changes }.into();
        EntryPayload::Normal(Proposal::new(vec![batch(command)]))
    };
    Entry { log_id: log_id(term, index), payload }
}

fn batch(command: crate::command::MetadataCommand) -> (crate::command::MetadataCommand, Vec<u8>) {
    let encoded = command.encode();
    (command, encoded)
}

/// What a log holds, as the tests compare it.
#[derive(Debug, Clone, PartialEq, Default)]
struct Content {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: Vec<Entry>,
}

fn content(log: &LogFiles) -> Content {
    let LogState { vote, purged, .. } = log.state();
    Content { vote, purged, entries: log.read(0, u64::MAX).unwrap() }
}
