//! What the members of a group support and which protocol they use; what they are subscribed to,
//! as far as that can be read.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Group;
use crate::group::member::Protocol;
use crate::group::offsets;
use crate::group::state::State;

/// The protocol type of Kafka's consumers: the one whose subscriptions the coordinator can read.
const CONSUMER_PROTOCOL: &str = "consumer";

impl Group {
    pub(super) fn count_supporter(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.supporters.entry(Arc::clone(&protocol.name)).or_default() += 1;
        }
    }

    pub(super) fn uncount_supporter(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supporters.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(&protocol.name);
                }
            }
        }
    }

    /// Takes over what a member offers now; gives back what it offered before.
    pub(in crate::group) fn replace_protocols(
        &mut self,
        member_id: &str,
        protocols: Vec<Protocol>,
    ) -> Vec<Protocol> {
        let Some(member) = self.members.get_mut(member_id) else { return Vec::new() };
        let before = std::mem::replace(&mut member.protocols, protocols);
        let after = member.protocols.clone();
        self.uncount_supporter(&before);
        self.count_supporter(&after);
        before
    }

    /// Whether a member with these protocols could join: all members would have one in common.
    pub(in crate::group) fn supports<'a>(
        &self,
        protocol_type: &str,
        mut protocols: impl Iterator<Item = &'a str>,
    ) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && protocols.next().is_some();
        }
        let supporters = |name| self.supporters.get(name).copied().unwrap_or(0);
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.any(|name| supporters(name) == self.members.len())
    }

    /// The protocol most members prefer among those that all support. A tie goes to the name
    /// that sorts first, so that the choice is the same each time it is made.
    pub(in crate::group) fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |protocol: &&Protocol| {
                self.supporters.get(&protocol.name) == Some(&self.members.len())
            };
            if let Some(choice) = member.protocols.iter().find(common) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| Arc::clone(name))
    }

    fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// Whether offsets may be deleted one by one although the group has members.
    pub(in crate::group) fn allows_offset_deletion(&self) -> bool {
        self.state == State::Empty || self.is_consumer()
    }

    /// Notes which topics the members read, as far as their subscriptions can be read.
    pub(in crate::group) fn read_subscriptions(&mut self) {
        self.subscribed_topics = None;
        let Some(protocol) = self.protocol_name.as_deref().filter(|_| self.is_consumer()) else {
            if self.is_consumer() && self.members.is_empty() {
                self.subscribed_topics = Some(HashSet::new());
            }
            return;
        };
        let mut topics = HashSet::new();
        for member in self.members.values() {
            if offsets::subscribed_topics(&member.metadata(protocol), &mut topics).is_none() {
                tracing::debug!(group = %self.id, "a subscription cannot be read");
                return;
            }
        }
        self.subscribed_topics = Some(topics);
    }

    /// Whether a member reads the topic. Where that cannot be known, a consumer may.
    pub(in crate::group) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    pub(in crate::group) fn knows_subscriptions(&self) -> bool {
        self.is_consumer() && self.subscribed_topics.is_some()
    }
}
