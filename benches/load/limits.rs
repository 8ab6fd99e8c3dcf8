//! What the machine itself can do: the denominators of every ratio.

use std::fmt;
use std::io::IoSlice;
use std::path::Path;
use std::time::{Duration, Instant};

use braid::env::fs::{DIRECT_ALIGN_BYTES, Mode};
use braid::env::real;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The limits of this machine, now.
pub(crate) struct Limits {
    /// One hundred bytes there and back over loopback.
    pub(crate) round_trip_us: f64,
    /// One aligned synced write of 4 KiB over blocks written before.
    pub(crate) synced_write_us: f64,
    /// Synced appends of 1 MiB.
    pub(crate) disk_bytes_per_second: f64,
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "loopback round trip p50 {:.1} us, synced 4 KiB write p50 {:.1} us, disk {:.0} MB/s",
            self.round_trip_us,
            self.synced_write_us,
            self.disk_bytes_per_second / 1e6
        )
    }
}

/// Measures all limits; takes about two seconds.
pub(crate) async fn measure(dir: &Path) -> Limits {
    Limits {
        round_trip_us: round_trip_us().await,
        synced_write_us: synced_write_us(dir),
        disk_bytes_per_second: disk_bytes_per_second(dir),
    }
}

async fn round_trip_us() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = [0; 100];
            while stream.read_exact(&mut buffer).await.is_ok() {
                stream.write_all(&buffer).await.unwrap();
            }
        });
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut nanos = Histogram::<u64>::new(3).unwrap();
    let mut buffer = [0; 100];
    for _ in 0..20_000 {
        let start = Instant::now();
        stream.write_all(&buffer).await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
        nanos.record(start.elapsed().as_nanos() as u64).unwrap();
    }
    drop(stream);
    echo.join().unwrap();
    nanos.value_at_quantile(0.5) as f64 / 1e3
}

/// Memory aligned for direct writes.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let bytes = vec![0xa5; len + DIRECT_ALIGN_BYTES];
        let start = bytes.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
        Self { bytes, start, len }
    }
    fn slice(&self) -> IoSlice<'_> {
        IoSlice::new(&self.bytes[self.start..self.start + self.len])
    }
}

struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(dir: &Path, size: u64) -> Self {
        let path = dir.join(format!("braid-limits-{}", std::process::id()));
        let fs = &real::env().fs;
        fs.open(&path, Mode::CreateNew).unwrap().allocate(size).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        real::env().fs.remove(&self.0).unwrap();
    }
}

fn synced_write_us(dir: &Path) -> f64 {
    let scratch = Scratch::new(dir, 4 << 20);
    let file = real::env().fs.open(&scratch.0, Mode::Direct).unwrap();
    let block = Aligned::new(4096);
    for i in 0..1024 {
        file.write_synced_at(&[block.slice()], i * 4096).unwrap();
    }
    let mut nanos = Histogram::<u64>::new(3).unwrap();
    for i in 0..4096u64 {
        let start = Instant::now();
        file.write_synced_at(&[block.slice()], (i % 1024) * 4096).unwrap();
        nanos.record(start.elapsed().as_nanos() as u64).unwrap();
    }
    nanos.value_at_quantile(0.5) as f64 / 1e3
}

fn disk_bytes_per_second(dir: &Path) -> f64 {
    const SIZE: u64 = 512 << 20;
    let scratch = Scratch::new(dir, SIZE);
    let file = real::env().fs.open(&scratch.0, Mode::Direct).unwrap();
    let block = Aligned::new(1 << 20);
    let start = Instant::now();
    let mut at = 0;
    while at < SIZE && start.elapsed() < Duration::from_secs(2) {
        file.write_synced_at(&[block.slice()], at).unwrap();
        at += 1 << 20;
    }
    at as f64 / start.elapsed().as_secs_f64()
}
