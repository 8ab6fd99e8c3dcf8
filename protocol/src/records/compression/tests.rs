#![allow(clippy::indexing_slicing, reason = "a test may fail by panic")]

use std::io::Write;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const COMPRESSED: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Compressible text longer than a block of any codec.
fn text(size: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|n| {
            format!("line {} of a log\n", n.wrapping_mul(2_654_435_761) >> 9).into_bytes()
        })
        .take(size)
        .collect()
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

/// What other programs write, by library: (what, codec, stream) for a content.
fn foreign(content: &[u8]) -> Vec<(&'static str, Codec, Vec<u8>)> {
    let lz4 = |linked: ::lz4::BlockMode, block: ::lz4::BlockSize, checks: bool| {
        let checksum = if checks {
            ::lz4::ContentChecksum::ChecksumEnabled
        } else {
            ::lz4::ContentChecksum::NoChecksum
        };
        let mut encoder = ::lz4::EncoderBuilder::new()
            .block_mode(linked)
            .block_size(block)
            .block_checksum(if checks {
                ::lz4::liblz4::BlockChecksum::BlockChecksumEnabled
            } else {
                ::lz4::liblz4::BlockChecksum::NoBlockChecksum
            })
            .checksum(checksum)
            .content_size(if checks { content.len() as u64 } else { 0 })
            .build(Vec::new())
            .unwrap();
        encoder.write_all(content).unwrap();
        let (stream, result) = encoder.finish();
        result.unwrap();
        stream
    };
    let zstd_streamed = |level, checksum| {
        let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), level).unwrap();
        encoder.include_checksum(checksum).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    use ::lz4::{BlockMode, BlockSize};
    vec![
        ("raw snappy", Codec::Snappy, snap::raw::Encoder::new().compress_vec(content).unwrap()),
        ("lz4 64 KiB", Codec::Lz4, lz4(BlockMode::Independent, BlockSize::Max64KB, false)),
        ("lz4 checked", Codec::Lz4, lz4(BlockMode::Independent, BlockSize::Max256KB, true)),
        ("lz4 linked", Codec::Lz4, lz4(BlockMode::Linked, BlockSize::Max64KB, false)),
        ("lz4 linked checked", Codec::Lz4, lz4(BlockMode::Linked, BlockSize::Max64KB, true)),
        ("lz4 4 MiB", Codec::Lz4, lz4(BlockMode::Linked, BlockSize::Max4MB, true)),
        ("zstd streamed", Codec::Zstd, zstd_streamed(3, false)),
        ("zstd checked", Codec::Zstd, zstd_streamed(-5, true)),
        ("zstd level 20, window 32 MiB", Codec::Zstd, zstd_streamed(20, false)),
        ("zstd level 22, window 128 MiB", Codec::Zstd, zstd_streamed(22, false)),
    ]
}

#[test]
fn every_codec_gives_back_what_it_took() {
    for content in [vec![], vec![7], text(300_000), noise(300_000), vec![0; 300_000]] {
        for codec in Codec::ALL {
            for level in [None, Some(1), Some(9), Some(1000)] {
                let stream = compress(codec, level, &content).unwrap();
                let back = decompress(codec, &stream, content.len()).unwrap();
                assert!(back == content, "{codec:?} {level:?} {}", content.len());
            }
        }
    }
}

#[test]
fn streams_of_the_libraries_other_clients_use_are_read() {
    for content in [vec![], text(400_000), noise(70_000), text(9)] {
        for (what, codec, stream) in foreign(&content) {
            let back = decompress(codec, &stream, content.len());
            assert!(back.as_ref() == Ok(&content), "{what}, {}: {:?}", content.len(), back.err());
        }
    }
}

#[test]
fn libraries_other_clients_use_read_our_streams() {
    let content = text(400_000);
    let lz4_stream = compress(Codec::Lz4, None, &content).unwrap();
    let mut back = Vec::new();
    std::io::copy(&mut ::lz4::Decoder::new(&lz4_stream[..]).unwrap(), &mut back).unwrap();
    assert!(back == content);
    let zstd_stream = compress(Codec::Zstd, Some(19), &content).unwrap();
    assert!(::zstd::stream::decode_all(&zstd_stream[..]).unwrap() == content);
}

#[test]
fn linked_lz4_blocks_are_told() {
    for (what, codec, stream) in foreign(&text(400_000)) {
        if codec == Codec::Lz4 {
            let linked = what.contains("linked") || what.contains("4 MiB");
            assert_eq!(has_linked_blocks(&stream), linked, "{what}");
        }
    }
    assert!(!has_linked_blocks(&compress(Codec::Lz4, None, b"content").unwrap()));
}

