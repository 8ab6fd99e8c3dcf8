//! What administrators ask for: groups, partitions, records, log directories.

use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::*;

use super::ask::{batch, stamped, text, topic_name};
use super::client::Client;
use super::groups::find;
use super::world::World;

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// A group without members that has offset 1 of two partitions of `t`.
async fn world_with_offsets() -> (World, Client) {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 3, &[]).await;
    find(&mut client).await;
    let partitions = (0..2).map(|index| {
        OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(1)
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default().with_group_id(group("g")).with_topics(vec![topic]);
    let answer = client.call(8, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    (world, client)
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_by_state_and_type_where_the_version_can_ask() {
    let (_world, mut client) = world_with_offsets().await;
    for version in 0..=5 {
        let answer = client.call(version, &ListGroupsRequest::default()).await;
        assert_eq!((answer.error_code, answer.groups.len()), (0, 1), "version {version}");
        assert_eq!(answer.groups[0].group_id, group("g"));
        let state = if version >= 4 { "Empty" } else { "" };
        assert_eq!(answer.groups[0].group_state.as_str(), state);
        let kind = if version >= 5 { "classic" } else { "" };
        assert_eq!(answer.groups[0].group_type.as_str(), kind);
    }
    for (states, types, count) in [
        (vec!["Empty"], vec![], 1),
        (vec!["Stable"], vec![], 0),
        (vec!["stable", "empty"], vec!["classic"], 1),
        (vec![], vec!["consumer"], 0),
    ] {
        let texts = |names: Vec<&str>| names.into_iter().map(text).collect();
        let request = ListGroupsRequest::default()
            .with_states_filter(texts(states.clone()))
            .with_types_filter(texts(types));
        assert_eq!(client.call(5, &request).await.groups.len(), count, "{states:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_does_not_exist_is_dead_and_an_error_from_version_6_on() {
    let (_world, mut client) = world_with_offsets().await;
    let request = DescribeGroupsRequest::default().with_groups(vec![group("g"), group("nope")]);
    for version in 0..=6 {
        let answer = client.call(version, &request).await;
        let told: Vec<_> = answer
            .groups
            .iter()
            .map(|g| (g.group_id.as_str(), g.error_code, g.group_state.as_str()))
            .collect();
        let code = if version >= 6 { 69 } else { 0 };
        assert_eq!(told, [("g", 0, "Empty"), ("nope", code, "Dead")], "version {version}");
        let why = answer.groups[1].error_message.as_deref();
        assert_eq!(
            why.unwrap_or_default(),
            if version >= 6 { "Group nope not found." } else { "" }
        );
    }
    let request = request.with_include_authorized_operations(true);
    let answer = client.call(6, &request).await;
    let operations: Vec<_> = answer.groups.iter().map(|g| g.authorized_operations).collect();
    assert_eq!(operations, [3400, i32::MIN]);
}

#[tokio::test(start_paused = true)]
async fn offsets_and_groups_that_are_deleted_are_gone() {
    let (_world, mut client) = world_with_offsets().await;
    let delete = |indexes: &[i32], topic: &str| {
        let partitions = indexes
            .iter()
            .map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect());
        OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![topic])
    };
    let answer = client.call(0, &delete(&[0, 7], "t")).await;
    let codes: Vec<_> = answer.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!((answer.error_code, codes), (0, vec![0, 3]));
    let answer = client.call(0, &delete(&[0], "nope")).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 3);
    let unknown = delete(&[0], "t").with_group_id(group("nope"));
    assert_eq!(client.call(0, &unknown).await.error_code, 69);
    for version in 0..=2 {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group("nope")]);
        assert_eq!(client.call(version, &request).await.results[0].error_code, 69);
    }
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group("g")]);
    assert_eq!(client.call(2, &request).await.results[0].error_code, 0);
    assert!(client.call(5, &ListGroupsRequest::default()).await.groups.is_empty());
}

pub(super) fn more(name: &str, count: i32) -> CreatePartitionsRequest {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(name))
        .with_count(count)
        .with_assignments(None);
    CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000)
}

