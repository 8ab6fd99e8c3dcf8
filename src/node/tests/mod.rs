//! The broker as a whole, from outside: everything goes through its wire. What is expected is what
//! Apache Kafka does, unless docs/compatibility.md says otherwise.

mod ask;
mod client;
mod wire;
mod world;
