//! Requests that wait, each of which is answered once; and the alarms of a group.

use std::sync::Arc;
use std::time::Duration;

use super::Group;
use crate::group::error::GroupError;
use crate::group::request::JoinRejected;
use crate::group::state::Cx;
use crate::group::step::{Reply, RequestId};
use crate::group::timers::AlarmKey;

impl Group {
    /// Parks a join. One that was parked before is answered: its client has given it up.
    pub(in crate::group) fn park_join(&mut self, cx: &mut Cx<'_>, member_id: &str, to: RequestId) {
        self.answer_join(cx, member_id, GroupError::RebalanceInProgress);
        if let Some(member) = self.members.get_mut(member_id) {
            member.joining = Some(to);
            self.joining_count += 1;
        }
    }

    /// The parked join, which the caller now answers.
    pub(in crate::group) fn take_join(&mut self, member_id: &str) -> Option<RequestId> {
        let to = self.members.get_mut(member_id)?.joining.take()?;
        self.joining_count -= 1;
        Some(to)
    }

    /// Refuses the parked join, if there is one.
    pub(in crate::group) fn answer_join(
        &mut self,
        cx: &mut Cx<'_>,
        member_id: &str,
        error: GroupError,
    ) {
        if let Some(to) = self.take_join(member_id) {
            // Who is told that it is unknown has no id to go on with.
            let keeps_id = error != GroupError::UnknownMemberId;
            let member_id = if keeps_id { Arc::from(member_id) } else { Arc::default() };
            cx.reply(to, Reply::Join(Err(JoinRejected { error, member_id })));
        }
    }

    /// Parks a sync; see [`Group::park_join`].
    pub(in crate::group) fn park_sync(&mut self, cx: &mut Cx<'_>, member_id: &str, to: RequestId) {
        self.answer_sync(cx, member_id, GroupError::RebalanceInProgress);
        if let Some(member) = self.members.get_mut(member_id) {
            member.syncing = Some(to);
        }
    }

    /// Refuses the parked sync. True if there was one.
    pub(in crate::group) fn answer_sync(
        &mut self,
        cx: &mut Cx<'_>,
        member_id: &str,
        error: GroupError,
    ) -> bool {
        let to = self.members.get_mut(member_id).and_then(|member| member.syncing.take());
        if let Some(to) = to {
            cx.reply(to, Reply::Sync(Err(error)));
        }
        to.is_some()
    }

    pub(in crate::group) fn answer_all_parked(&mut self, cx: &mut Cx<'_>, error: GroupError) {
        for member_id in self.member_ids() {
            self.answer_join(cx, &member_id, error);
            self.answer_sync(cx, &member_id, error);
        }
    }

    // ---- alarms

    /// Starts a member's session anew.
    pub(in crate::group) fn refresh_session(&mut self, cx: &mut Cx<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let timeout = member.session_timeout();
            self.arm_session(cx, member_id, timeout);
        }
    }

    pub(in crate::group) fn arm_session(
        &mut self,
        cx: &mut Cx<'_>,
        member_id: &str,
        timeout: Duration,
    ) {
        let due = cx.after(timeout);
        if let Some(member) = self.members.get_mut(member_id) {
            let (group, member_id) = (&self.id, &member.id);
            cx.core.timers.arm(&mut member.session, due, || session_key(group, member_id));
        }
    }

    pub(in crate::group) fn arm_join_phase(&mut self, cx: &mut Cx<'_>, timeout: Duration) {
        let due = cx.after(timeout);
        let key = || AlarmKey::JoinPhase { group: Arc::clone(&self.id) };
        cx.core.timers.arm(&mut self.join_phase, due, key);
    }

    pub(in crate::group) fn arm_sync_phase(&mut self, cx: &mut Cx<'_>, timeout: Duration) {
        let due = cx.after(timeout);
        let key = || AlarmKey::SyncPhase { group: Arc::clone(&self.id) };
        cx.core.timers.arm(&mut self.sync_phase, due, key);
    }

    /// Whether a session alarm that came up rings; of a member or of a pending id.
    pub(in crate::group) fn session_rings(
        &mut self,
        cx: &mut Cx<'_>,
        queued: Duration,
        member_id: &Arc<str>,
    ) -> bool {
        let group = &self.id;
        let alarm = match self.members.get_mut(member_id) {
            Some(member) => Some(&mut member.session),
            None => self.pending.get_mut(member_id),
        };
        let now = cx.now.monotonic;
        alarm.is_some_and(|alarm| {
            cx.core.timers.rings(alarm, queued, now, || session_key(group, member_id))
        })
    }
}

pub(super) fn session_key(group: &Arc<str>, member: &Arc<str>) -> AlarmKey {
    AlarmKey::Session { group: Arc::clone(group), member: Arc::clone(member) }
}
