//! A small shard for tests: three replicas around the shipped state machines. The rest is made up:
//! disks, wires, the controller's one copy of the truth.
//!
//! A log is a list of epochs: one writes in each, so a record is its epoch and its place. Between
//! two brokers there is one question and one answer under way; a newer one replaces it, and
//! delivery leaves it there.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::show;
use crate::model::{BrokerId, LeaderEpoch, Position, ShardId};
use crate::replication::{
    Envelope, Follower, FollowerEffect, FollowerInput, Following, Leader, LeaderEffect,
    LeaderInput, LeaderLimits, LogView, Loss, Message, Proposal, Replica, ShardState, Term,
    Unclean,
};
use crate::replication::{Mistake, Rules};

const CLUSTER: Uuid = Uuid::from_u128(7);
const SHARD: ShardId = ShardId(0);
/// Any time may have passed: nothing is ever late but where another time is handed in.
pub(super) const NOW_MS: u64 = 0;
pub(super) const LATE_MS: u64 = 100;
pub(super) const LEASED_MS: u64 = 1000;

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shard {
    pub(super) in_sync_min: usize,
    /// Whether the third replica begins outside of the set.
    pub(super) one_is_out: bool,
    pub(super) epochs: i32,
    /// Records of clients.
    pub(super) records: u8,
    /// Crashes, lost disks and false alarms.
    pub(super) faults: u8,
    /// Whether nothing but a crash goes wrong.
    pub(super) only_crashes: bool,
    /// Removals for lagging.
    pub(super) lags: u8,
    /// Whether a leader has on disk what it has in its log.
    pub(super) leader_syncs_at_once: bool,
    /// Whether answers come at once or never, so that only questions are ever late.
    pub(super) answers_at_once: bool,
    pub(super) broken: Option<Mistake>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// A broker sees the controller's image.
    Learn(u8),
    Append(u8),
    Sync(u8),
    Ask(u8, u8),
    Answer(u8, u8),
    /// The controller hears a proposal, by its number.
    Propose(usize),
    /// Time passes for a leader, and it may find that followers lag.
    Lag(u8),
    /// Its lease is over.
    Lapse(u8),
    /// kill -9, or a power cut that loses what is not synced.
    Crash {
        node: u8,
        loses: bool,
    },
    /// Its disk is lost.
    Wipe(u8),
    /// It starts, registers, and may be elected.
    Start(u8),
    /// The controller takes it for dead, whether it is or not.
    Fence(u8),
    /// The controller hears from it again.
    Hear(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Idle,
    Leads(Leader),
    Follows(Follower),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) up: bool,
    pub(super) run: u64,
    /// What its disk lacks of what it may have acknowledged, it says when it starts.
    pub(super) is_damaged: bool,
    pub(super) log: Vec<u8>,
    pub(super) durable: usize,
    pub(super) role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Packet {
    pub(super) envelope: Envelope,
    pub(super) records: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) controller: ShardState,
    /// Brokers that the controller takes for up, and which run of each.
    pub(super) up: BTreeMap<BrokerId, u64>,
    pub(super) nodes: [Node; 3],
    pub(super) questions: BTreeMap<(u8, u8), Packet>,
    pub(super) answers: BTreeMap<(u8, u8), Packet>,
    pub(super) proposals: Vec<Proposal>,
    /// The longest log that was called committed.
    pub(super) acked: Vec<u8>,
    /// Who led in each epoch.
    pub(super) led: BTreeMap<i32, Replica>,
    pub(super) records: u8,
    pub(super) faults: u8,
    pub(super) lags: u8,
    pub(super) wrong: Option<&'static str>,
    pub(super) answers_at_once: bool,
    /// What was done, for those who want to read it.
    pub(super) told: Option<Vec<String>>,
}

pub(super) fn broker(node: u8) -> BrokerId {
    BrokerId(i32::from(node))
}

pub(super) fn number(broker: BrokerId) -> u8 {
    u8::try_from(broker.0).unwrap()
}

