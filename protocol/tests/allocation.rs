//! Hostile frames: whatever arrives, decoding neither panics nor takes more memory than the bytes
//! received justify. A binary of its own, because it replaces the allocator to count.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use allocation_counter::AllocationInfo;
use braid_protocol::api::SUPPORTED;
use braid_protocol::guard::{self, sample};
use braid_protocol::request::DecodeError;
use braid_protocol::{ApiKey, Request, RequestHeader, frame, request};
use bytes::{BufMut, Bytes, BytesMut};

/// What a frame of so many bytes may cost: the promise to the rest of the broker.
fn limit_bytes(frame_bytes: usize) -> u64 {
    (frame_bytes * 16 + (64 << 10)) as u64
}

/// A number after the other, the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

fn framed(api: ApiKey, version: i16, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let flexible = usize::from(api.api().is_flexible(version));
    out.put_i32(i32::try_from(4 + 4 + 2 + flexible + body.len()).unwrap());
    out.put_i16(api.code());
    out.put_i16(version);
    out.put_i32(1);
    out.put_i16(-1);
    out.put_bytes(0, flexible);
    out.put_slice(body);
    out
}

/// Takes a frame apart as a connection does, and counts what that allocates.
fn received(buffer: &mut BytesMut) -> (AllocationInfo, Option<Result<Request, DecodeError>>) {
    let mut decoded = None;
    let info = allocation_counter::measure(|| {
        let Ok(Some(frame)) = frame::take(buffer, 100 << 20) else { return };
        let Ok((header, body)) = RequestHeader::parse(frame) else { return };
        decoded = Some(request::decode(&header, body));
    });
    (info, decoded)
}

fn assert_within(info: &AllocationInfo, frame_bytes: usize, what: &str) {
    let (taken, limit) = (info.bytes_total, limit_bytes(frame_bytes));
    assert!(taken <= limit, "{what}: {frame_bytes} bytes cost {taken}, more than {limit}");
}

fn versions() -> impl Iterator<Item = (ApiKey, i16)> {
    SUPPORTED.iter().flat_map(|api| (api.accepted_min..=api.max).map(|version| (api.key, version)))
}

/// Values that lengths and counts like least, as fixed and variable-length integers.
const EXTREMES: [&[u8]; 10] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0, 0xff, 0xff, 0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x80, 0x80, 0x80, 0x00],
    &[0xff, 0xff, 0x03],
];

fn mutated(body: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..=chance.below(3) {
        let at = chance.below(body.len() + 1);
        match chance.below(7) {
            0 => body.truncate(at),
            1 => body.insert(at, chance.byte()),
            2 => {
                let extreme = EXTREMES[chance.below(EXTREMES.len())];
                let end = (at + extreme.len()).min(body.len());
                body.splice(at..end, extreme.iter().copied());
            }
            3 => {
                let extreme = EXTREMES[chance.below(EXTREMES.len())];
                body.splice(at..at, extreme.iter().copied());
            }
            4 => {
                let from = chance.below(other.len() + 1);
                body.splice(at.., other[from..].iter().copied());
            }
            5 => body.extend((0..chance.below(64)).map(|_| chance.byte())),
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte = chance.byte();
                }
            }
        }
    }
    body
}

#[test]
fn a_hundred_thousand_mutated_requests_neither_panic_nor_cost_more_than_their_share() {
    let mut chance = Chance(1);
    let (mut cases, mut accepted) = (0, 0);
    let each = 100_000 / versions().count() + 1;
    for (api, version) in versions() {
        for _ in 0..each {
            let body = sample::body(api, version, chance.next());
            let other = sample::body(api, version, chance.next());
            let body = mutated(&body, &other, &mut chance);
            let mut buffer = framed(api, version, &body);
            let frame_bytes = buffer.len();
            let (info, decoded) = received(&mut buffer);
            assert_within(&info, frame_bytes, api.name());
            cases += 1;
            accepted += usize::from(decoded.is_some_and(|decoded| decoded.is_ok()));
        }
    }
    assert!(cases >= 100_000);
    // Both sides of the border are visited.
    assert!(accepted > cases / 20 && accepted < cases * 19 / 20, "{accepted} of {cases}");
}

