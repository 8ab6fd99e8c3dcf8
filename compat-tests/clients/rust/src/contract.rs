//! Command loop, record files, acks files.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

pub const LOCAL_ERROR: i64 = -1000;

/// An error with Kafka's code, or [`LOCAL_ERROR`].
#[derive(Debug)]
pub struct Failed {
    pub code: i64,
    pub message: String,
}

impl Failed {
    pub fn local(message: impl fmt::Display) -> Failed {
        Failed { code: LOCAL_ERROR, message: message.to_string() }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        Failed::local(error)
    }
}

pub type Answer = Result<Value, Failed>;

static STOPS: LazyLock<Mutex<HashMap<u64, Arc<AtomicBool>>>> = LazyLock::new(Mutex::default);

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("stdout is open");
}

/// Runs every command of stdin on a thread of its own, until stdin ends.
pub fn serve(run: fn(&Command) -> Answer) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let command = Command(serde_json::from_str(&line).expect("a command is JSON"));
        std::thread::spawn(move || {
            let id = command.id();
            let answer = match command.text("op") {
                "stop" => {
                    command.stop_flag(command.number("target") as u64).store(true, Ordering::SeqCst);
                    Ok(json!({}))
                }
                _ => run(&command),
            };
            say(&match answer {
                Ok(facts) => json!({"id": id, "ok": facts}),
                Err(failed) => {
                    eprintln!("{}", failed.message);
                    json!({"id": id, "error": {"code": failed.code, "message": failed.message}})
                }
            });
        });
    }
    std::process::exit(0);
}

/// One command as it came.
pub struct Command(Value);

impl Command {
    pub fn id(&self) -> u64 {
        self.0["id"].as_u64().expect("a command has an id")
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    pub fn text_or<'a>(&'a self, name: &str, other: &'a str) -> &'a str {
        self.0[name].as_str().unwrap_or(other)
    }

    pub fn number(&self, name: &str) -> i64 {
        self.0[name].as_i64().unwrap_or_default()
    }

    pub fn number_or(&self, name: &str, other: i64) -> i64 {
        self.0[name].as_i64().unwrap_or(other)
    }

    pub fn is(&self, name: &str, other: bool) -> bool {
        self.0[name].as_bool().unwrap_or(other)
    }

    pub fn list(&self, name: &str) -> Vec<&Value> {
        self.0[name].as_array().map(|list| list.iter().collect()).unwrap_or_default()
    }

    pub fn texts(&self, name: &str) -> Vec<&str> {
        self.list(name).into_iter().filter_map(Value::as_str).collect()
    }

    pub fn partitions(&self) -> Vec<i32> {
        self.list("partitions").into_iter().filter_map(Value::as_i64).map(|p| p as i32).collect()
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.number_or("timeout_ms", 60_000) as u64)
    }

    fn stop_flag(&self, id: u64) -> Arc<AtomicBool> {
        Arc::clone(STOPS.lock().expect("no holder panics").entry(id).or_default())
    }

    /// Becomes true when the command is told to stop.
    pub fn stopped(&self) -> Arc<AtomicBool> {
        self.stop_flag(self.id())
    }

    pub fn event(&self, name: &str, facts: Value) {
        event(self.id(), name, facts);
    }
}

/// An event of the command `id`.
pub fn event(id: u64, name: &str, mut facts: Value) {
    facts["id"] = json!(id);
    facts["event"] = json!(name);
    say(&facts);
}

#[derive(Default)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub timestamp_type: i8,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The records that a produce command names.
pub fn records(command: &Command) -> Result<Box<dyn Iterator<Item = Record>>, Failed> {
    if let Some(numbers) = command.get("numbers") {
        let n = Command(numbers.clone());
        let topic = n.text("topic").to_owned();
        let prefix = n.text("prefix").to_owned();
        let (keys, size) = (n.number("keys"), n.number("value_bytes") as usize);
        return Ok(Box::new((0..n.number("count")).map(move |i| {
            let mut value = format!("{prefix}-{i}");
            while value.len() < size {
                value.push('.');
            }
            Record {
                topic: topic.clone(),
                partition: -1,
                timestamp: -1,
                key: Some(format!("k{}", i % keys).into_bytes()),
                value: Some(value.into_bytes()),
                ..Record::default()
            }
        })));
    }
    let mut file = BufReader::with_capacity(1 << 20, File::open(command.text("input"))?);
    Ok(Box::new(std::iter::from_fn(move || {
        let mut size = [0; 4];
        file.read_exact(&mut size).ok()?;
        let mut body = vec![0; u32::from_be_bytes(size) as usize];
        file.read_exact(&mut body).ok()?;
        Some(decode(&body))
    })))
}

