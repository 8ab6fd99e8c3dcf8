//! Real clients against the real broker: every scenario is written once and run by each client that can. The shape of
//! the harness is told in the crate `braid_compat_tests`.
#![allow(clippy::print_stdout, reason = "the main job reports its figures")]
#![allow(clippy::disallowed_methods, reason = "scenarios time and thread real processes")]

use std::process::ExitCode;

use braid_compat_tests::runner::Suite;

mod acks;
mod admin;
mod changes;
mod cluster;
mod commits;
mod compaction;
mod crashes;
mod dynamic;
mod groups;
mod real_data;
mod round_trip;
mod timestamps;
mod transactions;

fn main() -> ExitCode {
    let mut suite = Suite::default();
    round_trip::add(&mut suite);
    timestamps::add(&mut suite);
    acks::add(&mut suite);
    admin::add(&mut suite);
    changes::add(&mut suite);
    compaction::add(&mut suite);
    commits::add(&mut suite);
    groups::add(&mut suite);
    dynamic::add(&mut suite);
    crashes::add(&mut suite);
    cluster::add(&mut suite);
    transactions::add(&mut suite);
    real_data::add(&mut suite);
    suite.main()
}
