//! What a pending half costs in memory, measured.

use uuid::Uuid;

use crate::half::event::{Event, Sent};
use crate::half::table::{Needed, Rules, Table};
use crate::model::{Offset, TopicId};

const RULES: Rules = Rules {
    first_check_ms: 6_000,
    check_interval_ms: 30_000,
    checks_max: 15,
    age_max_ms: 14_400_000,
};

#[test]
fn a_pending_half_costs_less_than_200_bytes_with_all_its_indexes() {
    const HALVES: i64 = 200_000;
    let start = Needed { halves: Offset(0), events: Offset(0) };
    let mut table = Table::new(RULES, start, 0, 0);
    let grown = |table: &mut Table, change: &mut dyn FnMut(&mut Table)| {
        allocation_counter::measure(|| change(table)).bytes_current
    };
    let mut sent = Sent {
        topic_id: TopicId(Uuid::from_u128(1)),
        partition: 0,
        born_ms: 0,
        immunity_ms: 0,
        group: String::new(),
        topic: "orders".to_owned(),
        message_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
    };
    let bytes = grown(&mut table, &mut |table| {
        for at in 0..HALVES {
            sent.born_ms = 1_700_000_000_000 + at / 10;
            sent.group = format!("group-{}", at % 100);
            let sent = Event::Sent { half: Offset(at), sent: sent.clone() };
            table.apply(Offset(at), &sent);
        }
        sent.group = String::new();
    });
    let each = bytes / HALVES;
    assert!((50..=200).contains(&each), "{each} bytes for each of {HALVES} halves");
    // Checks move a half about in the indexes, and cost nothing that lasts.
    let bytes = grown(&mut table, &mut |table| {
        for at in 0..HALVES {
            let check = Event::Checked { half: Offset(at), at_ms: 1_700_000_100_000 + at / 7 };
            table.apply(Offset(HALVES + at), &check);
        }
    });
    let each = (each * HALVES + bytes) / HALVES;
    assert!(each <= 200, "{each} bytes for each of {HALVES} halves that were checked");
    let bytes = grown(&mut table, &mut |table| {
        for at in 0..HALVES {
            let (half, at_ms) = (Offset(at), 1_700_000_200_000);
            let end = Event::RolledBack { half, at_ms, by: crate::half::Ender::Producer };
            table.apply(Offset(2 * HALVES + at), &end);
        }
    });
    assert!(bytes < 0, "ended halves leave {bytes} bytes more");
}
