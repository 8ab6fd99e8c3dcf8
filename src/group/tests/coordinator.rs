//! The handle and its tasks, on a log in memory whose durability tests hold in their hands, and
//! on time that stands still unless everybody waits for it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use braid_protocol::records::{BatchSpec, BatchWriter, Batches, RecordReader};
use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use uuid::Uuid;

use super::world::config;
use crate::env::sim;
use crate::group::record::{Decoded, OffsetValue, Record, decode};
use crate::group::{
    CommitPartition, CommitReply, CommitRequest, CommitTopic, FetchRequest, GroupCoordinator,
    GroupError, GroupLog, GroupLogError, HeartbeatRequest, JoinProtocol, JoinReply, JoinRequest,
    LeaveMember, LeaveRequest, ListFilter, LoadError, PendingWrite, SyncRequest, Ticket,
};
use crate::model::TopicId;

/// Partitions of `__consumer_offsets` in these tests: several tasks get some.
const PARTITIONS: i32 = 8;

/// A log whose batches become durable one by one, when a test says so or at once.
#[derive(Debug, Clone, Default)]
struct TestLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<LogState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct LogState {
    /// Appended, per partition.
    batches: BTreeMap<i32, Vec<Bytes>>,
    appended: usize,
    /// How many of the appended are decided, in order; `usize::MAX`: all, always.
    decided: usize,
    /// What those after the first `durable` come to.
    fails_from: Option<(usize, GroupLogError)>,
    refuses: Option<GroupLogError>,
    /// Where the partitions' logs start, in records; none: they are kept whole.
    starts: Option<BTreeMap<i32, i64>>,
    loads_to_fail: usize,
}

impl TestLog {
    /// A log in which everything is durable at once.
    fn prompt() -> Self {
        let log = Self::default();
        log.state().decided = usize::MAX;
        log
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.0.state.lock().unwrap()
    }

    fn decide(&self, count: usize) {
        self.state().decided += count;
        self.0.changed.notify_waiters();
    }

    /// Waits until so many batches were appended in all.
    async fn appended(&self, count: usize) {
        loop {
            let changed = self.0.changed.notified();
            if self.state().appended >= count {
                return;
            }
            changed.await;
        }
    }

    fn put(&self, partition: i32, batch: Bytes) {
        self.state().batches.entry(partition).or_default().push(batch);
    }

    /// All records of a partition, decoded.
    fn records(&self, partition: i32) -> Vec<Decoded> {
        let batches = self.state().batches.get(&partition).cloned().unwrap_or_default();
        let mut records = Vec::new();
        for batch in batches {
            for record in &RecordReader::open(&batch, usize::MAX).unwrap() {
                let record = record.unwrap();
                records.push(decode(record.key.unwrap(), record.value).unwrap());
            }
        }
        records
    }
}

impl GroupLog for TestLog {
    fn append(&self, partition: i32, batch: Bytes) -> Result<PendingWrite, GroupLogError> {
        let mut state = self.state();
        if let Some(error) = state.refuses {
            return Err(error);
        }
        let number = state.appended;
        state.appended += 1;
        state.batches.entry(partition).or_default().push(batch);
        drop(state);
        self.0.changed.notify_waiters();
        let shared = Arc::clone(&self.0);
        Ok(Box::pin(async move {
            loop {
                let changed = shared.changed.notified();
                {
                    let state = shared.state.lock().unwrap();
                    if state.decided > number {
                        let failed = state.fails_from.filter(|(from, _)| number >= *from);
                        return failed.map_or(Ok(()), |(_, error)| Err(error));
                    }
                }
                changed.await;
            }
        }))
    }

    fn next_offset(&self, partition: i32) -> Option<i64> {
        let state = self.state();
        state.starts.as_ref()?;
        let batches = state.batches.get(&partition);
        Some(batches.into_iter().flatten().map(records_count).sum())
    }

    fn release(&self, partition: i32, offset: i64) {
        if let Some(starts) = &mut self.state().starts {
            starts.insert(partition, offset);
        }
    }

