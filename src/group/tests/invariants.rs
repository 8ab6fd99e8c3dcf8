//! Random histories of members, and what must hold in all of them: generations only grow, a
//! generation has one leader, every request is answered exactly once, nothing is handed out before
//! it is durable, and a restart knows exactly what was durable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::world::{Event, World, config};
use crate::group::record::{Decoded, GroupValue, decode};
use crate::group::{
    CommitPartition, CommitRequest, CommitTopic, DescribedGroup, GroupError, GroupLogError,
    HeartbeatRequest, Input, JoinProtocol, JoinRequest, Joined, LeaveMember, LeaveRequest, Reply,
    Request, State, SyncRequest,
};
use crate::model::TopicId;

/// What client number `0..CLIENTS` does. Odd ones are static members.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// Joins with the id it has.
    Join(u8),
    /// Joins as if it had been started anew.
    JoinAnew(u8),
    /// Offers something else from now on, and joins.
    Change(u8),
    Sync(u8),
    Heartbeat(u8),
    Commit(u8),
    Leave(u8),
    /// An administrator removes it by its instance id.
    Expel(u8),
    Written(bool),
    Advance(u16),
    Restart,
    Restate,
}

const CLIENTS: u8 = 5;

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS;
    prop_oneof![
        8 => client().prop_map(Op::Join),
        2 => client().prop_map(Op::JoinAnew),
        1 => client().prop_map(Op::Change),
        8 => client().prop_map(Op::Sync),
        4 => client().prop_map(Op::Heartbeat),
        2 => client().prop_map(Op::Commit),
        1 => client().prop_map(Op::Leave),
        1 => client().prop_map(Op::Expel),
        8 => proptest::bool::weighted(0.9).prop_map(Op::Written),
        4 => (0_u16..7_000).prop_map(Op::Advance),
        1 => Just(Op::Restart),
        1 => Just(Op::Restate),
    ]
}

const MEMBERS_MAX: usize = 4;

#[derive(Debug, Default, Clone)]
struct Client {
    member_id: String,
    generation: i32,
    leads: Vec<String>,
    /// 0: both protocols, 1: the other way round, 2: one.
    offer: u8,
}

#[derive(Debug)]
enum Asked {
    Join(u8),
    Sync { client: u8, generation: i32, member_id: String },
    Commit(i64),
    Other,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// Per generation: who was told that it leads, with the list of members.
    leaders: BTreeMap<i32, BTreeSet<String>>,
    /// Highest generation anybody was told.
    generation: i32,
    /// Highest generation of which anybody has an assignment, since the group exists.
    assigned: i32,
}

fn is_static(client: u8) -> bool {
    client % 2 == 1
}

fn instance(client: u8) -> Option<String> {
    is_static(client).then(|| format!("i{client}"))
}

impl Run {
    fn new() -> Self {
        let mut config = config();
        config.members_max = MEMBERS_MAX;
        Self {
            world: World::new(config),
            clients: vec![Client::default(); CLIENTS.into()],
            asked: BTreeMap::new(),
            next: 0,
            leaders: BTreeMap::new(),
            generation: 0,
            assigned: 0,
        }
    }

    fn client(&mut self, client: u8) -> &mut Client {
        &mut self.clients[usize::from(client)]
    }

