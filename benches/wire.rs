//! The protocol alone, on one thread: what a request costs before it reaches the log.
//!
//! `cargo bench --bench wire`. Each row stands beside a copy of the same bytes in the same run.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measuring program: it prints, takes the time, and stops at the first surprise"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use braid_protocol::guard::{self, sample};
use braid_protocol::header::Head;
use braid_protocol::produce::{ProduceAnswer, Stored, Walk};
use braid_protocol::records::{
    BatchLimits, BatchSpec, BatchWriter, Codec, TimestampRule, validate_batch,
};
use braid_protocol::{ApiKey, RequestHeader, request};
use bytes::{BufMut, Bytes, BytesMut};

/// Rounds, of which the fastest counts: what else the machine does only ever adds.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(20);

/// Nanoseconds of one call.
fn cost_ns(mut call: impl FnMut()) -> f64 {
    let mut calls: u32 = 1;
    let mut best = f64::MAX;
    let mut rounds = 0;
    while rounds < ROUNDS {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        let elapsed = start.elapsed();
        if elapsed < ROUND {
            calls *= 2;
            continue;
        }
        best = best.min(elapsed.as_secs_f64() * 1e9 / f64::from(calls));
        rounds += 1;
    }
    best
}

fn row(name: &str, bytes: &[u8], call: impl FnMut()) {
    let mut copy = vec![0; bytes.len()];
    let copied = cost_ns(|| {
        copy.copy_from_slice(black_box(bytes));
        black_box(&copy);
    });
    let cost = cost_ns(call);
    let (size, ratio) = (bytes.len(), cost / copied);
    println!("| {name} | {size} | {cost:.0} | {ratio:.1} |");
}

fn batch(codec: Codec, records: usize) -> Bytes {
    let mut writer = BatchWriter::new(BatchSpec { codec, ..BatchSpec::default() });
    for number in 0..records {
        let value =
            format!("{number:010}, and words that a codec may find again and again ").repeat(2);
        writer.append(1000, None, Some(&value.as_bytes()[..100]), &[]).unwrap();
    }
    writer.finish().unwrap()
}

/// The content of a Produce v9 frame.
fn produce(batch: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&[0, 0, 0, 9, 0, 0, 0, 1, 0, 5]);
    out.put_slice(b"bench\0");
    out.put_slice(&[0, 0xff, 0xff, 0, 0, 0x75, 0x30, 2, 7]);
    out.put_slice(b"orders");
    out.put_slice(&[2, 0, 0, 0, 0]);
    let mut length = u32::try_from(batch.len()).unwrap() + 1;
    while length > 0x7f {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8((length & 0x7f) as u8);
    out.put_slice(batch);
    out.put_slice(&[0, 0, 0]);
    out.freeze()
}

/// Everything of a Produce but its batch's checks and the append.
fn answer(frame: &[u8], out: &mut BytesMut) {
    let head = Head::parse(frame).unwrap();
    Walk::check(head.api_version, head.body).unwrap();
    let (asked, mut walk) = Walk::begin(head.api_version, head.body).unwrap();
    let mut answer = ProduceAnswer::begin(out, head.api_version, head.correlation_id, asked.topics);
    for _ in 0..asked.topics {
        let (key, partitions) = walk.topic().unwrap();
        answer.topic(key, partitions);
        for _ in 0..partitions {
            let (index, records) = walk.partition().unwrap();
            black_box(records);
            let stored = Stored { base_offset: 1, log_append_time_ms: -1, log_start_offset: 0 };
            answer.partition(index, Ok(stored));
        }
        walk.end().unwrap();
        answer.end_topic();
    }
    answer.finish(&[]).unwrap();
    out.clear();
}

fn main() {
    println!("| what | bytes | ns | times a copy |");
    println!("|---|---|---|---|");
    let mut out = BytesMut::with_capacity(1024);
    let one = produce(&batch(Codec::None, 1));
    row("Produce of one record, read and answered", &one, || answer(black_box(&one), &mut out));
    let limits = BatchLimits {
        size_bytes_max: 1 << 20,
        content_size_bytes_max: 1 << 20,
        timestamps: TimestampRule::CreateTime { before_max_ms: i64::MAX, after_max_ms: i64::MAX },
        require_keys: false,
        allow_zstd: true,
    };
    for (codec, records) in
        [(Codec::None, 1)].into_iter().chain(Codec::ALL.into_iter().map(|codec| (codec, 1000)))
    {
        let batch = batch(codec, records);
        row(&format!("batch of {records} checked, {codec:?}"), &batch, || {
            black_box(validate_batch(black_box(&batch), &limits, 1000).unwrap());
        });
    }
    for api in [ApiKey::Fetch, ApiKey::Metadata, ApiKey::OffsetCommit, ApiKey::Heartbeat] {
        let version = api.api().max;
        let body = sample::body(api, version, 7);
        row(&format!("{} v{version} guarded", api.name()), &body, || {
            guard::check(api, version, black_box(&body)).unwrap();
        });
        let header = RequestHeader {
            api_key: api.code(),
            api_version: version,
            correlation_id: 1,
            client_id: None,
        };
        row(&format!("{} v{version} guarded and decoded", api.name()), &body, || {
            black_box(request::decode(&header, black_box(body.clone())).unwrap());
        });
    }
}
