//! Bytes that are not what was written: told from a torn end, never served, never cut.

use std::path::PathBuf;

use super::support::*;
use crate::env::fs::Fs;
use crate::env::sim::SimFs;
use crate::model::{LeaderEpoch, Offset, QueueId};
use crate::store::{
    AppendError, DamageReason, LogHandle, OnDamage, OpenError, ReadError, Store, StoreConfig,
};

const Q: QueueId = QueueId(1);
/// A batch with this body makes a frame of 144 bytes, twice a control frame.
const BODY: &[u8] = b"eleven byte";
const FRAME: u64 = 144;
const HEADER: u64 = 72;

fn log_file(first: u64) -> PathBuf {
    sim_dir().join(format!("{first:020}.log"))
}

fn names(fs: &SimFs, ending: &str) -> Vec<PathBuf> {
    let entries = fs.list(&sim_dir()).unwrap();
    let names = entries
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| name.starts_with('0') && name.ends_with(ending));
    names.map(|name| sim_dir().join(name)).collect()
}

fn try_open(fs: &SimFs, config: StoreConfig) -> Result<Store, OpenError> {
    Store::open_inline(&sim_env(fs), config, Box::new(Recorder::default()))
}

/// Opens and appends `groups` groups of `each` frames; positions of the frames.
fn written(fs: &SimFs, groups: usize, each: usize) -> (Store, Vec<u64>) {
    let store = open_inline(&sim_env(fs), tiny(&sim_dir()));
    let log = store.handle();
    log.open_queue(Q);
    let mut positions = Vec::new();
    for _ in 0..groups {
        for _ in 0..each {
            positions.push(append(&log, 1, 1, BODY).unwrap().end.0 - FRAME);
        }
        write_all(&store);
        store.maintain().unwrap();
    }
    (store, positions)
}

fn next(log: &LogHandle) -> i64 {
    log.offsets(Q).unwrap().next.0
}

#[test]
fn a_bad_frame_in_the_last_group_is_a_torn_end_and_is_cut() {
    let fs = SimFs::new(1);
    let (_store, frames) = written(&fs, 3, 4);
    let fs = fs.restart();
    fs.flip_bit(&log_file(0), frames[9] + HEADER + 20, 3).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    assert_eq!(store.damage(), []);
    let log = store.handle();
    assert_eq!((next(&log), read_all(&log, 1).unwrap().len()), (9, 9));
    assert_eq!(append(&log, 1, 1, b"again").unwrap().base_offset, Offset(9));
}

/// The frames behind a torn end are whole, and those of the next run end exactly where one of
/// them begins. Only the generation tells it from a frame of the log.
#[test]
fn frames_behind_a_torn_end_never_come_back() {
    let fs = SimFs::new(1);
    let (_store, frames) = written(&fs, 2, 4);
    let fs = fs.restart();
    fs.flip_bit(&log_file(0), frames[5] + HEADER + 20, 3).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    let log = store.handle();
    assert_eq!(log.durable().0, frames[5] + HEADER, "a start frame stands where the end was");
    log.start_epoch(LeaderEpoch(1)).unwrap();
    write_all(&store);
    assert_eq!(log.durable().0, frames[6]);
    for fs in [fs.restart(), fs.reboot(1)] {
        let store = try_open(&fs, tiny(&sim_dir())).unwrap();
        assert_eq!(next(&store.handle()), 5, "a frame came back from behind the end");
    }
    // The same with an epoch that had begun behind the end: it is void, too.
    let fs = SimFs::new(1);
    let (store, frames) = written(&fs, 2, 4);
    let torn = append(&store.handle(), 1, 1, BODY).unwrap().end.0 - FRAME;
    store.handle().start_epoch(LeaderEpoch(7)).unwrap();
    write_all(&store);
    let fs = fs.restart();
    fs.flip_bit(&log_file(0), torn + HEADER + 20, 3).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    store.handle().set_log_start(Q, Offset(1)).unwrap();
    write_all(&store);
    assert_eq!(store.handle().durable().0, torn + FRAME);
    assert_eq!(frames.len(), 8);
    let store = try_open(&fs.restart(), tiny(&sim_dir())).unwrap();
    assert_eq!(store.handle().epoch(), LeaderEpoch(0), "an epoch came back from behind the end");
    // The same without an epoch in between.
    let fs = SimFs::new(1);
    let (_store, frames) = written(&fs, 2, 4);
    let fs = fs.restart();
    fs.flip_bit(&log_file(0), frames[5] + HEADER + 20, 3).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    store.handle().set_log_start(Q, Offset(1)).unwrap();
    write_all(&store);
    assert_eq!(store.handle().durable().0, frames[6]);
    let store = try_open(&fs.restart(), tiny(&sim_dir())).unwrap();
    assert_eq!(next(&store.handle()), 5, "a frame came back from behind the end");
}

