//! The simulated machine: a disk that loses, tears and reorders what was not synced.

mod chance;
pub mod disk;

pub use disk::{Fault, PowerOff, SimFs};
