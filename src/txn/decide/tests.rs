//! The golden table, and transactions against an independent reading of the rules.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::model::TopicId;
use crate::txn::state::PendingOffset;

const PID: i64 = 7;

fn txn(status: Status, epoch: i16) -> Txn {
    let partitions = match status {
        Status::Ongoing | Status::PrepareCommit | Status::PrepareAbort => {
            BTreeMap::from([(Arc::from("t"), BTreeSet::from([0]))])
        }
        _ => BTreeMap::new(),
    };
    Txn {
        producer_id: PID,
        previous_producer_id: -1,
        next_producer_id: -1,
        epoch,
        last_epoch: -1,
        timeout_ms: 1000,
        status,
        partitions,
        offsets: BTreeMap::new(),
        started_ms: 0,
        updated_ms: 0,
        client_version: 0,
    }
}

fn who(epoch: i16) -> Identity {
    Identity { producer_id: PID, epoch }
}

fn show(outcome: &Result<Decision, Refusal>) -> String {
    match outcome {
        Ok(Decision::Unchanged) => "ok".to_owned(),
        Ok(Decision::Change(change)) => {
            let txn = &change.txn;
            let mut text = format!("{} {}:{}", txn.status.name(), txn.producer_id, txn.epoch);
            if let Some(markers) = &change.markers
                && !markers.partitions.is_empty()
            {
                write!(text, " +{:?}@{}", markers.marker, markers.producer.epoch).unwrap();
            }
            text
        }
        Err(refusal) => match refusal {
            Refusal::Fenced => "fenced",
            Refusal::Concurrent => "concurrent",
            Refusal::InvalidState => "invalid state",
            Refusal::UnknownMapping => "unknown mapping",
            Refusal::NotInTransaction => "not in transaction",
            Refusal::NeedsProducerId => "needs id",
            other => return format!("{other:?}"),
        }
        .to_owned(),
    }
}

/// Every state × request × epoch: what Kafka answers with transaction.version 2.
#[test]
fn every_state_request_and_epoch_has_its_outcome() {
    let mut table = String::new();
    for status in Status::ALL {
        for (name, epoch) in [("same", 5), ("one before", 4), ("older", 3), ("newer", 6)] {
            let known = txn(status, 5);
            let mut cells = Vec::new();
            for raises in [false, true] {
                for marker in [Marker::Commit, Marker::Abort] {
                    let asked = End { who: who(epoch), marker, raises, spare: None };
                    cells.push(show(&end(Some(&known), 9, asked)));
                }
            }
            cells.push(show(&add(Some(&known), 9, who(epoch), &[("u", 1)])));
            let verified = verify(Some(&known), who(epoch), ("t", 0));
            cells.push(show(&verified.map(|()| Decision::Unchanged)));
            let asked = Init { timeout_ms: 1000, expected: Some(who(epoch)), spare: None };
            cells.push(show(&init(Some(&known), 9, asked)));
            writeln!(table, "{} | {name} | {}", status.name(), cells.join(" | ")).unwrap();
        }
        let asked = Init { timeout_ms: 1000, expected: None, spare: None };
        let taken_over = show(&init(Some(&txn(status, 5)), 9, asked));
        writeln!(table, "{} | new instance | {taken_over}", status.name()).unwrap();
    }
    let expected = include_str!("golden.txt");
    assert!(table == expected, "the table is\n{table}");
}

#[test]
fn a_delayed_end_of_the_transaction_before_cannot_decide_this_one() {
    let asked = End { who: who(4), marker: Marker::Commit, raises: true, spare: None };
    assert!(matches!(end(Some(&txn(Status::Ongoing, 5)), 9, asked), Err(Refusal::Fenced)));
}

#[test]
fn at_the_last_epoch_an_end_and_a_new_instance_take_another_producer_id() {
    let known = txn(Status::Ongoing, EPOCH_EXHAUSTED);
    let mut asked =
        End { who: who(EPOCH_EXHAUSTED), marker: Marker::Commit, raises: true, spare: None };
    assert!(matches!(end(Some(&known), 9, asked), Err(Refusal::NeedsProducerId)));
    asked.spare = Some(8);
    let Ok(Decision::Change(change)) = end(Some(&known), 9, asked) else { panic!() };
    assert_eq!((change.txn.producer_id, change.txn.epoch), (8, 0));
    assert_eq!(change.txn.previous_producer_id, PID);
    assert_eq!(change.markers.unwrap().producer, who(i16::MAX));
    // Its answer was lost: the producer asks as it knew itself.
    assert_eq!(show(&end(Some(&change.txn), 9, asked)), "ok");
    for status in [Status::Empty, Status::Ongoing, Status::CompleteAbort] {
        let known = txn(status, EPOCH_EXHAUSTED);
        let asked = Init { timeout_ms: 1, expected: None, spare: Some(8) };
        let Ok(Decision::Change(change)) = init(Some(&known), 9, asked) else { panic!() };
        assert_eq!((change.txn.producer_id, change.txn.epoch), (8, 0), "{status:?}");
    }
}

