//! Scenarios: testdata/*.txt hold commands and, indented below each, everything that happened.
//! `UPDATE=1 cargo test` writes what happens now; read the difference before you commit it.
//!
//! ```text
//! join REQUEST GROUP [id=MEMBER] [instance=I] [type=consumer] [protocols=range:meta,rr:meta]
//!      [session=10s] [rebalance=60s|none] [v=9] [client=c] [subscribe=topic,topic]
//! sync REQUEST GROUP MEMBER GENERATION [instance=I] [type=T] [protocol=P] [assign=MEMBER:A,MEMBER:B]
//! heartbeat REQUEST GROUP MEMBER GENERATION [instance=I]
//! leave REQUEST GROUP MEMBER|-[/INSTANCE]...
//! commit REQUEST GROUP [id=MEMBER] [gen=N] [instance=I] [retention=S] TOPIC/PARTITION=OFFSET[:NOTE]...
//! fetch REQUEST GROUP [stable] [TOPIC/PARTITION...]
//! describe|delete REQUEST GROUP       delete-offsets REQUEST GROUP TOPIC/PARTITION...
//! list [states=A,B] [types=A]         topic-deleted TOPIC [id=N]
//! written ok|all|not-leader|storage|unavailable|too-large     advance 3s|500ms
//! config KEY=VALUE...   restart   resign   restate   log
//! ```
//! Member ids end in a random id; `c-1` stands for the first one handed out to client `c`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::show::{seconds, show, show_record};
use super::world::{World, config};
use crate::env::Fs as _;
use crate::env::real::RealFs;
use crate::golden;
use crate::group::{
    CommitPartition, CommitRequest, CommitTopic, DeleteOffsetsRequest, FetchRequest, FetchTopic,
    GroupLogError, HeartbeatRequest, Input, JoinProtocol, JoinRequest, LeaveMember, LeaveRequest,
    ListFilter, Request, SyncRequest,
};
use crate::model::TopicId;

const DIR: &str = "src/group/testdata";

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )+
    #[test]
    fn every_scenario_is_run() {
        for name in golden_files() {
            assert!([$(stringify!($name)),+].contains(&name.as_str()), "{name} is not run");
        }
    }};
}

scenarios!(
    join_and_sync,
    join_refused,
    initial_delay,
    rebalance,
    cooperative,
    sessions,
    static_members,
    leave,
    group_size,
    sync_refused,
    heartbeats,
    write_failures,
    commits,
    commit_refused,
    fetch_stable,
    expiry,
    deletion,
    restart,
    restate,
    lists,
    protocols,
);

fn golden_files() -> Vec<String> {
    let files = RealFs.list(&golden::path(DIR)).unwrap();
    let stem = |name: &str| name.strip_suffix(".txt").unwrap().to_owned();
    files.iter().map(|file| stem(&file.name)).collect()
}

fn check(name: &str) {
    let path = format!("{DIR}/{name}.txt");
    golden::check(&path, &run(&golden::read(&path)));
}

fn run(golden: &str) -> String {
    let mut scenario = Scenario { world: World::new(config()), uuids: 0 };
    let mut out = String::new();
    for line in golden.lines().filter(|line| !line.starts_with("    ")) {
        out.push_str(line);
        out.push('\n');
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [command, rest @ ..] = words.as_slice()
            && !command.starts_with('#')
        {
            for happened in scenario.run(command, &Words(rest)) {
                writeln!(out, "    {happened}").unwrap();
            }
        }
    }
    // Whoever still waits is answered when another broker takes over.
    scenario.world.step(Input::Resign);
    assert!(scenario.world.open.is_empty(), "never answered: {:?}", scenario.world.open);
    out
}

