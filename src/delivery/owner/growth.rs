//! Keeping the DELIVERY queue short: parts are said again, those first whose state was said longest
//! ago, and the beginning that nobody needs then is let go.
//!
//! What is said again is paid for by what was written before: a quarter of it, so the queue grows to
//! a few times the state it holds, and never costs more than that share of the writing.

use super::Owner;
use crate::delivery::event::{Change, Event, PartKey};
use crate::model::Offset;
use crate::partition::system;

/// A queue shorter than this is left alone.
const LONG_SIZE_BYTES: usize = if cfg!(test) { 16 * 1024 } else { 16 * 1024 * 1024 };
/// Of so many bytes written, one may be spent on saying things again.
const SHARE: usize = 4;
/// Events that are let go at a time, at least.
const RELEASE_MIN: i64 = if cfg!(test) { 16 } else { 4_096 };
/// Bytes it takes to say a part in which there is nothing.
const PART_SIZE_BYTES: usize = 200;
/// A part of more bytes is said in pieces of this size: any of them has room in the log.
const PIECE_SIZE_BYTES: usize = if cfg!(test) { 1_024 } else { 48 * 1024 };
/// Pieces that are written before others have their turn.
const PIECES_MAX: usize = 16;

/// A part that is being said in pieces.
#[derive(Debug)]
struct Pieces {
    key: PartKey,
    generation: i64,
    /// Where the first one is, once there is one.
    since: Option<i64>,
    /// The offset from which on the next one is to say.
    from: i64,
}

/// How long the queue is, about, and what may be spent on making it shorter.
#[derive(Debug, Default)]
pub(super) struct Growth {
    size_bytes: usize,
    credit: usize,
    pieces: Option<Pieces>,
}

impl Growth {
    /// A queue that was read back: what it is worth is not known.
    pub(super) fn of(size_bytes: usize) -> Self {
        Self { size_bytes, credit: size_bytes / SHARE, pieces: None }
    }

    pub(super) fn add(&mut self, size_bytes: usize) {
        self.size_bytes += size_bytes;
        self.credit += size_bytes / SHARE;
    }

    fn is_long(&self) -> bool {
        self.size_bytes > LONG_SIZE_BYTES
    }
}

impl Owner {
    /// Says what is due to be said again, and lets go of what nobody needs.
    pub(super) fn shorten(&mut self) {
        if !self.growth.is_long() {
            return;
        }
        let next = self.partitions.offsets(system::DELIVERY).next.0;
        for _ in 0..PIECES_MAX {
            if self.growth.pieces.is_none() && !self.say_oldest(next) {
                break;
            }
            if self.growth.pieces.is_some() && !self.say_piece() {
                break;
            }
        }
        self.let_go();
    }

    /// Says the part again that was said longest ago, or begins to; whether there was one.
    fn say_oldest(&mut self, before: i64) -> bool {
        let Some((key, part)) = self.table.oldest_said(before) else { return false };
        let size_bytes = part.said_size_bytes();
        if size_bytes > PIECE_SIZE_BYTES {
            let (generation, since, from) = (part.generation(), None, i64::MIN);
            self.growth.pieces = Some(Pieces { key, generation, since, from });
            return true;
        }
        let change = Change::State(Box::new(part.said()));
        self.say(key, change, size_bytes)
    }

    /// Says the next piece of the part that is being said; whether to go on.
    fn say_piece(&mut self) -> bool {
        let Some(Pieces { key, generation, since, from }) = self.growth.pieces.take() else {
            return false;
        };
        // One that is gone, or began anew, was said otherwise.
        let part = self.table.part(&key).filter(|part| part.generation() == generation);
        let Some((said, rest)) = part.map(|part| part.piece(from, PIECE_SIZE_BYTES)) else {
            return true;
        };
        let at = self.partitions.offsets(system::DELIVERY).next.0;
        let first = since.unwrap_or(at);
        let since_told = rest.is_none().then_some(first);
        let change = Change::Piece { since: since_told, said: Box::new(said) };
        let is_said = self.say(key.clone(), change, PIECE_SIZE_BYTES);
        self.growth.pieces = match (is_said, rest) {
            (true, None) => None,
            (true, Some(from)) => Some(Pieces { key, generation, since: Some(first), from }),
            (false, _) => Some(Pieces { key, generation, since, from }),
        };
        is_said
    }

    /// Appends what a part says, if that can be paid for; says whether it was.
    fn say(&mut self, key: PartKey, change: Change, size_bytes: usize) -> bool {
        let cost = PART_SIZE_BYTES + size_bytes;
        if cost > self.growth.credit {
            return false;
        }
        if let Err(why) = self.append(vec![Event::Part { key, change }]) {
            tracing::warn!(%why, "the log of deliveries stays long for now");
            return false;
        }
        self.growth.credit = self.growth.credit.saturating_sub(cost);
        true
    }

    fn let_go(&mut self) {
        let offsets = self.partitions.offsets(system::DELIVERY);
        let needed = self.table.needed_from().unwrap_or(offsets.next.0);
        // What is not durable yet goes the next time.
        let needed = needed.min(offsets.high_watermark.0);
        if needed - offsets.log_start.0 < RELEASE_MIN {
            return;
        }
        let whole = offsets.next.0 - offsets.log_start.0;
        let gone = needed - offsets.log_start.0;
        match self.partitions.release(system::DELIVERY, Offset(needed)) {
            Ok(_) => {
                let left = u128::from((whole - gone).unsigned_abs());
                let size = self.growth.size_bytes as u128 * left;
                let size = size / u128::from(whole.unsigned_abs().max(1));
                self.growth.size_bytes = usize::try_from(size).unwrap_or(usize::MAX);
            }
            Err(error) => {
                // The old events stay, which costs only space.
                tracing::warn!(%error, "old events of deliveries could not be let go");
            }
        }
    }
}
