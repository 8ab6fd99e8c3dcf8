//! What a lease costs.

use crate::delivery::event::{Change, Event, PartKey, Scan};
use crate::delivery::table::Table;
use crate::model::TopicId;

const LEASES: i64 = 1_000_000;
const PARTITIONS: i32 = 16;
const RECEIVE: i64 = 32;

/// A million leases, by receives of 32 that named attempt ids.
fn leases(message_group: impl Fn(i64) -> u32) -> Table {
    let mut table = Table::default();
    let mut made = 0;
    for at in 0.. {
        for partition in 0..PARTITIONS {
            let topic = TopicId(uuid::Uuid::from_u128(1));
            let key = PartKey { group: "orders".into(), topic, partition };
            let from = at * RECEIVE;
            let next = from + RECEIVE;
            let taken = (from..next).map(|offset| (offset, message_group(offset))).collect();
            let scan = Some(Scan { from, next, taken, held: Vec::new() });
            let receive = u64::try_from(made + 1).unwrap();
            let until_ms = 30_000 + at;
            let change = Change::Acquired { until_ms, receive, again: Vec::new(), scan };
            table.apply(at, &Event::Part { key, change });
            made += RECEIVE;
            if made >= LEASES {
                return table;
            }
        }
    }
    unreachable!()
}

fn held_by(message_group: impl Fn(i64) -> u32) -> i64 {
    let mut table = None;
    let grown = allocation_counter::measure(|| table = Some(leases(message_group)));
    let in_flight: usize = table.iter().flat_map(Table::parts).map(|(_, part)| part.undone()).sum();
    assert_eq!(in_flight, 1_000_000);
    grown.bytes_current
}

#[test]
fn a_million_leases_take_less_than_100_mb() {
    let held = held_by(|_| 0);
    assert!(held < 100_000_000, "{held} bytes");
}

#[test]
fn a_million_leases_in_order_take_less_than_150_mb() {
    // Every one of a message group of its own.
    let held = held_by(|offset| u32::try_from(offset).unwrap() + 1);
    assert!(held < 150_000_000, "{held} bytes");
}