    fn ask(&mut self, asked: Asked, request: Request) {
        self.next += 1;
        self.asked.insert(self.next, asked);
        let events = self.world.request(self.next, request);
        self.take(events);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Join(client) => self.join(client),
            Op::JoinAnew(client) => {
                self.client(client).member_id.clear();
                self.join(client);
            }
            Op::Change(client) => {
                let offer = &mut self.client(client).offer;
                *offer = (*offer + 1) % 3;
                self.join(client);
            }
            Op::Sync(client) => self.sync(client),
            Op::Heartbeat(client) => {
                let Client { member_id, generation, .. } = self.client(client).clone();
                let request = HeartbeatRequest {
                    group_id: "g".to_owned(),
                    generation,
                    member_id,
                    group_instance_id: instance(client),
                };
                self.ask(Asked::Other, Request::Heartbeat(request));
            }
            Op::Commit(client) => self.commit(client),
            Op::Leave(client) => {
                let member_id = self.client(client).member_id.clone();
                self.leave(member_id, None);
            }
            Op::Expel(client) => self.leave(String::new(), instance(client)),
            Op::Written(_) if self.world.in_flight.is_empty() => {}
            Op::Written(durable) => {
                let result = if durable { Ok(()) } else { Err(GroupLogError::StorageFailed) };
                let events = self.world.written(result);
                self.take(events);
            }
            Op::Advance(ms) => {
                let events = self.world.advance(Duration::from_millis(ms.into()));
                self.take(events.into_iter().map(|(_, event)| event).collect());
            }
            Op::Restart => self.restart(),
            Op::Restate => {
                let events = self.world.restate();
                self.take(events);
            }
        }
    }

    fn join(&mut self, client: u8) {
        let (range, rr) = (("range", client), ("rr", client));
        let offered = match self.client(client).offer {
            0 => vec![range, rr],
            1 => vec![rr, range],
            _ => vec![range],
        };
        let protocols = offered.into_iter().map(|(name, client)| JoinProtocol {
            name: name.to_owned(),
            metadata: Bytes::from(vec![client]),
        });
        let request = JoinRequest {
            group_id: "g".to_owned(),
            member_id: self.client(client).member_id.clone(),
            group_instance_id: instance(client),
            protocol_type: "consumer".to_owned(),
            protocols: protocols.collect(),
            session_timeout_ms: 8_000,
            rebalance_timeout_ms: 12_000,
            client_id: format!("c{client}"),
            client_host: "/192.0.2.1".to_owned(),
            member_id_required: true,
            skip_assignment_supported: true,
            reason: None,
        };
        let fresh = Uuid::from_u128(u128::from(self.next) + 1);
        self.ask(Asked::Join(client), Request::Join(request, fresh));
    }

    /// A leader assigns to each member its own id and the generation.
    fn sync(&mut self, client: u8) {
        let Client { member_id, generation, leads, .. } = self.client(client).clone();
        let assign = |member: String| {
            let bytes = Bytes::from(format!("{member}@{generation}"));
            (member, bytes)
        };
        let request = SyncRequest {
            group_id: "g".to_owned(),
            generation,
            member_id: member_id.clone(),
            group_instance_id: instance(client),
            protocol_type: None,
            protocol_name: None,
            assignments: leads.into_iter().map(assign).collect(),
        };
        let asked = Asked::Sync { client, generation, member_id };
        self.ask(asked, Request::Sync(request));
    }

    fn commit(&mut self, client: u8) {
        let Client { member_id, generation, .. } = self.client(client).clone();
        let offset = i64::try_from(self.next).unwrap();
        let partition = CommitPartition { partition: 0, offset, leader_epoch: -1, metadata: None };
        let request = CommitRequest {
            group_id: "g".to_owned(),
            generation,
            member_id,
            group_instance_id: instance(client),
            retention_ms: -1,
            topics: vec![CommitTopic {
                name: "t".to_owned(),
                topic_id: TopicId(Uuid::nil()),
                partitions: vec![partition],
            }],
        };
        self.ask(Asked::Commit(offset), Request::Commit(request));
    }

    fn leave(&mut self, member_id: String, group_instance_id: Option<String>) {
        let member = LeaveMember { member_id, group_instance_id, reason: None };
        let request = LeaveRequest { group_id: "g".to_owned(), members: vec![member] };
        self.ask(Asked::Other, Request::Leave(request));
    }

    /// Everything that was durable is there again; everything else is not.
    fn restart(&mut self) {
        self.asked.clear();
        let events = self.world.restart();
        self.take(events);
        // The generation of the log may lie behind the last one that members were told of.
        let durable = self.durable().map_or(0, |value| value.generation);
        self.generation = durable;
        self.leaders.retain(|generation, _| *generation <= durable);
        self.leaders.remove(&durable);
        let described = self.world.shard.describe("g");
        assert!(durable >= self.assigned || self.durable().is_none(), "an assignment is forgotten");
        self.assigned = durable;
        match self.durable() {
            None => assert!(described.is_err() || described.unwrap().members.is_empty()),
            Some(value) => is_as_recorded(&described.unwrap(), &value),
        }
    }

    /// The group's last durable record.
    fn durable(&self) -> Option<GroupValue> {
        self.world.log.iter().rev().find_map(|record| {
            match decode(&record.key, record.value.as_deref()).unwrap() {
                Decoded::Group { value, .. } => Some(value),
                Decoded::Offset { .. } | Decoded::Unknown { .. } => None,
            }
        })?
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            let Event::Reply(id, reply) = event else { continue };
            let asked = self.asked.remove(&id.0).expect("it was asked in this life");
            match (asked, reply) {
                (Asked::Join(client), Reply::Join(Ok(joined))) => self.joined(client, joined),
                (Asked::Join(client), Reply::Join(Err(rejected))) => match rejected.error {
                    GroupError::MemberIdRequired => {
                        self.client(client).member_id = rejected.member_id.to_string();
                    }
                    GroupError::UnknownMemberId | GroupError::FencedInstanceId => {
                        self.client(client).member_id.clear();
                    }
                    GroupError::RebalanceInProgress
                    | GroupError::NotCoordinator
                    | GroupError::InconsistentGroupProtocol
                    | GroupError::GroupMaxSizeReached => {}
                    other => panic!("a join is not refused like this: {other:?}"),
                },
                (Asked::Sync { client, generation, member_id }, Reply::Sync(Ok(synced))) => {
                    self.synced(client, generation, &member_id, &synced.assignment);
                }
                (Asked::Commit(offset), Reply::Commit(Ok(_))) => {
                    let durable = self.world.log.iter().any(|record| {
                        let read = decode(&record.key, record.value.as_deref()).unwrap();
                        matches!(read, Decoded::Offset { value: Some(value), .. }
                            if value.offset == offset)
                    });
                    assert!(durable, "commit {offset} is acknowledged and not durable");
                }
                (Asked::Sync { .. }, Reply::Sync(Err(_)))
                | (Asked::Commit(_), Reply::Commit(Err(_)))
                | (Asked::Other, Reply::Heartbeat(_) | Reply::Leave(_)) => {}
                (asked, reply) => panic!("{asked:?} was answered by {reply:?}"),
            }
        }
    }

    fn joined(&mut self, client: u8, joined: Joined) {
        assert!(joined.generation >= self.generation, "generations only grow");
        if joined.generation > self.generation {
            self.generation = joined.generation;
        }
        let member_id = joined.member_id.to_string();
        if !joined.members.is_empty() {
            assert_eq!(joined.leader, joined.member_id, "only the leader is told of the others");
            let leaders = self.leaders.entry(joined.generation).or_default();
            leaders.insert(member_id.clone());
            // A static leader may be replaced within its generation, under the same instance id.
            let names: BTreeSet<&str> =
                leaders.iter().map(|id| id.split_once('-').unwrap().0).collect();
            assert_eq!(names.len(), 1, "generation {} has two leaders", joined.generation);
            assert!(joined.members.iter().any(|member| member.member_id == joined.member_id));
        }
        let members = joined.members.iter().filter(|_| !joined.skip_assignment);
        let leads = members.map(|member| member.member_id.to_string()).collect();
        let known = self.client(client);
        known.member_id = member_id;
        known.generation = joined.generation;
        known.leads = leads;
    }

    fn synced(&mut self, client: u8, generation: i32, member_id: &str, assignment: &Bytes) {
        let value = self.durable().expect("an assignment is handed out when it is durable");
        assert_eq!(value.generation, generation, "the assignment is that of the generation");
        self.assigned = self.assigned.max(generation);
        let stored = value.members.iter().find(|member| &*member.member_id == member_id);
        let stored = stored.unwrap_or_else(|| panic!("client {client} is not in the record"));
        assert_eq!(&stored.assignment, assignment, "what is handed out is what is durable");
        if !assignment.is_empty() {
            let text = std::str::from_utf8(assignment).unwrap();
            let (to, of) = text.rsplit_once('@').unwrap();
            assert_eq!(of, generation.to_string());
            assert_eq!(to.split_once('-').unwrap().0, member_id.split_once('-').unwrap().0);
        }
    }
}