    fn load(&self, partition: i32, visit: &mut dyn FnMut(Bytes)) -> Result<(), LoadError> {
        let mut state = self.state();
        if state.loads_to_fail > 0 {
            state.loads_to_fail -= 1;
            return Err(LoadError::Read { partition, source: "the disk says no".into() });
        }
        let mut batches = state.batches.get(&partition).cloned().unwrap_or_default();
        let mut start = state.starts.as_ref().and_then(|starts| starts.get(&partition).copied());
        drop(state);
        batches.retain(|batch| {
            let released = start.is_some_and(|start| start > 0);
            start = start.map(|start| start - records_count(batch));
            !released
        });
        // Two slices, as a ring that wraps would give.
        let (early, late) = batches.split_at(batches.len() / 2);
        for slice in [early, late] {
            let joined: BytesMut = slice.iter().flat_map(|batch| batch.iter().copied()).collect();
            visit(joined.freeze());
        }
        Ok(())
    }
}

fn records_count(batch: &Bytes) -> i64 {
    RecordReader::open(batch, usize::MAX).unwrap().header().records_count.into()
}

async fn start(log: &TestLog) -> GroupCoordinator {
    let (env, _) = sim::env(7);
    let groups = GroupCoordinator::start(&env, config(), Arc::new(log.clone()), PARTITIONS);
    for partition in 0..PARTITIONS {
        groups.lead(partition).await;
    }
    // A list fails until everything is loaded.
    while groups.list(ListFilter::default()).await.is_err() {
        tokio::task::yield_now().await;
    }
    groups
}

fn join(group: &str, member_id: &str) -> JoinRequest {
    JoinRequest {
        group_id: group.to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinProtocol { name: "range".to_owned(), metadata: Bytes::from("m") }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        client_id: "c".to_owned(),
        client_host: "/192.0.2.1".to_owned(),
        member_id_required: true,
        skip_assignment_supported: true,
        reason: None,
    }
}

fn commit(group: &str, offset: i64) -> CommitRequest {
    CommitRequest {
        group_id: group.to_owned(),
        generation: -1,
        member_id: String::new(),
        group_instance_id: None,
        retention_ms: -1,
        topics: vec![CommitTopic {
            name: "t".to_owned(),
            topic_id: TopicId(Uuid::nil()),
            partitions: vec![CommitPartition {
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: None,
            }],
        }],
    }
}

async fn fetched(groups: &GroupCoordinator, group: &str) -> Option<i64> {
    let request = FetchRequest { group_id: group.to_owned(), topics: None, require_stable: false };
    let topics = groups.fetch(request).await.unwrap();
    let offset = topics.first()?.partitions.first()?.result.clone().unwrap()?;
    Some(offset.offset)
}

async fn is_waiting<T: std::fmt::Debug>(ticket: &mut Ticket<T>) -> bool {
    poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *ticket).poll(context).is_pending()))
        .await
}

async fn member_of(groups: &GroupCoordinator, group: &str) -> String {
    let refused = groups.join(join(group, "")).await.unwrap_err();
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    let joined = groups.join(join(group, &refused.member_id)).await.unwrap();
    assert_eq!(joined.generation, 1);
    let synced = groups
        .sync(SyncRequest {
            group_id: group.to_owned(),
            generation: 1,
            member_id: joined.member_id.to_string(),
            group_instance_id: None,
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments: vec![(joined.member_id.to_string(), Bytes::from("all"))],
        })
        .await;
    assert_eq!(synced.unwrap().assignment, "all");
    joined.member_id.to_string()
}

