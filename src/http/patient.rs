//! A stream whose other end must take something now and then.
//!
//! A client that never reads its answer would otherwise hold its connection, and the answer, for
//! ever: nothing in HTTP says that it has to read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::env::net::Stream;
use crate::traffic::Traffic;

/// How long the other end may take nothing while there is something for it.
pub(super) const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Patient {
    stream: Box<dyn Stream>,
    patience: Pin<Box<Sleep>>,
    is_waiting: bool,
    traffic: Arc<Traffic>,
}

impl Patient {
    pub(super) fn new(stream: Box<dyn Stream>, traffic: Arc<Traffic>) -> Self {
        let patience = Box::pin(tokio::time::sleep(WRITE_TIME_MAX));
        Self { stream, patience, is_waiting: false, traffic }
    }

    /// Passes on what the stream says; an error if it has had nothing to say for too long.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.is_waiting = false;
            return polled;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.patience.as_mut().reset(Instant::now() + WRITE_TIME_MAX);
        }
        ready!(self.patience.as_mut().poll(context));
        self.traffic.http_connection_stalled();
        let why = format!("the client took nothing for {} s", WRITE_TIME_MAX.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.in_time(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.in_time(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair(traffic: &Arc<Traffic>) -> (Patient, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(100);
        (Patient::new(Box::new(near), Arc::clone(traffic)), far)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_is_given_up() {
        let traffic = Arc::new(Traffic::default());
        let (mut near, _far) = pair(&traffic);
        let begun = Instant::now();
        let error = near.write_all(&[0; 101]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WRITE_TIME_MAX);
        assert_eq!(traffic.stalled_http_connections(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_a_little_now_and_then_gets_all() {
        let traffic = Arc::new(Traffic::default());
        let (mut near, mut far) = pair(&traffic);
        let slow = async {
            let mut got = 0;
            let mut buffer = [0; 50];
            while got < 400 {
                tokio::time::sleep(WRITE_TIME_MAX - Duration::from_secs(1)).await;
                got += far.read(&mut buffer).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(near.write_all(&[0; 400]), slow);
        written.unwrap();
        // An idle stream waits for nobody.
        tokio::time::sleep(10 * WRITE_TIME_MAX).await;
        near.write_all(&[0; 100]).await.unwrap();
        assert_eq!(traffic.stalled_http_connections(), 0);
    }
}
