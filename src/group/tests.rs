//! Tests of the shard: scenarios as text, and random histories against models.

mod coordinator;
mod invariants;
mod offsets_model;
mod scenario;
mod show;
mod world;
