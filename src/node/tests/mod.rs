//! The broker as a whole, from outside: everything goes through its wire. What is expected is what
//! Apache Kafka does, unless docs/compatibility.md says otherwise.

mod administration;
mod alone;
mod alterations;
mod apart;
mod arrivals;
mod ask;
mod bent;
mod client;
mod cluster;
mod compaction;
mod configs;
mod crash;
mod cut;
mod delayed;
mod disk;
mod fail_over;
mod fetch;
mod groups;
mod hostile;
mod life;
mod limits;
mod native;
mod offsets;
mod produce;
mod real;
mod replaced;
mod replicated;
mod sessions;
mod topics;
mod transactions;
mod transactions_kept;
mod transactions_late;
mod vanished;
mod wire;
mod world;
