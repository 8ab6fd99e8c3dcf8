use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SEEDS: u64 = 64;

fn path(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

/// A file whose name is durable.
fn durable_file(fs: &SimFs, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = fs.open(&path(name), Mode::CreateNew).unwrap();
    write(&*file, bytes, 0);
    file.sync().unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    file
}

fn write(file: &dyn File, bytes: &[u8], at: u64) {
    file.write_at(&[IoSlice::new(bytes)], at).unwrap();
}

fn write_synced(file: &dyn File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_synced_at(&[IoSlice::new(bytes)], at)
}

fn content(fs: &SimFs, name: &str) -> Option<Vec<u8>> {
    fs.size(&path(name)).unwrap().map(|_| fs.read_all(&path(name)).unwrap())
}

/// Every outcome of a cut now, over many seeds.
fn outcomes(fs: &SimFs, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..SEEDS).map(|seed| content(&fs.reboot(seed), name)).collect()
}

fn pattern(byte: u8, sectors: usize) -> Vec<u8> {
    vec![byte; sectors * 512]
}

/// The byte of each sector; a sector that is not of one byte fails the test.
fn sectors(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(512)
        .map(|sector| {
            assert!(sector.iter().all(|b| *b == sector[0]), "a sector is torn inside");
            sector[0]
        })
        .collect()
}

fn aligned(len: usize) -> Vec<u8> {
    // Any heap block of twice the alignment holds an aligned start.
    vec![7; len + 2 * DIRECT_ALIGN_BYTES]
}

fn aligned_part(bytes: &[u8], len: usize) -> &[u8] {
    let skip = bytes.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
    &bytes[skip..skip + len]
}

#[test]
fn the_running_process_sees_its_unsynced_writes() {
    let fs = SimFs::new(1);
    let file = fs.open(&path("a"), Mode::CreateNew).unwrap();
    write(&*file, b"hello", 3);
    assert_eq!(content(&fs, "a").unwrap(), b"\0\0\0hello");
    assert_eq!(fs.open(&path("a"), Mode::Read).unwrap().len().unwrap(), 8);
}

#[test]
fn unsynced_writes_are_lost_kept_torn_and_reordered() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 4));
    write(&*file, &pattern(1, 4), 0);
    write(&*file, &pattern(2, 2), 1024);
    let seen: BTreeSet<Vec<u8>> =
        outcomes(&fs, "a").into_iter().map(|bytes| sectors(&bytes.unwrap())).collect();
    assert!(seen.contains([0, 0, 0, 0].as_slice()), "lost");
    assert!(seen.contains([1, 1, 2, 2].as_slice()), "kept");
    assert!(seen.iter().any(|s| s[..2] == [0, 1] || s[..2] == [1, 0]), "torn: {seen:?}");
    assert!(seen.iter().any(|s| s[0] == 0 && s[2] == 2), "second without first: {seen:?}");
    assert!(seen.iter().any(|s| s[2] == 1), "an older version: {seen:?}");
}

#[test]
fn synced_bytes_and_sizes_always_survive() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", b"");
    write(&*file, &pattern(1, 3), 0);
    file.sync().unwrap();
    write_synced(&*file, &pattern(2, 1), 1536).unwrap();
    write_synced(&*file, &pattern(3, 1), 0).unwrap();
    file.allocate(4096).unwrap();
    file.sync().unwrap();
    let expected = [pattern(3, 1), pattern(1, 2), pattern(2, 1), pattern(0, 4)].concat();
    assert_eq!(outcomes(&fs, "a"), BTreeSet::from([Some(expected)]));
}

#[test]
fn a_synced_write_syncs_its_own_bytes_only() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 4));
    write(&*file, &pattern(1, 2), 0);
    write_synced(&*file, &pattern(2, 1), 512).unwrap();
    let seen: BTreeSet<Vec<u8>> =
        outcomes(&fs, "a").into_iter().map(|bytes| sectors(&bytes.unwrap())).collect();
    assert_eq!(seen, BTreeSet::from([vec![0, 2, 0, 0], vec![1, 2, 0, 0]]));
}

