//! The log against a vector, with reopening as one of the operations.

use braid_base::env::sim;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<usize>),
    Truncate(usize),
    Purge(usize),
    PurgeBeyond(u64),
    Vote,
    Commit,
    Reserve(u64),
    Reopen,
    Close,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::collection::vec(prop_oneof![Just(0usize), 1..400usize], 1..5).prop_map(Op::Append),
        2 => (0..6usize).prop_map(Op::Truncate),
        2 => (0..12usize).prop_map(Op::Purge),
        1 => (0..4u64).prop_map(Op::PurgeBeyond),
        1 => Just(Op::Vote),
        1 => Just(Op::Commit),
        1 => (1..2000u64).prop_map(Op::Reserve),
        2 => Just(Op::Reopen),
        1 => Just(Op::Close),
    ]
}

proptest! {
    #[test]
    fn the_log_holds_what_was_written(ops in prop::collection::vec(any_op(), 1..60)) {
        let (env, _machine) = sim::env(1);
        let mut log = open(&env.fs).unwrap();
        let mut model = Content::default();
        let mut committed = None;
        let mut next = 0;
        for (term, op) in (1..).zip(ops) {
            match op {
                Op::Append(sizes) => {
                    let entries: Vec<Entry> =
                        (next..).zip(sizes).map(|(index, size)| entry(term, index, size)).collect();
                    next += entries.len() as u64;
                    model.entries.extend(entries.iter().cloned());
                    log.append(entries).unwrap();
                }
                Op::Truncate(count) => {
                    // What is committed stays.
                    let end = committed.map_or(0, |id: LogId| id.index + 1);
                    let open = model.entries.iter().filter(|entry| entry.log_id.index >= end);
                    let count = count.min(open.count());
                    next -= count as u64;
                    model.entries.truncate(model.entries.len() - count);
                    log.truncate(next).unwrap();
                }
                Op::Purge(count) => {
                    let count = count.min(model.entries.len());
                    if let Some(last) = model.entries.drain(..count).next_back() {
                        model.purged = Some(last.log_id);
                        log.purge(last.log_id).unwrap();
                    }
                }
                // As after a snapshot that another node sent.
                Op::PurgeBeyond(ahead) => {
                    model.entries.clear();
                    let upto = log_id(term, next + ahead);
                    model.purged = Some(upto);
                    next = upto.index + 1;
                    log.purge(upto).unwrap();
                }
                Op::Vote => {
                    model.vote = Some(vote(term));
                    log.save_vote(vote(term)).unwrap();
                }
                Op::Commit => {
                    committed = model.entries.last().map(|entry| entry.log_id).or(committed);
                    log.set_committed(committed);
                }
                Op::Reserve(bytes) => log.reserve(bytes, Room::Ordinary).unwrap(),
                Op::Reopen => {
                    log = open(&env.fs).unwrap();
                    // What no frame had taken to the disk is forgotten.
                    let found = log.state().committed;
                    prop_assert!(found.map(|id| id.index) <= committed.map(|id: LogId| id.index));
                    committed = found;
                }
                Op::Close => {
                    log.close().unwrap();
                    log = open(&env.fs).unwrap();
                    // The close wrote it.
                    prop_assert_eq!(log.state().committed, committed);
                }
            }
            prop_assert_eq!(&content(&log), &model);
            let last = model.entries.last().map(|entry| entry.log_id).or(model.purged);
            prop_assert_eq!(log.last_log_id(), last);
            if let Some(first) = model.entries.first() {
                let from = first.log_id.index + 1;
                let read = log.read(from, from + 2).unwrap();
                prop_assert_eq!(&read[..], model.entries.get(1..3.min(model.entries.len()).max(1)).unwrap());
            }
        }
        // Segments that held nothing but purged entries are gone.
        let files = env.fs.list(Path::new(DIR)).unwrap().len();
        let bytes: usize = model.entries.iter().map(|entry| match &entry.payload {
            EntryPayload::Normal(proposal) => 80 + proposal.encoded().len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 80,
        }).sum();
        prop_assert!(files <= 60, "{} files for {} bytes", files, bytes);
    }
}

#[test]
fn segments_of_purged_entries_are_removed() {
    let (env, _machine) = sim::env(1);
    let mut log = open(&env.fs).unwrap();
    let files = || env.fs.list(Path::new(DIR)).unwrap().len();
    for index in 0..50 {
        log.append(vec![entry(1, index, 100)]).unwrap();
    }
    assert!(files() > 10);
    log.purge(log_id(1, 48)).unwrap();
    assert!(files() <= 2, "{}", files());
    assert_eq!(content(&log).entries, vec![entry(1, 49, 100)]);
    let log = open(&env.fs).unwrap();
    assert_eq!(content(&log).entries, vec![entry(1, 49, 100)]);
}

#[test]
fn a_hole_is_refused_and_an_entry_below_the_purge_is_passed_over() {
    let (env, _machine) = sim::env(1);
    let mut log = open(&env.fs).unwrap();
    log.append(vec![entry(1, 0, 0), entry(1, 1, 0)]).unwrap();
    for index in [0, 1, 3] {
        let error = log.append(vec![entry(1, index, 0)]).unwrap_err();
        assert!(matches!(error, LogError::Hole { next: 2, .. }), "{error}");
    }
    log.purge(log_id(1, 1)).unwrap();
    assert_eq!(log.append(vec![entry(1, 1, 0), entry(1, 2, 0)]).unwrap(), [entry(1, 2, 0)]);
}

#[test]
fn the_committed_index_reaches_the_disk_with_the_next_frame() {
    let (env, machine) = sim::env(1);
    let mut log = open(&env.fs).unwrap();
    log.append(vec![entry(1, 0, 0)]).unwrap();
    log.set_committed(Some(log_id(1, 0)));
    log.append(vec![entry(1, 1, 0)]).unwrap();
    log.set_committed(Some(log_id(1, 1)));
    let (env, _) = machine.reboot(1);
    assert_eq!(open(&env.fs).unwrap().state().committed, Some(log_id(1, 0)));
}