pub(super) fn position(at: usize) -> Position {
    Position(at as u64)
}

pub(super) fn at(position: Position) -> usize {
    usize::try_from(position.0).unwrap()
}

impl Node {
    pub(super) fn replica(&self, node: u8) -> Replica {
        Replica { broker: broker(node), incarnation: self.run }
    }

    pub(super) fn with_view<T>(&self, f: impl FnOnce(&LogView<'_>) -> T) -> T {
        let mut epochs = vec![(LeaderEpoch(0), Position(0))];
        for (place, epoch) in self.log.iter().enumerate() {
            let epoch = LeaderEpoch(i32::from(*epoch));
            if epochs.last().is_some_and(|(last, _)| *last != epoch) {
                epochs.push((epoch, position(place)));
            }
        }
        let (end, durable) = (position(self.log.len()), position(self.durable));
        f(&LogView { epochs: &epochs, end, durable })
    }

    pub(super) fn durable_log(&self) -> &[u8] {
        &self.log[..self.durable]
    }
}

impl World {
    pub(super) fn new(shard: &Shard) -> Self {
        let rules = Rules { broken: shard.broken };
        let mut controller = ShardState::new((0..3).map(broker).collect(), shard.in_sync_min);
        controller.rules = rules;
        if shard.one_is_out {
            let third = Replica { broker: broker(2), incarnation: 1 };
            controller = controller.after(third, Loss::Silent);
            controller.eligible.clear();
        }
        let up: BTreeMap<BrokerId, u64> = (0..3).map(|node| (broker(node), 1)).collect();
        let controller = controller.elect(&up, Unclean::Never).unwrap().state;
        let node = Node {
            up: true,
            run: 1,
            is_damaged: false,
            log: Vec::new(),
            durable: 0,
            role: Role::Idle,
        };
        Self {
            controller,
            up,
            nodes: [node.clone(), node.clone(), node],
            questions: BTreeMap::new(),
            answers: BTreeMap::new(),
            proposals: Vec::new(),
            acked: Vec::new(),
            led: BTreeMap::new(),
            records: 0,
            faults: 0,
            lags: 0,
            wrong: None,
            answers_at_once: shard.answers_at_once,
            told: None,
        }
    }

    /// The first term has begun, and everybody in sync has what began it.
    pub(super) fn warm(shard: &Shard) -> Self {
        let mut world = Self::new(shard);
        let members: Vec<u8> =
            world.controller.in_sync.members.iter().map(|it| number(*it)).collect();
        for id in &members {
            world.act(shard, Action::Learn(*id));
            world.act(shard, Action::Sync(*id));
        }
        for _ in 0..3 {
            for id in members.iter().filter(|id| **id != 0) {
                world.act(shard, Action::Ask(*id, 0));
                world.act(shard, Action::Answer(0, *id));
                world.act(shard, Action::Sync(*id));
            }
        }
        world
    }

    pub(super) fn node(&mut self, node: u8) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    pub(super) fn learn(&mut self, shard: &Shard, id: u8) {
        let state = self.controller.clone();
        let Some(leader) = state.leader else { return };
        let node = self.node(id);
        let committed = match &node.role {
            Role::Idle => Position(0),
            Role::Leads(leader) => leader.committed(),
            Role::Follows(follower) => follower.committed(),
        };
        if leader != node.replica(id) {
            if !matches!(node.role, Role::Follows(_)) {
                let mut follower = Follower::new(CLUSTER, SHARD, node.replica(id), committed, 0);
                follower.rules = state.rules;
                node.role = Role::Follows(follower);
            }
            self.follower(id, FollowerInput::Follow(Following { epoch: state.epoch, leader }));
            return;
        }
        if let Role::Leads(core) = &node.role
            && core.epoch() == state.epoch
        {
            self.leader(id, NOW_MS, LeaderInput::SetAgreed(state.in_sync));
            return;
        }
        node.log.push(u8::try_from(state.epoch.0).unwrap());
        let term = Term {
            cluster: CLUSTER,
            shard: SHARD,
            leader,
            epoch: state.epoch,
            replicas: state.replicas.iter().copied().collect(),
            in_sync: state.in_sync,
        };
        if shard.leader_syncs_at_once {
            node.durable = node.log.len();
        }
        let limits = LeaderLimits { lag_max_ms: LATE_MS / 2, in_sync_min: shard.in_sync_min };
        let begin =
            |log: &LogView<'_>| Leader::new(term, limits, NOW_MS, log, (committed, LEASED_MS));
        let mut core = node.with_view(begin);
        core.rules = state.rules;
        node.role = Role::Leads(core);
        let before = self.led.insert(state.epoch.0, leader);
        if before.is_some_and(|before| before != leader) {
            self.wrong = Some("two led in one epoch");
        }
    }

