//! How long a history of about a million operations takes to be read and judged: prints figures, asserts nothing.
#![allow(clippy::print_stdout, reason = "a program that prints its figures")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::Instant;

use braid_checker::model::{Plan, history};
use braid_checker::{History, check};

fn main() {
    for inputs in [110_000, 440_000] {
        let made = history(Plan { seed: 1, inputs, partitions: 8, aborts: 10, deaths: 3 });
        let mut lines = Vec::new();
        if let Err(error) = made.write(&mut lines) {
            println!("it cannot be written: {error}");
            return;
        }
        let begun = Instant::now();
        let read = match History::read(&lines[..]) {
            Ok(read) => read,
            Err(error) => {
                println!("it cannot be read: {error}");
                return;
            }
        };
        let reading = begun.elapsed();
        let begun = Instant::now();
        let verdict = check(&read);
        let judging = begun.elapsed();
        println!(
            "{} operations, {} MB: read in {:.2} s, judged in {:.2} s; {verdict}",
            read.ops().len(),
            lines.len() / 1_000_000,
            reading.as_secs_f64(),
            judging.as_secs_f64(),
        );
    }
}
