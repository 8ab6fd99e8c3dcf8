//! The types that openraft is given, and the batch of commands that one log entry carries.

use std::io::Cursor;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::command::{CommandDecodeError, MetadataCommand};
use crate::outcome::Outcome;

openraft::declare_raft_types!(
    /// What openraft is instantiated with.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = openraft::BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;

/// Version of the batch's layout, its first two bytes.
const BATCH_VERSION: u16 = 1;

/// Commands proposed together: one log entry, one sync. Cheap to clone; knows its own bytes, so
/// that they are made once, where the command was proposed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposal {
    commands: Arc<[MetadataCommand]>,
    encoded: Bytes,
}

/// Why a batch of commands cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BatchDecodeError {
    /// Written by a newer version.
    #[error("the batch of commands has version {0}, which this version does not know")]
    Version(u16),
    /// Fewer bytes than the batch says it has.
    #[error("the batch of commands is shorter than it says")]
    Short,
    /// More bytes than the batch says it has.
    #[error("{0} bytes follow the last command of the batch")]
    Trailing(usize),
    /// One of its commands cannot be read.
    #[error(transparent)]
    Command(#[from] CommandDecodeError),
}

impl Proposal {
    /// The batch of commands given each with its bytes.
    pub(crate) fn new(commands: Vec<(MetadataCommand, Vec<u8>)>) -> Self {
        let body_bytes: usize = commands.iter().map(|(_, bytes)| 4 + bytes.len()).sum();
        let mut encoded = BytesMut::with_capacity(6 + body_bytes);
        encoded.put_u16(BATCH_VERSION);
        encoded.put_u32(length(commands.len()));
        for (_, bytes) in &commands {
            encoded.put_u32(length(bytes.len()));
            encoded.put_slice(bytes);
        }
        let commands = commands.into_iter().map(|(command, _)| command).collect();
        Self { commands, encoded: encoded.freeze() }
    }

    /// The batch of the bytes.
    pub(crate) fn decode(encoded: Bytes) -> Result<Self, BatchDecodeError> {
        let (version, rest) = encoded.split_first_chunk().ok_or(BatchDecodeError::Short)?;
        match u16::from_be_bytes(*version) {
            BATCH_VERSION => {}
            unknown => return Err(BatchDecodeError::Version(unknown)),
        }
        let (count, mut rest) = take_u32(rest)?;
        let mut commands = Vec::new();
        for _ in 0..count {
            let (length, after) = take_u32(rest)?;
            let command = after.split_at_checked(length as usize).ok_or(BatchDecodeError::Short)?;
            commands.push(MetadataCommand::decode(command.0)?);
            rest = command.1;
        }
        match rest.len() {
            0 => Ok(Self { commands: commands.into(), encoded }),
            more => Err(BatchDecodeError::Trailing(more)),
        }
    }

    pub(crate) fn commands(&self) -> &[MetadataCommand] {
        &self.commands
    }

    pub(crate) fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), BatchDecodeError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(BatchDecodeError::Short)?;
    Ok((u32::from_be_bytes(*number), rest))
}

/// A length that the proposer's limits keep far below four gibibytes.
fn length(length: usize) -> u32 {
    match u32::try_from(length) {
        Ok(length) => length,
        Err(_) => unreachable!("a proposal is limited to a few mebibytes"),
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encoded)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let encoded = Vec::<u8>::deserialize(deserializer)?;
        Self::decode(encoded.into()).map_err(D::Error::custom)
    }
}

/// What the commands of an entry yielded, in order; none for entries that carry no command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reply(pub(crate) Vec<Outcome>);