#[test]
fn a_retried_increase_is_answered_as_before_and_one_of_a_zombie_is_not() {
    let asked = Init { timeout_ms: 1000, expected: Some(who(5)), spare: None };
    let Ok(Decision::Change(change)) = init(Some(&txn(Status::Empty, 5)), 9, asked) else {
        panic!()
    };
    assert_eq!(change.txn.epoch, 6);
    assert_eq!(show(&init(Some(&change.txn), 9, asked)), "ok");
    let Ok(Decision::Change(begun)) = add(Some(&change.txn), 9, who(6), &[("t", 0)]) else {
        panic!()
    };
    assert_eq!(show(&init(Some(&begun.txn), 9, asked)), "fenced");
}

#[test]
fn a_commit_with_offsets_is_prepared_and_then_completed() {
    let offsets = GroupOffsets::new();
    let home = ("__consumer_offsets", 3);
    let known = txn(Status::Empty, 5);
    let added = add_offsets(Some(&known), 9, who(5), home, ("g", offsets.clone()), true).unwrap();
    assert!(added.txn.contains(home.0, home.1) && added.txn.offsets.contains_key("g"));
    let refused = add_offsets(Some(&known), 9, who(5), home, ("g", offsets), false);
    assert!(matches!(refused, Err(Refusal::NotInTransaction)), "an old client adds it first");
    let asked = End { who: who(5), marker: Marker::Commit, raises: true, spare: None };
    let Ok(Decision::Change(change)) = end(Some(&added.txn), 9, asked) else { panic!() };
    assert_eq!((change.txn.status, change.txn.epoch), (Status::PrepareCommit, 6));
    let over = completed(&change.txn, 10);
    assert_eq!((over.status, over.epoch), (Status::CompleteCommit, 6));
    assert!(over.offsets.is_empty() && over.partitions.is_empty());
    let asked = End { marker: Marker::Abort, ..asked };
    let Ok(Decision::Change(change)) = end(Some(&added.txn), 9, asked) else { panic!() };
    assert_eq!(change.txn.status, Status::CompleteAbort, "void offsets are nobody's work");
}

#[test]
fn a_late_transaction_is_aborted_and_its_producer_fenced() {
    let known = txn(Status::Ongoing, 5);
    assert_eq!(time_out(&known, 1000), None);
    let change = time_out(&known, 1001).unwrap();
    assert_eq!((change.txn.status, change.txn.epoch), (Status::CompleteAbort, 6));
    assert!(matches!(check(Some(&change.txn), who(5)), Err(Refusal::Fenced)));
    assert_eq!(time_out(&change.txn, i64::MAX), None);
}

#[test]
fn a_late_transaction_ends_at_the_last_epochs_too_and_nobody_goes_on_with_them() {
    for epoch in [EPOCH_EXHAUSTED - 1, EPOCH_EXHAUSTED, i16::MAX] {
        let change = time_out(&txn(Status::Ongoing, epoch), 1001).unwrap();
        let markers = change.markers.as_ref().unwrap();
        assert_eq!(change.txn.status, Status::CompleteAbort, "{epoch}");
        assert_eq!(markers.partitions.len(), 1);
        assert_eq!(markers.producer.epoch, epoch.saturating_add(1));
        let zombie = who(epoch);
        assert!(matches!(add(Some(&change.txn), 9, zombie, &[("t", 0)]), Err(Refusal::Fenced)));
        assert!(matches!(verify(Some(&change.txn), zombie, ("t", 0)), Err(Refusal::Fenced)));
        for raises in [false, true] {
            let asked = End { who: zombie, marker: Marker::Commit, raises, spare: Some(8) };
            assert!(end(Some(&change.txn), 9, asked).is_err(), "{epoch}");
        }
        // The next instance gets an identity that can be fenced again.
        let asked = Init { timeout_ms: 1, expected: None, spare: Some(8) };
        let Ok(Decision::Change(next)) = init(Some(&change.txn), 9, asked) else { panic!() };
        assert_eq!((next.txn.producer_id, next.txn.epoch), (8, 0), "{epoch}");
    }
}