#[test]
fn syncing_one_file_leaves_another_unsynced() {
    let fs = SimFs::new(1);
    let a = durable_file(&fs, "a", &pattern(0, 1));
    let b = durable_file(&fs, "b", &pattern(0, 1));
    write(&*a, &pattern(1, 1), 0);
    write(&*b, &pattern(1, 1), 0);
    b.sync().unwrap();
    assert_eq!(outcomes(&fs, "a").len(), 2);
    assert_eq!(outcomes(&fs, "b"), BTreeSet::from([Some(pattern(1, 1))]));
}

#[test]
fn a_synced_write_cut_in_the_middle_leaves_any_of_its_sectors() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 8));
    fs.cut_at(fs.operations() + 1);
    let error = write_synced(&*file, &pattern(1, 8), 0).unwrap_err();
    assert!(PowerOff::is(&error) && fs.is_off());
    let seen = outcomes(&fs, "a");
    assert!(seen.contains(&Some(pattern(0, 8))) && seen.contains(&Some(pattern(1, 8))));
    assert!(seen.len() > 4, "torn in many ways: {}", seen.len());
}

#[test]
fn every_call_after_a_cut_says_that_the_power_is_off() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", b"x");
    fs.cut_power();
    let dir = Path::new("/");
    let errors = [
        file.sync().unwrap_err(),
        file.len().unwrap_err(),
        file.read_at(&mut [0], 0).unwrap_err(),
        file.set_len(0).unwrap_err(),
        file.map().err().unwrap(),
        fs.open(&path("a"), Mode::Read).unwrap_err(),
        fs.sync_dir(dir).unwrap_err(),
        fs.list(dir).unwrap_err(),
        fs.lock(&path("l")).unwrap_err(),
        fs.remove(&path("a")).unwrap_err(),
    ];
    assert!(errors.iter().all(PowerOff::is));
    assert!(!PowerOff::is(&io::ErrorKind::NotFound.into()));
}

#[test]
fn a_rebooted_disk_shares_nothing_and_a_seed_fixes_it() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 64));
    for sector in 0..64 {
        write(&*file, &pattern(1, 1), sector * 512);
    }
    for seed in 0..SEEDS {
        let once = fs.reboot(seed);
        let twice = fs.reboot(seed);
        assert_eq!(content(&once, "a"), content(&twice, "a"));
        let before = content(&twice, "a");
        write(&*once.open(&path("a"), Mode::Write).unwrap(), &pattern(9, 64), 0);
        assert_eq!(content(&twice, "a"), before);
    }
}

#[test]
fn what_survived_a_cut_is_durable_from_then_on() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 4));
    write(&*file, &pattern(1, 4), 0);
    let rebooted = fs.reboot(5);
    assert_eq!(outcomes(&rebooted, "a"), BTreeSet::from([content(&fs.reboot(5), "a")]));
}

#[test]
fn an_unsynced_name_survives_or_not_even_when_its_file_is_synced() {
    let fs = SimFs::new(1);
    let file = fs.open(&path("a"), Mode::CreateNew).unwrap();
    write(&*file, b"x", 0);
    file.sync().unwrap();
    assert_eq!(outcomes(&fs, "a"), BTreeSet::from([None, Some(b"x".to_vec())]));
    let rebooted = fs.reboot(0);
    assert!(rebooted.list(Path::new("/")).is_ok());
}

#[test]
fn sync_dir_makes_creation_renaming_and_removal_durable() {
    let fs = SimFs::new(1);
    let root = Path::new("/");
    durable_file(&fs, "a", b"a");
    durable_file(&fs, "b", b"b");
    fs.rename(&path("a"), &path("c")).unwrap();
    fs.remove(&path("b")).unwrap();
    assert!(outcomes(&fs, "a").len() == 2 && outcomes(&fs, "b").len() == 2);
    let fs = fs.restart();
    fs.sync_dir(root).unwrap();
    for seed in 0..SEEDS {
        let names: Vec<String> =
            fs.reboot(seed).list(root).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["c"]);
    }
}

