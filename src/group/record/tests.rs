use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn offset_value() -> OffsetValue {
    OffsetValue {
        offset: 0x0102_0304,
        leader_epoch: 7,
        metadata: Arc::from("note"),
        commit_ms: 0x0190_0000_0000,
        expire_ms: None,
        topic_id: TopicId(uuid::Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
    }
}

fn group_value() -> GroupValue {
    GroupValue {
        protocol_type: Arc::from("consumer"),
        generation: 3,
        protocol_name: Some(Arc::from("range")),
        leader: Some(Arc::from("m1")),
        state_since_ms: Some(0x0190_0000_0000),
        members: vec![MemberValue {
            member_id: Arc::from("m1"),
            group_instance_id: Some(Arc::from("i")),
            client_id: Arc::from("c"),
            client_host: Arc::from("/h"),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(b"\x01\x02"),
            assignment: Bytes::from_static(b"\x03"),
        }],
    }
}

#[test]
fn keys_have_kafkas_bytes() {
    let offset = Record::offset_tombstone("grp", "top", 5);
    assert_eq!(hex(&offset.key), "0001".to_owned() + "0003677270" + "0003746f70" + "00000005");
    assert_eq!(offset.value, None);
    let group = Record::group_tombstone("grp");
    assert_eq!(hex(&group.key), "0002".to_owned() + "0003677270");
    assert_eq!(group.value, None);
}

#[test]
fn every_version_of_an_offset_has_kafkas_bytes() {
    let with_expiry = OffsetValue { expire_ms: Some(9), ..offset_value() };
    let note = "00046e6f7465";
    let (offset, commit) = ("0000000001020304", "0000019000000000");
    for (version, want) in [
        (0, format!("0000{offset}{note}{commit}")),
        (1, format!("0001{offset}{note}{commit}0000000000000009")),
        (2, format!("0002{offset}{note}{commit}")),
        (3, format!("0003{offset}00000007{note}{commit}")),
        (
            4,
            format!(
                "0004{offset}00000007056e6f7465{commit}010010{}",
                "00112233445566778899aabbccddeeff"
            ),
        ),
    ] {
        assert_eq!(hex(&encode_offset(&with_expiry, version)), want, "version {version}");
    }
}

#[test]
fn an_offset_is_written_as_kafka_4_does() {
    let version = |value: &OffsetValue| {
        let record = Record::offset("g", "t", 0, value);
        record.value.unwrap()[..2].to_vec()
    };
    assert_eq!(version(&offset_value()), [0, 4]);
    assert_eq!(version(&OffsetValue { expire_ms: Some(1), ..offset_value() }), [0, 1]);
    // A nil topic id is the field's default, which is not written.
    let nil = OffsetValue { topic_id: TopicId(uuid::Uuid::nil()), ..offset_value() };
    assert_eq!(Record::offset("g", "t", 0, &nil).value.unwrap().last(), Some(&0));
}

#[test]
fn every_version_of_a_group_has_kafkas_bytes() {
    let since = "0000019000000000";
    let head = "0008636f6e73756d6572".to_owned() + "00000003" + "000572616e6765" + "00026d31";
    let tail = "0000afc8".to_owned() + "000000020102" + "0000000103";
    let (client, rebalance) = ("000163".to_owned() + "00022f68", "0000ea60");
    for (version, want) in [
        (0, format!("0000{head}0000000100026d31{client}{tail}")),
        (1, format!("0001{head}0000000100026d31{client}{rebalance}{tail}")),
        (2, format!("0002{head}{since}0000000100026d31{client}{rebalance}{tail}")),
        (3, format!("0003{head}{since}0000000100026d31000169{client}{rebalance}{tail}")),
        (
            4,
            format!(
                "0004{}{since}02{}0000ea600000afc803010202030000",
                "09636f6e73756d6572".to_owned() + "00000003" + "0672616e6765" + "036d31",
                "036d31".to_owned() + "0269" + "0263" + "032f68",
            ),
        ),
    ] {
        assert_eq!(hex(&encode_group(&group_value(), version)), want, "version {version}");
    }
    assert_eq!(Record::group("g", &group_value()).value.unwrap()[..2], [0, 3]);
}

#[test]
fn every_version_is_read_back() {
    for version in 0..=VERSION_MAX {
        let value = OffsetValue { expire_ms: Some(9), ..offset_value() };
        let mut want = value.clone();
        if version != 1 {
            want.expire_ms = None;
        }
        if version < 3 {
            want.leader_epoch = -1;
        }
        if version < 4 {
            want.topic_id = TopicId(uuid::Uuid::nil());
        }
        assert_eq!(decode_offset(&encode_offset(&value, version)), Ok(want), "offset {version}");

        let mut want = group_value();
        if version < 3 {
            want.members[0].group_instance_id = None;
        }
        if version < 2 {
            want.state_since_ms = None;
        }
        if version < 1 {
            want.members[0].rebalance_timeout_ms = -1;
        }
        let bytes = encode_group(&group_value(), version);
        assert_eq!(decode_group(&bytes), Ok(want), "group {version}");
    }
}

#[test]
fn an_empty_group_is_read_back() {
    let empty =
        GroupValue { protocol_name: None, leader: None, members: Vec::new(), ..group_value() };
    for version in 2..=VERSION_MAX {
        assert_eq!(decode_group(&encode_group(&empty, version)), Ok(empty.clone()));
    }
}

#[test]
fn unknown_tagged_fields_are_passed_over() {
    let mut bytes = encode_offset(&offset_value(), 4).to_vec();
    let tags = bytes.len() - 19;
    assert_eq!(bytes[tags..tags + 3], [1, 0, 16]);
    bytes[tags] = 2;
    bytes.extend_from_slice(&[0x85, 0x01, 2, 0xaa, 0xbb]);
    assert_eq!(decode_offset(&bytes), Ok(offset_value()));
}

#[test]
fn keys_of_the_first_kafka_are_read() {
    let mut key = offset_key("g", "t", 1).to_vec();
    key[1] = 0;
    let value = encode_offset(&offset_value(), 0);
    let Ok(Decoded::Offset { group, topic, partition: 1, value: Some(value) }) =
        decode(&key, Some(&value))
    else {
        panic!("not read")
    };
    assert_eq!((&*group, &*topic, value.offset), ("g", "t", 0x0102_0304));
}

#[test]
fn other_record_types_are_named_not_refused() {
    assert_eq!(decode(&[0, 3, 1, 2], Some(&[0])), Ok(Decoded::Unknown { key_version: 3 }));
    assert_eq!(decode(&[0xff, 0xff], None), Ok(Decoded::Unknown { key_version: -1 }));
}

#[test]
fn newer_value_versions_are_refused() {
    let key = group_key("g");
    assert_eq!(decode(&key, Some(&[0, 5, 0])), Err(RecordError::ValueVersion(5)));
    assert_eq!(decode(&key, Some(&[0xff, 0xff])), Err(RecordError::ValueVersion(-1)));
}

#[test]
fn cut_records_are_refused_at_every_byte() {
    for version in 0..=VERSION_MAX {
        let bytes = encode_group(&group_value(), version);
        for end in 0..bytes.len() {
            assert!(decode_group(&bytes[..end]).is_err(), "group {version} cut at {end}");
        }
        let bytes = encode_offset(&offset_value(), version);
        for end in 0..bytes.len() {
            assert!(decode_offset(&bytes[..end]).is_err(), "offset {version} cut at {end}");
        }
    }
}

#[test]
fn claimed_counts_cost_nothing() {
    // A group of version 3 whose member count claims two thousand millions.
    let mut bytes = encode_group(&GroupValue { members: Vec::new(), ..group_value() }, 3).to_vec();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(decode_group(&bytes), Err(RecordError::Truncated));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        key in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        value in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        kind in 0_u8..4, version in 0_u8..6,
    ) {
        let key: Vec<u8> = [0, kind].into_iter().chain(key).collect();
        let value: Vec<u8> = [0, version].into_iter().chain(value).collect();
        // Total: whatever comes back, it comes back.
        let _read = decode(&key, Some(&value));
        let _value = decode_group(&value);
        let _value = decode_offset(&value);
    }
}