#[test]
fn a_bent_batch_that_was_durable_is_kept_and_not_served() {
    let fs = SimFs::new(1);
    let (_store, frames) = written(&fs, 6, 2);
    let fs = fs.restart();
    fs.flip_bit(&log_file(0), frames[3] + HEADER + 20, 3).unwrap();
    for _ in 0..2 {
        let store = try_open(&fs, tiny(&sim_dir())).unwrap();
        let [damage] = store.damage() else { panic!("{:?}", store.damage()) };
        assert_eq!((damage.at.0, damage.reason), (frames[3], DamageReason::Body));
        let log = store.handle();
        let read = |from: i64| log.locate(Q, spec(from)).unwrap().load();
        assert_eq!(read(0).unwrap().next_offset, Some(Offset(3)), "what is whole before it");
        assert!(matches!(read(3), Err(ReadError::Damaged(it)) if it == *damage));
        assert!(read(4).unwrap().next_offset.is_some(), "what is whole behind it");
        let appended = append(&log, 1, 1, BODY).unwrap();
        assert!(appended.base_offset.0 >= 12, "no offset is used again");
        write_all(&store);
    }
}

#[test]
fn a_lost_header_stops_appends_until_the_operator_gives_it_up() {
    let fs = SimFs::new(1);
    let (_store, frames) = written(&fs, 6, 2);
    let fs = fs.restart();
    fs.flip_bit(&log_file(0), frames[3] + 9, 3).unwrap();
    for _ in 0..2 {
        let store = try_open(&fs, tiny(&sim_dir())).unwrap();
        let [damage] = store.damage() else { panic!("{:?}", store.damage()) };
        assert_eq!((damage.at.0, damage.reason), (frames[3], DamageReason::Header));
        let log = store.handle();
        let read = |from: i64| log.locate(Q, spec(from)).unwrap().load();
        assert_eq!(read(0).unwrap().next_offset, Some(Offset(3)));
        let Err(ReadError::Damaged(lost)) = read(3) else { panic!("offset 3 is lost") };
        assert_eq!(lost.reason, DamageReason::Lost);
        assert_eq!(read(4).unwrap().next_offset, Some(Offset(12)));
        assert!(matches!(append(&log, 1, 1, BODY), Err(AppendError::Damaged { .. })));
        assert!(log.set_log_start(Q, Offset(5)).is_err());
        store.maintain().unwrap();
        store.close().unwrap();
    }
    let accepting = StoreConfig { on_damage: OnDamage::AcceptLoss, ..tiny(&sim_dir()) };
    for config in [accepting, tiny(&sim_dir())] {
        let store = try_open(&fs, config).unwrap();
        let log = store.handle();
        let before = next(&log);
        assert_eq!(append(&log, 1, 1, BODY).unwrap().base_offset, Offset(before));
        write_all(&store);
        assert!(log.locate(Q, spec(3)).unwrap().load().is_err(), "lost stays lost");
    }
}

