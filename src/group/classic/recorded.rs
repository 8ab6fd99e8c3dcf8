//! A group as its record says it, both ways.

use std::sync::Arc;

use bytes::Bytes;

use super::Group;
use crate::group::member::{Member, Protocol};
use crate::group::record::{GroupValue, MemberValue, Record};
use crate::group::state::{AfterWrite, Cx, GroupWrite, GroupWriteCause, State};
use crate::group::timers::Alarm;

impl Group {
    /// Takes a generation over from the log, as it was when it was written.
    pub(in crate::group) fn restore(&mut self, recorded: Bytes, value: GroupValue) {
        self.reset(0);
        self.recorded = Some(recorded);
        self.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        self.state_since_ms = value.state_since_ms;
        self.protocol_type = (!value.protocol_type.is_empty()).then_some(value.protocol_type);
        self.protocol_name = value.protocol_name;
        self.generation = value.generation;
        for member in value.members {
            let instance = member.group_instance_id.as_ref();
            let is_second = self.members.contains_key(&member.member_id)
                || instance.is_some_and(|instance| self.static_members.contains_key(instance));
            if is_second {
                tracing::warn!(group = %self.id, member = %member.member_id, "is recorded twice");
            } else {
                self.restore_member(member);
            }
        }
        self.leader = value.leader.filter(|leader| self.members.contains_key(leader));
        if self.leader.is_none() {
            self.leader = self.members.keys().next().map(Arc::clone);
        }
        self.read_subscriptions();
    }

    fn restore_member(&mut self, value: MemberValue) {
        let name = self.protocol_name.as_ref().map(Arc::clone).unwrap_or_default();
        self.insert(Member {
            id: value.member_id,
            instance_id: value.group_instance_id,
            client_id: value.client_id,
            client_host: value.client_host,
            rebalance_timeout_ms: if value.rebalance_timeout_ms < 0 {
                value.session_timeout_ms
            } else {
                value.rebalance_timeout_ms
            },
            session_timeout_ms: value.session_timeout_ms,
            protocols: vec![Protocol { name, metadata: value.subscription }],
            assignment: value.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            session: Alarm::default(),
        });
    }

    /// Writes the group's record, with the given assignments.
    pub(in crate::group) fn write_record(
        &mut self,
        cx: &mut Cx<'_>,
        assignment_of: impl Fn(&Member) -> Bytes,
        cause: GroupWriteCause,
    ) {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| MemberValue {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: assignment_of(member),
        });
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: members.collect(),
        };
        let record = Record::group(&self.id, &value);
        let recorded = record.value.clone().unwrap_or_default();
        self.in_flight += 1;
        self.recording += 1;
        let write = GroupWrite { group: Arc::clone(&self.id), recorded, cause };
        cx.append(vec![record], AfterWrite::Group(write));
    }
}
