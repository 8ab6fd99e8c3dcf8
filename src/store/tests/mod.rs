//! Tests of the store as a whole.

mod basic;
mod crash;
mod damage;
mod faults;
mod merge;
mod model;
mod offline;
mod retention;
mod support;
mod threads;
mod world;