#[test]
fn a_rename_is_never_half_done() {
    let fs = SimFs::new(1);
    durable_file(&fs, "old", b"old");
    durable_file(&fs, "new", b"new");
    fs.rename(&path("new"), &path("old")).unwrap();
    let seen: BTreeSet<_> = (0..SEEDS)
        .map(|seed| {
            let left = fs.reboot(seed);
            (content(&left, "old"), content(&left, "new"))
        })
        .collect();
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    assert_eq!(seen, BTreeSet::from([(old, new.clone()), (new, None)]));
}

#[test]
fn changes_of_one_name_keep_their_order_and_others_do_not() {
    let fs = SimFs::new(1);
    fs.open(&path("a"), Mode::CreateNew).unwrap();
    fs.rename(&path("a"), &path("b")).unwrap();
    fs.open(&path("c"), Mode::CreateNew).unwrap();
    let seen: BTreeSet<Vec<String>> = (0..4 * SEEDS)
        .map(|seed| {
            let entries = fs.reboot(seed).list(Path::new("/")).unwrap();
            entries.into_iter().map(|entry| entry.name).collect()
        })
        .collect();
    let expected = [vec![], vec!["a"], vec!["a", "c"], vec!["b"], vec!["b", "c"], vec!["c"]];
    let expected: BTreeSet<Vec<String>> =
        expected.into_iter().map(|v| v.into_iter().map(str::to_owned).collect()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_directory_that_its_parent_was_not_synced_with_takes_its_files_along() {
    let fs = SimFs::new(1);
    fs.create_dir_all(&path("d/e")).unwrap();
    let file = fs.open(&path("d/e/f"), Mode::CreateNew).unwrap();
    write_synced(&*file, b"x", 0).unwrap();
    fs.sync_dir(&path("d/e")).unwrap();
    fs.sync_dir(&path("d")).unwrap();
    assert_eq!(outcomes(&fs, "d/e/f"), BTreeSet::from([None, Some(b"x".to_vec())]));
    let fs = fs.restart();
    fs.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&fs, "d/e/f"), BTreeSet::from([Some(b"x".to_vec())]));
}

#[test]
fn a_directory_created_synced_survives_also_behind_a_kill_in_the_middle() {
    let dir = path("a/b/c");
    let whole = SimFs::new(1);
    whole.create_dir_synced(&dir).unwrap();
    for kill in 1..=whole.operations() {
        let fs = SimFs::new(1);
        fs.cut_at(kill);
        fs.create_dir_synced(&dir).unwrap_err();
        let next = fs.restart();
        next.create_dir_synced(&dir).unwrap();
        for seed in 0..SEEDS {
            assert_eq!(next.reboot(seed).size(&dir).unwrap(), Some(0), "killed at {kill}");
        }
    }
}

#[test]
fn allocation_reads_zeros_and_its_size_may_be_lost_until_synced() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", b"x");
    file.allocate(4096).unwrap();
    assert_eq!(content(&fs, "a").unwrap().len(), 4096);
    let sizes: BTreeSet<usize> =
        outcomes(&fs, "a").into_iter().map(|bytes| bytes.unwrap().len()).collect();
    assert_eq!(sizes, BTreeSet::from([1, 4096]));
}

#[test]
fn a_cut_file_never_shows_its_old_bytes_again_once_synced() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(1, 20));
    write(&*file, &pattern(2, 20), 0);
    file.set_len(100).unwrap();
    file.set_len(20 * 512).unwrap();
    file.sync().unwrap();
    let mut expected = vec![0; 20 * 512];
    expected[..100].fill(2);
    assert_eq!(outcomes(&fs, "a"), BTreeSet::from([Some(expected)]));
}

#[test]
fn an_unsynced_cut_leaves_a_size_it_once_had() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(1, 16));
    file.set_len(512).unwrap();
    file.set_len(2048).unwrap();
    let seen = outcomes(&fs, "a");
    let regrown = [pattern(1, 1), pattern(0, 3)].concat();
    assert!(seen.contains(&Some(pattern(1, 16))) && seen.contains(&Some(regrown)));
    let sizes: BTreeSet<usize> = seen.into_iter().map(|bytes| bytes.unwrap().len()).collect();
    assert_eq!(sizes, BTreeSet::from([16 * 512, 512, 2048]));
}

