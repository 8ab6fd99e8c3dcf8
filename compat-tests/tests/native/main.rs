//! The native API, the command line and the guides, as a user meets them: the real program, programs that none of us
//! wrote on the Kafka side, and kill -9 in between.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "scenarios time and thread real processes, and tell what they saw"
)]

use std::process::ExitCode;

use braid_compat_tests::runner::Suite;
use braid_compat_tests::server::{Kind, kind};

mod cli;
mod delay;
mod fuzz;
mod guides;
mod payment;
mod scripts;

fn main() -> ExitCode {
    let mut suite = Suite::without_table(2);
    // Kafka has nothing of it.
    if kind() == Kind::Braid {
        cli::add(&mut suite);
        guides::add(&mut suite);
        scripts::add(&mut suite);
        payment::add(&mut suite);
        fuzz::add(&mut suite);
        delay::add(&mut suite);
    }
    suite.main()
}