#[test]
fn members_and_frames_in_a_row_are_one_content() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let first = compress(codec, None, b"first, ").unwrap();
        let empty = compress(codec, None, b"").unwrap();
        let second = compress(codec, None, b"second").unwrap();
        let stream = [first, empty, second].concat();
        assert_eq!(decompress(codec, &stream, 100).unwrap(), b"first, second", "{codec:?}");
    }
}

#[test]
fn a_stream_cut_anywhere_is_an_error() {
    let content = text(2000);
    let mut streams = foreign(&content);
    streams
        .extend(COMPRESSED.map(|codec| ("ours", codec, compress(codec, None, &content).unwrap())));
    for (what, codec, stream) in streams {
        for end in 0..stream.len() {
            let cut = decompress(codec, &stream[..end], content.len());
            // Framed snappy may end between blocks, and no frame is no content for zstd.
            let proper = match codec {
                Codec::Snappy => end == 0 || (end == 16 && what == "ours"),
                Codec::Zstd => end == 0,
                Codec::Gzip | Codec::Lz4 | Codec::None => false,
            };
            assert_eq!(cut == Ok(Vec::new()), proper, "{what} {codec:?} cut at {end}");
            assert!(proper || cut.is_err(), "{what} {codec:?} cut at {end}");
        }
    }
}

#[test]
fn bytes_behind_a_stream_are_an_error() {
    for codec in COMPRESSED {
        let mut stream = compress(codec, None, b"content").unwrap();
        stream.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert!(decompress(codec, &stream, 100).is_err(), "{codec:?}");
    }
}

#[test]
fn damage_under_a_checksum_is_found() {
    let content = noise(1000);
    for (what, codec, stream) in foreign(&content) {
        if !what.contains("checked") {
            continue;
        }
        for at in 0..stream.len() {
            let mut stream = stream.clone();
            stream[at] ^= 0x10;
            let back = decompress(codec, &stream, content.len());
            assert!(back.as_ref() != Ok(&content) || at < 8, "{what} damaged at {at}");
        }
    }
}

/// About 1 GiB of zeros, or for snappy as much as it can stand for.
fn bomb(codec: Codec) -> Vec<u8> {
    let zeros = vec![0; 4 << 20];
    match codec {
        Codec::Gzip | Codec::Zstd => compress(codec, Some(9), &zeros).unwrap().repeat(256),
        Codec::Lz4 => {
            let mut encoder = ::lz4::EncoderBuilder::new()
                .block_mode(::lz4::BlockMode::Independent)
                .block_size(::lz4::BlockSize::Max4MB)
                .checksum(::lz4::ContentChecksum::NoChecksum)
                .build(Vec::new())
                .unwrap();
            encoder.write_all(&zeros).unwrap();
            let stream = encoder.finish().0;
            let (header, rest) = stream.split_at(7);
            let (block, end) = rest.split_at(rest.len() - 4);
            [header, &block.repeat(256), end].concat()
        }
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(&vec![0; 64 << 20]).unwrap(),
        Codec::None => unreachable!("not a compression"),
    }
}

#[test]
fn bombs_end_at_the_budget() {
    for codec in COMPRESSED {
        let bomb = bomb(codec);
        let over = DecompressError::OverBudget { size_bytes_max: 1 << 20 };
        assert_eq!(decompress(codec, &bomb, 1 << 20), Err(over), "{codec:?}");
    }
}

#[test]
fn a_lying_snappy_length_allocates_nothing() {
    let mut block = snap::raw::Encoder::new().compress_vec(b"short").unwrap();
    block.splice(0..1, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    let corrupt = Err(DecompressError::Corrupt { codec: Codec::Snappy });
    assert_eq!(decompress(Codec::Snappy, &block, usize::MAX), corrupt);
}

#[test]
fn windows_up_to_the_limit_are_read_and_beyond_it_refused() {
    let content = text(300_000);
    let stream = |window_log| {
        let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&content).unwrap();
        encoder.finish().unwrap()
    };
    for window_log in 10..=27 {
        let stream = stream(window_log);
        assert!(decompress(Codec::Zstd, &stream, 300_000).unwrap() == content, "{window_log}");
        let over = DecompressError::OverBudget { size_bytes_max: 299_999 };
        assert_eq!(decompress(Codec::Zstd, &stream, 299_999), Err(over), "{window_log}");
        let cut = &stream[..stream.len() - 1];
        assert!(decompress(Codec::Zstd, cut, 300_000).is_err(), "{window_log}");
    }
    let corrupt = Err(DecompressError::Corrupt { codec: Codec::Zstd });
    assert_eq!(decompress(Codec::Zstd, &stream(28), 300_000), corrupt);
    // Streamed up to there, the second frame is too wide.
    assert_eq!(decompress(Codec::Zstd, &[stream(20), stream(23)].concat(), 1 << 20), corrupt);
}

