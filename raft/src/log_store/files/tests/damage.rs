//! What the disk does to files at rest, and what a full or failing disk does to writes.

use braid_base::env::sim::{self, Fault};
use proptest::prelude::*;

use super::*;

/// A log of one segment with entries 0 to 4, written one by one, and where each begins.
fn five_entries(fs: &Arc<dyn Fs>) -> (LogFiles, Vec<u64>) {
    let limits = Limits { segment_bytes: 1 << 20, allocate_bytes: 1 << 20, spare_bytes: 128 };
    let mut log = LogFiles::open(fs, Path::new(DIR), limits).unwrap();
    for index in 0..5 {
        log.append(vec![entry(1, index, 10)]).unwrap();
    }
    let positions = log.entries.iter().map(|entry| entry.position).collect();
    (log, positions)
}

fn first_segment() -> PathBuf {
    segment_path(Path::new(DIR), 1)
}

#[test]
fn damage_before_the_end_is_named_and_never_cut() {
    for damaged in 0..4 {
        let (env, machine) = sim::env(1);
        let (_, positions) = five_entries(&env.fs);
        let at = positions[damaged];
        machine.fs.flip_bit(&first_segment(), at + 50, 3).unwrap();
        match open(&env.fs).unwrap_err() {
            LogError::Corrupt { path, position, reason: FrameError::Checksum } => {
                assert_eq!((path, position), (first_segment(), at));
            }
            other => panic!("{other}"),
        }
        // Asked again it says the same: nothing was cut.
        assert!(matches!(open(&env.fs), Err(LogError::Corrupt { .. })));
    }
}

#[test]
fn damage_to_a_frames_length_or_magic_is_found_too() {
    for byte in [0, 8, 10, 11] {
        let (env, machine) = sim::env(1);
        let (_, positions) = five_entries(&env.fs);
        machine.fs.flip_bit(&first_segment(), positions[2] + byte, 6).unwrap();
        let error = open(&env.fs).unwrap_err();
        assert!(
            matches!(error, LogError::Corrupt { position, .. } if position == positions[2]),
            "{error}"
        );
    }
}

#[test]
fn a_bad_last_frame_passes_for_a_torn_tail_unless_the_log_was_closed() {
    let (env, machine) = sim::env(1);
    let (mut log, positions) = five_entries(&env.fs);
    let (open_env, open_machine) = machine.restart();
    open_machine.fs.flip_bit(&first_segment(), positions[4] + 50, 3).unwrap();
    assert_eq!(content(&open(&open_env.fs).unwrap()).entries.len(), 4);

    let (env, machine) = {
        drop((env, log));
        sim::env(1)
    };
    (log, _) = five_entries(&env.fs);
    log.close().unwrap();
    machine.fs.flip_bit(&first_segment(), positions[4] + 50, 3).unwrap();
    assert!(matches!(open(&env.fs), Err(LogError::Corrupt { .. })));
}

#[test]
fn what_is_written_over_a_torn_tail_is_not_continued_by_it() {
    let (env, machine) = sim::env(1);
    let (mut log, positions) = five_entries(&env.fs);
    // Two entries in one write; the first of them is torn, the second is whole.
    log.append(vec![entry(1, 5, 10), entry(1, 6, 10)]).unwrap();
    let torn = log.entries[5].position;
    assert!(torn > positions[4]);
    machine.fs.flip_bit(&first_segment(), torn + 50, 3).unwrap();
    let mut log = open(&env.fs).unwrap();
    assert_eq!(log.last_log_id(), Some(log_id(1, 4)));
    // An entry of the same length ends where the old one began.
    log.append(vec![entry(2, 5, 10)]).unwrap();
    let log = open(&env.fs).unwrap();
    assert_eq!(log.last_log_id(), Some(log_id(2, 5)));
}

#[test]
fn damage_in_an_older_segment_is_found_even_at_its_end() {
    let (env, machine) = sim::env(1);
    let mut log = open(&env.fs).unwrap();
    let mut index = 0;
    while log.active == 1 {
        log.append(vec![entry(1, index, 10)]).unwrap();
        index += 1;
    }
    let last = log.entries.iter().rfind(|entry| entry.segment == 1).unwrap().position;
    machine.fs.flip_bit(&first_segment(), last + 50, 3).unwrap();
    let error = open(&env.fs).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { position, .. } if position == last), "{error}");
}

#[test]
fn a_lost_end_of_an_older_segment_is_found() {
    let (env, _machine) = sim::env(1);
    let mut log = open(&env.fs).unwrap();
    let mut index = 0;
    while log.active == 1 {
        log.append(vec![entry(1, index, 10)]).unwrap();
        index += 1;
    }
    let last = log.entries.iter().rfind(|entry| entry.segment == 1).unwrap().position;
    env.fs.open(&first_segment(), Mode::Write).unwrap().set_len(last).unwrap();
    let error = open(&env.fs).unwrap_err();
    assert!(matches!(error, LogError::OutOfSequence { what: "segment head", .. }), "{error}");
}

