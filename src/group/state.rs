//! [`Shard`]: all groups of one partition of `__consumer_offsets`, as a pure state machine.
//!
//! `step` takes one input and the time, and says what is to be done: records to append, answers to
//! give. Records carry a [`Token`]; the owner reports each token back, in the order they were handed
//! out, once its records are durable or have failed. Only then is what depends on them visible or
//! answered. Deadlines are the owner's to watch: `next_deadline`, then a tick.
//!
//! Invariant: a [`RequestId`] handed in comes out in exactly one reply.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::classic::Group;
use super::commit::OffsetWrite;
use super::error::{GroupError, GroupLogError};
use super::join::{StaticReplacement, settle_replacements, static_replacement_written};
use super::record::Record;
use super::request::FetchRequest;
use super::restate::Restating;
use super::step::{Effect, Input, Now, Reply, Request, RequestId, Token};
use super::sync::{Assignment, assignment_written};
use super::timers::{Alarm, AlarmKey, Timers};
use crate::config::GroupConfig;

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Members join; the others have to come back.
    PreparingRebalance,
    /// Everybody has joined; the leader's assignment is awaited.
    CompletingRebalance,
    /// Every member may have its assignment.
    Stable,
}

impl State {
    /// Kafka's name of the state. A group that does not exist is called `Dead` there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All groups of one partition.
#[derive(Debug)]
pub struct Shard {
    pub(super) groups: HashMap<Arc<str>, Group>,
    pub(super) core: Core,
}

/// What every group needs of its shard.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: GroupConfig,
    pub(super) timers: Timers,
    pub(super) retention: Alarm,
    pub(super) topics: TopicNames,
    next_token: u64,
    /// Appended, not yet reported; oldest first.
    writes: VecDeque<(Token, AfterWrite)>,
    /// Fetches that wait until a token is reported.
    pub(super) waiting_fetches: BTreeMap<Token, Vec<(RequestId, FetchRequest)>>,
    pub(super) restating: Option<Restating>,
}

/// What happens once records are durable, or have failed.
#[derive(Debug)]
pub(super) enum AfterWrite {
    /// Offsets were set or removed.
    Offsets(OffsetWrite),
    /// A group's record was written.
    Group(GroupWrite),
    /// What is known was said once more.
    Restated,
}

/// A group's record on its way into the log.
#[derive(Debug)]
pub(super) struct GroupWrite {
    pub(super) group: Arc<str>,
    pub(super) recorded: Bytes,
    pub(super) cause: GroupWriteCause,
}

/// Why a group's record is written.
#[derive(Debug)]
pub(super) enum GroupWriteCause {
    /// Its leader has sent an assignment.
    Assignment(Assignment),
    /// A static member took its predecessor's place.
    StaticReplacement(StaticReplacement),
    /// It became empty: nobody waits.
    Emptied,
}

/// A step under way: the time, the shard's common parts, and what came out so far.
pub(super) struct Cx<'a> {
    pub(super) now: Now,
    pub(super) core: &'a mut Core,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Cx<'_> {
    pub(super) fn reply(&mut self, to: RequestId, reply: Reply) {
        self.effects.push(Effect::Reply(to, reply));
    }

    /// Appends records; `after` happens when they are reported.
    pub(super) fn append(&mut self, records: Vec<Record>, after: AfterWrite) -> Token {
        let token = Token(self.core.next_token);
        self.core.next_token += 1;
        self.core.writes.push_back((token, after));
        self.effects.push(Effect::Append(token, records));
        token
    }

    /// The moment `timeout` from now.
    pub(super) fn after(&self, timeout: Duration) -> Duration {
        self.now.monotonic.saturating_add(timeout)
    }
}

impl Core {
    /// The last token that is not reported yet.
    pub(super) fn last_in_flight(&self) -> Option<Token> {
        self.writes.back().map(|(token, _)| *token)
    }
}

/// Topic names, each held once however many offsets use it.
#[derive(Debug, Default)]
pub(super) struct TopicNames(HashSet<Arc<str>>);

impl TopicNames {
    pub(super) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = Arc::from(name);
        self.0.insert(Arc::clone(&name));
        name
    }

    /// Forgets names nobody uses any more.
    pub(super) fn purge(&mut self) {
        self.0.retain(|name| Arc::strong_count(name) > 1);
    }
}

