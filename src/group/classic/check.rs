//! What must hold between any two steps, checked by tests.

use std::collections::HashMap;
use std::sync::Arc;

use super::Group;
use crate::group::state::State;

impl Group {
    /// What must hold between any two steps.
    pub(in crate::group) fn check(&self) {
        let members = || self.members.values();
        let joining = members().filter(|member| member.joining.is_some()).count();
        assert_eq!(joining, self.joining_count, "joins are counted");
        assert!(members().all(|member| !self.pending.contains_key(&member.id)));
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "one leader, if anybody");
        assert!(self.leader.iter().all(|leader| self.members.contains_key(leader)));
        assert!(self.unsynced.iter().all(|member| self.members.contains_key(member)));
        for (instance, member) in &self.static_members {
            let holder = self.members.get(member).unwrap();
            assert_eq!(holder.instance_id.as_ref(), Some(instance));
        }
        let instances = members().filter(|member| member.instance_id.is_some()).count();
        assert_eq!(instances, self.static_members.len());
        let mut supporters: HashMap<Arc<str>, usize> = HashMap::new();
        for protocol in members().flat_map(|member| &member.protocols) {
            *supporters.entry(Arc::clone(&protocol.name)).or_default() += 1;
        }
        assert_eq!(supporters, self.supporters, "supporters are counted");
        match self.state {
            State::Empty => assert!(self.members.is_empty()),
            State::PreparingRebalance => {
                assert!(members().all(|member| member.syncing.is_none()));
                assert!(self.unsynced.is_empty());
            }
            State::CompletingRebalance => assert_eq!(joining, 0, "all joins are answered"),
            State::Stable => assert!(members().all(|member| member.syncing.is_none())),
        }
        assert!(!self.is_nothing(), "a group without content is dropped");
    }
}
