//! Keeps the log short: says everything that is known once more at the log's end, so that what
//! lies before can go. This is what compaction would leave, made from the state in memory.
//!
//! It goes in pieces, each written before the next is made, while groups go on as ever. It begins
//! when everything appended before is durable; what is on its way after that has its record behind
//! the place where the log will start, and is left out. So only durable state is said again, and
//! never over a newer record. If a write fails meanwhile, the run is void and the old records stay.

use std::collections::VecDeque;
use std::sync::Arc;

use super::classic::Group;
use super::error::GroupLogError;
use super::record::Record;
use super::state::{AfterWrite, Cx, Shard};
use super::step::{Effect, Now, Token};

/// Records are added to a piece until it has this size.
const PIECE_SIZE_BYTES: usize = if cfg!(test) { 200 } else { 256 * 1024 };

/// A run under way.
#[derive(Debug)]
pub(super) enum Restating {
    /// Begins when this write, the last one before it was asked for, is reported.
    BeginsAfter(Token),
    /// These groups' turn comes. Those made since the beginning have no older records.
    Pieces(VecDeque<Arc<str>>),
    /// Ends when this write is reported: what was left out must not fail either.
    EndsAfter(Token),
}

impl Shard {
    /// Starts a run, unless one is under way.
    pub(super) fn restate(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.core.restating.is_some() {
            return;
        }
        match self.core.last_in_flight() {
            Some(token) => self.core.restating = Some(Restating::BeginsAfter(token)),
            None => self.restate_piece(now, self.group_ids().into(), effects),
        }
    }

    /// A write was reported: it may be the one the run waits for, or spoil the run.
    pub(super) fn restating_goes_on(
        &mut self,
        now: Now,
        token: Token,
        was_piece: bool,
        result: Result<(), GroupLogError>,
        effects: &mut Vec<Effect>,
    ) {
        match self.core.restating.take() {
            None => {}
            Some(Restating::BeginsAfter(last)) if last == token => {
                self.restate_piece(now, self.group_ids().into(), effects);
            }
            Some(Restating::Pieces(_) | Restating::EndsAfter(_)) if result.is_err() => {
                effects.push(Effect::Restated { is_complete: false });
            }
            Some(Restating::Pieces(groups)) if was_piece => {
                self.restate_piece(now, groups, effects);
            }
            Some(Restating::EndsAfter(last)) if last == token => {
                effects.push(Effect::Restated { is_complete: true });
            }
            waits => self.core.restating = waits,
        }
    }

    /// Writes the next piece, or ends the run.
    fn restate_piece(
        &mut self,
        now: Now,
        mut groups: VecDeque<Arc<str>>,
        effects: &mut Vec<Effect>,
    ) {
        let mut records = Vec::new();
        let mut size_bytes = 0;
        while size_bytes < PIECE_SIZE_BYTES {
            let Some(group_id) = groups.pop_front() else { break };
            let Some(group) = self.groups.get(&group_id) else { continue };
            let before = records.len();
            restate_group(group, &mut records);
            size_bytes += records.iter().skip(before).map(Record::size_bytes).sum::<usize>();
        }
        if !records.is_empty() {
            self.core.restating = Some(Restating::Pieces(groups));
            Cx { now, core: &mut self.core, effects }.append(records, AfterWrite::Restated);
        } else if let Some(token) = self.core.last_in_flight() {
            self.core.restating = Some(Restating::EndsAfter(token));
        } else {
            effects.push(Effect::Restated { is_complete: true });
        }
    }
}

fn restate_group(group: &Group, records: &mut Vec<Record>) {
    if group.is_deleting {
        return;
    }
    if group.recording == 0 {
        records.extend(group.recorded.iter().map(|value| Record::group_value(&group.id, value)));
    }
    records.extend(
        group
            .offsets
            .all_settled()
            .map(|(topic, partition, value)| Record::offset(&group.id, topic, partition, value)),
    );
}