fn decode(mut body: &[u8]) -> Record {
    fn take<'a>(body: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = body.split_at(count);
        *body = rest;
        taken
    }
    fn number<const N: usize>(body: &mut &[u8]) -> [u8; N] {
        take(body, N).try_into().expect("as many bytes as were taken")
    }
    fn sized(body: &mut &[u8]) -> Option<Vec<u8>> {
        let length = usize::try_from(i32::from_be_bytes(number(body))).ok()?;
        Some(take(body, length).to_vec())
    }
    let length = u16::from_be_bytes(number(&mut body)) as usize;
    let topic = String::from_utf8_lossy(take(&mut body, length)).into_owned();
    let partition = i32::from_be_bytes(number(&mut body));
    let offset = i64::from_be_bytes(number(&mut body));
    let timestamp = i64::from_be_bytes(number(&mut body));
    take(&mut body, 2);
    let (key, value) = (sized(&mut body), sized(&mut body));
    let count = i32::from_be_bytes(number(&mut body));
    let headers = (0..count)
        .map(|_| {
            let name = sized(&mut body).unwrap_or_default();
            (String::from_utf8_lossy(&name).into_owned(), sized(&mut body))
        })
        .collect();
    Record { topic, partition, offset, timestamp, timestamp_type: -1, key, value, headers }
}

/// Writes a record file.
pub struct Output(BufWriter<File>);

impl Output {
    pub fn create(command: &Command) -> Result<Output, Failed> {
        Ok(Output(BufWriter::with_capacity(1 << 20, File::create(command.text("output"))?)))
    }

    pub fn write(&mut self, record: &Record) -> Result<(), Failed> {
        fn sized(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
            out.extend(bytes.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
            out.extend(bytes.unwrap_or_default());
        }
        let mut out = vec![0; 4];
        out.extend((record.topic.len() as u16).to_be_bytes());
        out.extend(record.topic.as_bytes());
        out.extend(record.partition.to_be_bytes());
        out.extend(record.offset.to_be_bytes());
        out.extend(record.timestamp.to_be_bytes());
        out.extend(record.timestamp_type.to_be_bytes());
        out.extend((-1_i8).to_be_bytes());
        sized(&mut out, record.key.as_deref());
        sized(&mut out, record.value.as_deref());
        out.extend((record.headers.len() as i32).to_be_bytes());
        for (name, value) in &record.headers {
            sized(&mut out, Some(name.as_bytes()));
            sized(&mut out, value.as_deref());
        }
        let size = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&size.to_be_bytes());
        Ok(self.0.write_all(&out)?)
    }

    pub fn flush(&mut self) -> Result<(), Failed> {
        Ok(self.0.flush()?)
    }
}

#[derive(Default)]
struct Counts {
    sent: u64,
    acked: u64,
    failed: u64,
}

/// Writes the acks file and counts; safe from any thread.
pub struct Acks {
    id: u64,
    window: u64,
    file: Mutex<(BufWriter<File>, Counts)>,
    done: Condvar,
}

impl Acks {
    pub fn create(command: &Command) -> Result<Acks, Failed> {
        let file = BufWriter::new(File::create(command.text("acks_output"))?);
        let window = command.number_or("window", 100_000) as u64;
        let file = Mutex::new((file, Counts::default()));
        Ok(Acks { id: command.id(), window, file, done: Condvar::new() })
    }

    /// Waits for room in the window and gives the index of the record to send.
    pub fn next(&self) -> i64 {
        let file = self.file.lock().expect("no holder panics");
        let full = |file: &mut (BufWriter<File>, Counts)| {
            file.1.sent - file.1.acked - file.1.failed >= self.window
        };
        let mut file = self.done.wait_while(file, full).expect("no holder panics");
        file.1.sent += 1;
        file.1.sent as i64 - 1
    }

    pub fn told(&self, index: i64, partition: i32, offset: i64, timestamp: i64, code: i64) {
        let mut line = Vec::with_capacity(30);
        line.extend(index.to_be_bytes());
        line.extend(partition.to_be_bytes());
        line.extend(offset.to_be_bytes());
        line.extend(timestamp.to_be_bytes());
        line.extend((code as i16).to_be_bytes());
        let mut file = self.file.lock().expect("no holder panics");
        file.0.write_all(&line).expect("the acks file takes a line");
        if code == 0 {
            file.1.acked += 1;
        } else {
            file.1.failed += 1;
        }
        let count = file.1.acked;
        drop(file);
        self.done.notify_all();
        if code == 0 && count % 1000 == 0 {
            say(&json!({"id": self.id, "event": "acked", "count": count}));
        }
    }

    pub fn close(&self) -> Answer {
        let mut file = self.file.lock().expect("no holder panics");
        file.0.flush()?;
        Ok(json!({"sent": file.1.sent, "acked": file.1.acked, "failed": file.1.failed}))
    }
}
