//! How two members of the quorum come to trust a connection: what each says of itself, the proof
//! that it knows the cluster's secret, and the tag on everything that follows. Pure, no I/O.
//!
//! Each side sends an [`Introduction`] with a nonce of its own, then an HMAC over both. A connection
//! thus belongs to one incarnation of one directory of one node in one cluster, and so does every
//! message on it: keys for both directions follow from the same bytes, and a frame's tag covers its
//! place in the order. Without a secret the key is empty; the tags then find damage only.

use std::fmt;

use braid_base::model::BrokerId;
use bytes::BufMut;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::command::ClusterId;

const MAGIC: [u8; 4] = *b"BrCT";
/// Version of everything on a connection: introductions, frames and messages.
pub(crate) const VERSION: u16 = 1;
/// Longest cluster id on the wire.
const CLUSTER_ID_BYTES_MAX: usize = 255;
/// Most voters of a quorum.
pub(crate) const VOTERS_MAX: usize = 31;
/// Bytes of a proof.
pub(crate) const PROOF_LEN: usize = 32;
/// Bytes of a frame's tag.
pub(crate) const TAG_LEN: usize = 16;

/// What all members of a cluster know and nobody else. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClusterSecret(Vec<u8>);

impl ClusterSecret {
    /// The secret of these bytes; of none when there is no secret.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret")
    }
}

/// What a node says of itself at the beginning of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Introduction {
    /// The cluster it belongs to; none before it is formed.
    pub(crate) cluster_id: Option<ClusterId>,
    /// Its number.
    pub(crate) node_id: BrokerId,
    /// Whom it believes to speak to.
    pub(crate) target: BrokerId,
    /// The mark of its directory.
    pub(crate) directory_id: Uuid,
    /// The mark of this start of its process.
    pub(crate) incarnation: Uuid,
    /// The voters of its configuration, in order.
    pub(crate) voters: Vec<BrokerId>,
    /// New for every connection.
    pub(crate) nonce: Uuid,
}

/// Why bytes are no introduction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IntroductionError {
    #[error("it does not speak this protocol")]
    Magic,
    #[error("it speaks version {0} of this protocol, not version {VERSION}")]
    Version(u16),
    #[error("its introduction is malformed")]
    Malformed,
}

impl Introduction {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_slice(&MAGIC);
        bytes.put_u16(VERSION);
        bytes.put_i32(self.node_id.0);
        bytes.put_i32(self.target.0);
        for id in [self.directory_id, self.incarnation, self.nonce] {
            bytes.put_slice(id.as_bytes());
        }
        let id = self.cluster_id.as_ref().map_or("", ClusterId::as_str).as_bytes();
        let id = id.get(..CLUSTER_ID_BYTES_MAX).unwrap_or(id);
        bytes.put_u8(u8::try_from(id.len()).unwrap_or(u8::MAX));
        bytes.put_slice(id);
        bytes.put_u8(u8::try_from(self.voters.len()).unwrap_or(u8::MAX));
        for voter in &self.voters {
            bytes.put_i32(voter.0);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, IntroductionError> {
        let malformed = || IntroductionError::Malformed;
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(IntroductionError::Magic)?;
        if *magic != MAGIC {
            return Err(IntroductionError::Magic);
        }
        let (version, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        match u16::from_be_bytes(*version) {
            VERSION => {}
            other => return Err(IntroductionError::Version(other)),
        }
        let (node_id, rest) = take_id(rest).ok_or_else(malformed)?;
        let (target, rest) = take_id(rest).ok_or_else(malformed)?;
        let (directory_id, rest) = take_uuid(rest).ok_or_else(malformed)?;
        let (incarnation, rest) = take_uuid(rest).ok_or_else(malformed)?;
        let (nonce, rest) = take_uuid(rest).ok_or_else(malformed)?;
        let (length, rest) = rest.split_first().ok_or_else(malformed)?;
        let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(malformed)?;
        let id = std::str::from_utf8(id).map_err(|_| malformed())?;
        let cluster_id = (!id.is_empty()).then(|| ClusterId::new(id));
        let (count, mut rest) = rest.split_first().ok_or_else(malformed)?;
        let mut voters = Vec::new();
        for _ in 0..*count {
            let (voter, after) = take_id(rest).ok_or_else(malformed)?;
            voters.push(voter);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(malformed());
        }
        Ok(Self { cluster_id, node_id, target, directory_id, incarnation, voters, nonce })
    }
}

fn take_id(bytes: &[u8]) -> Option<(BrokerId, &[u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    Some((BrokerId(i32::from_be_bytes(*id)), rest))
}

fn take_uuid(bytes: &[u8]) -> Option<(Uuid, &[u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    Some((Uuid::from_bytes(*id), rest))
}

/// Why a member has nothing to do with another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("this is node {0}")]
    OtherNode(BrokerId),
    #[error("it belongs to cluster {theirs}, this node to cluster {ours}")]
    OtherCluster { ours: ClusterId, theirs: ClusterId },
    #[error(
        "cluster {cluster_id} knows node {node_id} by directory {recorded}, not by {found}: its \
         directory was emptied or replaced"
    )]
    OtherDirectory { cluster_id: ClusterId, node_id: BrokerId, recorded: Uuid, found: Uuid },
    #[error(
        "the two nodes have different controller.quorum.voters: {} here and {} there",
        numbers(ours),
        numbers(theirs)
    )]
    OtherVoters { ours: Vec<BrokerId>, theirs: Vec<BrokerId> },
    #[error("node {0} is not among controller.quorum.voters")]
    NoVoter(BrokerId),
}

