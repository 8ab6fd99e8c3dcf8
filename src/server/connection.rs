//! One client's connection: frames in, answers out, in request order.
//!
//! One task owns it. Everything readable is read and handed over before anything is awaited, so
//! that one hop carries many requests. `Produce` is two-staged: its place in the log is fixed when
//! it is accepted, its answer waits in line until the bytes are on disk. Any other request is
//! handled alone, as Kafka does. What breaks a rule ends the connection, after the answers of what
//! came before it; a panic or an error here closes this connection and no other.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::{self, Accepted, Broker, Caller, CloseReason, Lease, Moment, Reply};
use crate::env::net::Stream;
use crate::server::memory::{HOLD_MAX, Loose, RequestMemory, Share, TINY_FRAME_BYTES};
use crate::server::outbox::Outbox;
use braid_protocol::frame::{self, FrameState};
use braid_protocol::{Outgoing, RequestHeader, Response, response};

/// Room made for each read of a client that fills it, and for one that does not.
const READ_BYTES: usize = 64 * 1024;
const FIRST_READ_BYTES: usize = TINY_FRAME_BYTES;
/// An answer that is larger is counted until the client has taken it.
const SMALL_ANSWER_BYTES: usize = 16 * 1024;
/// A connection that is idle for this long gives its buffer back.
const REST_AFTER: Duration = Duration::from_secs(10);
/// Answers in line before reading pauses: far above any client's in-flight limit.
const IN_LINE_MAX: usize = 1024;

/// Idle time of a connection that may idle for ever.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);
/// How long a stopping broker waits for a client to take its answers.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

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
    #[error("its last request was refused")]
    Refused,
    #[error("idle for longer than connections.max.idle.ms")]
    Idle,
    #[error("a large request held memory for too long while others waited for it")]
    Stalled,
    #[error("it did not take its answers while their memory was needed for others")]
    SlowReader,
    #[error("the broker is stopping")]
    Stopping,
}

/// The task state of one connection.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    broker: Arc<Broker>,
    memory: Arc<RequestMemory>,
    caller: Caller,
    /// Told when the first whole request is here.
    has_spoken: Option<Arc<AtomicBool>>,
    stopping: watch::Receiver<bool>,
    buffer: BytesMut,
    line: VecDeque<Accepted>,
    /// The answers of the produces in line, in order, ready for when they are true.
    answers: BytesMut,
    outgoing: Outgoing,
    outbox: Outbox,
    /// Memory of the records among what is outgoing.
    leases: Vec<Lease>,
    eof: bool,
    /// Room for the next read.
    read_bytes: usize,
    /// What is held without a share.
    loose: Loose,
    /// Size of the frame whose request is being handled alone.
    later_bytes: usize,
    /// Share of the request memory held for a large frame, until its request has been handed
    /// over; and since when.
    share: Option<(Share, Instant)>,
    /// Why nothing more is read: the connection ends when what is in line is answered.
    last_word: Option<Ended>,
    last_active: Instant,
}

enum Event {
    Read(io::Result<usize>),
    Share(Share),
    Room,
    Answer(Reply),
    /// The produce at the head of the line is durable, or failed and its answer says so.
    Produced(Result<(), CloseReason>),
    Timer,
    Stopping,
}

/// What a connection wants of its client.
#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Bytes,
    /// Memory for a frame of this size, before its bytes.
    Memory(usize),
    /// Room in the log for the frame at hand, before its batches are handed over.
    Room(usize),
}