#[test]
fn the_guard_never_thinks_too_little_of_what_decoding_takes() {
    /// What the slices of a frame share.
    const SHARED_BYTES: u64 = 64;
    /// One group, key or member that is turned into a list of one.
    const LIST_OF_ONE_BYTES: u64 = 128;
    for (api, version) in versions() {
        for seed in 0..100 {
            let body = sample::body(api, version, seed);
            let extent = guard::check(api, version, &body).unwrap();
            let (info, decoded) = received(&mut framed(api, version, &body));
            assert!(matches!(decoded, Some(Ok(_))));
            let list_of_one = match (api, version) {
                (ApiKey::OffsetFetch, ..8) | (ApiKey::FindCoordinator, ..4) => LIST_OF_ONE_BYTES,
                (ApiKey::LeaveGroup, ..3) | (ApiKey::AddPartitionsToTxn, ..4) => LIST_OF_ONE_BYTES,
                _ => 0,
            };
            let expected = extent.memory_bytes as u64 + SHARED_BYTES + list_of_one;
            assert!(info.bytes_total <= expected, "{api:?} v{version} {seed}: {info:?} {extent:?}");
        }
    }
}

#[test]
fn every_extreme_value_at_every_place_of_a_request_stays_within_its_share() {
    for (api, version) in versions() {
        let body = sample::body(api, version, 11);
        for at in 0..body.len() {
            for extreme in EXTREMES {
                let mut body = body.to_vec();
                let end = (at + extreme.len()).min(body.len());
                body.splice(at..end, extreme.iter().copied());
                let mut buffer = framed(api, version, &body);
                let frame_bytes = buffer.len();
                assert_within(&received(&mut buffer).0, frame_bytes, api.name());
            }
        }
    }
}

#[test]
fn four_bytes_that_claim_two_billion_topics_cost_next_to_nothing() {
    let mut buffer = framed(ApiKey::Metadata, 0, &[0x7f, 0xff, 0xff, 0xff]);
    let (info, decoded) = received(&mut buffer);
    assert!(matches!(decoded, Some(Err(DecodeError::Refused { .. }))));
    assert!(info.bytes_total < 256, "{info:?}");
}

#[test]
fn a_frame_that_has_not_arrived_costs_nothing() {
    let mut buffer = BytesMut::from(&[0x06, 0x40, 0, 0][..]);
    let (info, decoded) = received(&mut buffer);
    assert!(decoded.is_none());
    assert_eq!(info.bytes_total, 0);
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

/// A flexible body that is one array of `count` equal elements, then `tail`.
fn many(count: u32, element: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    varint(&mut body, count + 1);
    for _ in 0..count {
        body.extend_from_slice(element);
    }
    body.extend_from_slice(tail);
    body
}

/// The same in the versions before.
fn many_old(count: u32, element: &[u8], tail: &[u8]) -> Vec<u8> {
    [&count.to_be_bytes(), &element.repeat(count as usize)[..], tail].concat()
}

#[test]
fn the_smallest_elements_never_grow_beyond_their_share() {
    type Body = fn(u32) -> Vec<u8>;
    let attacks: [(&str, ApiKey, i16, Body); 9] = [
        ("empty names", ApiKey::Metadata, 0, |n| many_old(n, &[0, 0], &[])),
        ("empty names", ApiKey::Metadata, 9, |n| many(n, &[1, 0], &[0, 0, 0, 0])),
        ("one tag each", ApiKey::Metadata, 9, |n| many(n, &[1, 1, 99, 0], &[0, 0, 0, 0])),
        ("two tags each", ApiKey::Metadata, 9, |n| many(n, &[1, 2, 9, 0, 8, 0], &[0, 0, 0, 0])),
        ("empty names", ApiKey::DeleteTopics, 1, |n| many_old(n, &[0, 0], &[0; 4])),
        ("empty names", ApiKey::DeleteTopics, 4, |n| many(n, &[1], &[0; 5])),
        ("no partitions", ApiKey::OffsetFetch, 1, |n| {
            [&[0, 0][..], &many_old(n, &[0, 0, 0, 0, 0, 0], &[])].concat()
        }),
        ("empty keys", ApiKey::FindCoordinator, 4, |n| [&[0][..], &many(n, &[1], &[0])].concat()),
        ("empty members", ApiKey::LeaveGroup, 4, |n| {
            [&[1][..], &many(n, &[1, 0, 0], &[0])].concat()
        }),
    ];
    for (what, api, version, body) in attacks {
        let (mut accepted, mut refused) = (0, 0);
        for count in [1, 10, 50, 100, 200, 400, 800, 1_600, 10_000, 100_000, 1_000_000] {
            let mut buffer = framed(api, version, &body(count));
            let frame_bytes = buffer.len();
            let (info, decoded) = received(&mut buffer);
            assert_within(&info, frame_bytes, what);
            match decoded {
                Some(Ok(_)) => accepted += 1,
                Some(Err(DecodeError::Refused { .. })) => refused += 1,
                other => panic!("{api:?} v{version} {what} x {count}: {other:?}"),
            }
        }
        assert!(accepted > 3 && refused > 1, "{api:?} {what}: {accepted} {refused}");
    }
}

/// The body of DescribeCluster version 0 with tags in the order given, and room paid for by one
/// large value.
fn tagged(tags: &[u32], room_bytes: u32) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, u32::try_from(tags.len()).unwrap() + 1);
    varint(&mut body, u32::MAX >> 1);
    varint(&mut body, room_bytes);
    body.resize(body.len() + room_bytes as usize, 0);
    for tag in tags {
        varint(&mut body, *tag);
        varint(&mut body, 0);
    }
    body
}