#[tokio::test(start_paused = true)]
async fn added_partitions_take_records_and_survive() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let answer = client.call(3, &more("t", 4).with_validate_only(true)).await;
    assert_eq!(answer.results[0].error_code, 0);
    for (version, count) in [(0, 2), (1, 3), (2, 4), (3, 5)] {
        let answer = client.call(version, &more("t", count)).await;
        assert_eq!(answer.results[0].error_code, 0, "version {version}");
        assert_eq!(answer.results[0].error_message, None);
    }
    assert_eq!(client.produce("t", 4, batch(&["a"])).await, 0);
    drop(client);
    let world = world.restart().await;
    assert_eq!(world.client().await.read("t", 4, 0).await, [(0, "a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_more_partitions_is_refused_with_its_reason() {
    let (_world, mut client) = world_with_offsets().await;
    for (name, count, code) in
        [("t", 3, 37), ("t", 2, 37), ("t", -1, 37), ("nope", 2, 3), ("__consumer_offsets", 9, 17)]
    {
        let answer = client.call(3, &more(name, count)).await;
        assert_eq!(answer.results[0].error_code, code, "{name} {count}");
        assert!(answer.results[0].error_message.is_some());
    }
    let mut twice = more("t", 4);
    twice.topics.push(twice.topics[0].clone());
    let answer = client.call(3, &twice).await;
    let codes: Vec<_> = answer.results.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [42]);
    let mut assigned = more("t", 4);
    let nowhere = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(9)]);
    assigned.topics[0].assignments = Some(vec![nowhere]);
    assert_eq!(client.call(3, &assigned).await.results[0].error_code, 39);
}

#[tokio::test(start_paused = true)]
async fn one_request_adds_no_more_than_ten_thousand_partitions() {
    let world = World::start().await;
    let mut client = world.client().await;
    for name in ["a", "b", "c"] {
        client.create(name, 1, &[]).await;
    }
    let mut request = more("a", 9_001);
    for (name, count) in [("b", 1_002), ("c", 1_001)] {
        request.topics.extend(more(name, count).topics);
    }
    for validate_only in [true, false] {
        let answer = client.call(3, &request.clone().with_validate_only(validate_only)).await;
        let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 44, 0], "9,000 and 1,000 fit, 1,001 do not");
    }
}

pub(super) fn delete_before(topic: &str, partition: i32, offset: i64) -> DeleteRecordsRequest {
    let partition =
        DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000)
}

async fn deleted(client: &mut Client, request: &DeleteRecordsRequest) -> (i16, i64) {
    let answer = client.call(2, request).await;
    let result = &answer.topics[0].partitions[0];
    (result.error_code, result.low_watermark)
}

#[tokio::test(start_paused = true)]
async fn deleted_records_stay_deleted_after_a_crash() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 2, &[]).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    client.produce("t", 0, batch(&["c"])).await;
    assert_eq!(deleted(&mut client, &delete_before("t", 0, 1)).await, (0, 1));
    assert_eq!(deleted(&mut client, &delete_before("t", 0, 0)).await, (0, 1), "never back");
    assert_eq!(deleted(&mut client, &delete_before("t", 0, 4)).await, (1, -1));
    assert_eq!(deleted(&mut client, &delete_before("t", 0, -2)).await, (1, -1));
    assert_eq!(deleted(&mut client, &delete_before("t", 1, -1)).await, (0, 0), "never written to");
    assert_eq!(deleted(&mut client, &delete_before("t", 9, -1)).await, (3, -1));
    assert_eq!(client.fetch("t", 0, 0).await.error_code, 1);
    assert_eq!(deleted(&mut client, &delete_before("t", 0, -1)).await, (0, 3));
    drop(client);
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(client.fetch("t", 0, 2).await.error_code, 1);
    assert_eq!(client.fetch("t", 0, 3).await.log_start_offset, 3);
}

#[tokio::test(start_paused = true)]
async fn records_of_the_broker_and_of_compacted_topics_are_not_deleted() {
    let (_world, mut client) = world_with_offsets().await;
    client.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
    client.create("both", 1, &[("cleanup.policy", "compact,delete")]).await;
    assert_eq!(deleted(&mut client, &delete_before("compacted", 0, 0)).await, (44, -1));
    assert_eq!(deleted(&mut client, &delete_before("both", 0, 0)).await, (0, 0));
    assert_eq!(deleted(&mut client, &delete_before("__consumer_offsets", 0, 0)).await, (17, -1));
}

