//! The table against a naive model, and the engine over the store.

mod engine;
mod memory;
mod model;
mod power;
mod world;
