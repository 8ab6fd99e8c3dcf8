//! How a group gets from one generation to the next: the join phase, in which all members come
//! back, and the members that do not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::classic::{Group, InitialDelay};
use super::error::GroupError;
use super::request::{Joined, JoinedMember};
use super::state::{Cx, GroupWriteCause, Shard, State};
use super::step::{Effect, Now, Reply};

impl Shard {
    /// A session alarm came up: a silent member is expelled, an unused id forgotten.
    pub(super) fn session_up(
        &mut self,
        now: Now,
        queued: Duration,
        group_id: &Arc<str>,
        member_id: &Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        self.with_group(now, group_id, effects, |cx, group| {
            if !group.session_rings(cx, queued, member_id) {
                return;
            }
            if group.take_pending(member_id).is_some() {
                tracing::info!(group = %group.id, member = %member_id, "an id was never used");
                if group.state() == State::PreparingRebalance && group.all_joined() {
                    complete_join(cx, group);
                }
            } else if group.member(member_id).is_some_and(|member| !member.is_excused()) {
                tracing::info!(group = %group.id, member = %member_id, "a member fell silent");
                expel_and_go_on(cx, group, member_id);
            }
        });
    }

    /// The join phase's time is over.
    pub(super) fn join_phase_up(
        &mut self,
        now: Now,
        queued: Duration,
        group_id: &Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        self.with_group(now, group_id, effects, |cx, group| {
            let key = super::timers::AlarmKey::JoinPhase { group: Arc::clone(&group.id) };
            let alarm = &mut group.join_phase;
            if !cx.core.timers.rings(alarm, queued, cx.now.monotonic, || key) {
                return;
            }
            match group.initial_delay {
                Some(delay) if delay.member_came && !delay.remaining.is_zero() => {
                    let step = cx.core.config.initial_rebalance_delay.min(delay.remaining);
                    let remaining = delay.remaining.saturating_sub(delay.step);
                    group.initial_delay =
                        Some(InitialDelay { step, remaining, member_came: false });
                    group.arm_join_phase(cx, step);
                }
                Some(_) | None => complete_join(cx, group),
            }
        });
    }

    /// The sync phase's time is over: who has not asked for its assignment is expelled.
    pub(super) fn sync_phase_up(
        &mut self,
        now: Now,
        queued: Duration,
        group_id: &Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        self.with_group(now, group_id, effects, |cx, group| {
            let key = super::timers::AlarmKey::SyncPhase { group: Arc::clone(&group.id) };
            let alarm = &mut group.sync_phase;
            if !cx.core.timers.rings(alarm, queued, cx.now.monotonic, || key) {
                return;
            }
            let unsynced = std::mem::take(&mut group.unsynced);
            if unsynced.is_empty() {
                return;
            }
            for member_id in &unsynced {
                group.expel(cx, member_id, GroupError::UnknownMemberId);
            }
            prepare_rebalance(cx, group, "members did not sync in time");
        });
    }
}

/// Starts a rebalance where one can start, else goes on with the one under way.
pub(super) fn rebalance_or_go_on(cx: &mut Cx<'_>, group: &mut Group, reason: &str) {
    match group.state() {
        State::Empty | State::CompletingRebalance | State::Stable => {
            prepare_rebalance(cx, group, reason);
        }
        State::PreparingRebalance => maybe_complete_join(cx, group),
    }
}

/// Starts a rebalance: everybody has to join again.
pub(super) fn prepare_rebalance(cx: &mut Cx<'_>, group: &mut Group, reason: &str) {
    let before = group.state();
    if before == State::CompletingRebalance {
        reset_assignments(cx, group, GroupError::RebalanceInProgress);
    }
    group.unsynced.clear();
    group.sync_phase.cancel();
    group.assignment_in_flight = false;
    group.enter(State::PreparingRebalance, cx.now.wall_ms);
    tracing::info!(group = %group.id, generation = group.generation, from = %before, reason,
        "rebalance");
    if before == State::Empty {
        let step = cx.core.config.initial_rebalance_delay;
        let remaining = group.rebalance_timeout().saturating_sub(step);
        group.initial_delay = Some(InitialDelay { step, remaining, member_came: false });
        group.arm_join_phase(cx, step);
    } else if group.all_joined() {
        complete_join(cx, group);
    } else {
        let timeout = group.rebalance_timeout();
        group.arm_join_phase(cx, timeout);
    }
}