#[test]
fn direct_files_insist_on_alignment() {
    let fs = SimFs::new(1);
    durable_file(&fs, "a", b"").allocate(16384).unwrap();
    let file = fs.open(&path("a"), Mode::Direct).unwrap();
    let buffer = aligned(8192);
    let good = aligned_part(&buffer, 8192);
    write_synced(&*file, good, 4096).unwrap();
    file.write_synced_at(&[IoSlice::new(&good[..4096]), IoSlice::new(&good[4096..])], 0).unwrap();
    let refused = [
        write_synced(&*file, good, 512),
        write_synced(&*file, &good[..512], 0),
        write_synced(&*file, &good[512..4608], 0),
        file.read_at(&mut [0; 16], 0).map(|_| ()),
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_file_opened_for_reading_refuses_writes() {
    let fs = SimFs::new(1);
    durable_file(&fs, "a", b"x");
    let file = fs.open(&path("a"), Mode::Read).unwrap();
    let error = write_synced(&*file, b"y", 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EBADF));
    assert!(file.allocate(10).is_err() && file.set_len(0).is_err());
}

#[test]
fn names_fail_as_on_a_real_file_system() {
    let fs = SimFs::new(1);
    durable_file(&fs, "a", b"x");
    fs.create_dir_all(&path("d")).unwrap();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    let open = |name: &str, mode| fs.open(&path(name), mode).map(|_| ());
    assert_eq!(kind(open("a", Mode::CreateNew)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(open("b", Mode::Write)), io::ErrorKind::NotFound);
    assert_eq!(kind(open("x/y", Mode::CreateNew)), io::ErrorKind::NotFound);
    assert_eq!(kind(open("a/y", Mode::CreateNew)), io::ErrorKind::NotADirectory);
    assert_eq!(kind(open("d", Mode::Read)), io::ErrorKind::IsADirectory);
    assert_eq!(kind(fs.rename(&path("b"), &path("c"))), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.remove(&path("b"))), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.remove(&path("../a"))), io::ErrorKind::InvalidInput);
    assert_eq!(fs.size(&path("x/y")).unwrap(), None);
    let entries = fs.list(Path::new("/")).unwrap();
    assert_eq!(
        entries.iter().map(|e| (&*e.name, e.size_bytes, e.is_dir)).collect::<Vec<_>>(),
        [("a", 1, false), ("d", 0, true)]
    );
}

#[test]
fn writes_under_a_map_are_violations() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", b"abc");
    let map = file.map().unwrap();
    write(&*file, b"x", 0);
    assert_eq!((*map).as_ref(), b"abc");
    assert_eq!(fs.violations().len(), 1);
    drop(map);
    write(&*file, b"x", 0);
    file.set_len(0).unwrap();
    assert_eq!(fs.violations().len(), 1);
    let map = file.map().unwrap();
    fs.remove(&path("a")).unwrap();
    assert_eq!(fs.violations().len(), 1, "an unlinked file may stay mapped");
    file.set_len(9).unwrap();
    assert_eq!(fs.violations().len(), 2);
    drop(map);
}

#[test]
fn a_lock_is_exclusive_until_dropped_or_the_process_dies() {
    let fs = SimFs::new(1);
    let lock = fs.lock(&path("lock")).unwrap();
    assert_eq!(fs.lock(&path("lock")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let next = fs.restart();
    let held = next.lock(&path("lock")).unwrap();
    drop(lock);
    assert!(next.lock(&path("lock")).is_err(), "the old process's lock is not the new one's");
    drop(held);
    assert!(next.lock(&path("lock")).is_ok());
}

#[test]
fn killing_the_process_keeps_unsynced_writes_until_the_power_goes() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 1));
    write(&*file, &pattern(1, 1), 0);
    let next = fs.restart();
    assert!(PowerOff::is(&file.sync().unwrap_err()));
    assert_eq!(content(&next, "a"), Some(pattern(1, 1)));
    assert_eq!(outcomes(&next, "a").len(), 2);
}

