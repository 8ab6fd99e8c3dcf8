//! Reading around places that the device cannot read.
//!
//! Recovery must not stop at a bad sector, nor take one for the end of the log. What cannot be
//! read is handed over as zeros, in which no frame can be, and named, so that `walk` can judge it.

use std::io;
use std::ops::Range;

use super::config::BLOCK_BYTES;
use super::width::index;
use crate::env::fs::{File, is_unreadable};

/// Blocks that may be bad before the whole device is taken to be: each can take it seconds.
const BLOCKS_MAX: usize = 1024;

/// Reads like [`File::read_at`], and returns which blocks of the file it could not read.
pub(super) fn read_around(
    file: &dyn File,
    buffer: &mut [u8],
    at: u64,
) -> io::Result<(usize, Vec<Range<u64>>)> {
    match file.read_at(buffer, at) {
        Ok(n) => return Ok((n, Vec::new())),
        Err(error) if is_unreadable(&error) => {}
        Err(error) => return Err(error),
    }
    let mut bad: Vec<Range<u64>> = Vec::new();
    let mut filled = 0;
    while filled < buffer.len() {
        let here = at + filled as u64;
        let block = here - here % BLOCK_BYTES..here - here % BLOCK_BYTES + BLOCK_BYTES;
        let end = buffer.len().min(filled + index(block.end - here));
        let Some(piece) = buffer.get_mut(filled..end) else { break };
        match file.read_at(piece, here) {
            Ok(n) if n < piece.len() => return Ok((filled + n, bad)),
            Ok(_) => {}
            Err(error) if is_unreadable(&error) && bad.len() < BLOCKS_MAX => {
                piece.fill(0);
                bad.push(block);
            }
            Err(error) => return Err(error),
        }
        filled = end;
    }
    Ok((filled, bad))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::env::Fs;
    use crate::env::fs::Mode;
    use crate::env::sim::SimFs;

    #[test]
    fn what_cannot_be_read_is_zeros_and_named_and_the_rest_is_there() {
        let fs = SimFs::new(1);
        let path = Path::new("/f");
        let file = fs.open(path, Mode::CreateNew).unwrap();
        file.write_at(&[IoSlice::new(&[7; 5 * 4096])], 0).unwrap();
        fs.fail_reads(path, 4100..4101).unwrap();
        fs.fail_reads(path, 4 * 4096..4 * 4096 + 1).unwrap();
        let mut buffer = vec![9; 6 * 4096];
        let (n, bad) = read_around(&*file, &mut buffer, 4000).unwrap();
        assert_eq!(n, 5 * 4096 - 4000);
        assert_eq!(bad, [4096..8192, 4 * 4096..5 * 4096]);
        assert!(buffer[..96].iter().all(|byte| *byte == 7));
        assert!(buffer[96..96 + 4096].iter().all(|byte| *byte == 0));
        assert!(buffer[96 + 4096..4 * 4096 - 4000].iter().all(|byte| *byte == 7));
        assert_eq!(read_around(&*file, &mut buffer[..100], 0).unwrap(), (100, Vec::new()));
    }

    #[test]
    fn a_device_that_is_gone_is_an_error() {
        let fs = SimFs::new(1);
        let path = Path::new("/f");
        let file = fs.open(path, Mode::CreateNew).unwrap();
        file.set_len(8 << 20).unwrap();
        fs.fail_reads(path, 0..8 << 20).unwrap();
        assert!(read_around(&*file, &mut vec![0; 8 << 20], 0).is_err());
    }
}
