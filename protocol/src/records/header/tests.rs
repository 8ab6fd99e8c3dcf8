use super::*;

fn sample() -> BatchHeader {
    BatchHeader {
        base_offset: 0x0102_0304_0506_0708,
        batch_length: 0x1112_1314,
        partition_leader_epoch: 0x2122_2324,
        crc: 0x3132_3334,
        attributes: 0x4100,
        last_offset_delta: 0x5152_5354,
        base_timestamp: 0x6162_6364_6566_6768,
        max_timestamp: 0x7172_7374_7576_7778,
        producer_id: 0x0112_2334_4556_6778,
        producer_epoch: 0x1a1b,
        base_sequence: 0x2a2b_2c2d,
        records_count: 0x3a3b_3c3d,
        marker: None,
    }
}

#[test]
fn every_field_lies_at_its_place() {
    #[rustfmt::skip]
    let bytes = [
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
        0x11, 0x12, 0x13, 0x14,
        0x21, 0x22, 0x23, 0x24,
        2,
        0x31, 0x32, 0x33, 0x34,
        0x41, 0x00,
        0x51, 0x52, 0x53, 0x54,
        0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
        0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78,
        0x01, 0x12, 0x23, 0x34, 0x45, 0x56, 0x67, 0x78,
        0x1a, 0x1b,
        0x2a, 0x2b, 0x2c, 0x2d,
        0x3a, 0x3b, 0x3c, 0x3d,
    ];
    assert_eq!(sample().encode(), bytes);
    assert_eq!(BatchHeader::parse(&bytes), Ok(sample()));
}

#[test]
fn flags_and_codecs_are_told_from_the_attributes() {
    let plain = BatchHeader { attributes: 0, ..sample() };
    assert!(!plain.is_control() && !plain.is_transactional() && !plain.log_append_time());
    assert_eq!(plain.delete_horizon_ms(), None);
    for codec in Codec::ALL {
        assert_eq!(plain.with_codec(codec).codec(), Ok(codec));
        assert_eq!(Codec::from_id(codec.id()), Ok(codec));
    }
    for id in 5..8 {
        let header = BatchHeader { attributes: id, ..plain };
        assert_eq!(header.codec(), Err(UnknownCodec { id }));
    }
    let flags = |attributes| {
        let header = BatchHeader { attributes, ..plain };
        (header.log_append_time(), header.is_transactional(), header.is_control())
    };
    assert_eq!(flags(8), (true, false, false));
    assert_eq!(flags(16), (false, true, false));
    assert_eq!(flags(32), (false, false, true));
    let horizon = BatchHeader { attributes: 64, base_timestamp: 9, ..plain };
    assert_eq!(horizon.delete_horizon_ms(), Some(9));
}

#[test]
fn sequences_wrap_to_zero() {
    let last = |base_sequence, last_offset_delta| {
        BatchHeader { base_sequence, last_offset_delta, ..sample() }.last_sequence()
    };
    assert_eq!(last(10, 4), 14);
    assert_eq!(last(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(last(i32::MAX, 1), 0);
    assert_eq!(last(i32::MAX - 1, 4), 2);
    assert_eq!(last(-1, 4), -1);
}

#[test]
fn hostile_fields_do_not_overflow() {
    let header = BatchHeader {
        base_offset: i64::MAX,
        last_offset_delta: i32::MAX,
        batch_length: i32::MAX,
        ..sample()
    };
    assert_eq!((header.last_offset(), header.next_offset()), (i64::MAX, i64::MAX));
    assert_eq!(header.size_bytes(), 0x8000_000b);
    assert!(!header.crc_matches(&[0; 61]));
    assert_eq!(BatchHeader { batch_length: -1, ..header }.size_bytes(), 12);
    assert!(!BatchHeader { batch_length: -1, ..header }.crc_matches(&[0; 61]));
}