    pub(super) fn leader(&mut self, id: u8, now_ms: u64, input: LeaderInput) {
        let node = &mut self.nodes[usize::from(id)];
        let Role::Leads(core) = &mut node.role else { return };
        let mut moved = core.clone();
        let effects = node.with_view(|log| moved.step(now_ms, log, input));
        moved.forget_times();
        node.role = Role::Leads(moved);
        for effect in effects {
            self.tell(|| show::leader(id, &effect));
            match effect {
                LeaderEffect::Send(envelope) => self.send(id, envelope, Vec::new()),
                LeaderEffect::Stream(envelope) => {
                    let Message::Frames { after, .. } = envelope.message else { unreachable!() };
                    let records = self.node(id).log[at(after.end)..].to_vec();
                    self.send(id, envelope, records);
                }
                LeaderEffect::Propose(proposal) => {
                    if !self.proposals.contains(&proposal) {
                        self.proposals.push(proposal);
                    }
                }
                LeaderEffect::Commit(committed) => self.commit(id, committed),
                LeaderEffect::StepDown => self.node(id).role = Role::Idle,
            }
        }
    }

    /// Clients and readers are told.
    pub(super) fn commit(&mut self, id: u8, committed: Position) {
        let log = self.nodes[usize::from(id)].log[..at(committed)].to_vec();
        let both = log.len().min(self.acked.len());
        if log[..both] != self.acked[..both] {
            self.wrong = Some("two records were committed in one place");
        }
        if log.len() > self.acked.len() {
            self.acked = log;
        }
    }

    pub(super) fn follower(&mut self, id: u8, input: FollowerInput) {
        self.follower_with(id, input, &[]);
    }

    pub(super) fn follower_with(&mut self, id: u8, input: FollowerInput, records: &[u8]) {
        let node = &mut self.nodes[usize::from(id)];
        let Role::Follows(core) = &mut node.role else { return };
        let mut moved = core.clone();
        let effects = node.with_view(|log| moved.step(NOW_MS, log, input));
        node.role = Role::Follows(moved);
        for effect in effects {
            self.tell(|| show::follower(id, &effect, records.len()));
            match effect {
                FollowerEffect::Send(envelope) => self.send(id, envelope, Vec::new()),
                FollowerEffect::Append => {
                    self.node(id).log.extend_from_slice(records);
                    self.follower(id, FollowerInput::LogMoved);
                }
                FollowerEffect::Truncate(to) => {
                    let node = self.node(id);
                    node.log.truncate(at(to));
                    node.durable = node.durable.min(at(to));
                    self.follower(id, FollowerInput::Truncated);
                }
                FollowerEffect::Commit(committed) => {
                    let log = self.nodes[usize::from(id)].log[..at(committed)].to_vec();
                    if !self.acked.starts_with(&log) {
                        self.wrong = Some("a follower calls committed what is not");
                    }
                }
                FollowerEffect::CopyNeeded(_) => unreachable!("nothing is ever gone here"),
            }
        }
    }

