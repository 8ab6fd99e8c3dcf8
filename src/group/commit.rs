//! OffsetCommit and OffsetFetch.
//!
//! A commit is checked against the group as it is now, appended, and seen by fetches when it is
//! durable; commits of one group become visible in the order they were made.

use std::sync::Arc;

use super::classic::Group;
use super::error::{GroupError, GroupLogError, commit_error};
use super::offsets::Change;
use super::record::{OffsetValue, Record, TEXT_SIZE_BYTES_MAX};
use super::request::{
    CommitPartition, CommitRequest, CommitTopic, CommittedTopic, DeletedTopic, FetchRequest,
    FetchTopic, FetchedOffset, FetchedPartition, FetchedTopic,
};
use super::state::{AfterWrite, Core, Cx, Shard, State};
use super::step::{Effect, Now, Reply, RequestId, Token};
use crate::model::TopicId;

/// Changes to a group's offsets on their way into the log.
#[derive(Debug)]
pub(super) struct OffsetWrite {
    pub(super) group: Arc<str>,
    pub(super) changes: Vec<Change>,
    /// The group itself goes, too.
    pub(super) removes_group: bool,
    pub(super) answer: Answer,
}

/// Who is told when offsets were written.
#[derive(Debug)]
pub(super) enum Answer {
    Nobody,
    Commit(RequestId, Vec<CommittedTopic>),
    Delete(RequestId),
    DeleteOffsets(RequestId, Vec<DeletedTopic>),
}

impl OffsetWrite {
    /// The answer if the records did not become durable.
    pub(super) fn refusal(self, error: GroupError) -> Option<(RequestId, Reply)> {
        match self.answer {
            Answer::Nobody => None,
            Answer::Commit(to, _) => Some((to, Reply::Commit(Err(error)))),
            Answer::Delete(to) => Some((to, Reply::Delete(Err(error)))),
            Answer::DeleteOffsets(to, _) => Some((to, Reply::DeleteOffsets(Err(error)))),
        }
    }
}

impl Shard {
    pub(super) fn commit(
        &mut self,
        now: Now,
        to: RequestId,
        request: CommitRequest,
        effects: &mut Vec<Effect>,
    ) {
        if let Err(error) = self.check_commit(&request, false) {
            effects.push(Effect::Reply(to, Reply::Commit(Err(error))));
            return;
        }
        self.commit_checked(now, to, request, effects);
    }

    /// Whether a member may put offsets into a transaction, and which of them. As in Kafka, one
    /// that says nothing of its membership is taken at its word.
    pub(super) fn check_for_transaction(
        &mut self,
        now: Now,
        request: CommitRequest,
    ) -> Result<Vec<CommittedTopic>, GroupError> {
        let says_nothing = request.generation < 0
            && request.member_id.is_empty()
            && request.group_instance_id.is_none();
        if !says_nothing || request.group_id.len() > TEXT_SIZE_BYTES_MAX {
            self.check_commit(&request, true)?;
        }
        self.refresh_committer(now, &request.group_id, &request.member_id);
        let core = &self.core;
        let topics = request.topics.into_iter().map(|topic| {
            let CommitTopic { name, topic_id, partitions } = topic;
            let results = partitions.iter().map(|it| (it.partition, check_size(core, &name, it)));
            let partitions = results.collect();
            CommittedTopic { name, topic_id, partitions }
        });
        Ok(topics.collect())
    }

    /// Writes the offsets of a committed transaction.
    pub(super) fn commit_of_transaction(
        &mut self,
        now: Now,
        to: RequestId,
        request: CommitRequest,
        effects: &mut Vec<Effect>,
    ) {
        let group = self.groups.get(request.group_id.as_str());
        if group.is_some_and(|group| group.is_deleting) {
            let error = GroupError::CoordinatorLoadInProgress;
            effects.push(Effect::Reply(to, Reply::Commit(Err(error))));
            return;
        }
        self.commit_checked(now, to, request, effects);
    }