#[test]
fn a_content_size_that_zstd_claims_allocates_nothing() {
    // Single segment, a content size of eight bytes: 64 MiB and 2^62 of one empty block.
    for (size, fits) in [(1_u64 << 26, true), (1 << 62, false)] {
        let mut stream = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
        let mut size = size.to_be_bytes();
        size.reverse();
        stream.extend(size);
        stream.extend([1, 0, 0]);
        let expect = if fits {
            DecompressError::OverBudget { size_bytes_max: 1 << 30 }
        } else {
            DecompressError::Corrupt { codec: Codec::Zstd }
        };
        assert_eq!(decompress(Codec::Zstd, &stream, 1 << 30), Err(expect));
    }
}

#[test]
fn a_stream_is_walked_across_its_pieces() {
    let content = text(200_000);
    let compressed = compress(Codec::Lz4, None, &content).unwrap();
    let mut stream = Stream::new(Lz4Chunks::new(&compressed).unwrap(), content.len());
    stream.skip(65_530).unwrap();
    for expect in &content[65_530..65_550] {
        assert_eq!(stream.byte().unwrap(), *expect);
    }
    assert_eq!(stream.consumed(), 65_550);
    stream.skip(content.len() - 65_550).unwrap();
    assert!(stream.at_end().unwrap());
    assert_eq!(stream.byte(), Err(RecordFault::Truncated.into()));
    assert_eq!(stream.skip(1), Err(RecordFault::Truncated.into()));

    let mut stream = Stream::new(Lz4Chunks::new(&compressed).unwrap(), 100_000);
    let over = DecompressError::OverBudget { size_bytes_max: 100_000 };
    assert_eq!(stream.skip(200_000), Err(over.into()));
}

type Streams = Vec<(Codec, Vec<u8>)>;

/// Streams of four contents, made once.
static CORPUS: LazyLock<[Streams; 4]> = LazyLock::new(|| {
    [text(3000), noise(500), vec![0; 5000], Vec::new()].map(|content| {
        let ours = COMPRESSED.map(|codec| (codec, compress(codec, None, &content).unwrap()));
        foreign(&content).into_iter().map(|it| (it.1, it.2)).chain(ours).collect()
    })
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn hostile_streams_neither_panic_nor_exceed_the_budget(
        codec in proptest::sample::select(&COMPRESSED),
        seed in 0..4_usize,
        damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<u16>()),
    ) {
        for mut stream in CORPUS[seed].iter().filter(|it| it.0 == codec).map(|it| it.1.clone()) {
            for (at, value) in &damage {
                let at = usize::from(*at) % stream.len();
                stream[at] = *value;
            }
            if let Some(cut) = cut {
                stream.truncate(usize::from(cut) % stream.len());
            }
            if let Ok(back) = decompress(codec, &stream, 6000) {
                prop_assert!(back.len() <= 6000);
            }
        }
    }
}

/// `compression.*.level` must do something: what a level costs in time it gives back in bytes.
#[test]
fn higher_levels_give_fewer_bytes() {
    let words = ["broker", "partition", "offset", "leader", "epoch", "record", "batch", "topic"];
    let text = |n: usize| words[(n * n + n / 7) % words.len()];
    let content: String = (0..20_000).map(|n| format!("{}-{} ", text(n), n % 977)).collect();
    let size = |codec, level| {
        let stream = compress(codec, level, content.as_bytes()).unwrap();
        let back = decompress(codec, &stream, content.len()).unwrap();
        assert!(back == content.as_bytes(), "{codec:?} {level:?}");
        stream.len()
    };
    for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Lz4, 3, 12), (Codec::Zstd, 1, 19)] {
        let (large, small) = (size(codec, Some(low)), size(codec, Some(high)));
        assert!(small < large, "{codec:?}: {small} bytes at {high}, {large} at {low}");
    }
    // Kafka's default level of lz4 is the fast compressor's.
    assert_eq!(size(Codec::Lz4, Some(9)), size(Codec::Lz4, None));
    assert!(size(Codec::Lz4, Some(10)) < size(Codec::Lz4, Some(9)));
    for level in 1..=17 {
        assert!(size(Codec::Lz4, Some(level)) < content.len());
    }
}
