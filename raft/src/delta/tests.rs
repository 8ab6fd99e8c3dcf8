use std::collections::BTreeMap;

use braid_base::model::TopicId;
use proptest::prelude::*;

use super::*;
use crate::apply::apply;
use crate::command::{DeleteTopics, SetTopicConfigs};
use crate::testing::{any_command, create, register, set, topic, topic_id};

/// The difference found by looking at every topic.
fn naive(old: &MetadataImage, new: &MetadataImage) -> (Vec<TopicId>, Vec<TopicId>, Vec<TopicId>) {
    let by_id = |image: &MetadataImage| -> BTreeMap<TopicId, Arc<TopicImage>> {
        image.topics().iter().map(|topic| (topic.id, Arc::clone(topic))).collect()
    };
    let (old, new) = (by_id(old), by_id(new));
    let created = new.keys().filter(|id| !old.contains_key(id)).copied().collect();
    let deleted = old.keys().filter(|id| !new.contains_key(id)).copied().collect();
    let changed = new.iter().filter(|(id, topic)| old.get(id).is_some_and(|old| old != *topic));
    (created, deleted, changed.map(|(id, _)| *id).collect())
}

#[test]
fn a_topic_made_again_under_its_name_is_deleted_and_created() {
    let mut image = MetadataImage::default();
    apply(&mut image, &register(1).into());
    apply(&mut image, &create(vec![topic("a", 1, 1), topic("b", 2, 1)]).into());
    let old = image.clone();
    assert!(MetadataDelta::between(&old, &image).is_empty());
    apply(&mut image, &DeleteTopics { topics: vec![topic_id(1)] }.into());
    apply(&mut image, &create(vec![topic("a", 3, 1)]).into());
    let changes = vec![set("retention.ms", "1")];
    apply(&mut image, &SetTopicConfigs { topic: topic_id(2), changes }.into());
    apply(&mut image, &register(2).into());

    let delta = MetadataDelta::between(&old, &image);
    assert_eq!(delta.created[0].id, topic_id(3));
    assert_eq!(delta.deleted[0].id, topic_id(1));
    assert_eq!(delta.changed[0].new.id, topic_id(2));
    assert!(delta.changed[0].configs_changed() && !delta.changed[0].partitions_changed());
    assert_eq!(delta.shards[0].epoch().0, 1);
    assert!(delta.brokers_changed && !delta.broker_configs_changed);
}

proptest! {
    #[test]
    fn the_difference_is_what_looking_at_everything_finds(
        before in proptest::collection::vec(any_command(), 0..30),
        after in proptest::collection::vec(any_command(), 0..10),
    ) {
        let mut image = MetadataImage::default();
        apply(&mut image, &register(1).into());
        before.iter().for_each(|command| drop(apply(&mut image, command)));
        let old = image.clone();
        after.iter().for_each(|command| drop(apply(&mut image, command)));
        let delta = MetadataDelta::between(&old, &image);
        let ids = |topics: &[Arc<TopicImage>]| topics.iter().map(|topic| topic.id).collect::<Vec<_>>();
        let changed: Vec<_> = delta.changed.iter().map(|change| change.new.id).collect();
        let found = (ids(&delta.created), ids(&delta.deleted), changed);
        prop_assert_eq!(found, naive(&old, &image));
        prop_assert_eq!(delta.shards.is_empty(), old.brokers.shards == image.brokers.shards);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Over many topics, so that the maps have inner nodes to share and to skip.
    #[test]
    fn the_difference_of_large_images_is_whole(
        present in 1..2000u128,
        deleted in proptest::collection::vec(0..2000u128, 0..20),
        created in proptest::collection::btree_set(2000..9000u128, 0..20),
    ) {
        let spread = |id: u128| id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) | 1;
        let mut image = MetadataImage::default();
        apply(&mut image, &register(1).into());
        let new = |id| topic(&format!("t{id}"), spread(id), 1);
        apply(&mut image, &create((0..present).map(new).collect()).into());
        let old = image.clone();
        let gone = deleted.into_iter().map(|id| topic_id(spread(id))).collect();
        apply(&mut image, &DeleteTopics { topics: gone }.into());
        apply(&mut image, &create(created.into_iter().map(new).collect()).into());
        let delta = MetadataDelta::between(&old, &image);
        let ids = |topics: &[Arc<TopicImage>]| topics.iter().map(|topic| topic.id).collect::<Vec<_>>();
        prop_assert_eq!((ids(&delta.created), ids(&delta.deleted), vec![]), naive(&old, &image));
    }
}