fn numbers(ids: &[BrokerId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What the key to each direction of a connection, and the proofs, are made of.
#[derive(Debug)]
pub(crate) struct Transcript<'a> {
    secret: &'a ClusterSecret,
    /// The caller's introduction, and the answerer's.
    bytes: [&'a [u8]; 2],
}

impl<'a> Transcript<'a> {
    pub(crate) fn new(secret: &'a ClusterSecret, caller: &'a [u8], answerer: &'a [u8]) -> Self {
        Self { secret, bytes: [caller, answerer] }
    }

    fn mac(&self, purpose: &[u8]) -> Hmac<Sha256> {
        let mut mac = keyed(&self.secret.0);
        mac.update(purpose);
        for part in self.bytes {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    /// The proof of the caller, or of the answerer.
    pub(crate) fn proof(&self, of_caller: bool) -> [u8; PROOF_LEN] {
        self.mac(proof_purpose(of_caller)).finalize().into_bytes().into()
    }

    /// Whether a proof is right; in a time that does not depend on where it is wrong.
    pub(crate) fn is_proven(&self, of_caller: bool, proof: &[u8]) -> bool {
        self.mac(proof_purpose(of_caller)).verify_slice(proof).is_ok()
    }

    /// What seals and opens frames on the caller's side, or on the answerer's.
    pub(crate) fn seals(&self, of_caller: bool) -> Seals {
        let key = |purpose: &[u8]| self.mac(purpose).finalize().into_bytes().into();
        let (forth, back) = (key(b"from caller"), key(b"from answerer"));
        let (send, receive) = if of_caller { (forth, back) } else { (back, forth) };
        Seals { send: Seal::new(send), receive: Seal::new(receive) }
    }
}

fn proof_purpose(of_caller: bool) -> &'static [u8] {
    if of_caller { b"caller" } else { b"answerer" }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

/// Both directions of one end of a connection.
pub(crate) struct Seals {
    pub(crate) send: Seal,
    pub(crate) receive: Seal,
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seals")
    }
}

/// One direction: a key, and how many frames there were.
pub(crate) struct Seal {
    key: [u8; PROOF_LEN],
    frames: u64,
}

impl Seal {
    fn new(key: [u8; PROOF_LEN]) -> Self {
        Self { key, frames: 0 }
    }

    fn next(&mut self, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = keyed(&self.key);
        mac.update(&self.frames.to_be_bytes());
        mac.update(body);
        self.frames += 1;
        mac
    }

    /// The tag of the next frame.
    pub(crate) fn tag(&mut self, body: &[u8]) -> [u8; TAG_LEN] {
        let whole: [u8; PROOF_LEN] = self.next(body).finalize().into_bytes().into();
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&whole[..TAG_LEN]);
        tag
    }

    /// Whether the next frame is the one that was sent.
    pub(crate) fn is_intact(&mut self, body: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        self.next(body).verify_truncated_left(tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::hex;

    fn introduction() -> Introduction {
        Introduction {
            cluster_id: Some(ClusterId::new("MkU3OEVBNTcwNTJENDM2Qg")),
            node_id: BrokerId(1),
            target: BrokerId(2),
            directory_id: Uuid::from_u128(3),
            incarnation: Uuid::from_u128(4),
            voters: vec![BrokerId(1), BrokerId(2)],
            nonce: Uuid::from_u128(5),
        }
    }

    #[test]
    fn an_introduction_keeps_its_bytes() {
        let bytes = introduction().encode();
        let id = hex(b"MkU3OEVBNTcwNTJENDM2Qg");
        let expected = [
            "42724354",
            "0001",
            "00000001",
            "00000002",
            "00000000000000000000000000000003",
            "00000000000000000000000000000004",
            "00000000000000000000000000000005",
            "16",
            &id,
            "02",
            "00000001",
            "00000002",
        ];
        assert_eq!(hex(&bytes), expected.concat());
        assert_eq!(Introduction::decode(&bytes), Ok(introduction()));
    }

    #[test]
    fn what_is_no_introduction_is_said_to_be_none() {
        let bytes = introduction().encode();
        assert_eq!(Introduction::decode(b"GET / HTTP/1.1"), Err(IntroductionError::Magic));
        let mut newer = bytes.clone();
        newer[5] = 9;
        assert_eq!(Introduction::decode(&newer), Err(IntroductionError::Version(9)));
        for end in 6..bytes.len() {
            let cut = Introduction::decode(&bytes[..end]);
            assert_eq!(cut, Err(IntroductionError::Malformed), "{end}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(Introduction::decode(&longer), Err(IntroductionError::Malformed));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Introduction::decode(&bytes));
            drop(Introduction::decode(&[&MAGIC[..], &VERSION.to_be_bytes(), &bytes].concat()));
        }
    }

    #[test]
    fn a_proof_needs_the_secret_and_both_introductions() {
        let (secret, other) = (ClusterSecret::new("a"), ClusterSecret::new("b"));
        let right = Transcript::new(&secret, b"one", b"two");
        let proof = right.proof(true);
        assert!(right.is_proven(true, &proof));
        assert!(!right.is_proven(false, &proof));
        assert!(!Transcript::new(&other, b"one", b"two").is_proven(true, &proof));
        assert!(!Transcript::new(&secret, b"onet", b"wo").is_proven(true, &proof));
        assert!(!right.is_proven(true, &proof[..31]));
    }

    #[test]
    fn a_frame_that_was_changed_repeated_or_left_out_is_noticed() {
        let secret = ClusterSecret::new("a");
        let transcript = Transcript::new(&secret, b"one", b"two");
        let (mut caller, mut answerer) = (transcript.seals(true), transcript.seals(false));
        let (first, second) = (caller.send.tag(b"x"), caller.send.tag(b"x"));
        assert!(answerer.receive.is_intact(b"x", &first));
        assert!(!answerer.receive.is_intact(b"x", &first));
        let mut answerer = transcript.seals(false);
        assert!(!answerer.receive.is_intact(b"x", &second));
        let mut answerer = transcript.seals(false);
        assert!(!answerer.receive.is_intact(b"y", &first));
        // Nor does a frame pass for one of the other direction.
        assert!(!caller.receive.is_intact(b"x", &first));
    }
}
