//! Golden scenarios: `testdata/*.txt` hold commands, and below `---` what came of each and the
//! image they leave. `UPDATE_TESTDATA=1` writes the lower part anew.

use std::path::{Path, PathBuf};

use braid_base::env::real;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::command::{ClusterId, ConfigResource, Endpoint};
use crate::outcome::Outcome;
use crate::testing::{self, any_command, create, on_broker_1, register, topic_id};

fn check(name: &str) {
    let env = real::env();
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = String::from_utf8(env.fs.read_all(&path).unwrap()).unwrap();
    let (commands, wanted) = text.split_once("---\n").unwrap_or((&text, ""));
    let mut image = MetadataImage::default();
    let mut found = String::new();
    for command in commands.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let outcome = apply(&mut image, &parse(command));
        found.push_str(&format!("> {command}\n{}", render(&outcome)));
    }
    found.push_str(&format!("\n{image}"));
    if std::env::var_os("UPDATE_TESTDATA").is_some() {
        env.fs.replace(&path, format!("{commands}---\n{found}").as_bytes()).unwrap();
    } else {
        assert_eq!(found, wanted, "{name}");
    }
}

/// One command, its words separated by blanks.
fn parse(line: &str) -> MetadataCommand {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["cluster", id, features @ ..] => {
            let feature = |word: &&str| {
                let (name, level) = word.split_once('=').unwrap();
                (name.to_owned(), level.parse().unwrap())
            };
            let features = features.iter().map(feature).collect();
            ClusterInit { cluster_id: ClusterId::new(*id), features }.into()
        }
        ["broker", id, "life", life, "rack", rack, endpoints @ ..] => RegisterBroker {
            broker: BrokerId(id.parse().unwrap()),
            incarnation: Uuid::from_u128(life.parse().unwrap()),
            endpoints: endpoints.iter().map(|word| endpoint(word)).collect(),
            rack: (*rack != "-").then(|| (*rack).to_owned()),
            registered_ms: 1000,
        }
        .into(),
        ["create", topics @ ..] => {
            create(topics.split(|word| *word == "and").map(new_topic).collect()).into()
        }
        ["delete", topics @ ..] => {
            DeleteTopics { topics: topics.iter().map(|id| topic(id)).collect() }.into()
        }
        ["partitions", id, "from", expected, added @ ..] => CreatePartitions {
            topic: topic(id),
            expected_count: expected.parse().unwrap(),
            added: added.iter().map(|word| run(word)).collect(),
        }
        .into(),
        ["topic-configs", id, changes @ ..] => SetTopicConfigs {
            topic: topic(id),
            changes: changes.iter().map(|word| change(word)).collect(),
        }
        .into(),
        ["broker-configs", broker, changes @ ..] => SetBrokerConfigs {
            broker: broker.parse().ok().map(BrokerId),
            changes: changes.iter().map(|word| change(word)).collect(),
        }
        .into(),
        ["group-configs", id, changes @ ..] => SetResourceConfigs {
            resource: ConfigResource::Group((*id).to_owned()),
            changes: changes.iter().map(|word| change(word)).collect(),
        }
        .into(),
        ["client-metrics", name, changes @ ..] => SetResourceConfigs {
            resource: ConfigResource::ClientMetrics((*name).to_owned()),
            changes: changes.iter().map(|word| change(word)).collect(),
        }
        .into(),
        ["fence", id, "life", life, fenced] => FenceBroker {
            broker: BrokerId(id.parse().unwrap()),
            incarnation: Uuid::from_u128(life.parse().unwrap()),
            fenced: fenced.parse().unwrap(),
        }
        .into(),
        ["start" | "shard" | "sync" | "elect" | "drain" | "admit", ..] => shards::parse(&words),
        ["producer-ids", count] => AllocateProducerIds { count: count.parse().unwrap() }.into(),
        _ => panic!("no command: {line}"),
    }
}

fn topic(id: &str) -> braid_base::model::TopicId {
    topic_id(id.parse().unwrap())
}

