//! One classic group: its members, its generation, its offsets.
//!
//! Here is what a group is and which of its counts belong together; how it moves from state to
//! state is in `join`, `rebalance`, `sync` and `leave`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::GroupError;
use super::member::{Member, Protocol};
use super::offsets::Offsets;
use super::record::{GroupValue, MemberValue, Record};
use super::request::{JoinRejected, JoinedMember};
use super::state::{Cx, Reply, RequestId, State};
use super::timers::{Alarm, AlarmKey};

/// The protocol type of Kafka's consumers: the one whose subscriptions the coordinator can read.
const CONSUMER_PROTOCOL: &str = "consumer";

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
    /// The log holds a record of this group (or is about to).
    pub(super) is_recorded: bool,
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
            is_recorded: false,
            is_deleting: false,
        }
    }

    /// Forgets everything but the offsets.
    pub(super) fn reset(&mut self, wall_ms: i64) {
        let offsets = std::mem::take(&mut self.offsets);
        *self = Self::new(Arc::clone(&self.id), wall_ms);
        self.offsets = offsets;
    }

    /// Takes a generation over from the log, as it was when it was written.
    pub(super) fn restore(&mut self, value: GroupValue) {
        self.reset(0);
        self.is_recorded = true;
        self.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        self.state_since_ms = value.state_since_ms;
        self.protocol_type = (!value.protocol_type.is_empty()).then_some(value.protocol_type);
        self.protocol_name = value.protocol_name;
        self.generation = value.generation;
        for member in value.members {
            self.restore_member(member);
        }
        self.leader = value.leader.filter(|leader| self.members.contains_key(leader));
        if self.leader.is_none() {
            self.leader = self.members.keys().next().map(Arc::clone);
        }
        self.read_subscriptions();
    }

    fn restore_member(&mut self, value: MemberValue) {
        let name = self.protocol_name.as_ref().map(Arc::clone).unwrap_or_default();
        self.insert(Member {
            id: value.member_id,
            instance_id: value.group_instance_id,
            client_id: value.client_id,
            client_host: value.client_host,
            rebalance_timeout_ms: if value.rebalance_timeout_ms < 0 {
                value.session_timeout_ms
            } else {
                value.rebalance_timeout_ms
            },
            session_timeout_ms: value.session_timeout_ms,
            protocols: vec![Protocol { name, metadata: value.subscription }],
            assignment: value.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            session: Alarm::default(),
        });
    }

    /// The group's record with the given assignments; members without one get an empty one.
    pub(super) fn record(&self, assignment_of: impl Fn(&Member) -> Bytes) -> Record {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| MemberValue {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: assignment_of(member),
        });
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: members.collect(),
        };
        Record::group(&self.id, &value)
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
            && !self.is_recorded
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

    // ---- protocols

    fn count_supporter(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.supporters.entry(Arc::clone(&protocol.name)).or_default() += 1;
        }
    }

    fn uncount_supporter(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supporters.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(&protocol.name);
                }
            }
        }
    }

    /// Takes over what a member offers now; gives back what it offered before.
    pub(super) fn replace_protocols(
        &mut self,
        member_id: &str,
        protocols: Vec<Protocol>,
    ) -> Vec<Protocol> {
        let Some(member) = self.members.get_mut(member_id) else { return Vec::new() };
        let before = std::mem::replace(&mut member.protocols, protocols);
        let after = member.protocols.clone();
        self.uncount_supporter(&before);
        self.count_supporter(&after);
        before
    }

    /// Whether a member with these protocols could join: all members would have one in common.
    pub(super) fn supports<'a>(
        &self,
        protocol_type: &str,
        mut protocols: impl Iterator<Item = &'a str>,
    ) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && protocols.next().is_some();
        }
        let supporters = |name| self.supporters.get(name).copied().unwrap_or(0);
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.any(|name| supporters(name) == self.members.len())
    }

    /// The protocol most members prefer among those that all support. A tie goes to the name
    /// that sorts first, so that the choice is the same each time it is made.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |protocol: &&Protocol| {
                self.supporters.get(&protocol.name) == Some(&self.members.len())
            };
            if let Some(choice) = member.protocols.iter().find(common) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| Arc::clone(name))
    }

    fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// Whether offsets may be deleted one by one although the group has members.
    pub(super) fn allows_offset_deletion(&self) -> bool {
        self.state == State::Empty || self.is_consumer()
    }

    /// Notes which topics the members read, as far as their subscriptions can be read.
    pub(super) fn read_subscriptions(&mut self) {
        self.subscribed_topics = None;
        let Some(protocol) = self.protocol_name.as_deref().filter(|_| self.is_consumer()) else {
            if self.is_consumer() && self.members.is_empty() {
                self.subscribed_topics = Some(HashSet::new());
            }
            return;
        };
        let mut topics = HashSet::new();
        for member in self.members.values() {
            if super::offsets::subscribed_topics(&member.metadata(protocol), &mut topics).is_none()
            {
                tracing::debug!(group = %self.id, "a subscription cannot be read");
                return;
            }
        }
        self.subscribed_topics = Some(topics);
    }

    /// Whether a member reads the topic. Where that cannot be known, a consumer may.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    pub(super) fn knows_subscriptions(&self) -> bool {
        self.is_consumer() && self.subscribed_topics.is_some()
    }

    // ---- parked requests: each is answered once

    /// Parks a join. One that was parked before is answered: its client has given it up.
    pub(super) fn park_join(&mut self, cx: &mut Cx<'_>, member_id: &str, to: RequestId) {
        self.answer_join(cx, member_id, GroupError::RebalanceInProgress);
        if let Some(member) = self.members.get_mut(member_id) {
            member.joining = Some(to);
            self.joining_count += 1;
        }
    }

    /// The parked join, which the caller now answers.
    pub(super) fn take_join(&mut self, member_id: &str) -> Option<RequestId> {
        let to = self.members.get_mut(member_id)?.joining.take()?;
        self.joining_count -= 1;
        Some(to)
    }

    /// Refuses the parked join, if there is one.
    pub(super) fn answer_join(&mut self, cx: &mut Cx<'_>, member_id: &str, error: GroupError) {
        if let Some(to) = self.take_join(member_id) {
            // Who is told that it is unknown has no id to go on with.
            let keeps_id = error != GroupError::UnknownMemberId;
            let member_id = if keeps_id { Arc::from(member_id) } else { Arc::default() };
            cx.reply(to, Reply::Join(Err(JoinRejected { error, member_id })));
        }
    }

    /// Parks a sync; see [`Group::park_join`].
    pub(super) fn park_sync(&mut self, cx: &mut Cx<'_>, member_id: &str, to: RequestId) {
        self.answer_sync(cx, member_id, GroupError::RebalanceInProgress);
        if let Some(member) = self.members.get_mut(member_id) {
            member.syncing = Some(to);
        }
    }

    /// Refuses the parked sync. True if there was one.
    pub(super) fn answer_sync(
        &mut self,
        cx: &mut Cx<'_>,
        member_id: &str,
        error: GroupError,
    ) -> bool {
        let to = self.members.get_mut(member_id).and_then(|member| member.syncing.take());
        if let Some(to) = to {
            cx.reply(to, Reply::Sync(Err(error)));
        }
        to.is_some()
    }

    pub(super) fn answer_all_parked(&mut self, cx: &mut Cx<'_>, error: GroupError) {
        for member_id in self.member_ids() {
            self.answer_join(cx, &member_id, error);
            self.answer_sync(cx, &member_id, error);
        }
    }

    // ---- alarms

    /// Starts a member's session anew.
    pub(super) fn refresh_session(&mut self, cx: &mut Cx<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let timeout = member.session_timeout();
            self.arm_session(cx, member_id, timeout);
        }
    }

    pub(super) fn arm_session(&mut self, cx: &mut Cx<'_>, member_id: &str, timeout: Duration) {
        let due = cx.after(timeout);
        if let Some(member) = self.members.get_mut(member_id) {
            let (group, member_id) = (&self.id, &member.id);
            cx.core.timers.arm(&mut member.session, due, || session_key(group, member_id));
        }
    }

    pub(super) fn arm_join_phase(&mut self, cx: &mut Cx<'_>, timeout: Duration) {
        let due = cx.after(timeout);
        let key = || AlarmKey::JoinPhase { group: Arc::clone(&self.id) };
        cx.core.timers.arm(&mut self.join_phase, due, key);
    }

    pub(super) fn arm_sync_phase(&mut self, cx: &mut Cx<'_>, timeout: Duration) {
        let due = cx.after(timeout);
        let key = || AlarmKey::SyncPhase { group: Arc::clone(&self.id) };
        cx.core.timers.arm(&mut self.sync_phase, due, key);
    }

    /// Whether a session alarm that came up rings; of a member or of a pending id.
    pub(super) fn session_rings(
        &mut self,
        cx: &mut Cx<'_>,
        queued: Duration,
        member_id: &Arc<str>,
    ) -> bool {
        let group = &self.id;
        let alarm = match self.members.get_mut(member_id) {
            Some(member) => Some(&mut member.session),
            None => self.pending.get_mut(member_id),
        };
        let now = cx.now.monotonic;
        alarm.is_some_and(|alarm| {
            cx.core.timers.rings(alarm, queued, now, || session_key(group, member_id))
        })
    }
}

