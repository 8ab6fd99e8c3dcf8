//! Frames on a stream: a length of four bytes, then the content. After the greeting the content is
//! a tag and a body, see [`super::session`].
//!
//! Memory follows what was received, never the length that was claimed. A frame that does not arrive
//! whole is an error, and a connection with an error is done for.

use std::io;

use braid_base::env::net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::session::{Seals, TAG_LEN};

/// Longest content of a frame: the longest command with all that may come with it.
pub(crate) const FRAME_BYTES_MAX: usize = 24 << 20;
/// Longest content before the other side has proven that it belongs here.
pub(crate) const GREETING_BYTES_MAX: usize = 1024;

/// Reads the content of a frame; none when the other side closed between frames.
pub(crate) async fn read(
    stream: &mut Box<dyn Stream>,
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut filled = 0;
    while let Some(rest) = length.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    let length = u32::from_be_bytes(length);
    if length as usize > bytes_max {
        let what = format!("a frame of {length} bytes; the most is {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut content = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut content).await?;
    if content.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(content))
}

/// Writes a frame of these parts.
pub(crate) async fn write(stream: &mut Box<dyn Stream>, parts: &[&[u8]]) -> io::Result<()> {
    write_bounded(stream, parts, FRAME_BYTES_MAX).await
}

async fn write_bounded(
    stream: &mut Box<dyn Stream>,
    parts: &[&[u8]],
    bytes_max: usize,
) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = match u32::try_from(length) {
        Ok(length) if length as usize <= bytes_max => length,
        Ok(_) | Err(_) => {
            let what = format!("a message of {length} bytes is longer than a frame may be");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    };
    let mut frame = Vec::with_capacity(4 + length as usize);
    frame.extend_from_slice(&length.to_be_bytes());
    for part in parts {
        frame.extend_from_slice(part);
    }
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// A stream behind its greeting.
#[derive(Debug)]
pub(crate) struct Sealed {
    stream: Box<dyn Stream>,
    seals: Seals,
    bytes_max: usize,
}

impl Sealed {
    pub(crate) fn new(stream: Box<dyn Stream>, seals: Seals) -> Self {
        Self { stream, seals, bytes_max: FRAME_BYTES_MAX }
    }

    /// The same with frames of another size.
    pub(crate) fn with_bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    pub(crate) async fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let tag = self.seals.send.tag(body);
        write_bounded(&mut self.stream, &[&tag, body], self.bytes_max).await
    }

    /// The next body; none when the other side closed in order.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(mut content) = read(&mut self.stream, self.bytes_max).await? else {
            return Ok(None);
        };
        let damaged =
            || io::Error::new(io::ErrorKind::InvalidData, "a frame is not as it was sent");
        let tag = *content.first_chunk::<TAG_LEN>().ok_or_else(damaged)?;
        content.drain(..TAG_LEN);
        if self.seals.receive.is_intact(&content, &tag) {
            Ok(Some(content))
        } else {
            Err(damaged())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Box<dyn Stream>, Box<dyn Stream>) {
        let (near, far) = tokio::io::duplex(1024);
        (Box::new(near), Box::new(far))
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order() {
        let (mut near, mut far) = pair();
        write(&mut near, &[b"ab", b"c"]).await.unwrap();
        write(&mut near, &[]).await.unwrap();
        drop(near);
        assert_eq!(read(&mut far, 3).await.unwrap().unwrap(), b"abc");
        assert_eq!(read(&mut far, 3).await.unwrap().unwrap(), b"");
        assert_eq!(read(&mut far, 3).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_frame_that_claims_too_much_or_ends_early_is_an_error() {
        for (bytes, kind) in [
            (&b"\0\0\0\x04abcd"[..], io::ErrorKind::InvalidData),
            (b"\xff\xff\xff\xff", io::ErrorKind::InvalidData),
            (b"\0\0\0\x03ab", io::ErrorKind::UnexpectedEof),
            (b"\0\0", io::ErrorKind::UnexpectedEof),
        ] {
            let (mut near, mut far) = pair();
            near.write_all(bytes).await.unwrap();
            drop(near);
            assert_eq!(read(&mut far, 3).await.unwrap_err().kind(), kind, "{bytes:?}");
        }
    }
}
