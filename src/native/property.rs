//! RocketMQ's properties, which are headers of records under RocketMQ's names (its
//! `MessageConst`), so that both worlds see each other's messages.

/// One word by which consumers filter.
pub(crate) const TAGS: &str = "TAGS";
/// Words by which a message is found again, separated by spaces.
pub(crate) const KEYS: &str = "KEYS";
/// The message's id.
pub(crate) const MESSAGE_ID: &str = "UNIQ_KEY";
/// The message group, whose messages keep their order.
pub(crate) const MESSAGE_GROUP: &str = "__SHARDINGKEY";
