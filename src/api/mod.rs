//! Floor F4: one file per Kafka API, named as the API. A handler translates: wire structs in, calls
//! to the domain, newest-shape wire structs out; `protocol::fit` makes them legal for the asked
//! version. Handlers never change metadata themselves and load the image once per request.
//!
//! [`accept`] is the first stage and a plain function, so the order of a connection's requests is
//! fixed before anything is awaited.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use braid_protocol::header::{self, Head};
use braid_protocol::produce::Walk;
use braid_protocol::request::DecodeError;
use braid_protocol::{ApiKey, Request, RequestHeader, Response, request, response};
use braid_raft::MetadataNode;
use braid_raft::image::{MetadataImage, PartitionImage};

use crate::config::{Config, LiveConfig};
use crate::delivery::Deliveries;
use crate::env::Env;
use crate::group::GroupCoordinator;
use crate::loggers::Loggers;
use crate::partition::{Partitions, TopicSettingsCache};
use crate::timer::Timers;
use crate::traffic::Traffic;
use crate::txn::Transactions;

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod answer_memory;
mod api_versions;
mod config_change;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delayed_produce;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod delivery_groups;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_transactions;
mod describe_user_scram_credentials;
mod dispatch;
mod elect_leaders;
mod end_txn;
mod error;
mod fetch;
mod fetch_session;
mod find_coordinator;
mod heartbeat;
mod heavy_produce;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leader_hints;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod refusal;
mod respond;
mod sync_group;
mod transactions;
mod txn_offset_commit;
mod unregister_broker;
mod update_features;
mod write_txn_markers;

pub(crate) use answer_memory::{AnswerMemory, Lease};
pub(crate) use api_versions::{METADATA_VERSION, TRANSACTION_VERSION};
pub(crate) use create_topics::OFFSETS_TOPIC;
pub(crate) use fetch_session::FetchSessions;
pub(crate) use init_producer_id::ProducerIds;
pub(crate) use produce::Produced;
pub(crate) use refusal::{Refusals, tell_answer, tell_connection};
pub(crate) use transactions::{TRANSACTIONS_TOPIC, watch_over};

/// Bounds on what clients may make the broker hold.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) frame_size_bytes_max: usize,
    /// None: connections may idle for ever.
    pub(crate) idle_max: Option<Duration>,
    /// How long a connection may take to send its first request.
    pub(crate) first_request_max: Duration,
    pub(crate) fetch_size_bytes_max: usize,
}

/// What handlers work with. Built once by `node`; every part in it is a cheap handle.
pub(crate) struct Broker {
    pub(crate) env: Env,
    /// As the broker started: for what never changes while it runs.
    pub(crate) config: Arc<Config>,
    /// As it is now.
    pub(crate) live: Arc<LiveConfig>,
    pub(crate) loggers: Loggers,
    pub(crate) limits: Limits,
    /// Turns true when the broker stops: long waits end then.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) metadata: MetadataNode,
    pub(crate) partitions: Partitions,
    pub(crate) groups: GroupCoordinator,
    /// Who the groups are that are none of Kafka's.
    pub(crate) deliveries: Deliveries,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) transactions: Transactions,
    pub(crate) answer_memory: Arc<AnswerMemory>,
    pub(crate) fetch_sessions: Mutex<FetchSessions>,
    pub(crate) producer_ids: ProducerIds,
    /// One permit: settings are worked out from those that stand, so one change at a time.
    pub(crate) config_changes: Arc<tokio::sync::Semaphore>,
    pub(crate) topic_settings: Arc<TopicSettingsCache>,
    pub(crate) refusals: Refusals,
    /// How many heavy produces are carried out at once.
    pub(crate) heavy_turns: tokio::sync::Semaphore,
    /// Takes the records of topics of type DELAY.
    pub(crate) timers: Timers,
}

impl Broker {
    /// Whether a partition's records are in this broker's own log. A node alone has all of them there.
    pub(crate) fn leads(&self, image: &MetadataImage, partition: PartitionImage) -> bool {
        !self.metadata.is_one_of_several() || image.is_led_by(partition, self.config.node.id)
    }

    /// Where a partition's records are, if this broker leads it.
    pub(crate) fn home(
        &self,
        image: &MetadataImage,
        partition: PartitionImage,
    ) -> Option<respond::Home<'_>> {
        if self.leads(image, partition) {
            return Some(respond::Home::Own(&self.partitions));
        }
        self.partitions.led(partition.shard).filter(|led| led.leads()).map(respond::Home::Led)
    }

    /// Puts in force what the metadata says of this broker's settings now.
    pub(crate) fn follow_settings(&self) {
        let (image, own) = (self.metadata.image(), self.config.node.id);
        let (of_this, of_all) = (image.broker_configs(Some(own)), image.broker_configs(None));
        self.live.follow(image.applied_index(), of_this, of_all);
    }
}

/// Who asks: one per connection.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Name of the listener the client came in on: its addresses are what it is told.
    pub(crate) listener: Arc<str>,
    pub(crate) peer: SocketAddr,
    /// The connection's number, given in the order of their coming.
    pub(crate) connection: u64,
    /// Name and version of the client's software, once it told them.
    pub(crate) software: Option<(String, String)>,
}