/// The words of a command behind its name.
struct Words<'a>(&'a [&'a str]);

impl<'a> Words<'a> {
    fn at(&self, index: usize) -> &'a str {
        self.0.get(index).unwrap_or_else(|| panic!("word {index} is missing in {:?}", self.0))
    }

    fn named(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn request(&self) -> u64 {
        self.at(0).strip_prefix('r').unwrap().parse().unwrap()
    }

    fn group(&self) -> String {
        self.at(1).to_owned()
    }

    /// Words with a slash, behind the first two: partitions.
    fn partitions(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().skip(2).filter_map(|word| word.split_once('/'))
    }
}

struct Scenario {
    world: World,
    uuids: u128,
}

impl Scenario {
    fn run(&mut self, command: &str, words: &Words<'_>) -> Vec<String> {
        let events = match command {
            "config" => return self.configure(words),
            "advance" => {
                let before = self.world.elapsed();
                let events = self.world.advance(duration(words.at(0)));
                let shown = events.into_iter().flat_map(|(at, event)| {
                    let after = seconds(at - before);
                    show(event).into_iter().map(move |line| format!("+{after} {line}"))
                });
                return shown.collect();
            }
            "list" => return self.list(words),
            "written" if words.at(0) == "all" => {
                let mut events = Vec::new();
                while !self.world.in_flight.is_empty() {
                    events.extend(self.world.written(Ok(())));
                }
                events
            }
            "written" => self.world.written(write_result(words.at(0))),
            "restart" => self.world.restart(),
            "restate" => self.world.restate(),
            "log" => return self.world.log.iter().map(show_record).collect(),
            "resign" => self.world.step(Input::Resign),
            "topic-deleted" => self.world.step(Input::TopicDeleted {
                name: Arc::from(words.at(0)),
                topic_id: topic_id(words.named("id").unwrap_or("0")),
            }),
            _ => {
                let request = self.parse(command, words);
                self.world.request(words.request(), request)
            }
        };
        events.into_iter().flat_map(show).collect()
    }

    fn configure(&mut self, words: &Words<'_>) -> Vec<String> {
        let mut config = config();
        for word in words.0 {
            match word.split_once('=').unwrap() {
                ("delay", value) => config.initial_rebalance_delay = duration(value),
                ("size", value) => config.members_max = value.parse().unwrap(),
                ("retention", value) => config.offsets_retention = duration(value),
                other => panic!("no such key: {other:?}"),
            }
        }
        if self.world.log.is_empty() {
            self.world = World::new(config);
        } else {
            self.world.config = config;
        }
        Vec::new()
    }

    fn list(&self, words: &Words<'_>) -> Vec<String> {
        let names = |key| {
            let named = words.named(key).map(|names| names.split(',').map(str::to_owned).collect());
            named.unwrap_or_default()
        };
        let filter = ListFilter { states: names("states"), types: names("types") };
        let listed = self.world.shard.list(&filter);
        let line = |group: crate::group::ListedGroup| {
            format!(
                "{} {} {:?} {}",
                group.group_id, group.group_type, group.protocol_type, group.state
            )
        };
        listed.into_iter().map(line).collect()
    }

    fn parse(&mut self, command: &str, words: &Words<'_>) -> Request {
        match command {
            "join" => self.parse_join(words),
            "sync" => Request::Sync(SyncRequest {
                group_id: words.group(),
                member_id: long(words.at(2)),
                generation: words.at(3).parse().unwrap(),
                group_instance_id: words.named("instance").map(str::to_owned),
                protocol_type: words.named("type").map(str::to_owned),
                protocol_name: words.named("protocol").map(str::to_owned),
                assignments: pairs(words.named("assign").unwrap_or_default())
                    .map(|(member, bytes)| (long(member), Bytes::copy_from_slice(bytes.as_bytes())))
                    .collect(),
            }),
            "heartbeat" => Request::Heartbeat(HeartbeatRequest {
                group_id: words.group(),
                member_id: long(words.at(2)),
                generation: words.at(3).parse().unwrap(),
                group_instance_id: words.named("instance").map(str::to_owned),
            }),
            "leave" => Request::Leave(LeaveRequest {
                group_id: words.group(),
                members: words.0[2..].iter().map(|word| parse_leaving(word)).collect(),
            }),
            "commit" => parse_commit(words),
            "fetch" => parse_fetch(words),
            "describe" => Request::Describe(words.group()),
            "delete" => Request::Delete(words.group()),
            "delete-offsets" => Request::DeleteOffsets(DeleteOffsetsRequest {
                group_id: words.group(),
                topics: words
                    .partitions()
                    .map(|(topic, partition)| (topic.to_owned(), vec![partition.parse().unwrap()]))
                    .collect(),
            }),
            other => panic!("no such command: {other}"),
        }
    }

    fn parse_join(&mut self, words: &Words<'_>) -> Request {
        let version: i32 = words.named("v").unwrap_or("9").parse().unwrap();
        let subscription = words.named("subscribe").map(subscription);
        let protocols = pairs(words.named("protocols").unwrap_or("range:m"));
        let protocols = protocols.map(|(name, metadata)| JoinProtocol {
            name: name.to_owned(),
            metadata: subscription.clone().unwrap_or(Bytes::copy_from_slice(metadata.as_bytes())),
        });
        let request = JoinRequest {
            group_id: words.group().replace("''", ""),
            member_id: words.named("id").map(long).unwrap_or_default(),
            group_instance_id: words.named("instance").map(str::to_owned),
            protocol_type: words.named("type").unwrap_or("consumer").to_owned(),
            protocols: protocols.collect(),
            session_timeout_ms: millis(words.named("session").unwrap_or("10s")),
            rebalance_timeout_ms: match words.named("rebalance").unwrap_or("60s") {
                "none" => -1,
                timeout => millis(timeout),
            },
            client_id: words.named("client").unwrap_or("c").to_owned(),
            client_host: "/192.0.2.1".to_owned(),
            member_id_required: version >= 4,
            skip_assignment_supported: version >= 9,
            reason: None,
        };
        let fresh = if request.member_id.is_empty() {
            self.uuids += 1;
            Uuid::from_u128(self.uuids)
        } else {
            Uuid::nil()
        };
        Request::Join(request, fresh)
    }
}

fn parse_leaving(word: &str) -> LeaveMember {
    let (member, instance) = match word.split_once('/') {
        Some((member, instance)) => (member, Some(instance.to_owned())),
        None => (word, None),
    };
    let member_id = if member == "-" { String::new() } else { long(member) };
    LeaveMember { member_id, group_instance_id: instance, reason: None }
}

fn parse_commit(words: &Words<'_>) -> Request {
    let topics = words.partitions().map(|(topic, rest)| {
        let (partition, offset) = rest.split_once('=').unwrap();
        let (offset, note) = match offset.split_once(':') {
            Some((offset, note)) => (offset, Some(note.to_owned())),
            None => (offset, None),
        };
        let partition = CommitPartition {
            partition: partition.parse().unwrap(),
            offset: offset.parse().unwrap(),
            leader_epoch: -1,
            metadata: note,
        };
        let id = topic_id(words.named("topic-id").unwrap_or("7"));
        CommitTopic { name: topic.to_owned(), topic_id: id, partitions: vec![partition] }
    });
    Request::Commit(CommitRequest {
        group_id: words.group(),
        generation: words.named("gen").unwrap_or("-1").parse().unwrap(),
        member_id: words.named("id").map(long).unwrap_or_default(),
        group_instance_id: words.named("instance").map(str::to_owned),
        retention_ms: words.named("retention").map_or(-1, |text| millis(text).into()),
        topics: topics.collect(),
    })
}

fn parse_fetch(words: &Words<'_>) -> Request {
    let topics: Vec<FetchTopic> = words
        .partitions()
        .map(|(topic, partition)| FetchTopic {
            name: topic.to_owned(),
            topic_id: words.named("topic-id").map(topic_id),
            partitions: vec![partition.parse().unwrap()],
        })
        .collect();
    Request::Fetch(FetchRequest {
        group_id: words.group(),
        topics: (!topics.is_empty()).then_some(topics),
        require_stable: words.0.contains(&"stable"),
    })
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words.map(|word| word.split_once(':').unwrap_or((word, "")))
}

/// A consumer's subscription of version 0.
fn subscription(topics: &str) -> Bytes {
    let topics: Vec<&str> = topics.split(',').collect();
    let mut bytes = vec![0, 0];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([0xff, 0xff, 0xff, 0xff]);
    Bytes::from(bytes)
}

fn write_result(word: &str) -> Result<(), GroupLogError> {
    match word {
        "ok" => Ok(()),
        "not-leader" => Err(GroupLogError::NotLeader),
        "storage" => Err(GroupLogError::StorageFailed),
        "unavailable" => Err(GroupLogError::Unavailable),
        "too-large" => Err(GroupLogError::TooLarge),
        other => panic!("no such result: {other}"),
    }
}

fn duration(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().unwrap()),
        None => Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap()),
    }
}

fn millis(text: &str) -> i32 {
    i32::try_from(duration(text).as_millis()).unwrap()
}

fn topic_id(number: &str) -> TopicId {
    TopicId(Uuid::from_u128(number.parse().unwrap()))
}

/// `c-1` → `c-00000000-0000-0000-0000-000000000001`
fn long(member: &str) -> String {
    match member.rsplit_once('-') {
        Some((prefix, number)) if let Ok(number) = number.parse() => {
            format!("{prefix}-{}", Uuid::from_u128(number))
        }
        _ => member.to_owned(),
    }
}
