//! The metadata log on disk: entries, votes, truncations and purges as checksummed frames in one
//! sequence of segment files. One sequence for everything is what keeps votes and entries in
//! order, and makes every step crash-safe by construction: recovery replays what was written.
//!
//! `format` is the bytes, `recovery` reads a directory back, `files` is the synchronous log,
//! `store` lends it to openraft.

mod error;
mod files;
mod format;
mod recovery;
mod store;

pub use error::LogError;
pub(crate) use files::{Limits, LogFiles, Room};
pub use format::FrameError;
pub(crate) use format::{decode_membership, encode_membership};
pub(crate) use store::LogStore;
