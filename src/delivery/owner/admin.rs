//! What operators ask for: groups, how far they are, reset, deletion.

use std::sync::Arc;

use super::{Owner, Reply};
use crate::delivery::decide::deliverable;
use crate::delivery::error::{ReceiveError, Unavailable};
use crate::delivery::event::{Change, Event, PartKey, State};
use crate::delivery::look::readable_to;
use crate::delivery::part::Part;
use crate::delivery::request::{GroupSummary, Progress};
use crate::delivery::settings::GroupSettings;
use crate::model::TopicId;

impl Owner {
    pub(super) fn groups(&self) -> Vec<GroupSummary> {
        let summary = |group: &Arc<str>| {
            let mut topics = Vec::new();
            let mut undone = 0;
            for (key, part) in self.table.parts_of(group).into_iter().flatten() {
                if topics.last() != Some(&key.topic) {
                    topics.push(key.topic);
                }
                undone += part.undone();
            }
            GroupSummary { group: Arc::clone(group), topics, undone }
        };
        self.table.groups().map(summary).collect()
    }

    /// How far a group is; `None` if there is none.
    pub(super) fn progress(&self, group: &str) -> Option<Vec<Progress>> {
        let parts = self.table.parts_of(group)?;
        let settings = self.catalog.settings(group);
        let progress = parts.filter_map(|(key, part)| {
            let queue = self.catalog.topic(key.topic)?.queue(key.partition)?;
            let log_start = self.partitions.offsets(queue).log_start.0;
            let range = log_start..readable_to(&self.partitions, queue);
            Some(progress_in(&key, part, range, &settings, self.now_ms()))
        });
        Some(progress.collect())
    }

    /// Those of the offsets that are not done.
    pub(super) fn undone(&self, key: &PartKey, mut offsets: Vec<i64>) -> Vec<i64> {
        if let Some(part) = self.table.part(key) {
            offsets.retain(|offset| !part.is_done(*offset));
        }
        offsets
    }

    pub(super) fn on_reset(
        &mut self,
        group: &Arc<str>,
        topic: TopicId,
        offsets: &[(i32, i64)],
        reply: Reply<Result<(), Unavailable>>,
    ) {
        self.flush_judging();
        let now_ms = self.now_ms();
        let mut events = Vec::new();
        for (partition, to) in offsets {
            let key = PartKey { group: Arc::clone(group), topic, partition: *partition };
            let before = self.table.part(&key).map_or(0, Part::generation);
            // Handles of before must not fit what is delivered after.
            let generation = now_ms.max(before.saturating_add(1));
            events.push(Event::Part { key, change: Change::Reset { to: *to, generation } });
        }
        let result = if events.is_empty() { Ok(()) } else { self.append(events) };
        let line = (Arc::clone(group), topic);
        if self.lines.contains_key(&line) {
            self.marked.insert(line);
        }
        self.answer_with(result, reply);
    }

    pub(super) fn on_delete_group(
        &mut self,
        group: &Arc<str>,
        reply: Reply<Result<bool, Unavailable>>,
    ) {
        self.flush_judging();
        let is_known = self.table.parts_of(group).is_some();
        let result = if is_known {
            let parts = self.table.parts_of(group).into_iter().flatten();
            let keys: Vec<PartKey> = parts.map(|(key, _)| key).collect();
            let result = self.append(vec![Event::GroupDeleted { group: Arc::clone(group) }]);
            if result.is_ok() {
                self.forget(&keys);
            }
            result.map(|()| true)
        } else {
            Ok(false)
        };
        self.answer_with(result, reply);
    }

    pub(super) fn on_topic_deleted(
        &mut self,
        topic: TopicId,
        reply: Reply<Result<(), Unavailable>>,
    ) {
        self.flush_judging();
        let mut result = Ok(());
        if self.table.is_read(topic) {
            let parts = self.table.parts().filter(|(key, _)| key.topic == topic);
            let keys: Vec<PartKey> = parts.map(|(key, _)| key).collect();
            result = self.append(vec![Event::TopicDeleted { topic }]);
            if result.is_ok() {
                self.forget(&keys);
            }
        }
        let lines = self.lines.keys().filter(|(_, of)| *of == topic).cloned();
        for line in lines.collect::<Vec<_>>() {
            if let Some(line) = self.take_line(&line) {
                line.refuse_all(&ReceiveError::UnknownTopic);
            }
        }
        self.answer_with(result, reply);
    }

    /// Drops what is remembered beside the table.
    fn forget(&mut self, keys: &[PartKey]) {
        for key in keys {
            self.drop_shelf(key);
            self.dying.remove(key);
            self.enter_into_agenda(key);
        }
    }

    fn answer_with<T: Send + 'static>(
        &mut self,
        result: Result<T, Unavailable>,
        reply: Reply<Result<T, Unavailable>>,
    ) {
        self.answer(move |durable| {
            let _gone = reply.send(durable.and(result));
        });
    }
}

fn progress_in(
    key: &PartKey,
    part: &Part,
    range: std::ops::Range<i64>,
    settings: &GroupSettings,
    now_ms: i64,
) -> Progress {
    let (log_start, end) = (range.start, range.end);
    let mut undone = 0;
    let mut in_flight = 0;
    let mut archiving = 0;
    for (_, entry) in part.entries().filter(|(offset, _)| *offset >= log_start) {
        undone += 1;
        match entry.state {
            State::Acquired => in_flight += usize::from(entry.time_ms > now_ms),
            State::Archiving => archiving += 1,
            State::Available => {}
        }
    }
    // Retention may have taken what was not looked at.
    let cut = (log_start.min(end) - part.scanned_to()).max(0);
    let unscanned = (part.unscanned(end) - cut).max(0);
    let again = deliverable(part, now_ms, settings, usize::MAX).len();
    Progress {
        topic: key.topic,
        partition: key.partition,
        start_offset: part.start().max(log_start),
        scanned_to: part.scanned_to().max(log_start),
        high_watermark: end,
        lag: unscanned + undone,
        in_flight,
        ready: unscanned.saturating_add_unsigned(again as u64),
        archiving,
    }
}