fn session_key(group: &Arc<str>, member: &Arc<str>) -> AlarmKey {
    AlarmKey::Session { group: Arc::clone(group), member: Arc::clone(member) }
}

#[cfg(test)]
impl Group {
    /// What must hold between any two steps.
    pub(super) fn check(&self) {
        let members = || self.members.values();
        let joining = members().filter(|member| member.joining.is_some()).count();
        assert_eq!(joining, self.joining_count, "joins are counted");
        assert!(members().all(|member| !self.pending.contains_key(&member.id)));
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "one leader, if anybody");
        assert!(self.leader.iter().all(|leader| self.members.contains_key(leader)));
        assert!(self.unsynced.iter().all(|member| self.members.contains_key(member)));
        for (instance, member) in &self.static_members {
            let holder = self.members.get(member).unwrap();
            assert_eq!(holder.instance_id.as_ref(), Some(instance));
        }
        let instances = members().filter(|member| member.instance_id.is_some()).count();
        assert_eq!(instances, self.static_members.len());
        let mut supporters: HashMap<Arc<str>, usize> = HashMap::new();
        for protocol in members().flat_map(|member| &member.protocols) {
            *supporters.entry(Arc::clone(&protocol.name)).or_default() += 1;
        }
        assert_eq!(supporters, self.supporters, "supporters are counted");
        match self.state {
            State::Empty => assert!(self.members.is_empty()),
            State::PreparingRebalance => {
                assert!(members().all(|member| member.syncing.is_none()));
                assert!(self.unsynced.is_empty());
            }
            State::CompletingRebalance => assert_eq!(joining, 0, "all joins are answered"),
            State::Stable => assert!(members().all(|member| member.syncing.is_none())),
        }
        assert!(!self.is_nothing(), "a group without content is dropped");
    }
}
