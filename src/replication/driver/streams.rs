//! The wires between this broker and the others: a task for each that sends, and one for each stream
//! that another opened, which receives.
//!
//! A stream is used by who opened it, so between two brokers there are two. Whatever goes wrong with
//! one, it is opened anew for the next message; what was lost is asked for again by who misses it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use braid_raft::{MetadataNode, PeerStream};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::letter::{self, Letter};
use super::outbox::Outbox;
use super::shards::Shards;
use crate::env::Env;
use crate::model::{BrokerId, Position};
use crate::replication::{Message, Refusal};
use crate::store::FramesError;

/// Frames of one answer, but for a group that is longer.
const FRAMES_BYTES_MAX: usize = 1 << 20;
/// How long a message may take to be taken by the other side.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// Before a broker is called again that could not be reached.
const CALL_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A stream on which nothing is said for so long is given up: who follows asks much more often.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What this broker says to the others. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    env: Env,
    metadata: MetadataNode,
    stopping: watch::Receiver<bool>,
    outboxes: Arc<Mutex<BTreeMap<BrokerId, Arc<Outbox>>>>,
}

impl Streams {
    pub(crate) fn new(env: Env, metadata: MetadataNode, stopping: watch::Receiver<bool>) -> Self {
        Self { env, metadata, stopping, outboxes: Arc::default() }
    }

    /// Sends a message, if the broker it is for can be reached.
    pub(crate) fn post(&self, letter: Letter) {
        let to = letter.envelope.stamp.to.broker;
        let mut outboxes = self.outboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let outbox = outboxes.entry(to).or_insert_with(|| {
            let outbox = Arc::new(Outbox::default());
            let sending = send_all(self.clone(), to, Arc::clone(&outbox));
            drop(self.env.spawner.critical("replication sender", sending));
            outbox
        });
        outbox.put(letter);
    }

    /// Takes what others send, until the broker stops.
    pub(crate) fn receive(&self, shards: Shards) {
        if let Some(opened) = self.metadata.streams() {
            let spawner = self.env.spawner.clone();
            let receiving = receive_all(self.clone(), shards, opened);
            drop(spawner.critical("replication receiver", receiving));
        }
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // Whoever would say so may be gone.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

async fn send_all(streams: Streams, to: BrokerId, outbox: Arc<Outbox>) {
    let mut told = None;
    let mut stream: Option<PeerStream> = None;
    let sending = async {
        loop {
            let letter = outbox.next().await;
            let sent = send_one(&streams, to, &mut stream, letter).await;
            tell(to, sent.err(), &mut told);
            if stream.is_none() {
                sleep(CALL_AGAIN_AFTER).await;
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = stopped(streams.stopping.clone()) => {}
    }
}

/// Says when a broker can no longer be reached, for another reason than before, or can be again.
fn tell(to: BrokerId, why: Option<String>, told: &mut Option<String>) {
    match (&why, &told) {
        (Some(why), known) if known.as_ref() != Some(why) => {
            tracing::warn!(broker = %to, why, "cannot speak to another replica; trying on");
        }
        (None, Some(_)) => tracing::info!(broker = %to, "speaking to another replica again"),
        _ => {}
    }
    *told = why;
}

/// Sends one message; without a stream afterwards if that failed.
async fn send_one(
    streams: &Streams,
    to: BrokerId,
    stream: &mut Option<PeerStream>,
    letter: Letter,
) -> Result<(), String> {
    let Some(bytes) = sealed(&streams.env, letter).await else { return Ok(()) };
    let mut open = match stream.take() {
        Some(open) => open,
        None => streams.metadata.open_stream(to).await.map_err(|error| error.to_string())?,
    };
    match timeout(SEND_WITHIN, open.send(&bytes)).await {
        Ok(Ok(())) => {
            *stream = Some(open);
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it takes nothing".to_owned()),
    }
}

/// The bytes of a message with its frames; none if they cannot be read.
pub(super) async fn sealed(env: &Env, Letter { mut envelope, log }: Letter) -> Option<Vec<u8>> {
    let (Message::Frames { after, .. }, Some(log)) = (envelope.message, log) else {
        return Some(letter::encode(&envelope, Position(0)));
    };
    let read = move || log.read_frames(after.end, FRAMES_BYTES_MAX);
    match env.spawner.blocking(read).await {
        Ok(Ok(frames)) => {
            let mut bytes = letter::encode(&envelope, frames.at);
            bytes.extend_from_slice(&frames.bytes);
            Some(bytes)
        }
        Ok(Err(FramesError::Gone { first })) => {
            envelope.message = Message::Refused { after, why: Refusal::Gone(first) };
            Some(letter::encode(&envelope, Position(0)))
        }
        Ok(Err(error)) => {
            let shard = envelope.stamp.shard;
            tracing::error!(%shard, %error, "a follower cannot be given what it lacks");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "the log could not be read for a follower");
            None
        }
    }
}

async fn receive_all(streams: Streams, shards: Shards, mut opened: mpsc::Receiver<PeerStream>) {
    let receiving = async {
        while let Some(stream) = opened.recv().await {
            let (shards, stopping) = (shards.clone(), streams.stopping.clone());
            drop(streams.env.spawner.connection(async move {
                tokio::select! {
                    () = receive_one(shards, stream) => {}
                    () = stopped(stopping) => {}
                }
            }));
        }
    };
    tokio::select! {
        () = receiving => {}
        () = stopped(streams.stopping.clone()) => {}
    }
}

async fn receive_one(shards: Shards, mut stream: PeerStream) {
    let peer = stream.peer();
    loop {
        let bytes = match timeout(SILENCE_MAX, stream.receive()).await {
            Ok(Ok(Some(bytes))) => Bytes::from(bytes),
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::debug!(broker = %peer, %error, "a stream of another replica ended");
                return;
            }
        };
        match letter::decode(bytes) {
            // Who is at the other end has been proven; nobody speaks for others.
            Ok((envelope, carried)) if envelope.stamp.from.broker == peer => {
                shards.received(envelope, carried);
            }
            Ok((envelope, _)) => {
                let said = envelope.stamp.from.broker;
                tracing::error!(broker = %peer, %said, "a replica speaks for another one");
                return;
            }
            Err(error) => {
                tracing::error!(broker = %peer, %error, "a stream of another replica is given up");
                return;
            }
        }
    }
}
