//! One client that writes while a crowd that means harm arrives, and while it is there: how long its
//! writes take, beside the same client alone in the same run.
//!
//! The crowd comes from a process of its own with a low priority, so that the two do not wait for each
//! other on the load's processor.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::net::sockopt;

use crate::broker::{Broker, SERVER_CPU};
use crate::frames;

/// Bytes of each batch of the topic that the crowd reads.
const BATCH_BYTES: usize = 100_000;
/// Topics beside it, so that all metadata is much.
const OTHER_TOPICS: usize = 100;
/// How long the client writes alone, and amid the crowd.
const ROUND: Duration = Duration::from_secs(5);

/// Runs the rounds and prints a line for each state of the crowd.
pub(crate) fn run(
    program: &Path,
    dir: &Path,
    connections: usize,
    rate: Option<f64>,
    rounds: usize,
) {
    let dir = tempfile::tempdir_in(dir).unwrap();
    for round in 0..rounds {
        let data = dir.path().join(round.to_string());
        let more = ["max.connections=20000", "max.connections.per.ip=20000"];
        let broker = Broker::start_with(program, &data, Some(SERVER_CPU), &more);
        fill(&broker.address);
        let alone = writes_during(&broker.address, || std::thread::sleep(ROUND));
        let before = broker.cpu_seconds();
        let mut crowd = None;
        let arriving = writes_during(&broker.address, || {
            crowd = Some(Crowd::start(&broker.address, connections, rate));
        });
        let used = broker.cpu_seconds() - before;
        let amid = writes_during(&broker.address, || std::thread::sleep(ROUND));
        for (when, took) in [("alone", &alone), ("arriving", &arriving), ("amid", &amid)] {
            let at = |q| took.value_at_quantile(q);
            println!(
                "{connections} connections, {when}: {} writes, us p50 {} p99 {} max {}; p99 {:.2} of alone",
                took.len(),
                at(0.5),
                at(0.99),
                took.max(),
                at(0.99) as f64 / alone.value_at_quantile(0.99) as f64,
            );
        }
        println!(
            "the broker used {used:.2} CPU s while they came; peak memory {} MB",
            broker.memory_bytes("VmHWM") / 1_000_000
        );
        drop(crowd);
        broker.kill();
    }
}

fn ask(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn fill(address: &str) {
    let mut stream = connect(address);
    for topic in ["t", "empty", "mine"] {
        ask(&mut stream, &frames::create_topic(topic, 1));
    }
    for number in 0..OTHER_TOPICS {
        ask(&mut stream, &frames::create_topic(&format!("a-topic-with-a-long-name-{number}"), 1));
    }
    let batch = frames::batch(1, BATCH_BYTES);
    for _ in 0..100 {
        ask(&mut stream, &frames::produce("t", 0, -1, &batch));
    }
}

/// How long each write took, in microseconds, one after the other.
fn writes_during(address: &str, work: impl FnOnce()) -> Histogram<u64> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut stream = connect(address);
            let request = frames::produce("mine", 0, -1, &frames::batch(1, 100));
            let mut took = Histogram::new(3).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                let start = Instant::now();
                ask(&mut stream, &request);
                took.record(start.elapsed().as_micros() as u64).unwrap();
            }
            took
        });
        work();
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    })
}

/// The process that holds the crowd.
struct Crowd(std::process::Child);

impl Crowd {
    /// Returns when all have come.
    fn start(address: &str, connections: usize, rate: Option<f64>) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe().unwrap());
        command.args(["crowd-of", "--to", address, "--connections", &connections.to_string()]);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut told).unwrap();
        print!("{told}");
        Self(child)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The crowd: connects, does harm, says so, and stays until its input ends.
pub(crate) fn be(address: &str, connections: usize, rate: Option<f64>) {
    let _limit = braid_base::env::real::raise_descriptor_limit();
    let start = Instant::now();
    let mut held = Vec::new();
    for number in 0..connections {
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let Ok(stream) = TcpStream::connect(address) else { continue };
        sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
        stream.set_nonblocking(true).unwrap();
        // As much as the broker takes; it may hang up.
        drop((&stream).write(&harm(number)));
        held.push(stream);
    }
    println!("{} have come within {:.2} s", held.len(), start.elapsed().as_secs_f64());
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}

/// First something harmless, so that it is let stay; then what tests/process/crowd.rs sends.
fn harm(number: usize) -> Vec<u8> {
    let filler = vec![0_u8; 60_000];
    let harm = match number % 6 {
        0 => [&63_000_i32.to_be_bytes(), filler.as_slice()].concat(),
        1 => [&104_857_600_i32.to_be_bytes(), filler.as_slice()].concat(),
        2 => frames::fetch("t", 0, 0, 1 << 20).repeat(5),
        3 => frames::all_metadata().repeat(5),
        4 => [&frames::wait("empty", 10_000)[..], filler.as_slice()].concat(),
        _ => vec![0xff; 100],
    };
    [&frames::api_versions()[..], harm.as_slice()].concat()
}