fn endpoint(word: &str) -> Endpoint {
    let (listener, address) = word.split_once('=').unwrap();
    let (host, port) = address.split_once(':').unwrap();
    Endpoint { listener: listener.to_owned(), host: host.to_owned(), port: port.parse().unwrap() }
}

/// `name id 3x1,2 1x2 key=value`; `''` is the empty name.
fn new_topic(words: &[&str]) -> NewTopic {
    let [name, id, rest @ ..] = words else { panic!("a topic has a name and an id") };
    let (configs, runs): (Vec<&str>, Vec<&str>) = rest.iter().partition(|word| word.contains('='));
    let config = |word: &str| {
        let (key, value) = word.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    NewTopic {
        name: name.trim_matches('\'').to_owned(),
        id: topic(id),
        partitions: runs.into_iter().map(run).collect(),
        configs: configs.into_iter().map(config).collect(),
    }
}

/// `3x1,2`: three partitions on brokers 1 and 2; `1x` is on none.
fn run(word: &str) -> PartitionRun {
    let (count, replicas) = word.split_once('x').unwrap();
    let replicas = replicas.split(',').filter(|id| !id.is_empty());
    PartitionRun {
        count: count.parse().unwrap(),
        replicas: replicas.map(|id| BrokerId(id.parse().unwrap())).collect(),
    }
}

fn change(word: &str) -> ConfigChange {
    let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
    ConfigChange { key: key.trim_start_matches('-').to_owned(), value: value.map(str::to_owned) }
}

fn render(outcome: &Outcome) -> String {
    fn line<T: std::fmt::Debug, E: std::fmt::Display>(result: &Result<T, E>) -> String {
        match result {
            Ok(it) => format!("  {it:?}\n"),
            Err(error) => format!("  refused: {error}\n"),
        }
    }
    match outcome {
        Outcome::ClusterInit(it) => line(it),
        Outcome::RegisterBroker(it) => line(it),
        Outcome::CreateTopics(it) => {
            it.iter().map(|it| line(&it.as_ref().map(|created| created.partition_count))).collect()
        }
        Outcome::DeleteTopics(it) => it.iter().map(line).collect(),
        Outcome::CreatePartitions(it) => line(it),
        Outcome::SetTopicConfigs(it) => line(it),
        Outcome::FenceBroker(it) => line(it),
        Outcome::SetBrokerConfigs | Outcome::SetResourceConfigs | Outcome::AdmitDirectory => {
            "  ()\n".to_owned()
        }
        Outcome::CreateShards(it) => it.iter().map(line).collect(),
        Outcome::ChangeSyncSet(it) => line(it),
        Outcome::ElectLeaders(it) => it.iter().map(line).collect(),
        Outcome::StartBroker(it) => line(it),
        Outcome::DrainBroker(it) => line(it),
        Outcome::AllocateProducerIds(it) => line(&it.as_ref().map(|block| block.first..block.end)),
    }
}

#[test]
fn brokers_register_and_their_shards_begin_new_epochs() {
    check("brokers.txt");
}

#[test]
fn brokers_are_fenced_in_the_life_that_was_judged() {
    check("fencing.txt");
}

#[test]
fn shards_are_led_by_whoever_holds_all_that_is_committed() {
    check("shards.txt");
}

#[test]
fn who_starts_without_its_log_is_not_in_sync() {
    check("lost_logs.txt");
}

#[test]
fn topics_are_created_and_deleted() {
    check("topics.txt");
}

#[test]
fn partitions_are_added() {
    check("partitions.txt");
}

#[test]
fn configs_are_set_and_taken_away() {
    check("configs.txt");
}

#[test]
fn producer_ids_are_handed_out_in_blocks() {
    check("producer_ids.txt");
}

#[test]
fn a_topic_may_not_have_too_many_partitions() {
    let mut image = MetadataImage::default();
    apply(&mut image, &register(1).into());
    let mut big = testing::topic("big", 1, PARTITIONS_PER_TOPIC_MAX);
    big.partitions.push(PartitionRun { count: u32::MAX, replicas: vec![BrokerId(1)] });
    let Outcome::CreateTopics(outcomes) = apply(&mut image, &create(vec![big.clone()]).into())
    else {
        panic!("the outcome of another command");
    };
    assert_eq!(
        outcomes[0].as_ref().unwrap_err().to_string(),
        "The topic would have 4295967295 partitions; the most a topic may have is 1000000."
    );
    big.partitions.pop();
    let Outcome::CreateTopics(outcomes) = apply(&mut image, &create(vec![big]).into()) else {
        panic!("the outcome of another command");
    };
    assert_eq!(outcomes[0].as_ref().unwrap().partition_count, PARTITIONS_PER_TOPIC_MAX);
    let more = CreatePartitions {
        topic: topic_id(1),
        expected_count: PARTITIONS_PER_TOPIC_MAX,
        added: on_broker_1(1),
    };
    let refused = apply(&mut image, &more.into());
    assert!(matches!(
        refused,
        Outcome::CreatePartitions(Err(CreatePartitionsRejection::Partitions(
            InvalidPartitionCount::TooMany { count: 1_000_001, max: PARTITIONS_PER_TOPIC_MAX }
        )))
    ));
}

#[test]
fn used_up_queue_numbers_are_a_refusal() {
    let mut image = MetadataImage::default();
    apply(&mut image, &register(1).into());
    Arc::make_mut(&mut image.topics).allocate_queues(QueueId::PARTITIONS_END.0 - 1).unwrap();
    let outcome = apply(
        &mut image,
        &create(vec![testing::topic("a", 1, 1), testing::topic("b", 2, 1)]).into(),
    );
    let Outcome::CreateTopics(outcomes) = outcome else { panic!("another command's") };
    assert!(outcomes[0].is_ok());
    assert_eq!(
        outcomes[1],
        Err(CreateTopicRejection::Partitions(InvalidPartitionCount::Exhausted))
    );
    assert_eq!(image.topics().len(), 1);
}

mod shards;

/// Everything that must hold of any image, however it came about.
fn check_invariants(image: &MetadataImage) {
    let topics = image.topics();
    let mut queues = BTreeSet::new();
    for topic in topics.iter() {
        assert!(!topic.partitions.is_empty());
        assert!(Arc::ptr_eq(image.topic_by_id(topic.id).unwrap(), topic));
        assert!(Arc::ptr_eq(image.topic(&topic.name).unwrap(), topic));
        for (number, partition) in (0..).zip(&topic.partitions) {
            assert!(queues.insert(partition.queue), "queue {} twice", partition.queue);
            assert!(partition.queue < image.next_queue_id());
            let owner = image.queue(partition.queue).unwrap();
            assert_eq!((owner.topic, owner.partition), (topic.id, number));
            assert!(image.shard(partition.shard).is_some());
        }
    }
    assert_eq!(queues.len() as u64, topics.partition_count());
    for queue in 0..image.next_queue_id().0 {
        assert_eq!(image.queue(QueueId(queue)).is_some(), queues.contains(&QueueId(queue)));
    }
    assert_eq!(image.queue(image.next_queue_id()), None);
    assert_eq!(image.queue(QueueId(u32::MAX)), None);
    for shard in image.shards() {
        if let Some(leader) = shard.leader() {
            assert!(image.broker(leader).is_some());
            assert!(shard.in_sync().members.contains(&leader));
        }
    }
}

proptest! {
    #[test]
    fn any_commands_leave_an_image_that_holds_together(
        commands in proptest::collection::vec(any_command(), 0..60)
    ) {
        let mut image = MetadataImage::default();
        apply(&mut image, &register(1).into());
        for command in &commands {
            let before = image.clone();
            let outcome = apply(&mut image, command);
            check_invariants(&image);
            prop_assert!(before.next_queue_id() <= image.next_queue_id());
            prop_assert!(before.next_producer_id() <= image.next_producer_id());
            // Applied again to the same image, it comes to the same.
            let mut again = before;
            prop_assert_eq!(apply(&mut again, command), outcome);
            prop_assert_eq!(&again, &image);
        }
    }
}
