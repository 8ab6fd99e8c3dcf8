//! The controller listener: answers the other members, one task per connection, one request at a time
//! on each.
//!
//! What a stranger can make it hold is small: a bounded number of connections, a greeting of a
//! kibibyte, a few seconds.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use braid_base::env::Spawner;
use braid_base::env::net::{Listener, Stream};
use braid_base::model::BrokerId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::greeting::{self, Connection, GreetingError};
use super::link::IDLE_MAX;
use super::member::Member;
use super::message::{self, Request, Response};
use super::stream::PeerStream;

/// Connections at once; the members of a quorum need a few each.
const CONNECTIONS_MAX: usize = 256;
/// How long a greeting may take.
const GREETING_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer may take to be taken by the other side.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Before the system is asked again for a connection that it could not give.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What members' requests are answered by.
pub(crate) trait Answer: Send + Sync + 'static {
    /// Answers a member's request.
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send;

    /// A connection of a member has ended, which is what a member's death looks like.
    fn left(&self, member: BrokerId);

    /// A place for a stream of the broker's, if it takes another one.
    fn stream_place(&self) -> Option<mpsc::OwnedPermit<PeerStream>>;
}

/// Serves until told to stop, or until whoever would tell is gone.
pub(crate) async fn serve<A: Answer>(
    spawner: Spawner,
    listener: Box<dyn Listener>,
    member: Arc<Member>,
    answer: Arc<A>,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the controller listener cannot accept a connection");
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, "the controller listener has no place for a further connection");
            continue;
        };
        let (member, answer, mut stopping) =
            (Arc::clone(&member), Arc::clone(&answer), stopping.clone());
        drop(spawner.connection(async move {
            let _place = place;
            tokio::select! {
                () = converse(&member, &*answer, stream, peer) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }));
    }
}

async fn converse<A: Answer>(
    member: &Member,
    answer: &A,
    stream: Box<dyn Stream>,
    peer: SocketAddr,
) {
    let mut connection = match timeout(GREETING_WITHIN, greeting::answer(member, stream)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(GreetingError::Closed)) => return,
        Ok(Err(error)) => {
            tracing::warn!(%peer, %error, "refused a connection to the controller listener");
            return;
        }
        Err(_) => {
            tracing::warn!(%peer, "a connection to the controller listener did not greet in time");
            return;
        }
    };
    match answer_all(answer, &mut connection).await {
        Ok(Some(place)) => {
            place.send(PeerStream::new(connection));
            return;
        }
        Ok(None) => {}
        Err(why) => {
            let node = connection.peer.node_id;
            tracing::debug!(%peer, %node, why, "a member's connection ended");
        }
    }
    answer.left(connection.peer.node_id);
}

/// Answers until the connection ends, or is to be handed over.
async fn answer_all<A: Answer>(
    answer: &A,
    connection: &mut Connection,
) -> Result<Option<mpsc::OwnedPermit<PeerStream>>, String> {
    loop {
        let received = timeout(IDLE_MAX, connection.sealed.receive()).await;
        let Ok(body) = received else { return Ok(None) };
        let Some(body) = body.map_err(|error| error.to_string())? else { return Ok(None) };
        let request: Request = message::decode(&body).map_err(|error| error.to_string())?;
        drop(body);
        let mut place = None;
        let response = if matches!(request, Request::Stream) {
            place = answer.stream_place();
            let full = || Response::Unready("the broker takes no stream now".to_owned());
            place.as_ref().map_or_else(full, |_| Response::Streaming)
        } else {
            answer.answer(request).await
        };
        let response = message::encode(&response);
        let sent = timeout(ANSWER_WITHIN, connection.sealed.send(&response)).await;
        sent.map_err(|_| "the answer was not taken".to_owned())?.map_err(|e| e.to_string())?;
        if place.is_some() {
            return Ok(place);
        }
    }
}
