//! The table against a naive model, and the engine over the store.

mod model;
