//! Streams between brokers: connections that are handed over to the broker once both ends are known.
//!
//! They begin as every connection between members does, so whatever is sent on one is from the member
//! that it names, unchanged and in order, or is not received. What is said is the broker's. A
//! stream is used in one direction, by whoever opened it.

use std::io;
use std::time::Duration;

use braid_base::model::BrokerId;
use tokio::time::timeout;

use super::greeting::Connection;
use super::link::Link;
use super::message::{self, Request, Response};
use super::wire::Sealed;

/// Longest message: a group of a log's frames, which may be as long as a segment. Memory follows what
/// is received.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;
/// How long opening a stream may take.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
/// Streams that were opened by others and not taken yet.
pub(crate) const NOT_TAKEN_MAX: usize = 64;

/// A stream of messages between this broker and another one.
#[derive(Debug)]
pub struct PeerStream {
    peer: BrokerId,
    sealed: Sealed,
}

impl PeerStream {
    pub(crate) fn new(connection: Connection) -> Self {
        let Connection { sealed, peer } = connection;
        Self { peer: peer.node_id, sealed: sealed.with_bytes_max(MESSAGE_BYTES_MAX) }
    }

    /// The broker at the other end, which has proven to be it.
    #[must_use]
    pub fn peer(&self) -> BrokerId {
        self.peer
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The stream is done for. So it is when this future was dropped before its end.
    pub async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.sealed.send(message).await
    }

    /// The next message; none when the other side closed.
    ///
    /// # Errors
    /// The stream is done for. So it is when this future was dropped before its end.
    pub async fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.sealed.receive().await
    }
}

/// Opens a stream to a member.
pub(crate) async fn open(link: &Link) -> io::Result<PeerStream> {
    let opening = async {
        let mut connection = link.connect().await.map_err(io::Error::other)?;
        connection.sealed.send(&message::encode(&Request::Stream)).await?;
        let answer = connection.sealed.receive().await?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        match message::decode(&answer).map_err(io::Error::other)? {
            Response::Streaming => Ok(PeerStream::new(connection)),
            Response::Unready(why) => Err(io::Error::other(why)),
            other => Err(io::Error::other(format!("an answer to another question: {other:?}"))),
        }
    };
    match timeout(OPEN_WITHIN, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
