//! One classic group: its members, its generation, its offsets.
//!
//! Here is what a group is and which of its counts belong together; how it moves from state to
//! state is in `join`, `rebalance`, `sync` and `leave`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::GroupError;
use super::join::StaticReplacement;
use super::member::Member;
use super::offsets::Offsets;
use super::request::JoinedMember;
use super::state::{Cx, State};
use super::timers::Alarm;

mod parked;
mod protocols;
mod recorded;

#[cfg(test)]
mod check;

use parked::session_key;

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Arc<str>,
    state: State,
    /// When the state was entered, by the wall clock; `None` if an old record does not say.
    pub(super) state_since_ms: Option<i64>,
    /// `None`: never had a member; it only commits offsets.
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol_name: Option<Arc<str>>,
    pub(super) generation: i32,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Instance id to member id.
    static_members: HashMap<Arc<str>, Arc<str>>,
    /// Ids handed out whose members have not joined with them yet.
    pending: BTreeMap<Arc<str>, Alarm>,
    /// Members with a join that is not answered.
    joining_count: usize,
    /// How many members support a protocol.
    supporters: HashMap<Arc<str>, usize>,
    /// Members of this generation that have not sent a sync.
    pub(super) unsynced: BTreeSet<Arc<str>>,
    /// `None`: not known, because the members' subscriptions cannot be read.
    subscribed_topics: Option<HashSet<Box<str>>>,
    pub(super) join_phase: Alarm,
    /// Set during the initial rebalance: how the join phase goes on when its alarm rings.
    pub(super) initial_delay: Option<InitialDelay>,
    pub(super) sync_phase: Alarm,
    /// The leader's assignment for this generation is being written.
    pub(super) assignment_in_flight: bool,
    pub(super) offsets: Offsets,
    /// Writes about this group that are not reported yet.
    pub(super) in_flight: usize,
    /// The value of the group's last durable record, if it has one.
    pub(super) recorded: Option<Bytes>,
    /// Records of the group that are not reported yet.
    pub(super) recording: usize,
    /// Replacements whose own record failed while later ones, which say them as well, are under way.
    pub(super) unsettled: Vec<StaticReplacement>,
    /// The group's removal is being written.
    pub(super) is_deleting: bool,
}

/// The initial rebalance waits in steps, as long as members keep coming.
#[derive(Debug, Clone, Copy)]
pub(super) struct InitialDelay {
    pub(super) step: Duration,
    pub(super) remaining: Duration,
    /// A member came during this step.
    pub(super) member_came: bool,
}

