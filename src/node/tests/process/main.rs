//! The broker as a process: what it tells whoever started it, how signals end it, and with which
//! exit code.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod bombs;
mod crowd;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use braid_protocol::records::{BatchSpec, BatchWriter, Codec};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest, ProduceResponse,
    RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

/// Set in a copy of this program that is to die as a broker dies.
const DIE: &str = "BRAID_TEST_DIE";

struct Broker {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
}

/// Where the native API is in most tests: on this machine only, as if nothing was said.
const NATIVE: &str = "braid.native.listeners=http://127.0.0.1:0";

fn command(data: &Path, settings: &[&str]) -> Command {
    command_of(data, &[&[NATIVE], settings].concat())
}

fn command_of(data: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_braid"));
    command.arg("--data-dir").arg(data).args(["--listen", "127.0.0.1:0"]);
    for setting in settings {
        command.args(["-X", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Broker {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut broker = Self { child, stderr, address: String::new() };
        let mut told = String::new();
        while broker.address.is_empty() {
            let mut line = String::new();
            assert_ne!(broker.stderr.read_line(&mut line).unwrap(), 0, "did not start:\n{told}");
            told.push_str(&line);
            if let Some((_, address)) = line.split_once("listening on ") {
                broker.address = address.trim().to_owned();
            }
        }
        broker
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory in bytes now (`VmRSS`) or at its highest (`VmHWM`).
    fn memory_bytes(&self, which: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(which)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// How it ended, and what it said until then.
    fn end(mut self) -> (ExitStatus, String) {
        let mut told = String::new();
        self.stderr.read_to_string(&mut told).unwrap();
        (self.child.wait().unwrap(), told)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A failed test leaves nothing running.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn frame<R: Request>(version: i16, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("process")));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    let length = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// The next answer, or none when the broker has hung up.
fn answer(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    Some(answer)
}

/// A fetch of up to a megabyte from the beginning.
fn fetch(topic: &str, max_wait_ms: i32, min_bytes: i32) -> Bytes {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_topics(vec![topic]);
    let request = request.with_max_wait_ms(max_wait_ms).with_min_bytes(min_bytes);
    frame(4, &request.with_max_bytes(1 << 20))
}

/// A batch of one record of today.
fn batch(codec: Codec, value: &[u8]) -> Bytes {
    let mut writer = BatchWriter::new(BatchSpec { codec, ..BatchSpec::default() });
    let now_ms = braid_base::env::real::env().clock.wall_ms();
    writer.append(now_ms, None, Some(value), &[]).unwrap();
    writer.finish().unwrap()
}

/// A write of one record to the topic's first partition.
fn produce(topic: &str, value: &[u8]) -> Bytes {
    produce_of(topic, Codec::None, value)
}

fn produce_of(topic: &str, codec: Codec, value: &[u8]) -> Bytes {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let partition = PartitionProduceData::default().with_records(Some(batch(codec, value)));
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000);
    frame(7, &request.with_topic_data(vec![topic]))
}

fn create(stream: &mut TcpStream, topic: &str) {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let topic = MetadataRequestTopic::default().with_name(Some(name));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    stream.write_all(&frame(4, &request)).unwrap();
    answer(stream).unwrap();
}

fn told(socket: &UnixDatagram) -> String {
    let mut told = [0; 64];
    let len = socket.recv(&mut told).unwrap();
    String::from_utf8_lossy(&told[..len]).into_owned()
}

#[test]
fn a_term_signal_answers_what_is_under_way_tells_the_service_manager_and_ends_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let socket_path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&socket_path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = command(&dir.path().join("data"), &[]);
    command.env("NOTIFY_SOCKET", &socket_path);
    let broker = Broker::start(command);
    assert_eq!(told(&socket), "READY=1\n");

    let mut waiting = broker.connect();
    create(&mut waiting, "t");
    // Both arrive at once, so the first one's answer says that the second is under way.
    let together = [frame(0, &ApiVersionsRequest::default()), fetch("t", 60_000, 1)].concat();
    waiting.write_all(&together).unwrap();
    answer(&mut waiting).unwrap();
    let mut idle = broker.connect();
    idle.write_all(&frame(0, &ApiVersionsRequest::default())).unwrap();
    answer(&mut idle).unwrap();
    let mut half = broker.connect();
    half.write_all(&[0, 0, 1]).unwrap();

    broker.signal(Signal::TERM);
    assert_eq!(told(&socket), "STOPPING=1\n");
    let polled = answer(&mut waiting).expect("the fetch under way is answered");
    assert_eq!(polled[..4], 7_i32.to_be_bytes());
    for stream in [&mut waiting, &mut idle, &mut half] {
        assert_eq!(answer(stream), None, "then the broker hangs up");
    }
    let address = broker.address.clone();
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopping: SIGTERM") && log.contains("stopped"), "{log}");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn an_interrupt_is_an_orderly_end_too_and_the_next_start_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(command(dir.path(), &[]));
    let mut client = broker.connect();
    create(&mut client, "kept");
    broker.signal(Signal::INT);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let broker = Broker::start(command(dir.path(), &[]));
    let mut client = broker.connect();
    client.write_all(&frame(4, &MetadataRequest::default().with_topics(None))).unwrap();
    let answer = answer(&mut client).unwrap();
    assert!(answer.windows(4).any(|name| name == b"kept"));
}

#[test]
fn what_cannot_start_says_why_and_ends_with_1_or_2() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(command(&dir.path().join("data"), &[]));
    let taken = format!("listeners=PLAINTEXT://{}", broker.address);
    let (data, other) = (dir.path().join("data"), dir.path().join("other"));
    let cases: [(&Path, &[&str], i32, &str); 4] = [
        (&data, &[], 1, "in use"),
        (&other, &[&taken], 1, "cannot listen on"),
        (&other, &["num.partitions=0"], 2, "num.partitions"),
        (&other, &["no equals sign"], 2, "KEY=VALUE"),
    ];
    for (dir, settings, code, word) in cases {
        let output = command(dir, settings).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn the_native_api_is_open_to_other_machines_only_to_who_asks_twice() {
    let dir = tempfile::tempdir().unwrap();
    let open = "braid.native.listeners=http://0.0.0.0:0";
    let output = command_of(dir.path(), &[open]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    let known = "braid.native.i.know.there.is.no.authentication=true";
    for word in ["http://0.0.0.0:0", "other machines would reach the native API", known] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was begun");

    let broker = Broker::start(command_of(dir.path(), &[open, known]));
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_critical_part_that_fails_ends_the_process_with_74() {
    if std::env::var_os(DIE).is_some() {
        braid_base::env::real::env().spawner.fatal("a disk is gone");
    }
    let this = "a_critical_part_that_fails_ends_the_process_with_74";
    let mut copy = Command::new(std::env::current_exe().unwrap());
    let output = copy.args(["--exact", this]).env(DIE, "1").output().unwrap();
    assert_eq!(output.status.code(), Some(74));
}

/// The base offset of a write that was taken; `None` where the broker has hung up.
fn written(stream: &mut TcpStream, topic: &str, value: &[u8]) -> Option<i64> {
    stream.write_all(&produce(topic, value)).ok()?;
    let answer = answer(stream)?;
    let answer = ProduceResponse::decode(&mut &answer[4..], 7).unwrap();
    let part = &answer.responses[0].partition_responses[0];
    (part.error_code == 0).then_some(part.base_offset)
}

#[test]
fn a_write_that_the_disk_refuses_ends_the_process_with_74_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(command(dir.path(), &[]));
    let mut client = broker.connect();
    create(&mut client, "t");
    for offset in 0..10 {
        assert_eq!(written(&mut client, "t", b"kept"), Some(offset));
    }
    // From now on no file may be written to at all.
    let none = Rlimit { current: Some(0), maximum: getrlimit(Resource::Fsize).maximum };
    let pid = Pid::from_raw(i32::try_from(broker.id()).unwrap());
    prlimit(pid, Resource::Fsize, none).unwrap();
    assert_eq!(written(&mut client, "t", b"refused"), None, "it is not on disk");
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(74), "{status}: {log}");
    let last = log.lines().rfind(|line| line.contains("ERROR")).unwrap_or_default();
    for word in ["write", "commitlog", "File too large"] {
        assert!(last.contains(word), "{word}: {log}");
    }

    let broker = Broker::start(command(dir.path(), &[]));
    let next = written(&mut broker.connect(), "t", b"on it goes").unwrap();
    // What was refused may have reached the disk, or not.
    assert!((10..=11).contains(&next), "{next}");
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_term_signal_before_it_is_ready_ends_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let holder = Broker::start(command(dir.path(), &[]));
    // It waits a while for the directory, as after a restart in haste.
    let mut child = command(dir.path(), &["braid.no.such.key=1"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("braid.no.such.key") {
        assert_ne!(stderr.read_line(&mut told).unwrap(), 0, "{told}");
    }
    let early = Broker { child, stderr, address: String::new() };
    early.signal(Signal::TERM);
    let (status, log) = early.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("listening on"), "{log}");
    assert!(TcpStream::connect(&holder.address).is_ok(), "the other is not touched");
}

#[test]
fn a_low_limit_of_open_files_is_told_and_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    let braid = command(dir.path(), &[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 150 && exec \"$0\" \"$@\""]).arg(braid.get_program());
    limited.args(braid.get_args()).stdin(Stdio::null()).stderr(Stdio::piped());
    let broker = Broker::start(limited);
    let address = broker.address.clone();
    // More than there are descriptors: each is accepted, or closed at once, and nothing spins.
    let held: Vec<_> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut client = broker.connect();
    client.write_all(&frame(0, &ApiVersionsRequest::default())).unwrap();
    assert!(answer(&mut client).is_some(), "who speaks is served, whoever is silent goes");
    drop(held);
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("cannot accept"), "{log}");
}
