//! JoinGroup: who may join, and under which id.
//!
//! Differs from Kafka in three small ways. A static member that comes back to a full group is let
//! in, since it takes its own place. A second join of a member whose first one still waits answers
//! the first (with 27) instead of forgetting it. A join without an id that makes a new group writes
//! nothing: the group is recorded with its first generation.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::classic::Group;
use super::error::{GroupError, GroupLogError, metadata_error};
use super::member::{Member, Protocol, millis, protocols_of};
use super::rebalance::{joined, maybe_complete_join, prepare_rebalance, rebalance_or_go_on};
use super::record::TEXT_SIZE_BYTES_MAX;
use super::request::{JoinRejected, JoinRequest, Joined};
use super::state::{Cx, GroupWriteCause, Shard, State};
use super::step::{Effect, Now, Reply, RequestId};

/// A new member cannot send heartbeats while its first join waits, and may be gone unnoticed.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// A static member that took its predecessor's place without a rebalance; until that is durable
/// it can be undone.
#[derive(Debug)]
pub(super) struct StaticReplacement {
    instance_id: Arc<str>,
    old_member_id: Arc<str>,
    new_member_id: Arc<str>,
    generation: i32,
    /// The leader's id before the replacement.
    leader_before: Option<Arc<str>>,
    before: Terms,
    skip_assignment_supported: bool,
    to: RequestId,
}

/// What a member asks for in a join.
#[derive(Debug)]
struct Terms {
    protocols: Vec<Protocol>,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
}

impl Terms {
    fn of(request: &JoinRequest) -> Self {
        Self {
            protocols: protocols_of(&request.protocols),
            rebalance_timeout_ms: if request.rebalance_timeout_ms < 0 {
                request.session_timeout_ms
            } else {
                request.rebalance_timeout_ms
            },
            session_timeout_ms: request.session_timeout_ms,
        }
    }
}

impl Shard {
    pub(super) fn join(
        &mut self,
        now: Now,
        to: RequestId,
        request: &JoinRequest,
        fresh: Uuid,
        effects: &mut Vec<Effect>,
    ) {
        if let Err(error) = self.check_join(request) {
            let reply = rejected(error, &request.member_id);
            effects.push(Effect::Reply(to, reply));
            return;
        }
        self.group_or_new(now, &request.group_id);
        self.with_group(now, &request.group_id, effects, |cx, group| {
            join_group(cx, group, to, request, fresh);
        });
    }

    /// What can be said without looking into the group.
    fn check_join(&self, request: &JoinRequest) -> Result<(), GroupError> {
        let config = &self.core.config;
        let session_timeouts = config.session_timeout_min..=config.session_timeout_max;
        let too_long = |text: &str| text.len() > TEXT_SIZE_BYTES_MAX;
        if request.group_id.is_empty() || too_long(&request.group_id) {
            return Err(GroupError::InvalidGroupId);
        }
        if !session_timeouts.contains(&millis(request.session_timeout_ms)) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        if too_long(&request.protocol_type)
            || request.protocols.iter().any(|protocol| too_long(&protocol.name))
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let texts = [&request.client_id, &request.client_host, &request.member_id];
        if texts.into_iter().chain(&request.group_instance_id).any(|text| too_long(text)) {
            return Err(GroupError::UnknownMemberId);
        }
        let exists = self.groups.contains_key(request.group_id.as_str());
        if !exists && !request.member_id.is_empty() {
            return Err(GroupError::UnknownMemberId);
        }
        Ok(())
    }
}

/// A static member's replacement is durable, or could not be stored.
pub(super) fn static_replacement_written(
    cx: &mut Cx<'_>,
    group: &mut Group,
    written: StaticReplacement,
    result: Result<(), GroupLogError>,
) {
    let still_waits = group
        .member(&written.new_member_id)
        .is_some_and(|member| member.joining == Some(written.to));
    match result {
        Ok(()) if still_waits && group.state() == State::Stable => {
            accept_replacement(cx, group, &written);
        }
        // A rebalance has begun since, and answers it; or something has answered it.
        Ok(()) => {}
        Err(error) => {
            tracing::warn!(group = %group.id, instance = %written.instance_id, %error,
                "could not store that a static member is replaced");
            if still_waits && let Some(to) = group.take_join(&written.new_member_id) {
                cx.reply(to, rejected(metadata_error(error), ""));
            }
            // What is known has to be what is durable in the end.
            if group.recording > 0 {
                group.unsettled.push(written);
            } else if still_waits {
                undo_replacement(cx, group, written);
            }
        }
    }
}