    pub(super) fn send(&mut self, from: u8, envelope: Envelope, records: Vec<u8>) {
        let way = (from, number(envelope.stamp.to.broker));
        let packet = Packet { envelope, records };
        match envelope.message {
            Message::Fetch { .. } => self.questions.insert(way, packet),
            Message::Frames { .. } | Message::Diverged { .. } | Message::Refused { .. } => {
                if self.answers_at_once {
                    if self.node(way.1).up {
                        let input = FollowerInput::Received(envelope);
                        self.follower_with(way.1, input, &packet.records);
                    }
                    return;
                }
                self.answers.insert(way, packet)
            }
        };
    }

    pub(super) fn elect(&mut self, unclean: Unclean) {
        if self.controller.leader.is_none() {
            match self.controller.elect(&self.up, unclean) {
                Ok(election) => self.controller = election.state,
                Err(why) => self.tell(|| format!("controller: {why}")),
            }
        }
    }

    /// Lets something happen. What cannot happen changes nothing.
    pub(super) fn act(&mut self, shard: &Shard, action: Action) {
        match action {
            Action::Learn(id) => self.learn(shard, id),
            Action::Append(id) => {
                let node = self.node(id);
                let Role::Leads(leader) = &node.role else { return };
                if leader.admit(NOW_MS, None).is_err() {
                    return;
                }
                node.log.push(u8::try_from(leader.epoch().0).unwrap());
                if shard.leader_syncs_at_once {
                    node.durable = node.log.len();
                }
                self.leader(id, NOW_MS, LeaderInput::Appended);
            }
            Action::Sync(id) => {
                let node = self.node(id);
                node.durable = node.log.len();
                match node.role {
                    Role::Leads(_) => self.leader(id, NOW_MS, LeaderInput::Durable),
                    Role::Follows(_) => self.follower(id, FollowerInput::LogMoved),
                    Role::Idle => {}
                }
            }
            Action::Ask(from, to) => {
                let Some(packet) = self.questions.get(&(from, to)) else { return };
                let envelope = packet.envelope;
                if self.node(to).up {
                    self.leader(to, NOW_MS, LeaderInput::Received(envelope));
                }
            }
            Action::Answer(from, to) => {
                let Some(packet) = self.answers.get(&(from, to)) else { return };
                let Packet { envelope, records } = packet.clone();
                if self.node(to).up {
                    self.follower_with(to, FollowerInput::Received(envelope), &records);
                }
            }
            Action::Propose(number) => self.propose(number),
            Action::Lag(id) => self.leader(id, LATE_MS, LeaderInput::Tick),
            Action::Lapse(id) => self.leader(id, LEASED_MS, LeaderInput::Tick),
            Action::Crash { node, loses } => self.crash(node, loses),
            Action::Wipe(id) => {
                self.crash(id, true);
                let node = self.node(id);
                node.log.clear();
                node.durable = 0;
                node.is_damaged = true;
            }
            Action::Start(id) => self.start(id),
            Action::Fence(id) => {
                let Some(incarnation) = self.up.remove(&broker(id)) else { return };
                let who = Replica { broker: broker(id), incarnation };
                self.controller = self.controller.after(who, Loss::Silent);
                self.elect(Unclean::Never);
            }
            Action::Hear(id) => {
                let run = self.node(id).run;
                self.up.insert(broker(id), run);
                self.elect(Unclean::Never);
            }
        }
        self.forget();
    }

    fn propose(&mut self, number: usize) {
        let Some(proposal) = self.proposals.get(number) else { return };
        match self.controller.change(proposal, &self.up) {
            Ok(next) => self.controller = next,
            Err(why) => self.tell(|| format!("controller: {why}")),
        }
    }

    fn start(&mut self, id: u8) {
        let node = self.node(id);
        node.up = true;
        node.run += 1;
        let (who, is_damaged) = (node.replica(id), std::mem::take(&mut node.is_damaged));
        let loss = if is_damaged { Loss::Damaged } else { Loss::Restarted };
        self.controller = self.controller.after(who, loss);
        self.up.insert(who.broker, who.incarnation);
        self.elect(Unclean::Never);
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(what());
        }
    }

