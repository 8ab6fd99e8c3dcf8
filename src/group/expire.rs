//! How groups and offsets go: asked for, out of date, or with their topic.
//!
//! Every removal is a tombstone in the log first. While a whole group's removal is being written,
//! the group takes no joins and no commits (they are told to come back), so that nothing is
//! written behind its back.

use std::sync::Arc;
use std::time::Duration;

use super::classic::Group;
use super::commit::{Answer, OffsetWrite, change_record, write_changes};
use super::error::GroupError;
use super::offsets::Change;
use super::record::{OffsetValue, Record};
use super::request::{DeleteOffsetsRequest, DeletedTopic};
use super::state::{AfterWrite, Cx, Shard, State};
use super::step::{Effect, Now, Reply, RequestId};
use super::timers::AlarmKey;
use crate::model::TopicId;

/// Removals written at once; a batch must not grow with the group.
const REMOVALS_MAX: usize = 1_000;

impl Shard {
    /// DeleteGroups, for one group.
    pub(super) fn delete(
        &mut self,
        now: Now,
        to: RequestId,
        group_id: &str,
        effects: &mut Vec<Effect>,
    ) {
        let checked = match self.groups.get(group_id) {
            None => Err(GroupError::GroupIdNotFound),
            Some(group) if group.is_deleting => Err(GroupError::CoordinatorLoadInProgress),
            Some(group) if group.state() == State::Empty => Ok(()),
            Some(_) => Err(GroupError::NonEmptyGroup),
        };
        if let Err(error) = checked {
            effects.push(Effect::Reply(to, Reply::Delete(Err(error))));
            return;
        }
        self.with_group(now, group_id, effects, |cx, group| {
            let removals = group.offsets.removals(|_, _| true);
            write_removals(cx, group, removals, true, Answer::Delete(to));
        });
    }

    /// OffsetDelete.
    pub(super) fn delete_offsets(
        &mut self,
        now: Now,
        to: RequestId,
        request: DeleteOffsetsRequest,
        effects: &mut Vec<Effect>,
    ) {
        let checked = match self.groups.get(request.group_id.as_str()) {
            _ if request.group_id.is_empty() => Err(GroupError::InvalidGroupId),
            None => Err(GroupError::GroupIdNotFound),
            Some(group) if group.is_deleting => Err(GroupError::CoordinatorLoadInProgress),
            Some(group) if group.allows_offset_deletion() => Ok(()),
            Some(_) => Err(GroupError::NonEmptyGroup),
        };
        if let Err(error) = checked {
            effects.push(Effect::Reply(to, Reply::DeleteOffsets(Err(error))));
            return;
        }
        let DeleteOffsetsRequest { group_id, topics } = request;
        self.with_group(now, &group_id, effects, |cx, group| {
            let (mut removals, mut results) = (Vec::new(), Vec::new());
            for (name, partitions) in topics {
                results.push(take_removals(cx, group, name, partitions, &mut removals));
            }
            if removals.is_empty() {
                cx.reply(to, Reply::DeleteOffsets(Ok(results)));
            } else {
                let answer = Answer::DeleteOffsets(to, results);
                write_removals(cx, group, removals, false, answer);
            }
        });
    }

    /// Drops the offsets of a topic that no longer exists.
    pub(super) fn topic_deleted(
        &mut self,
        now: Now,
        name: &str,
        topic_id: TopicId,
        effects: &mut Vec<Effect>,
    ) {
        for group_id in self.group_ids() {
            self.with_group(now, &group_id, effects, |cx, group| {
                // What is on its way was committed for a topic that may be a newer one.
                let removals = group.offsets.removals(|topic, settled| {
                    topic == name
                        && settled.is_some_and(|value| {
                            value.topic_id.0.is_nil() || value.topic_id == topic_id
                        })
                });
                if !removals.is_empty() && !group.is_deleting {
                    write_removals(cx, group, removals, false, Answer::Nobody);
                }
            });
        }
    }