/// A record of the group is durable, or could not be stored: so are the replacements that it said
/// beside its own matter.
pub(super) fn settle_replacements(cx: &mut Cx<'_>, group: &mut Group, is_durable: bool) {
    if is_durable {
        group.unsettled.clear();
    } else if group.recording == 0 {
        for written in std::mem::take(&mut group.unsettled).into_iter().rev() {
            let is_as_left = group.member(&written.new_member_id).is_some()
                && group.state() == State::Stable
                && group.generation == written.generation;
            if is_as_left {
                undo_replacement(cx, group, written);
            }
        }
    }
}

fn rejected(error: GroupError, member_id: &str) -> Reply {
    Reply::Join(Err(JoinRejected { error, member_id: Arc::from(member_id) }))
}

fn join_group(
    cx: &mut Cx<'_>,
    group: &mut Group,
    to: RequestId,
    request: &JoinRequest,
    fresh: Uuid,
) {
    let names = request.protocols.iter().map(|protocol| protocol.name.as_str());
    if group.is_deleting {
        return cx.reply(to, rejected(GroupError::CoordinatorLoadInProgress, &request.member_id));
    }
    if !has_room_for(cx, group, request) {
        group.expel(cx, &request.member_id, GroupError::GroupMaxSizeReached);
        group.take_pending(&request.member_id);
        cx.reply(to, rejected(GroupError::GroupMaxSizeReached, ""));
        return maybe_complete_join(cx, group);
    }
    if !group.supports(&request.protocol_type, names) {
        return cx.reply(to, rejected(GroupError::InconsistentGroupProtocol, &request.member_id));
    }
    if request.member_id.is_empty() {
        join_without_id(cx, group, to, request, fresh);
    } else {
        join_with_id(cx, group, to, request);
    }
}

/// While members join, those that have joined count, so that the last ones are turned away if the
/// limit was lowered. Otherwise the group's size counts.
fn has_room_for(cx: &Cx<'_>, group: &Group, request: &JoinRequest) -> bool {
    let instance = request.group_instance_id.as_deref();
    let holder = instance.and_then(|instance_id| group.static_member(instance_id));
    let member_id = match holder {
        Some(holder) if request.member_id.is_empty() => holder,
        Some(_) | None => request.member_id.as_str(),
    };
    let member = group.member(member_id);
    let size_max = cx.core.config.members_max;
    match group.state() {
        State::Empty => true,
        State::PreparingRebalance => {
            member.is_some_and(|member| member.joining.is_some())
                || group.joining_count() < size_max
        }
        State::CompletingRebalance | State::Stable => member.is_some() || group.size() < size_max,
    }
}

fn join_without_id(
    cx: &mut Cx<'_>,
    group: &mut Group,
    to: RequestId,
    request: &JoinRequest,
    fresh: Uuid,
) {
    let prefix = request.group_instance_id.as_deref().unwrap_or(&request.client_id);
    let member_id: Arc<str> = Arc::from(format!("{prefix}-{fresh}"));
    let instance = request.group_instance_id.as_deref();
    let holder = instance.and_then(|instance_id| group.static_member(instance_id)).cloned();
    if let Some(holder) = holder {
        replace_static_member(cx, group, to, request, &holder, &member_id);
    } else if instance.is_none() && request.member_id_required {
        group.add_pending(cx, &member_id, millis(request.session_timeout_ms));
        cx.reply(to, rejected(GroupError::MemberIdRequired, &member_id));
    } else {
        add_member(cx, group, to, request, member_id);
    }
}

fn join_with_id(cx: &mut Cx<'_>, group: &mut Group, to: RequestId, request: &JoinRequest) {
    let member_id: Arc<str> = Arc::from(request.member_id.as_str());
    if group.is_pending(&member_id) && request.group_instance_id.is_none() {
        return add_member(cx, group, to, request, member_id);
    }
    if let Err(error) = group.check_member(&member_id, request.group_instance_id.as_deref()) {
        return cx.reply(to, rejected(error, &member_id));
    }
    let terms = Terms::of(request);
    let same = group.member(&member_id).is_some_and(|member| member.offers(&terms.protocols));
    let current = match group.state() {
        // It did not get the answer to its join: here it is again.
        State::CompletingRebalance => same,
        // The leader joins to have partitions assigned anew: something it can see has changed.
        State::Stable => same && !group.is_leader(&member_id),
        State::PreparingRebalance => false,
        State::Empty => unreachable!("an empty group has no member to join again"),
    };
    if current {
        let joined = joined(group, &member_id);
        return cx.reply(to, Reply::Join(Ok(joined)));
    }
    update_terms(group, &member_id, terms);
    group.park_join(cx, &member_id, to);
    rebalance_or_go_on(cx, group, "a member joins again");
}

