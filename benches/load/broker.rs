//! A broker started for a measurement, on a processor of its own, and what it used.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The processor of the measured server; the load runs on the other one.
pub(crate) const SERVER_CPU: &str = "1";

pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
}

impl Broker {
    /// Starts Braid on a directory and waits until it listens.
    pub(crate) fn start(program: &Path, data: &Path, cpu: Option<&str>) -> Self {
        Self::start_with(program, data, cpu, &[])
    }

    /// The same with more settings.
    pub(crate) fn start_with(
        program: &Path,
        data: &Path,
        cpu: Option<&str>,
        more: &[&str],
    ) -> Self {
        let settings = [
            "listeners=PLAINTEXT://127.0.0.1:0".to_owned(),
            "braid.native.listeners=http://127.0.0.1:0".to_owned(),
            format!("log.dirs={}", data.display()),
        ];
        let mut args = Vec::new();
        for setting in settings.into_iter().chain(more.iter().map(|more| (*more).to_owned())) {
            args.extend(["-X".to_owned(), setting]);
        }
        Self::spawn(program, &args, cpu)
    }

    /// Starts this program's null broker.
    pub(crate) fn start_null(cpu: Option<&str>) -> Self {
        let own = std::env::current_exe().unwrap();
        Self::spawn(&own, &["null".to_owned()], cpu)
    }

    /// Starts this program's server of a cached file.
    pub(crate) fn start_stream(cpu: Option<&str>) -> Self {
        let own = std::env::current_exe().unwrap();
        Self::spawn(&own, &["stream".to_owned()], cpu)
    }

    fn spawn(program: &Path, args: &[String], cpu: Option<&str>) -> Self {
        let mut command = match cpu {
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpu]).arg(program);
                command
            }
            None => Command::new(program),
        };
        // Both streams go to one pipe's reader: the null broker speaks on stdout, Braid on stderr.
        let mut child =
            command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let tell = tell.clone();
            std::thread::Builder::new()
                .spawn(move || {
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        if let Some((_, rest)) = line.split_once("listening on ") {
                            let address = rest.split_whitespace().next().unwrap_or("").to_owned();
                            drop(tell.send(address));
                        }
                    }
                })
                .unwrap();
        }
        let address = told.recv_timeout(Duration::from_secs(30)).expect("the broker did not start");
        Self { child, address }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn stat(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// Processor seconds used so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = self.stat("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    /// Memory in bytes now (`VmRSS`) or at its highest (`VmHWM`).
    pub(crate) fn memory_bytes(&self, which: &str) -> u64 {
        let status = self.stat("status");
        let line = status.lines().find(|l| l.starts_with(which)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// Seconds from starting the program to its first acknowledged message.
pub(crate) async fn seconds_to_first_ack(program: &Path, data: &Path) -> (f64, Broker) {
    let start = Instant::now();
    let broker = Broker::start(program, data, None);
    let shape = crate::Produce {
        to: broker.address.clone(),
        topic: "first".into(),
        partitions: 1,
        connections: 1,
        in_flight: 1,
        records: 1,
        size_bytes: 100,
        acks: -1,
        rate: None,
        seconds: 0.0001,
    };
    crate::client::create_topic(&shape).await;
    let figures = crate::client::produce(&shape).await;
    assert!(figures.requests > 0, "nothing was acknowledged");
    (start.elapsed().as_secs_f64(), broker)
}