impl Caller {
    pub(crate) fn new(listener: Arc<str>, peer: SocketAddr, connection: u64) -> Self {
        Self { listener, peer, connection, software: None }
    }
}

/// Why the broker closes a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloseReason {
    #[error("the request's header cannot be read: {0}")]
    Header(#[from] header::HeaderError),
    #[error(transparent)]
    Request(#[from] DecodeError),
    #[error(transparent)]
    Encode(#[from] response::EncodeError),
    #[error("an acks=0 produce failed, which the client can only learn from a closed connection")]
    UnacknowledgedProduceFailed,
    #[error("a produce could not be carried out on the pool of blocking threads")]
    HeavyProduceFailed,
}

/// What goes back to the client.
pub(crate) enum Reply {
    /// An answer in its newest shape, for the request of this header. Boxed, because a line of
    /// waiting requests is moved about and most of them are small.
    Answer(Box<(RequestHeader, Response)>),
    /// An answer with records, and the memory they take until they have left.
    Records(Box<(RequestHeader, Response)>, Lease),
    /// A whole frame.
    Encoded(BytesMut),
    /// Nothing: acks=0.
    Nothing,
    /// The connection ends.
    Close(CloseReason),
}

impl Reply {
    fn answer(header: RequestHeader, response: Response) -> Self {
        Self::Answer(Box::new((header, response)))
    }
}

/// What holds while a run of requests is taken: asked for once for all of them.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) wall_ms: i64,
    pub(crate) image: Arc<MetadataImage>,
}

impl Moment {
    pub(crate) fn of(broker: &Broker) -> Self {
        Self { wall_ms: broker.env.clock.wall_ms(), image: broker.metadata.image() }
    }
}

/// A request whose place in the order is fixed.
pub(crate) enum Accepted {
    /// Answered.
    Done(Reply),
    /// Appended; the answer follows when the bytes are on disk.
    Produced(Produced),
    /// Handled alone; later requests of the connection wait for it.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

/// Whether a frame's content is a request that appends a client's records.
pub(crate) fn appends(frame: &[u8]) -> bool {
    frame.starts_with(&ApiKey::Produce.code().to_be_bytes())
}

/// Takes one frame's content that [`appends`], where it lies; its answer goes to the end of
/// `answers`, ready for when it is true. None when it is too heavy to be taken here: it is then for
/// [`accept_heavy_produce`], and nothing has been done.
///
/// # Errors
/// The connection cannot go on: the bytes make no sense or ask for what is not served.
pub(crate) fn accept_produce(
    broker: &Broker,
    caller: &Caller,
    now: &Moment,
    frame: &[u8],
    answers: &mut BytesMut,
) -> Result<Option<Accepted>, CloseReason> {
    let head = Head::parse(frame)?;
    let version = head.api_version;
    let api = ApiKey::Produce;
    let readable = if api.api().accepts(version) {
        Walk::check(version, head.body)
            .map_err(|error| error.to_string())
            .map_err(|reason| DecodeError::Malformed { api, version, reason })
    } else {
        Err(DecodeError::UnsupportedVersion { api, version })
    };
    let may_be_heavy = readable.inspect_err(|error| {
        refusal::tell_request(broker, caller, &head.to_header(), None, error);
    })?;
    let found = if may_be_heavy {
        match heavy_produce::look(broker, now, &head) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => return Err(produce::malformed(version, &error)),
        }
    } else {
        Vec::new()
    };
    produce::submit(broker, caller, now, &head, found, answers).map(Some)
}

/// Takes a produce that [`accept_produce`] found too heavy for where it runs.
pub(crate) fn accept_heavy_produce(
    broker: &Arc<Broker>,
    caller: &Caller,
    frame: Bytes,
) -> Accepted {
    heavy_produce::accept(broker, caller, frame)
}

/// Takes the content of any other frame: the first stage of every request.
///
/// # Errors
/// The connection cannot go on: the bytes make no sense or ask for what is not served.
pub(crate) fn accept(
    broker: &Arc<Broker>,
    caller: &mut Caller,
    frame: Bytes,
) -> Result<Accepted, CloseReason> {
    let (header, body) = RequestHeader::parse(frame)?;
    let request = request::decode(&header, body).inspect_err(|error| {
        refusal::tell_request(broker, caller, &header, None, error);
    })?;
    broker.traffic.request(header.api_key);
    Ok(match request {
        Request::ApiVersions(request) => {
            let response = api_versions::answer(broker, caller, &request);
            Accepted::Done(Reply::answer(header, Response::ApiVersions(response)))
        }
        request => {
            let (broker, caller) = (Arc::clone(broker), caller.clone());
            Accepted::Later(Box::pin(async move {
                dispatch::serve(broker, caller, header, request).await
            }))
        }
    })
}

#[cfg(test)]
mod tests {
    use braid_protocol::api::{SUPPORTED, Stages};

    use super::appends;

    #[test]
    fn what_overlaps_on_a_connection_is_what_the_table_says() {
        // Whatever does not append is waited for before the next request is taken.
        for api in &SUPPORTED {
            let frame = [&api.key.code().to_be_bytes()[..], &[0; 20]].concat();
            assert_eq!(appends(&frame), api.stages == Stages::Two, "{}", api.name);
        }
    }
}
