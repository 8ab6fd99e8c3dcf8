//! The simulated machine: the same code runs on it under a seed, repeatable to the bit.
//!
//! [`env`] makes one; [`SimHandles`] is how a test cuts its power, kills its process, breaks its
//! disk, moves its clock and cuts its network. The disk keeps the promises of [`super::fs`] and no
//! others, so code that rests on anything more is found out. What stays real: threads started by
//! [`super::Spawner::thread`]; a simulation that must repeat uses none.

mod chance;
pub mod clock;
pub mod disk;
mod machine;
pub mod net;

pub use clock::SimClock;
pub use disk::{Fault, PowerOff, SimFs};
pub use machine::{START_WALL_MS, SimHandles, env, env_on};
pub use net::SimNet;
