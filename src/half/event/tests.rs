use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sent(message_id: Option<&str>) -> Event {
    let sent = Sent {
        topic_id: TopicId(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
        partition: 3,
        born_ms: 0x0123_4567_89ab,
        immunity_ms: 60_000,
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        message_id: message_id.map(str::to_owned),
    };
    Event::Sent { half: Offset(0x1d), sent }
}

const HALF: &str = "0000000000000007";
const AT: &str = "0000000000000b0a";

#[test]
fn golden_bytes() {
    let (half, at_ms) = (Offset(7), 0xb0a);
    let placed = Placed { queue: QueueId(5), from: Offset(9), crc: 0xcafe_babe };
    let sent_bytes = "0201\
        000000000000001d\
        00112233445566778899aabbccddeeff\
        00000003\
        00000123456789ab\
        0000ea60\
        000167\
        00066f7264657273";
    let cases = [
        (sent(Some("m1")), format!("{sent_bytes}00026d31")),
        (sent(None), format!("{sent_bytes}ffff")),
        (Event::Checked { half, at_ms }, format!("0202{HALF}{AT}")),
        (
            Event::CheckReturned { half, at_ms, due_ms: 0xdd },
            format!("0203{HALF}{AT}00000000000000dd"),
        ),
        (Event::CheckAsked { half, at_ms }, format!("0204{HALF}{AT}")),
        (
            Event::Committed { half, at_ms, by: Ender::Producer, placed },
            format!("0205{HALF}{AT}00000000050000000000000009cafebabe"),
        ),
        (Event::RolledBack { half, at_ms, by: Ender::Operator }, format!("0206{HALF}{AT}01")),
        (
            Event::Expired { half, at_ms, reason: Expiry::Age, checks: 15 },
            format!("0207{HALF}{AT}01000f"),
        ),
    ];
    for (event, golden) in cases {
        let bytes = event.encode();
        assert_eq!(hex(&bytes), golden, "{event:?}");
        assert_eq!(Event::decode(&bytes), Ok(event));
    }
}

#[test]
fn what_is_no_event_is_named() {
    let whole = Event::RolledBack { half: Offset(1), at_ms: 2, by: Ender::Producer }.encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        (Vec::new(), EventError::Short),
        (vec![2], EventError::Short),
        (with(0, 1), EventError::Version(1)),
        (with(1, 0), EventError::Unknown { what: "event", value: 0 }),
        (with(1, 8), EventError::Unknown { what: "event", value: 8 }),
        (with(18, 9), EventError::Unknown { what: "ender", value: 9 }),
        (whole[..whole.len() - 1].to_vec(), EventError::Short),
        ([&whole[..], &[0]].concat(), EventError::LeftOver(1)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(Event::decode(&bytes), Err(expected), "{}", hex(&bytes));
    }
    let mut not_text = sent(Some("m1")).encode();
    *not_text.last_mut().unwrap() = 0xff;
    assert_eq!(Event::decode(&not_text), Err(EventError::Text));
}

proptest! {
    #[test]
    fn bent_bytes_are_refused_or_mean_themselves(
        at in 0usize..90,
        byte: u8,
        cut in 0usize..80,
        id in proptest::option::of("[a-z]{0,5}"),
    ) {
        let mut bytes = sent(id.as_deref()).encode();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(bytes.len().max(cut) - cut);
        if let Ok(event) = Event::decode(&bytes) {
            prop_assert_eq!(event.encode(), bytes);
        }
    }
}