#[tokio::test(start_paused = true)]
async fn log_directories_tell_the_bytes_of_each_partition() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("a", 2, &[]).await;
    client.create("b", 1, &[]).await;
    let records = batch(&["one", "two"]);
    client.produce("a", 1, records.clone()).await;
    let all = DescribeLogDirsRequest::default().with_topics(None);
    for version in 1..=4 {
        let answer = client.call(version, &all).await;
        assert_eq!(answer.results.len(), 1);
        let dir = &answer.results[0];
        assert_eq!((dir.error_code, dir.log_dir.as_str(), dir.topics.len()), (0, "/data", 2));
        let sizes: Vec<_> = dir.topics[0].partitions.iter().map(|p| p.partition_size).collect();
        assert_eq!(sizes, [0, i64::try_from(records.len()).unwrap()]);
        assert_eq!(dir.total_bytes > 0 && dir.usable_bytes > 0, version >= 4);
    }
    let some = DescribableLogDirTopic::default()
        .with_topic(topic_name("a"))
        .with_partitions(vec![1, 1, 7]);
    let none =
        DescribableLogDirTopic::default().with_topic(topic_name("nope")).with_partitions(vec![0]);
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![some, none]));
    let dir = &client.call(4, &request).await.results[0];
    assert_eq!(dir.topics.len(), 1);
    let indexes: Vec<_> = dir.topics[0].partitions.iter().map(|p| p.partition_index).collect();
    assert_eq!(indexes, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_knows_its_idempotent_producers() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 2, &[]).await;
    let id = client.producer_id().await;
    client.produce("t", 0, stamped(id, 0, 0, &["a", "b"])).await;
    let topics = ["t", "nope", "in valid"].map(|name| {
        TopicRequest::default().with_name(topic_name(name)).with_partition_indexes(vec![0, 1])
    });
    let request = DescribeProducersRequest::default().with_topics(topics.into());
    let answer = client.call(0, &request).await;
    let codes: Vec<_> = answer.topics.iter().map(|t| t.partitions[1].error_code).collect();
    assert_eq!(codes, [0, 3, 17]);
    let [written, fresh] = &answer.topics[0].partitions[..] else { panic!("two partitions") };
    assert!(fresh.active_producers.is_empty());
    let producer = &written.active_producers[0];
    assert_eq!((producer.producer_id.0, producer.producer_epoch), (id, 0));
    assert_eq!((producer.last_sequence, producer.current_txn_start_offset), (1, -1));
}

#[tokio::test(start_paused = true)]
async fn brokers_and_topics_have_configurations() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let ask =
        |types: &[i8]| ListConfigResourcesRequest::default().with_resource_types(types.into());
    for (types, expected) in [
        (&[][..], vec![(4, "1"), (8, "1"), (2, "t")]),
        (&[2], vec![(2, "t")]),
        (&[4, 32], vec![(4, "1")]),
        (&[16], vec![]),
    ] {
        let answer = client.call(1, &ask(types)).await;
        let told: Vec<_> = answer
            .config_resources
            .iter()
            .map(|r| (r.resource_type, r.resource_name.as_str()))
            .collect();
        assert_eq!((answer.error_code, told), (0, expected), "{types:?}");
    }
    assert_eq!(client.call(1, &ask(&[3])).await.error_code, 35);
    let answer = client.call(0, &ask(&[])).await;
    assert!(answer.config_resources.is_empty(), "the first version lists client metrics");
}

#[tokio::test(start_paused = true)]
async fn a_relative_data_directory_is_told_from_the_root_on() {
    let world = World::start_with(&[("log.dir", "here/data")]).await;
    let mut client = world.client().await;
    let all = DescribeLogDirsRequest::default().with_topics(None);
    let told = client.call(4, &all).await;
    assert_eq!(told.results[0].log_dir.as_str(), "/here/data");
    assert!(world.env.fs.size("/here/data/metadata/identity".as_ref()).unwrap().is_some());
}
