//! The broker under test as a real process: started on a free port in a fresh directory, waited for by its own words,
//! killed, started again on the same directory and port, measured from `/proc`.
//!
//! `BRAID_COMPAT_SERVER=kafka` puts Apache Kafka in its place. `BRAID_BIN` names a binary to use instead of building one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::install;
use crate::log::Log;

const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings that every scenario starts from.
const COMMON: [(&str, &str); 3] = [
    ("num.partitions", "4"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "true"),
];

/// Which broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Braid,
    Kafka,
}

/// The broker that the environment asks for.
#[must_use]
pub fn kind() -> Kind {
    match std::env::var("BRAID_COMPAT_SERVER").as_deref() {
        Ok("kafka") => Kind::Kafka,
        _ => Kind::Braid,
    }
}

/// What a broker used, summed over its incarnations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub peak_memory_bytes: u64,
    pub cpu_seconds: f64,
}

/// One broker and its directory. Dropping it kills the process and removes the directory.
#[derive(Debug)]
pub struct Server {
    settings: BTreeMap<String, String>,
    dir: TempDir,
    port: u16,
    /// Of the native API; 0 before the first start, and with Kafka.
    native_port: u16,
    child: Option<Child>,
    log: Log,
    past: Usage,
}

impl Server {
    /// Starts a fresh broker with Kafka's keys as settings.
    ///
    /// # Errors
    /// When it cannot be built or installed, or does not become ready; the error carries its output.
    pub fn start(settings: &[(&str, &str)]) -> Result<Server> {
        let settings = COMMON
            .iter()
            .chain(settings)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let dir = tempfile::Builder::new().prefix("broker-").tempdir_in(install::scratch()?)?;
        let port = match kind() {
            Kind::Braid => 0,
            Kind::Kafka => free_port()?,
        };
        let mut server = Server {
            settings,
            dir,
            port,
            native_port: 0,
            child: None,
            log: Log::default(),
            past: Usage::default(),
        };
        server.restart()?;
        Ok(server)
    }

    /// `host:port` for clients; the same after a restart.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://host:port` of the native API; the same after a restart.
    #[must_use]
    pub fn native(&self) -> String {
        format!("http://127.0.0.1:{}", self.native_port)
    }

