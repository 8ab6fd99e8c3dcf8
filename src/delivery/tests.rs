//! Tests that need more than one file of the engine.

mod dying;
mod leases;
mod memory;
mod model;
mod power;
mod sharing;
mod upkeep;
mod world;
