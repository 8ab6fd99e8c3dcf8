//! A replica's life: follows, is cut, leads, and gives that up by being closed and opened again.
//!
//! One task owns the state machine and the store. What it is told besides messages is the newest there
//! is (the shard's image, the lease), so nothing of that can be missed while a cut or a start takes
//! its time; messages may be lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};
use uuid::Uuid;

use braid_raft::Lease;
use braid_raft::image::ShardImage;

use super::letter::{Carried, Letter};
use super::shards::{Inner, ShardFailed};
use crate::model::{LeaderEpoch, Position, ShardId};
use crate::partition::{LedShard, now_ms};
use crate::replication::{
    ChangeRefused, Envelope, Follower, FollowerEffect, FollowerInput, Following, Leader,
    LeaderEffect, LeaderInput, LeaderLimits, LogView, Proposal, Replica, SyncSet, Term,
};
use crate::store::{
    AppendError, LogFailed, LogHandle, MaintainError, ReceiveError, Store, WaitDurable,
};

/// How often a replica looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// After how long a follower asks again.
const PATIENCE_MS: u64 = 500;
/// How long a follower waits for room in its log before it drops what came.
const ROOM_WITHIN: Duration = Duration::from_secs(1);
/// How often the controller is asked for an election after this leader has given up.
const RESIGN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why a set of replicas in sync was not agreed to, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProposalFailed {
    /// The controller did not agree.
    Refused(ChangeRefused),
    /// It may have agreed or not.
    Unknown(String),
}

/// What is said to a replica.
#[derive(Debug)]
pub(super) enum Input {
    Received(Envelope, Carried),
    /// What has become of a proposal that was made with this version of the set.
    Answered {
        epoch: LeaderEpoch,
        version: u32,
        answer: Result<SyncSet, ProposalFailed>,
    },
    /// To be closed.
    Close(oneshot::Sender<()>),
}

/// What a replica is made of.
pub(super) struct Parts {
    pub(super) inner: Arc<Inner>,
    pub(super) shard: ShardId,
    pub(super) image: watch::Receiver<Arc<ShardImage>>,
    pub(super) lease: watch::Receiver<Option<Lease>>,
    pub(super) inbox: mpsc::Receiver<Input>,
    pub(super) to_self: mpsc::Sender<Input>,
    /// The store, if it was opened before.
    pub(super) store: Option<Store>,
}

/// Why a replica's life is over.
#[derive(Debug)]
enum Over {
    Closed(Option<oneshot::Sender<()>>),
    Failed(ShardFailed),
}

impl From<ShardFailed> for Over {
    fn from(failed: ShardFailed) -> Self {
        Self::Failed(failed)
    }
}

enum Role {
    Follows(Follower),
    Leads(Box<Leading>),
    /// It can do nothing until an operator has seen to it.
    Stuck,
}

struct Leading {
    leader: Leader,
    led: Arc<LedShard>,
    /// A proposal is under way.
    is_asking: bool,
}

enum Event {
    Image,
    Lease,
    Input(Option<Input>),
    Durable(Result<(), LogFailed>),
    Appended,
    Tick,
}

struct Life {
    parts: Parts,
    me: Replica,
    cluster: Uuid,
    store: Option<Store>,
    log: LogHandle,
    role: Role,
    durable: Option<WaitDurable>,
    ticks: Interval,
    resigned: Option<Instant>,
}

/// Lives until it is told to close, the broker stops, or the log fails.
pub(super) async fn live(mut parts: Parts) {
    let inner = Arc::clone(&parts.inner);
    let shard = parts.shard;
    let opened = match parts.store.take() {
        Some(store) => Ok(store),
        None => inner.open(shard, store_id(&parts)).await,
    };
    let over = match opened {
        Ok(store) => {
            let mut life = Life::begin(parts, store);
            let over = life.run().await;
            life.end().await;
            over
        }
        Err(failed) => failed.into(),
    };
    match over {
        Over::Failed(failed) => inner.fail(failed),
        Over::Closed(Some(told)) => drop(told.send(())),
        Over::Closed(None) => {}
    }
}

fn store_id(parts: &Parts) -> Uuid {
    parts.image.borrow().store_id.unwrap_or_default()
}