    fn commit_checked(
        &mut self,
        now: Now,
        to: RequestId,
        request: CommitRequest,
        effects: &mut Vec<Effect>,
    ) {
        let expire_ms =
            (request.retention_ms >= 0).then(|| now.wall_ms.saturating_add(request.retention_ms));
        let (mut changes, mut topics) = (Vec::new(), Vec::new());
        for topic in request.topics {
            topics.push(take_topic(now, &mut self.core, topic, expire_ms, &mut changes));
        }
        if changes.is_empty() {
            self.refresh_committer(now, &request.group_id, &request.member_id);
            effects.push(Effect::Reply(to, Reply::Commit(Ok(topics))));
            return;
        }
        self.group_or_new(now, &request.group_id);
        self.refresh_committer(now, &request.group_id, &request.member_id);
        self.with_group(now, &request.group_id, effects, |cx, group| {
            write_changes(cx, group, changes, Answer::Commit(to, topics));
        });
    }

    /// Whether a member may commit. `transactional`: as part of a transaction, where the member
    /// need not wait for its group, since its clients would take that for final.
    fn check_commit(&self, request: &CommitRequest, transactional: bool) -> Result<(), GroupError> {
        if request.group_id.len() > TEXT_SIZE_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        let Some(group) = self.groups.get(request.group_id.as_str()) else {
            // Not a member's commit: the group then consists of its offsets.
            let is_simple = request.generation < 0;
            return if is_simple { Ok(()) } else { Err(GroupError::GroupIdNotFound) };
        };
        if group.is_deleting {
            return Err(GroupError::CoordinatorLoadInProgress);
        }
        if request.generation < 0 && group.state() == State::Empty {
            return Ok(());
        }
        let instance_id = request.group_instance_id.as_deref();
        if request.generation >= 0 || !request.member_id.is_empty() || instance_id.is_some() {
            group.check_member(&request.member_id, instance_id)?;
            if request.generation != group.generation {
                return Err(GroupError::IllegalGeneration);
            }
        } else {
            return Err(GroupError::UnknownMemberId);
        }
        // The member has joined this generation, but does not know yet what it owns.
        if !transactional && group.state() == State::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit keeps its member's session going, like a heartbeat.
    fn refresh_committer(&mut self, now: Now, group_id: &str, member_id: &str) {
        if let Some(group) = self.groups.get_mut(group_id) {
            let mut cx = Cx { now, core: &mut self.core, effects: &mut Vec::new() };
            group.refresh_session(&mut cx, member_id);
        }
    }

    pub(super) fn offsets_written(
        &mut self,
        now: Now,
        mut written: OffsetWrite,
        result: Result<(), GroupLogError>,
        effects: &mut Vec<Effect>,
    ) {
        let changes = std::mem::take(&mut written.changes);
        let removes_group = written.removes_group;
        self.with_group(now, &written.group, effects, |cx, group| {
            group.in_flight -= 1;
            for change in changes {
                group.offsets.end(change, result.is_ok());
            }
            if removes_group {
                group.is_deleting = false;
                if result.is_ok() {
                    assert_eq!(group.in_flight, 0, "nothing is written to a group that goes");
                    group.reset(cx.now.wall_ms);
                }
            }
        });
        let reply = match result {
            Err(error) => {
                tracing::warn!(group = %written.group, %error, "could not store offsets");
                written.refusal(commit_error(error))
            }
            Ok(()) => match written.answer {
                Answer::Nobody => None,
                Answer::Commit(to, topics) => Some((to, Reply::Commit(Ok(topics)))),
                Answer::Delete(to) => Some((to, Reply::Delete(Ok(())))),
                Answer::DeleteOffsets(to, topics) => Some((to, Reply::DeleteOffsets(Ok(topics)))),
            },
        };
        effects.extend(reply.map(|(to, reply)| Effect::Reply(to, reply)));
    }

    pub(super) fn fetch(
        &mut self,
        _now: Now,
        to: RequestId,
        request: FetchRequest,
        effects: &mut Vec<Effect>,
    ) {
        let in_flight =
            self.groups.get(request.group_id.as_str()).is_some_and(|group| group.in_flight > 0);
        match self.core.last_in_flight() {
            Some(token) if request.require_stable && in_flight => {
                self.core.waiting_fetches.entry(token).or_default().push((to, request));
            }
            Some(_) | None => {
                effects.push(Effect::Reply(to, Reply::Fetch(Ok(self.committed(&request)))));
            }
        }
    }

    /// The durable offsets that a fetch asks for.
    pub(super) fn committed(&self, request: &FetchRequest) -> Vec<FetchedTopic> {
        let group = self.groups.get(request.group_id.as_str());
        match &request.topics {
            Some(topics) => topics.iter().map(|topic| fetch_topic(group, topic)).collect(),
            None => group.map(fetch_all).unwrap_or_default(),
        }
    }
}

/// Appends changes to a group's offsets.
pub(super) fn write_changes(
    cx: &mut Cx<'_>,
    group: &mut Group,
    changes: Vec<Change>,
    answer: Answer,
) -> Token {
    let records = changes.iter().map(|change| change_record(&group.id, change)).collect();
    for change in &changes {
        group.offsets.begin(change);
    }
    group.in_flight += 1;
    let group = Arc::clone(&group.id);
    cx.append(
        records,
        AfterWrite::Offsets(OffsetWrite { group, changes, removes_group: false, answer }),
    )
}

pub(super) fn change_record(group_id: &str, change: &Change) -> Record {
    match &change.value {
        Some(value) => Record::offset(group_id, &change.topic, change.partition, value),
        None => Record::offset_tombstone(group_id, &change.topic, change.partition),
    }
}

fn take_topic(
    now: Now,
    core: &mut Core,
    topic: CommitTopic,
    expire_ms: Option<i64>,
    changes: &mut Vec<Change>,
) -> CommittedTopic {
    let CommitTopic { name, topic_id, partitions } = topic;
    let mut results = Vec::with_capacity(partitions.len());
    for offset in partitions {
        let partition = offset.partition;
        let checked = check_size(core, &name, &offset);
        if checked.is_ok() {
            let value = Some(offset_value(now, topic_id, offset, expire_ms));
            changes.push(Change { topic: core.topics.intern(&name), partition, value });
        }
        results.push((partition, checked));
    }
    CommittedTopic { name, topic_id, partitions: results }
}

fn check_size(core: &Core, topic: &str, offset: &CommitPartition) -> Result<(), GroupError> {
    let note = offset.metadata.as_deref().unwrap_or_default();
    // Kafka counts the UTF-16 units its strings are made of, whatever the key is called.
    let units_max = core.config.offset_metadata_bytes_max;
    if note.len() > TEXT_SIZE_BYTES_MAX
        || (note.len() > units_max && note.encode_utf16().count() > units_max)
    {
        Err(GroupError::OffsetMetadataTooLarge)
    } else if topic.len() > TEXT_SIZE_BYTES_MAX {
        Err(GroupError::InvalidCommitOffsetSize)
    } else {
        Ok(())
    }
}

fn offset_value(
    now: Now,
    topic_id: TopicId,
    offset: CommitPartition,
    expire_ms: Option<i64>,
) -> OffsetValue {
    let note = offset.metadata.filter(|note| !note.is_empty());
    OffsetValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch.max(-1),
        metadata: note.map_or_else(Arc::default, Arc::from),
        commit_ms: now.wall_ms,
        expire_ms,
        topic_id,
    }
}

fn fetch_topic(group: Option<&Group>, topic: &FetchTopic) -> FetchedTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        let value = group.and_then(|group| group.offsets.committed(&topic.name, *partition));
        let value = value.filter(|value| is_same_topic(value.topic_id, topic.topic_id));
        FetchedPartition { partition: *partition, result: Ok(value.map(fetched)) }
    });
    FetchedTopic { name: Arc::from(topic.name.as_str()), partitions: partitions.collect() }
}

/// Ids that are not known agree with every other.
fn is_same_topic(stored: TopicId, asked: Option<TopicId>) -> bool {
    let asked = asked.unwrap_or(stored);
    stored.0.is_nil() || asked.0.is_nil() || stored == asked
}

fn fetch_all(group: &Group) -> Vec<FetchedTopic> {
    let mut topics = Vec::new();
    for (name, offsets) in group.offsets.all_committed() {
        let partitions: Vec<FetchedPartition> = offsets
            .map(|(partition, value)| FetchedPartition {
                partition,
                result: Ok(Some(fetched(value))),
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(FetchedTopic { name: Arc::clone(name), partitions });
        }
    }
    topics
}

fn fetched(value: &OffsetValue) -> FetchedOffset {
    FetchedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: Arc::clone(&value.metadata),
    }
}
