//! Tests of the store as a whole.

mod basic;
mod crash;
mod support;
mod world;
