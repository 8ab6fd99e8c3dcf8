//! What one broker sends another, and its bytes: see docs/formats.md.

use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

use crate::model::{BrokerId, LeaderEpoch, Position, ShardId};
use crate::replication::{Envelope, Message, Refusal, Replica, Stamp, Tail};
use crate::store::LogHandle;

const VERSION: u8 = 1;
const FETCH: u8 = 0;
const FRAMES: u8 = 1;
const DIVERGED: u8 = 2;
const REFUSED: u8 = 3;
const NOT_A_REPLICA: u8 = 0;
const GONE: u8 = 1;

/// A message to be sent, and the log whose frames go with it. They are read when it leaves, so what
/// waits takes no memory.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) envelope: Envelope,
    pub(crate) log: Option<LogHandle>,
}

/// Frames of a log, and where they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) at: Position,
    pub(crate) bytes: Bytes,
}

/// The bytes are no message of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message between replicas is malformed, or of a newer version")]
pub(crate) struct Malformed;

/// The bytes of a message; those of the frames it carries belong behind them, at `at`.
pub(crate) fn encode(envelope: &Envelope, at: Position) -> Vec<u8> {
    let Envelope { stamp, message } = envelope;
    let mut out = Vec::with_capacity(96);
    out.put_u8(VERSION);
    out.put_u8(match message {
        Message::Fetch { .. } => FETCH,
        Message::Frames { .. } => FRAMES,
        Message::Diverged { .. } => DIVERGED,
        Message::Refused { .. } => REFUSED,
    });
    out.put_slice(stamp.cluster.as_bytes());
    out.put_u32(stamp.shard.0);
    out.put_i32(stamp.epoch.0);
    for replica in [stamp.from, stamp.to] {
        out.put_i32(replica.broker.0);
        out.put_u64(replica.incarnation);
    }
    match message {
        Message::Fetch { tail, durable } => {
            put_tail(&mut out, *tail);
            out.put_u64(durable.0);
        }
        Message::Frames { after, committed } => {
            put_tail(&mut out, *after);
            out.put_u64(committed.0);
            out.put_u64(at.0);
        }
        Message::Diverged { after, known } => {
            put_tail(&mut out, *after);
            put_tail(&mut out, *known);
        }
        Message::Refused { after, why } => {
            put_tail(&mut out, *after);
            match why {
                Refusal::NotAReplica => out.put_u8(NOT_A_REPLICA),
                Refusal::Gone(first) => {
                    out.put_u8(GONE);
                    out.put_u64(first.0);
                }
            }
        }
    }
    out
}

fn put_tail(out: &mut Vec<u8>, tail: Tail) {
    out.put_i32(tail.epoch.0);
    out.put_u64(tail.end.0);
}

/// A message and the frames that it carries.
pub(crate) fn decode(bytes: Bytes) -> Result<(Envelope, Carried), Malformed> {
    let mut rest = bytes;
    let kind = read(&mut rest).ok_or(Malformed)?;
    let mut carried = Carried { at: Position(0), bytes: Bytes::new() };
    let (stamp, message) = match kind {
        Read { stamp, message: Message::Frames { after, committed } } => {
            let at = rest.try_get_u64().map_err(|_| Malformed)?;
            carried = Carried { at: Position(at), bytes: std::mem::take(&mut rest) };
            (stamp, Message::Frames { after, committed })
        }
        Read { stamp, message } => (stamp, message),
    };
    if rest.is_empty() { Ok((Envelope { stamp, message }, carried)) } else { Err(Malformed) }
}

struct Read {
    stamp: Stamp,
    message: Message,
}

