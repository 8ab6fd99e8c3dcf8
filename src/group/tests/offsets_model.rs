//! Offsets against a naive model: the log is a list, what is visible is what replaying its durable
//! part gives, and which records are appended follows from rules simple enough to state twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::world::{Event, World, config};
use crate::group::record::{Decoded, Record, decode};
use crate::group::{
    CommitPartition, CommitRequest, CommitTopic, DeleteOffsetsRequest, FetchRequest, GroupError,
    GroupLogError, Input, Reply, Request,
};
use crate::model::TopicId;

const RETENTION: Duration = Duration::from_secs(1_500);
const CHECK_INTERVAL: Duration = Duration::from_secs(600);

#[derive(Debug, Clone)]
enum Op {
    Commit { group: u8, offsets: Vec<(u8, i32, i64)>, note: u8 },
    Delete { group: u8 },
    DeleteOffsets { group: u8, topic: u8, partition: i32 },
    TopicDeleted { topic: u8 },
    Written { durable: bool },
    Advance { seconds: u64 },
    Restart,
    Restate,
}

fn op() -> impl Strategy<Value = Op> {
    let offset = (0_u8..3, 0_i32..3, 0_i64..1_000);
    let offsets = proptest::collection::vec(offset, 1..4);
    prop_oneof![
        6 => (0_u8..3, offsets, 0_u8..20)
            .prop_map(|(group, offsets, note)| Op::Commit { group, offsets, note }),
        1 => (0_u8..3).prop_map(|group| Op::Delete { group }),
        1 => (0_u8..3, 0_u8..3, 0_i32..3)
            .prop_map(|(group, topic, partition)| Op::DeleteOffsets { group, topic, partition }),
        1 => (0_u8..3).prop_map(|topic| Op::TopicDeleted { topic }),
        6 => proptest::bool::weighted(0.9).prop_map(|durable| Op::Written { durable }),
        2 => (0_u64..1_200).prop_map(|seconds| Op::Advance { seconds }),
        1 => Just(Op::Restart),
        1 => Just(Op::Restate),
    ]
}

type Key = (String, String, i32);

/// An offset as the model sees it: the value, and when it was committed.
type Value = (i64, i64);

#[derive(Debug, Default)]
struct Model {
    durable: BTreeMap<Key, Value>,
    in_flight: VecDeque<Vec<(Key, Option<Value>)>>,
    /// Requests that may only be answered well once a number of writes is reported.
    promised: BTreeMap<u64, usize>,
    reported: usize,
    appended: usize,
}

impl Model {
    fn is_touched(&self, key: &Key) -> bool {
        self.in_flight.iter().flatten().any(|(touched, _)| touched == key)
    }

    fn known(&self, key: &Key) -> bool {
        self.durable.contains_key(key) || self.is_touched(key)
    }

    fn append(&mut self, changes: Vec<(Key, Option<Value>)>) {
        self.in_flight.push_back(changes);
        self.appended += 1;
    }

    fn report(&mut self, durable: bool) {
        let changes = self.in_flight.pop_front().unwrap();
        self.reported += 1;
        for (key, value) in changes.into_iter().filter(|_| durable) {
            match value {
                Some(value) => self.durable.insert(key, value),
                None => self.durable.remove(&key),
            };
        }
    }
}

/// The offset changes in appended records; `removed` groups apart.
fn changes(records: &[Record]) -> (Vec<(Key, Option<Value>)>, Vec<String>) {
    let (mut changes, mut removed) = (Vec::new(), Vec::new());
    for record in records {
        match decode(&record.key, record.value.as_deref()).unwrap() {
            Decoded::Offset { group, topic, partition, value } => {
                let value = value.map(|value| (value.offset, value.commit_ms));
                changes.push(((group.to_string(), topic.to_string(), partition), value));
            }
            Decoded::Group { group, value: None } => removed.push(group.to_string()),
            other => panic!("these groups have no members: {other:?}"),
        }
    }
    (changes, removed)
}

fn name(prefix: &str, number: u8) -> String {
    format!("{prefix}{number}")
}

fn topic_id(topic: u8) -> TopicId {
    TopicId(Uuid::from_u128(u128::from(topic) + 1))
}

struct Run {
    world: World,
    model: Model,
    next_request: u64,
}

