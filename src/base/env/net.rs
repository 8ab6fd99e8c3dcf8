//! Sockets.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug> Stream for T {}

/// A future of this seam.
pub type NetFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// The network.
pub trait Net: Send + Sync + fmt::Debug {
    /// Listens on an address such as `127.0.0.1:9092`; port 0 takes a free one.
    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>>;
    /// Connects to a host and port.
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>>;
}

/// A listening socket.
pub trait Listener: Send + Sync + fmt::Debug {
    /// The next connection and the peer's address.
    fn accept(&self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)>;
    /// Where it really listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
