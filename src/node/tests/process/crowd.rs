//! A crowd of ten thousand connections that mean harm, and one client that means well: the
//! broker's memory stays bounded, the client is served, and when the crowd is gone so is its cost.

#![allow(clippy::print_stdout, reason = "the figures are worth more than a pass")]

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use rustix::net::sockopt;
use rustix::process::Signal;

use super::{Broker, answer, command, create, fetch, frame, produce};

const CROWD: usize = 10_000;
/// Of the crowd, so many at least have a place with the broker while it is there: those that send
/// rubbish lose theirs, and those that take no answers may.
const STAY_MIN: usize = CROWD / 3;
/// The broker's memory at its highest.
const MEMORY_MAX_BYTES: u64 = 300_000_000;
/// Batches of this size fill the topic that the crowd reads.
const VALUE_BYTES: usize = 100_000;

/// What one of the crowd sends: first something harmless, so that it is let stay.
fn harm(number: usize) -> Bytes {
    let polite = frame(0, &ApiVersionsRequest::default());
    let filler = vec![0_u8; 60_000];
    let harm = match number % 6 {
        // Part of a request, which never ends.
        0 => [&63_000_i32.to_be_bytes(), filler.as_slice()].concat(),
        // The largest request there may be.
        1 => [&104_857_600_i32.to_be_bytes(), filler.as_slice()].concat(),
        // Much is asked for, nothing is taken.
        2 => fetch("t", 0, 1).repeat(5),
        3 => frame(4, &MetadataRequest::default().with_topics(None)).repeat(5),
        // A wait, and much behind it.
        4 => [&fetch("empty", 10_000, 1), filler.as_slice()].concat(),
        // Rubbish, one connection after the other.
        _ => vec![0xff; 100],
    };
    Bytes::from([&polite, harm.as_slice()].concat())
}

fn join(broker: &Broker, number: usize) -> Option<TcpStream> {
    let stream = TcpStream::connect(&broker.address).ok()?;
    // What the kernel holds for the crowd is not the broker's, but it is this machine's.
    sockopt::set_socket_recv_buffer_size(&stream, 4096).ok()?;
    stream.set_nonblocking(true).ok()?;
    let mut sending = &stream;
    // As much as the broker takes; it may hang up.
    drop(sending.write(&harm(number)));
    Some(stream)
}

/// Writes until told to stop, and says how long each write took, in order.
fn write(broker: &Broker, is_over: &AtomicBool) -> Vec<Duration> {
    let mut stream = broker.connect();
    let request = produce("mine", &[b'x'; 100]);
    let (mut took, clock) = (Vec::new(), braid_base::env::real::env().clock);
    while !is_over.load(Ordering::Relaxed) {
        let start = clock.monotonic();
        stream.write_all(&request).unwrap();
        answer(&mut stream).expect("who means well is served");
        took.push(clock.monotonic() - start);
    }
    took
}

pub(super) fn writes_during<T>(broker: &Broker, work: impl FnOnce() -> T) -> (Vec<Duration>, T) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(broker, &is_over));
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), done)
    })
}

pub(super) fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() * 99 / 100]
}

/// Two seconds.
pub(super) fn pause() {
    let (_open, nothing) = mpsc::channel::<()>();
    assert!(nothing.recv_timeout(Duration::from_secs(2)).is_err());
}

/// Asks for something small, and wants to be answered.
fn answer_of(client: &mut TcpStream) {
    client.write_all(&frame(0, &ApiVersionsRequest::default())).unwrap();
    answer(client).expect("who means well is served");
}

/// The whole crowd, or as many as the system allows a process sockets: then the test says less
/// than its name, which may be on somebody's desk and not where changes are judged.
fn crowd_size() -> usize {
    let sockets = braid_base::env::real::raise_descriptor_limit().unwrap_or(u64::MAX);
    let room = usize::try_from(sockets / 4 * 3).unwrap().saturating_sub(100);
    if room < CROWD {
        let short = format!(
            "{sockets} open files are too few for a crowd of {CROWD}: raise the hard limit (ulimit -Hn)"
        );
        assert!(std::env::var_os("CI").is_none(), "{short}");
        println!("{short}; {room} come");
    }
    room.min(CROWD)
}

fn descriptors(broker: &Broker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", broker.id())).unwrap().count()
}

