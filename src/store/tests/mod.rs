//! Tests of the store as a whole.

mod basic;
mod crash;
mod damage;
mod faults;
mod support;
mod world;
