//! The suites of other projects against the real broker, each on one of its own. What they are and how they are judged is
//! told in `braid_compat_tests::external`.

use std::process::ExitCode;

use braid_compat_tests::external::External;
use braid_compat_tests::runner::Suite;

fn main() -> ExitCode {
    // They wait more than they work.
    let mut suite = Suite::without_table(External::ALL.len());
    for external in External::ALL {
        suite.add(format!("suites::{}", external.name()), move |_| external.judge());
    }
    suite.main()
}
