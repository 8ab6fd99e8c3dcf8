//! Floor F0: what every crate of Braid shares.
//!
//! [`model`] holds the words of the domain as types that cannot be mixed up; [`env`] is the one
//! seam to the machine (clock, random source, tasks and threads, files, network). Nothing here
//! knows Kafka's wire, the store or the broker.

pub mod env;
pub mod model;