/// Nothing in a segment speaks for its last frames, but that the next one was begun.
#[test]
fn the_end_of_a_segment_is_no_torn_end_once_the_next_one_began() {
    let fs = SimFs::new(1);
    let store = open_inline(&sim_env(&fs), tiny(&sim_dir()));
    let log = store.handle();
    log.open_queue(Q);
    // All in one go, so that no frame speaks for another.
    let mut last = 0;
    while log.appended().0 < 16 << 10 {
        last = log.appended().0;
        append(&log, 1, 1, BODY).unwrap();
    }
    write_all(&store);
    let count = next(&log);
    let last_of_segment = last - last % FRAME + HEADER;
    let fs = fs.restart();
    let flipped = last_of_segment.min((16 << 10) - FRAME - HEADER) + HEADER + 20;
    fs.flip_bit(&log_file(0), flipped, 3).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    assert_eq!(store.damage().len(), 1);
    assert_eq!(next(&store.handle()), count, "what lies in the next segment is still there");
}

#[test]
fn damage_to_what_a_clean_stop_left_is_no_torn_end() {
    let fs = SimFs::new(1);
    let (store, frames) = written(&fs, 2, 4);
    store.close().unwrap();
    fs.flip_bit(&log_file(0), frames[7] + HEADER + 20, 3).unwrap();
    fs.remove(&sim_dir().join("clean")).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    assert_eq!(store.damage().len(), 1, "the checkpoint knows that it was durable");
    assert_eq!(next(&store.handle()), 8);
}

#[test]
fn a_damaged_index_is_made_again() {
    let fs = SimFs::new(1);
    let (store, _) = written(&fs, 200, 2);
    store.maintain().unwrap();
    let before = read_all(&store.handle(), 1).unwrap();
    store.close().unwrap();
    let indexes = names(&fs, ".index");
    assert!(indexes.len() >= 2);
    fs.flip_bit(&indexes[0], 70, 1).unwrap();
    fs.remove(&indexes[1]).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    assert_eq!(read_all(&store.handle(), 1).unwrap(), before);
    store.maintain().unwrap();
    store.close().unwrap();
    assert_eq!(names(&fs, ".index"), indexes, "and written again");
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let fs = SimFs::new(1);
    let (store, _) = written(&fs, 120, 2);
    store.maintain().unwrap();
    let log = store.handle();
    log.set_log_start(Q, Offset(150)).unwrap();
    write_all(&store);
    store.maintain().unwrap();
    for _ in 0..3 {
        append(&log, 1, 1, BODY).unwrap();
        write_all(&store);
        store.maintain().unwrap();
    }
    let fs = fs.restart();
    let [older, newest] = &names(&fs, ".checkpoint")[..] else { panic!("two are kept") };
    fs.flip_bit(newest, 30, 1).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    let log = store.handle();
    assert_eq!(log.offsets(Q).unwrap().log_start, Offset(150));
    assert_eq!(read_all(&log, 1).unwrap().len(), 93);
    drop(store);
    // Opening wrote nothing over; now the other one too.
    fs.flip_bit(older, 30, 1).unwrap();
    assert!(matches!(try_open(&fs, tiny(&sim_dir())), Err(OpenError::Unreadable { .. })));
}

#[test]
fn nothing_is_made_anew_over_what_is_missing_or_damaged() {
    let fs = SimFs::new(1);
    let (store, _) = written(&fs, 200, 2);
    store.maintain().unwrap();
    store.close().unwrap();
    let meta = sim_dir().join("meta");
    let kept = fs.read_all(&meta).unwrap();
    fs.flip_bit(&meta, 10, 1).unwrap();
    assert!(matches!(try_open(&fs, tiny(&sim_dir())), Err(OpenError::Unreadable { .. })));
    fs.remove(&meta).unwrap();
    assert!(matches!(try_open(&fs, tiny(&sim_dir())), Err(OpenError::Missing { .. })));
    fs.replace(&meta, &kept).unwrap();
    let logs = names(&fs, ".log");
    fs.rename(&logs[1], &sim_dir().join("elsewhere")).unwrap();
    assert!(matches!(try_open(&fs, tiny(&sim_dir())), Err(OpenError::Missing { .. })));
    fs.rename(&sim_dir().join("elsewhere"), &logs[1]).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    assert_eq!(read_all(&store.handle(), 1).unwrap().len(), 400);
}

