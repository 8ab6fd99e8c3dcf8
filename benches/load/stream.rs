//! The ceiling of consuming: a server that sends a file's cached bytes to whoever connects, by
//! `sendfile`, and a client that reads and forgets them.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const FILE_BYTES: usize = 64 << 20;
/// As much as an answer to a fetch has.
const AT_ONCE_BYTES: usize = 1 << 20;

/// Serves until the process is ended.
#[expect(clippy::infinite_loop, reason = "serves until the process is ended")]
pub(crate) fn run(listen: &str) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![0xa5; FILE_BYTES]).unwrap();
    let listener = TcpListener::bind(listen).unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().unwrap();
        let file = file.try_clone().unwrap();
        drop(std::thread::spawn(move || {
            let mut at = 0;
            while let Ok(sent) = rustix::fs::sendfile(&stream, &file, Some(&mut at), AT_ONCE_BYTES)
            {
                if sent == 0 || at >= FILE_BYTES as u64 {
                    at = 0;
                }
            }
        }));
    }
}

/// Bytes per second that so many connections take in.
pub(crate) async fn measure(from: &str, connections: usize, duration: Duration) -> f64 {
    let start = Instant::now();
    let end = start + duration;
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let from = from.to_owned();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(from).await.unwrap();
                let mut input = BytesMut::with_capacity(2 << 20);
                let mut bytes = 0;
                while Instant::now() < end {
                    bytes += stream.read_buf(&mut input).await.unwrap();
                    if input.len() >= AT_ONCE_BYTES {
                        input.clear();
                    }
                }
                bytes
            })
        })
        .collect();
    let mut bytes = 0;
    for task in tasks {
        bytes += task.await.unwrap();
    }
    bytes as f64 / start.elapsed().as_secs_f64()
}