/// A log at one moment, held together.
struct Look {
    epochs: Vec<(LeaderEpoch, Position)>,
    end: Position,
    durable: Position,
}

impl Look {
    fn at(log: &LogHandle) -> Self {
        let (epochs, end, durable) = log.replica_view();
        Self { epochs, end, durable }
    }

    fn view(&self) -> LogView<'_> {
        LogView { epochs: &self.epochs, end: self.end, durable: self.durable }
    }
}

impl Life {
    fn begin(parts: Parts, store: Store) -> Self {
        let inner = &parts.inner;
        let (me, cluster) = (inner.me, inner.config.cluster);
        let log = store.handle();
        let follower = Follower::new(cluster, parts.shard, me, log.visible(), PATIENCE_MS);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            me,
            cluster,
            store: Some(store),
            log,
            role: Role::Follows(follower),
            durable: None,
            ticks,
            resigned: None,
            parts,
        }
    }

    fn now_ms(&self) -> u64 {
        now_ms(&self.parts.inner.env)
    }

    async fn run(&mut self) -> Over {
        if let Err(over) = self.see_image().await {
            return over;
        }
        loop {
            let event = self.next().await;
            if let Err(over) = self.take(event).await {
                return over;
            }
        }
    }

    async fn next(&mut self) -> Event {
        let Self { parts, role, durable, ticks, log, .. } = self;
        if durable.is_none() {
            let done = log.durable();
            *durable = (log.appended() > done).then(|| log.wait_durable(done.plus(1)));
        }
        let led = match role {
            Role::Leads(leading) => Some(Arc::clone(&leading.led)),
            Role::Follows(_) | Role::Stuck => None,
        };
        let appended = async {
            match &led {
                Some(led) => led.news().await,
                None => std::future::pending().await,
            }
        };
        let written = async {
            match durable.as_mut() {
                Some(durable) => durable.await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            changed = parts.image.changed() => match changed {
                Ok(()) => Event::Image,
                Err(_) => Event::Input(None),
            },
            changed = parts.lease.changed() => match changed {
                Ok(()) => Event::Lease,
                Err(_) => Event::Input(None),
            },
            _ = ticks.tick() => Event::Tick,
            written = written => Event::Durable(written),
            input = parts.inbox.recv() => Event::Input(input),
            () = appended => Event::Appended,
        };
        if matches!(event, Event::Durable(_)) {
            self.durable = None;
        }
        event
    }

    async fn take(&mut self, event: Event) -> Result<(), Over> {
        match event {
            Event::Input(None) => return Err(Over::Closed(None)),
            Event::Input(Some(Input::Close(told))) => return Err(Over::Closed(Some(told))),
            Event::Durable(Err(LogFailed::Closed)) => return Err(Over::Closed(None)),
            Event::Durable(Err(failed @ LogFailed::Io(_))) => {
                return Err(ShardFailed::Log(self.parts.shard, failed).into());
            }
            Event::Image => return self.see_image().await,
            Event::Lease => {
                let until = self.leased_until_ms();
                match &self.role {
                    Role::Leads(_) if until == 0 => return self.resign().await,
                    Role::Leads(_) => return self.lead_on(LeaderInput::Leased(until)).await,
                    Role::Follows(_) | Role::Stuck => return self.see_image().await,
                }
            }
            Event::Input(Some(Input::Received(envelope, carried))) => match &self.role {
                Role::Leads(_) => return self.lead_on(LeaderInput::Received(envelope)).await,
                Role::Follows(_) => {
                    let input = FollowerInput::Received(envelope);
                    return self.follow_on(input, Some(carried)).await;
                }
                Role::Stuck => {}
            },
            Event::Input(Some(Input::Answered { epoch, version, answer })) => {
                return self.hear_answer(epoch, version, answer).await;
            }
            Event::Durable(Ok(())) => match &self.role {
                Role::Leads(_) => return self.lead_on(LeaderInput::Durable).await,
                Role::Follows(_) => return self.follow_on(FollowerInput::LogMoved, None).await,
                Role::Stuck => {}
            },
            Event::Appended => return self.lead_on(LeaderInput::Appended).await,
            Event::Tick => match &self.role {
                Role::Leads(_) => return self.lead_on(LeaderInput::Tick).await,
                Role::Follows(_) => {
                    self.follow_on(FollowerInput::Tick, None).await?;
                    return self.see_image().await;
                }
                Role::Stuck => {}
            },
        }
        Ok(())
    }

    /// Until when this broker may act, by its clock; zero if it may not.
    fn leased_until_ms(&self) -> u64 {
        let lease = *self.parts.lease.borrow();
        let ms = |lease: Lease| u64::try_from(lease.until.as_millis()).unwrap_or(u64::MAX);
        lease.map_or(0, ms)
    }

    /// Does what the controller's newest word asks for.
    async fn see_image(&mut self) -> Result<(), Over> {
        let image = Arc::clone(&self.parts.image.borrow_and_update());
        let (epoch, leader) = (image.epoch(), image.state.leader);
        match &self.role {
            Role::Leads(leading) => {
                let known = leading.leader.epoch();
                if epoch == known && leader == Some(self.me) {
                    return self.lead_on(LeaderInput::SetAgreed(image.in_sync().clone())).await;
                }
                if epoch < known {
                    return Ok(());
                }
                // Another term has begun, or this one is over.
                self.resign().await
            }
            Role::Follows(follower) if leader == Some(self.me) && !follower.is_truncating() => {
                self.try_to_lead(&image).await
            }
            Role::Follows(_) => match leader {
                Some(leader) if leader.broker != self.me.broker => {
                    let following = Following { epoch, leader };
                    self.follow_on(FollowerInput::Follow(following), None).await
                }
                Some(_) | None => Ok(()),
            },
            Role::Stuck => Ok(()),
        }
    }

    /// Begins to lead, once there is a lease and room for the frame that says so.
    async fn try_to_lead(&mut self, image: &ShardImage) -> Result<(), Over> {
        let now_ms = self.now_ms();
        let leased_until_ms = self.leased_until_ms();
        if leased_until_ms <= now_ms {
            return Ok(());
        }
        let Role::Follows(follower) = &self.role else { return Ok(()) };
        let committed = follower.committed();
        let epoch = image.epoch();
        if epoch <= self.log.tail().0 {
            // It has led in this epoch before, and given up for good.
            self.ask_for_election(epoch);
            return Ok(());
        }
        if follower.following().is_some_and(|following| following.epoch >= epoch) {
            return Ok(());
        }
        match self.log.lead(epoch) {
            Ok(_) => {}
            Err(AppendError::Failed(failed)) => {
                return Err(ShardFailed::Log(self.parts.shard, failed).into());
            }
            Err(error) => {
                tracing::info!(shard = %self.parts.shard, %epoch, %error, "cannot lead yet");
                return Ok(());
            }
        }
        let look = Look::at(&self.log);
        let term = Term {
            cluster: self.cluster,
            shard: self.parts.shard,
            leader: self.me,
            epoch,
            replicas: image.replicas().iter().copied().collect(),
            in_sync: image.in_sync().clone(),
        };
        let limits = LeaderLimits {
            lag_max_ms: self.parts.inner.config.lag_max_ms,
            in_sync_min: image.state.in_sync_min,
        };
        let leader = Leader::new(term, limits, now_ms, &look.view(), (committed, leased_until_ms));
        let env = self.parts.inner.env.clone();
        let led = Arc::new(LedShard::new(self.log.clone(), env, epoch, leader.standing()));
        self.parts.inner.led.put(self.parts.shard, Arc::clone(&led));
        self.role = Role::Leads(Box::new(Leading { leader, led, is_asking: false }));
        self.resigned = None;
        tracing::info!(shard = %self.parts.shard, %epoch, "leads");
        self.lead_on(LeaderInput::Tick).await
    }

    fn ask_for_election(&mut self, epoch: LeaderEpoch) {
        if self.resigned.is_some_and(|at| at.elapsed() < RESIGN_AGAIN_AFTER) {
            return;
        }
        self.resigned = Some(Instant::now());
        let inner = Arc::clone(&self.parts.inner);
        let shard = self.parts.shard;
        let asking = async move { inner.control.resign(shard, epoch).await };
        drop(self.parts.inner.env.spawner.critical("shard resignation", asking));
    }

    async fn lead_on(&mut self, input: LeaderInput) -> Result<(), Over> {
        let now_ms = self.now_ms();
        let Role::Leads(leading) = &mut self.role else { return Ok(()) };
        let look = Look::at(&self.log);
        let effects = leading.leader.step(now_ms, &look.view(), input);
        // Before the mark moves: who waits for it asks how many are in sync.
        leading.led.stand(leading.leader.standing());
        let mut is_over = false;
        for effect in effects {
            match effect {
                LeaderEffect::Send(envelope) => self.post(envelope, false),
                LeaderEffect::Stream(envelope) => self.post(envelope, true),
                LeaderEffect::Propose(proposal) => self.ask(proposal),
                LeaderEffect::Commit(to) => self.log.commit(to),
                LeaderEffect::StepDown => is_over = true,
            }
        }
        if is_over { self.resign().await } else { Ok(()) }
    }

    fn post(&self, envelope: Envelope, with_frames: bool) {
        let log = with_frames.then(|| self.log.clone());
        (self.parts.inner.post)(Letter { envelope, log });
    }

    /// Asks the controller for another set of replicas in sync, one question at a time: the leader
    /// asks again by itself.
    fn ask(&mut self, proposal: Proposal) {
        let Role::Leads(leading) = &mut self.role else { return };
        if std::mem::replace(&mut leading.is_asking, true) {
            return;
        }
        let (inner, shard) = (Arc::clone(&self.parts.inner), self.parts.shard);
        let to_self = self.parts.to_self.clone();
        let (epoch, version) = (proposal.epoch, proposal.version);
        let asking = async move {
            let answer = inner.control.propose(shard, proposal).await;
            // A replica that is closed needs no answer.
            drop(to_self.send(Input::Answered { epoch, version, answer }).await);
        };
        drop(self.parts.inner.env.spawner.critical("shard proposal", asking));
    }

    async fn hear_answer(
        &mut self,
        epoch: LeaderEpoch,
        version: u32,
        answer: Result<SyncSet, ProposalFailed>,
    ) -> Result<(), Over> {
        let Role::Leads(leading) = &mut self.role else { return Ok(()) };
        if leading.leader.epoch() != epoch {
            return Ok(());
        }
        leading.is_asking = false;
        let shard = self.parts.shard;
        match answer {
            Ok(set) => self.lead_on(LeaderInput::SetAgreed(set)).await,
            Err(ProposalFailed::Refused(ChangeRefused::NotUp(_) | ChangeRefused::Invalid)) => {
                self.lead_on(LeaderInput::SetRefused(version)).await
            }
            // The image says what there is instead.
            Err(ProposalFailed::Refused(
                ChangeRefused::NotLeader(_) | ChangeRefused::Outdated(_),
            )) => Ok(()),
            Err(ProposalFailed::Unknown(why)) => {
                tracing::info!(%shard, why, "the controller did not answer; it is asked again");
                Ok(())
            }
        }
    }

    async fn follow_on(
        &mut self,
        input: FollowerInput,
        carried: Option<Carried>,
    ) -> Result<(), Over> {
        let now_ms = self.now_ms();
        let Role::Follows(follower) = &mut self.role else { return Ok(()) };
        let look = Look::at(&self.log);
        let effects = follower.step(now_ms, &look.view(), input);
        let epoch = follower.following().map(|following| following.epoch);
        let mut carried = carried;
        for effect in effects {
            match effect {
                FollowerEffect::Send(envelope) => self.post(envelope, false),
                FollowerEffect::Commit(to) => self.log.commit(to),
                FollowerEffect::Append => {
                    if let (Some(epoch), Some(carried)) = (epoch, carried.take())
                        && !carried.bytes.is_empty()
                    {
                        self.append(epoch, carried).await?;
                    }
                }
                FollowerEffect::Truncate(to) => self.truncate(to).await?,
                FollowerEffect::CopyNeeded(why) => {
                    self.be_stuck(&format!("its leader has no more what it lacks ({why})"));
                }
            }
        }
        Ok(())
    }

    /// Puts frames of the leader at the end of the log. What does not fit now is asked for again.
    async fn append(&mut self, epoch: LeaderEpoch, carried: Carried) -> Result<(), Over> {
        let shard = self.parts.shard;
        drop(timeout(ROOM_WITHIN, self.log.room(carried.bytes.len())).await);
        match self.log.receive(epoch, carried.at, &carried.bytes) {
            Ok(_) => Box::pin(self.follow_on(FollowerInput::LogMoved, None)).await,
            Err(ReceiveError::Append(AppendError::Failed(failed))) => {
                Err(ShardFailed::Log(shard, failed).into())
            }
            Err(ReceiveError::Append(
                error @ (AppendError::SegmentNotReady
                | AppendError::DiskFull
                | AppendError::NoMemory),
            )) => {
                tracing::warn!(%shard, %error, "a replica cannot take what its leader sent yet");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%shard, %error, "a replica cannot take what its leader sent");
                Ok(())
            }
        }
    }

    /// Takes out what the leader's log has not.
    async fn truncate(&mut self, to: Position) -> Result<(), Over> {
        let shard = self.parts.shard;
        let from = self.log.tail().1;
        tracing::info!(%shard, %from, %to, "cuts what its leader has not");
        let Some(store) = self.store.take() else { return Ok(()) };
        let cut = self.parts.inner.env.spawner.blocking(move || store.truncate(to)).await;
        match cut {
            Ok(Ok(())) => {}
            Ok(Err(crate::store::TruncateError::Io(failure))) => {
                return Err(ShardFailed::Cut(shard, Arc::new(failure)).into());
            }
            Ok(Err(error)) => {
                self.be_stuck(&format!("it cannot be cut at {to}: {error}"));
                return Ok(());
            }
            Err(gone) => return Err(ShardFailed::Pool(shard, Arc::new(gone)).into()),
        }
        self.reopen().await?;
        Box::pin(self.follow_on(FollowerInput::Truncated, None)).await
    }

    fn be_stuck(&mut self, why: &str) {
        tracing::error!(
            shard = %self.parts.shard,
            "this replica holds up: {why}. It is not in sync, and serves nothing. Stop the broker, put \
             the shard's directory aside, and start it again: it then begins with an empty log"
        );
        self.role = Role::Stuck;
    }

    /// Leads no more: whoever waits is told, and the log is opened anew to follow.
    async fn resign(&mut self) -> Result<(), Over> {
        let shard = self.parts.shard;
        let Role::Leads(leading) = std::mem::replace(&mut self.role, Role::Stuck) else {
            return Ok(());
        };
        leading.led.end();
        self.parts.inner.led.take(shard);
        let epoch = leading.leader.epoch();
        tracing::info!(%shard, %epoch, "leads no more");
        let committed = leading.leader.committed();
        drop(leading);
        self.close().await?;
        self.reopen().await?;
        let committed = committed.max(self.log.visible());
        let follower = Follower::new(self.cluster, shard, self.me, committed, PATIENCE_MS);
        self.log.commit(committed);
        self.role = Role::Follows(follower);
        Box::pin(self.see_image()).await
    }

    async fn close(&mut self) -> Result<(), Over> {
        let shard = self.parts.shard;
        let Some(store) = self.store.take() else { return Ok(()) };
        match self.parts.inner.env.spawner.blocking(move || store.close()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(MaintainError::Io(failure))) => {
                tracing::warn!(%shard, %failure, "the log was not closed in order; it will be scanned");
                Ok(())
            }
            Ok(Err(MaintainError::Failed(failed))) => Err(ShardFailed::Log(shard, failed).into()),
            Err(gone) => Err(ShardFailed::Pool(shard, Arc::new(gone)).into()),
        }
    }

    async fn reopen(&mut self) -> Result<(), Over> {
        let store = self.parts.inner.open(self.parts.shard, store_id(&self.parts)).await?;
        self.log = store.handle();
        self.store = Some(store);
        self.durable = None;
        // Committed stays committed, though a start does not know it.
        if let Role::Follows(follower) = &self.role {
            self.log.commit(follower.committed());
        }
        Ok(())
    }

    async fn end(mut self) {
        if let Role::Leads(leading) = &self.role {
            leading.led.end();
            self.parts.inner.led.take(self.parts.shard);
        }
        match self.close().await {
            Ok(()) | Err(Over::Closed(_)) => {}
            Err(Over::Failed(failed)) => self.parts.inner.fail(failed),
        }
    }
}

/// Where the replica of a shard has its log.
pub(super) fn dir_of(dir: &std::path::Path, shard: ShardId) -> PathBuf {
    dir.join(shard.to_string())
}
