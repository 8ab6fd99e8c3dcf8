//! Slices on their way to a client, in order, many per system call.
//!
//! Owned by one connection's task.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Slices handed to the kernel at once.
const SLICES_MAX: usize = 64;

/// What a connection is sending.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Bytes>,
}

impl Outbox {
    /// Sends the pieces, all of them; `moved` is told of every part that was taken.
    ///
    /// # Errors
    /// The peer is gone; or took nothing for `patience`, which is `TimedOut`.
    pub(crate) async fn send<W>(
        &mut self,
        pieces: Vec<Bytes>,
        to: &mut W,
        patience: Duration,
        moved: impl Fn(),
    ) -> io::Result<()>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        self.pieces.extend(pieces);
        while let Some(first) = self.pieces.front() {
            let write = async {
                if self.pieces.len() == 1 {
                    return to.write(first).await;
                }
                let slices: Vec<IoSlice<'_>> =
                    self.pieces.iter().take(SLICES_MAX).map(|p| IoSlice::new(p)).collect();
                to.write_vectored(&slices).await
            };
            let sent = tokio::time::timeout(patience, write).await??;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(sent);
            if !self.pieces.is_empty() {
                moved();
            }
        }
        to.flush().await
    }

    fn advance(&mut self, mut sent: usize) {
        while let Some(first) = self.pieces.front_mut() {
            if sent < first.len() {
                first.advance(sent);
                return;
            }
            sent -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_leave_whole_and_in_order_through_a_narrow_pipe() {
        let pieces: Vec<Bytes> = [1, 5000, 10, 20, 9000, 4096, 4095, 3]
            .into_iter()
            .zip(0u8..)
            .map(|(len, fill)| Bytes::from(vec![fill; len]))
            .collect();
        let expected = pieces.concat();
        let (mut here, mut there) = tokio::io::duplex(777);
        let reader = async {
            let mut got = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut there, &mut got).await.unwrap();
            got
        };
        let writer = async {
            let mut outbox = Outbox::default();
            outbox.send(pieces, &mut here, Duration::MAX, || ()).await.unwrap();
            drop(here);
        };
        let (got, ()) = tokio::join!(reader, writer);
        assert_eq!(got, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut here, there) = tokio::io::duplex(10);
        let pieces = vec![Bytes::from_static(&[0; 20])];
        let sent = Outbox::default().send(pieces, &mut here, Duration::from_secs(9), || ()).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(there);
    }
}
