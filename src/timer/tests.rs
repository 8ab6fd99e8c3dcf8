//! The engine over a real store on a simulated machine.

mod burst;
mod cuts;
mod engine;
mod world;