impl Run {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Commit { group, offsets, note } => self.commit(group, &offsets, note),
            Op::Delete { group } => self.delete(group),
            Op::DeleteOffsets { group, topic, partition } => {
                self.delete_offsets(group, topic, partition);
            }
            Op::TopicDeleted { topic } => self.topic_deleted(topic),
            Op::Written { durable } => self.written(durable),
            Op::Advance { seconds } => self.advance(Duration::from_secs(seconds)),
            Op::Restart => self.restart(),
            Op::Restate => {
                let events = self.world.restate();
                self.restated(events);
            }
        }
        self.compare();
    }

    fn request(&mut self, request: Request) -> (u64, Vec<Event>) {
        self.next_request += 1;
        (self.next_request, self.world.request(self.next_request, request))
    }

    fn commit(&mut self, group: u8, offsets: &[(u8, i32, i64)], note: u8) {
        let fits = usize::from(note) <= self.world.config.offset_metadata_bytes_max;
        let topics = offsets.iter().map(|(topic, partition, offset)| CommitTopic {
            name: name("t", *topic),
            topic_id: topic_id(*topic),
            partitions: vec![CommitPartition {
                partition: *partition,
                offset: *offset,
                leader_epoch: -1,
                metadata: Some("x".repeat(usize::from(note))),
            }],
        });
        let request = Request::Commit(CommitRequest {
            group_id: name("g", group),
            generation: -1,
            member_id: String::new(),
            group_instance_id: None,
            retention_ms: -1,
            topics: topics.collect(),
        });
        let commit_ms = self.world.now().wall_ms;
        let (id, events) = self.request(request);
        match events.as_slice() {
            // Too long a note, or the group is being removed.
            [Event::Reply(_, Reply::Commit(reply))] => match reply {
                Ok(topics) => {
                    assert!(!fits);
                    let refused = Err(GroupError::OffsetMetadataTooLarge);
                    assert!(topics.iter().all(|topic| topic.partitions[0].1 == refused));
                }
                Err(error) => assert_eq!(*error, GroupError::CoordinatorLoadInProgress),
            },
            [Event::Append(_, records)] => {
                assert!(fits);
                let (appended, removed) = changes(records);
                let group = name("g", group);
                let want: Vec<(Key, Option<Value>)> = offsets
                    .iter()
                    .map(|(topic, partition, offset)| {
                        let key = (group.clone(), name("t", *topic), *partition);
                        (key, Some((*offset, commit_ms)))
                    })
                    .collect();
                assert_eq!((appended, removed), (want.clone(), Vec::new()));
                self.model.append(want);
                self.model.promised.insert(id, self.model.appended);
            }
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, group: u8) {
        let group = name("g", group);
        let known: BTreeSet<Key> = self.keys(|key| key.0 == group);
        let (id, events) = self.request(Request::Delete(group.clone()));
        match events.as_slice() {
            [Event::Reply(_, Reply::Delete(Err(GroupError::GroupIdNotFound)))] => {
                assert!(known.is_empty());
            }
            [Event::Reply(_, Reply::Delete(Err(error)))] => {
                assert_eq!(*error, GroupError::CoordinatorLoadInProgress);
            }
            _ => {
                self.removed_exactly(&events, &known);
                self.model.promised.insert(id, self.model.appended);
            }
        }
    }

    fn delete_offsets(&mut self, group: u8, topic: u8, partition: i32) {
        let key = (name("g", group), name("t", topic), partition);
        let exists = !self.keys(|known| known.0 == key.0).is_empty();
        let known = self.keys(|known| *known == key);
        let (id, events) = self.request(Request::DeleteOffsets(DeleteOffsetsRequest {
            group_id: key.0.clone(),
            topics: vec![(key.1.clone(), vec![partition])],
        }));
        match events.as_slice() {
            [Event::Reply(_, Reply::DeleteOffsets(reply))] => match reply {
                Ok(_) => assert!(known.is_empty() && exists),
                Err(GroupError::GroupIdNotFound) => assert!(!exists),
                Err(error) => assert_eq!(*error, GroupError::CoordinatorLoadInProgress),
            },
            _ => {
                self.removed_exactly(&events, &known);
                self.model.promised.insert(id, self.model.appended);
            }
        }
    }

    fn topic_deleted(&mut self, topic: u8) {
        let name = name("t", topic);
        let deleting = self.deleting();
        let gone: BTreeSet<Key> = self
            .model
            .durable
            .keys()
            .filter(|key| key.1 == name && !self.model.is_touched(key))
            .filter(|key| !deleting.contains(&key.0))
            .cloned()
            .collect();
        let input = Input::TopicDeleted { name: Arc::from(name), topic_id: topic_id(topic) };
        let events = self.world.step(input);
        self.removed_exactly(&events, &gone);
    }

    fn written(&mut self, durable: bool) {
        if self.world.in_flight.is_empty() {
            return;
        }
        let result = if durable { Ok(()) } else { Err(GroupLogError::Unavailable) };
        self.model.report(durable);
        let events = self.world.written(result);
        for event in events {
            let Event::Reply(id, reply) = event else {
                self.restated(vec![event]);
                continue;
            };
            let after = self.model.promised.remove(&id.0).expect("it waits for a write");
            assert_eq!(after, self.model.reported, "answered with its own write, not before");
            let is_ok = match reply {
                Reply::Commit(reply) => reply.is_ok(),
                Reply::Delete(reply) => reply.is_ok(),
                Reply::DeleteOffsets(reply) => reply.is_ok(),
                other => panic!("{other:?}"),
            };
            assert_eq!(is_ok, durable);
        }
    }

    /// Saying everything again changes nothing: neither now nor, as restarts show, in the log.
    fn restated(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Append(..) => self.model.append(Vec::new()),
                Event::Restated(_) => {}
                Event::Reply(..) => panic!("nobody asked: {event:?}"),
            }
        }
    }

    /// Every check interval the offsets go that are old enough, unless they are being written.
    fn advance(&mut self, by: Duration) {
        let deleting = self.deleting();
        let from = self.world.elapsed();
        let events = self.world.advance(by);
        let sweep = from.as_secs() / CHECK_INTERVAL.as_secs() + 1;
        let sweep = CHECK_INTERVAL * u32::try_from(sweep).unwrap();
        for (at, _) in &events {
            assert!(at.as_secs().is_multiple_of(CHECK_INTERVAL.as_secs()), "only then");
        }
        let mut sweep_at = sweep;
        while sweep_at <= from + by {
            let wall_ms =
                super::world::START_WALL_MS + i64::try_from(sweep_at.as_millis()).unwrap();
            let retention_ms = i64::try_from(RETENTION.as_millis()).unwrap();
            let model = &self.model;
            let gone: BTreeSet<Key> = model
                .durable
                .iter()
                .filter(|(key, (_, commit_ms))| {
                    wall_ms - commit_ms >= retention_ms && !model.is_touched(key)
                })
                .filter(|(key, _)| !deleting.contains(&key.0))
                .map(|(key, _)| key.clone())
                .collect();
            let swept: Vec<Event> = events
                .iter()
                .filter(|(at, _)| *at == sweep_at)
                .map(|(_, event)| event.clone())
                .collect();
            self.removed_exactly(&swept, &gone);
            sweep_at += CHECK_INTERVAL;
        }
    }

    fn restart(&mut self) {
        assert!(self.world.restart().is_empty());
        self.model.in_flight.clear();
        self.model.promised.clear();
        (self.model.appended, self.model.reported) = (0, 0);
        // The check for expired offsets starts over with the process: keep the model's beat.
        let beat = CHECK_INTERVAL.as_secs();
        let next = (self.world.elapsed().as_secs() / beat + 1) * beat;
        let rest = Duration::from_secs(next) - self.world.elapsed();
        if rest != CHECK_INTERVAL {
            let untouched = self.world.advance(rest);
            assert!(untouched.is_empty(), "its first check is a whole interval away");
            assert!(self.world.restart().is_empty());
        }
    }

    /// Groups whose removal is under way: their tombstones are in flight, and nothing follows.
    fn deleting(&self) -> BTreeSet<String> {
        let describes = ["g0", "g1", "g2"].into_iter().filter(|group| {
            self.world.shard.groups.get(*group).is_some_and(|group| group.is_deleting)
        });
        describes.map(str::to_owned).collect()
    }

    fn keys(&self, filter: impl Fn(&Key) -> bool) -> BTreeSet<Key> {
        let in_flight = self.model.in_flight.iter().flatten().map(|(key, _)| key);
        let known = self.model.durable.keys().chain(in_flight);
        known.filter(|key| filter(key) && self.model.known(key)).cloned().collect()
    }

    /// The events are appends that remove these offsets, and nothing else.
    fn removed_exactly(&mut self, events: &[Event], gone: &BTreeSet<Key>) {
        let mut removed = BTreeSet::new();
        for event in events {
            let Event::Append(_, records) = event else { panic!("{event:?}") };
            let (changes, _) = changes(records);
            for (key, value) in &changes {
                assert_eq!(*value, None);
                assert!(removed.insert(key.clone()), "{key:?} is removed twice");
            }
            self.model.append(changes);
        }
        assert_eq!(&removed, gone);
    }

    /// What can be fetched is what is durable.
    fn compare(&mut self) {
        let mut fetched = BTreeMap::new();
        for group in 0..3 {
            let group = name("g", group);
            let request =
                FetchRequest { group_id: group.clone(), topics: None, require_stable: false };
            let (_, events) = self.request(Request::Fetch(request));
            let [Event::Reply(_, Reply::Fetch(Ok(topics)))] = events.as_slice() else {
                panic!("{events:?}")
            };
            for topic in topics {
                for partition in &topic.partitions {
                    let offset = partition.result.as_ref().unwrap().as_ref().unwrap().offset;
                    let key = (group.clone(), topic.name.to_string(), partition.partition);
                    fetched.insert(key, offset);
                }
            }
        }
        let durable = self.model.durable.iter();
        let durable: BTreeMap<Key, i64> =
            durable.map(|(key, (offset, _))| (key.clone(), *offset)).collect();
        assert_eq!(fetched, durable);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn offsets_are_what_the_durable_log_says(ops in proptest::collection::vec(op(), 1..80)) {
        let mut config = config();
        config.offsets_retention = RETENTION;
        let mut run =
            Run { world: World::new(config), model: Model::default(), next_request: 0 };
        for op in ops {
            run.apply(op);
        }
        run.world.step(Input::Resign);
        assert!(run.world.open.is_empty(), "never answered: {:?}", run.world.open);
    }
}