#[test]
fn a_full_disk_refuses_growth_and_takes_it_again_when_space_returns() {
    let fs = SimFs::new(1);
    fs.set_capacity(Some(4 * 4096));
    let file = durable_file(&fs, "a", &[1; 4096]);
    assert_eq!(fs.free_bytes(Path::new("/")).unwrap(), 3 * 4096);
    let full = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    };
    full(file.allocate(5 * 4096));
    assert_eq!(file.len().unwrap(), 4096);
    file.allocate(3 * 4096).unwrap();
    assert_eq!(fs.used_bytes(), 3 * 4096);
    file.write_at(&[IoSlice::new(&[2; 3 * 4096])], 0).unwrap();
    full(file.write_at(&[IoSlice::new(&[3; 3 * 4096])], 2 * 4096));
    assert_eq!(file.len().unwrap(), 4 * 4096, "as much as fits may have been written");
    write(&*file, &[4; 4096], 3 * 4096);
    full(write_synced(&*file, b"x", 4 * 4096));
    fs.set_capacity(Some(5 * 4096));
    write_synced(&*file, b"x", 4 * 4096).unwrap();
    fs.remove(&path("a")).unwrap();
    assert_eq!(fs.used_bytes(), 5 * 4096, "an open file keeps its space");
    drop(file);
    assert_eq!(fs.used_bytes(), 0);
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 64));
    write(&*file, &pattern(1, 64), 0);
    fs.fail_at(fs.operations() + 1, Fault::Eio);
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
    file.sync().unwrap();
    assert_eq!(content(&fs, "a").unwrap(), pattern(1, 64), "the process sees all of it");
    let seen = outcomes(&fs, "a");
    assert_eq!(seen.len(), 1);
    let left = sectors(seen.first().unwrap().as_ref().unwrap());
    assert!(left.contains(&0) && left.contains(&1));
}

#[test]
fn only_dropping_the_cache_shows_what_a_failed_write_left() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 64));
    fs.fail_at(fs.operations() + 1, Fault::Eio);
    write_synced(&*file, &pattern(1, 64), 0).unwrap_err();
    let fs = fs.restart();
    let file = fs.open(&path("a"), Mode::Write).unwrap();
    file.sync().unwrap();
    assert_eq!(content(&fs, "a").unwrap(), pattern(1, 64), "the next process is lied to");
    write(&*file, &pattern(2, 8), 8192);
    file.drop_cached().unwrap();
    let left = sectors(&content(&fs, "a").unwrap());
    assert!(left.contains(&0) && left.contains(&1));
    assert_eq!(left[16..24], [2; 8], "what is unsynced stays");
    file.sync().unwrap();
    assert_eq!(outcomes(&fs, "a"), BTreeSet::from([content(&fs.reboot(0), "a")]));
}

#[test]
fn each_fault_fails_or_lies_as_it_says() {
    let run = |fault, synced: bool| {
        let fs = SimFs::new(3);
        let file = durable_file(&fs, "a", &pattern(0, 16));
        fs.fail_at(fs.operations() + 1, fault);
        let slices = [IoSlice::new(&[1; 4096])];
        let result =
            if synced { file.write_synced_at(&slices, 0) } else { file.write_at(&slices, 0) };
        let live = content(&fs, "a").unwrap();
        let bytes = content(&fs.reboot(0), "a").unwrap();
        (result.map_err(|e| e.kind()), live, bytes)
    };
    let (result, _, durable) = run(Fault::Eio, true);
    assert!(result.is_err() && durable.contains(&1) && durable[..4096].contains(&0));
    let (result, live, _) = run(Fault::ShortWrite, true);
    assert_eq!(result, Err(io::ErrorKind::WriteZero));
    assert!(live[..4096].contains(&1) && live[..4096].contains(&0));
    let (result, live, _) = run(Fault::Enospc, false);
    assert_eq!(result, Err(io::ErrorKind::StorageFull));
    assert!(live[..4096].contains(&0));
    let (result, live, durable) = run(Fault::Lost, true);
    assert!(result.is_ok() && live == pattern(0, 16) && durable == live);
    let (result, live, durable) = run(Fault::Misdirected(4096), true);
    assert!(result.is_ok() && live == durable);
    assert_eq!(sectors(&live), [[0; 8], [1; 8]].concat());
}

