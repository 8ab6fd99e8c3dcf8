//! What this node does for the other members of its quorum, and for itself in their place: answers
//! openraft's calls, takes proposals and heartbeats while it leads, says how far a reader must be.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use braid_base::env::Env;
use braid_base::model::BrokerId;
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest};
use openraft::{EntryPayload, Raft, ServerState};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::command::MetadataCommand;
use crate::directory;
use crate::fencing::Watch;
use crate::identity::Identity;
use crate::log_store::{LogStore, Room};
use crate::network::listener::Answer;
use crate::network::member::Member;
use crate::network::message::{Formation, Proposed, QuorumState, Request, Response, VoterState};
use crate::network::stream::{NOT_TAKEN_MAX, PeerStream};
use crate::proposer::{Pending, ProposeError};
use crate::state_machine::Shared;
use crate::types::TypeConfig;

/// How long a leader may take to make sure that it still leads.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Bytes that a log frame adds to an entry, generously.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// This node in its quorum of several.
pub(crate) struct Controller {
    pub(crate) env: Env,
    pub(crate) member: Arc<Member>,
    pub(crate) dir: PathBuf,
    pub(crate) log: LogStore,
    pub(crate) machine: Arc<Shared>,
    /// Proposals for the log of this node, if it leads.
    pub(crate) proposals: mpsc::Sender<Pending>,
    /// What it knows of brokers' lives.
    pub(crate) watch: Watch,
    /// There once the cluster is formed.
    raft: OnceLock<Raft<TypeConfig>>,
    /// Streams that others opened, for the broker.
    streams: mpsc::Sender<PeerStream>,
    pub(crate) opened: Mutex<Option<mpsc::Receiver<PeerStream>>>,
    /// The snapshot being received: its id, and where its next chunk may begin at most.
    receiving: Mutex<(String, u64)>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("member", &self.member).finish_non_exhaustive()
    }
}

/// Why this node cannot do what only a leader can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// Another leads, as far as it knows.
    NotLeader(Option<BrokerId>),
    /// It cannot tell.
    Unready(String),
}

impl From<NotNow> for Response {
    fn from(why: NotNow) -> Self {
        match why {
            NotNow::NotLeader(leader) => Self::NotLeader(leader),
            NotNow::Unready(why) => Self::Unready(why),
        }
    }
}

fn broker(id: u64) -> Option<BrokerId> {
    i32::try_from(id).ok().map(BrokerId)
}

impl Controller {
    pub(crate) fn new(
        env: &Env,
        member: &Arc<Member>,
        dir: PathBuf,
        (log, machine): (LogStore, Arc<Shared>),
        proposals: mpsc::Sender<Pending>,
        watch: Watch,
    ) -> Self {
        let (streams, opened) = mpsc::channel(NOT_TAKEN_MAX);
        Self {
            env: env.clone(),
            member: Arc::clone(member),
            dir,
            log,
            machine,
            proposals,
            watch,
            raft: OnceLock::new(),
            streams,
            opened: Mutex::new(Some(opened)),
            receiving: Mutex::default(),
        }
    }

    /// From now on it is part of the quorum.
    pub(crate) fn join(&self, raft: Raft<TypeConfig>) {
        if self.raft.set(raft).is_err() {
            unreachable!("a node joins its quorum once");
        }
    }

    pub(crate) fn raft(&self) -> Result<&Raft<TypeConfig>, NotNow> {
        self.raft.get().ok_or_else(|| NotNow::Unready("its cluster is not formed yet".to_owned()))
    }

    /// The quorum's leader as far as this node knows, which may be itself.
    pub(crate) fn leader(&self) -> Option<BrokerId> {
        let metrics = self.raft.get()?.metrics();
        let leader = metrics.borrow().current_leader;
        leader.and_then(broker)
    }

    /// The term that this node leads, if it does.
    pub(crate) fn leads(&self) -> Option<u64> {
        let metrics = self.raft.get()?.metrics();
        let metrics = metrics.borrow();
        let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
        leads.then_some(metrics.current_term)
    }

