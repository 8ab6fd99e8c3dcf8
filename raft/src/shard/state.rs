//! What the controller holds of a shard, and what it makes of it: pure functions from state to
//! state, which the metadata quorum makes durable before anybody hears of them.
//!
//! Whoever is in sync, or *eligible* (KIP-966), holds everything committed: only they are elected,
//! unless an operator asks for another. Eligible is who left the set when that fell below its
//! least size: from then on nothing is committed. Every election begins a new epoch, also one that
//! the same broker wins, and every change of the set has a new version: so what was asked for
//! under an older one can no longer be had.

use std::collections::{BTreeMap, BTreeSet};

use braid_base::model::{BrokerId, LeaderEpoch};
use serde::{Deserialize, Serialize};

use super::mistake::{Mistake, Rules};

/// One run of a broker. A broker that starts again is another replica: what was said to or by the
/// earlier one counts no more (KIP-903).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// The broker.
    pub broker: BrokerId,
    /// Which run of it, as the controller registered it; grows with every registration.
    pub incarnation: u64,
}

/// The replicas in sync, and the version of that set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncSet {
    /// One more with every change.
    pub version: u32,
    /// Who is in it; the leader always is.
    pub members: BTreeSet<BrokerId>,
}

/// A shard as the controller has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardState {
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Fewest replicas in sync with which anything is committed.
    pub in_sync_min: usize,
    /// The term.
    pub epoch: LeaderEpoch,
    /// Who leads in it, if anybody does.
    pub leader: Option<Replica>,
    /// Those in sync.
    pub in_sync: SyncSet,
    /// Those that left the set when it fell below its least size, and hold all that is committed.
    pub eligible: BTreeSet<BrokerId>,
    /// That these rules are kept; tests break them.
    pub rules: Rules,
}

/// A leader asks for another set of replicas in sync (KIP-497).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proposal {
    /// Who asks.
    pub leader: Replica,
    /// The term it leads.
    pub epoch: LeaderEpoch,
    /// The set that it knows.
    pub version: u32,
    /// The set that it wants.
    pub members: BTreeSet<BrokerId>,
    /// Those of them that are new, each with the run that has caught up.
    pub added: Vec<Replica>,
}

/// Why a proposal is not agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeRefused {
    /// Who asks does not lead in this term: it has to step down.
    #[error("{0} is not the epoch of the shard, or the broker not its leader")]
    NotLeader(LeaderEpoch),
    /// The set has changed since.
    #[error("the set has version {0} by now")]
    Outdated(u32),
    /// The set would lack its leader, or hold brokers that are no replicas.
    #[error("the set lacks the leader, or holds a broker that is no replica")]
    Invalid,
    /// A broker that is to be added is not up, or has started again since it caught up.
    #[error("broker {0} is not up, or has started again")]
    NotUp(BrokerId),
}

/// What happened to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is silent, was fenced or stops. Its disk may hold all that it acknowledged.
    Silent,
    /// It has started again, and its log holds all that it acknowledged.
    Restarted,
    /// It has started again, and lacks what it may have acknowledged: its disk is another one, or
    /// its log is damaged.
    Damaged,
}

/// Whether a replica that may lack what is committed may be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unclean {
    /// Never.
    Never,
    /// An operator has asked for it, when nobody else is up.
    Asked,
}

/// What an election came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// The shard from now on.
    pub state: ShardState,
    /// Records that were committed may be lost.
    pub unclean: bool,
}

/// Nobody who may be elected is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no replica that holds everything committed is up")]
pub struct NoLeader;

/// Brokers that are up, and which run of each.
pub type Up = BTreeMap<BrokerId, u64>;

impl ShardState {
    /// A shard before its first election: all of its replicas hold all of its records, which are none.
    #[must_use]
    pub fn new(replicas: Vec<BrokerId>, in_sync_min: usize) -> Self {
        let members = replicas.iter().copied().collect();
        Self {
            replicas,
            in_sync_min,
            epoch: LeaderEpoch(0),
            leader: None,
            in_sync: SyncSet { version: 0, members },
            eligible: BTreeSet::new(),
            rules: Rules::default(),
        }
    }

