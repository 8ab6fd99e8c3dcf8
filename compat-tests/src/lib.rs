//! The harness of the compatibility tests: it starts the real `braid` process, installs the pinned foreign clients, drives
//! them through one contract (`clients/README.md`) and runs the scenarios of `tests/clients/` with each of them.
//!
//! It never speaks Kafka itself and never looks into the broker: what the clients say is what counts. With
//! `BRAID_COMPAT_SERVER=kafka` the same scenarios run against Apache Kafka, which is how a scenario is proven right.
#![allow(
    clippy::disallowed_methods,
    reason = "the harness times and threads real processes; it is not part of the simulated broker"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the runner reports on stdout and stderr as cargo test does"
)]

pub mod capability;
pub mod client;
pub mod cluster;
pub mod dataset;
pub mod driver;
pub mod external;
pub mod install;
pub mod kcat;
pub mod kind;
pub mod log;
pub mod programs;
pub mod record;
pub mod runner;
pub mod server;
pub mod service;
pub mod tools;
