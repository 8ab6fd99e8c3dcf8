//! Produce by hand: the one API whose cost counts per message.
//!
//! A request is walked where it lies, without taking it apart into structures; its answer is
//! written while it is carried out, and kept as bytes until the records are on disk. Neither
//! allocates anything of its own.

mod answer;
mod request;

pub use answer::{ProduceAnswer, Refusal, Stored, fail, fail_some};
pub use request::{ProduceBody, ProduceHead, TopicKey, Walk};
