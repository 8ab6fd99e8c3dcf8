//! DescribeTopicPartitions v0: topics in order of their names, in pages that a cursor continues.
//!
//! No topics asked for means all. A topic that does not exist is told only to who named it:
//! UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION. A cursor that makes no sense: INVALID_REQUEST.

use std::collections::BTreeSet;

use braid_protocol::ErrorCode;
use braid_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use braid_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use braid_raft::image::{MetadataImage, TopicImage};

use super::Broker;
use super::metadata::ALL_TOPIC_OPERATIONS;
use super::respond::{NO_LEADER, OPERATIONS_NOT_ASKED, is_internal, placement, text};

pub(crate) fn handle(
    broker: &Broker,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = broker.metadata.image();
    page(&image, broker.config.topics.described_partitions_max, request)
}

fn page(
    image: &MetadataImage,
    partitions_max: usize,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let (first_name, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let all = request.topics.is_empty();
    let named: BTreeSet<&str> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .filter(|name| *name >= first_name)
        .collect();
    let cursor_is_named = all || request.cursor.is_none() || named.contains(first_name);
    let Ok(first_partition) = usize::try_from(first_partition) else {
        return refused(request);
    };
    if !cursor_is_named {
        return refused(request);
    }
    let names: Box<dyn Iterator<Item = &str>> = if all {
        let at = image.topic(first_name).map(|topic| &*topic.name);
        Box::new(at.into_iter().chain(image.topics().iter_after(first_name).map(|t| &*t.name)))
    } else {
        Box::new(named.into_iter())
    };
    let mut room =
        usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, partitions_max);
    let mut answer = DescribeTopicPartitionsResponse::default();
    for name in names {
        if room == 0 {
            answer.next_cursor = Some(cursor(name, 0));
            break;
        }
        let Some(topic) = image.topic(name) else {
            answer.topics.push(unknown(name));
            continue;
        };
        let from = if name == first_name { first_partition } else { 0 };
        let count = topic.partitions.len().saturating_sub(from).min(room);
        answer.topics.push(describe(image, topic, from..from + count));
        room -= count;
        if from + count < topic.partitions.len() {
            answer.next_cursor = Some(cursor(name, from + count));
            break;
        }
    }
    answer
}

fn cursor(name: &str, partition: usize) -> Cursor {
    Cursor::default()
        .with_topic_name(TopicName(text(name)))
        .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
}

fn describe(
    image: &MetadataImage,
    topic: &TopicImage,
    partitions: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let of_topic = topic.partitions.get(partitions.clone()).unwrap_or_default();
    let partitions = partitions
        .zip(of_topic)
        .map(|(index, partition)| {
            let placed = placement(image, *partition);
            let code = match placed.leader {
                Some(_) => ErrorCode::NONE,
                None => ErrorCode::LEADER_NOT_AVAILABLE,
            };
            DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
                .with_error_code(code.0)
                .with_leader_id(placed.leader.unwrap_or(NO_LEADER))
                .with_leader_epoch(placed.epoch.0)
                .with_replica_nodes(placed.replicas)
                .with_isr_nodes(placed.in_sync)
                .with_offline_replicas(placed.offline)
                // Not null: the Java client takes both for lists.
                .with_eligible_leader_replicas(Some(placed.eligible))
                .with_last_known_elr(Some(Vec::new()))
        })
        .collect();
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id.0)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions)
        .with_topic_authorized_operations(ALL_TOPIC_OPERATIONS)
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match braid_raft::plan::names::check(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
    };
    failed(TopicName(text(name)), code)
}

fn failed(name: TopicName, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_is_internal(is_internal(&name))
        .with_name(Some(name))
        .with_error_code(code.0)
        .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
}

/// There is no error for the whole answer: every topic carries it.
fn refused(request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.into_iter();
    let topics = topics.map(|topic| failed(topic.name, ErrorCode::INVALID_REQUEST)).collect();
    DescribeTopicPartitionsResponse::default().with_topics(topics)
}

#[cfg(test)]
mod tests {
    use braid_protocol::messages::describe_topic_partitions_request::{
        Cursor as AskedCursor, TopicRequest,
    };
    use braid_raft::apply::apply;
    use braid_raft::command::{
        CreateTopics, MetadataCommand, NewTopic, PartitionRun, RegisterBroker,
    };
    use uuid::Uuid;

