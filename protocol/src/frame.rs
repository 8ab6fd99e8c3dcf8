//! Length-prefixed frames: four bytes of length (big-endian, signed), then that many bytes.
//!
//! Pure: looks at a buffer and says what it holds; reading more is the connection's work. It never
//! allocates, so a claimed length costs nothing until its bytes have really arrived.

use bytes::{Buf, Bytes, BytesMut};

/// Size of the length in front of every frame.
pub const LENGTH_SIZE_BYTES: usize = 4;

/// What the start of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameState {
    /// At least this many bytes are missing before more can be said.
    NeedMore(usize),
    /// A whole frame: its content is this many bytes, right after the length.
    Frame(usize),
    /// The frame claims more bytes than the limit allows. The connection is to be closed.
    TooLarge(usize),
    /// The frame claims a negative length. The connection is to be closed.
    Negative(i32),
}

/// A length that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More bytes are claimed than a frame may have.
    #[error("a frame of {size_bytes} bytes is larger than the limit of {limit_bytes}")]
    TooLarge { size_bytes: usize, limit_bytes: usize },
    /// A negative length is claimed.
    #[error("a frame has the negative length {0}")]
    Negative(i32),
}

/// Looks at the start of `buffer`; `limit_bytes` bounds the content, without the length itself.
#[must_use]
pub fn inspect(buffer: &[u8], limit_bytes: usize) -> FrameState {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_SIZE_BYTES>() else {
        return FrameState::NeedMore(LENGTH_SIZE_BYTES - buffer.len());
    };
    let claimed = i32::from_be_bytes(*length);
    let Ok(size_bytes) = usize::try_from(claimed) else {
        return FrameState::Negative(claimed);
    };
    if size_bytes > limit_bytes {
        FrameState::TooLarge(size_bytes)
    } else if rest.len() < size_bytes {
        FrameState::NeedMore(size_bytes - rest.len())
    } else {
        FrameState::Frame(size_bytes)
    }
}

/// The content of the first frame in `buffer`, where it lies; `None` if it is not whole.
///
/// # Errors
/// A length that is negative or above the limit.
pub fn content(buffer: &[u8], limit_bytes: usize) -> Result<Option<&[u8]>, FrameError> {
    match inspect(buffer, limit_bytes) {
        FrameState::NeedMore(_) => Ok(None),
        FrameState::Frame(size_bytes) => {
            Ok(buffer.get(LENGTH_SIZE_BYTES..LENGTH_SIZE_BYTES + size_bytes))
        }
        FrameState::TooLarge(size_bytes) => Err(FrameError::TooLarge { size_bytes, limit_bytes }),
        FrameState::Negative(length) => Err(FrameError::Negative(length)),
    }
}

/// Takes the content of the first frame out of `buffer`, without copying; `None` if it is not whole.
///
/// # Errors
/// A length that is negative or above the limit; `buffer` is then untouched.
pub fn take(buffer: &mut BytesMut, limit_bytes: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(size_bytes) = content(buffer, limit_bytes)?.map(<[u8]>::len) else { return Ok(None) };
    buffer.advance(LENGTH_SIZE_BYTES);
    Ok(Some(buffer.split_to(size_bytes).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_told_apart() {
        for (buffer, state) in [
            (&[][..], FrameState::NeedMore(4)),
            (&[0, 0, 0], FrameState::NeedMore(1)),
            (&[0, 0, 0, 2], FrameState::NeedMore(2)),
            (&[0, 0, 0, 2, 9], FrameState::NeedMore(1)),
            (&[0, 0, 0, 2, 9, 9], FrameState::Frame(2)),
            (&[0, 0, 0, 2, 9, 9, 9], FrameState::Frame(2)),
            (&[0, 0, 0, 0], FrameState::Frame(0)),
            (&[0, 0, 0, 3], FrameState::TooLarge(3)),
            (&[0x7f, 0xff, 0xff, 0xff], FrameState::TooLarge(0x7fff_ffff)),
            (&[0xff, 0xff, 0xff, 0xff, 1], FrameState::Negative(-1)),
            (&[0x80, 0, 0, 0], FrameState::Negative(i32::MIN)),
        ] {
            assert_eq!(inspect(buffer, 2), state, "{buffer:?}");
        }
    }

    #[test]
    fn frames_leave_the_buffer_in_order() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 1, 7, 0, 0, 0, 2, 8, 9, 0, 0][..]);
        assert_eq!(take(&mut buffer, 10), Ok(Some(Bytes::from_static(&[7]))));
        assert_eq!(take(&mut buffer, 10), Ok(Some(Bytes::from_static(&[8, 9]))));
        assert_eq!(take(&mut buffer, 10), Ok(None));
        assert_eq!(buffer, &[0, 0][..]);
    }

    #[test]
    fn a_refused_frame_leaves_the_buffer_untouched() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 9, 7][..]);
        let refused = FrameError::TooLarge { size_bytes: 9, limit_bytes: 8 };
        assert_eq!(take(&mut buffer, 8), Err(refused));
        assert_eq!(buffer, &[0, 0, 0, 9, 7][..]);
    }
}
