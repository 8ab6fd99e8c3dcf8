//! Tests of the store as a whole.

mod basic;
mod compact;
mod compact_world;
mod crash;
mod damage;
mod faults;
mod merge;
mod merge_crash;
mod model;
mod offline;
mod replicas;
mod retention;
pub(in crate::store) mod support;
mod threads;
mod world;
