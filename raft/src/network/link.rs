//! A node's side of a connection that it opened: asks one thing at a time and opens a new one when
//! the last has failed. Each user has a link of its own, so a large snapshot holds up nobody else.

use std::sync::Arc;
use std::time::Duration;

use braid_base::env::Net;
use braid_base::model::BrokerId;
use tokio::time::{Instant, timeout};

use super::greeting::{self, Connection, GreetingError};
use super::member::Member;
use super::message::{self, Formation, Request, Response};

/// How long opening a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// The other side closes a connection that was silent for longer; it is not used again after half
/// of that, so that no request is lost with it.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The other side never got it.
    #[error("cannot reach node {node}: {why}")]
    Unreached {
        /// Whom.
        node: BrokerId,
        /// Why not.
        why: String,
    },
    /// The other side may have got it and done it.
    #[error("no answer from node {node}: {why}")]
    Unanswered {
        /// From whom.
        node: BrokerId,
        /// Why not.
        why: String,
    },
}

/// The link. Not shared: who needs one makes it.
#[derive(Debug)]
pub(crate) struct Link {
    net: Arc<dyn Net>,
    member: Arc<Member>,
    target: BrokerId,
    /// Taken out while it is in use: a call that is given up leaves none behind.
    open: Option<(Connection, Instant)>,
}

impl Link {
    pub(crate) fn new(net: &Arc<dyn Net>, member: &Arc<Member>, target: BrokerId) -> Self {
        Self { net: Arc::clone(net), member: Arc::clone(member), target, open: None }
    }

    pub(crate) fn target(&self) -> BrokerId {
        self.target
    }

    /// Asks, and waits for the answer no longer than that.
    pub(crate) async fn call(
        &mut self,
        request: &Request,
        within: Duration,
    ) -> Result<Response, CallError> {
        let node = self.target;
        let deadline = Instant::now() + within;
        let open = self.open.take().filter(|(_, used)| used.elapsed() < IDLE_MAX / 2);
        let mut connection = match open {
            Some((connection, _)) => connection,
            None => match timeout(within.min(CONNECT_WITHIN), self.connect()).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => {
                    return Err(CallError::Unreached { node, why: error.to_string() });
                }
                Err(_) => return Err(CallError::Unreached { node, why: "no answer".to_owned() }),
            },
        };
        let body = message::encode(request);
        match tokio::time::timeout_at(deadline, exchange(&mut connection, &body)).await {
            Ok(Ok(response)) => {
                self.open = Some((connection, Instant::now()));
                Ok(response)
            }
            Ok(Err(why)) => Err(CallError::Unanswered { node, why }),
            Err(_) => Err(CallError::Unanswered { node, why: "it took too long".to_owned() }),
        }
    }

    /// Opens a connection. A node that has not heard yet that its cluster is formed is told.
    pub(super) async fn connect(&self) -> Result<Connection, GreetingError> {
        let mut connection = self.greet().await?;
        if let Some(identity) = self.member.identity()
            && connection.peer.cluster_id.is_none()
        {
            let formation = Formation {
                cluster_id: identity.cluster_id.clone(),
                directories: self.member.directories(),
            };
            let body = message::encode(&Request::Form(formation));
            match exchange(&mut connection, &body).await.map_err(std::io::Error::other)? {
                Response::Formed => {}
                Response::NotFormed(why) => return Err(std::io::Error::other(why).into()),
                other => {
                    let why = format!("an answer to another question: {other:?}");
                    return Err(std::io::Error::other(why).into());
                }
            }
        }
        Ok(connection)
    }

    /// Opens a connection and says who is there.
    pub(crate) async fn greet(&self) -> Result<Connection, GreetingError> {
        let Some(address) = self.member.addresses.get(&self.target) else {
            unreachable!("links lead to voters only")
        };
        let stream = self.net.connect(address).await?;
        greeting::call(&self.member, self.target, stream).await
    }
}

async fn exchange(connection: &mut Connection, body: &[u8]) -> Result<Response, String> {
    connection.sealed.send(body).await.map_err(|error| error.to_string())?;
    match connection.sealed.receive().await {
        Ok(Some(body)) => message::decode(&body).map_err(|error| error.to_string()),
        Ok(None) => Err("the connection was closed".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
