//! How a shard comes back from its partition's records.

use std::sync::Arc;

use bytes::Bytes;

use super::offsets::Change;
use super::rebalance::prepare_rebalance;
use super::record::{Decoded, GroupValue, RecordError, decode};
use super::state::Shard;
use super::step::{Effect, Now};

/// What came of a replayed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// It is part of the state now.
    Applied,
    /// It is about something this version does not know: passed over.
    Unknown {
        /// The key's version, which is the record's type.
        key_version: i16,
    },
}

impl Shard {
    /// Takes over one record of the partition, in the order of the log.
    ///
    /// # Errors
    /// The record cannot be read; the state is as before.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Replayed, RecordError> {
        match decode(key, value)? {
            Decoded::Unknown { key_version } => return Ok(Replayed::Unknown { key_version }),
            Decoded::Group { group, value: decoded } => {
                // The bytes are kept as they are: an older version says what it says.
                let recorded = value.map(Bytes::copy_from_slice);
                self.replay_group(&group, recorded.zip(decoded));
            }
            Decoded::Offset { group, topic, partition, value } => {
                if value.is_some() || self.groups.contains_key(&group) {
                    let topic = self.core.topics.intern(&topic);
                    let change = Change { topic, partition, value };
                    self.replayed_group(&group).offsets.replay(change);
                }
            }
        }
        Ok(Replayed::Applied)
    }

    fn replay_group(&mut self, group_id: &Arc<str>, value: Option<(Bytes, GroupValue)>) {
        match value {
            Some((recorded, value)) => self.replayed_group(group_id).restore(recorded, value),
            None => {
                if let Some(group) = self.groups.get_mut(group_id) {
                    group.reset(0);
                }
            }
        }
    }

    /// While records are replayed nobody asks for the time; what a group is dated to comes from its
    /// records.
    fn replayed_group(&mut self, group_id: &str) -> &mut super::classic::Group {
        let now = Now { monotonic: std::time::Duration::ZERO, wall_ms: 0 };
        self.group_or_new(now, group_id)
    }

    /// Every record is replayed: from now on time passes for the groups.
    pub fn loaded(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.arm_retention(now);
        for group_id in self.group_ids() {
            self.with_group(now, &group_id, effects, |cx, group| {
                for member_id in group.member_ids() {
                    group.refresh_session(cx, &member_id);
                }
                if group.size() > cx.core.config.members_max {
                    prepare_rebalance(cx, group, "the group is larger than group.max.size now");
                }
            });
        }
    }
}