#[test]
fn maps_of_unknown_tags_cost_what_the_guard_thinks() {
    let mut chance = Chance(2);
    let ascending: Vec<u32> = (0..20_000).collect();
    let descending: Vec<u32> = (0..20_000).rev().collect();
    let random: Vec<u32> =
        (0..20_000).map(|_| u32::try_from(chance.below(1 << 30)).unwrap()).collect();
    for tags in [ascending, descending, random] {
        for (room_bytes, paid) in [(0, false), (150_000, true)] {
            let body = tagged(&tags, room_bytes);
            let mut buffer = framed(ApiKey::DescribeCluster, 0, &body);
            let frame_bytes = buffer.len();
            let (info, decoded) = received(&mut buffer);
            assert_within(&info, frame_bytes, "tags");
            assert_eq!(decoded.is_some_and(|decoded| decoded.is_ok()), paid, "{room_bytes}");
            if paid {
                let extent = guard::check(ApiKey::DescribeCluster, 0, &body).unwrap();
                assert!(info.bytes_total < extent.memory_bytes as u64, "{info:?} {extent:?}");
                assert!(info.bytes_total > extent.memory_bytes as u64 / 4, "{info:?} {extent:?}");
            }
        }
    }
}

/// What real clients send is far from the border.
#[test]
fn large_honest_requests_pass() {
    let names = |n: u32| -> Vec<u8> {
        let mut body = Vec::new();
        varint(&mut body, n + 1);
        for number in 0..n {
            let name = format!("t{number:06}");
            varint(&mut body, u32::try_from(name.len()).unwrap() + 1);
            body.extend_from_slice(name.as_bytes());
            body.push(0);
        }
        body.extend_from_slice(&[0, 0, 0, 0]);
        body
    };
    let mut buffer = framed(ApiKey::Metadata, 9, &names(100_000));
    assert!(matches!(received(&mut buffer).1, Some(Ok(Request::Metadata(_)))));

    // Fetch version 12: one topic of 100,000 partitions.
    let partition = [&[0u8; 4 + 4 + 8 + 4 + 8 + 4][..], &[0]].concat();
    let topics = many(1, &[&[2, b't'][..], &many(100_000, &partition, &[0])].concat(), &[]);
    let body = [&[0u8; 4 + 4 + 4 + 4 + 1 + 4 + 4][..], &topics, &[1, 1, 0]].concat();
    let mut buffer = framed(ApiKey::Fetch, 12, &body);
    assert!(matches!(received(&mut buffer).1, Some(Ok(Request::Fetch(_)))));

    let body = Bytes::from(many_old(0, &[], &[]));
    let mut buffer = framed(ApiKey::Metadata, 0, &body);
    assert!(matches!(received(&mut buffer).1, Some(Ok(Request::Metadata(_)))));
}
