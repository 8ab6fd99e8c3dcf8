//! The greeting at the beginning of a connection, from both ends. Its steps: the caller's
//! introduction, the answerer's with its proof, the caller's proof, and then, already sealed, what the
//! answerer makes of the caller. A verdict is thus never taken from somebody who does not know
//! the secret.

use std::io;

use braid_base::env::net::Stream;
use serde::{Deserialize, Serialize};

use super::member::Member;
use super::message;
use super::session::{Introduction, IntroductionError, PROOF_LEN, Refusal, Transcript};
use super::wire::{self, GREETING_BYTES_MAX, Sealed};
use braid_base::model::BrokerId;

/// Why two nodes did not come to speak.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the other side closed the connection")]
    Closed,
    #[error(transparent)]
    Introduction(#[from] IntroductionError),
    #[error("the other side does not know the cluster's secret: braid.cluster.secret differs")]
    Secret,
    #[error("the other side's verdict is malformed")]
    Verdict,
    /// This side refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The other side refused.
    #[error("it refused: {0}")]
    RefusedThere(Refusal),
}

#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    Welcome,
    Refused(Refusal),
}

/// A connection that both sides trust.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sealed: Sealed,
    pub(crate) peer: Introduction,
}

/// Greets the node that was called.
pub(crate) async fn call(
    member: &Member,
    target: BrokerId,
    mut stream: Box<dyn Stream>,
) -> Result<Connection, GreetingError> {
    let ours = member.introduction(target).encode();
    wire::write(&mut stream, &[&ours]).await?;
    let answer = next(&mut stream).await?;
    let (theirs, proof) = answer
        .split_last_chunk::<PROOF_LEN>()
        .ok_or(GreetingError::Introduction(IntroductionError::Malformed))?;
    let peer = Introduction::decode(theirs)?;
    let transcript = Transcript::new(&member.secret, &ours, theirs);
    if !transcript.is_proven(false, proof) {
        return Err(GreetingError::Secret);
    }
    if peer.node_id != target {
        return Err(GreetingError::Refused(Refusal::OtherNode(peer.node_id)));
    }
    wire::write(&mut stream, &[&transcript.proof(true)]).await?;
    let mut sealed = Sealed::new(stream, transcript.seals(true));
    let verdict = sealed.receive().await?.ok_or(GreetingError::Closed)?;
    match message::decode(&verdict).map_err(|_| GreetingError::Verdict)? {
        Verdict::Welcome => {}
        Verdict::Refused(refusal) => return Err(GreetingError::RefusedThere(refusal)),
    }
    member.judge(&peer).map_err(GreetingError::Refused)?;
    Ok(Connection { sealed, peer })
}

/// Greets whoever called.
pub(crate) async fn answer(
    member: &Member,
    mut stream: Box<dyn Stream>,
) -> Result<Connection, GreetingError> {
    let theirs = next(&mut stream).await?;
    let peer = Introduction::decode(&theirs)?;
    let ours = member.introduction(peer.node_id).encode();
    let transcript = Transcript::new(&member.secret, &theirs, &ours);
    wire::write(&mut stream, &[&ours, &transcript.proof(false)]).await?;
    let proof = next(&mut stream).await?;
    if !transcript.is_proven(true, &proof) {
        return Err(GreetingError::Secret);
    }
    let mut sealed = Sealed::new(stream, transcript.seals(false));
    match member.judge(&peer) {
        Ok(()) => sealed.send(&message::encode(&Verdict::Welcome)).await?,
        Err(refusal) => {
            sealed.send(&message::encode(&Verdict::Refused(refusal.clone()))).await?;
            return Err(GreetingError::Refused(refusal));
        }
    }
    Ok(Connection { sealed, peer })
}

async fn next(stream: &mut Box<dyn Stream>) -> Result<Vec<u8>, GreetingError> {
    wire::read(stream, GREETING_BYTES_MAX).await?.ok_or(GreetingError::Closed)
}

#[cfg(test)]
mod tests {
    use super::super::member::tests::member;
    use super::super::session::ClusterSecret;
    use super::*;

    async fn meet(caller: &Member, answerer: &Member) -> [Result<Connection, GreetingError>; 2] {
        let (near, far) = tokio::io::duplex(4096);
        let target = BrokerId(2);
        let (called, answered) =
            tokio::join!(call(caller, target, Box::new(near)), answer(answerer, Box::new(far)));
        [called, answered]
    }

    #[tokio::test]
    async fn members_meet_and_speak() {
        let [near, far] = meet(&member(1, Some("a")), &member(2, Some("a"))).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        assert_eq!((near.peer.node_id, far.peer.node_id), (BrokerId(2), BrokerId(1)));
        near.sealed.send(b"question").await.unwrap();
        assert_eq!(far.sealed.receive().await.unwrap().unwrap(), b"question");
        far.sealed.send(b"answer").await.unwrap();
        assert_eq!(near.sealed.receive().await.unwrap().unwrap(), b"answer");
    }

    #[tokio::test]
    async fn another_cluster_is_refused_and_both_sides_know_why() {
        let [near, far] = meet(&member(1, Some("a")), &member(2, Some("b"))).await;
        let text = "it belongs to cluster a, this node to cluster b";
        assert_eq!(far.unwrap_err().to_string(), text);
        assert_eq!(near.unwrap_err().to_string(), format!("it refused: {text}"));
    }

    #[tokio::test]
    async fn who_does_not_know_the_secret_gets_no_verdict() {
        let mut caller = member(1, Some("a"));
        caller.secret = ClusterSecret::new("guessed");
        let [near, far] = meet(&caller, &member(2, Some("a"))).await;
        assert!(matches!(near, Err(GreetingError::Secret)));
        assert!(matches!(far, Err(GreetingError::Closed)), "{far:?}");
    }

    #[tokio::test]
    async fn somebody_else_at_the_address_is_noticed() {
        let [near, far] = meet(&member(1, Some("a")), &member(3, Some("a"))).await;
        assert!(matches!(near, Err(GreetingError::Refused(Refusal::OtherNode(BrokerId(3))))));
        assert!(far.is_err());
    }
}
