//! ListGroups and DescribeGroups: questions that change nothing.

use std::sync::Arc;

use bytes::Bytes;

use super::classic::Group;
use super::error::GroupError;
use super::request::{DescribedGroup, DescribedMember, ListFilter, ListedGroup};
use super::state::{Shard, State};

/// Kafka's name of the type all groups here are of.
const CLASSIC: &str = "classic";

impl Shard {
    /// The groups that pass the filter, in order of their ids.
    #[must_use]
    pub fn list(&self, filter: &ListFilter) -> Vec<ListedGroup> {
        let is_named = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|asked| asked.trim().eq_ignore_ascii_case(name))
        };
        if !is_named(&filter.types, CLASSIC) {
            return Vec::new();
        }
        let mut listed: Vec<ListedGroup> = self
            .groups
            .values()
            .filter(|group| is_named(&filter.states, group.state().name()))
            .map(|group| ListedGroup {
                group_id: Arc::clone(&group.id),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                state: group.state(),
                group_type: CLASSIC,
            })
            .collect();
        listed.sort_unstable_by(|one, other| one.group_id.cmp(&other.group_id));
        listed
    }

    /// A group and its members.
    pub(super) fn describe(&self, group_id: &str) -> Result<DescribedGroup, GroupError> {
        let group = self.groups.get(group_id).ok_or(GroupError::GroupIdNotFound)?;
        let is_stable = group.state() == State::Stable;
        let protocol = group.protocol_name.clone().filter(|_| is_stable).unwrap_or_default();
        Ok(DescribedGroup {
            group_id: Arc::clone(&group.id),
            state: group.state(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            members: describe_members(group, is_stable.then_some(&*protocol)),
            protocol,
        })
    }
}

fn describe_members(group: &Group, protocol: Option<&str>) -> Vec<DescribedMember> {
    let members = group.members().map(|member| DescribedMember {
        member_id: Arc::clone(&member.id),
        group_instance_id: member.instance_id.clone(),
        client_id: Arc::clone(&member.client_id),
        client_host: Arc::clone(&member.client_host),
        metadata: protocol.map_or_else(Bytes::new, |protocol| member.metadata(protocol)),
        assignment: member.assignment.clone(),
    });
    members.collect()
}