impl Group {
    pub(super) fn new(id: Arc<str>, wall_ms: i64) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since_ms: Some(wall_ms),
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending: BTreeMap::new(),
            joining_count: 0,
            supporters: HashMap::new(),
            unsynced: BTreeSet::new(),
            subscribed_topics: None,
            join_phase: Alarm::default(),
            initial_delay: None,
            sync_phase: Alarm::default(),
            assignment_in_flight: false,
            offsets: Offsets::default(),
            in_flight: 0,
            recorded: None,
            recording: 0,
            unsettled: Vec::new(),
            is_deleting: false,
        }
    }

    /// Forgets everything but the offsets.
    pub(super) fn reset(&mut self, wall_ms: i64) {
        let offsets = std::mem::take(&mut self.offsets);
        *self = Self::new(Arc::clone(&self.id), wall_ms);
        self.offsets = offsets;
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether the rebalance under way is the first one of an empty group.
    pub(super) fn is_initial_rebalance(&self) -> bool {
        self.initial_delay.is_some()
    }

    pub(super) fn enter(&mut self, state: State, wall_ms: i64) {
        let legal = match state {
            State::Empty | State::CompletingRebalance => self.state == State::PreparingRebalance,
            State::PreparingRebalance => self.state != State::PreparingRebalance,
            State::Stable => self.state == State::CompletingRebalance,
        };
        assert!(legal, "group {}: from {} to {state}", self.id, self.state);
        self.state = state;
        self.state_since_ms = Some(wall_ms);
    }

    /// Nothing is known about the group that a fresh one would not know.
    pub(super) fn is_nothing(&self) -> bool {
        self.state == State::Empty
            && self.generation == 0
            && self.recorded.is_none()
            && self.pending.is_empty()
            && self.in_flight == 0
            && self.offsets.is_empty()
    }

    // ---- members

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(super) fn member_ids(&self) -> Vec<Arc<str>> {
        self.members.keys().map(Arc::clone).collect()
    }

    pub(super) fn member(&self, member_id: &str) -> Option<&Member> {
        self.members.get(member_id)
    }

    pub(super) fn member_mut(&mut self, member_id: &str) -> Option<&mut Member> {
        self.members.get_mut(member_id)
    }

    pub(super) fn size(&self) -> usize {
        self.members.len()
    }

    pub(super) fn joining_count(&self) -> usize {
        self.joining_count
    }

    pub(super) fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn static_member(&self, instance_id: &str) -> Option<&Arc<str>> {
        self.static_members.get(instance_id)
    }

    /// Adds a member that is not there yet; its join, if it has one, is counted.
    pub(super) fn insert(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&member.id));
        }
        self.joining_count += usize::from(member.joining.is_some());
        self.count_supporter(&member.protocols);
        let replaced = self.members.insert(Arc::clone(&member.id), member);
        assert!(replaced.is_none(), "a member is inserted once");
    }

    /// Removes a member whose parked requests are answered.
    fn remove(&mut self, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        assert!(member.joining.is_none() && member.syncing.is_none(), "an answer would be lost");
        self.uncount_supporter(&member.protocols);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.unsynced.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().map(Arc::clone);
        }
    }

    /// Removes a member; what it waits for is refused.
    pub(super) fn expel(&mut self, cx: &mut Cx<'_>, member_id: &str, error: GroupError) {
        self.answer_join(cx, member_id, error);
        self.answer_sync(cx, member_id, error);
        self.remove(member_id);
    }

    /// Gives a static member a new id; everything else stays.
    pub(super) fn rename(&mut self, old: &str, new: &Arc<str>) {
        let Some(mut member) = self.members.remove(old) else { return };
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(new));
        }
        if self.is_leader(old) {
            self.leader = Some(Arc::clone(new));
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(Arc::clone(new));
        }
        member.id = Arc::clone(new);
        // The entries in the queue of alarms name the old id.
        member.session = Alarm::default();
        self.members.insert(Arc::clone(new), member);
    }

    /// Whether `member_id` may speak for this group, and for `instance_id` if it names one.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if **holder != *member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    /// The rebalance waits for the slowest: the longest of the members' timeouts.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(Member::rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn members_for_leader(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| JoinedMember {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        members.collect()
    }

    /// Every known member has joined, and nobody is expected any more.
    pub(super) fn all_joined(&self) -> bool {
        self.joining_count == self.members.len() && self.pending.is_empty()
    }

    /// Keeps the leader if it has joined, else takes a member that has. False: nobody has.
    pub(super) fn elect_leader(&mut self) -> bool {
        let has_joined = |member: &Member| member.joining.is_some();
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.values().find(|member| has_joined(member));
        match joined.map(|member| Arc::clone(&member.id)) {
            Some(member_id) => {
                self.leader = Some(member_id);
                true
            }
            None => false,
        }
    }

    // ---- pending ids

    pub(super) fn is_pending(&self, member_id: &str) -> bool {
        self.pending.contains_key(member_id)
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn add_pending(&mut self, cx: &mut Cx<'_>, member_id: &Arc<str>, timeout: Duration) {
        let due = cx.after(timeout);
        let alarm = self.pending.entry(Arc::clone(member_id)).or_default();
        let group = &self.id;
        cx.core.timers.arm(alarm, due, || session_key(group, member_id));
    }

    /// The pending id's alarm, which goes on as the member's session.
    pub(super) fn take_pending(&mut self, member_id: &str) -> Option<Alarm> {
        self.pending.remove(member_id)
    }
}