    /// Looks for expired offsets, and for groups that have nothing left.
    pub(super) fn retention_up(&mut self, now: Now, queued: Duration, effects: &mut Vec<Effect>) {
        let core = &mut self.core;
        let rings =
            core.timers.rings(&mut core.retention, queued, now.monotonic, || AlarmKey::Retention);
        if !rings {
            return;
        }
        for group_id in self.group_ids() {
            self.with_group(now, &group_id, effects, expire);
        }
        self.core.topics.purge();
        self.arm_retention(now);
    }

    pub(super) fn arm_retention(&mut self, now: Now) {
        let core = &mut self.core;
        let due = now.monotonic + core.config.offsets_retention_check_interval;
        core.timers.arm(&mut core.retention, due, || AlarmKey::Retention);
    }
}

fn take_removals(
    cx: &mut Cx<'_>,
    group: &Group,
    name: String,
    partitions: Vec<i32>,
    removals: &mut Vec<Change>,
) -> DeletedTopic {
    let is_subscribed = group.is_subscribed(&name);
    let results = partitions.into_iter().map(|partition| {
        if is_subscribed {
            return (partition, Err(GroupError::GroupSubscribedToTopic));
        }
        if group.offsets.is_known(&name, partition) {
            let topic = cx.core.topics.intern(&name);
            removals.push(Change { topic, partition, value: None });
        }
        (partition, Ok(()))
    });
    DeletedTopic { partitions: results.collect(), name }
}

/// Appends removals in pieces; the last piece takes the group along and is answered.
fn write_removals(
    cx: &mut Cx<'_>,
    group: &mut Group,
    mut removals: Vec<Change>,
    removes_group: bool,
    answer: Answer,
) {
    while removals.len() > REMOVALS_MAX {
        let rest = removals.split_off(REMOVALS_MAX);
        write_changes(cx, group, removals, Answer::Nobody);
        removals = rest;
    }
    if !removes_group {
        write_changes(cx, group, removals, answer);
        return;
    }
    let mut records: Vec<Record> =
        removals.iter().map(|change| change_record(&group.id, change)).collect();
    if group.recorded.is_some() || group.recording > 0 || records.is_empty() {
        records.push(Record::group_tombstone(&group.id));
    }
    for change in &removals {
        group.offsets.begin(change);
    }
    group.in_flight += 1;
    group.is_deleting = true;
    let write = OffsetWrite {
        group: Arc::clone(&group.id),
        changes: removals,
        removes_group: true,
        answer,
    };
    cx.append(records, AfterWrite::Offsets(write));
}

fn expire(cx: &mut Cx<'_>, group: &mut Group) {
    if group.is_deleting {
        return;
    }
    let now_ms = cx.now.wall_ms;
    let retention_ms =
        i64::try_from(cx.core.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
    let counts_from = retention_base(group);
    let is_expired = |value: &OffsetValue| match (value.expire_ms, counts_from) {
        (_, RetentionBase::Never) => false,
        (Some(expire_ms), _) => now_ms >= expire_ms,
        (None, RetentionBase::Commit) => now_ms - value.commit_ms >= retention_ms,
        (None, RetentionBase::Since(since_ms)) => now_ms - since_ms >= retention_ms,
    };
    let removals = group
        .offsets
        .removals(|topic, settled| !group.is_subscribed(topic) && settled.is_some_and(is_expired));
    let nothing_left = removals.len() == group.offsets.len();
    let goes = nothing_left
        && group.state() == State::Empty
        && group.in_flight == 0
        && !group.has_pending();
    if goes || !removals.is_empty() {
        tracing::info!(group = %group.id, offsets = removals.len(), goes, "offsets expired");
        write_removals(cx, group, removals, goes, Answer::Nobody);
    }
}

/// From when on an offset's retention counts.
#[derive(Debug, Clone, Copy)]
enum RetentionBase {
    Never,
    Commit,
    Since(i64),
}

fn retention_base(group: &Group) -> RetentionBase {
    match (group.state(), &group.protocol_type) {
        (_, None) => RetentionBase::Commit,
        (State::Empty, Some(_)) => {
            group.state_since_ms.map_or(RetentionBase::Commit, RetentionBase::Since)
        }
        (State::Stable, Some(_)) if group.knows_subscriptions() => RetentionBase::Commit,
        (State::Stable | State::PreparingRebalance | State::CompletingRebalance, Some(_)) => {
            RetentionBase::Never
        }
    }
}
