use super::*;
use proptest::prelude::*;

const QUEUE: QueueId = QueueId(7);

fn at(offset: i64) -> Offset {
    Offset(offset)
}

#[test]
fn the_last_stable_offset_is_where_the_first_open_transaction_begins() {
    let mut it = Transactions::default();
    it.write(QUEUE, ProducerId(1), 0, at(3));
    it.write(QUEUE, ProducerId(2), 0, at(5));
    it.write(QUEUE, ProducerId(1), 0, at(6));
    assert_eq!(it.last_stable(QUEUE, at(9)), at(3));
    assert_eq!(it.last_stable(QUEUE, at(2)), at(2), "never above what is durable");
    it.end(QUEUE, ProducerId(1), Marker::Commit, at(9));
    assert_eq!(it.last_stable(QUEUE, at(10)), at(5));
    it.end(QUEUE, ProducerId(2), Marker::Commit, at(10));
    assert_eq!(it.last_stable(QUEUE, at(11)), at(11));
    assert_eq!(it, Transactions::default(), "what is over costs nothing");
}

#[test]
fn an_end_that_is_not_durable_holds_the_last_stable_offset() {
    let mut it = Transactions::default();
    it.write(QUEUE, ProducerId(1), 0, at(3));
    it.end(QUEUE, ProducerId(1), Marker::Commit, at(8));
    assert_eq!(it.last_stable(QUEUE, at(8)), at(3), "the marker at 8 may be lost yet");
    assert_eq!(it.last_stable(QUEUE, at(9)), at(9));
}

#[test]
fn void_transactions_are_those_with_records_in_the_range_by_their_first() {
    let mut it = Transactions::default();
    it.write(QUEUE, ProducerId(1), 0, at(0));
    it.write(QUEUE, ProducerId(2), 0, at(1));
    it.write(QUEUE, ProducerId(3), 0, at(2));
    it.end(QUEUE, ProducerId(2), Marker::Abort, at(3));
    it.end(QUEUE, ProducerId(3), Marker::Commit, at(4));
    it.end(QUEUE, ProducerId(1), Marker::Abort, at(5));
    it.write(QUEUE, ProducerId(2), 0, at(6));
    it.end(QUEUE, ProducerId(2), Marker::Abort, at(7));
    let void = |from, to| -> Vec<(i64, i64)> {
        it.aborted(QUEUE, at(from)..at(to)).iter().map(|it| (it.producer.0, it.first.0)).collect()
    };
    assert_eq!(void(0, 8), [(1, 0), (2, 1), (2, 6)]);
    assert_eq!(void(4, 6), [(1, 0)]);
    assert_eq!(void(6, 7), [(2, 6)]);
    assert_eq!(void(8, 99), []);
}

#[test]
fn trimming_and_forgetting_leave_nothing() {
    let mut it = Transactions::default();
    it.write(QUEUE, ProducerId(1), 0, at(0));
    it.end(QUEUE, ProducerId(1), Marker::Abort, at(5));
    it.last_stable(QUEUE, at(6));
    it.trim(QUEUE, at(5));
    assert_eq!(it.aborted(QUEUE, at(5)..at(6)).len(), 1, "its marker is there still");
    it.trim(QUEUE, at(6));
    assert_eq!(it, Transactions::default());
    it.write(QUEUE, ProducerId(1), 0, at(7));
    it.forget(QUEUE);
    assert_eq!(it, Transactions::default());
}

/// One step of a log: a write of a producer, or its marker.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Write(i64),
    End(i64, Marker),
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = prop_oneof![
        3 => (0..4i64).prop_map(Entry::Write),
        1 => (0..4i64).prop_map(|id| Entry::End(id, Marker::Abort)),
        1 => (0..4i64).prop_map(|id| Entry::End(id, Marker::Commit)),
    ];
    prop::collection::vec(entry, 0..60)
}

fn feed(it: &mut Transactions, offset: usize, entry: Entry) {
    let offset = at(i64::try_from(offset).unwrap());
    match entry {
        Entry::Write(id) => it.write(QUEUE, ProducerId(id), 0, offset),
        Entry::End(id, marker) => it.end(QUEUE, ProducerId(id), marker, offset),
    }
}