/// Ends the join phase if everybody is there. The first one of a group lasts its time.
pub(super) fn maybe_complete_join(cx: &mut Cx<'_>, group: &mut Group) {
    if group.state() == State::PreparingRebalance
        && !group.is_initial_rebalance()
        && group.all_joined()
    {
        complete_join(cx, group);
    }
}

/// Refuses all parked syncs, and gives their members' sessions a new start.
pub(super) fn reset_assignments(cx: &mut Cx<'_>, group: &mut Group, error: GroupError) {
    for member_id in group.member_ids() {
        if let Some(member) = group.member_mut(&member_id) {
            member.assignment = Bytes::new();
        }
        if group.answer_sync(cx, &member_id, error) {
            group.refresh_session(cx, &member_id);
        }
    }
}

/// Expels a member; the group goes on without it.
fn expel_and_go_on(cx: &mut Cx<'_>, group: &mut Group, member_id: &str) {
    group.expel(cx, member_id, GroupError::UnknownMemberId);
    match group.state() {
        State::Stable | State::CompletingRebalance => {
            prepare_rebalance(cx, group, "a member fell silent");
        }
        State::PreparingRebalance => {
            if group.all_joined() {
                complete_join(cx, group);
            }
        }
        State::Empty => {}
    }
}

/// Ends the join phase: dynamic members that did not come are out, the rest is a generation.
/// Static members may be away: they keep their place until their session is over.
fn complete_join(cx: &mut Cx<'_>, group: &mut Group) {
    group.join_phase.cancel();
    group.initial_delay = None;
    let absent = group
        .members()
        .filter(|member| member.joining.is_none() && member.instance_id.is_none())
        .map(|member| Arc::clone(&member.id))
        .collect::<Vec<_>>();
    for member_id in absent {
        group.expel(cx, &member_id, GroupError::UnknownMemberId);
    }
    if !group.elect_leader() && group.size() > 0 {
        // Nobody came back. Either somebody does, or their sessions end.
        let timeout = group.rebalance_timeout();
        group.arm_join_phase(cx, timeout);
        return;
    }
    // Kafka never goes back either; a group would need a rebalance a second for 68 years.
    group.generation = group.generation.checked_add(1).unwrap_or(1);
    group.protocol_name = group.select_protocol();
    group.read_subscriptions();
    if group.size() == 0 {
        become_empty(cx, group);
    } else {
        start_generation(cx, group);
    }
}

fn become_empty(cx: &mut Cx<'_>, group: &mut Group) {
    group.enter(State::Empty, cx.now.wall_ms);
    tracing::info!(group = %group.id, generation = group.generation, "the group is empty");
    group.write_record(cx, |_| Bytes::new(), GroupWriteCause::Emptied);
}

fn start_generation(cx: &mut Cx<'_>, group: &mut Group) {
    group.enter(State::CompletingRebalance, cx.now.wall_ms);
    tracing::info!(group = %group.id, generation = group.generation, members = group.size(),
        "a generation begins");
    for member_id in group.member_ids() {
        if let Some(to) = group.take_join(&member_id) {
            let joined = joined(group, &member_id);
            cx.reply(to, Reply::Join(Ok(joined)));
        }
        if let Some(member) = group.member_mut(&member_id) {
            member.is_new = false;
        }
        group.refresh_session(cx, &member_id);
        group.unsynced.insert(member_id);
    }
    let timeout = group.rebalance_timeout();
    group.arm_sync_phase(cx, timeout);
}

/// What a member of the current generation is told; only the leader is told of the others.
pub(super) fn joined(group: &Group, member_id: &Arc<str>) -> Joined {
    let members: Vec<JoinedMember> =
        if group.is_leader(member_id) { group.members_for_leader() } else { Vec::new() };
    Joined {
        generation: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol_name.clone(),
        leader: group.leader().map(Arc::clone).unwrap_or_default(),
        skip_assignment: false,
        member_id: Arc::clone(member_id),
        members,
    }
}
