use proptest::prelude::*;

use super::*;

fn key() -> PartKey {
    PartKey { group: "g".into(), topic: TopicId(uuid::Uuid::from_u128(5)), partition: 2 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Version, kind, group `g`, topic 5, partition 2.
fn start_of(kind: u8) -> String {
    format!("01{kind:02x}000167{:032x}00000002", 5)
}

#[test]
fn events_are_these_bytes() {
    let part = |change| Event::Part { key: key(), change };
    let entry = Entry {
        time_ms: 9,
        receive: 7,
        message_group: 0xabcd,
        attempts: 3,
        state: State::Acquired,
    };
    let scan = Scan { from: 4, next: 9, taken: vec![(4, 0), (6, 0)], held: vec![(7, 0xff)] };
    let cases = [
        (
            part(Change::Acquired {
                until_ms: 256,
                receive: 1,
                again: vec![2, 3],
                scan: Some(scan),
            }),
            start_of(1)
                + "0000000000000100"
                + "0000000000000001"
                + "010202"
                + "01"
                + "0000000000000004"
                + "0000000000000009"
                + "0204010101"
                + "00"
                + "010701"
                + "01"
                + "000000ff",
        ),
        (part(Change::Acked { offsets: vec![1, 2, 300] }), start_of(2) + "020102a90201"),
        (
            part(Change::Extended { until_ms: 1, offsets: vec![0] }),
            start_of(3) + "0000000000000001" + "010001",
        ),
        (
            part(Change::Released { visible_ms: 1, offsets: vec![0] }),
            start_of(4) + "0000000000000001" + "010001",
        ),
        (
            part(Change::Archiving { reason: Some("no".into()), offsets: vec![0] }),
            start_of(5) + "00026e6f" + "010001",
        ),
        (part(Change::Archived { offsets: vec![] }), start_of(6) + "00"),
        (part(Change::Trimmed { to: 8 }), start_of(7) + "0000000000000008"),
        (
            part(Change::Reset { to: 8, generation: 2 }),
            start_of(8) + "0000000000000008" + "0000000000000002",
        ),
        (
            part(Change::Cut { to: 8, generation: 2 }),
            start_of(13) + "0000000000000008" + "0000000000000002",
        ),
        (
            part(Change::State(Box::new(Said {
                generation: 2,
                scanned_to: 6,
                entries: vec![(5, entry)],
                done: vec![(8, 10)],
                reasons: vec![(5, "no".into())],
            }))),
            start_of(9)
                + "0000000000000002"
                + "0000000000000006"
                + "010501"
                + "01"
                + "0003"
                + "0000000000000009"
                + "0000abcd"
                + "0000000000000007"
                + "01"
                + "0000000000000008"
                + "000000000000000a"
                + "01"
                + "0000000000000005"
                + "00026e6f",
        ),
        (
            part(Change::Piece {
                since: Some(0x77),
                said: Box::new(Said { generation: 2, scanned_to: 6, ..Said::default() }),
            }),
            start_of(12)
                + "0000000000000077"
                + "0000000000000002"
                + "0000000000000006"
                + "00"
                + "00"
                + "00",
        ),
        (
            part(Change::Piece { since: None, said: Box::default() }),
            start_of(12) + "ffffffffffffffff" + &"0".repeat(32) + "000000",
        ),
        (Event::GroupDeleted { group: "g".into() }, "010a000167".to_owned()),
        (Event::TopicDeleted { topic: key().topic }, format!("010b{:032x}", 5)),
    ];
    for (event, expected) in cases {
        let bytes = event.encode();
        assert_eq!(hex(&bytes), expected, "{event:?}");
        assert_eq!(Event::decode(&bytes).as_ref(), Ok(&event));
    }
}

#[test]
fn cut_and_lengthened_events_are_refused() {
    let event = Event::Part { key: key(), change: Change::Acked { offsets: vec![1, 5] } };
    let mut bytes = event.encode();
    for len in 0..bytes.len() {
        assert_eq!(Event::decode(&bytes[..len]), Err(WireError::Short), "{len}");
    }
    bytes.push(0);
    assert_eq!(Event::decode(&bytes), Err(WireError::LeftOver { size_bytes: 1 }));
    bytes[0] = 2;
    assert_eq!(Event::decode(&bytes), Err(WireError::Version { version: 2 }));
}

#[test]
fn a_long_run_is_refused_before_it_is_unrolled() {
    let mut bytes = Event::Part { key: key(), change: Change::Acked { offsets: vec![] } }.encode();
    bytes.pop();
    bytes.extend([1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(Event::decode(&bytes), Err(WireError::Number));
}

proptest! {
    #[test]
    fn offsets_come_back(offsets in prop::collection::btree_set(0i64..400, 0..60)) {
        let offsets: Vec<i64> = offsets.into_iter().collect();
        let event = Event::Part { key: key(), change: Change::Acked { offsets } };
        prop_assert_eq!(Event::decode(&event.encode()), Ok(event));
    }

    #[test]
    fn nothing_breaks_the_reading(kind in 0u8..14, body in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut bytes = Event::Part { key: key(), change: Change::Trimmed { to: 0 } }.encode();
        bytes.truncate(bytes.len() - 8);
        bytes[1] = kind;
        bytes.extend(body);
        if let Ok(event) = Event::decode(&bytes) {
            // Runs may be written otherwise; what is read is the same.
            prop_assert_eq!(Event::decode(&event.encode()), Ok(event));
        }
    }
}