    /// Waits until the quorum's leader, as far as this node knows, is another than this.
    pub(crate) async fn leader_changed(&self, from: Option<BrokerId>) {
        let Some(raft) = self.raft.get() else { return std::future::pending().await };
        let mut metrics = raft.metrics();
        let other = metrics.wait_for(|metrics| metrics.current_leader.and_then(broker) != from);
        if other.await.is_err() {
            // openraft has ended, and nothing changes any more.
            std::future::pending::<()>().await;
        }
    }

    /// The index that whoever reads must have seen, to see all that was answered before. Asks a
    /// majority whether this node still leads.
    pub(crate) async fn read_index(&self) -> Result<u64, NotNow> {
        let raft = self.raft()?;
        match timeout(READ_WITHIN, raft.get_read_log_id()).await {
            Ok(Ok((read, _))) => Ok(read.map_or(0, |id| id.index)),
            Ok(Err(RaftError::APIError(_))) => Err(NotNow::NotLeader(self.other_leader())),
            Ok(Err(RaftError::Fatal(fatal))) => Err(NotNow::Unready(fatal.to_string())),
            Err(_) => Err(NotNow::Unready("no majority answers".to_owned())),
        }
    }

    pub(crate) fn other_leader(&self) -> Option<BrokerId> {
        self.leader().filter(|leader| *leader != self.member.node_id)
    }

    /// Proposes to the log of this node, which has to lead.
    pub(crate) async fn propose_here(&self, command: MetadataCommand) -> Proposed {
        let (reply, answer) = oneshot::channel();
        let encoded = command.encode();
        let pending = Pending { command, encoded, reply };
        self.proposals.send(pending).await.map_err(|_| ProposeError::Stopped)?;
        answer.await.map_err(|_| ProposeError::Stopped)?
    }

    /// The quorum, if this node leads it.
    pub(crate) fn quorum(&self) -> Result<QuorumState, NotNow> {
        let raft = self.raft()?;
        if self.leads().is_none() {
            return Err(NotNow::NotLeader(self.other_leader()));
        }
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        let matched = |id: u64| {
            if id == metrics.id {
                return metrics.last_log_index;
            }
            let progress = metrics.replication.as_ref()?.get(&id)?;
            progress.map(|log_id| log_id.index)
        };
        let mut ids: Vec<u64> = metrics.membership_config.voter_ids().collect();
        ids.sort_unstable();
        let voters = ids
            .into_iter()
            .filter_map(|id| Some(VoterState { node_id: broker(id)?, matched: matched(id) }));
        Ok(QuorumState {
            leader: self.member.node_id,
            term: metrics.current_term,
            committed: metrics.last_applied.map_or(0, |id| id.index),
            voters: voters.collect(),
        })
    }

    async fn append(&self, request: AppendEntriesRequest<TypeConfig>) -> Result<Response, NotNow> {
        let raft = self.raft()?;
        let bytes: u64 = request
            .entries
            .iter()
            .map(|entry| match &entry.payload {
                EntryPayload::Normal(proposal) => proposal.encoded().len() as u64,
                EntryPayload::Blank | EntryPayload::Membership(_) => 0,
            })
            .map(|bytes| bytes + ENTRY_OVERHEAD_BYTES)
            .sum();
        if bytes > 0 {
            // To openraft a full disk is the end; to the leader this node is one to be asked later.
            match self.log.reserve(bytes, Room::Spare).await {
                Err(error) if error.is_full() => {
                    return Err(NotNow::Unready("its disk is full".to_owned()));
                }
                // Any other error openraft meets itself, and tells everyone.
                Ok(()) | Err(_) => {}
            }
        }
        let answered = raft.append_entries(request).await;
        answered.map(Response::Append).map_err(|error| NotNow::Unready(error.to_string()))
    }