    use super::*;
    use crate::model::TopicId;

    fn image(topics: &[(&str, u32)]) -> MetadataImage {
        let mut image = MetadataImage::default();
        let register = RegisterBroker {
            broker: crate::model::BrokerId(1),
            incarnation: Uuid::from_u128(9),
            endpoints: Vec::new(),
            rack: None,
            registered_ms: 0,
        };
        apply(&mut image, &MetadataCommand::RegisterBroker(register));
        let topics = (1..)
            .zip(topics)
            .map(|(id, (name, count))| NewTopic {
                name: (*name).to_owned(),
                id: TopicId(Uuid::from_u128(id)),
                partitions: vec![PartitionRun {
                    count: *count,
                    replicas: vec![crate::model::BrokerId(1)],
                }],
                configs: std::collections::BTreeMap::new(),
            })
            .collect();
        let create = CreateTopics { topics, created_ms: 0 };
        apply(&mut image, &MetadataCommand::CreateTopics(create));
        image
    }

    fn ask(topics: &[&str], limit: i32, at: Option<(&str, i32)>) -> DescribeTopicPartitionsRequest {
        let topics = topics.iter().map(|name| TopicRequest::default().with_name(name_of(name)));
        DescribeTopicPartitionsRequest::default()
            .with_topics(topics.collect())
            .with_response_partition_limit(limit)
            .with_cursor(at.map(|(name, partition)| {
                AskedCursor::default()
                    .with_topic_name(name_of(name))
                    .with_partition_index(partition)
            }))
    }

    fn name_of(name: &str) -> TopicName {
        TopicName(text(name))
    }

    #[test]
    fn pages_join_to_every_partition_of_every_topic_once() {
        let image = image(&[("b", 3), ("a", 2), ("c", 1)]);
        for limit in 1..8 {
            let (mut seen, mut at) = (Vec::new(), None);
            loop {
                let asked =
                    ask(&[], limit, at.as_ref().map(|(n, p): &(String, i32)| (n.as_str(), *p)));
                let answer = page(&image, 2000, asked);
                for topic in &answer.topics {
                    let name = topic.name.as_ref().unwrap().to_string();
                    seen.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index)));
                }
                let Some(next) = answer.next_cursor else { break };
                at = Some((next.topic_name.to_string(), next.partition_index));
            }
            let want = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)];
            let want: Vec<_> = want.map(|(name, p)| (name.to_owned(), p)).into();
            assert_eq!(seen, want, "limit {limit}");
        }
    }

    #[test]
    fn an_answer_lists_no_more_than_the_brokers_limit() {
        let image = image(&[("a", 5)]);
        let answer = page(&image, 2, ask(&[], 4, None));
        assert_eq!(answer.topics[0].partitions.len(), 2);
        assert_eq!(answer.next_cursor.map(|next| next.partition_index), Some(2));
    }

    #[test]
    fn named_topics_come_sorted_and_unknown_ones_with_their_error() {
        let image = image(&[("a", 1)]);
        let answer = page(&image, 2000, ask(&["z", "a", "not/valid"], 2000, None));
        let codes: Vec<_> = answer
            .topics
            .iter()
            .map(|t| (t.name.as_ref().unwrap().to_string(), ErrorCode(t.error_code)))
            .collect();
        let want = [
            ("a", ErrorCode::NONE),
            ("not/valid", ErrorCode::INVALID_TOPIC_EXCEPTION),
            ("z", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ];
        assert_eq!(codes, want.map(|(name, code)| (name.to_owned(), code)));
    }

    #[test]
    fn a_cursor_outside_the_named_topics_or_below_zero_is_refused() {
        let image = image(&[("a", 1), ("b", 1)]);
        for at in [("b", 0), ("a", -1)] {
            let answer = page(&image, 2000, ask(&["a"], 10, Some(at)));
            assert_eq!(answer.topics[0].error_code, ErrorCode::INVALID_REQUEST.0, "{at:?}");
        }
    }

    #[test]
    fn replicas_that_may_lead_are_lists_and_never_null() {
        let image = image(&[("a", 1)]);
        let answer = page(&image, 2000, ask(&[], 10, None));
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.eligible_leader_replicas, Some(Vec::new()));
        assert_eq!(partition.last_known_elr, Some(Vec::new()));
    }
}