    /// A setting from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.insert(key.to_owned(), value.to_owned());
    }

    /// Destroys, in a broker that does not run, the header of each frame of the log that holds a text: the frames
    /// are lost.
    ///
    /// # Errors
    /// When there is no such frame.
    pub fn lose_frames_of(&self, text: &str) -> Result<()> {
        assert!(self.child.is_none(), "the broker still runs");
        let mut lost = 0;
        for entry in std::fs::read_dir(self.dir.path().join("data/commitlog"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let mut bytes = std::fs::read(&path)?;
            let holds = |(at, found): (usize, &[u8])| (found == text.as_bytes()).then_some(at);
            let places: Vec<usize> =
                bytes.windows(text.len()).enumerate().filter_map(holds).collect();
            let begins = |at: usize| bytes[..at].windows(4).rposition(|it| it == b"BFR\x01");
            let frames: BTreeSet<usize> = places.into_iter().filter_map(begins).collect();
            lost += frames.len();
            for frame in frames {
                bytes[frame + 9] ^= 8;
            }
            std::fs::write(&path, bytes)?;
        }
        ensure!(lost > 0, "{text} is nowhere in the log");
        Ok(())
    }

    /// Starts a killed or stopped broker again on its directory and port.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<()> {
        assert!(self.child.is_none(), "the broker still runs");
        let mark = self.log.mark();
        let mut command = match kind() {
            Kind::Braid => self.braid()?,
            Kind::Kafka => self.kafka()?,
        };
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        self.log.follow(child.stdout.take().context("stdout is piped")?);
        self.log.follow(child.stderr.take().context("stderr is piped")?);
        self.child = Some(child);
        let ready = self.log.wait(mark, READY_TIMEOUT, |line| match kind() {
            Kind::Braid => {
                line.split_once("listening on 127.0.0.1:").map(|(_, port)| port_of(port))
            }
            Kind::Kafka => line.contains("Kafka Server started").then_some(Ok(self.port)),
        });
        self.port = ready
            .and_then(|port| port)
            .with_context(|| format!("the broker did not start:\n{}", self.log.tail(50)))?;
        if kind() == Kind::Braid {
            self.native_port = self
                .log
                .wait(mark, READY_TIMEOUT, |line| {
                    let (_, port) = line.split_once("the native API is at http://127.0.0.1:")?;
                    Some(port_of(port))
                })
                .and_then(|port| port)
                .with_context(|| format!("no native API:\n{}", self.log.tail(50)))?;
        }
        Ok(())
    }

    /// Ends the process without warning (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When it has already ended by itself.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// Asks the process to end (SIGTERM) and waits for a clean exit.
    ///
    /// # Errors
    /// When it has already ended by itself or ends with a failure.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        self.past = self.usage()?;
        let mut child = self.child.take().context("the broker does not run")?;
        if let Some(status) = child.try_wait()? {
            bail!("the broker had ended by itself: {status}\n{}", self.log.tail(50));
        }
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id is positive")?;
        kill_process(pid, signal)?;
        let status = child.wait()?;
        // A JVM reports the signal that it was asked to end by.
        let clean = status.success() || kind() == Kind::Kafka;
        ensure!(
            signal == Signal::KILL || clean,
            "stopping ended with {status}\n{}",
            self.log.tail(50)
        );
        Ok(())
    }

    /// Memory and processor time so far.
    ///
    /// # Errors
    /// When `/proc` says nothing of the process: it has ended.
    pub fn usage(&self) -> Result<Usage> {
        let Some(child) = &self.child else { return Ok(self.past) };
        let gone = || format!("the broker has ended:\n{}", self.log.tail(50));
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).with_context(gone)?;
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")).with_context(gone)?;
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        let after_name = stat.rsplit_once(')').context("stat names the program")?.1;
        let ticks: u64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<u64>().ok())
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "a report, two digits matter")]
        let seconds = ticks as f64 / 100.0;
        Ok(Usage {
            peak_memory_bytes: self.past.peak_memory_bytes.max(peak_kib * 1024),
            cpu_seconds: self.past.cpu_seconds + seconds,
        })
    }

    /// Bytes of all files of the broker, as `ls` counts them.
    ///
    /// # Errors
    /// When its directory cannot be read.
    pub fn disk_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        let mut dirs = vec![self.dir.path().to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                // Files go while they are counted.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    dirs.push(entry.path());
                } else {
                    bytes += metadata.len();
                }
            }
        }
        Ok(bytes)
    }

    /// The last lines that the broker printed.
    #[must_use]
    pub fn log_tail(&self, count: usize) -> String {
        self.log.tail(count)
    }

    fn braid(&self) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.current_dir(self.dir.path());
        let own = [
            ("listeners", format!("PLAINTEXT://127.0.0.1:{}", self.port)),
            ("braid.native.listeners", self.native()),
            ("log.dirs", self.dir.path().join("data").display().to_string()),
        ];
        for (key, value) in own
            .iter()
            .map(|(k, v)| (*k, v))
            .chain(self.settings.iter().map(|(k, v)| (k.as_str(), v)))
        {
            command.arg("-X").arg(format!("{key}={value}"));
        }
        Ok(command)
    }

    fn kafka(&self) -> Result<Command> {
        let jars = install::kafka_server()?.join("*");
        let properties = self.dir.path().join("server.properties");
        let java = |main: &str| {
            let mut command = Command::new("java");
            command.current_dir(self.dir.path()).args([
                "-Xmx1g",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=4",
            ]);
            command.arg(format!(
                "-Dlog4j2.configurationFile={}",
                install::kafka_server_logging().display()
            ));
            command.arg("-cp").arg(&jars).arg(main);
            command
        };
        if !properties.exists() {
            let controller = free_port()?;
            let mut text = format!(
                "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
                 listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
                 log.dirs={}\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
                 transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
                 share.coordinator.state.topic.min.isr=1\n",
                self.port,
                self.dir.path().join("data").display()
            );
            for (key, value) in &self.settings {
                text += &format!("{key}={value}\n");
            }
            std::fs::write(&properties, text)?;
            let mut format = java("kafka.tools.StorageTool");
            format
                .args(["format", "--standalone", "-t", "braidCompatCluster0000A", "-c"])
                .arg(&properties);
            install::run(&mut format)?;
        }
        let mut command = java("kafka.Kafka");
        command.arg(&properties);
        Ok(command)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; then there is nothing to end.
            let _ended = child.kill().and_then(|()| child.wait());
        }
        if let (Ok(logs), Some(name)) = (install::logs(), self.dir.path().file_name()) {
            // A log that cannot be kept is no reason to fail.
            let _kept = self.log.save(&logs.join(name).with_extension("log"));
        }
    }
}

fn port_of(text: &str) -> Result<u16> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("the broker named the port {text:?}"))
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The program, built with the profile and in the target directory of the running test.
///
/// # Errors
/// When it does not build.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("BRAID_BIN") {
            return Ok(PathBuf::from(path));
        }
        build_braid().map_err(|error| format!("{error:#}"))
    });
    built.clone().map_err(anyhow::Error::msg)
}

fn build_braid() -> Result<PathBuf> {
    let target = install::target_dir()?;
    let profile_dir = install::profile_dir()?;
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // A test of the workspace beside the program makes cargo choose the features that `cargo test --workspace` chose, so
    // that nothing is compiled a second time.
    cargo.args(["build", "--quiet", "--workspace", "--bin", "braid", "--test", "clients"]);
    cargo.args(["--profile", profile, "--manifest-path"]);
    cargo.arg(install::package_dir().join("../Cargo.toml")).arg("--target-dir").arg(target);
    install::run(&mut cargo)?;
    Ok(profile_dir.join("braid"))
}
