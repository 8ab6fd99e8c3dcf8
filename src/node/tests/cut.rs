//! A client that says everything there is to say, cut at every byte of it: each request is done as
//! a whole or not at all, none was done that had not come whole, and the client leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use super::administration::delete_before;
use super::ask::{
    batch, batches, create_topics, fetch, new_topic, produce, records, records_of, text,
};
use super::client::{Client, frame_of};
use super::groups::{self, commit, find, heartbeat, join_as};
use super::offsets::earliest;
use super::transactions::{Tx, committed};
use super::world::World;

/// Partitions of a topic that a session makes.
const PARTITIONS: i32 = 3;

/// A request of the session whose effect can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    TwoRecords,
    ById,
    Unanswered,
    CreateTopic,
    DeleteRecords,
    EndTransaction,
    CommitOffset,
    Join,
}

/// Everything a client says in a short life, and where in it each step is whole.
#[derive(Debug, Default)]
struct Session {
    bytes: Vec<u8>,
    whole_at: BTreeMap<Step, usize>,
}

impl Session {
    /// What it writes, makes and deletes is marked with a number, its length is always the same.
    fn new(number: usize, topic: Uuid, tx: &Tx) -> Self {
        let mark = mark(number);
        let offset = i64::try_from(number).unwrap();
        let mut poll = fetch("t", 0, 0).with_max_wait_ms(5_000).with_min_bytes(1 << 30);
        poll.session_epoch = 0;
        let mut by_id = produce("", 0, batch(&[&format!("{mark} by id")]));
        by_id.topic_data[0].topic_id = topic;
        let two = batch(&[&format!("{mark} a"), &format!("{mark} b")]);
        let unanswered = produce("t", 0, batch(&[&format!("{mark} c")])).with_acks(0);
        let made = new_topic(&format!("n{mark}"), PARTITIONS, &[("retention.ms", "600000")]);
        let nobody = JoinGroupResponse::default().with_member_id(text("m"));
        let mut session = Self::default();
        session.say(3, &ApiVersionsRequest::default());
        session.say(9, &MetadataRequest::default().with_topics(None));
        session.say(4, &InitProducerIdRequest::default().with_transactional_id(None));
        session.step(Step::TwoRecords, 9, &produce("t", 0, two));
        session.step(Step::ById, 13, &by_id);
        session.step(Step::Unanswered, 9, &unanswered);
        session.step(Step::CreateTopic, 6, &create_topics(vec![made]));
        session.step(Step::DeleteRecords, 2, &delete_before("old", 0, offset));
        session.say(3, &tx.add_partitions(&["x", "y"]));
        session.say(9, &tx.produce("x", &mark));
        session.say(9, &tx.produce("y", &mark));
        session.step(Step::EndTransaction, 3, &tx.end_txn(true));
        session.step(Step::CommitOffset, 7, &commit("h", None, offset));
        session.step(Step::Join, 3, &join_as(3, &format!("g{mark}"), ""));
        session.say(3, &heartbeat("h", &nobody));
        session.say(12, &poll);
        session
    }

    fn say<R: Request>(&mut self, version: i16, request: &R) {
        self.bytes.extend_from_slice(&frame_of(7, version, request));
    }

    fn step<R: Request>(&mut self, step: Step, version: i16, request: &R) {
        self.say(version, request);
        self.whole_at.insert(step, self.bytes.len());
    }
}

fn mark(number: usize) -> String {
    format!("{number:05}")
}

/// Which sessions took each of their steps, as far as that can be seen.
type Done = BTreeMap<Step, BTreeSet<usize>>;

/// Looks at everything that the sessions left.
async fn look(client: &mut Client, old_records: usize) -> Done {
    let mut done = Done::new();
    appended(client, &mut done).await;
    created(client, &mut done).await;
    ended(client, &mut done).await;
    let first = earliest(client, "old").await;
    let left: Vec<_> = client.read("old", 0, first).await.into_iter().map(|it| it.0).collect();
    let all = i64::try_from(old_records).unwrap();
    assert_eq!(left, (first..all).collect::<Vec<_>>(), "the rest is there");
    let first = usize::try_from(first).unwrap();
    done.insert(Step::DeleteRecords, BTreeSet::from([first]));
    let committed = groups::committed(client, "h").await;
    done.insert(Step::CommitOffset, BTreeSet::from([usize::try_from(committed).unwrap()]));
    done
}

/// Every batch is one of a session as it was sent, and is there once.
async fn appended(client: &mut Client, done: &mut Done) {
    let mut next = 0;
    loop {
        let part = client.fetch("t", 0, next).await;
        assert_eq!(part.error_code, 0);
        let found = batches(&part);
        let Some((last, _)) = found.last() else { break };
        for (header, batch) in &found {
            assert_eq!(header.base_offset, next, "offsets are dense");
            next = header.next_offset();
            let values: Vec<_> = records_of(batch).into_iter().map(|(_, value)| value).collect();
            let (mark, _) = values[0].split_once(' ').unwrap();
            let of = |word: &str| format!("{mark} {word}");
            let step = match values.as_slice() {
                [a, b] if [a, b] == [&of("a"), &of("b")] => Step::TwoRecords,
                [only] if *only == of("by id") => Step::ById,
                [only] if *only == of("c") => Step::Unanswered,
                other => panic!("nobody sent {other:?} in one batch"),
            };
            let is_new = done.entry(step).or_default().insert(mark.parse().unwrap());
            assert!(is_new, "{values:?} is there twice");
        }
        assert_eq!(next, last.next_offset());
    }
}