impl Shard {
    /// A shard that knows nothing yet. Replay its partition's records, then call `loaded`.
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            groups: HashMap::new(),
            core: Core {
                config,
                timers: Timers::default(),
                retention: Alarm::default(),
                topics: TopicNames::default(),
                next_token: 0,
                writes: VecDeque::new(),
                waiting_fetches: BTreeMap::new(),
                restating: None,
            },
        }
    }

    /// When the next tick is due, by the monotonic clock. A tick that comes early does no harm.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.core.timers.next_deadline()
    }

    /// Takes one input; what is to be done is added to `effects`.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Request(to, request) => self.request(now, to, request, effects),
            Input::Written(token, result) => self.written(now, token, result, effects),
            Input::TopicDeleted { name, topic_id } => {
                self.topic_deleted(now, &name, topic_id, effects);
            }
            Input::Tick => self.tick(now, effects),
            Input::Restate => self.restate(now, effects),
            Input::Resign => self.resign(now, effects),
        }
    }

    fn request(&mut self, now: Now, to: RequestId, request: Request, effects: &mut Vec<Effect>) {
        let reply = match request {
            Request::Join(request, fresh) => return self.join(now, to, &request, fresh, effects),
            Request::Sync(request) => return self.sync(now, to, &request, effects),
            Request::Commit(request) => return self.commit(now, to, request, effects),
            Request::CheckForTransaction(request) => {
                Reply::Commit(self.check_for_transaction(now, request))
            }
            Request::CommitOfTransaction(request) => {
                return self.commit_of_transaction(now, to, request, effects);
            }
            Request::Fetch(request) => return self.fetch(now, to, request, effects),
            Request::Delete(group_id) => return self.delete(now, to, &group_id, effects),
            Request::DeleteOffsets(request) => {
                return self.delete_offsets(now, to, request, effects);
            }
            Request::Heartbeat(request) => Reply::Heartbeat(self.heartbeat(now, &request)),
            Request::Leave(request) => Reply::Leave(self.leave(now, request, effects)),
            Request::Describe(group_id) => Reply::Describe(self.describe(&group_id)),
        };
        effects.push(Effect::Reply(to, reply));
    }

    fn written(
        &mut self,
        now: Now,
        token: Token,
        result: Result<(), GroupLogError>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((expected, after)) = self.core.writes.pop_front() else {
            unreachable!("{token:?} was reported, and nothing is in flight")
        };
        assert_eq!(expected, token, "tokens are reported in order");
        let was_piece = matches!(after, AfterWrite::Restated);
        match after {
            AfterWrite::Offsets(write) => self.offsets_written(now, write, result, effects),
            AfterWrite::Group(write) => self.group_written(now, write, result, effects),
            AfterWrite::Restated => {}
        }
        self.restating_goes_on(now, token, was_piece, result, effects);
        for (to, request) in self.core.waiting_fetches.remove(&token).unwrap_or_default() {
            effects.push(Effect::Reply(to, Reply::Fetch(Ok(self.committed(&request)))));
        }
    }

    fn group_written(
        &mut self,
        now: Now,
        write: GroupWrite,
        result: Result<(), GroupLogError>,
        effects: &mut Vec<Effect>,
    ) {
        let GroupWrite { group: group_id, recorded, cause } = write;
        self.with_group(now, &group_id, effects, |cx, group| {
            group.in_flight -= 1;
            group.recording -= 1;
            match result {
                Ok(()) => group.recorded = Some(recorded),
                Err(error) => tracing::warn!(group = %group.id, %error, "could not be stored"),
            }
            match cause {
                GroupWriteCause::Assignment(assignment) => {
                    assignment_written(cx, group, assignment, result);
                }
                GroupWriteCause::StaticReplacement(replacement) => {
                    static_replacement_written(cx, group, replacement, result);
                }
                // If that could not be stored the generation before becomes active again after a
                // restart, and times out: harmless.
                GroupWriteCause::Emptied => {}
            }
            settle_replacements(cx, group, result.is_ok());
        });
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some((queued, key)) = self.core.timers.pop(now.monotonic) {
            match &key {
                AlarmKey::Session { group, member } => {
                    self.session_up(now, queued, group, member, effects);
                }
                AlarmKey::JoinPhase { group } => self.join_phase_up(now, queued, group, effects),
                AlarmKey::SyncPhase { group } => self.sync_phase_up(now, queued, group, effects),
                AlarmKey::Retention => self.retention_up(now, queued, effects),
            }
        }
    }

    /// Answers everything that still waits; the log belongs to somebody else now.
    fn resign(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for group_id in self.group_ids() {
            self.with_group(now, &group_id, effects, |cx, group| {
                group.answer_all_parked(cx, GroupError::NotCoordinator);
            });
        }
        for (_, after) in std::mem::take(&mut self.core.writes) {
            let answer = match after {
                AfterWrite::Offsets(write) => write.refusal(GroupError::NotCoordinator),
                AfterWrite::Group(_) | AfterWrite::Restated => None,
            };
            effects.extend(answer.map(|(to, reply)| Effect::Reply(to, reply)));
        }
        let waiting = std::mem::take(&mut self.core.waiting_fetches);
        for (to, _) in waiting.into_values().flatten() {
            effects.push(Effect::Reply(to, Reply::Fetch(Err(GroupError::NotCoordinator))));
        }
        self.groups.clear();
    }

    /// Runs `body` on a group, and drops the group if there is nothing left to know about it.
    pub(super) fn with_group<R>(
        &mut self,
        now: Now,
        group_id: &str,
        effects: &mut Vec<Effect>,
        body: impl FnOnce(&mut Cx<'_>, &mut Group) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(group_id)?;
        let result = body(&mut Cx { now, core: &mut self.core, effects }, group);
        if group.is_nothing() {
            self.groups.remove(group_id);
        }
        Some(result)
    }

    /// All groups, in an order that is the same each time.
    pub(super) fn group_ids(&self) -> Vec<Arc<str>> {
        let mut ids: Vec<Arc<str>> = self.groups.keys().map(Arc::clone).collect();
        ids.sort_unstable();
        ids
    }

    /// The group of this id, made if it does not exist.
    pub(super) fn group_or_new(&mut self, now: Now, group_id: &str) -> &mut Group {
        if !self.groups.contains_key(group_id) {
            let id: Arc<str> = Arc::from(group_id);
            self.groups.insert(Arc::clone(&id), Group::new(id, now.wall_ms));
        }
        let Some(group) = self.groups.get_mut(group_id) else {
            unreachable!("it was there, or has just been made")
        };
        group
    }
}

#[cfg(test)]
impl Shard {
    /// What must hold between any two steps.
    pub(super) fn check(&self) {
        for (id, group) in &self.groups {
            assert_eq!(id, &group.id);
            group.check();
        }
        let about = |id: &Arc<str>| {
            let writes = self.core.writes.iter().filter(|(_, after)| match after {
                AfterWrite::Offsets(write) => write.group == *id,
                AfterWrite::Group(write) => write.group == *id,
                AfterWrite::Restated => false,
            });
            writes.count()
        };
        for group in self.groups.values() {
            assert_eq!(about(&group.id), group.in_flight, "writes are counted");
        }
    }
}
