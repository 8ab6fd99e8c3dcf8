//! What the fuzz targets do with their input, shared with the test that replays the corpora.
//!
//! Each takes any bytes and panics only when a promise is broken.

use braid_protocol::frame::{self, FrameState};
use braid_protocol::{Request, RequestHeader, guard, request};
use bytes::{Bytes, BytesMut};

/// A connection's bytes: frame after frame until one is not whole or not allowed.
pub(crate) fn frame(data: &[u8]) {
    let limit_bytes = 1 << 10;
    let mut buffer = BytesMut::from(data);
    loop {
        let before = buffer.len();
        let state = frame::inspect(&buffer, limit_bytes);
        let taken = frame::take(&mut buffer, limit_bytes);
        match (state, &taken) {
            (FrameState::Frame(size_bytes), Ok(Some(frame))) => {
                assert_eq!(frame.len(), size_bytes);
                assert_eq!(buffer.len(), before - size_bytes - frame::LENGTH_SIZE_BYTES);
            }
            (FrameState::NeedMore(missing), Ok(None)) => {
                assert!(missing > 0 && buffer.len() == before);
                return;
            }
            (FrameState::TooLarge(_) | FrameState::Negative(_), Err(_)) => {
                assert_eq!(buffer.len(), before);
                return;
            }
            other => panic!("{other:?}"),
        }
        if let Ok(Some(frame)) = taken {
            request(&frame);
        }
    }
}

/// One frame's content: a header and a body.
pub(crate) fn request(data: &[u8]) {
    let Ok((header, body)) = RequestHeader::parse(Bytes::copy_from_slice(data)) else { return };
    let decoded = request::decode(&header, body.clone());
    let Some(api) = header.api().filter(|api| api.accepts(header.api_version)) else {
        assert!(matches!(decoded, Err(_) | Ok(Request::ApiVersions(_))));
        return;
    };
    match guard::check(api.key, header.api_version, &body) {
        Ok(extent) => {
            assert!(extent.size_bytes <= body.len());
            assert!(extent.memory_bytes <= guard::MEMORY_MAX_BYTES);
            // What is behind the body changes nothing.
            let alone = request::decode(&header, body.slice(..extent.size_bytes));
            assert_eq!(alone, decoded);
        }
        Err(_) => assert!(decoded.is_err()),
    }
}