proptest! {
    /// Against a scan of the whole log for every question.
    #[test]
    fn a_reader_of_committed_records_sees_what_a_scan_of_the_log_says(
        log in entries(), durable in 0..70usize, from in 0..60usize,
    ) {
        let durable = durable.min(log.len());
        let mut it = Transactions::default();
        for (offset, entry) in log.iter().enumerate() {
            feed(&mut it, offset, *entry);
        }
        // The end of the transaction that a write belongs to.
        let end_of = |offset: usize, id: i64| log[offset..].iter().enumerate().find_map(|(n, e)| {
            match e { Entry::End(of, marker) if *of == id => Some((offset + n, *marker)), _ => None }
        });
        let is_undecided = |offset: usize| match log[offset] {
            Entry::Write(id) => end_of(offset, id).is_none_or(|(end, _)| end >= durable),
            Entry::End(..) => false,
        };
        let stable = (0..durable).find(|offset| is_undecided(*offset)).unwrap_or(durable);
        let stable_at = at(i64::try_from(stable).unwrap());
        prop_assert_eq!(it.last_stable(QUEUE, at(i64::try_from(durable).unwrap())), stable_at);
        // Read as a consumer does: void from a transaction's first offset up to its marker.
        let from = from.min(stable);
        let void = it.aborted(QUEUE, at(i64::try_from(from).unwrap())..stable_at);
        prop_assert!(void.is_sorted_by_key(|aborted| aborted.first));
        let mut void = void.into_iter().peekable();
        let mut skipped = std::collections::BTreeSet::new();
        for (offset, entry) in log.iter().enumerate().take(stable).skip(from) {
            while let Some(next) = void.next_if(|it| it.first.0 <= i64::try_from(offset).unwrap()) {
                skipped.insert(next.producer.0);
            }
            match entry {
                Entry::Write(id) => {
                    let (_, marker) = end_of(offset, *id).unwrap();
                    prop_assert_eq!(skipped.contains(id), marker == Marker::Abort, "at {}", offset);
                }
                Entry::End(id, _) => { skipped.remove(id); }
            }
        }
    }

    /// A snapshot taken later than its position, and the log from there replayed on top.
    #[test]
    fn a_snapshot_and_the_log_behind_an_earlier_position_are_the_state(
        log in entries(), position in 0..60usize, taken in 0..60usize,
    ) {
        let taken = taken.min(log.len());
        let position = position.min(taken);
        let mut live = Transactions::default();
        let mut snapshot = Vec::new();
        for offset in 0..=log.len() {
            if offset == taken {
                live.encode(&mut snapshot);
            }
            if let Some(entry) = log.get(offset) {
                feed(&mut live, offset, *entry);
            }
        }
        let mut restored = Transactions::decode(&mut &snapshot[..]).unwrap();
        for (offset, entry) in log.iter().enumerate().skip(position) {
            feed(&mut restored, offset, *entry);
        }
        let end = at(i64::try_from(log.len()).unwrap());
        prop_assert_eq!(restored.last_stable(QUEUE, end), live.last_stable(QUEUE, end));
        prop_assert_eq!(
            restored.aborted(QUEUE, at(0)..end),
            live.aborted(QUEUE, at(0)..end)
        );
    }

    #[test]
    fn decoding_any_bytes_is_total(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Some(it) = Transactions::decode(&mut &bytes[..]) {
            let mut again = Vec::new();
            it.encode(&mut again);
            prop_assert_eq!(Transactions::decode(&mut &again[..]), Some(it));
        }
    }
}

#[test]
fn ends_that_nobody_asked_about_cost_a_bounded_amount_and_stay_on_the_safe_side() {
    let mut it = Transactions::default();
    for n in 0..5000 {
        it.write(QUEUE, ProducerId(1), 0, at(2 * n));
        it.end(QUEUE, ProducerId(1), Marker::Commit, at(2 * n + 1));
    }
    let of_queue = &it.queues[&QUEUE];
    assert_eq!(of_queue.settling.len(), SETTLING_MAX);
    assert!(it.last_stable(QUEUE, at(5000)) <= at(5000));
    assert_eq!(it.last_stable(QUEUE, at(9999)), at(9998));
    assert_eq!(it.last_stable(QUEUE, at(10_000)), at(10_000));
}
