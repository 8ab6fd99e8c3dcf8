//! Kafka's command-line tools, the frameworks on top of Kafka and the calls of consoles, against the real broker. With
//! `BRAID_COMPAT_SERVER=kafka` the same scenarios run against Apache Kafka, whose words they hold.
#![allow(clippy::disallowed_methods, reason = "scenarios time and thread real processes")]

use std::process::ExitCode;

use braid_compat_tests::runner::Suite;

mod cluster;
mod compaction;
mod configs;
mod connect;
mod consoles;
mod groups;
mod load;
mod mirror;
mod partitions;
mod records;
mod refusals;
mod registry;
mod streams;
mod text;
mod topics;

fn main() -> ExitCode {
    let mut suite = Suite::of_programs();
    mirror::add(&mut suite);
    registry::add(&mut suite);
    compaction::add(&mut suite);
    streams::add(&mut suite);
    connect::add(&mut suite);
    groups::add(&mut suite);
    topics::add(&mut suite);
    configs::add(&mut suite);
    records::add(&mut suite);
    partitions::add(&mut suite);
    cluster::add(&mut suite);
    load::add(&mut suite);
    refusals::add(&mut suite);
    consoles::add(&mut suite);
    suite.main()
}