fn is_as_recorded(described: &DescribedGroup, value: &GroupValue) {
    if value.members.len() > MEMBERS_MAX {
        // Static members that stay away while others join are counted late, as in Kafka; a group
        // that has grown too large by them gathers anew when it is loaded.
        assert_eq!(described.state, State::PreparingRebalance);
        let recorded: BTreeSet<_> = value.members.iter().map(|member| &member.member_id).collect();
        let kept: BTreeSet<_> = described.members.iter().map(|member| &member.member_id).collect();
        assert_eq!(kept, recorded);
        return;
    }
    let state = if value.members.is_empty() { State::Empty } else { State::Stable };
    assert_eq!(described.state, state);
    assert_eq!(described.protocol_type, value.protocol_type);
    let described: BTreeMap<&str, (&Bytes, &Bytes)> = described
        .members
        .iter()
        .map(|member| (&*member.member_id, (&member.metadata, &member.assignment)))
        .collect();
    let recorded: BTreeMap<&str, (&Bytes, &Bytes)> = value
        .members
        .iter()
        .map(|member| (&*member.member_id, (&member.subscription, &member.assignment)))
        .collect();
    assert_eq!(described, recorded);
}

/// Goes through a history, and looks whether a start knows what was known.
fn live(ops: Vec<Op>) {
    let mut run = Run::new();
    for op in ops {
        run.apply(op);
    }
    // A quiet group is the same after a restart.
    while !run.world.in_flight.is_empty() {
        run.apply(Op::Written(true));
    }
    let before = run.world.shard.describe("g");
    let settled = |group: &DescribedGroup| matches!(group.state, State::Stable | State::Empty);
    if let Ok(before) = before
        && settled(&before)
        && !before.members.is_empty()
    {
        let (_, after) = (run.world.restart(), run.world.shard.describe("g"));
        if before.members.len() <= run.world.config.members_max {
            assert_eq!(after, Ok(before));
        }
    }
    run.world.step(Input::Resign);
    assert!(run.world.open.is_empty(), "never answered: {:?}", run.world.open);
}

/// The record of one static member's return fails, and that of the next, which says both, does not;
/// or it fails, too, or the first member comes once more in between.
#[test]
fn a_replacement_that_failed_is_what_the_last_record_says() {
    use Op::*;
    let stable = [
        Join(1),
        Join(2),
        Advance(3000),
        Join(2),
        Join(2),
        Join(3),
        Join(1),
        Join(0),
        Sync(1),
        Written(true),
        Join(0),
        Join(0),
        Restart,
    ];
    let endings: [&[Op]; 5] = [
        &[JoinAnew(3), JoinAnew(1), Written(false)],
        &[JoinAnew(3), JoinAnew(1), Written(false), Written(false)],
        &[JoinAnew(3), JoinAnew(3), Written(false)],
        &[JoinAnew(3), JoinAnew(3), Written(false), Written(false)],
        &[JoinAnew(3), JoinAnew(1), Written(false), JoinAnew(3), Written(false), Written(false)],
    ];
    for ending in endings {
        live(stable.iter().chain(ending).copied().collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn members_get_one_answer_one_leader_and_only_durable_assignments(
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        live(ops);
    }
}
