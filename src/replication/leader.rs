//! A leader: answers its followers, says what is committed, and asks the controller for changes of
//! the set of replicas in sync.
//!
//! The set that counts is the *union* of the set that the controller is known to have agreed to
//! and of all sets that it was asked for since: whichever of them it may elect from, everybody in
//! it has what is committed. A removal counts once it is agreed, an addition at once. Below the
//! least size of the set nothing is committed (KIP-966), so whoever leaves then still has it all.
//! Without a lease nothing is taken, committed or acknowledged: a leader that lost contact is
//! silent before another one can be elected.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::history::{LogView, Tail};
use super::message::{Envelope, Message, Refusal, Stamp};
use super::{Mistake, Proposal, Replica, Rules, SyncSet};
use crate::model::{BrokerId, LeaderEpoch, Position, ShardId};
use crate::partition::{NotAdmitted, Settled, Standing};

/// A term of leadership, as the controller gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The cluster.
    pub cluster: Uuid,
    /// The shard.
    pub shard: ShardId,
    /// Who leads: this run of this broker.
    pub leader: Replica,
    /// The term.
    pub epoch: LeaderEpoch,
    /// All replicas of the shard.
    pub replicas: BTreeSet<BrokerId>,
    /// Those in sync when it was elected.
    pub in_sync: SyncSet,
}

/// Limits of a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaderLimits {
    /// How long a replica in sync may lag behind (Kafka's `replica.lag.time.max.ms`).
    pub lag_max_ms: u64,
    /// Fewest replicas in sync with which anything is committed (`min.insync.replicas`).
    pub in_sync_min: usize,
}

/// What a leader knows of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Which run of the broker it is about; 0 before any was heard.
    pub incarnation: u64,
    /// Where its log ends.
    pub end: Position,
    /// Everything below is on its disk, in this leader's log.
    pub durable: Position,
    /// When it last had everything that there was.
    pub caught_up_ms: u64,
    /// When it last asked, and where the leader's log ended then.
    asked: (u64, Position),
    /// The tail that it waits behind, and the committed mark it was told.
    waits: Option<(Tail, Position)>,
}

impl Progress {
    fn unheard(now_ms: u64) -> Self {
        Self {
            incarnation: 0,
            end: Position(0),
            durable: Position(0),
            caught_up_ms: now_ms,
            asked: (now_ms, Position(u64::MAX)),
            waits: None,
        }
    }
}

/// What happens to a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderInput {
    /// Frames were appended to its log.
    Appended,
    /// More of its log is durable.
    Durable,
    /// A message from a follower.
    Received(Envelope),
    /// The set that the controller has agreed to. Older ones than the known one are passed over.
    SetAgreed(SyncSet),
    /// The controller did not agree to what it was asked with this version of the set.
    SetRefused(u32),
    /// The controller has heard from this broker: the lease lasts until then, at least.
    Leased(u64),
    /// Some time has passed.
    Tick,
}

/// What a leader wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderEffect {
    /// To be sent: an answer without frames.
    Send(Envelope),
    /// To be sent with frames of the log behind it: those from the end of [`Message::Frames`]'s
    /// `after` on, whole groups of them, as many as fit; perhaps none. Where the log does not
    /// reach back so far, [`Refusal::Gone`] goes instead.
    Stream(Envelope),
    /// To be asked of the controller.
    Propose(Proposal),
    /// Everything below is committed.
    Commit(Position),
    /// The lease is over, or another leader was heard of: nothing more is taken or acknowledged.
    StepDown,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leader {
    cluster: Uuid,
    shard: ShardId,
    me: Replica,
    epoch: LeaderEpoch,
    /// Position behind the frame that began the epoch: whoever has it has all that was committed
    /// in earlier ones.
    begun: Position,
    /// What the controller is known to have agreed to.
    agreed: SyncSet,
    /// Everybody in sets that the controller was asked for since, if it was.
    asked_for: Option<BTreeSet<BrokerId>>,
    /// The last thing asked was refused: until the set has a new version, nobody is added.
    withdraws: bool,
    progress: BTreeMap<BrokerId, Progress>,
    committed: Position,
    leased_until_ms: u64,
    is_over: bool,
    limits: LeaderLimits,
    pub(super) rules: Rules,
}

