//! The broker as a whole, from outside: everything goes through its wire. What is expected is what
//! Apache Kafka does, unless docs/compatibility.md says otherwise.

mod ask;
mod client;
mod configs;
mod fetch;
mod groups;
mod offsets;
mod produce;
mod sessions;
mod topics;
mod wire;
mod world;