#[test]
fn ten_thousand_that_mean_harm_take_bounded_memory_and_leave_the_others_alone() {
    let crowd = crowd_size();
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        "max.connections=20000",
        "max.connections.per.ip=20000",
        "braid.commitlog.segment.bytes=16777216",
    ];
    let broker = Broker::start(command(dir.path(), &settings));
    let mut client = broker.connect();
    for topic in ["t", "empty", "mine"] {
        create(&mut client, topic);
    }
    for number in 0..100 {
        create(&mut client, &format!("a-topic-with-a-long-name-{number}"));
    }
    for _ in 0..100 {
        client.write_all(&produce("t", &vec![b'x'; VALUE_BYTES])).unwrap();
        answer(&mut client).unwrap();
    }
    let idle = broker.memory_bytes("VmRSS");
    let (alone, ()) = writes_during(&broker, pause);
    let (arriving, held) = writes_during(&broker, || -> Vec<TcpStream> {
        (0..crowd).filter_map(|number| join(&broker, number)).collect()
    });
    let (amid, ()) = writes_during(&broker, pause);
    assert_eq!(held.len(), crowd, "who comes is let in");
    let stayed = descriptors(&broker);
    let peak = broker.memory_bytes("VmHWM");
    let (alone, arriving, amid) = (p99(alone), p99(arriving), p99(amid));
    println!(
        "{crowd} connections, {stayed} open files: {idle} B before, {peak} B at most; p99 of writes \
         {alone:?} alone, {arriving:?} while they come, {amid:?} while they are there"
    );
    assert!(stayed > STAY_MIN * crowd / CROWD, "{stayed} open files for a crowd of {crowd}");
    assert!(peak < MEMORY_MAX_BYTES, "{peak} bytes");
    // They keep every processor busy while they come, so time says little on a shared machine.
    assert!(arriving < Duration::from_secs(2), "{arriving:?}");
    assert!(amid < 2 * alone + Duration::from_millis(20), "{alone:?}, then {amid:?}");

    drop(held);
    // Then as many come and go at once, some with a word, some without.
    for number in 0..crowd / 2 {
        let Ok(stream) = TcpStream::connect(&broker.address) else { continue };
        if number % 2 == 0 {
            drop((&stream).write(&harm(number)[..20]));
        }
    }
    while descriptors(&broker) > 100 {
        answer_of(&mut client);
    }
    answer_of(&mut broker.connect());
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// How a connection of the many ends.
fn come_and_go(address: &str, number: usize) -> std::io::Result<()> {
    let stream = TcpStream::connect(address)?;
    let mut sending = &stream;
    match number % 5 {
        // Without a word.
        0 => {}
        // In the midst of a request.
        1 => drop(sending.write(&harm(number)[..30])?),
        // With an answer that nobody takes.
        2 => drop(sending.write(&frame(0, &ApiVersionsRequest::default()))?),
        // With much asked for.
        3 => drop(sending.write(&fetch("t", 0, 1).repeat(3))?),
        // As rubbish.
        _ => drop(sending.write(&[0xff; 100])?),
    }
    if number.is_multiple_of(2) {
        // A reset instead of an end.
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    Ok(())
}

#[test]
fn many_that_come_and_go_leave_no_descriptor_and_no_memory_behind() {
    const EACH: usize = 1_000;
    const ROUNDS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(command(dir.path(), &["braid.commitlog.segment.bytes=16777216"]));
    let mut client = broker.connect();
    create(&mut client, "t");
    for _ in 0..10 {
        client.write_all(&produce("t", &vec![b'x'; VALUE_BYTES])).unwrap();
        answer(&mut client).unwrap();
    }
    let before = descriptors(&broker);
    let mut memory = Vec::new();
    for _ in 0..ROUNDS {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let address = &broker.address;
                scope.spawn(move || {
                    for number in (thread..EACH).step_by(4) {
                        come_and_go(address, number).unwrap();
                    }
                });
            }
        });
        while descriptors(&broker) > before {
            answer_of(&mut client);
        }
        memory.push(broker.memory_bytes("VmRSS"));
    }
    println!("{} connections in turn: {memory:?}", EACH * ROUNDS);
    // What the first rounds took serves the later ones.
    let (settled, last) = (memory[ROUNDS / 4], memory[ROUNDS - 1]);
    assert!(last < settled + (4 << 20), "{memory:?}");
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}
