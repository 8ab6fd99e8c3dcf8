//! Files of the repository that are written from the code, held equal to it by tests.

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use crate::env::fs::{Fs, Mode};
use crate::env::real::RealFs;

/// A file of the repository.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file of the repository; empty when there is none.
pub(crate) fn read(name: &str) -> String {
    match RealFs.read_all(&path(name)) {
        Ok(bytes) => String::from_utf8(bytes).unwrap(),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Compares a file with what the code says; with `UPDATE=1` in the environment it is written.
pub(crate) fn check(name: &str, expected: &str) {
    let found = read(name);
    if found == expected {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        write(name, expected);
        return;
    }
    let line = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
    panic!(
        "{name} is out of date from line {}: `UPDATE=1 cargo test` renews it\n  file: {:?}\n  code: {:?}",
        line + 1,
        found.lines().nth(line),
        expected.lines().nth(line),
    );
}

fn write(name: &str, text: &str) {
    let path = path(name);
    RealFs.create_dir_all(path.parent().unwrap()).unwrap();
    let file = match RealFs.open(&path, Mode::CreateNew) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            RealFs.open(&path, Mode::Write).unwrap()
        }
        Err(error) => panic!("{name}: {error}"),
    };
    file.set_len(0).unwrap();
    file.write_at(&[IoSlice::new(text.as_bytes())], 0).unwrap();
}
