//! `braid-checker FILE`: judges a history of JSON lines (`-` is stdin) and prints the verdict, as JSON lines with
//! `--json`. Exits with 1 if a promise was broken, with 2 if the history cannot be read.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its verdict")]

use std::fs::File;
use std::io::{BufReader, stdin};
use std::process::ExitCode;

use braid_checker::{History, HistoryError, check};

fn read(path: &str) -> Result<History, HistoryError> {
    if path == "-" {
        History::read(stdin().lock())
    } else {
        History::read(BufReader::new(File::open(path)?))
    }
}

fn main() -> ExitCode {
    let (flags, files): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [file] = &files[..] else {
        eprintln!("usage: braid-checker [--json] FILE");
        return ExitCode::from(2);
    };
    let history = match read(file) {
        Ok(history) => history,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::from(2);
        }
    };
    let verdict = check(&history);
    if flags.iter().any(|flag| flag == "--json") {
        verdict.json(&history).iter().for_each(|line| println!("{line}"));
    } else {
        print!("{}", verdict.explain(&history));
    }
    if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
