//! Decisions that become commands: pure functions of the image and a request, run before
//! anything is proposed. What they decide is checked again by `apply`, which has the last word.

pub mod names;
pub mod placement;
mod shards;
mod stripe;

pub use names::InvalidTopicName;
pub use placement::{
    AddPartitionsRequest, Assignment, Limits, PlacementError, TopicRequest, add_partitions,
    place_topic,
};
pub use shards::missing_shards;
