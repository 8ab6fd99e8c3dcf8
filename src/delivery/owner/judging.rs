//! What consumers say about their messages, gathered over a pass and written in one batch.
//!
//! Two verdicts about one message are never in one batch: the second is judged when the first is
//! taken in, so that it sees what the first did.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Owner, Reply, Touched};
use crate::delivery::decide::{Verdict, judge};
use crate::delivery::error::LeaseError;
use crate::delivery::event::{Change, Event, PartKey};
use crate::delivery::receipt::Receipt;
use crate::delivery::settings::GroupSettings;

/// Changes that are written together at most.
const CHANGES_MAX: usize = 10_000;

type Answers = Vec<Result<(), LeaseError>>;

/// Verdicts of a pass.
#[derive(Debug, Default)]
pub(super) struct Judging {
    requests: Vec<(Answers, Reply<Answers>)>,
    /// Which answers (request, item) rest on the changes that are not written yet.
    resting: Vec<(usize, usize)>,
    acked: BTreeMap<PartKey, Vec<i64>>,
    others: Vec<(PartKey, Change)>,
    touched: Touched,
}

impl Owner {
    pub(super) fn judge(
        &mut self,
        group: &Arc<str>,
        items: Vec<(Receipt, Verdict)>,
        reply: Reply<Answers>,
    ) {
        let settings = self.catalog.settings(group);
        let request = self.judging.requests.len();
        self.judging.requests.push((Vec::with_capacity(items.len()), reply));
        for (item, (receipt, verdict)) in items.into_iter().enumerate() {
            let judged = self.judge_one(group, &receipt, &verdict, &settings);
            if let Ok(true) = judged {
                self.judging.resting.push((request, item));
            }
            self.judging.requests[request].0.push(judged.map(|_| ()));
        }
    }

    /// Says whether something is to be written.
    fn judge_one(
        &mut self,
        group: &Arc<str>,
        receipt: &Receipt,
        verdict: &Verdict,
        settings: &GroupSettings,
    ) -> Result<bool, LeaseError> {
        verdict.check()?;
        if receipt.group_hash != Receipt::hash_of(group) {
            return Err(LeaseError::OtherGroup);
        }
        let key = PartKey {
            group: Arc::clone(group),
            topic: receipt.topic,
            partition: receipt.partition,
        };
        let at = (key, receipt.offset);
        if self.judging.touched.contains(&at) || self.judging.touched.len() >= CHANGES_MAX {
            self.write_judging();
        }
        let part = self.table.part(&at.0).ok_or(LeaseError::Unknown)?;
        let Some(change) = judge(part, self.now_ms(), receipt, verdict, settings)? else {
            return Ok(false);
        };
        let (key, offset) = at.clone();
        self.judging.touched.insert(at);
        match change {
            Change::Acked { .. } => self.judging.acked.entry(key).or_default().push(offset),
            change => self.judging.others.push((key, change)),
        }
        Ok(true)
    }

    /// Appends what is gathered; the requests go on.
    fn write_judging(&mut self) {
        let acked =
            std::mem::take(&mut self.judging.acked).into_iter().map(|(key, mut offsets)| {
                offsets.sort_unstable();
                Event::Part { key, change: Change::Acked { offsets } }
            });
        let others = std::mem::take(&mut self.judging.others);
        let others = others.into_iter().map(|(key, change)| Event::Part { key, change });
        let events: Vec<Event> = acked.chain(others).collect();
        self.judging.touched.clear();
        let resting = std::mem::take(&mut self.judging.resting);
        if events.is_empty() {
            return;
        }
        // What is released or archived may let others of its message group go on.
        let lines = events.iter().filter_map(|event| match event {
            Event::Part { key, .. } => Some((Arc::clone(&key.group), key.topic)),
            Event::GroupDeleted { .. } | Event::TopicDeleted { .. } => None,
        });
        let lines: Vec<_> = lines.filter(|line| self.lines.contains_key(line)).collect();
        self.marked.extend(lines);
        if let Err(why) = self.append(events) {
            for (request, item) in resting {
                // The item that is being judged now has no answer yet and is not among these.
                if let Some(answer) = self.judging.requests[request].0.get_mut(item) {
                    *answer = Err(why.into());
                }
            }
        }
    }

    /// Appends what is gathered, and answers when it is durable.
    pub(super) fn flush_judging(&mut self) {
        self.write_judging();
        for (results, reply) in std::mem::take(&mut self.judging.requests) {
            self.answer(move |durable| {
                let results = match durable {
                    Ok(()) => results,
                    Err(why) => results.iter().map(|_| Err(why.into())).collect(),
                };
                let _gone = reply.send(results);
            });
        }
    }
}