/// The log goes on behind a file that is gone, though no checkpoint knows of either.
#[test]
fn files_beyond_a_gap_are_refused_when_they_hold_frames_and_only_then() {
    let fs = SimFs::new(1);
    let store = open_inline(&sim_env(&fs), tiny(&sim_dir()));
    let log = store.handle();
    log.open_queue(Q);
    while log.appended().0 < 40 << 10 {
        if let Err(AppendError::SegmentNotReady) = append(&log, 1, 1, &[1; 1000]) {
            store.shared.prepare_segment().unwrap();
        }
        write_all(&store);
    }
    let whole = read_all(&log, 1).unwrap().len();
    drop(store);
    let fs = fs.restart();
    let aside = sim_dir().join("elsewhere");
    for gone in [0, 16 << 10] {
        fs.rename(&log_file(gone), &aside).unwrap();
        for config in
            [tiny(&sim_dir()), StoreConfig { on_damage: OnDamage::AcceptLoss, ..tiny(&sim_dir()) }]
        {
            let opened = try_open(&fs, config);
            assert!(
                matches!(&opened, Err(OpenError::Missing { path }) if *path == log_file(gone)),
                "{opened:?}"
            );
        }
        fs.rename(&aside, &log_file(gone)).unwrap();
    }
    // A prepared segment, used before or not, holds nothing of the log and is no reason to refuse.
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    assert_eq!(read_all(&store.handle(), 1).unwrap().len(), whole);
    drop(store);
    // Nor is one whose own frames are of another place of the log.
    let fs = fs.restart();
    let stale = fs.read_all(&log_file(0)).unwrap();
    fs.replace(&log_file(160 << 10), &stale).unwrap();
    let store = try_open(&fs, tiny(&sim_dir())).unwrap();
    assert_eq!(read_all(&store.handle(), 1).unwrap().len(), whole);
    assert_eq!(fs.size(&log_file(160 << 10)).unwrap(), None, "it is of no use");
}

#[test]
fn a_log_that_is_expected_and_not_there_is_not_begun_anew() {
    let expecting = StoreConfig { expects_log: true, ..tiny(&sim_dir()) };
    let fs = SimFs::new(1);
    let refused = |fs: &SimFs| {
        let opened = try_open(fs, expecting.clone());
        assert!(matches!(opened, Err(OpenError::NoLog { .. })), "{opened:?}");
    };
    refused(&fs);
    assert_eq!(fs.operations(), 0, "not even the directory is made");
    let (store, _) = written(&fs, 3, 2);
    drop(store);
    let fs = fs.restart();
    drop(try_open(&fs, expecting.clone()).unwrap());
    let fs = fs.restart();
    for ending in [".log", ".index", ".spare"] {
        names(&fs, ending).iter().for_each(|path| fs.remove(path).unwrap());
    }
    refused(&fs);
    names(&fs, ".checkpoint").iter().for_each(|path| fs.remove(path).unwrap());
    refused(&fs);
}

