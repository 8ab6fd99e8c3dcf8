//! Decisions that become commands: pure functions of the image and a request, run before
//! anything is proposed. What they decide is checked again by `apply`, which has the last word.

pub mod names;
pub mod placement;

pub use names::InvalidTopicName;
pub use placement::{
    AddPartitionsRequest, Assignment, Limits, PlacementError, REPLICATION_FACTOR_MAX, TopicRequest,
    add_partitions, place_topic,
};