    async fn install(
        &self,
        request: InstallSnapshotRequest<TypeConfig>,
    ) -> Result<Response, NotNow> {
        let raft = self.raft()?;
        let end = request.offset.saturating_add(request.data.len() as u64);
        {
            let mut receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
            if request.offset == 0 {
                *receiving = (request.meta.snapshot_id.clone(), 0);
            }
            // A chunk beyond what was received would make room for bytes that nobody sent.
            if receiving.0 != request.meta.snapshot_id || request.offset > receiving.1 {
                return Ok(Response::SnapshotMismatch);
            }
            receiving.1 = receiving.1.max(end);
        }
        if request.done {
            let free = self.machine.free_bytes();
            if free.is_ok_and(|free| free < end.saturating_mul(2)) {
                return Err(NotNow::Unready("its disk has no room for a snapshot".to_owned()));
            }
        }
        match raft.install_snapshot(request).await {
            Ok(response) => Ok(Response::Snapshot(response)),
            Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(_))) => {
                Ok(Response::SnapshotMismatch)
            }
            Err(RaftError::Fatal(fatal)) => Err(NotNow::Unready(fatal.to_string())),
        }
    }

    /// Joins the cluster that another member says is formed, once: what it says later must be the same.
    async fn form(&self, formation: Formation) -> Response {
        if let Some(identity) = self.member.identity() {
            return if identity.cluster_id == formation.cluster_id {
                Response::Formed
            } else {
                Response::NotFormed(format!("it belongs to cluster {}", identity.cluster_id))
            };
        }
        let member = &self.member;
        if member.wanted.as_ref().is_some_and(|wanted| *wanted != formation.cluster_id) {
            let wanted = member.wanted.as_ref().map(ToString::to_string).unwrap_or_default();
            return Response::NotFormed(format!("its braid.cluster.id is {wanted}"));
        }
        let named = formation.directories.iter().map(|(id, _)| *id);
        if !named.eq(member.voters()) {
            return Response::NotFormed("its controller.quorum.voters are others".to_owned());
        }
        let identity = Identity {
            cluster_id: formation.cluster_id,
            node_id: member.node_id,
            directory_id: member.directory_id,
            voters: formation.directories,
            joined: true,
        };
        if identity.directory_of(member.node_id) != Some(member.directory_id) {
            return Response::NotFormed("its directory is another by now".to_owned());
        }
        match directory::become_member(&self.env, &self.dir, &identity).await {
            Ok(()) => {
                member.become_formed(identity);
                Response::Formed
            }
            Err(error) => Response::NotFormed(error.to_string()),
        }
    }

    async fn propose_all(&self, commands: Vec<Vec<u8>>) -> Response {
        if self.leads().is_none() {
            return Response::NotLeader(self.other_leader());
        }
        let mut decoded = Vec::with_capacity(commands.len());
        for encoded in commands {
            match MetadataCommand::decode(&encoded) {
                Ok(command) => decoded.push((command, encoded)),
                Err(error) => return Response::Unready(error.to_string()),
            }
        }
        let mut answers = Vec::with_capacity(decoded.len());
        for (command, encoded) in decoded {
            let (reply, answer) = oneshot::channel();
            // A queue that is gone drops the reply, which its reader notices.
            drop(self.proposals.send(Pending { command, encoded, reply }).await);
            answers.push(answer);
        }
        let mut proposed = Vec::with_capacity(answers.len());
        for answer in answers {
            proposed.push(answer.await.unwrap_or(Err(ProposeError::Interrupted)));
        }
        Response::Proposed(proposed)
    }
}

impl Answer for Controller {
    async fn answer(&self, request: Request) -> Response {
        let answered = match request {
            Request::Append(request) => self.append(request).await,
            Request::Vote(request) => match self.raft() {
                Ok(raft) => raft
                    .vote(request)
                    .await
                    .map(Response::Vote)
                    .map_err(|error| NotNow::Unready(error.to_string())),
                Err(why) => Err(why),
            },
            Request::Snapshot(request) => self.install(request).await,
            Request::Form(formation) => Ok(self.form(formation).await),
            Request::Propose(commands) => Ok(self.propose_all(commands).await),
            Request::Barrier => self.read_index().await.map(Response::Barrier),
            Request::Heartbeat { broker, incarnation } => {
                self.hear(broker, incarnation).await.map(Response::Heartbeat)
            }
            Request::Quorum => self.quorum().map(Response::Quorum),
            Request::Replace { node, directory } => {
                self.replace(node, directory).await.map(Response::Replaced)
            }
            Request::Stream => Err(NotNow::Unready("it is for the listener".to_owned())),
        };
        answered.unwrap_or_else(Into::into)
    }

    fn left(&self, member: BrokerId) {
        self.suspect(member);
    }

    fn stream_place(&self) -> Option<mpsc::OwnedPermit<PeerStream>> {
        self.streams.clone().try_reserve_owned().ok()
    }
}
