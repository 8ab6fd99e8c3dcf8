//! How the members of the quorum reach each other: connections of our own over the seam's network.
//!
//! [`session`] is the trust between two nodes and [`greeting`] how they come to it, [`wire`] the frames,
//! [`message`] what is said. [`link`] asks, [`listener`] answers, [`peers`] lends links to openraft,
//! [`stream`] hands connections to the broker.
//! docs/formats.md has the bytes.

pub(crate) mod greeting;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod member;
pub(crate) mod message;
pub(crate) mod peers;
pub(crate) mod session;
pub(crate) mod stream;
mod wire;