fn read(rest: &mut Bytes) -> Option<Read> {
    if rest.try_get_u8().ok()? != VERSION {
        return None;
    }
    let kind = rest.try_get_u8().ok()?;
    let cluster = Uuid::from_u128(rest.try_get_u128().ok()?);
    let shard = ShardId(rest.try_get_u32().ok()?);
    let epoch = LeaderEpoch(rest.try_get_i32().ok()?);
    let (from, to) = (read_replica(rest)?, read_replica(rest)?);
    let stamp = Stamp { cluster, shard, epoch, from, to };
    let first = read_tail(rest)?;
    let message = match kind {
        FETCH => Message::Fetch { tail: first, durable: Position(rest.try_get_u64().ok()?) },
        FRAMES => Message::Frames { after: first, committed: Position(rest.try_get_u64().ok()?) },
        DIVERGED => Message::Diverged { after: first, known: read_tail(rest)? },
        REFUSED => {
            let why = match rest.try_get_u8().ok()? {
                NOT_A_REPLICA => Refusal::NotAReplica,
                GONE => Refusal::Gone(Position(rest.try_get_u64().ok()?)),
                _ => return None,
            };
            Message::Refused { after: first, why }
        }
        _ => return None,
    };
    Some(Read { stamp, message })
}

fn read_replica(rest: &mut Bytes) -> Option<Replica> {
    let broker = BrokerId(rest.try_get_i32().ok()?);
    Some(Replica { broker, incarnation: rest.try_get_u64().ok()? })
}

fn read_tail(rest: &mut Bytes) -> Option<Tail> {
    let epoch = LeaderEpoch(rest.try_get_i32().ok()?);
    Some(Tail { epoch, end: Position(rest.try_get_u64().ok()?) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "00000000000000000000000000000007\
                        00000003\
                        00000005\
                        00000001000000000000000a\
                        00000002000000000000000b";

    fn stamp() -> Stamp {
        Stamp {
            cluster: Uuid::from_u128(7),
            shard: ShardId(3),
            epoch: LeaderEpoch(5),
            from: Replica { broker: BrokerId(1), incarnation: 10 },
            to: Replica { broker: BrokerId(2), incarnation: 11 },
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn tail(epoch: i32, end: u64) -> Tail {
        Tail { epoch: LeaderEpoch(epoch), end: Position(end) }
    }

    #[test]
    fn messages_keep_their_bytes() {
        let after = tail(4, 0x1000);
        for (message, kind, body) in [
            (
                Message::Fetch { tail: after, durable: Position(0xf00) },
                "00",
                "0000000400000000000010000000000000000f00",
            ),
            (
                Message::Frames { after, committed: Position(0xe00) },
                "01",
                "0000000400000000000010000000000000000e000000000000002000",
            ),
            (
                Message::Diverged { after, known: tail(2, 0x800) },
                "02",
                "000000040000000000001000000000020000000000000800",
            ),
            (
                Message::Refused { after, why: Refusal::NotAReplica },
                "03",
                "00000004000000000000100000",
            ),
            (
                Message::Refused { after, why: Refusal::Gone(Position(0x900)) },
                "03",
                "000000040000000000001000010000000000000900",
            ),
        ] {
            let envelope = Envelope { stamp: stamp(), message };
            let bytes = encode(&envelope, Position(0x2000));
            assert_eq!(hex(&bytes), format!("01{kind}{HEAD}{body}"));
            let frames = matches!(message, Message::Frames { .. });
            let (again, carried) = decode(Bytes::from(bytes.clone())).unwrap();
            assert_eq!(again, envelope);
            assert_eq!(carried.at, Position(if frames { 0x2000 } else { 0 }));
            for end in 0..bytes.len() {
                assert_eq!(decode(Bytes::copy_from_slice(&bytes[..end])), Err(Malformed), "{end}");
            }
            let longer = Bytes::from([&bytes[..], b"frame"].concat());
            match decode(longer) {
                Ok((_, carried)) => assert!(frames && &*carried.bytes == b"frame"),
                Err(Malformed) => assert!(!frames),
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            drop(decode(Bytes::from(bytes.clone())));
            drop(decode(Bytes::from([&[VERSION][..], &bytes].concat())));
        }
    }
}
