//! TCP through tokio.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::env::net::{Listener, Net, NetFuture, Stream};

/// The operating system's TCP.
#[derive(Debug)]
pub struct Tcp;

impl Net for Tcp {
    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            prepare(&listener)?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Bytes that the system takes of an answer before the last ones are on their way. Left to itself it
/// takes megabytes for a client that reads nothing, which costs their copying and memory that nobody
/// counts.
const UNSENT_BYTES_MAX: u32 = 256 * 1024;

/// Gives a listening socket what those that it accepts are to have, which costs no call for each
/// of them: no waiting with small answers, bounded unsent answers, and a question to silent peers
/// whether they are still there, so that a connection whose other end is gone without a word ends
/// within three minutes.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(listener, Duration::from_secs(20))?;
    sockopt::set_tcp_keepcnt(listener, 5)?;
    SockRef::from(listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(())
}

impl Listener for TcpListener {
    fn accept(&self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            let (stream, peer) = TcpListener::accept(self).await?;
            Ok((Box::new(stream) as Box<dyn Stream>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_do_not_wait_and_find_out_peers_that_are_gone_without_a_word() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        prepare(&listener).unwrap();
        let address = listener.local_addr().unwrap();
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = (accepted.unwrap().0, connected.unwrap());
        assert!(stream.nodelay().unwrap());
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        let silence = sockopt::tcp_keepidle(&stream).unwrap()
            + sockopt::tcp_keepintvl(&stream).unwrap() * sockopt::tcp_keepcnt(&stream).unwrap();
        assert!(silence < Duration::from_secs(180), "{silence:?}");
    }
}