    /// Counts against the limits of what is tried.
    pub(super) fn count(&mut self, action: Action, before: &Self) {
        match action {
            Action::Append(_) => self.records += 1,
            Action::Lag(_) => self.lags += 1,
            Action::Crash { .. } | Action::Wipe(_) => self.faults += 1,
            Action::Fence(id) => self.faults += u8::from(before.nodes[usize::from(id)].up),
            Action::Learn(_)
            | Action::Sync(_)
            | Action::Ask(..)
            | Action::Answer(..)
            | Action::Propose(_)
            | Action::Lapse(_)
            | Action::Start(_)
            | Action::Hear(_) => {}
        }
    }

    /// Forgets what can have no effect any more; with rules that ignore stamps everything can.
    pub(super) fn forget(&mut self) {
        let (version, epoch) = (self.controller.in_sync.version, self.controller.epoch);
        self.proposals.retain(|it| it.version == version && it.epoch == epoch);
        self.proposals.sort_by_cached_key(|it| it.members.clone());
        if self.controller.rules.breaks(Mistake::IgnoreStamps) {
            return;
        }
        let nodes = &self.nodes;
        let reaches = |packet: &Packet| {
            let stamp = packet.envelope.stamp;
            let to = &nodes[usize::from(number(stamp.to.broker))];
            let term = match &to.role {
                Role::Idle => LeaderEpoch(0),
                Role::Leads(leader) => leader.epoch(),
                Role::Follows(follower) => {
                    follower.following().map_or(LeaderEpoch(0), |it| it.epoch)
                }
            };
            to.run == stamp.to.incarnation && term <= stamp.epoch
        };
        self.questions.retain(|_, packet| reaches(packet));
        // In one term and run a tail that was left never comes back.
        let is_asked = |packet: &Packet| {
            let to = &nodes[usize::from(number(packet.envelope.stamp.to.broker))];
            match packet.envelope.message {
                Message::Frames { after, .. }
                | Message::Diverged { after, .. }
                | Message::Refused { after, .. } => to.with_view(|log| log.tail()) == after,
                Message::Fetch { .. } => true,
            }
        };
        self.answers.retain(|_, packet| reaches(packet) && is_asked(packet));
    }

    pub(super) fn crash(&mut self, id: u8, loses: bool) {
        let node = self.node(id);
        node.up = false;
        node.role = Role::Idle;
        if loses {
            node.log.truncate(node.durable);
        }
        // Recovery syncs what it keeps.
        node.durable = node.log.len();
    }

    pub(super) fn role_of(&self, id: u8) -> &'static str {
        match self.nodes[usize::from(id)].role {
            Role::Idle => "idle",
            Role::Leads(_) => "leads",
            Role::Follows(_) => "follows",
        }
    }

    /// Everybody who may be elected as he is holds what was committed.
    pub(super) fn electable_hold_all(&self) -> bool {
        let state = &self.controller;
        let mut may = state.in_sync.members.union(&state.eligible);
        may.all(|broker| {
            let node = &self.nodes[usize::from(number(*broker))];
            node.is_damaged || node.durable_log().starts_with(&self.acked)
        })
    }

    pub(super) fn leader_holds_all(&self) -> bool {
        self.nodes.iter().all(|node| match &node.role {
            Role::Leads(leader) if leader.epoch() == self.controller.epoch => {
                node.log.starts_with(&self.acked)
            }
            Role::Leads(_) | Role::Follows(_) | Role::Idle => true,
        })
    }

    /// A set that the controller agreed to holds nobody whom the leader does not wait for.
    pub(super) fn leader_counts_all(&self) -> bool {
        self.nodes.iter().all(|node| match &node.role {
            Role::Leads(leader) if leader.epoch() == self.controller.epoch => {
                self.controller.in_sync.members.is_subset(&leader.counted())
            }
            Role::Leads(_) | Role::Follows(_) | Role::Idle => true,
        })
    }
}
