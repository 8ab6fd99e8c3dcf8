//! Floor F5: the native API over HTTP/JSON, with the health checks and the metrics.
//!
//! A handler translates: JSON in, one call to `native`, JSON out. What is served and what the
//! OpenAPI document says come from one declaration ([`routes`]), so the two cannot differ. Every
//! error has the same shape ([`problem`]): a code, a sentence and a hint. Bodies, time, memory and
//! connections are bounded ([`server`], [`body`]). One task per listener and one per connection run
//! here; nothing here holds state of its own.

#![allow(unused_qualifications, reason = "what utoipa writes for each route names types in full")]

mod body;
mod broker;
mod cluster;
mod content;
mod dead_letters;
mod deliveries;
#[cfg(test)]
mod docs;
mod groups;
mod half_messages;
mod health;
mod messages;
mod metrics;
mod patient;
mod problem;
mod routes;
mod server;
mod timers;
mod topics;
mod webhook;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::native::Native;

pub(crate) use server::{Common, serve};
pub(crate) use webhook::post_checks;

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct App {
    native: Arc<Native>,
    /// Bytes of bodies that may be in memory at once.
    body_memory: Arc<Semaphore>,
}
