//! The header in front of every request, parsed by hand.
//!
//! The first eight bytes never change in any version of Kafka, so an unknown API or version still
//! yields its correlation id and can be answered or logged. What follows them depends on the API
//! and its version, which only the table of served APIs knows.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use crate::api::{self, Api};
use crate::primitives::{ReadError, Reader};

/// Who asks for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Kafka's number of the API, served or not.
    pub api_key: i16,
    /// The version asked for, served or not.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// The name the client gives itself. A slice of the frame: copy it before keeping it.
    pub client_id: Option<StrBytes>,
}

/// A frame's header and body where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// As in [`RequestHeader`].
    pub api_key: i16,
    /// As in [`RequestHeader`].
    pub api_version: i16,
    /// As in [`RequestHeader`].
    pub correlation_id: i32,
    /// The bytes of the name the client gives itself.
    pub client_id: Option<&'a [u8]>,
    /// What follows the header.
    pub body: &'a [u8],
}

/// A frame whose header cannot be read. The connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame ends inside the header, or a length in it is wrong.
    #[error("the request header is malformed")]
    Malformed(#[from] ReadError),
}

impl<'a> Head<'a> {
    /// Tells a frame's header from its body.
    ///
    /// For an API or version that is not served everything after the first eight bytes is
    /// guesswork: the client id is read if it can be, and nothing there is an error.
    ///
    /// # Errors
    /// The frame is shorter than its header.
    pub fn parse(frame: &'a [u8]) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(frame);
        let api_key = reader.i16()?;
        let api_version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let flexible = api::find(api_key)
            .filter(|api| api.accepts(api_version))
            .map(|api| api.is_flexible(api_version));
        let rest = (|| {
            let client_id = match reader.string_length(false)? {
                None => None,
                Some(length) => Some(reader.take(length)?),
            };
            if flexible == Some(true) {
                reader.skip_tagged_fields()?;
            }
            Ok((client_id, reader.rest()))
        })();
        let (client_id, body) = match (rest, flexible) {
            (Ok(parsed), _) => parsed,
            (Err(error), Some(_)) => return Err(HeaderError::Malformed(error)),
            (Err(_), None) => (None, &[][..]),
        };
        Ok(Self { api_key, api_version, correlation_id, client_id, body })
    }

    /// A copy of what stands before the body.
    #[must_use]
    pub fn to_header(&self) -> RequestHeader {
        let Self { api_key, api_version, correlation_id, client_id, .. } = *self;
        let client_id = client_id.map(|raw| text(Bytes::copy_from_slice(raw)));
        RequestHeader { api_key, api_version, correlation_id, client_id }
    }
}

impl RequestHeader {
    /// Splits a frame into header and body, without copying; see [`Head::parse`].
    ///
    /// # Errors
    /// The frame is shorter than its header.
    pub fn parse(mut frame: Bytes) -> Result<(Self, Bytes), HeaderError> {
        let head = Head::parse(&frame)?;
        let header = Self {
            api_key: head.api_key,
            api_version: head.api_version,
            correlation_id: head.correlation_id,
            client_id: head.client_id.map(|raw| text(frame.slice_ref(raw))),
        };
        let body_size_bytes = head.body.len();
        let body = frame.split_off(frame.len() - body_size_bytes);
        Ok((header, body))
    }

    /// The served API this request names, if it is one.
    #[must_use]
    pub fn api(&self) -> Option<&'static Api> {
        api::find(self.api_key)
    }
}

/// The client id is for people: bytes that are not UTF-8 are replaced, as Kafka does.
fn text(raw: Bytes) -> StrBytes {
    match StrBytes::from_utf8(raw.clone()) {
        Ok(text) => text,
        Err(_) => StrBytes::from_string(String::from_utf8_lossy(&raw).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &'static [u8]) -> Result<(RequestHeader, Bytes), HeaderError> {
        RequestHeader::parse(Bytes::from_static(bytes))
    }

    #[test]
    fn header_and_body_are_split() {
        let (header, body) = parse(b"\0\x03\0\x01\0\0\0\x2a\0\x02meBODY").unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (3, 1, 42));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert_eq!(body, "BODY");
    }

    #[test]
    fn a_flexible_header_passes_over_its_tagged_fields() {
        let (header, body) = parse(b"\0\x03\0\x09\0\0\0\x07\xff\xff\x01\x05\x03abcBODY").unwrap();
        assert_eq!((header.correlation_id, header.client_id), (7, None));
        assert_eq!(body, "BODY");
    }

    #[test]
    fn the_correlation_id_survives_an_unknown_api_or_version() {
        for frame in [
            &b"\x7f\xff\0\0\0\0\0\x07"[..],
            b"\x7f\xff\0\0\0\0\0\x07\x7f\xffgarbage",
            b"\0\x03\x7f\xff\0\0\0\x07\xff\xfe",
        ] {
            let (header, body) = RequestHeader::parse(Bytes::from_static(frame)).unwrap();
            assert_eq!((header.correlation_id, body.len()), (7, 0));
        }
        let (header, _) = parse(b"\x7f\xff\0\0\0\0\0\x07\0\x02merest").unwrap();
        assert_eq!(header.client_id.as_deref(), Some("me"));
    }

    #[test]
    fn a_served_request_with_a_broken_header_is_refused() {
        for frame in [
            &b"\0\x03\0\x01\0\0\0"[..],
            b"\0\x03\0\x01\0\0\0\x2a",
            b"\0\x03\0\x01\0\0\0\x2a\0\x05me",
            b"\0\x03\0\x01\0\0\0\x2a\xff\xfe",
            b"\0\x03\0\x09\0\0\0\x2a\xff\xff\x01\x00\x7f",
        ] {
            assert!(RequestHeader::parse(Bytes::from_static(frame)).is_err(), "{frame:?}");
        }
    }

    #[test]
    fn a_client_id_that_is_not_utf8_is_kept_readable() {
        let (header, _) = parse(b"\0\x03\0\x01\0\0\0\x2a\0\x02\xffe").unwrap();
        assert_eq!(header.client_id.as_deref(), Some("\u{fffd}e"));
    }
}
