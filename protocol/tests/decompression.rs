//! Bombs: batches of a few KiB that stand for a GiB cost no more memory than the budget and 8 MiB,
//! and 8 MiB without the budget where the content is only walked. The process's own peak counts,
//! since zstd allocates past Rust's allocator; so this is a binary with a single test.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::io::Write;

use braid_protocol::records::{
    BatchError, BatchHeader, BatchLimits, BatchSpec, BatchWriter, Codec, DecompressError,
    ReadError, RecordReader, TimestampRule, compress, stamp_max_timestamp, validate_batch,
};
use bytes::Bytes;

const MIB: usize = 1 << 20;
const BUDGET: usize = 64 * MIB;
const SLACK: usize = 8 * MIB;

/// Peak of resident memory since [`forget_peak`], in bytes.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// What `run` took at most beyond what was there before.
fn extra_bytes<T>(run: impl FnOnce() -> T) -> (usize, T) {
    forget_peak();
    let before = peak_bytes();
    let result = run();
    (peak_bytes() - before, result)
}

/// The start of a record whose value goes on for a GiB of zeros.
fn opening() -> Vec<u8> {
    // Length and value length are 2^30 + 13 and 2^30, attributes and deltas zero, the key null.
    let mut record = vec![0x9a, 0x80, 0x80, 0x80, 0x08, 0, 0, 0, 1];
    record.extend([0x80, 0x80, 0x80, 0x80, 0x08]);
    record
}

/// A stream of one such record, and what it is.
fn bombs() -> Vec<(&'static str, Codec, Vec<u8>)> {
    let zeros = vec![0; 4 * MIB];
    let opening = opening();
    let repeated = |codec, level| {
        let first = compress(codec, level, &opening).unwrap();
        [first, compress(codec, level, &zeros).unwrap().repeat(256)].concat()
    };
    let wide_window = |content_size: bool| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(content_size).unwrap();
        encoder.write_all(&opening).unwrap();
        for _ in 0..256 {
            encoder.write_all(&zeros).unwrap();
        }
        encoder.finish().unwrap()
    };
    let snappy_block = |content: &[u8]| snap::raw::Encoder::new().compress_vec(content).unwrap();
    let framed_block = |content: &[u8]| {
        let block = snappy_block(content);
        [&u32::try_from(block.len()).unwrap().to_be_bytes()[..], &block].concat()
    };
    let xerial = compress(Codec::Snappy, None, &opening).unwrap();
    vec![
        ("gzip members", Codec::Gzip, repeated(Codec::Gzip, Some(9))),
        ("zstd frames", Codec::Zstd, repeated(Codec::Zstd, Some(19))),
        ("zstd of the widest window", Codec::Zstd, wide_window(false)),
        ("lz4 of 4 MiB blocks", Codec::Lz4, lz4_bomb(&opening, &zeros)),
        ("xerial snappy", Codec::Snappy, [xerial, framed_block(&zeros).repeat(256)].concat()),
        ("raw snappy", Codec::Snappy, snappy_block(&[opening.clone(), vec![0; 60 * MIB]].concat())),
    ]
}

fn lz4_bomb(opening: &[u8], zeros: &[u8]) -> Vec<u8> {
    let frame = |content: &[u8]| {
        let mut encoder = lz4::EncoderBuilder::new()
            .block_mode(lz4::BlockMode::Independent)
            .block_size(lz4::BlockSize::Max4MB)
            .checksum(lz4::ContentChecksum::NoChecksum)
            .build(Vec::new())
            .unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().0
    };
    let (first, many) = (frame(opening), frame(zeros));
    let header_and_block = first.len() - 4;
    [&first[..header_and_block], &many[7..many.len() - 4].repeat(256), &[0; 4]].concat()
}

fn batch(codec: Codec, stream: &[u8]) -> Bytes {
    let empty = BatchWriter::new(BatchSpec::default()).finish().unwrap();
    let batch_length = i32::try_from(stream.len()).unwrap() + 49;
    let header = BatchHeader::parse(&empty).unwrap();
    let header = BatchHeader { batch_length, attributes: codec.id(), records_count: 1, ..header };
    let mut batch = [&header.encode()[..], stream].concat();
    stamp_max_timestamp(&mut batch, -1);
    Bytes::from(batch)
}

#[test]
fn bombs_cost_the_budget_at_most() {
    let limits = BatchLimits {
        size_bytes_max: usize::MAX,
        content_size_bytes_max: BUDGET,
        timestamps: TimestampRule::LogAppendTime,
        require_keys: false,
        allow_zstd: true,
    };
    let over = DecompressError::OverBudget { size_bytes_max: BUDGET };
    for (what, codec, stream) in bombs() {
        let batch = batch(codec, &stream);
        let (read_extra, read) = extra_bytes(|| RecordReader::open(&batch, BUDGET));
        assert!(read_extra <= BUDGET + SLACK, "{what}: reading took {} MiB", read_extra / MIB);
        let (walk_extra, walked) = extra_bytes(|| validate_batch(&batch, &limits, 0));
        if what == "raw snappy" {
            // One block has to be held whole, whoever looks at it.
            assert!(walk_extra <= BUDGET + SLACK, "{what}: {} MiB", walk_extra / MIB);
            assert!(read.is_ok() && walked.is_err());
            continue;
        }
        assert_eq!(read.unwrap_err(), ReadError::Decompress(over), "{what}");
        assert_eq!(walked, Err(BatchError::Decompress(over)), "{what}");
        // The content of a wide window is held as the window; all others hold pieces only.
        let walk_max = if what.contains("widest") { BUDGET + SLACK } else { SLACK };
        assert!(walk_extra <= walk_max, "{what}: walking took {} MiB", walk_extra / MIB);
    }
}
