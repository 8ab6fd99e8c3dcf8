//! LeaveGroup: members that go by themselves, and members that an administrator sends away.

use std::sync::Arc;

use super::classic::Group;
use super::error::GroupError;
use super::rebalance::rebalance_or_go_on;
use super::request::{LeaveMember, LeaveReply, LeaveRequest, LeftMember};
use super::state::{Cx, Shard, State};
use super::step::{Effect, Now};

impl Shard {
    pub(super) fn leave(
        &mut self,
        now: Now,
        request: LeaveRequest,
        effects: &mut Vec<Effect>,
    ) -> LeaveReply {
        if request.group_id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let LeaveRequest { group_id, members } = request;
        if !self.groups.contains_key(group_id.as_str()) {
            let unknown = |member| left(member, Err(GroupError::UnknownMemberId));
            return Ok(members.into_iter().map(unknown).collect());
        }
        let left = self.with_group(now, &group_id, effects, |cx, group| {
            let left: Vec<LeftMember> =
                members.into_iter().map(|member| leave_member(cx, group, member)).collect();
            let some_left = left.iter().any(|member| member.result.is_ok());
            if some_left && group.state() != State::Empty {
                rebalance_or_go_on(cx, group, "a member leaves");
            }
            left
        });
        Ok(left.unwrap_or_default())
    }
}

fn left(member: LeaveMember, result: Result<(), GroupError>) -> LeftMember {
    LeftMember { member_id: member.member_id, group_instance_id: member.group_instance_id, result }
}

fn leave_member(cx: &mut Cx<'_>, group: &mut Group, member: LeaveMember) -> LeftMember {
    let instance_id = member.group_instance_id.as_deref();
    let result = if member.member_id.is_empty() {
        let holder = instance_id.and_then(|instance_id| group.static_member(instance_id));
        match holder.map(Arc::clone) {
            Some(member_id) => {
                group.expel(cx, &member_id, GroupError::UnknownMemberId);
                Ok(())
            }
            None => Err(GroupError::UnknownMemberId),
        }
    } else if group.take_pending(&member.member_id).is_some() {
        Ok(())
    } else {
        let known = group.check_member(&member.member_id, instance_id);
        if known.is_ok() {
            group.expel(cx, &member.member_id, GroupError::UnknownMemberId);
        }
        known
    };
    if result.is_ok() {
        let reason = member.reason.as_deref().unwrap_or("not provided");
        tracing::info!(group = %group.id, member = %member.member_id, reason, "a member leaves");
    }
    left(member, result)
}
