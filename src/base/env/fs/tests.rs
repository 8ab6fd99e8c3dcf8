//! What both file systems must do alike: each fact is stated once and tried on the machine's and
//! on the simulator's, so that neither drifts from the seam.

use super::*;
use crate::env::real::RealFs;
use crate::env::sim::SimFs;

fn on_both(check: impl Fn(&dyn Fs, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    check(&RealFs, dir.path());
    let fs = SimFs::new(1);
    fs.create_dir_all(Path::new("/tmp/x")).unwrap();
    check(&fs, Path::new("/tmp/x"));
    assert_eq!(fs.violations(), Vec::<String>::new());
}

fn put(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = fs.open(path, Mode::CreateNew).unwrap();
    file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
    file
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.map(|_| ()).unwrap_err().kind()
}

#[test]
fn writes_are_read_back_across_slices_holes_and_the_end() {
    on_both(|fs, dir| {
        let file = put(fs, &dir.join("a"), b"abc");
        file.write_at(&[IoSlice::new(b"x"), IoSlice::new(b""), IoSlice::new(b"yz")], 5).unwrap();
        file.write_synced_at(&[IoSlice::new(b"!")], 8).unwrap();
        file.sync().unwrap();
        file.drop_cached().unwrap();
        assert_eq!(fs.read_all(&dir.join("a")).unwrap(), b"abc\0\0xyz!");
        let mut buf = [7; 4];
        assert_eq!(file.read_at(&mut buf, 7).unwrap(), 2);
        assert_eq!(&buf, b"z!\x07\x07");
        assert_eq!(file.read_at(&mut buf, 100).unwrap(), 0);
        assert_eq!((file.len().unwrap(), file.is_empty().unwrap()), (9, false));
    });
}

#[test]
fn sizes_follow_allocation_and_cutting() {
    on_both(|fs, dir| {
        let file = put(fs, &dir.join("a"), b"abc");
        file.allocate(10).unwrap();
        assert_eq!(fs.read_all(&dir.join("a")).unwrap(), b"abc\0\0\0\0\0\0\0");
        file.allocate(5).unwrap();
        assert_eq!(file.len().unwrap(), 10, "allocation never cuts");
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(fs.read_all(&dir.join("a")).unwrap(), b"ab\0\0");
        assert_eq!(fs.size(&dir.join("a")).unwrap(), Some(4));
        assert_eq!(kind(file.allocate(0)), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn names_are_made_renamed_listed_and_removed() {
    on_both(|fs, dir| {
        fs.create_dir_synced(&dir.join("d/e")).unwrap();
        fs.create_dir_all(&dir.join("d/e")).unwrap();
        put(fs, &dir.join("b"), b"new");
        put(fs, &dir.join("a"), b"a");
        fs.rename(&dir.join("b"), &dir.join("a")).unwrap();
        fs.rename(&dir.join("a"), &dir.join("d/a")).unwrap();
        put(fs, &dir.join("c"), b"");
        fs.sync_dir(dir).unwrap();
        let entry =
            |name: &str, size_bytes, is_dir| Entry { name: name.into(), size_bytes, is_dir };
        assert_eq!(fs.list(dir).unwrap(), [entry("c", 0, false), entry("d", 0, true)]);
        let inner = fs.list(&dir.join("d")).unwrap();
        assert_eq!(inner, [entry("a", 3, false), entry("e", 0, true)]);
        fs.remove(&dir.join("c")).unwrap();
        assert_eq!(fs.size(&dir.join("c")).unwrap(), None);
        assert_eq!(fs.size(&dir.join("no/c")).unwrap(), None);
    });
}

#[test]
fn what_cannot_be_is_refused_alike() {
    on_both(|fs, dir| {
        put(fs, &dir.join("a"), b"a");
        fs.create_dir_all(&dir.join("d")).unwrap();
        let open = |name: &str, mode| kind(fs.open(&dir.join(name), mode));
        assert_eq!(open("a", Mode::CreateNew), io::ErrorKind::AlreadyExists);
        assert_eq!(open("b", Mode::Read), io::ErrorKind::NotFound);
        assert_eq!(open("b", Mode::Write), io::ErrorKind::NotFound);
        assert_eq!(open("b", Mode::Direct), io::ErrorKind::NotFound);
        assert_eq!(open("no/b", Mode::CreateNew), io::ErrorKind::NotFound);
        assert_eq!(open("a/b", Mode::CreateNew), io::ErrorKind::NotADirectory);
        assert_eq!(open("d", Mode::Write), io::ErrorKind::IsADirectory);
        assert_eq!(kind(fs.rename(&dir.join("b"), &dir.join("c"))), io::ErrorKind::NotFound);
        assert_eq!(kind(fs.rename(&dir.join("a"), &dir.join("d"))), io::ErrorKind::IsADirectory);
        assert_eq!(kind(fs.remove(&dir.join("b"))), io::ErrorKind::NotFound);
        assert_eq!(kind(fs.remove(&dir.join("d"))), io::ErrorKind::IsADirectory);
        assert_eq!(kind(fs.list(&dir.join("no"))), io::ErrorKind::NotFound);
        assert_eq!(kind(fs.sync_dir(&dir.join("no"))), io::ErrorKind::NotFound);
        assert_eq!(kind(fs.create_dir_all(&dir.join("a"))), io::ErrorKind::AlreadyExists);
        let read_only = fs.open(&dir.join("a"), Mode::Read).unwrap();
        let refused = read_only.write_at(&[IoSlice::new(b"x")], 0).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(9), "EBADF");
    });
}

#[test]
fn a_lock_excludes_others_until_it_is_dropped() {
    on_both(|fs, dir| {
        let lock = fs.lock(&dir.join("lock")).unwrap();
        assert_eq!(kind(fs.lock(&dir.join("lock"))), io::ErrorKind::WouldBlock);
        drop(lock);
        drop(fs.lock(&dir.join("lock")).unwrap());
        assert_eq!(fs.size(&dir.join("lock")).unwrap(), Some(0));
    });
}

#[test]
fn a_map_and_a_descriptor_outlive_the_name() {
    on_both(|fs, dir| {
        put(fs, &dir.join("a"), b"abc");
        let file = fs.open(&dir.join("a"), Mode::Read).unwrap();
        let map = file.map().unwrap();
        fs.remove(&dir.join("a")).unwrap();
        assert_eq!((*map).as_ref(), b"abc");
        assert_eq!(file.len().unwrap(), 3);
        assert_eq!((*put(fs, &dir.join("empty"), b"").map().unwrap()).as_ref(), b"");
    });
}

#[test]
fn direct_writes_of_aligned_memory_are_read_back() {
    on_both(|fs, dir| {
        put(fs, &dir.join("a"), b"").allocate(4 * 4096).unwrap();
        let memory = vec![7; 5 * DIRECT_ALIGN_BYTES];
        let skip = memory.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
        let (first, second) = memory[skip..skip + 3 * 4096].split_at(4096);
        let file = fs.open(&dir.join("a"), Mode::Direct).unwrap();
        file.write_synced_at(&[IoSlice::new(first), IoSlice::new(second)], 4096).unwrap();
        let bytes = fs.read_all(&dir.join("a")).unwrap();
        assert!(bytes[..4096].iter().all(|b| *b == 0) && bytes[4096..].iter().all(|b| *b == 7));
    });
}

#[test]
fn replacing_leaves_the_new_content_and_nothing_beside_it() {
    on_both(|fs, dir| {
        for content in [b"first".as_slice(), b"", b"third"] {
            fs.replace(&dir.join("meta"), content).unwrap();
            assert_eq!(fs.read_all(&dir.join("meta")).unwrap(), content);
        }
        assert_eq!(fs.list(dir).unwrap().len(), 1);
        assert!(fs.free_bytes(dir).unwrap() > 0);
    });
}