fn add_member(
    cx: &mut Cx<'_>,
    group: &mut Group,
    to: RequestId,
    request: &JoinRequest,
    member_id: Arc<str>,
) {
    if group.size() == 0 {
        group.protocol_type = Some(Arc::from(request.protocol_type.as_str()));
    }
    if let Some(delay) = &mut group.initial_delay {
        delay.member_came = true;
    }
    let terms = Terms::of(request);
    let session = group.take_pending(&member_id).unwrap_or_default();
    group.insert(Member {
        id: Arc::clone(&member_id),
        instance_id: request.group_instance_id.as_deref().map(Arc::from),
        client_id: Arc::from(request.client_id.as_str()),
        client_host: Arc::from(request.client_host.as_str()),
        rebalance_timeout_ms: terms.rebalance_timeout_ms,
        session_timeout_ms: terms.session_timeout_ms,
        protocols: terms.protocols,
        assignment: Bytes::new(),
        joining: Some(to),
        syncing: None,
        is_new: true,
        session,
    });
    group.arm_session(cx, &member_id, NEW_MEMBER_JOIN_TIMEOUT);
    rebalance_or_go_on(cx, group, request.reason.as_deref().unwrap_or("a member joins"));
}

/// Takes over what a member asks for; gives back what it asked for before.
fn update_terms(group: &mut Group, member_id: &str, terms: Terms) -> Terms {
    let protocols = group.replace_protocols(member_id, terms.protocols);
    let Some(member) = group.member_mut(member_id) else {
        unreachable!("the member was looked up before")
    };
    let replace = std::mem::replace::<i32>;
    Terms {
        protocols,
        rebalance_timeout_ms: replace(&mut member.rebalance_timeout_ms, terms.rebalance_timeout_ms),
        session_timeout_ms: replace(&mut member.session_timeout_ms, terms.session_timeout_ms),
    }
}

/// A static member comes back under a new id. Whoever still holds the old one is fenced.
fn replace_static_member(
    cx: &mut Cx<'_>,
    group: &mut Group,
    to: RequestId,
    request: &JoinRequest,
    old: &Arc<str>,
    new: &Arc<str>,
) {
    tracing::info!(group = %group.id, %old, %new, "a static member is replaced");
    let leader_before = group.leader().cloned();
    group.answer_join(cx, old, GroupError::FencedInstanceId);
    group.answer_sync(cx, old, GroupError::FencedInstanceId);
    group.rename(old, new);
    let before = update_terms(group, new, Terms::of(request));
    if let Some(member) = group.member_mut(new) {
        member.is_new = false;
    }
    group.park_join(cx, new, to);
    group.refresh_session(cx, new);
    match group.state() {
        State::Stable if group.select_protocol() == group.protocol_name => {
            let replacement = StaticReplacement {
                instance_id: Arc::from(request.group_instance_id.as_deref().unwrap_or_default()),
                old_member_id: Arc::clone(old),
                new_member_id: Arc::clone(new),
                generation: group.generation,
                leader_before,
                before,
                skip_assignment_supported: request.skip_assignment_supported,
                to,
            };
            let cause = GroupWriteCause::StaticReplacement(replacement);
            group.write_record(cx, |member| member.assignment.clone(), cause);
        }
        State::Stable => prepare_rebalance(cx, group, "a static member changes the protocol"),
        // The leader may already assign to the old id: let it see the new one.
        State::CompletingRebalance => prepare_rebalance(cx, group, "a static member is replaced"),
        State::PreparingRebalance => maybe_complete_join(cx, group),
        State::Empty => unreachable!("an empty group has no static member"),
    }
}

fn accept_replacement(cx: &mut Cx<'_>, group: &mut Group, written: &StaticReplacement) {
    if group.generation != written.generation {
        return;
    }
    let Some(to) = group.take_join(&written.new_member_id) else { return };
    let joined = joined(group, &written.new_member_id);
    let joined = if written.skip_assignment_supported {
        Joined { skip_assignment: group.is_leader(&written.new_member_id), ..joined }
    } else {
        // Told of itself as the leader it would assign, and nobody would get what it assigned.
        let leader = written.leader_before.clone().unwrap_or_default();
        Joined { leader, members: Vec::new(), ..joined }
    };
    cx.reply(to, Reply::Join(Ok(joined)));
}

fn undo_replacement(cx: &mut Cx<'_>, group: &mut Group, written: StaticReplacement) {
    update_terms(group, &written.new_member_id, written.before);
    group.rename(&written.new_member_id, &written.old_member_id);
    group.refresh_session(cx, &written.old_member_id);
}
