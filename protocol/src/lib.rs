//! Kafka's wire: bytes in, typed requests out; typed responses in, bytes out.
//!
//! Synchronous and without I/O: no socket, no task, no clock. Everything that arrives is hostile
//! until [`guard`] has walked it, so memory follows received bytes and never claimed counts.
//! Handlers see and fill the newest shape of every message only; [`request`] and [`fit`] know the
//! older ones. Comparing an API version with a number happens in this crate and nowhere else; the
//! rest of the broker asks [`feature`] by name.
//!
//! The way in: [`frame`] → [`header`] → [`request`]. The way out: [`response`] → [`outgoing`].

pub mod api;
pub mod api_versions;
pub mod error_code;
pub mod feature;
pub mod fetch_response;
pub mod fit;
pub mod frame;
pub mod guard;
pub mod header;
pub mod outgoing;
mod primitives;
pub mod produce;
pub mod records;
pub mod request;
pub mod response;
pub mod transactions;

pub use api::ApiKey;
pub use error_code::ErrorCode;
pub use header::RequestHeader;
pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::StrBytes;
pub use outgoing::Outgoing;
pub use primitives::ReadError;
pub use request::Request;
pub use response::Response;
