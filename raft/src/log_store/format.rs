//! The bytes of the metadata log: pure, no I/O. Everything is big-endian; docs/formats.md is the
//! law, the golden bytes in the tests hold it.
//!
//! A frame is a header of [`HEADER_LEN`] bytes and a payload. Its checksum covers both. It names
//! its own segment and position, so that a frame left over from another place never counts; and
//! how much of its file was on disk before it was written, so that recovery can tell a torn tail
//! (nothing after it was ever written on top) from damage to what was durable.

#![deny(clippy::indexing_slicing)]

use bytes::{BufMut, Bytes};
use openraft::{BasicNode, CommittedLeaderId, EntryPayload, LeaderId};

use crate::types::{BatchDecodeError, Entry, LogId, Membership, Proposal, Vote};

/// First four bytes of a frame.
pub(super) const MAGIC: u32 = u32::from_be_bytes(*b"BrML");
/// Version of the frame layout.
const VERSION: u8 = 1;
/// Bytes before the payload.
pub(super) const HEADER_LEN: usize = 40;
/// Longest payload.
pub(super) const PAYLOAD_LEN_MAX: usize = 64 << 20;

/// Where a frame stands, as the frame itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the segment.
    pub(super) segment: u64,
    /// Byte position of the frame in the segment.
    pub(super) position: u64,
    /// The segment was on disk up to here when the frame was written.
    pub(super) durable_end: u64,
}

/// The log's own state, repeated at the head of every segment so that older ones may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogState {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// Head of a segment: the log's state, and the index that follows the last entry before.
    Segment { state: LogState, next_index: u64 },
    /// A log entry.
    Entry(Entry),
    /// A vote.
    Vote(Vote),
    /// Entries from this index on are gone.
    Truncate { from: u64 },
    /// Entries up to and including this one are gone.
    Purge(LogId),
    /// Entries up to and including this one are committed. Written along with the next frames.
    Committed(LogId),
    /// The log was closed in order: nothing before this was in flight.
    Close,
}

const SEGMENT: u8 = 1;
const ENTRY: u8 = 2;
const VOTE: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const COMMITTED: u8 = 6;
const CLOSE: u8 = 7;

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Why bytes are no frame. Whether that is a torn tail or damage is for recovery to say.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the header, or than it says.
    #[error("the file ends inside a frame")]
    Short,
    /// Not the bytes a frame begins with.
    #[error("no frame begins here")]
    Magic,
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The frame belongs to another segment or position.
    #[error("the frame was written for segment {segment}, position {position}")]
    Misplaced {
        /// Segment it was written for.
        segment: u64,
        /// Position it was written for.
        position: u64,
    },
    /// A whole frame of a version or kind that this version does not know.
    #[error("a frame of version {version}, kind {kind} is unknown to this version")]
    Unknown {
        /// Its version.
        version: u8,
        /// Its kind.
        kind: u8,
    },
    /// A whole frame whose payload breaks its own layout.
    #[error("a payload of kind {0} is malformed")]
    Payload(u8),
    /// A whole frame whose commands cannot be read.
    #[error(transparent)]
    Commands(#[from] BatchDecodeError),
}

impl FrameError {
    /// Whether the checksum held, so that no crash can have caused this.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::Payload(_) | Self::Commands(_) => true,
            Self::Short | Self::Magic | Self::Checksum | Self::Misplaced { .. } => false,
        }
    }
}

/// A frame's header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    version: u8,
    kind: u8,
    payload_len: usize,
    pub(super) place: Place,
}

impl Header {
    /// Bytes of the whole frame.
    pub(super) fn frame_len(&self) -> usize {
        HEADER_LEN + self.payload_len
    }
}