/// One flipped bit anywhere, in any file: whatever is still read is what was written, and what is
/// not read is answered with an error.
#[test]
fn no_flipped_bit_of_any_file_ever_serves_wrong_bytes() {
    let make = || {
        let fs = SimFs::new(1);
        let store = open_inline(&sim_env(&fs), tiny(&sim_dir()));
        store.handle().open_queue(Q);
        for i in 0..45u8 {
            append(&store.handle(), 1, 1, &[i; 700]).unwrap();
            write_all(&store);
            store.maintain().unwrap();
        }
        store
            .handle()
            .set_log_start(Q, Offset(7))
            .and_then(|_| Ok(append(&store.handle(), 1, 1, BODY)?))
            .unwrap();
        write_all(&store);
        (fs.clone(), store)
    };
    let (fs, store) = make();
    let expected = read_all(&store.handle(), 1).unwrap();
    let durable = store.handle().durable().0;
    store.close().unwrap();
    let entries = fs.list(&sim_dir()).unwrap();
    let mut flips = 0;
    for entry in entries.iter().filter(|entry| entry.size_bytes > 0) {
        let path = sim_dir().join(&entry.name);
        let step = if entry.size_bytes > 1000 { 211 } else { 5 };
        for at in (0..entry.size_bytes).step_by(step) {
            let flip = |fs: &SimFs| fs.flip_bit(&path, at, u8::try_from(at % 8).unwrap()).unwrap();
            flip(&fs);
            serves_nothing_wrong(&fs, &expected, &format!("{} at {at}", entry.name));
            flip(&fs);
            flips += 1;
        }
    }
    assert!(flips > 500 && durable > 2 * 16384, "{flips} flips, {durable} bytes");
}

/// A used-again segment of the default size is full of what it held before.
#[test]
fn a_start_in_a_used_again_segment_reads_little_of_it_and_still_tells_damage_from_an_end() {
    const SEGMENT: u64 = 128 << 20;
    let config = StoreConfig {
        segment_size_bytes: SEGMENT,
        chunk_size_bytes: 1 << 20,
        ring_size_bytes: 8 << 20,
        group_size_bytes_max: 4 << 20,
        unsynced_size_bytes_max: 16 << 20,
        ..tiny(&sim_dir())
    };
    let fs = SimFs::new(1);
    let store = open_inline(&sim_env(&fs), config.clone());
    let log = store.handle();
    log.open_queue(Q);
    let put = |until: u64| {
        while log.appended().0 < until {
            if append(&log, 1, 1, &[7; 60_000]).is_err() {
                store.maintain().unwrap();
            }
            write_all(&store);
        }
    };
    let drop_all = || {
        log.set_log_start(Q, log.offsets(Q).unwrap().high_watermark).unwrap();
        write_all(&store);
        log.recycle().unwrap();
    };
    put(SEGMENT + 1);
    drop_all();
    put(2 * SEGMENT + 1);
    drop_all();
    // The third segment is the first one's file, full of old frames.
    put(2 * SEGMENT + (40 << 20));
    let third = log_file(2 * SEGMENT);
    assert_eq!(fs.size(&third).unwrap(), Some(SEGMENT));
    let (tail, count) = (log.appended().0, next(&log));
    drop(store);
    let fs = fs.restart();
    let before = fs.bytes_read();
    let store = try_open(&fs, config.clone()).unwrap();
    let read = fs.bytes_read() - before;
    assert_eq!((next(&store.handle()), store.damage()), (count, &[][..]));
    assert!(read < (40 << 20) + (30 << 20), "{} MiB read", read >> 20);
    drop(store);
    // Twenty megabytes of zeros in the midst: more than is searched closely.
    let fs = fs.restart();
    let file = fs.open(&third, crate::env::fs::Mode::Write).unwrap();
    let zeros = vec![0; 1 << 20];
    for mib in 10..30 {
        file.write_at(&[std::io::IoSlice::new(&zeros)], mib << 20).unwrap();
    }
    drop(file);
    let store = try_open(&fs, config).unwrap();
    assert!(!store.damage().is_empty(), "acknowledged batches were taken for a torn end");
    assert_eq!(next(&store.handle()), count);
    assert!(store.handle().durable().0 >= tail);
}

