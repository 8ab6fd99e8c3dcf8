//! The metadata snapshot: one file, replaced whole. `encode` and `decode` are its bytes (see
//! docs/formats.md); [`SnapshotFile`] puts them on disk and reads them back.
//!
//! A snapshot that is visible is durable: it is written beside the old one, synced and renamed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use braid_base::env::fs::Fs;
use bytes::BufMut;
use openraft::CommittedLeaderId;

use crate::image::{ImageDecodeError, MetadataImage, stored};
use crate::log_store::{decode_membership, encode_membership};
use crate::types::{LogId, Membership, SnapshotMeta, StoredMembership};

const MAGIC: [u8; 4] = *b"BrMS";
const VERSION: u16 = 1;
/// Bytes up to and including the checksum.
const HEAD_LEN: usize = 12;

/// What a snapshot holds: the image, and openraft's share of the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    /// The last entry applied.
    pub(crate) last: Option<LogId>,
    /// The membership as of that entry.
    pub(crate) membership: StoredMembership,
    /// The image as of that entry.
    pub(crate) image: Arc<MetadataImage>,
}

impl Applied {
    /// What openraft wants to know of a snapshot of this.
    pub(crate) fn meta(&self) -> SnapshotMeta {
        let snapshot_id = self.last.map_or_else(String::new, |last| last.to_string());
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
            snapshot_id,
        }
    }
}

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFormatError {
    /// Not the bytes a snapshot begins with.
    #[error("this is no metadata snapshot")]
    Magic,
    /// Written by a newer version.
    #[error("a metadata snapshot of version {0} is unknown to this version")]
    Version(u16),
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum matches but the content breaks its own layout.
    #[error("the content is malformed")]
    Malformed,
    /// The image in it is unknown or malformed.
    #[error(transparent)]
    Image(ImageDecodeError),
}

/// Why the snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is damaged, or of another version.
    #[error("{} cannot be used: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: SnapshotFormatError,
    },
}

/// The snapshot's bytes.
pub(crate) fn encode(applied: &Applied) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_slice(&MAGIC);
    bytes.put_u16(VERSION);
    bytes.put_u16(0);
    bytes.put_u32(0);
    put_log_id(&mut bytes, applied.last.as_ref());
    put_log_id(&mut bytes, applied.membership.log_id().as_ref());
    let mut membership = Vec::new();
    encode_membership(applied.membership.membership(), &mut membership);
    bytes.put_u32(u32::try_from(membership.len()).unwrap_or(u32::MAX));
    bytes.put_slice(&membership);
    bytes.put_slice(&stored::encode(&applied.image));
    let checksum = crc32fast::hash(&bytes[HEAD_LEN..]);
    bytes[HEAD_LEN - 4..HEAD_LEN].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The snapshot of the bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Applied, SnapshotFormatError> {
    let (magic, rest) = bytes.split_first_chunk().ok_or(SnapshotFormatError::Magic)?;
    if *magic != MAGIC {
        return Err(SnapshotFormatError::Magic);
    }
    let (version, rest) = take(rest)?;
    let version = u16::from_be_bytes(version);
    if version != VERSION {
        return Err(SnapshotFormatError::Version(version));
    }
    let ([_, _], rest) = take(rest)?;
    let (checksum, rest) = take(rest)?;
    if crc32fast::hash(rest) != u32::from_be_bytes(checksum) {
        return Err(SnapshotFormatError::Checksum);
    }
    let (last, rest) = take_log_id(rest)?;
    let (membership_id, rest) = take_log_id(rest)?;
    let (length, rest) = take(rest)?;
    let (membership, image) = rest
        .split_at_checked(u32::from_be_bytes(length) as usize)
        .ok_or(SnapshotFormatError::Malformed)?;
    let membership: Membership =
        decode_membership(membership).ok_or(SnapshotFormatError::Malformed)?;
    let image = stored::decode(image).map_err(SnapshotFormatError::Image)?;
    Ok(Applied {
        last,
        membership: StoredMembership::new(membership_id, membership),
        image: Arc::new(image),
    })
}

fn put_log_id(bytes: &mut Vec<u8>, id: Option<&LogId>) {
    bytes.put_u8(u8::from(id.is_some()));
    let id = id.copied().unwrap_or_default();
    bytes.put_u64(id.leader_id.term);
    bytes.put_u64(id.leader_id.node_id);
    bytes.put_u64(id.index);
}

fn take_log_id(bytes: &[u8]) -> Result<(Option<LogId>, &[u8]), SnapshotFormatError> {
    let ([present], rest) = take(bytes)?;
    let (term, rest) = take(rest)?;
    let (node, rest) = take(rest)?;
    let (index, rest) = take(rest)?;
    let leader = CommittedLeaderId::new(u64::from_be_bytes(term), u64::from_be_bytes(node));
    let id = LogId::new(leader, u64::from_be_bytes(index));
    match present {
        0 => Ok((None, rest)),
        1 => Ok((Some(id), rest)),
        _ => Err(SnapshotFormatError::Malformed),
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), SnapshotFormatError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(SnapshotFormatError::Malformed)?;
    Ok((*taken, rest))
}

/// The snapshot on disk. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    /// The entry up to which the file is, as far as this process wrote it. Held while writing,
    /// which only happens off the async workers.
    written: Arc<Mutex<Option<u64>>>,
}

impl SnapshotFile {
    pub(crate) fn new(fs: &Arc<dyn Fs>, dir: &Path) -> Self {
        Self { fs: Arc::clone(fs), path: dir.join("snapshot"), written: Arc::default() }
    }

    /// The bytes of the snapshot; none when there is none yet.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, SnapshotError> {
        let io = |source| SnapshotError::Io { path: self.path.clone(), source };
        match self.fs.size(&self.path).map_err(io)? {
            None => Ok(None),
            Some(_) => self.fs.read_all(&self.path).map(Some).map_err(io),
        }
    }

    /// The snapshot; none when there is none yet.
    pub(crate) fn load(&self) -> Result<Option<Applied>, SnapshotError> {
        let Some(bytes) = self.read()? else { return Ok(None) };
        match decode(&bytes) {
            Ok(applied) => Ok(Some(applied)),
            Err(reason) => Err(SnapshotError::Format { path: self.path.clone(), reason }),
        }
    }

    /// Replaces the snapshot by that of the entry `last`; it is on disk when this returns. One of
    /// a later entry stays: the log before it may be gone.
    pub(crate) fn write(&self, last: Option<LogId>, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let index = last.map(|id| id.index);
        if *written > index {
            return Ok(());
        }
        self.fs.replace(&self.path, bytes)?;
        *written = index;
        Ok(())
    }

    /// Bytes that unprivileged writers may still use where the snapshot is.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        self.fs.free_bytes(self.path.parent().unwrap_or_else(|| Path::new(".")))
    }
}

#[cfg(test)]
mod tests;