/// Appends the frame of a record to `out`; returns its length.
pub(super) fn encode(record: &Record, place: Place, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.put_u32(MAGIC);
    out.put_u8(VERSION);
    out.put_u8(kind(record));
    out.put_u16(0);
    out.put_u32(0);
    out.put_u32(0);
    out.put_u64(place.segment);
    out.put_u64(place.position);
    out.put_u64(place.durable_end);
    encode_payload(record, out);
    let frame_len = out.len() - start;
    let payload_len = u32::try_from(frame_len - HEADER_LEN).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start + 8..start + 12) {
        field.copy_from_slice(&payload_len.to_be_bytes());
    }
    let checksum = out.get(start..).map_or(0, checksum);
    if let Some(field) = out.get_mut(start + 12..start + 16) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    frame_len
}

/// Reads and checks the frame at the head of `bytes`, which is wanted at this place.
pub(super) fn decode(
    bytes: &[u8],
    segment: u64,
    position: u64,
) -> Result<(Header, Record), FrameError> {
    let header = check(bytes)?;
    let place = header.place;
    if place.segment != segment || place.position != position {
        return Err(FrameError::Misplaced { segment: place.segment, position: place.position });
    }
    let payload = bytes.get(HEADER_LEN..header.frame_len()).ok_or(FrameError::Short)?;
    let record = decode_payload(header, payload)?;
    Ok((header, record))
}

/// Checks that a whole frame begins here, wherever it belongs.
pub(super) fn check(bytes: &[u8]) -> Result<Header, FrameError> {
    let mut read = Reader(bytes);
    if read.u32()? != MAGIC {
        return Err(FrameError::Magic);
    }
    let (version, kind, _) = (read.u8()?, read.u8()?, read.u16()?);
    let (payload_len, wanted) = (read.u32()? as usize, read.u32()?);
    let place = Place { segment: read.u64()?, position: read.u64()?, durable_end: read.u64()? };
    if payload_len > PAYLOAD_LEN_MAX {
        return Err(FrameError::Checksum);
    }
    let frame = bytes.get(..HEADER_LEN + payload_len).ok_or(FrameError::Short)?;
    if checksum(frame) != wanted {
        return Err(FrameError::Checksum);
    }
    Ok(Header { version, kind, payload_len, place })
}

/// CRC-32 of a frame, its checksum field taken as zero.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(frame.get(..12).unwrap_or_default());
    hasher.update(&[0; 4]);
    hasher.update(frame.get(16..).unwrap_or_default());
    hasher.finalize()
}

fn kind(record: &Record) -> u8 {
    match record {
        Record::Segment { .. } => SEGMENT,
        Record::Entry(_) => ENTRY,
        Record::Vote(_) => VOTE,
        Record::Truncate { .. } => TRUNCATE,
        Record::Purge(_) => PURGE,
        Record::Committed(_) => COMMITTED,
        Record::Close => CLOSE,
    }
}

fn encode_payload(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Segment { state, next_index } => {
            out.put_u64(*next_index);
            put_option(out, state.vote.as_ref(), put_vote);
            put_option(out, state.purged.as_ref(), put_log_id);
            put_option(out, state.committed.as_ref(), put_log_id);
        }
        Record::Entry(entry) => {
            put_log_id(out, &entry.log_id);
            match &entry.payload {
                EntryPayload::Blank => out.put_u8(BLANK),
                EntryPayload::Normal(proposal) => {
                    out.put_u8(COMMANDS);
                    out.put_slice(proposal.encoded());
                }
                EntryPayload::Membership(membership) => {
                    out.put_u8(MEMBERSHIP);
                    encode_membership(membership, out);
                }
            }
        }
        Record::Vote(vote) => put_vote(out, vote),
        Record::Truncate { from } => out.put_u64(*from),
        Record::Purge(upto) => put_log_id(out, upto),
        Record::Committed(upto) => put_log_id(out, upto),
        Record::Close => {}
    }
}

