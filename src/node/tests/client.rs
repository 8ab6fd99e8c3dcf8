//! A raw client: requests encoded and answers decoded by the generated codec, sent when the test
//! says so, so that requests can be pipelined, cut and bent.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::env::Env;
use crate::env::net::Stream;

/// A connection to a broker.
#[derive(Debug)]
pub(super) struct Client {
    stream: Box<dyn Stream>,
    received: BytesMut,
    next_correlation_id: i32,
    next_answer: i32,
}

/// The frame of a request; of versions beyond the codec's, in the codec's last layout.
pub(super) fn frame_of<R: Request>(correlation_id: i32, version: i16, request: &R) -> Bytes {
    let mut body = BytesMut::new();
    request.encode(&mut body, version.min(R::VERSIONS.max)).expect("the request fits the version");
    raw_frame(R::KEY, version, R::header_version(version), correlation_id, &body)
}

/// The frame of a body.
pub(super) fn raw_frame(
    key: i16,
    version: i16,
    header_version: i16,
    correlation_id: i32,
    body: &[u8],
) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, header_version).expect("the header is plain");
    frame.put_slice(body);
    let length = i32::try_from(frame.len() - 4).expect("a test's frame is small");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// Takes an answer apart and wants nothing left over.
pub(super) fn decoded<T>(mut frame: Bytes, version: i16) -> (i32, T)
where
    T: Decodable + HeaderVersion + Message,
{
    let header = ResponseHeader::decode(&mut frame, T::header_version(version))
        .expect("an answer begins with its header");
    let body = T::decode(&mut frame, version.min(T::VERSIONS.max)).expect("the answer decodes");
    assert!(frame.is_empty(), "{} bytes behind the answer", frame.len());
    (header.correlation_id, body)
}

impl Client {
    pub(super) async fn connect(env: &Env, address: &str) -> Self {
        let stream = env.net.connect(address).await.expect("the broker listens");
        Self { stream, received: BytesMut::new(), next_correlation_id: 0, next_answer: 0 }
    }

    /// As [`Client::connect`]; none where nobody listens.
    pub(super) async fn try_connect(env: &Env, address: &str) -> Option<Self> {
        let stream = env.net.connect(address).await.ok()?;
        Some(Self { stream, received: BytesMut::new(), next_correlation_id: 0, next_answer: 0 })
    }

    /// Sends a request without waiting for the answer.
    pub(super) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        let frame = frame_of(self.next_correlation_id, version, request);
        self.next_correlation_id += 1;
        self.send_bytes(&frame).await;
    }

    /// Sends a request that is never answered.
    pub(super) async fn send_unanswered<R: Request>(&mut self, version: i16, request: &R) {
        self.send_bytes(&frame_of(-1, version, request)).await;
    }

    /// Sends the body of a request.
    pub(super) async fn send_body(
        &mut self,
        key: i16,
        version: i16,
        header_version: i16,
        body: &[u8],
    ) {
        let id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.send_bytes(&raw_frame(key, version, header_version, id, body)).await;
    }

    /// Sends bytes. A broker that has hung up is found out when reading.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// The answer to the oldest request that has none yet.
    pub(super) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        self.receive_as(version).await
    }

    /// As [`Client::receive`]; none once the broker has hung up.
    pub(super) async fn try_receive<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let (correlation_id, answer) = decoded(self.receive_frame().await?, version);
        assert_eq!(correlation_id, self.next_answer, "answers come in request order");
        self.next_answer += 1;
        Some(answer)
    }

    pub(super) async fn receive_as<T>(&mut self, version: i16) -> T
    where
        T: Decodable + HeaderVersion + Message,
    {
        let frame = self.receive_frame().await.expect("the broker answers");
        let (correlation_id, answer) = decoded(frame, version);
        assert_eq!(correlation_id, self.next_answer, "answers come in request order");
        self.next_answer += 1;
        answer
    }

    /// The next frame without its length, or none once the broker has hung up.
    pub(super) async fn receive_frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = self.received.first_chunk::<4>() {
                let length = usize::try_from(i32::from_be_bytes(*length)).expect("a length");
                if self.received.len() >= 4 + length {
                    self.received.advance(4);
                    return Some(self.received.split_to(length).freeze());
                }
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    /// Sends a request of a version that the codec cannot encode.
    pub(super) async fn call_body<R: Request>(&mut self, version: i16, body: &[u8]) -> R::Response {
        self.send_body(R::KEY, version, R::header_version(version), body).await;
        self.receive::<R>(version).await
    }

    /// Wants the broker to have hung up, with nothing more said.
    pub(super) async fn assert_closed(&mut self) {
        let frame = self.receive_frame().await;
        assert_eq!(frame, None, "the broker hangs up");
    }

    /// Closes the sending half.
    pub(super) async fn finish_sending(&mut self) {
        drop(self.stream.shutdown().await);
    }
}
