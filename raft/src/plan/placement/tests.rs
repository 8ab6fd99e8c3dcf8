use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::apply::apply;
use crate::testing::{create, on_broker_1, register_broker, topic, topic_id};

const LIMITS: Limits = Limits {
    default_partitions: 4,
    default_replication_factor: 1,
    partitions_max: 100,
    replication_factor_max: 9,
};

/// An image with brokers 1 to `brokers`, and on broker 1 the topic `there` of two partitions.
fn image(brokers: i32) -> MetadataImage {
    let mut image = MetadataImage::default();
    for broker in 1..=brokers {
        apply(&mut image, &register_broker(broker, 1).into());
    }
    apply(&mut image, &create(vec![topic("there", 99, 2), topic("a_b", 98, 1)]).into());
    image
}

fn request(partitions: i32, replication_factor: i16) -> TopicRequest {
    TopicRequest {
        name: "new".to_owned(),
        id: topic_id(4),
        partitions,
        replication_factor,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    }
}

fn replicas(brokers: &[i32]) -> Vec<BrokerId> {
    brokers.iter().map(|&broker| BrokerId(broker)).collect()
}

fn assigned(assignments: &[(i32, &[i32])]) -> TopicRequest {
    let assignments = assignments
        .iter()
        .map(|&(partition, brokers)| Assignment { partition, replicas: replicas(brokers) });
    TopicRequest { assignments: assignments.collect(), ..request(-1, -1) }
}

fn lists(runs: &[PartitionRun]) -> Vec<Vec<i32>> {
    let lists = runs.iter().flat_map(|run| {
        let list: Vec<i32> = run.replicas.iter().map(|broker| broker.0).collect();
        std::iter::repeat_n(list, run.count as usize)
    });
    lists.collect()
}

#[test]
fn on_one_broker_all_partitions_are_one_run() {
    let placed = place_topic(&image(1), request(50, 1), &LIMITS).unwrap();
    assert_eq!(placed.partitions, on_broker_1(50));
    let placed = place_topic(&image(1), request(-1, -1), &LIMITS).unwrap();
    assert_eq!(placed.partitions, on_broker_1(4));
}

#[test]
fn where_nothing_is_replicated_one_replica_is_the_most() {
    let limits = Limits { replication_factor_max: 1, default_replication_factor: 3, ..LIMITS };
    // Asked for by nobody: one. Asked for: an answer.
    let placed = place_topic(&image(3), request(6, -1), &limits).unwrap();
    let brokers: Vec<i32> = lists(&placed.partitions).concat();
    assert_eq!(brokers.len(), 6);
    for broker in 1..4 {
        assert_eq!(brokers.iter().filter(|it| **it == broker).count(), 2);
    }
    let refused = place_topic(&image(3), request(6, 2), &limits).unwrap_err();
    assert!(matches!(refused, PlacementError::NotReplicated { factor: 2, max: 1 }));
    let refused = place_topic(&image(3), assigned(&[(0, &[1, 2])]), &limits).unwrap_err();
    assert!(matches!(refused, PlacementError::NotReplicated { factor: 2, max: 1 }));
    let refused = place_topic(&image(1), request(6, -1), &limits).unwrap_err();
    assert!(matches!(refused, PlacementError::TooFewBrokers { factor: 3, brokers: 1 }));
    let placed = place_topic(&image(3), assigned(&[(0, &[3]), (1, &[1])]), &limits).unwrap();
    assert_eq!(lists(&placed.partitions), [[3], [1]]);
}

#[test]
fn nothing_is_placed_on_brokers_that_are_not_heard() {
    let limits = Limits { replication_factor_max: 1, ..LIMITS };
    let mut image = image(3);
    let fence = crate::command::FenceBroker {
        broker: BrokerId(2),
        incarnation: uuid::Uuid::from_u128(1),
        fenced: true,
    };
    apply(&mut image, &fence.into());
    let placed = place_topic(&image, request(6, 1), &limits).unwrap();
    assert!(lists(&placed.partitions).iter().all(|list| list != &[2]));
    let refused = place_topic(&image, assigned(&[(0, &[1]), (1, &[2])]), &limits).unwrap_err();
    assert!(matches!(refused, PlacementError::AllFenced(1)), "{refused}");
    let there = Arc::clone(image.topic("there").unwrap());
    let asked = AddPartitionsRequest { count: 3, assignments: Some(vec![replicas(&[2])]) };
    let refused = add_partitions(&image, &there, &asked, &limits).unwrap_err();
    assert!(matches!(refused, PlacementError::AllFenced(2)), "{refused}");
}