impl Connection {
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        broker: Arc<Broker>,
        memory: Arc<RequestMemory>,
        caller: Caller,
        has_spoken: Arc<AtomicBool>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let loose = Loose::new(&memory);
        Self {
            stream,
            broker,
            memory,
            caller,
            has_spoken: Some(has_spoken),
            stopping,
            buffer: BytesMut::new(),
            read_bytes: FIRST_READ_BYTES,
            loose,
            later_bytes: 0,
            line: VecDeque::new(),
            answers: BytesMut::new(),
            outgoing: Outgoing::new(),
            outbox: Outbox::default(),
            leases: Vec::new(),
            eof: false,
            share: None,
            last_word: None,
            last_active: Instant::now(),
        }
    }

    /// Serves the client until it leaves or breaks a rule.
    pub(crate) async fn run(mut self) {
        let ended = match self.serve().await {
            Ok(ended) | Err(ended) => ended,
        };
        match ended {
            Ended::Frame(_) | Ended::Closed(_) | Ended::Stalled | Ended::SlowReader => {
                api::tell_connection(&self.broker, &self.caller, &ended);
            }
            Ended::Eof | Ended::Io(_) | Ended::Refused | Ended::Idle | Ended::Stopping => {
                let connection = self.caller.connection;
                tracing::debug!(connection, reason = %ended, "connection ended");
            }
        }
    }

    async fn serve(&mut self) -> Result<Ended, Ended> {
        let idle_max = self.broker.limits.idle_max.unwrap_or(FOR_EVER);
        let timer = tokio::time::sleep(idle_max.min(REST_AFTER));
        tokio::pin!(timer);
        loop {
            let wants = self.accept_frames();
            self.loose.set(self.later_bytes + self.buffer.capacity());
            self.settle();
            if !self.outgoing.is_empty() {
                self.last_active = Instant::now();
                self.flush(idle_max).await?;
                continue;
            }
            if self.line.is_empty()
                && let Some(ended) = self.last_word.take()
            {
                return Err(ended);
            }
            if self.eof && self.only_later_in_line() && !self.has_frame() {
                return Ok(Ended::Eof);
            }
            if *self.stopping.borrow() && self.line.is_empty() {
                return Ok(Ended::Stopping);
            }
            match self.next_event(wants, timer.as_mut()).await {
                Event::Read(Ok(0)) => self.eof = true,
                Event::Read(Ok(read)) => {
                    self.last_active = Instant::now();
                    if read >= self.read_bytes {
                        self.read_bytes = READ_BYTES;
                    }
                }
                Event::Read(Err(error)) => return Err(error.into()),
                Event::Share(share) => {
                    let now = Instant::now();
                    self.share = Some((share, now));
                    timer.as_mut().reset(now + HOLD_MAX);
                }
                Event::Room => {}
                Event::Answer(answer) => {
                    self.line.pop_front();
                    self.later_bytes = 0;
                    self.share = None;
                    self.answer(answer);
                }
                Event::Produced(Ok(())) => self.answer_produced(),
                Event::Produced(Err(reason)) => self.close(reason),
                Event::Timer => {
                    let next = self.look_at_the_clock(idle_max)?;
                    timer.as_mut().reset(next);
                }
                Event::Stopping => {}
            }
        }
    }

    /// Hands over every whole frame that may be taken now; says what is wanted next.
    fn accept_frames(&mut self) -> Wants {
        let limit = self.broker.limits.frame_size_bytes_max;
        let mut now = None;
        while self.takes_more() {
            match frame::inspect(&self.buffer, limit) {
                FrameState::NeedMore(_) if self.eof => return Wants::Nothing,
                FrameState::NeedMore(missing) => {
                    let size_bytes = self.buffer.len() + missing;
                    let free = self.memory.free_frame_bytes();
                    return if size_bytes > free && self.share.is_none() {
                        Wants::Memory(size_bytes)
                    } else {
                        Wants::Bytes
                    };
                }
                FrameState::Frame(size_bytes) => {
                    if !self.takes_room(size_bytes) {
                        return Wants::Room(size_bytes);
                    }
                }
                FrameState::TooLarge(_) | FrameState::Negative(_) => {}
            }
            let now = now.get_or_insert_with(|| self.moment());
            match self.accept_frame(limit, now) {
                Ok(accepted) => self.line.extend(accepted),
                Err(ended) => self.last_word = Some(ended),
            }
        }
        // Reading goes on, so that a client that leaves is noticed.
        let ahead = self.memory.free_frame_bytes();
        let reads = !self.eof && self.last_word.is_none() && self.buffer.len() < ahead;
        if reads { Wants::Bytes } else { Wants::Nothing }
    }

    fn moment(&self) -> Moment {
        Moment::of(&self.broker)
    }

    /// Whether the log has room for the frame at hand. Only batches need any: whoever reads is
    /// not held up by a slow disk.
    fn takes_room(&self, size_bytes: usize) -> bool {
        let content = self.buffer.get(frame::LENGTH_SIZE_BYTES..).unwrap_or_default();
        !api::appends(content) || self.broker.partitions.has_room(size_bytes)
    }

    fn accept_frame(&mut self, limit: usize, now: &Moment) -> Result<Option<Accepted>, Ended> {
        let Self { broker, caller, buffer, answers, .. } = self;
        let Some(content) = frame::content(buffer, limit)? else { return Ok(None) };
        let size_bytes = content.len();
        let accepted = if api::appends(content) {
            // Batches are copied into the log from here, so the buffer serves the next read too.
            match api::accept_produce(broker, caller, now, content, answers).transpose() {
                Some(accepted) => {
                    buffer.advance(frame::LENGTH_SIZE_BYTES + size_bytes);
                    accepted
                }
                None => {
                    let Some(frame) = frame::take(buffer, limit)? else { return Ok(None) };
                    Ok(api::accept_heavy_produce(broker, caller, frame))
                }
            }
        } else {
            let Some(frame) = frame::take(buffer, limit)? else { return Ok(None) };
            api::accept(broker, caller, frame)
        };
        if let Some(has_spoken) = self.has_spoken.take() {
            has_spoken.store(true, Ordering::Relaxed);
        }
        if size_bytes > READ_BYTES {
            // What is left of a large allocation would keep all of it for as long as the
            // connection lives.
            self.buffer = BytesMut::from(&*self.buffer);
        }
        let accepted = match accepted {
            // That request has been told.
            Err(CloseReason::Request(_)) => return Err(Ended::Refused),
            accepted => accepted?,
        };
        if matches!(accepted, Accepted::Later(_)) {
            self.later_bytes = size_bytes;
        } else {
            self.share = None;
        }
        Ok(Some(accepted))
    }

    /// Whether a further frame may be taken: a request that is handled alone is waited for.
    fn takes_more(&self) -> bool {
        self.last_word.is_none()
            && self.line.len() < IN_LINE_MAX
            && !matches!(self.line.back(), Some(Accepted::Later(_)))
            && !*self.stopping.borrow()
    }

    fn has_frame(&self) -> bool {
        let limit = self.broker.limits.frame_size_bytes_max;
        !matches!(frame::inspect(&self.buffer, limit), FrameState::NeedMore(_))
    }

    fn only_later_in_line(&self) -> bool {
        self.line.front().is_none_or(|head| matches!(head, Accepted::Later(_)))
    }

    /// Moves every answer that is ready, from the head of the line on, to the outbox.
    fn settle(&mut self) {
        loop {
            let reply = match self.line.front_mut() {
                Some(Accepted::Done(_)) => match self.line.pop_front() {
                    Some(Accepted::Done(reply)) => reply,
                    Some(Accepted::Produced(_) | Accepted::Later(_)) | None => return,
                },
                Some(Accepted::Produced(produced)) if produced.is_durable(&self.broker) => {
                    self.answer_produced();
                    continue;
                }
                Some(Accepted::Produced(_) | Accepted::Later(_)) | None => return,
            };
            self.answer(reply);
        }
    }

    /// Answers the produce at the head of the line.
    fn answer_produced(&mut self) {
        if let Some(Accepted::Produced(produced)) = self.line.pop_front() {
            let size_bytes = produced.answer_size_bytes().min(self.answers.len());
            let (answer, _) = self.answers.split_at(size_bytes);
            self.outgoing.write(answer);
            self.answers.advance(size_bytes);
        }
    }

    fn answer(&mut self, reply: Reply) {
        match reply {
            Reply::Answer(answer) => {
                let (header, response) = *answer;
                let size_bytes = self.encode(&header, response);
                if size_bytes > SMALL_ANSWER_BYTES {
                    self.leases.push(self.broker.answer_memory.take(size_bytes));
                }
            }
            Reply::Records(answer, lease) => {
                let (header, response) = *answer;
                self.encode(&header, response);
                self.leases.push(lease);
            }
            Reply::Encoded(frame) => self.outgoing.write(&frame),
            Reply::Nothing => {}
            Reply::Close(reason) => self.close(reason),
        }
    }

    /// Returns the size of the answer.
    fn encode(&mut self, header: &RequestHeader, response: Response) -> usize {
        api::tell_answer(&self.broker, &self.caller, header, &response);
        let before = self.outgoing.size_bytes();
        if let Err(error) = response::encode(header, response, &mut self.outgoing) {
            self.close(error.into());
        }
        self.outgoing.size_bytes() - before
    }

    /// Nothing further is taken or answered; what was answered already still leaves.
    fn close(&mut self, reason: CloseReason) {
        self.line.clear();
        self.answers.clear();
        self.last_word = Some(reason.into());
    }

    /// Sends what is ready, for as long as the client takes any of it.
    async fn flush(&mut self, idle_max: Duration) -> Result<(), Ended> {
        let Self { outgoing, outbox, stream, stopping, broker, caller, .. } = self;
        let (memory, connection) = (&broker.answer_memory, caller.connection);
        let leases = std::mem::take(&mut self.leases);
        let end_of_patience = async {
            // An error means that the node is gone, which does not happen before its connections.
            drop(stopping.wait_for(|stopping| *stopping).await);
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        let sent = tokio::select! {
            biased;
            sent = outbox.send(outgoing.take(), stream, idle_max, || memory.moved(connection)) => sent,
            () = end_of_patience => return Err(Ended::Stopping),
            // Looked at only once the client makes the answers wait.
            () = memory.given_up(connection, leases) => return Err(Ended::SlowReader),
        };
        self.last_active = Instant::now();
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Ended::Idle,
            _ => error.into(),
        })
    }

    async fn next_event(
        &mut self,
        wants: Wants,
        timer: std::pin::Pin<&mut tokio::time::Sleep>,
    ) -> Event {
        let Self { stream, buffer, line, answers, broker, memory, stopping, .. } = self;
        let room = self.read_bytes.min(memory.free_frame_bytes());
        let head = async {
            match line.front_mut() {
                Some(Accepted::Later(later)) => Event::Answer(later.as_mut().await),
                Some(Accepted::Produced(produced)) => {
                    Event::Produced(produced.wait(broker, answers).await)
                }
                Some(Accepted::Done(_)) | None => std::future::pending().await,
            }
        };
        let client = async {
            match wants {
                Wants::Bytes => {
                    buffer.reserve(room);
                    Event::Read(stream.read_buf(buffer).await)
                }
                Wants::Memory(size_bytes) => Event::Share(memory.share(size_bytes).await),
                Wants::Room(size_bytes) => {
                    broker.partitions.room(size_bytes).await;
                    Event::Room
                }
                Wants::Nothing => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = head => event,
            event = client => event,
            changed = stopping.changed() => match changed {
                Ok(()) => Event::Stopping,
                Err(_) => std::future::pending().await,
            },
            () = timer => Event::Timer,
        }
    }

    /// When to look again, unless the connection has been idle, or in others' way, for too long.
    fn look_at_the_clock(&mut self, idle_max: Duration) -> Result<Instant, Ended> {
        let now = Instant::now();
        let rest_at = self.last_active + REST_AFTER;
        if now >= rest_at && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.read_bytes = FIRST_READ_BYTES;
        }
        let idle_at = self.last_active + idle_max;
        if now >= idle_at && self.line.is_empty() {
            return Err(Ended::Idle);
        }
        if let Some((_, since)) = &self.share
            && now >= *since + HOLD_MAX
            && self.memory.is_wanted()
        {
            return Err(Ended::Stalled);
        }
        let soon = now + Duration::from_secs(1);
        Ok(match self.share {
            Some(_) => soon,
            None if now < rest_at => rest_at.min(idle_at).max(soon),
            None => idle_at.max(soon),
        })
    }
}