impl Leader {
    /// A leader whose log ends with the frame that began its epoch. Everything below `committed`
    /// is known to be committed.
    #[must_use]
    pub fn new(
        term: Term,
        limits: LeaderLimits,
        now_ms: u64,
        log: &LogView<'_>,
        (committed, leased_until_ms): (Position, u64),
    ) -> Self {
        let others = term.replicas.iter().filter(|broker| **broker != term.leader.broker);
        Self {
            cluster: term.cluster,
            shard: term.shard,
            me: term.leader,
            epoch: term.epoch,
            begun: log.end,
            agreed: term.in_sync,
            asked_for: None,
            withdraws: false,
            progress: others.map(|broker| (*broker, Progress::unheard(now_ms))).collect(),
            committed,
            leased_until_ms,
            is_over: false,
            limits,
            rules: Rules::default(),
        }
    }

    /// The term.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Everything below is committed.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.committed
    }

    /// The replicas in sync, as the controller is known to have agreed.
    #[must_use]
    pub fn in_sync(&self) -> &SyncSet {
        &self.agreed
    }

    /// What is known of a follower.
    #[must_use]
    pub fn progress(&self, broker: BrokerId) -> Option<&Progress> {
        self.progress.get(&broker)
    }

    /// Whether it may take and acknowledge anything.
    #[must_use]
    pub fn leads(&self, now_ms: u64) -> bool {
        self.standing().leads(now_ms)
    }

    /// Whether an append is taken. `wanted` is how many replicas in sync its topic wants, or
    /// nothing if its producer does not wait for them.
    ///
    /// # Errors
    /// See [`NotAdmitted`].
    pub fn admit(&self, now_ms: u64, wanted: Option<usize>) -> Result<(), NotAdmitted> {
        self.standing().admit(now_ms, wanted)
    }

    /// What has become of an append that ended at a position, whose topic wants so many replicas.
    #[must_use]
    pub fn settled(&self, now_ms: u64, end: Position, wanted: usize) -> Settled {
        self.standing().settled(now_ms, self.committed, end, wanted)
    }

    /// What holds for those who append and wait.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            in_sync: self.agreed.members.len(),
            leased_until_ms: self.leased_until_ms,
            is_over: self.is_over,
        }
    }

    /// Everybody whose disk has to hold what is committed.
    #[must_use]
    pub fn counted(&self) -> BTreeSet<BrokerId> {
        let none = BTreeSet::new();
        let asked_for = self.asked_for.as_ref().unwrap_or(&none);
        if self.rules.breaks(Mistake::CommitByProposedSet) && self.asked_for.is_some() {
            return asked_for.clone();
        }
        if self.rules.breaks(Mistake::CommitByKnownSet) {
            return self.agreed.members.clone();
        }
        self.agreed.members.union(asked_for).copied().collect()
    }

    /// Takes note of something; `log` is as it is now.
    #[must_use]
    pub fn step(
        &mut self,
        now_ms: u64,
        log: &LogView<'_>,
        input: LeaderInput,
    ) -> Vec<LeaderEffect> {
        let mut effects = Vec::new();
        if self.is_over {
            return effects;
        }
        match input {
            LeaderInput::Leased(until_ms) if self.leads(now_ms) => {
                self.leased_until_ms = self.leased_until_ms.max(until_ms);
            }
            LeaderInput::Received(envelope) => self.receive(now_ms, log, envelope, &mut effects),
            LeaderInput::SetAgreed(set) if set.version > self.agreed.version => {
                self.agreed = set;
                // Whatever else was asked for is void with the version it was asked for.
                self.asked_for = None;
                self.withdraws = false;
            }
            LeaderInput::SetRefused(version) if version == self.agreed.version => {
                self.withdraws = true;
                self.propose(self.agreed.members.clone(), &mut effects);
            }
            LeaderInput::Tick => self.tick(now_ms, log, &mut effects),
            LeaderInput::Appended
            | LeaderInput::Durable
            | LeaderInput::Leased(_)
            | LeaderInput::SetAgreed(_)
            | LeaderInput::SetRefused(_) => {}
        }
        if !self.leads(now_ms) {
            self.is_over = true;
            return vec![LeaderEffect::StepDown];
        }
        self.advance(log, &mut effects);
        self.answer_waiting(log, &mut effects);
        effects
    }

    fn receive(
        &mut self,
        now_ms: u64,
        log: &LogView<'_>,
        Envelope { stamp, message }: Envelope,
        effects: &mut Vec<LeaderEffect>,
    ) {
        if stamp.cluster != self.cluster || stamp.shard != self.shard {
            return;
        }
        if !self.rules.breaks(Mistake::IgnoreStamps) {
            if stamp.epoch > self.epoch {
                // Only a later leader's follower speaks so.
                self.is_over = true;
                return;
            }
            if stamp.epoch < self.epoch || stamp.to != self.me {
                return;
            }
        }
        let Message::Fetch { tail, durable } = message else { return };
        let Some(progress) = self.progress.get_mut(&stamp.from.broker) else {
            let why = Refusal::NotAReplica;
            effects.push(self.send(stamp.from, Message::Refused { after: tail, why }));
            return;
        };
        if stamp.from.incarnation < progress.incarnation
            && !self.rules.breaks(Mistake::IgnoreStamps)
        {
            return;
        }
        if stamp.from.incarnation > progress.incarnation {
            // What an earlier run had on its disk, this one has to show again.
            *progress = Progress {
                incarnation: stamp.from.incarnation,
                caught_up_ms: progress.caught_up_ms,
                ..Progress::unheard(now_ms)
            };
        }
        let is_beginning = log.holds(tail);
        if is_beginning || self.rules.breaks(Mistake::CountUnvalidated) {
            progress.note(now_ms, log, tail, durable, self.rules);
        }
        if is_beginning {
            progress.waits = Some((tail, Position(0)));
            self.consider_adding(stamp.from.broker, effects);
        } else {
            let known = log.end_of(tail.epoch);
            effects.push(self.send(stamp.from, Message::Diverged { after: tail, known }));
        }
    }

    fn tick(&mut self, now_ms: u64, log: &LogView<'_>, effects: &mut Vec<LeaderEffect>) {
        let lag_max_ms = self.limits.lag_max_ms;
        let lags = |broker: &&BrokerId| {
            self.progress.get(broker).is_some_and(|progress| {
                progress.durable < log.end
                    && now_ms.saturating_sub(progress.caught_up_ms) > lag_max_ms
            })
        };
        let lagging: BTreeSet<BrokerId> =
            self.agreed.members.iter().filter(lags).copied().collect();
        if !lagging.is_empty() {
            let kept: BTreeSet<BrokerId> = &self.agreed.members - &lagging;
            self.propose(kept.clone(), effects);
            if self.rules.breaks(Mistake::ShrinkBeforeAgreed) {
                self.agreed.members = kept;
            }
        } else if self.asked_for.is_some() {
            // The answer may have been lost. Who was to be added then may have started again
            // since, so it is looked at anew. If what was asked has been done, the version is
            // another one, and this is refused.
            let mut members = self.agreed.members.clone();
            members.extend(self.progress.keys().filter(|broker| self.has_caught_up(**broker)));
            self.propose(members, effects);
        }
    }

    /// Asks for a follower that has caught up to be counted as in sync.
    fn consider_adding(&mut self, who: BrokerId, effects: &mut Vec<LeaderEffect>) {
        let is_known = self.agreed.members.contains(&who)
            || self.asked_for.as_ref().is_some_and(|set| set.contains(&who));
        if !is_known && self.has_caught_up(who) {
            let mut members = self.agreed.members.clone();
            members.insert(who);
            self.propose(members, effects);
        }
    }

    /// Whether a follower may be counted as in sync.
    fn has_caught_up(&self, who: BrokerId) -> bool {
        let least = if self.rules.breaks(Mistake::ExpandAnyone) {
            Position(0)
        } else if self.rules.breaks(Mistake::ExpandBeforeEpochStart) {
            self.committed
        } else {
            // This leader may not know yet all that was committed before it; where its epoch
            // began, all of that ends.
            self.committed.max(self.begun)
        };
        let has_it = |progress: &Progress| progress.incarnation > 0 && progress.durable >= least;
        !self.withdraws && self.progress.get(&who).is_some_and(has_it)
    }

    fn propose(&mut self, members: BTreeSet<BrokerId>, effects: &mut Vec<LeaderEffect>) {
        let added = members.difference(&self.agreed.members).map(|broker| Replica {
            broker: *broker,
            incarnation: self.progress.get(broker).map_or(0, |progress| progress.incarnation),
        });
        effects.push(LeaderEffect::Propose(Proposal {
            leader: self.me,
            epoch: self.epoch,
            version: self.agreed.version,
            added: added.collect(),
            members: members.clone(),
        }));
        // Any of the sets asked for with this version may come to be, until one of them has.
        if self.rules.breaks(Mistake::CommitByProposedSet) {
            self.asked_for = Some(members);
        } else {
            self.asked_for.get_or_insert_default().extend(members);
        }
    }

    /// Moves the committed mark as far as everybody who counts allows.
    fn advance(&mut self, log: &LogView<'_>, effects: &mut Vec<LeaderEffect>) {
        if self.agreed.members.len() < self.limits.in_sync_min {
            return;
        }
        let counted = self.counted();
        let others = counted.iter().filter(|broker| **broker != self.me.broker);
        let durable = |broker: &BrokerId| {
            self.progress.get(broker).map_or(Position(0), |progress| progress.durable)
        };
        let least = others.map(durable).min().map_or(log.durable, |least| least.min(log.durable));
        if least > self.committed {
            self.committed = least;
            effects.push(LeaderEffect::Commit(least));
        }
    }

    /// Answers those who wait for frames, or for news of what is committed.
    fn answer_waiting(&mut self, log: &LogView<'_>, effects: &mut Vec<LeaderEffect>) {
        let committed = self.committed;
        let mut answers = Vec::new();
        for (broker, progress) in &mut self.progress {
            if let Some((after, told)) = progress.waits
                && (after.end < log.end || told < committed.min(after.end))
            {
                progress.waits = None;
                let to = Replica { broker: *broker, incarnation: progress.incarnation };
                answers.push((to, Message::Frames { after, committed }));
            }
        }
        for (to, message) in answers {
            effects.push(LeaderEffect::Stream(self.envelope(to, message)));
        }
    }

    fn send(&self, to: Replica, message: Message) -> LeaderEffect {
        LeaderEffect::Send(self.envelope(to, message))
    }

    fn envelope(&self, to: Replica, message: Message) -> Envelope {
        let (cluster, shard, epoch, from) = (self.cluster, self.shard, self.epoch, self.me);
        Envelope { stamp: Stamp { cluster, shard, epoch, from, to }, message }
    }

    /// Forgets when things happened, for a model in which any time may have passed.
    #[cfg(test)]
    pub(super) fn forget_times(&mut self) {
        for progress in self.progress.values_mut() {
            progress.asked = (0, Position(u64::MAX));
            progress.caught_up_ms = 0;
        }
    }
}

impl Progress {
    /// Takes note of what a follower says of a log that is a beginning of the leader's.
    fn note(
        &mut self,
        now_ms: u64,
        log: &LogView<'_>,
        tail: Tail,
        durable: Position,
        rules: Rules,
    ) {
        let counts = if rules.breaks(Mistake::CountUnsynced) { tail.end } else { durable };
        self.end = tail.end;
        self.durable = self.durable.max(counts.min(tail.end));
        if self.durable >= log.end {
            self.caught_up_ms = now_ms;
        } else if self.durable >= self.asked.1 {
            // It has all that there was when it asked the last time.
            self.caught_up_ms = self.caught_up_ms.max(self.asked.0);
        }
        self.asked = (now_ms, log.end);
    }
}