    /// The shard with the set that its leader asks for.
    ///
    /// # Errors
    /// See [`ChangeRefused`].
    pub fn change(&self, proposal: &Proposal, up: &Up) -> Result<Self, ChangeRefused> {
        if self.leader != Some(proposal.leader) || proposal.epoch != self.epoch {
            return Err(ChangeRefused::NotLeader(self.epoch));
        }
        if proposal.version != self.in_sync.version {
            return Err(ChangeRefused::Outdated(self.in_sync.version));
        }
        let members = &proposal.members;
        let are_replicas = members.iter().all(|broker| self.replicas.contains(broker));
        if !members.contains(&proposal.leader.broker) || !are_replicas {
            return Err(ChangeRefused::Invalid);
        }
        for broker in members.difference(&self.in_sync.members) {
            let run = proposal.added.iter().find(|added| added.broker == *broker);
            let is_up = run.is_some_and(|run| up.get(broker) == Some(&run.incarnation));
            if !is_up && !self.rules.breaks(Mistake::IgnoreStamps) {
                return Err(ChangeRefused::NotUp(*broker));
            }
        }
        let mut next = self.clone();
        next.set_members(members.clone());
        Ok(next)
    }

    /// The shard once something has happened to a broker, whose run this is now. Without a leader
    /// it waits for an election.
    #[must_use]
    pub fn after(&self, who: Replica, loss: Loss) -> Self {
        let mut next = self.clone();
        let broker = who.broker;
        if self.leader.is_some_and(|leader| leader.broker == broker) {
            let goes_on = loss == Loss::Restarted && self.rules.breaks(Mistake::KeepEpochAtRestart);
            next.leader = goes_on.then_some(who);
        }
        let mut left = self.in_sync.members.clone();
        let was_in_sync = left.remove(&broker);
        match loss {
            Loss::Restarted => {}
            // The last one stays: nobody but those eligible has what it has.
            Loss::Silent if was_in_sync && !left.is_empty() => next.set_members(left),
            Loss::Silent => {}
            Loss::Damaged => {
                if was_in_sync {
                    next.set_members(left);
                }
                next.eligible.remove(&broker);
            }
        }
        next
    }

    /// Elects a leader among those that are up: of those in sync the first by preference, else of
    /// those eligible, else, when that is asked for, of all.
    ///
    /// # Errors
    /// Nobody may be elected.
    pub fn elect(&self, up: &Up, unclean: Unclean) -> Result<Election, NoLeader> {
        let first = |may: &dyn Fn(&BrokerId) -> bool| {
            let found = self.replicas.iter().find(|broker| may(broker) && up.contains_key(broker));
            found.copied()
        };
        let in_sync = first(&|broker| self.in_sync.members.contains(broker));
        let eligible = first(&|broker| self.eligible.contains(broker));
        let anyone = first(&|_| true);
        let (chosen, is_unclean) = if self.rules.breaks(Mistake::ElectAnyone) {
            (anyone, false)
        } else if let Some(clean) = in_sync.or(eligible) {
            (Some(clean), false)
        } else {
            (anyone.filter(|_| unclean == Unclean::Asked), true)
        };
        let broker = chosen.ok_or(NoLeader)?;
        let mut state = self.clone();
        if is_unclean {
            // Nobody is sure to hold what this one begins with.
            state.in_sync.members.clear();
            state.eligible.clear();
        }
        if !self.in_sync.members.contains(&broker) {
            state.set_members(BTreeSet::from([broker]));
        } else {
            state.in_sync.version += 1;
        }
        state.epoch = LeaderEpoch(self.epoch.0 + 1);
        state.leader = up.get(&broker).map(|run| Replica { broker, incarnation: *run });
        Ok(Election { state, unclean: is_unclean })
    }

    /// Elects the preferred leader in place of another, if it is up and in sync.
    #[must_use]
    pub fn prefer(&self, up: &Up) -> Option<Election> {
        let preferred = self.replicas.first()?;
        let leads = self.leader.is_some_and(|leader| leader.broker == *preferred);
        let may = self.in_sync.members.contains(preferred) && up.contains_key(preferred);
        if leads || !may { None } else { self.elect(up, Unclean::Never).ok() }
    }

    /// Puts another set in place. Whoever leaves when that falls below its least size, or was
    /// eligible before, holds all that is committed until the set has its size again.
    fn set_members(&mut self, members: BTreeSet<BrokerId>) {
        if members.len() < self.in_sync_min {
            self.eligible.extend(self.in_sync.members.iter().copied());
            self.eligible = &self.eligible - &members;
        } else {
            self.eligible.clear();
        }
        self.in_sync = SyncSet { version: self.in_sync.version + 1, members };
    }
}
