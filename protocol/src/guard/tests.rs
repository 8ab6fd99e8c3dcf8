use super::*;
use crate::api::SUPPORTED;

fn size(api: ApiKey, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    check(api, version, body).map(|extent| extent.size_bytes)
}

const SEEDS: u64 = 60;

fn versions() -> impl Iterator<Item = (ApiKey, i16)> {
    SUPPORTED.iter().flat_map(|api| (api.accepted_min..=api.max).map(|version| (api.key, version)))
}

#[test]
fn every_valid_body_passes_whole() {
    for (api, version) in versions() {
        for seed in 0..SEEDS {
            let body = sample::body(api, version, seed);
            assert_eq!(size(api, version, &body), Ok(body.len()), "{api:?} v{version} {seed}");
        }
    }
}

#[test]
fn a_body_cut_anywhere_is_refused() {
    for (api, version) in versions() {
        for seed in 0..SEEDS {
            let body = sample::body(api, version, seed);
            for end in 0..body.len() {
                assert!(check(api, version, &body[..end]).is_err(), "{api:?} v{version} {seed}");
            }
        }
    }
}

#[test]
fn bytes_behind_the_body_are_not_looked_at() {
    for (api, version) in versions() {
        let mut body = sample::body(api, version, 1).to_vec();
        let size_bytes = body.len();
        body.extend_from_slice(&[0xff; 9]);
        assert_eq!(size(api, version, &body), Ok(size_bytes));
    }
}

#[test]
fn a_count_larger_than_the_bytes_behind_it_is_refused() {
    let huge = [0x7f, 0xff, 0xff, 0xff];
    assert_eq!(
        size(ApiKey::Metadata, 0, &huge),
        Err(GuardError::Count { claimed: 0x7fff_ffff, remaining_bytes: 0 })
    );
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    assert_eq!(
        size(ApiKey::Metadata, 12, &huge),
        Err(GuardError::Count { claimed: 0xffff_fffe, remaining_bytes: 2 })
    );
    // Five bytes hold at most two strings of the old form.
    let three = [0, 0, 0, 3, 0, 0, 0, 0, 0];
    assert_eq!(
        size(ApiKey::Metadata, 0, &three),
        Err(GuardError::Count { claimed: 3, remaining_bytes: 5 })
    );
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    let null = [0xff, 0xff, 0xff, 0xff];
    assert_eq!(size(ApiKey::Metadata, 0, &null), Err(GuardError::Null));
    assert_eq!(size(ApiKey::Metadata, 1, &null), Ok(4));
}

#[test]
fn many_tiny_elements_are_refused_beyond_their_share() {
    // Metadata version 9: an empty name and no tags are two bytes, and a structure in memory.
    let body = |count: u32| {
        let mut body = bytes::BytesMut::new();
        crate::primitives::put_unsigned_varint(&mut body, count + 1);
        for _ in 0..count {
            body.extend_from_slice(&[1, 0]);
        }
        body.extend_from_slice(&[0, 0, 0, 0]);
        body
    };
    let few = body(100);
    assert_eq!(size(ApiKey::Metadata, 9, &few), Ok(few.len()));
    assert!(matches!(check(ApiKey::Metadata, 9, &body(10_000)), Err(GuardError::Memory { .. })));
}

#[test]
fn unknown_tags_are_paid_for() {
    // An element with one empty unknown tag is five bytes and a map in memory.
    let mut body = bytes::BytesMut::new();
    crate::primitives::put_unsigned_varint(&mut body, 100_001);
    for _ in 0..100_000 {
        body.extend_from_slice(&[1, 1, 99, 0]);
    }
    body.extend_from_slice(&[0, 0, 0, 0]);
    assert!(matches!(check(ApiKey::Metadata, 9, &body), Err(GuardError::Memory { .. })));
}

#[test]
fn a_tagged_field_has_the_size_it_claims() {
    // Fetch version 12: the cluster id is tag 0; its value is three bytes.
    let plain = 4 + 4 + 4 + 4 + 1 + 4 + 4;
    let body = |claimed: u8| {
        let mut body = vec![0; plain];
        body.extend_from_slice(&[1, 1, 1, 1, 0, claimed, 3, b'a', b'b']);
        body
    };
    assert_eq!(size(ApiKey::Fetch, 12, &body(3)), Ok(plain + 9));
    for claimed in [0, 2, 4, 0x7f] {
        assert_eq!(
            size(ApiKey::Fetch, 12, &body(claimed)),
            Err(GuardError::TagSize { tag: 0, claimed_bytes: claimed.into(), read_bytes: 3 })
        );
    }
    let mut replica_state = vec![0; plain];
    replica_state.extend_from_slice(&[1, 1, 1, 1, 1, 0]);
    assert_eq!(size(ApiKey::Fetch, 12, &replica_state), Err(GuardError::TagVersion { tag: 1 }));
}
