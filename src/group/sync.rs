//! SyncGroup and Heartbeat: how a generation gets its assignment, and how a member shows that it
//! is alive.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::classic::Group;
use super::error::{GroupError, GroupLogError, metadata_error};
use super::rebalance::{prepare_rebalance, reset_assignments};
use super::request::{HeartbeatReply, HeartbeatRequest, SyncRequest, Synced};
use super::state::{Cx, GroupWriteCause, Shard, State};
use super::step::{Effect, Now, Reply, RequestId};

/// A leader's assignment on its way into the log.
#[derive(Debug)]
pub(super) struct Assignment {
    generation: i32,
    /// Per member id.
    assignments: Arc<HashMap<Arc<str>, Bytes>>,
}

impl Shard {
    pub(super) fn sync(
        &mut self,
        now: Now,
        to: RequestId,
        request: &SyncRequest,
        effects: &mut Vec<Effect>,
    ) {
        if request.group_id.is_empty() {
            let reply = Reply::Sync(Err(GroupError::InvalidGroupId));
            effects.push(Effect::Reply(to, reply));
            return;
        }
        let known =
            self.with_group(now, &request.group_id, effects, |cx, group| {
                match check_sync(group, request) {
                    Ok(()) => sync_member(cx, group, to, request),
                    Err(error) => cx.reply(to, Reply::Sync(Err(error))),
                }
            });
        if known.is_none() {
            let reply = Reply::Sync(Err(GroupError::UnknownMemberId));
            effects.push(Effect::Reply(to, reply));
        }
    }

    pub(super) fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> HeartbeatReply {
        if request.group_id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let Some(group) = self.groups.get_mut(request.group_id.as_str()) else {
            return Err(GroupError::UnknownMemberId);
        };
        group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != group.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let mut cx = Cx { now, core: &mut self.core, effects: &mut Vec::new() };
        group.refresh_session(&mut cx, &request.member_id);
        match group.state() {
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            // Members may send heartbeats as soon as they have joined.
            State::CompletingRebalance | State::Stable => Ok(()),
            State::Empty => Err(GroupError::UnknownMemberId),
        }
    }
}

/// The assignment is durable, or could not be stored.
pub(super) fn assignment_written(
    cx: &mut Cx<'_>,
    group: &mut Group,
    written: Assignment,
    result: Result<(), GroupLogError>,
) {
    let is_current =
        group.state() == State::CompletingRebalance && group.generation == written.generation;
    if !is_current {
        // The group has begun to rebalance since; nobody waits for this assignment.
        return;
    }
    match result {
        Ok(()) => hand_out(cx, group, &written.assignments),
        Err(error) => {
            reset_assignments(cx, group, metadata_error(error));
            prepare_rebalance(cx, group, "the assignment could not be stored");
        }
    }
}

fn check_sync(group: &Group, request: &SyncRequest) -> Result<(), GroupError> {
    let differs = |asked: &Option<String>, ours: &Option<Arc<str>>| match (asked, ours) {
        (Some(asked), Some(ours)) => asked.as_str() != &**ours,
        (Some(_) | None, _) => false,
    };
    group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation != group.generation {
        Err(GroupError::IllegalGeneration)
    } else if differs(&request.protocol_type, &group.protocol_type)
        || differs(&request.protocol_name, &group.protocol_name)
    {
        Err(GroupError::InconsistentGroupProtocol)
    } else {
        Ok(())
    }
}

fn sync_member(cx: &mut Cx<'_>, group: &mut Group, to: RequestId, request: &SyncRequest) {
    match group.state() {
        State::PreparingRebalance => {
            cx.reply(to, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        State::CompletingRebalance => {
            group.park_sync(cx, &request.member_id, to);
            note_synced(group, &request.member_id);
            if group.is_leader(&request.member_id) && !group.assignment_in_flight {
                store_assignment(cx, group, request);
            }
        }
        State::Stable => {
            note_synced(group, &request.member_id);
            group.refresh_session(cx, &request.member_id);
            let synced = synced(group, &request.member_id);
            cx.reply(to, Reply::Sync(Ok(synced)));
        }
        State::Empty => unreachable!("an empty group has no member that could pass the checks"),
    }
}

fn note_synced(group: &mut Group, member_id: &str) {
    group.unsynced.remove(member_id);
    if group.unsynced.is_empty() {
        group.sync_phase.cancel();
    }
}

fn store_assignment(cx: &mut Cx<'_>, group: &mut Group, request: &SyncRequest) {
    let given: HashMap<&str, &Bytes> =
        request.assignments.iter().map(|(member, bytes)| (member.as_str(), bytes)).collect();
    let assignments: HashMap<Arc<str>, Bytes> = group
        .members()
        .map(|member| {
            let bytes = given.get(&*member.id).map(|bytes| Bytes::copy_from_slice(bytes));
            (Arc::clone(&member.id), bytes.unwrap_or_default())
        })
        .collect();
    group.assignment_in_flight = true;
    let assignments = Arc::new(assignments);
    let assignment =
        Assignment { generation: group.generation, assignments: Arc::clone(&assignments) };
    group.write_record(
        cx,
        |member| assignments.get(&member.id).cloned().unwrap_or_default(),
        GroupWriteCause::Assignment(assignment),
    );
}

/// The assignment is durable: every member that asked gets its part.
fn hand_out(cx: &mut Cx<'_>, group: &mut Group, assignments: &HashMap<Arc<str>, Bytes>) {
    group.assignment_in_flight = false;
    group.enter(State::Stable, cx.now.wall_ms);
    for member_id in group.member_ids() {
        let Some(member) = group.member_mut(&member_id) else { continue };
        member.assignment = assignments.get(&member_id).cloned().unwrap_or_default();
        if let Some(to) = member.syncing.take() {
            let synced = synced(group, &member_id);
            cx.reply(to, Reply::Sync(Ok(synced)));
            // Its session did not run while it waited.
            group.refresh_session(cx, &member_id);
        }
    }
}

fn synced(group: &Group, member_id: &str) -> Synced {
    let assignment = group.member(member_id).map(|member| member.assignment.clone());
    Synced {
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol_name.clone(),
        assignment: assignment.unwrap_or_default(),
    }
}