fn heartbeat(group: &str, member_id: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.to_owned(),
        generation: 1,
        member_id: member_id.to_owned(),
        group_instance_id: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_forms_and_loses_its_silent_member_as_time_passes() {
    let log = TestLog::prompt();
    let groups = start(&log).await;
    let member = member_of(&groups, "g").await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(groups.heartbeat(heartbeat("g", &member)).await, Ok(()));
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let late = groups.heartbeat(heartbeat("g", &member)).await;
    assert_eq!(late, Err(GroupError::UnknownMemberId));
    let partition = groups.partition_for("g");
    let Some(Decoded::Group { value: Some(value), .. }) = log.records(partition).pop() else {
        panic!("the log says that the group is empty")
    };
    assert_eq!((value.generation, value.members.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_answered_and_seen_when_it_is_durable() {
    let log = TestLog::default();
    let groups = start(&log).await;
    let mut first = groups.commit(commit("g", 1));
    log.appended(1).await;
    let mut second = groups.commit(commit("g", 2));
    log.appended(2).await;
    assert!(is_waiting(&mut first).await && is_waiting(&mut second).await);
    assert_eq!(fetched(&groups, "g").await, None);
    log.decide(1);
    assert!(first.await.is_ok());
    assert_eq!(fetched(&groups, "g").await, Some(1));
    assert!(is_waiting(&mut second).await);
    log.decide(1);
    assert!(second.await.is_ok());
    assert_eq!(fetched(&groups, "g").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_arrives_together_is_one_batch_in_order() {
    let log = TestLog::prompt();
    let groups = start(&log).await;
    let tickets: Vec<Ticket<CommitReply>> =
        (0..100).map(|offset| groups.commit(commit("g", offset))).collect();
    for ticket in tickets {
        assert!(ticket.await.is_ok());
    }
    let partition = groups.partition_for("g");
    assert_eq!(log.state().batches[&partition].len(), 1);
    let offsets = log.records(partition).into_iter().map(|record| match record {
        Decoded::Offset { value: Some(OffsetValue { offset, .. }), .. } => offset,
        other => panic!("{other:?}"),
    });
    assert!(offsets.eq(0..100));
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_told_to_those_it_concerns() {
    let log = TestLog::default();
    log.state().fails_from = Some((1, GroupLogError::StorageFailed));
    let groups = start(&log).await;
    let first = groups.commit(commit("g", 1));
    log.appended(1).await;
    let second = groups.commit(commit("g", 2));
    log.appended(2).await;
    log.decide(2);
    assert!(first.await.is_ok());
    assert_eq!(second.await, Err(GroupError::NotCoordinator));
    assert_eq!(fetched(&groups, "g").await, Some(1));
    log.state().refuses = Some(GroupLogError::Unavailable);
    let refused = groups.commit(commit("g", 3)).await;
    assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(fetched(&groups, "g").await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn groups_and_offsets_are_there_after_a_restart() {
    let log = TestLog::prompt();
    let groups = start(&log).await;
    let member = member_of(&groups, "g").await;
    for number in 0..40 {
        assert!(groups.commit(commit(&format!("s{number}"), number)).await.is_ok());
    }
    let before = groups.list(ListFilter::default()).await.unwrap().len();
    groups.stop().await;
    assert_eq!(before, 41);

    let groups = start(&log).await;
    assert_eq!(groups.list(ListFilter::default()).await.unwrap().len(), 41);
    assert_eq!(groups.heartbeat(heartbeat("g", &member)).await, Ok(()));
    for number in 0..40 {
        assert_eq!(fetched(&groups, &format!("s{number}")).await, Some(number));
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_partition_is_loaded_clients_are_told_to_wait() {
    let log = TestLog::prompt();
    log.state().loads_to_fail = 3;
    let (env, _) = sim::env(7);
    let groups = GroupCoordinator::start(&env, config(), Arc::new(log.clone()), 1);
    let not_here = groups.commit(commit("g", 1)).await;
    assert_eq!(not_here, Err(GroupError::NotCoordinator));
    groups.lead(0).await;
    let loading = Err(GroupError::CoordinatorLoadInProgress);
    assert_eq!(groups.commit(commit("g", 1)).await, loading);
    let refused: JoinReply = groups.join(join("g", "m")).await;
    assert_eq!(refused.unwrap_err().error, GroupError::CoordinatorLoadInProgress);
    // Clients know no "loading" in these two answers.
    assert_eq!(groups.heartbeat(heartbeat("g", "m")).await, Ok(()));
    let sync = SyncRequest {
        group_id: "g".to_owned(),
        generation: 1,
        member_id: "m".to_owned(),
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    };
    assert_eq!(groups.sync(sync).await, Err(GroupError::RebalanceInProgress));
    assert!(groups.list(ListFilter::default()).await.is_err());
    // The disk is asked again until it answers.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(groups.commit(commit("g", 1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn resigning_answers_whoever_waits_and_ends_the_coordination() {
    let log = TestLog::default();
    let groups = start(&log).await;
    let partition = groups.partition_for("g");
    let waiting = groups.commit(commit("g", 1));
    let mut joining = join("g", "");
    joining.member_id_required = false;
    let joining = groups.join(joining);
    log.appended(1).await;
    groups.resign(partition).await;
    assert_eq!(waiting.await, Err(GroupError::NotCoordinator));
    assert_eq!(joining.await.unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(groups.commit(commit("g", 2)).await, Err(GroupError::NotCoordinator));
    // The write ends after a new time of leading has begun: it is not taken for one of that.
    groups.lead(partition).await;
    while fetched_or_loading(&groups).await.is_err() {
        tokio::task::yield_now().await;
    }
    log.decide(1);
    assert_eq!(fetched(&groups, "g").await, Some(1), "it was read back");
    let again = groups.commit(commit("g", 3));
    log.appended(2).await;
    log.decide(1);
    assert!(again.await.is_ok());
}

async fn fetched_or_loading(groups: &GroupCoordinator) -> Result<(), GroupError> {
    let request = FetchRequest { group_id: "g".to_owned(), topics: None, require_stable: false };
    groups.fetch(request).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_being_written_and_refuses_the_rest() {
    let log = TestLog::default();
    let groups = start(&log).await;
    let waiting = groups.commit(commit("g", 1));
    let mut joining = join("g", "");
    joining.member_id_required = false;
    let joining = groups.join(joining);
    log.appended(1).await;
    tokio::join!(groups.stop(), async { log.decide(1) });
    assert!(waiting.await.is_ok());
    assert_eq!(joining.await.unwrap_err().error, GroupError::NotCoordinator);
    let after = groups.commit(commit("g", 2)).await;
    assert_eq!(after, Err(GroupError::CoordinatorNotAvailable));
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_refuses_with_something_to_retry() {
    let log = TestLog::prompt();
    let groups = start(&log).await;
    // Nothing runs between these calls: the task's inbox fills up.
    let mut tickets: Vec<Ticket<CommitReply>> =
        (0..20_000).map(|offset| groups.commit(commit("g", offset))).collect();
    let last = tickets.pop().unwrap().await;
    assert_eq!(last, Err(GroupError::CoordinatorLoadInProgress));
    let beat = groups.heartbeat(heartbeat("g", "m"));
    assert!(tickets.remove(0).await.is_ok());
    assert_ne!(beat.await, Err(GroupError::CoordinatorLoadInProgress));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_passed_over() {
    let log = TestLog::prompt();
    let partition = super::super::partition_for("g", PARTITIONS);
    let value = |offset| OffsetValue {
        offset,
        leader_epoch: -1,
        metadata: Arc::default(),
        commit_ms: 0,
        expire_ms: None,
        topic_id: TopicId(Uuid::nil()),
    };
    let batch = |spec: BatchSpec, records: &[(&[u8], Option<&[u8]>)]| {
        let mut writer = BatchWriter::new(spec);
        for (key, value) in records {
            writer.append(0, Some(key), *value, &[]).unwrap();
        }
        writer.finish().unwrap()
    };
    let good = Record::offset("g", "t", 0, &value(5));
    let bad = Record::offset("g", "t", 1, &value(6));
    log.put(
        partition,
        batch(
            BatchSpec::default(),
            &[
                // A record type of newer groups, a cut value, no key, a newer version.
                (b"\0\x03what", Some(b"ever")),
                (&bad.key, Some(b"\0\x04\0")),
                (b"", Some(b"x")),
                (&bad.key, Some(b"\0\x09")),
                (&good.key, good.value.as_deref()),
            ],
        ),
    );
    // A transaction's end is no record of a group.
    let control = BatchSpec { control: true, ..BatchSpec::default() };
    log.put(partition, batch(control, &[(b"\0\0\0\x01", Some(b"\0\0\0\0\0\0"))]));
    let groups = start(&log).await;
    let request = FetchRequest { group_id: "g".to_owned(), topics: None, require_stable: false };
    let topics = groups.fetch(request).await.unwrap();
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0].partitions.len(), 1);
    assert_eq!(fetched(&groups, "g").await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_takes_its_offsets_along_also_while_loading() {
    let log = TestLog::prompt();
    let groups = start(&log).await;
    for number in 0..10 {
        assert!(groups.commit(commit(&format!("s{number}"), 1)).await.is_ok());
    }
    groups.stop().await;
    let (env, _) = sim::env(7);
    let groups = GroupCoordinator::start(&env, config(), Arc::new(log.clone()), PARTITIONS);
    for partition in 0..PARTITIONS {
        groups.lead(partition).await;
    }
    groups.topic_deleted("t", TopicId(Uuid::nil())).await;
    while groups.list(ListFilter::default()).await.is_err() {
        tokio::task::yield_now().await;
    }
    for number in 0..10 {
        assert_eq!(fetched(&groups, &format!("s{number}")).await, None);
    }
    let removed = (0..PARTITIONS).flat_map(|partition| log.records(partition));
    let removed = removed.filter(|record| matches!(record, Decoded::Offset { value: None, .. }));
    assert_eq!(removed.count(), 10);
}

#[tokio::test(start_paused = true)]
async fn groups_with_many_offsets_are_removed_in_pieces() {
    let log = TestLog::prompt();
    let groups = start(&log).await;
    let mut request = commit("g", 1);
    let first = request.topics[0].partitions[0].clone();
    request.topics[0].partitions =
        (0..2_500).map(|partition| CommitPartition { partition, ..first.clone() }).collect();
    assert!(groups.commit(request).await.is_ok());
    assert_eq!(groups.delete("g".to_owned()).await, Ok(()));
    assert_eq!(fetched(&groups, "g").await, None);
    assert_eq!(groups.delete("g".to_owned()).await, Err(GroupError::GroupIdNotFound));
    groups.stop().await;
    let groups = start(&log).await;
    assert_eq!(groups.list(ListFilter::default()).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_long_log_is_said_anew_and_let_go() {
    let log = TestLog::prompt();
    log.state().starts = Some(BTreeMap::new());
    let groups = start(&log).await;
    let member = member_of(&groups, "g").await;
    let partition = groups.partition_for("g");
    for round in 0..200 {
        assert!(groups.commit(commit("s", round)).await.is_ok());
        let mut of_member = commit("g", round);
        of_member.generation = 1;
        of_member.member_id.clone_from(&member);
        assert!(groups.commit(of_member).await.is_ok());
    }
    let released = log.state().starts.clone().unwrap();
    assert!(released[&partition] > 100, "the old records were let go: {released:?}");
    groups.stop().await;
    let groups = start(&log).await;
    assert_eq!(fetched(&groups, "s").await, Some(199));
    assert_eq!(fetched(&groups, "g").await, Some(199));
    assert_eq!(groups.heartbeat(heartbeat("g", &member)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn every_batch_can_be_taken_apart_and_is_stamped_with_the_time() {
    let log = TestLog::prompt();
    let groups = start(&log).await;
    let member = member_of(&groups, "g").await;
    let leaving = LeaveMember { member_id: member, group_instance_id: None, reason: None };
    let left = groups
        .leave(LeaveRequest { group_id: "g".to_owned(), members: vec![leaving] })
        .await
        .unwrap();
    assert_eq!(left[0].result, Ok(()));
    groups.stop().await;
    let partition = groups.partition_for("g");
    for batch in log.state().batches[&partition].clone() {
        let (header, _) = Batches::new(batch).next().unwrap().unwrap();
        assert!(header.max_timestamp >= sim::START_WALL_MS);
        assert_eq!((header.producer_id, header.base_offset), (-1, 0));
    }
}
