//! From decisions to answers: what was decided in one pass is appended as one group, applied, and
//! answered when the group is durable, in the order of the groups.

use crate::half::draft::{self, Answer, Item, Landed, Placement};
use crate::half::event::Event;
use crate::half::request::Unavailable;
use crate::store::{AppendError, LogFailed};

use super::{InFlight, Owner};

impl Owner {
    pub(super) fn answer_in_turn(&mut self, answer: Answer) {
        match self.in_flight.back_mut() {
            Some(last) => last.answers.push(answer),
            None => answer(Ok(())),
        }
    }

    pub(super) fn push(&mut self, item: Item) {
        self.draft.push(item);
    }

    /// Appends what was decided and applies it.
    pub(super) fn flush(&mut self) {
        let mut items = std::mem::take(&mut self.draft).items;
        self.nexts.clear();
        if items.is_empty() {
            return;
        }
        let now_ms = self.now_ms();
        match draft::append(&self.partitions, now_ms, &mut items) {
            Ok(placement) => self.landed(items, placement),
            Err(error) if items.len() == 1 || matches!(error, AppendError::Failed(_)) => {
                let mut error = Some(error);
                for item in items {
                    let error = error.take().unwrap_or(AppendError::Failed(LogFailed::Closed));
                    self.refused(item, error);
                }
            }
            // One that does not fit, or whose queue is gone, must not take the others down.
            Err(_) => items.into_iter().for_each(|item| self.append_alone(now_ms, item)),
        }
    }

    pub(super) fn append_alone(&mut self, now_ms: i64, item: Item) {
        let mut items = vec![item];
        match draft::append(&self.partitions, now_ms, &mut items) {
            Ok(placement) => self.landed(items, placement),
            Err(error) => {
                if let Some(item) = items.pop() {
                    self.refused(item, error);
                }
            }
        }
    }

    pub(super) fn refused(&mut self, item: Item, error: AppendError) {
        // What only found no room is tried again in the next round, before which room is awaited.
        if let (Some(Event::Expired { half, .. }), AppendError::SegmentNotReady) =
            (item.events.first(), &error)
        {
            self.postponed.remove(half);
        }
        self.answer_in_turn((item.then)(Err(error)));
    }

    pub(super) fn landed(&mut self, items: Vec<Item>, placement: Placement) {
        let Some(table) = &mut self.table else {
            unreachable!("nothing is decided before the table is there")
        };
        let mut offsets = placement.events.into_iter();
        let mut answers = Vec::with_capacity(items.len());
        for (item, batch) in items.into_iter().zip(placement.batches) {
            let mut about = None;
            for (event, at) in item.events.iter().zip(&mut offsets) {
                table.apply(at, event);
                match event {
                    Event::Committed { .. } => self.ended.committed += 1,
                    Event::RolledBack { .. } => self.ended.rolled_back += 1,
                    Event::Expired { .. } => self.ended.expired += 1,
                    Event::Sent { .. }
                    | Event::Checked { .. }
                    | Event::CheckReturned { .. }
                    | Event::CheckAsked { .. } => {}
                }
                about = about.or(event.half());
                if let Event::Sent { half, sent } = event {
                    about = Some(*half);
                    if self.polls.is_waiting(&sent.group) {
                        let due = table.next_check_ms(&sent.group).unwrap_or(i64::MAX);
                        self.check_due_ms = self.check_due_ms.min(due);
                    }
                }
                if matches!(event, Event::CheckReturned { .. } | Event::CheckAsked { .. }) {
                    self.check_due_ms = i64::MIN;
                }
            }
            let Some(half) = about else { unreachable!("every decision is an event") };
            answers.push((item.then)(Ok(Landed { half, batch })));
        }
        let durable = self.partitions.wait_durable(placement.end);
        self.in_flight.push_back(InFlight { durable, answers });
    }

    pub(super) fn on_durable(&mut self, durable: &Result<(), LogFailed>) {
        let Some(group) = self.in_flight.pop_front() else { return };
        let durable = match durable {
            Ok(()) => Ok(()),
            Err(LogFailed::Io(_)) => Err(Unavailable::LogFailed),
            Err(LogFailed::Closed) => Err(Unavailable::Stopping),
        };
        group.answers.into_iter().for_each(|answer| answer(durable));
    }
}