/// No sector that cannot be read stops a start, and none makes it cut what was acknowledged
/// without a word.
#[test]
fn an_unreadable_block_of_any_file_stops_no_start_and_cuts_nothing_silently() {
    let (mut damaged, mut refused) = (0, 0);
    for (is_clean, is_sealed) in [(false, true), (true, true), (false, false)] {
        let fs = SimFs::new(1);
        let store = open_inline(&sim_env(&fs), tiny(&sim_dir()));
        let log = store.handle();
        log.open_queue(Q);
        for i in 0..46u8 {
            append(&log, 1, 1, &[i; 700]).unwrap();
            write_all(&store);
            if is_sealed {
                store.maintain().unwrap();
            } else {
                store.shared.prepare_segment().unwrap();
            }
        }
        let expected = read_all(&log, 1).unwrap();
        if is_clean {
            store.close().unwrap();
        } else {
            drop(store);
        }
        for entry in fs.restart().list(&sim_dir()).unwrap() {
            // Of these there is no second one.
            let only_checkpoint = !is_sealed && entry.name.ends_with(".checkpoint");
            if ["lock", "meta"].contains(&entry.name.as_str()) || only_checkpoint {
                continue;
            }
            for at in (0..entry.size_bytes).step_by(4096) {
                let what =
                    format!("{} at {at}, clean: {is_clean}, sealed: {is_sealed}", entry.name);
                let fs = fs.restart();
                fs.fail_reads(&sim_dir().join(&entry.name), at..at + 1).unwrap();
                serves_nothing_wrong(&fs, &expected, &what);
                let mut fs = fs.restart();
                let store =
                    try_open(&fs, tiny(&sim_dir())).unwrap_or_else(|e| panic!("{what}: {e}"));
                let log = store.handle();
                damaged += usize::from(!store.damage().is_empty());
                match append(&log, 1, 1, BODY) {
                    Ok(appended) => assert_eq!(appended.base_offset, Offset(46), "{what}"),
                    Err(AppendError::Damaged { .. }) => {
                        assert!(!store.damage().is_empty(), "{what}: damage without a name");
                        refused += 1;
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
                drop(store);
                // The operator gives it up: it goes on, now and after the next kill.
                let accepting = StoreConfig { on_damage: OnDamage::AcceptLoss, ..tiny(&sim_dir()) };
                let mut next_before = 0;
                for config in [accepting, tiny(&sim_dir()), tiny(&sim_dir())] {
                    fs = fs.restart();
                    let store =
                        try_open(&fs, config).unwrap_or_else(|e| panic!("{what}, given up: {e}"));
                    let log = store.handle();
                    assert!(next(&log) >= next_before, "{what}: an offset went back");
                    assert!(append(&log, 1, 1, BODY).is_ok(), "{what}, given up");
                    write_all(&store);
                    drop(store.maintain());
                    next_before = next(&log);
                }
            }
        }
    }
    assert!(damaged >= 10 && refused >= 3, "{damaged} found, {refused} refused");
}

/// Whatever a start makes of it: only what is lost with a name may be missing.
fn serves_nothing_wrong(fs: &SimFs, expected: &[ReadBack], what: &str) {
    // A copy of the disk: the one in hand stays as it is.
    let fs = fs.restart();
    let Ok(store) = try_open(&fs, tiny(&sim_dir())) else { return };
    let log = store.handle();
    let offsets = match log.offsets(Q) {
        Ok(offsets) => offsets,
        Err(error) => panic!("{what}: {error}"),
    };
    let is_lost = store.damage().iter().any(|it| it.reason == DamageReason::Unreadable);
    assert!(offsets.next == Offset(46) || is_lost && offsets.next < Offset(46), "{what}");
    let first = expected.first().map_or(0, |first| first.base_offset);
    for (base, expected) in (first..offsets.next.0).zip(expected) {
        let Ok(located) = log.locate(Q, spec(base)) else {
            panic!("{what}: offset {base} is not there")
        };
        if let Ok(read) = located.load() {
            let read = parse_batches(&read.slices);
            assert_eq!(read.first(), Some(expected), "{what}: offset {base}");
        }
    }
}
