//! `braid log dump` and `braid log check`: a stopped broker's log, read offline.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::env::Env;
use crate::node::COMMITLOG_DIR;
use crate::store::{self, DumpSpec, InspectError};

/// Exit code of a check that found something wrong.
const EXIT_FINDINGS: u8 = 1;
/// Exit code when the directory could not be looked at.
const EXIT_CANNOT_LOOK: u8 = 2;

/// Prints the frames of a log, one per line. `dir` is a broker's data directory or the log's own.
#[must_use]
pub fn dump(env: &Env, dir: &Path, spec: DumpSpec) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let dumped = store::dump(env, &log_dir(env, dir), spec, &mut out)
        .and_then(|()| out.flush().map_err(InspectError::Output));
    match dumped {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough, as in `| head`.
        Err(InspectError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => cannot_look(&error),
    }
}

/// Reads everything in a log and prints what is wrong with it.
#[must_use]
pub fn check(env: &Env, dir: &Path) -> ExitCode {
    let report = match store::check(env, &log_dir(env, dir)) {
        Ok(report) => report,
        Err(error) => return cannot_look(&error),
    };
    let mut out = io::stdout().lock();
    let mut told = Ok(());
    for finding in &report.findings {
        let at = finding.at.map_or_else(String::new, |at| format!(" at position {at}"));
        told = told
            .and_then(|()| writeln!(out, "{}{at}: {}", finding.path.display(), finding.problem));
    }
    let told = told.and_then(|()| {
        writeln!(
            out,
            "{} segments, {} frames, {} bytes of batches, log end {}: {}",
            report.segments,
            report.frames,
            report.bytes,
            report.end,
            match report.findings.len() {
                0 => "nothing wrong".to_owned(),
                problems => format!("{problems} problems"),
            }
        )
    });
    match (told, report.findings.is_empty()) {
        (Ok(()), true) => ExitCode::SUCCESS,
        (Ok(()) | Err(_), _) => ExitCode::from(EXIT_FINDINGS),
    }
}

/// The log below a data directory, or the directory itself when it is the log.
fn log_dir(env: &Env, dir: &Path) -> PathBuf {
    let below = dir.join(COMMITLOG_DIR);
    match env.fs.list(&below) {
        Ok(_) => below,
        Err(_) => dir.to_owned(),
    }
}

fn cannot_look(error: &InspectError) -> ExitCode {
    // Nothing can be told when even stderr is gone; the exit code remains.
    let _told = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(EXIT_CANNOT_LOOK)
}