/// A topic has all its partitions, and they take records.
async fn created(client: &mut Client, done: &mut Done) {
    let all = client.call(9, &MetadataRequest::default().with_topics(None)).await;
    for topic in all.topics {
        let name = topic.name.unwrap();
        let Some(mark) = name.strip_prefix('n') else { continue };
        assert_eq!(topic.error_code, 0);
        let mut partitions: Vec<_> = topic.partitions.iter().map(|p| p.partition_index).collect();
        partitions.sort_unstable();
        assert_eq!(partitions, (0..PARTITIONS).collect::<Vec<_>>(), "{}", name.as_str());
        for partition in partitions {
            let before = client.fetch(&name, partition, 0).await.high_watermark;
            assert_eq!(client.produce(&name, partition, batch(&["x"])).await, before);
        }
        done.entry(Step::CreateTopic).or_default().insert(mark.parse().unwrap());
    }
}

/// The groups that sessions have joined, and how many of them have members.
async fn joined(client: &mut Client) -> (BTreeSet<usize>, usize) {
    let all = client.call(5, &ListGroupsRequest::default()).await;
    let is_of_session =
        |group: &&list_groups_response::ListedGroup| group.group_id.starts_with('g');
    let of_sessions: Vec<_> = all.groups.iter().filter(is_of_session).collect();
    let has_members = of_sessions.iter().filter(|group| &*group.group_state != "Empty").count();
    let numbers = of_sessions.iter().map(|group| group.group_id[1..].parse().unwrap());
    (numbers.collect(), has_members)
}

/// A transaction's records are seen in both of its topics or in neither, and none is open.
async fn ended(client: &mut Client, done: &mut Done) {
    let (of_x, stable) = committed(client, "x").await;
    let part = client.fetch("x", 0, 0).await;
    assert_eq!(stable, part.high_watermark, "no transaction is open");
    let (of_y, stable) = committed(client, "y").await;
    assert_eq!(stable, client.fetch("y", 0, 0).await.high_watermark);
    assert!(records(&part).len() > 2 * of_x.len(), "some were ended by their timeout");
    let numbers = |marks: &[String]| -> BTreeSet<usize> {
        let numbers: BTreeSet<_> = marks.iter().map(|mark| mark.parse().unwrap()).collect();
        assert_eq!(numbers.len(), marks.len(), "each once");
        numbers
    };
    assert_eq!(numbers(&of_x), numbers(&of_y));
    done.insert(Step::EndTransaction, numbers(&of_x));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_at_any_byte_leaves_nothing_half_done() {
    let world = World::start().await;
    let mut client = world.client().await;
    find(&mut client).await;
    let id = client.create("t", 1, &[]).await;
    for topic in ["old", "x", "y"] {
        client.create(topic, 1, &[]).await;
    }
    let session = Session::new(0, id, &Tx::begin(&mut client, "tx00000").await);
    let length = session.bytes.len();
    let old = vec!["o"; length + 1];
    client.produce("old", 0, batch(&old)).await;
    for end in 0..=length {
        let tx = Tx::begin(&mut client, &format!("tx{}", mark(end))).await;
        let bytes = Session::new(end, id, &tx).bytes;
        assert_eq!(bytes.len(), length);
        let mut gone = world.client().await;
        gone.send_bytes(&bytes[..end]).await;
        for _ in 0..end % 7 {
            tokio::task::yield_now().await;
        }
        drop(gone);
        if end % 100 == 0 {
            // All lines at once, as when a switch dies.
            world.sim.net.cut_all();
            client = world.client().await;
        }
    }
    let (of_joins, had_members) = joined(&mut client).await;
    assert!(had_members > 0, "those that came last are members still");
    drop(client);
    // What was sent whole before is still done.
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.node.connections(), 0);
    let memory = world.config.network.request_memory_bytes;
    assert_eq!(world.node.free_request_memory_bytes(), memory);

    let mut client = world.client().await;
    assert_eq!(joined(&mut client).await.1, 0, "no member is left");
    let done = look(&mut client, old.len()).await;
    let of_all = done.clone().into_iter().chain([(Step::Join, of_joins)]);
    for (step, numbers) in of_all {
        let whole_at = session.whole_at[&step];
        let first = *numbers.first().unwrap();
        assert!(
            first >= whole_at,
            "{step:?} of {first} was done and came whole at {whole_at} only"
        );
        // Offsets tell of the last alone.
        let whole = length - whole_at + 1;
        let is_last_alone = matches!(step, Step::DeleteRecords | Step::CommitOffset);
        assert!(is_last_alone || numbers.len() > whole / 2, "{step:?}: {}", numbers.len());
    }
    drop(client);

    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    while !groups::are_loaded(&mut client, "h").await {}
    assert_eq!(look(&mut client, old.len()).await, done, "a restart changes nothing");
    assert!(world.sim.fatal().is_empty());
}