#[test]
fn a_fault_from_an_operation_on_stays_until_cleared() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", b"x");
    fs.fail_from(fs.operations() + 1, Fault::Enospc);
    for _ in 0..3 {
        assert_eq!(file.allocate(9999).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert!(fs.open(&path("b"), Mode::CreateNew).is_err());
    fs.clear_faults();
    file.allocate(9999).unwrap();
}

#[test]
fn broken_sectors_and_flipped_bits_show_to_readers_and_stay() {
    let fs = SimFs::new(1);
    let file = durable_file(&fs, "a", &pattern(0, 4));
    fs.flip_bit(&path("a"), 700, 3).unwrap();
    fs.fail_reads(&path("a"), 1024..1536).unwrap();
    let check = |fs: &SimFs| {
        let file = fs.open(&path("a"), Mode::Read).unwrap();
        let mut buf = [0; 1024];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 1024);
        assert_eq!(buf[700], 8);
        assert_eq!(file.read_at(&mut buf, 1000).unwrap_err().raw_os_error(), Some(EIO));
        assert!(file.map().is_err());
    };
    check(&fs);
    check(&fs.reboot(0));
    drop(file);
}

#[test]
fn operations_are_numbered_traced_and_repeatable() {
    let run = || {
        let fs = SimFs::new(1);
        let file = durable_file(&fs, "a", b"x");
        fs.fail_at(6, Fault::Eio);
        file.allocate(10).unwrap();
        file.set_len(4).unwrap_err();
        file.read_at(&mut [0], 0).unwrap();
        (fs.operations(), fs.trace(), fs.dump())
    };
    let (operations, trace, dump) = run();
    assert_eq!(operations, 6);
    let lines: Vec<&str> = trace.lines().collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[1], "#2 write /a [0..1)");
    assert_eq!(lines[5], "#6 set_len /a FAULT Eio");
    assert!(dump.contains("/a #1 10 bytes (durable 1), unsynced"), "{dump}");
    assert_eq!(run(), (operations, trace, dump));
}

/// How a file's content is replaced: the right way, and the ways that lose data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replace {
    Right,
    WithoutSync,
    WithoutSyncDir,
    InPlace,
}

fn replace(fs: &SimFs, how: Replace, bytes: &[u8]) -> io::Result<()> {
    let (target, beside) = (path("meta"), path("meta.new"));
    match how {
        Replace::Right => fs.replace(&target, bytes),
        Replace::InPlace => {
            let file = fs.open(&target, Mode::Write)?;
            file.set_len(0)?;
            file.write_at(&[IoSlice::new(bytes)], 0)?;
            file.sync()
        }
        Replace::WithoutSync | Replace::WithoutSyncDir => {
            if fs.size(&beside)?.is_some() {
                fs.remove(&beside)?;
            }
            let file = fs.open(&beside, Mode::CreateNew)?;
            file.write_at(&[IoSlice::new(bytes)], 0)?;
            if how == Replace::WithoutSyncDir {
                file.sync()?;
            }
            fs.rename(&beside, &target)?;
            if how == Replace::WithoutSync { fs.sync_dir(Path::new("/")) } else { Ok(()) }
        }
    }
}

