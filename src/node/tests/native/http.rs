//! A small HTTP client: one connection, one request at a time.

use bytes::{Buf, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::world::World;
use crate::env::Env;
use crate::env::net::Stream;

/// A connection to the native API.
#[derive(Debug)]
pub(in super::super) struct Http {
    stream: Box<dyn Stream>,
    received: BytesMut,
}

/// What came back.
#[derive(Debug)]
pub(in super::super) struct Answer {
    pub(in super::super) status: u16,
    pub(in super::super) head: String,
    pub(in super::super) body: Vec<u8>,
}

impl Answer {
    pub(in super::super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are text")
    }

    pub(in super::super) fn json(&self) -> Value {
        let json = self.head.to_lowercase().contains("content-type: application/json");
        assert!(json, "{}{}", self.head, self.text());
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }

    /// Wants a status and gives the content.
    #[track_caller]
    pub(in super::super) fn of(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Wants an error of this status and gives its code.
    #[track_caller]
    pub(in super::super) fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let error = &self.json()["error"];
        for part in ["code", "message", "hint"] {
            let text = error[part].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{part} of {}", self.text());
        }
        error["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Http {
    pub(in super::super) async fn connect(world: &World) -> Self {
        let address = world.node.native_addresses()[0].to_string();
        Self::connect_to(&world.env, &address).await
    }

    pub(in super::super) async fn connect_to(env: &Env, address: &str) -> Self {
        let stream = env.net.connect(address).await.expect("the native API listens");
        Self { stream, received: BytesMut::new() }
    }

    pub(in super::super) async fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub(in super::super) async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    pub(in super::super) async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let (kind, text) = match body {
            Some(body) => ("Content-Type: application/json\r\n", body.to_string()),
            None => ("", String::new()),
        };
        self.send(method, path, kind, text.as_bytes()).await
    }

    /// Sends a request with these header lines.
    pub(in super::super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Answer {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.stream.write_all(head.as_bytes()).await.expect("the broker takes a request");
        // A broker that has heard enough hangs up; its answer says why.
        drop(self.stream.write_all(body).await);
        self.answer(method == "HEAD").await.expect("the broker answers")
    }

    /// Sends bytes as they are and reads what comes, if anything does.
    pub(in super::super) async fn raw(&mut self, bytes: &[u8]) -> Option<Answer> {
        drop(self.stream.write_all(bytes).await);
        self.answer(false).await
    }

    /// Writes the same bytes again and again and reads nothing, until nobody takes them any more.
    pub(in super::super) async fn write_until_closed(&mut self, bytes: &[u8]) {
        while self.stream.write_all(bytes).await.is_ok() {}
    }

    async fn answer(&mut self, without_body: bool) -> Option<Answer> {
        let end = loop {
            let end = self.received.windows(4).position(|at| at == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => self.more().await?,
            }
        };
        let head = String::from_utf8(self.received[..end].to_vec()).expect("a head is text");
        self.received.advance(end);
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let length: usize = if without_body { 0 } else { length.unwrap_or(0) };
        while self.received.len() < length {
            self.more().await?;
        }
        let body = self.received.split_to(length).to_vec();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok())?;
        Some(Answer { status, head, body })
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }
}
