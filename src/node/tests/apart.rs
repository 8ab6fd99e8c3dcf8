//! A broker in a process of its own, on real sockets and a real disk, so that what it takes can be
//! measured: thrown at it is what `hostile` throws at one in the simulator.

#![allow(
    clippy::print_stdout,
    reason = "the address is for the parent, the figures for the reader"
)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::ask::batch;
use super::bent::Chance;
use super::client::Client;
use super::groups::find;
use super::world::config;
use crate::env::{Env, real};
use crate::node::Node;

/// Set in a copy of this program that is to be the broker: its data directory.
const BROKER_IN: &str = "BRAID_TEST_BROKER_IN";
/// How many bent frames are sent, for a longer run by hand.
const BENT_FRAMES: &str = "BRAID_TEST_BENT_FRAMES";
const ATTACKERS: u64 = 8;
/// Frames that an attacker sends before it takes what answers there are.
const FLIGHT: usize = 8;
/// A wait that was bent may be one of days: an attacker that hears nothing for so long hangs up.
const PATIENCE: Duration = Duration::from_millis(50);
/// The broker's memory at its highest, with small sizes set.
const MEMORY_MAX_BYTES: u64 = 150_000_000;
const LISTENING: &str = "the broker listens on ";

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The copy: a broker until its input ends.
fn serve(dir: &OsStr) {
    let settings = [
        ("log.dir", dir.to_str().unwrap()),
        // The records of the tests are stamped with a time long ago.
        ("log.retention.ms", "-1"),
        ("log.retention.bytes", "100000"),
        ("log.retention.check.interval.ms", "5000"),
        ("group.max.size", "10"),
    ];
    let runtime = runtime();
    let node = runtime.block_on(Node::start(real::env(), config(&settings))).unwrap();
    println!("{LISTENING}{}", node.addresses()[0]);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    runtime.block_on(node.stop());
}

/// The copy as its parent sees it.
struct Apart {
    child: Child,
    /// Kept open: the copy goes on to tell how its test went.
    _stdout: BufReader<ChildStdout>,
    address: String,
    log: std::path::PathBuf,
}

impl Apart {
    fn start(test: &str, dir: &Path) -> Self {
        let log = dir.join("stderr");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(BROKER_IN, dir.join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = stdout.by_ref().lines();
        let address = lines.find_map(|line| {
            line.unwrap().split_once(LISTENING).map(|(_, address)| address.to_owned())
        });
        let address = address.unwrap_or_else(|| panic!("{}", read(&log)));
        Self { child, _stdout: stdout, address, log }
    }

    async fn client(&self, env: &Env) -> Client {
        Client::connect(env, &self.address).await
    }

    fn memory_max_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let target = |file: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_link(file.unwrap().path()).unwrap_or_default()
        };
        files.map(target).filter(|to| to.starts_with("socket:")).count()
    }

    /// Wants an orderly end, and nothing bad to have been said until then.
    fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        let told = read(&self.log);
        assert!(status.success() && !told.contains("panicked"), "{status}: {told}");
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // A failed test leaves nothing running.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Throws frames until so many were looked at; how many of them were answered.
async fn attack(env: Env, address: String, seed: u64, id: Uuid, frames: usize) -> usize {
    let chance = Chance::from_seed(seed);
    let (mut answers, mut ended) = (0, 0);
    while answers + ended < frames {
        let mut attacker = Client::connect(&env, &address).await;
        let flight: Vec<u8> = (0..FLIGHT).flat_map(|_| chance.frame(id)).collect();
        attacker.send_bytes(&flight).await;
        attacker.finish_sending().await;
        let mut answered = 0;
        while let Ok(Some(_)) = tokio::time::timeout(PATIENCE, attacker.receive_frame()).await {
            answered += 1;
        }
        answers += answered;
        // The frame that is refused, or waits, is the last of its flight that is looked at.
        ended += usize::from(answered < FLIGHT);
    }
    answers
}

/// Somebody who means well and is served in turn.
struct Bystander {
    client: Client,
    env: Env,
    served: i64,
    took: Vec<Duration>,
}

impl Bystander {
    /// A write, and a read of it.
    async fn go_on(&mut self) {
        let start = self.env.clock.monotonic();
        assert_eq!(self.client.produce("quiet", 0, batch(&["mine"])).await, self.served);
        let part = self.client.fetch("quiet", 0, self.served).await;
        self.served += 1;
        assert_eq!((part.error_code, part.high_watermark), (0, self.served));
        self.took.push(self.env.clock.monotonic() - start);
    }

    /// The 99th percentile and the longest since the last look, and how many there were.
    fn look(&mut self) -> (Duration, Duration, usize) {
        let mut took = std::mem::take(&mut self.took);
        took.sort();
        (took[took.len() * 99 / 100], took[took.len() - 1], took.len())
    }
}

#[test]
fn bent_requests_from_all_sides_disturb_nobody() {
    if let Some(dir) = std::env::var_os(BROKER_IN) {
        return serve(&dir);
    }
    let this = "node::tests::apart::bent_requests_from_all_sides_disturb_nobody";
    let frames: usize =
        std::env::var(BENT_FRAMES).map_or(100_000, |frames| frames.parse().expect("a number"));
    let dir = tempfile::tempdir().unwrap();
    let (env, runtime) = (real::env(), runtime());
    let broker = Apart::start(this, dir.path());
    runtime.block_on(async {
        let mut client = broker.client(&env).await;
        find(&mut client).await;
        let topic = client.create("t", 2, &[]).await;
        // Some requests are good ones, and delete what they find; nobody finds this.
        client.create("quiet", 1, &[]).await;
        let mut bystander = Bystander { client, env: env.clone(), served: 0, took: Vec::new() };
        for _ in 0..500 {
            bystander.go_on().await;
        }
        let alone = bystander.look();
        let (start, before) = (env.clock.monotonic(), broker.sockets());
        let mut attackers = JoinSet::new();
        for seed in 0..ATTACKERS {
            let (env, address) = (env.clone(), broker.address.clone());
            let share = frames / usize::try_from(ATTACKERS).unwrap();
            attackers.spawn(attack(env, address, seed, topic, share));
        }
        let mut answers = 0;
        while !attackers.is_empty() {
            bystander.go_on().await;
            while let Some(done) = attackers.try_join_next() {
                answers += done.unwrap();
            }
        }
        let amid = bystander.look();
        let took = env.clock.monotonic() - start;
        // Waits of days end with the connections that wait.
        while broker.sockets() > before {
            bystander.go_on().await;
        }
        let peak = broker.memory_max_bytes();
        println!(
            "{frames} bent frames, {answers} answered, in {took:?}; a write and a read took \
             {alone:?} alone, {amid:?} amid them (p99, longest, count); {peak} B at most"
        );
        // Both sides of the border were visited: a refused frame ends its connection.
        assert!((frames / 5..frames / 5 * 4).contains(&answers), "{answers} answers");
        assert!(peak < MEMORY_MAX_BYTES, "{peak} bytes");
        // The machine is shared by all of them, so time says little; who starves waits longer.
        assert!(amid.0 < Duration::from_secs(1) && amid.1 < Duration::from_secs(10), "{amid:?}");
        let served = bystander.served;
        drop(bystander);
        broker.stop();

        let broker = Apart::start(this, dir.path());
        let mut client = broker.client(&env).await;
        let part = client.fetch("quiet", 0, served).await;
        assert_eq!((part.error_code, part.high_watermark), (0, served));
        drop(client);
        broker.stop();
    });
}
