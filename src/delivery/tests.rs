//! Tests that need more than one file of the engine.

mod memory;
mod model;