/// Replaces several times, cuts at every operation and after the last, and reports the first
/// outcome that is neither the old content nor the new, or not the new although it was reported.
fn first_loss(how: Replace, versions: &[Vec<u8>], seeds: Range<u64>) -> Option<String> {
    let run = |cut: Option<u64>| {
        let fs = SimFs::new(1);
        durable_file(&fs, "meta", &versions[0]);
        let start = fs.operations();
        if let Some(cut) = cut {
            fs.cut_at(start + cut);
        }
        let done = versions[1..].iter().take_while(|v| replace(&fs, how, v).is_ok()).count();
        let operations = fs.operations() - start;
        (fs, done, operations)
    };
    let (_, done, operations) = run(None);
    assert_eq!(done, versions.len() - 1);
    for cut in 1..=operations + 1 {
        let (fs, done, _) = run(Some(cut));
        for seed in seeds.clone() {
            let left = content(&fs.reboot(seed), "meta");
            let allowed = versions[done..].iter().take(2);
            if !allowed.into_iter().any(|version| left.as_ref() == Some(version)) {
                return Some(format!("cut {cut}, seed {seed}, {done} done\n{}", fs.trace()));
            }
        }
    }
    None
}

#[test]
fn the_simulator_finds_each_planted_bug_of_a_replace() {
    let versions: Vec<Vec<u8>> = (1..4).map(|v| pattern(v, 5)).collect();
    assert_eq!(first_loss(Replace::Right, &versions, 0..SEEDS), None);
    for planted in [Replace::WithoutSync, Replace::WithoutSyncDir, Replace::InPlace] {
        let found = first_loss(planted, &versions, 0..16);
        assert!(found.is_some(), "{planted:?} goes unseen");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_replaced_file_is_old_or_new_at_every_cut(
        versions in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 2..5),
        seed in 0u64..1 << 40,
    ) {
        prop_assert_eq!(first_loss(Replace::Right, &versions, seed..seed + 8), None);
    }

    /// Against the plainest model there is: what was true at the last sync of everything.
    #[test]
    fn after_a_full_sync_any_cut_leaves_exactly_what_was_seen(
        steps in prop::collection::vec((0usize..3, 0u8..6, 0u64..20_000, 1usize..9_000), 1..40),
        seed in any::<u64>(),
    ) {
        let fs = SimFs::new(seed);
        let files: Vec<_> = ["a", "b", "c"].map(|name| durable_file(&fs, name, b"")).into();
        for (byte, (file, verb, at, len)) in (1u8..).zip(steps) {
            let bytes = vec![byte; len];
            match verb {
                0 | 1 => write(&*files[file], &bytes, at),
                2 => write_synced(&*files[file], &bytes, at).unwrap(),
                3 => files[file].set_len(at).unwrap(),
                4 => files[file].allocate(at + 1).unwrap(),
                _ => files[file].sync().unwrap(),
            }
        }
        let seen = ["a", "b", "c"].map(|name| content(&fs, name));
        files.iter().for_each(|file| file.sync().unwrap());
        let left = fs.reboot(seed);
        prop_assert_eq!(seen, ["a", "b", "c"].map(|name| content(&left, name)));
        prop_assert_eq!(fs.used_bytes(), left.used_bytes());
    }

    /// No cut invents a byte: every sector is one that the file held at some time.
    #[test]
    fn a_cut_never_invents_bytes(
        steps in prop::collection::vec((0u8..5, 0usize..32, 1usize..16), 1..30),
        seed in any::<u64>(),
    ) {
        let fs = SimFs::new(seed);
        let file = durable_file(&fs, "a", b"");
        let mut held: Vec<BTreeSet<u8>> = vec![BTreeSet::from([0]); 64];
        for (byte, (verb, sector, count)) in (1u8..).zip(steps) {
            let at = sector as u64 * 512;
            match verb {
                0..=2 => {
                    let bytes = pattern(byte, count);
                    write(&*file, &bytes, at);
                    held[sector..][..count].iter_mut().for_each(|h| { h.insert(byte); });
                }
                3 => file.set_len(at).unwrap(),
                _ => file.sync().unwrap(),
            }
        }
        for seed in seed..seed.saturating_add(8) {
            let left = content(&fs.reboot(seed), "a").unwrap();
            for (sector, byte) in sectors(&left).into_iter().enumerate() {
                prop_assert!(held[sector].contains(&byte), "sector {} holds {}", sector, byte);
            }
        }
    }
}