#[test]
fn offsets_committed_outside_of_a_transaction_take_older_ones_out_of_it() {
    let key = |partition| (Arc::from("t"), partition);
    let pending = |offset| PendingOffset {
        offset,
        leader_epoch: -1,
        metadata: Arc::from(""),
        topic_id: TopicId(uuid::Uuid::nil()),
    };
    let offsets = GroupOffsets::from([(key(0), pending(5)), (key(1), pending(6))]);
    let known = txn(Status::Empty, 5);
    let home = ("__consumer_offsets", 3);
    let known = add_offsets(Some(&known), 9, who(5), home, ("g", offsets), true).unwrap().txn;
    assert_eq!(supersede(&known, 9, "g", &[key(2)]), None);
    assert_eq!(supersede(&known, 9, "h", &[key(0)]), None);
    let change = supersede(&known, 9, "g", &[key(0), key(2)]).unwrap();
    assert_eq!(change.txn.offsets["g"], GroupOffsets::from([(key(1), pending(6))]));
    assert_eq!((change.txn.status, change.markers), (Status::Ongoing, None));
    let change = supersede(&change.txn, 9, "g", &[key(1)]).unwrap();
    assert!(change.txn.offsets.is_empty(), "nothing is left to be written");
    let prepared = Txn { status: Status::PrepareCommit, ..known };
    assert_eq!(supersede(&prepared, 9, "g", &[key(0)]), None, "it is decided");
}

/// What a producer may try.
#[derive(Debug, Clone, Copy)]
enum Try {
    Init,
    Write(usize, i32),
    End(usize, Marker),
    TimeOut,
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let one = prop_oneof![
        1 => Just(Try::Init),
        4 => (0..4usize, 0..3i32).prop_map(|(past, partition)| Try::Write(past, partition)),
        2 => (0..4usize).prop_map(|past| Try::End(past, Marker::Commit)),
        2 => (0..4usize).prop_map(|past| Try::End(past, Marker::Abort)),
        1 => Just(Try::TimeOut),
    ];
    prop::collection::vec(one, 0..40)
}

proptest! {
    /// Every request is sent with an identity that was handed out at some time, delayed, doubled
    /// and reordered as it may be. Each write belongs to the transaction of its identity, and each
    /// transaction has one end, which was asked for with its own identity or forced by the broker.
    #[test]
    fn delayed_and_doubled_requests_join_and_decide_no_other_transaction(tries in tries()) {
        let mut state: Option<Txn> = None;
        let mut handed_out: Vec<Identity> = Vec::new();
        // The naive side: per identity, the partitions written and how it ended.
        let mut written: BTreeMap<(i64, i16), BTreeSet<i32>> = BTreeMap::new();
        let mut ended: BTreeMap<(i64, i16), Marker> = BTreeMap::new();
        let mut now = 0;
        for one in tries {
            now += 10;
            let current = state.as_ref().map(|txn| (txn.producer_id, txn.epoch));
            let open = state.as_ref().is_some_and(|txn| txn.status == Status::Ongoing);
            let past = |back: usize| handed_out.iter().rev().nth(back).copied();
            let decision = match one {
                Try::Init => {
                    init(state.as_ref(), now, Init { timeout_ms: 50, expected: None, spare: Some(PID) })
                }
                Try::Write(back, partition) => {
                    let Some(who) = past(back) else { continue };
                    let decision = add(state.as_ref(), now, who, &[("t", partition)]);
                    let key = (who.producer_id, who.epoch);
                    prop_assert_eq!(decision.is_ok(), current == Some(key));
                    if decision.is_ok() {
                        prop_assert!(!ended.contains_key(&key), "its transaction is over");
                        written.entry(key).or_default().insert(partition);
                    }
                    decision
                }
                Try::End(back, marker) => {
                    let Some(who) = past(back) else { continue };
                    let asked = End { who, marker, raises: true, spare: Some(PID + 1) };
                    let decision = end(state.as_ref(), now, asked);
                    let key = (who.producer_id, who.epoch);
                    match &decision {
                        Ok(Decision::Unchanged) => {
                            // A commit that is confirmed again was one; void transactions may
                            // have been ended by nobody.
                            if marker == Marker::Commit {
                                prop_assert_eq!(ended.get(&key), Some(&Marker::Commit));
                            } else {
                                prop_assert_ne!(ended.get(&key), Some(&Marker::Commit));
                            }
                        }
                        Ok(Decision::Change(_)) => prop_assert_eq!(current, Some(key)),
                        Err(_) => {}
                    }
                    decision
                }
                Try::TimeOut => match state.as_ref().and_then(|txn| time_out(txn, now + 100)) {
                    Some(change) => Ok(Decision::Change(Box::new(change))),
                    None => continue,
                },
            };
            let Ok(Decision::Change(change)) = decision else { continue };
            if let Some(markers) = &change.markers && let Some(key) = current {
                if open {
                    prop_assert!(ended.insert(key, markers.marker).is_none(), "one end");
                    let named = markers.partitions.get("t").cloned().unwrap_or_default();
                    prop_assert_eq!(Some(&named), written.get(&key));
                    prop_assert!(markers.producer.epoch > key.1);
                } else {
                    prop_assert!(markers.partitions.is_empty());
                    prop_assert!(ended.insert(key, Marker::Abort).is_none());
                }
            }
            let next = Identity { producer_id: change.txn.producer_id, epoch: change.txn.epoch };
            if handed_out.last() != Some(&next) {
                prop_assert!(!handed_out.contains(&next), "identities are used once");
                handed_out.push(next);
            }
            state = Some(change.txn);
        }
    }
}