fn decode_payload(header: Header, payload: &[u8]) -> Result<Record, FrameError> {
    let Header { version, kind, .. } = header;
    if version != VERSION {
        return Err(FrameError::Unknown { version, kind });
    }
    let malformed = |_| FrameError::Payload(kind);
    let mut read = Reader(payload);
    let record = match kind {
        SEGMENT => {
            let next_index = read.u64().map_err(malformed)?;
            let vote = read.option(Reader::vote).map_err(malformed)?;
            let purged = read.option(Reader::log_id).map_err(malformed)?;
            let committed = read.option(Reader::log_id).map_err(malformed)?;
            Record::Segment { state: LogState { vote, purged, committed }, next_index }
        }
        ENTRY => {
            let log_id = read.log_id().map_err(malformed)?;
            let payload = match read.u8().map_err(malformed)? {
                BLANK => EntryPayload::Blank,
                COMMANDS => {
                    let encoded = Bytes::copy_from_slice(std::mem::take(&mut read.0));
                    EntryPayload::Normal(Proposal::decode(encoded)?)
                }
                MEMBERSHIP => EntryPayload::Membership(read.membership().map_err(malformed)?),
                _ => return Err(FrameError::Payload(kind)),
            };
            Record::Entry(Entry { log_id, payload })
        }
        VOTE => Record::Vote(read.vote().map_err(malformed)?),
        TRUNCATE => Record::Truncate { from: read.u64().map_err(malformed)? },
        PURGE => Record::Purge(read.log_id().map_err(malformed)?),
        COMMITTED => Record::Committed(read.log_id().map_err(malformed)?),
        CLOSE => Record::Close,
        _ => return Err(FrameError::Unknown { version, kind }),
    };
    if read.0.is_empty() { Ok(record) } else { Err(FrameError::Payload(kind)) }
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    out.put_u64(id.leader_id.term);
    out.put_u64(id.leader_id.node_id);
    out.put_u64(id.index);
}

fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.put_u64(vote.leader_id.term);
    out.put_u64(vote.leader_id.node_id);
    out.put_u8(u8::from(vote.committed));
}

/// Appends a membership: the voters of each of its (one or two) configurations, then all nodes
/// with their addresses.
pub(crate) fn encode_membership(membership: &Membership, out: &mut Vec<u8>) {
    let configs = membership.get_joint_config();
    out.put_u32(count(configs.len()));
    for voters in configs {
        out.put_u32(count(voters.len()));
        voters.iter().for_each(|&voter| out.put_u64(voter));
    }
    let nodes: Vec<_> = membership.nodes().collect();
    out.put_u32(count(nodes.len()));
    for (&id, node) in nodes {
        out.put_u64(id);
        out.put_u32(count(node.addr.len()));
        out.put_slice(node.addr.as_bytes());
    }
}

/// Reads a membership that fills `bytes`.
pub(crate) fn decode_membership(bytes: &[u8]) -> Option<Membership> {
    let mut read = Reader(bytes);
    let membership = read.membership().ok()?;
    read.0.is_empty().then_some(membership)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Takes numbers off the head of its bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(FrameError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(FrameError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        self.take().map(|[byte]: [u8; 1]| byte)
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.take().map(u64::from_be_bytes)
    }

    fn flag(&mut self) -> Result<bool, FrameError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Short),
        }
    }

    fn option<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Option<T>, FrameError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn log_id(&mut self) -> Result<LogId, FrameError> {
        let (term, node, index) = (self.u64()?, self.u64()?, self.u64()?);
        Ok(LogId::new(CommittedLeaderId::new(term, node), index))
    }

    fn vote(&mut self) -> Result<Vote, FrameError> {
        let (term, node, committed) = (self.u64()?, self.u64()?, self.flag()?);
        Ok(Vote { leader_id: LeaderId::new(term, node), committed })
    }

    fn membership(&mut self) -> Result<Membership, FrameError> {
        let mut configs = Vec::new();
        for _ in 0..self.u32()? {
            let mut voters = std::collections::BTreeSet::new();
            for _ in 0..self.u32()? {
                voters.insert(self.u64()?);
            }
            configs.push(voters);
        }
        let mut nodes = std::collections::BTreeMap::new();
        for _ in 0..self.u32()? {
            let id = self.u64()?;
            let len = self.u32()? as usize;
            let addr = std::str::from_utf8(self.bytes(len)?).map_err(|_| FrameError::Short)?;
            nodes.insert(id, BasicNode::new(addr));
        }
        Ok(Membership::new(configs, nodes))
    }
}

#[cfg(test)]
mod tests;
