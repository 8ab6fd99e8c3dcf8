#![expect(clippy::indexing_slicing, reason = "a test that reads past the end shall panic")]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::command::AllocateProducerIds;
use crate::testing::hex;

const PLACE: Place = Place { segment: 3, position: 0x50, durable_end: 0x40 };

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 9), index)
}

fn vote(term: u64, committed: bool) -> Vote {
    Vote { leader_id: LeaderId::new(term, 9), committed }
}

fn commands() -> Proposal {
    let command = AllocateProducerIds { count: 1000 }.into();
    Proposal::new(vec![(command, vec![0x07, 0xe8, 0x07])])
}

fn records() -> Vec<(Record, &'static str)> {
    let voters = BTreeSet::from([1, 2]);
    let nodes = BTreeMap::from([
        (1, BasicNode::new("a:1")),
        (2, BasicNode::new("")),
        (7, BasicNode::new("b")),
    ]);
    let membership = Membership::new(vec![voters], nodes);
    let state = LogState { vote: Some(vote(2, true)), purged: Some(log_id(1, 4)), committed: None };
    let entry = |payload| Record::Entry(Entry { log_id: log_id(2, 5), payload });
    vec![
        (
            Record::Segment { state, next_index: 5 },
            "0000000000000005\
             01000000000000000200000000000000090101\
             000000000000000100000000000000090000000000000004\
             00",
        ),
        (entry(EntryPayload::Blank), "00000000000000020000000000000009000000000000000500"),
        (
            entry(EntryPayload::Normal(commands())),
            "0000000000000002000000000000000900000000000000050100010000000100000003\
             07e807",
        ),
        (
            entry(EntryPayload::Membership(membership)),
            "00000000000000020000000000000009000000000000000502\
             000000010000000200000000000000010000000000000002\
             00000003\
             000000000000000100000003613a31\
             000000000000000200000000\
             00000000000000070000000162",
        ),
        (Record::Vote(vote(2, false)), "0000000000000002000000000000000900"),
        (Record::Truncate { from: 5 }, "0000000000000005"),
        (Record::Purge(log_id(1, 4)), "000000000000000100000000000000090000000000000004"),
        (Record::Committed(log_id(1, 4)), "000000000000000100000000000000090000000000000004"),
        (Record::Close, ""),
    ]
}

fn frame(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(record, PLACE, &mut bytes);
    bytes
}

/// What one release wrote every later one must read: these bytes never change.
#[test]
fn every_record_has_the_bytes_it_always_had() {
    for (record, payload) in records() {
        assert_eq!(hex(&frame(&record)[HEADER_LEN..]), payload, "{record:?}");
    }
    assert_eq!(
        hex(&frame(&Record::Truncate { from: 5 })),
        "42724d4c\
         01040000\
         00000008\
         131b0bdd\
         0000000000000003\
         0000000000000050\
         0000000000000040\
         0000000000000005"
    );
}

#[test]
fn what_is_encoded_is_decoded_at_its_place_and_nowhere_else() {
    for (record, _) in records() {
        let mut bytes = frame(&record);
        bytes.extend_from_slice(b"whatever follows");
        let (header, decoded) = decode(&bytes, PLACE.segment, PLACE.position).unwrap();
        assert_eq!((header.place, decoded), (PLACE, record));
        assert_eq!(header.frame_len(), bytes.len() - 16);
        for (segment, position) in [(4, 0x50), (3, 0x51)] {
            let error = decode(&bytes, segment, position).unwrap_err();
            assert!(matches!(error, FrameError::Misplaced { segment: 3, position: 0x50 }));
        }
    }
}

#[test]
fn no_flipped_bit_goes_unseen() {
    for (record, _) in records() {
        let bytes = frame(&record);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&damaged, PLACE.segment, PLACE.position).unwrap_err();
            assert!(!error.is_whole(), "bit {bit} of {record:?}: {error}");
        }
    }
}

#[test]
fn no_missing_end_goes_unseen() {
    for (record, _) in records() {
        let bytes = frame(&record);
        for len in 0..bytes.len() {
            let error = decode(&bytes[..len], PLACE.segment, PLACE.position).unwrap_err();
            assert!(matches!(error, FrameError::Short), "{len} of {record:?}: {error}");
        }
    }
}

/// A frame whose checksum holds although its content is wrong was written so, by another version:
/// it must never pass for a torn tail.
#[test]
fn a_whole_frame_of_another_version_is_told_from_a_torn_one() {
    let mut bytes = frame(&Record::Close);
    let check = |at: usize, value: u8, bytes: &mut Vec<u8>| {
        bytes[at] = value;
        let sum = checksum(bytes);
        bytes[12..16].copy_from_slice(&sum.to_be_bytes());
        decode(bytes, PLACE.segment, PLACE.position).unwrap_err()
    };
    let error = check(4, 2, &mut bytes.clone());
    assert!(matches!(error, FrameError::Unknown { version: 2, kind: CLOSE }) && error.is_whole());
    let error = check(5, 99, &mut bytes);
    assert!(matches!(error, FrameError::Unknown { version: 1, kind: 99 }) && error.is_whole());
    let error = check(5, VOTE, &mut bytes);
    assert!(matches!(error, FrameError::Payload(VOTE)) && error.is_whole());
}

#[test]
fn a_claimed_length_costs_nothing() {
    let mut bytes = frame(&Record::Close);
    bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(check(&bytes).unwrap_err(), FrameError::Checksum));
}
