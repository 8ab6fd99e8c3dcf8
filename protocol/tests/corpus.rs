//! Replays the committed fuzz corpora, so that they hold without a fuzzer. `UPDATE=1 cargo test`
//! writes the seeds of an API that is new.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::path::{Path, PathBuf};

use braid_protocol::api::SUPPORTED;
use braid_protocol::guard::sample;
use braid_protocol::records::{
    BatchLimits, BatchSpec, BatchWriter, Codec, Producer, TimestampRule, validate_batch,
};
use braid_protocol::{RequestHeader, request};
use bytes::{BufMut, Bytes, BytesMut};

#[path = "../fuzz/entry.rs"]
mod entry;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn replay(target: &str, run: fn(&[u8])) {
    let mut count = 0;
    for file in std::fs::read_dir(corpus(target)).unwrap() {
        let path = file.unwrap().path();
        let outcome = std::panic::catch_unwind(|| run(&std::fs::read(&path).unwrap()));
        assert!(outcome.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

/// Header and body of a served API and version.
fn content(api: &'static braid_protocol::api::Api, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(api.key.code());
    out.put_i16(version);
    out.put_i32(1);
    out.put_i16(2);
    out.put_slice(b"me");
    out.put_bytes(0, usize::from(api.is_flexible(version)));
    out.put_slice(&sample::body(api.key, version, 7));
    out.freeze()
}

fn framed(content: &[u8]) -> Vec<u8> {
    [&u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

/// A batch of every client and codec, as they are tested elsewhere.
fn batches() -> impl Iterator<Item = (String, Vec<u8>)> {
    let lines = include_str!("../src/records/testdata/client_batches.txt").lines();
    lines.filter(|line| !line.starts_with('#')).map(|line| {
        let [client, codec, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (format!("{client}-{codec}"), (0..hex.len()).step_by(2).map(byte).collect())
    })
}

/// The oldest and the newest version of every served API, the borders of a frame, and batches.
fn seeds() -> Vec<(PathBuf, Vec<u8>)> {
    let mut seeds = Vec::new();
    for api in &SUPPORTED {
        for version in [api.accepted_min, api.max] {
            let name = format!("{}-v{version}", api.name);
            seeds.push((corpus("request").join(name), content(api, version).to_vec()));
        }
    }
    let newest = framed(&content(&SUPPORTED[0], SUPPORTED[0].max));
    let oldest = framed(&content(&SUPPORTED[3], SUPPORTED[3].accepted_min));
    for (name, bytes) in [
        ("two", [newest, oldest.clone()].concat()),
        ("cut", oldest[..oldest.len() - 1].to_vec()),
        ("empty", framed(&[])),
        ("too-large", vec![0, 0, 4, 1]),
        ("negative", vec![0xff; 5]),
    ] {
        seeds.push((corpus("frame").join(name), bytes));
    }
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        seeds.push((corpus("batch").join(format!("{codec:?}")), batch(codec).to_vec()));
    }
    let two = [batch(Codec::None), batch(Codec::Lz4)].concat();
    seeds.push((corpus("batch").join("two"), two));
    seeds.extend(batches().map(|(name, bytes)| (corpus("batch").join(name), bytes)));
    seeds
}

/// Two records: all there is, and nothing.
fn batch(codec: Codec) -> Bytes {
    let producer = Some(Producer { id: 7, epoch: 1, base_sequence: 3 });
    let mut writer = BatchWriter::new(BatchSpec { codec, producer, ..BatchSpec::default() });
    let headers = [(&b"h"[..], Some(&b"one"[..])), (b"h", None)];
    writer.append(1_000, Some(b"key"), Some(&b"value ".repeat(9)), &headers).unwrap();
    writer.append(999, None, None, &[]).unwrap();
    writer.finish().unwrap()
}

#[test]
fn every_served_api_and_client_has_seeds() {
    for (path, seed) in seeds() {
        if path.exists() {
            continue;
        }
        assert!(
            std::env::var_os("UPDATE").is_some(),
            "{} is missing: `UPDATE=1 cargo test` writes it",
            path.display()
        );
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, seed).unwrap();
    }
}

#[test]
fn the_seeds_of_requests_are_valid() {
    for file in std::fs::read_dir(corpus("request")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if SUPPORTED.iter().any(|api| name.starts_with(&format!("{}-v", api.name))) {
            let seed = Bytes::from(std::fs::read(&path).unwrap());
            let (header, body) = RequestHeader::parse(seed).unwrap();
            let decoded = request::decode(&header, body);
            assert!(decoded.is_ok(), "{name}: {decoded:?}");
        }
    }
}

#[test]
fn the_seeds_of_batches_are_valid() {
    let limits = BatchLimits {
        size_bytes_max: 1_000,
        content_size_bytes_max: 1_000,
        timestamps: TimestampRule::LogAppendTime,
        require_keys: false,
        allow_zstd: true,
    };
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let seed = std::fs::read(corpus("batch").join(format!("{codec:?}"))).unwrap();
        let valid = validate_batch(&seed, &limits, 0);
        assert_eq!(valid.map(|valid| valid.codec), Ok(codec));
    }
}

#[test]
fn the_frame_corpus_passes() {
    replay("frame", entry::frame);
}

#[test]
fn the_request_corpus_passes() {
    replay("request", entry::request);
}

#[test]
fn the_batch_corpus_passes() {
    replay("batch", entry::batch);
}
