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
/// How often a dead letter was delivered again.
pub(crate) const RECONSUME_TIME: &str = "RECONSUME_TIME";
/// The topic that a dead letter comes from.
pub(crate) const ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
/// Its partition there. Not RocketMQ's.
pub(crate) const ORIGIN_PARTITION: &str = "DLQ_ORIGIN_PARTITION";
/// Its offset there. Not RocketMQ's.
pub(crate) const ORIGIN_OFFSET: &str = "DLQ_ORIGIN_OFFSET";
/// The topic that a discarded message was for.
pub(crate) const REAL_TOPIC: &str = "REAL_TOPIC";
/// Its partition there.
pub(crate) const REAL_PARTITION: &str = "REAL_QID";
/// Why a half message was discarded. Not RocketMQ's.
pub(crate) const DISCARD_REASON: &str = "braid.discard.reason";
/// Why it is a dead letter. Not RocketMQ's.
pub(crate) const REASON: &str = "DLQ_REASON";
