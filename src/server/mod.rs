//! Floor F5: sockets. Reads frames, keeps their order, bounds their memory, writes answers.
//!
//! Knows nothing of what a request means; that is [`crate::api`].

pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod memory;
pub(crate) mod outbox;
pub(crate) mod pace;
