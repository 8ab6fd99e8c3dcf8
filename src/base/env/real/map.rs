//! Read-only maps. The only `unsafe` of this crate.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::env::fs::Map;

/// Maps a whole file read-only.
pub(super) fn map(file: &File) -> io::Result<Map> {
    // SAFETY: callers of `fs::File::map` promise that the file is sealed: never cut, never
    // written through any descriptor while a map of it lives. Bytes are still only parsed.
    #[expect(unsafe_code, reason = "a map's soundness rests on the promise above")]
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Arc::new(map))
}
