//! One client's connection: frames in, answers out, in request order.
//!
//! One task owns it. Everything readable is read and handed over before anything is awaited, so
//! that one hop carries many requests. `Produce` is two-staged: its place in the log is fixed when
//! it is accepted, its answer waits in line until the bytes are on disk. Any other request is
//! handled alone, as Kafka does. A panic or an error here closes this connection and no other.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::api::{self, Accepted, Broker, Caller, CloseReason, Reply};
use crate::env::net::Stream;
use crate::server::outbox::Outbox;
use braid_protocol::frame::{self, FrameState};
use braid_protocol::{Outgoing, response};

/// Room made for each read.
const READ_BYTES: usize = 64 * 1024;
/// A frame that fits into this needs no share of the request memory.
const FREE_FRAME_BYTES: usize = 64 * 1024;
/// Answers in line before reading pauses: far above any client's in-flight limit.
const IN_LINE_MAX: usize = 1024;

/// Idle time of a connection that may idle for ever.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Why a connection ended; only for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the client closed the connection")]
    Eof,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
    #[error(transparent)]
    Closed(#[from] CloseReason),
    #[error("idle for longer than connections.max.idle.ms")]
    Idle,
    #[error("the broker is stopping")]
    Stopping,
}

/// The task state of one connection.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    broker: Arc<Broker>,
    caller: Caller,
    stopping: watch::Receiver<bool>,
    buffer: BytesMut,
    line: VecDeque<Accepted>,
    outgoing: Outgoing,
    outbox: Outbox,
    eof: bool,
    /// Share of the request memory held for the large frame being read.
    permit: Option<OwnedSemaphorePermit>,
    last_request: Duration,
}

#[expect(clippy::large_enum_variant, reason = "lives on the stack for a moment")]
enum Event {
    Read(io::Result<usize>),
    Answer(Reply),
    Idle,
    Stopping,
}

impl Connection {
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        broker: Arc<Broker>,
        caller: Caller,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let last_request = broker.env.clock.monotonic();
        Self {
            stream,
            broker,
            caller,
            stopping,
            buffer: BytesMut::new(),
            line: VecDeque::new(),
            outgoing: Outgoing::new(),
            outbox: Outbox::default(),
            eof: false,
            permit: None,
            last_request,
        }
    }

    /// Serves the client until it leaves or breaks a rule.
    pub(crate) async fn run(mut self) -> Ended {
        match self.serve().await {
            Ok(ended) | Err(ended) => ended,
        }
    }

    async fn serve(&mut self) -> Result<Ended, Ended> {
        let idle = self.broker.limits.idle_max.unwrap_or(FOR_EVER);
        let timer = tokio::time::sleep(idle);
        tokio::pin!(timer);
        loop {
            self.broker.partitions.room().await;
            let wants_more = self.accept_frames().await?;
            self.settle()?;
            if !self.outgoing.is_empty() {
                self.outbox.send(self.outgoing.take(), &mut self.stream).await?;
                continue;
            }
            if self.eof && self.only_later_in_line() {
                return Ok(Ended::Eof);
            }
            if *self.stopping.borrow() && self.line.is_empty() {
                return Ok(Ended::Stopping);
            }
            match self.next_event(wants_more, timer.as_mut()).await {
                Event::Read(Ok(0)) => self.eof = true,
                Event::Read(Ok(_)) => self.last_request = self.broker.env.clock.monotonic(),
                Event::Read(Err(error)) => return Err(error.into()),
                Event::Answer(answer) => {
                    self.line.pop_front();
                    self.answer(answer)?;
                }
                Event::Idle => {
                    let quiet = self.broker.env.clock.monotonic() - self.last_request;
                    if quiet >= idle && self.line.is_empty() {
                        return Ok(Ended::Idle);
                    }
                    let rest = idle.saturating_sub(quiet).max(Duration::from_secs(1));
                    timer.as_mut().reset(tokio::time::Instant::now() + rest);
                }
                Event::Stopping => {}
            }
        }
    }

    /// Hands over every whole frame that may be taken now; says whether more bytes are wanted.
    async fn accept_frames(&mut self) -> Result<bool, Ended> {
        let limit = self.broker.limits.frame_size_bytes_max;
        while self.line.len() < IN_LINE_MAX && !self.busy_alone() && !*self.stopping.borrow() {
            if let FrameState::NeedMore(missing) = frame::inspect(&self.buffer, limit) {
                self.claim_memory(self.buffer.len() + missing).await;
                return Ok(!self.eof);
            }
            let Some(frame) = frame::take(&mut self.buffer, limit)? else { break };
            let permit = self.permit.take();
            let accepted = api::accept(&self.broker, &mut self.caller, frame)?;
            drop(permit);
            self.line.push_back(accepted);
        }
        Ok(!self.eof && self.buffer.len() < READ_BYTES)
    }

    /// Waits for a large frame's share of the request memory: the one place that waits for room.
    async fn claim_memory(&mut self, size: usize) {
        if size <= FREE_FRAME_BYTES || self.permit.is_some() {
            return;
        }
        let limit = self.broker.limits.request_memory_bytes;
        let share = u32::try_from(size.min(limit)).unwrap_or(u32::MAX);
        // The semaphore is never closed, so this only fails in a process that is going away.
        self.permit = Arc::clone(&self.broker.request_memory).acquire_many_owned(share).await.ok();
    }

    /// Whether a request that must be handled alone is in line.
    fn busy_alone(&self) -> bool {
        matches!(self.line.back(), Some(Accepted::Later(_)))
    }

    fn only_later_in_line(&self) -> bool {
        self.line.front().is_none_or(|head| matches!(head, Accepted::Later(_)))
    }

    /// Moves every answer that is ready, from the head of the line on, to the outbox.
    fn settle(&mut self) -> Result<(), Ended> {
        loop {
            let reply = match self.line.front_mut() {
                Some(Accepted::Done(_)) => match self.line.pop_front() {
                    Some(Accepted::Done(reply)) => reply,
                    Some(Accepted::Produced(_) | Accepted::Later(_)) | None => return Ok(()),
                },
                Some(Accepted::Produced(produced)) => match produced.poll_now(&self.broker) {
                    Some(reply) => {
                        self.line.pop_front();
                        reply
                    }
                    None => return Ok(()),
                },
                Some(Accepted::Later(_)) | None => return Ok(()),
            };
            self.answer(reply)?;
        }
    }

    fn answer(&mut self, reply: Reply) -> Result<(), Ended> {
        match reply {
            Reply::Answer(header, response) => {
                response::encode(&header, response, &mut self.outgoing)
                    .map_err(CloseReason::from)?;
            }
            Reply::Nothing => {}
            Reply::Close(reason) => return Err(reason.into()),
        }
        Ok(())
    }

    async fn next_event(
        &mut self,
        wants_more: bool,
        idle: std::pin::Pin<&mut tokio::time::Sleep>,
    ) -> Event {
        let Self { stream, buffer, line, broker, stopping, .. } = self;
        if wants_more {
            buffer.reserve(READ_BYTES);
        }
        let head = async {
            match line.front_mut() {
                Some(Accepted::Later(later)) => later.as_mut().await,
                Some(Accepted::Produced(produced)) => produced.wait(broker).await,
                Some(Accepted::Done(_)) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = head => Event::Answer(answer),
            read = stream.read_buf(buffer), if wants_more => Event::Read(read),
            changed = stopping.changed() => match changed {
                Ok(()) => Event::Stopping,
                Err(_) => std::future::pending().await,
            },
            () = idle => Event::Idle,
        }
    }
}