#[test]
fn replicas_are_striped_over_the_brokers() {
    let placed = place_topic(&image(3), request(4, 2), &LIMITS).unwrap();
    assert_eq!(lists(&placed.partitions), [[2, 3], [3, 1], [1, 2], [2, 3]]);
    let other = TopicRequest { id: topic_id(5), ..request(3, 3) };
    let placed = place_topic(&image(3), other, &LIMITS).unwrap();
    assert_eq!(lists(&placed.partitions), [[3, 1, 2], [1, 2, 3], [2, 3, 1]]);
}

#[test]
fn replicas_are_spread_over_racks() {
    let on = |racks: &[Option<&str>]| {
        let mut image = MetadataImage::default();
        for (broker, rack) in (1..).zip(racks) {
            let rack = rack.map(str::to_owned);
            let registration =
                crate::command::RegisterBroker { rack, ..register_broker(broker, 1) };
            apply(&mut image, &registration.into());
        }
        image
    };
    let placed = |racks: &[Option<&str>], factor| {
        let count = i32::try_from(racks.len()).unwrap();
        let topic = TopicRequest { id: topic_id(60), ..request(count, factor) };
        lists(&place_topic(&on(racks), topic, &LIMITS).unwrap().partitions)
    };
    let (a, b, c) = (Some("a"), Some("b"), Some("c"));
    // As many on each rack: neighbours are on different ones.
    let two_each = placed(&[a, a, b, b, c, c], 3);
    assert_eq!(two_each, [[1, 3, 5], [3, 5, 2], [5, 2, 4], [2, 4, 6], [4, 6, 1], [6, 1, 3]]);
    // One rack is short of brokers, and has a replica of each partition for it.
    assert_eq!(placed(&[a, a, a, b], 2), [[1, 4], [4, 2], [2, 4], [3, 4]]);
    // More replicas than racks.
    assert_eq!(placed(&[a, a, b], 3), [[1, 3, 2], [3, 2, 1], [2, 3, 1]]);
    // Those without a rack are on one together.
    assert_eq!(placed(&[None, None, a], 2), [[1, 3], [3, 2], [2, 3]]);
    assert_eq!(placed(&[None, None, None], 2), [[1, 2], [2, 3], [3, 1]]);
}

#[test]
fn who_is_about_to_stop_gets_nothing_new_unless_it_must() {
    let mut image = image(3);
    let drain =
        crate::command::DrainBroker { broker: BrokerId(2), incarnation: uuid::Uuid::from_u128(1) };
    apply(&mut image, &drain.into());
    let placed = place_topic(&image, request(6, 2), &LIMITS).unwrap();
    assert!(lists(&placed.partitions).iter().all(|list| !list.contains(&2)));
    let placed = place_topic(&image, request(6, 3), &LIMITS).unwrap();
    assert!(lists(&placed.partitions).iter().all(|list| list.len() == 3));
}

#[test]
fn shards_are_made_once_for_the_lists_of_several_replicas() {
    let mut image = image(3);
    let rng = braid_base::env::rng::SeededRng::from_seed(1);
    let placed = place_topic(&image, request(6, 3), &LIMITS).unwrap();
    let missing = crate::plan::missing_shards(&image, placed.partitions.iter(), 2, &rng);
    assert_eq!(missing.len(), 3);
    assert!(missing.iter().all(|shard| shard.in_sync_min == 2));
    apply(&mut image, &crate::command::CreateShards { shards: missing }.into());
    assert!(image.shard_of(&replicas(&[1, 2, 3])).unwrap().is_replicated());
    let more = [(1, vec![3, 2]), (1, vec![1, 2, 3]), (1, vec![2])]
        .map(|(count, brokers)| PartitionRun { count, replicas: replicas(&brokers) });
    let missing = crate::plan::missing_shards(&image, more.iter(), 3, &rng);
    assert_eq!(missing.len(), 1);
    assert_eq!((&missing[0].replicas, missing[0].in_sync_min), (&replicas(&[3, 2]), 2));
    let missing = crate::plan::missing_shards(&image, more.iter(), -1, &rng);
    assert_eq!(missing[0].in_sync_min, 1);
}

#[test]
fn an_assignment_is_taken_as_it_is_in_any_order() {
    let placed = place_topic(&image(3), assigned(&[(1, &[3, 2]), (0, &[1, 2])]), &LIMITS).unwrap();
    assert_eq!(lists(&placed.partitions), [[1, 2], [3, 2]]);
}

