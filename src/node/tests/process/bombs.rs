//! Clients that send compressed batches with as much in them as is allowed, and one that sends
//! small ones: the small ones do not wait for the large.

#![allow(clippy::print_stdout, reason = "the figures are worth more than a pass")]

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use braid_protocol::records::Codec;

use super::crowd::{p99, pause, writes_during};
use super::{Broker, answer, command, create, produce_of};

const ATTACKERS: usize = 4;
/// Of content, just below what is refused.
const CONTENT_BYTES: usize = 99 << 20;

#[test]
fn batches_that_hold_a_hundred_megabytes_do_not_hold_others_up() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(command(dir.path(), &[]));
    create(&mut broker.connect(), "mine");
    create(&mut broker.connect(), "bombs");
    let bomb = produce_of("bombs", Codec::Gzip, &vec![0; CONTENT_BYTES]);
    assert!(bomb.len() < 200_000, "{} bytes", bomb.len());
    let (alone, ()) = writes_during(&broker, pause);
    let is_over = AtomicBool::new(false);
    let (amid, stored) = std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|_| {
                scope.spawn(|| {
                    let (mut stream, mut stored) = (broker.connect(), 0);
                    while !is_over.load(Ordering::Relaxed) {
                        stream.write_all(&bomb).unwrap();
                        answer(&mut stream).expect("it is within the limits");
                        stored += 1;
                    }
                    stored
                })
            })
            .collect();
        let (amid, ()) = writes_during(&broker, pause);
        is_over.store(true, Ordering::Relaxed);
        (amid, attackers.into_iter().map(|a| a.join().unwrap()).sum::<usize>())
    });
    let (alone, amid) = (p99(alone), p99(amid));
    let peak = broker.memory_bytes("VmHWM");
    println!("{stored} bombs; p99 of writes {alone:?} alone, {amid:?} amid them; {peak} B at most");
    assert!(stored >= ATTACKERS);
    assert!(amid < 2 * alone + std::time::Duration::from_millis(50), "{alone:?}, then {amid:?}");
    assert!(peak < 150_000_000, "{peak} bytes");
}