#[test]
fn a_missing_segment_is_found() {
    for missing in [1, 2] {
        let (env, _machine) = sim::env(1);
        let mut log = open(&env.fs).unwrap();
        for index in 0..30 {
            log.append(vec![entry(1, index, 100)]).unwrap();
        }
        env.fs.remove(&segment_path(Path::new(DIR), missing)).unwrap();
        let error = open(&env.fs).unwrap_err();
        assert!(matches!(error, LogError::MissingSegments { .. }), "{error}");
    }
}

#[test]
fn a_missing_segment_does_not_cost_the_others() {
    let (env, _machine) = sim::env(1);
    let mut log = open(&env.fs).unwrap();
    for index in 0..30 {
        log.append(vec![entry(1, index, 100)]).unwrap();
    }
    env.fs.remove(&segment_path(Path::new(DIR), 2)).unwrap();
    let before = env.fs.list(Path::new(DIR)).unwrap();
    drop(open(&env.fs).unwrap_err());
    assert_eq!(env.fs.list(Path::new(DIR)).unwrap(), before);
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let (env, machine) = sim::env(1);
    let (mut log, _) = five_entries(&env.fs);
    machine.fs.fail_at(machine.fs.operations() + 1, Fault::Eio);
    let error = log.append(vec![entry(1, 5, 10)]).unwrap_err();
    assert!(matches!(error, LogError::Io { operation: "write to", .. }), "{error}");
    let operations = machine.fs.operations();
    assert!(matches!(log.append(vec![entry(1, 5, 10)]), Err(LogError::Failed)));
    assert!(matches!(log.save_vote(vote(3)), Err(LogError::Failed)));
    assert!(matches!(log.reserve(1, Room::Spare), Err(LogError::Failed)));
    assert!(matches!(log.close(), Err(LogError::Failed)));
    assert_eq!(machine.fs.operations(), operations);
}

#[test]
fn a_full_disk_refuses_room_and_harms_nothing() {
    let (env, machine) = sim::env(1);
    let mut log = open(&env.fs).unwrap();
    log.append(vec![entry(1, 0, 100)]).unwrap();
    machine.fs.set_capacity(Some(machine.fs.used_bytes()));
    let error = log.reserve(8192, Room::Ordinary).unwrap_err();
    assert!(error.is_full(), "{error}");
    // What cannot be refused takes the room that was kept for it.
    log.save_vote(vote(2)).unwrap();
    machine.fs.set_capacity(None);
    log.reserve(8192, Room::Ordinary).unwrap();
    log.append(vec![entry(1, 1, 8000)]).unwrap();
    let log = open(&env.fs).unwrap();
    assert_eq!((log.state().vote, log.last_log_id()), (Some(vote(2)), Some(log_id(1, 1))));
}

#[test]
fn on_a_full_disk_a_full_segment_goes_on_while_its_room_lasts() {
    let (env, machine) = sim::env(1);
    let limits = Limits { segment_bytes: 600, allocate_bytes: 4096, spare_bytes: 128 };
    let mut log = LogFiles::open(&env.fs, Path::new(DIR), limits).unwrap();
    machine.fs.set_capacity(Some(machine.fs.used_bytes()));
    let mut index = 0;
    while log.reserve(200, Room::Ordinary).is_ok() {
        log.append(vec![entry(1, index, 50)]).unwrap();
        index += 1;
    }
    assert_eq!(log.active, 1);
    assert!(log.end > 3500, "{}", log.end);
    machine.fs.set_capacity(None);
    log.reserve(200, Room::Ordinary).unwrap();
    assert_eq!(log.active, 2);
    log.append(vec![entry(1, index, 50)]).unwrap();
    let log = LogFiles::open(&env.fs, Path::new(DIR), limits).unwrap();
    assert_eq!(log.last_log_id(), Some(log_id(1, index)));
}

proptest! {
    /// Whatever becomes of a log's bytes, it is refused, or what is read is what was written up
    /// to some point. Of a log that was closed in order that point is the end.
    #[test]
    fn no_damage_passes_for_content(
        damage in prop::collection::vec((0..2u64, any::<prop::sample::Index>(), any::<u8>()), 1..6),
        closed in any::<bool>(),
    ) {
        let (env, _machine) = sim::env(1);
        let limits = Limits { segment_bytes: 400, allocate_bytes: 512, spare_bytes: 64 };
        let mut log = LogFiles::open(&env.fs, Path::new(DIR), limits).unwrap();
        let mut contents = vec![content(&log)];
        for index in 0..6 {
            log.append(vec![entry(1, index, 10)]).unwrap();
            contents.push(content(&log));
        }
        // The last frame of a closed log is its witness and stays whole.
        let end = log.end;
        if closed {
            log.close().unwrap();
        }
        for (segment, at, byte) in damage {
            let path = segment_path(Path::new(DIR), log.active - segment);
            let file = env.fs.open(&path, Mode::Write).unwrap();
            let len = if segment == 0 { end } else { file.len().unwrap() };
            let at = at.index(usize::try_from(len).unwrap()) as u64;
            file.write_at(&[IoSlice::new(&[byte])], at).unwrap();
        }
        if let Ok(log) = LogFiles::open(&env.fs, Path::new(DIR), limits) {
            let found = content(&log);
            prop_assert!(contents.contains(&found), "{:?}", found);
            prop_assert!(!closed || Some(&found) == contents.last(), "{:?}", found);
        }
    }
}