#[test]
fn what_cannot_be_placed_is_refused_in_kafkas_words() {
    let named = |name: &str| TopicRequest { name: name.to_owned(), ..request(1, 1) };
    for (request, says) in [
        (request(0, 1), "Number of partitions was set to an invalid non-positive value."),
        (request(-2, 1), "Number of partitions was set to an invalid non-positive value."),
        (
            request(1, 0),
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            request(1, 3),
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 \
             cannot be reached because only 2 broker(s) are registered or some brokers have all \
             their log directories cordoned.",
        ),
        (request(101, 1), "Excessively large number of partitions per request."),
        (named("there"), "Topic 'there' already exists."),
        (named("a.b"), "Topic 'a.b' collides with existing topic: a_b"),
        (
            named("a b"),
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'",
        ),
        // The name is judged before the rest.
        (TopicRequest { partitions: 0, ..named("there") }, "Topic 'there' already exists."),
        (
            TopicRequest { replication_factor: 1, ..assigned(&[(0, &[1])]) },
            "A manual partition assignment was specified, but replication factor was not set to \
             -1.",
        ),
        (
            TopicRequest { partitions: 1, ..assigned(&[(0, &[1])]) },
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            assigned(&[(0, &[1]), (0, &[2])]),
            "Found multiple manual partition assignments for partition 0",
        ),
        (
            assigned(&[(0, &[1]), (2, &[2])]),
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (
            assigned(&[(-1, &[1]), (0, &[2])]),
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (assigned(&[(0, &[])]), "The manual partition assignment includes an empty replica list."),
        (
            assigned(&[(0, &[7])]),
            "The manual partition assignment includes broker 7, but no such broker is registered.",
        ),
        (
            assigned(&[(0, &[1, 1])]),
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            assigned(&[(0, &[1]), (1, &[1, 2])]),
            "The manual partition assignment includes a partition with 2 replica(s), but this is \
             not consistent with previous partitions, which have 1 replica(s).",
        ),
    ] {
        let error = place_topic(&image(2), request.clone(), &LIMITS).unwrap_err();
        assert_eq!(error.to_string(), says, "{request:?}");
    }
}

#[test]
fn added_partitions_go_on_where_the_topic_ends() {
    let image = image(2);
    let there = image.topic("there").unwrap();
    let add = |count, assignments| {
        add_partitions(&image, there, &AddPartitionsRequest { count, assignments }, &LIMITS)
    };
    let planned = add(4, None).unwrap();
    assert_eq!((planned.topic, planned.expected_count), (there.id, 2));
    assert_eq!(lists(&planned.added), [[2], [1]]);
    let planned = add(4, Some(vec![replicas(&[2]), replicas(&[2])])).unwrap();
    assert_eq!(planned.added.len(), 1);
    for (count, assignments, says) in [
        (2, None, "Topic already has 2 partition(s)."),
        (1, None, "The topic there currently has 2 partition(s); 1 would not be an increase."),
        (-5, None, "The topic there currently has 2 partition(s); -5 would not be an increase."),
        (103, None, "Excessively large number of partitions per request."),
        (
            4,
            Some(vec![replicas(&[1])]),
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            3,
            Some(vec![replicas(&[1, 2])]),
            "The manual partition assignment includes a partition with 2 replica(s), but this is \
             not consistent with previous partitions, which have 1 replica(s).",
        ),
    ] {
        assert_eq!(add(count, assignments).unwrap_err().to_string(), says);
    }
}

/// What is planned on an image is accepted by the same image, whatever it is.
#[test]
fn apply_takes_what_was_planned() {
    for brokers in 1..5 {
        let mut image = image(brokers);
        for factor in 1..=i16::try_from(brokers).unwrap() {
            let id = topic_id(factor.unsigned_abs().into());
            let name = format!("t{factor}");
            let request = TopicRequest { name, id, ..request(7, factor) };
            let planned = place_topic(&image, request, &LIMITS).unwrap();
            let outcome = apply(&mut image, &create(vec![planned]).into());
            assert!(matches!(outcome, crate::outcome::Outcome::CreateTopics(it) if it[0].is_ok()));
            let topic = image.topic_by_id(id).unwrap();
            let request = AddPartitionsRequest { count: 9, assignments: None };
            let planned = add_partitions(&image, topic, &request, &LIMITS).unwrap();
            let outcome = apply(&mut image, &planned.into());
            assert_eq!(outcome, crate::outcome::Outcome::CreatePartitions(Ok(9)));
        }
    }
}
