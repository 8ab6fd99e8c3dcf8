//! Damage for tests of what stands on the log: bytes that the disk gives back wrong.

use std::path::Path;

use crate::env::Env;
use crate::env::sim::SimHandles;

/// Destroys the header of the last frame that holds a text, which is in one segment of the log.
pub(crate) fn lose_frame_of(env: &Env, sim: &SimHandles, dir: &Path, text: &str) {
    let mut lost = 0;
    for entry in env.fs.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        let bytes = env.fs.read_all(&path).unwrap();
        let find = |what: &[u8], end: usize| {
            bytes[..end].windows(what.len()).rposition(|window| window == what)
        };
        if entry.name.ends_with(".log")
            && let Some(at) = find(text.as_bytes(), bytes.len())
        {
            let frame = find(b"BFR\x01", at).unwrap() as u64;
            sim.fs.flip_bit(&path, frame + 9, 3).unwrap();
            lost += 1;
        }
    }
    assert_eq!(lost, 1, "{text} is on the disk");
}
