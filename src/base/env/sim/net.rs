//! A network in memory: byte streams between listeners and whoever connects to their address.
//!
//! Streams keep order and lose nothing until they are cut; both ends of a cut stream fail with
//! `ConnectionReset`, and what was in flight is gone. Nobody listening, or an address made
//! unreachable, is `ConnectionRefused`. Host names other than IP addresses and `localhost` get
//! addresses of their own, 10.0.0.1 onwards, in the order they are first used.
//!
//! Several machines share a network, each through its own [`SimNet::host`]. Between two of them it can
//! be cut (streams fail) or made silent: nothing fails and nothing arrives until it is mended, as when
//! a switch is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{Notify, mpsc};

use crate::env::net::{Listener, Net, NetFuture, Stream};

/// Bytes a stream holds in each direction before the writer waits.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;
/// Connections a listener holds before it accepts them.
const BACKLOG: usize = 1024;
const FIRST_FREE_PORT: u16 = 40_000;

/// The only machine of a network that has one.
const ONLY_HOST: &str = "localhost";

/// The simulated network as one machine sees it. Clones share it.
#[derive(Clone)]
pub struct SimNet {
    state: Arc<Mutex<State>>,
    /// Tells those who wait for silence to end.
    mended: Arc<Notify>,
    host: Arc<Host>,
}

/// A machine in one of its lives.
#[derive(Debug)]
struct Host {
    name: String,
    /// Its process is no more: what is left of it neither calls nor is called.
    dead: AtomicBool,
}

impl Host {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

impl Default for SimNet {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            mended: Arc::default(),
            host: Arc::new(Host { name: ONLY_HOST.to_owned(), dead: AtomicBool::new(false) }),
        }
    }
}

/// Who listens, and where what is accepted goes.
struct Bound {
    host: String,
    accepted: mpsc::Sender<Accepted>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<SocketAddr, Bound>,
    lines: Vec<(SocketAddr, [String; 2], Weak<Line>)>,
    /// Pairs of machines between which nothing arrives, in order.
    silent: BTreeSet<[String; 2]>,
    unreachable: BTreeSet<SocketAddr>,
    hosts: BTreeMap<String, IpAddr>,
    ports_taken: u16,
}

type Accepted = (Box<dyn Stream>, SocketAddr);

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNet").finish_non_exhaustive()
    }
}

fn pair(a: &str, b: &str) -> [String; 2] {
    let mut pair = [a.to_owned(), b.to_owned()];
    pair.sort();
    pair
}

impl SimNet {
    /// The network as another machine of this name sees it.
    #[must_use]
    pub fn host(&self, name: &str) -> Self {
        let host = Arc::new(Host { name: name.to_owned(), dead: AtomicBool::new(false) });
        Self { host, ..self.clone() }
    }

    /// Cuts every stream.
    pub fn cut_all(&self) {
        self.cut(|_, _| true);
    }

    /// Cuts the streams that were accepted at a listener's address.
    pub fn cut_at(&self, listener: SocketAddr) {
        self.cut(|at, _| at == listener);
    }

    /// Cuts the streams between two machines.
    pub fn cut_between(&self, a: &str, b: &str) {
        let ends = pair(a, b);
        self.cut(|_, hosts| *hosts == ends);
    }

    /// Lets nothing arrive between two machines any more, or mends that: what was sent meanwhile
    /// arrives then.
    pub fn set_silent(&self, a: &str, b: &str, silent: bool) {
        let ends = pair(a, b);
        let mut state = self.state();
        let lines = state.lines.iter().filter(|(_, hosts, _)| *hosts == ends);
        lines.filter_map(|(_, _, line)| line.upgrade()).for_each(|line| line.set_silent(silent));
        if silent {
            state.silent.insert(ends);
        } else {
            state.silent.remove(&ends);
            self.mended.notify_waiters();
        }
    }

    /// Ends this life of the machine: its streams are cut, nobody listens there any more. Returns
    /// the network as its next life sees it. The only machine of a network shares it with whoever tests
    /// it, so there every stream is cut and the rest stays.
    pub(super) fn next_life(&self) -> Self {
        let name = &self.host.name;
        if name == ONLY_HOST {
            self.cut_all();
            return self.clone();
        }
        self.host.dead.store(true, Ordering::Relaxed);
        self.cut(|_, hosts| hosts.contains(name));
        self.state().listeners.retain(|_, bound| bound.host != *name);
        self.host(name)
    }

    /// Refuses new connections to an address, or takes them again. Open streams stay.
    pub fn set_reachable(&self, listener: SocketAddr, reachable: bool) {
        let mut state = self.state();
        if reachable {
            state.unreachable.remove(&listener);
        } else {
            state.unreachable.insert(listener);
        }
    }

    fn cut(&self, which: impl Fn(SocketAddr, &[String; 2]) -> bool) {
        let mut state = self.state();
        for (_, _, line) in state.lines.iter().filter(|(at, hosts, _)| which(*at, hosts)) {
            if let Some(line) = line.upgrade() {
                line.cut();
            }
        }
        state.lines.retain(|(at, hosts, line)| !which(*at, hosts) && line.strong_count() > 0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(&self, address: &str) -> io::Result<SimListener> {
        let mut state = self.state();
        let mut at = state.resolve(address)?;
        if at.port() == 0 {
            at.set_port(state.free_port());
        }
        if state.listeners.get(&at).is_some_and(|bound| !bound.accepted.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (accepted, incoming) = mpsc::channel(BACKLOG);
        state.listeners.insert(at, Bound { host: self.host.name.clone(), accepted });
        Ok(SimListener { at, incoming: Mutex::new(incoming), host: Arc::clone(&self.host) })
    }

    /// A stream to an address; none while nothing arrives there.
    fn dial(&self, address: &str) -> io::Result<Option<Box<dyn Stream>>> {
        let mut state = self.state();
        let to = state.resolve(address)?;
        let anywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), to.port());
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listening = [to, anywhere].into_iter().find(|at| state.listeners.contains_key(at));
        let at = listening.filter(|at| !state.unreachable.contains(at)).ok_or_else(refused)?;
        let hosts = match state.listeners.get(&at) {
            Some(bound) => pair(&self.host.name, &bound.host),
            None => return Err(refused()),
        };
        if state.silent.contains(&hosts) {
            return Ok(None);
        }
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), state.free_port());
        let line = Arc::new(Line::default());
        let (near, far) = tokio::io::duplex(STREAM_BUFFER_BYTES);
        let far = SimStream { inner: far, line: Arc::clone(&line), end: 1 };
        let bound = state.listeners.get(&at).ok_or_else(refused)?;
        bound.accepted.try_send((Box::new(far), peer)).map_err(|_| refused())?;
        state.lines.retain(|(_, _, line)| line.strong_count() > 0);
        state.lines.push((at, hosts, Arc::downgrade(&line)));
        Ok(Some(Box::new(SimStream { inner: near, line, end: 0 })))
    }

    async fn dial_through_silence(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        loop {
            let mended = self.mended.notified();
            if self.host.is_dead() {
                return std::future::pending().await;
            }
            match self.dial(address)? {
                Some(stream) => return Ok(stream),
                None => mended.await,
            }
        }
    }
}

impl State {
    fn resolve(&mut self, address: &str) -> io::Result<SocketAddr> {
        if let Ok(at) = address.parse() {
            return Ok(at);
        }
        let (host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        if host == "localhost" {
            return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        }
        let next = u8::try_from(self.hosts.len() + 1).map_err(io::Error::other)?;
        let ip = self.hosts.entry(host.to_owned()).or_insert(Ipv4Addr::new(10, 0, 0, next).into());
        Ok(SocketAddr::new(*ip, port))
    }

    fn free_port(&mut self) -> u16 {
        self.ports_taken = (self.ports_taken + 1) % (u16::MAX - FIRST_FREE_PORT);
        FIRST_FREE_PORT + self.ports_taken
    }
}

impl Net for SimNet {
    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move { Ok(Box::new(self.bind(address)?) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(self.dial_through_silence(address))
    }
}

/// Its address is free again once it is dropped: the channel's other half then says so.
struct SimListener {
    at: SocketAddr,
    incoming: Mutex<mpsc::Receiver<Accepted>>,
    host: Arc<Host>,
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimListener").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Listener for SimListener {
    fn accept(&self) -> NetFuture<'_, Accepted> {
        Box::pin(std::future::poll_fn(|context| {
            if self.host.is_dead() {
                return Poll::Pending;
            }
            let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
            incoming
                .poll_recv(context)
                .map(|accepted| accepted.ok_or(io::ErrorKind::NotConnected.into()))
        }))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

/// What the two ends of a stream share: whether it is cut, and whom to wake when it is.
#[derive(Debug, Default)]
struct Line(Mutex<LineState>);

#[derive(Debug, Default)]
struct LineState {
    cut: bool,
    silent: bool,
    /// The last waiting reader and writer of each end.
    waiting: [Option<Waker>; 4],
}

impl Line {
    fn cut(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.cut = true;
        state.waiting.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    fn set_silent(&self, silent: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.silent = silent;
        if !silent {
            state.waiting.iter_mut().filter_map(Option::take).for_each(Waker::wake);
        }
    }

    /// Says whether nothing arrives now.
    fn check(&self, slot: usize, context: &Context<'_>) -> io::Result<bool> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.cut {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        state.waiting[slot] = Some(context.waker().clone());
        Ok(state.silent)
    }
}

#[derive(Debug)]
struct SimStream {
    inner: DuplexStream,
    line: Arc<Line>,
    end: usize,
}

impl SimStream {
    fn reader(&self) -> usize {
        self.end
    }
    fn writer(&self) -> usize {
        self.end + 2
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.line.check(self.reader(), context)? {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(context, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.check(self.writer(), context)?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check(self.writer(), context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check(self.writer(), context)?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair(net: &SimNet, address: &str) -> (Box<dyn Listener>, Accepted, Box<dyn Stream>) {
        let listener = net.listen(address).await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let near = net.connect(&at).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        (listener, accepted, near)
    }

    #[tokio::test]
    async fn bytes_flow_both_ways_and_end_when_one_side_closes() {
        let net = SimNet::default();
        let (_listener, (mut far, peer), mut near) = pair(&net, "127.0.0.1:0").await;
        assert!(peer.ip().is_loopback());
        near.write_all(b"ping").await.unwrap();
        let mut buf = [0; 4];
        far.read_exact(&mut buf).await.unwrap();
        far.write_all(&buf).await.unwrap();
        drop(far);
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"ping");
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_machines_the_network_can_be_silent_and_be_mended() {
        let net = SimNet::default();
        let (a, b) = (net.host("a"), net.host("b"));
        let listener = b.listen("b:9092").await.unwrap();
        let mut near = a.connect("b:9092").await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut own = b.connect("b:9092").await.unwrap();
        let (mut own_far, _) = listener.accept().await.unwrap();
        let while_silent = std::time::Duration::from_secs(60);

        net.set_silent("b", "a", true);
        near.write_all(b"x").await.unwrap();
        assert!(tokio::time::timeout(while_silent, far.read_u8()).await.is_err());
        assert!(tokio::time::timeout(while_silent, a.connect("b:9092")).await.is_err());
        own.write_all(b"y").await.unwrap();
        assert_eq!(own_far.read_u8().await.unwrap(), b'y');

        let (read, connected, ()) = tokio::join!(far.read_u8(), a.connect("b:9092"), async {
            net.set_silent("a", "b", false);
        });
        assert_eq!(read.unwrap(), b'x');
        connected.unwrap();
        net.cut_between("a", "b");
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        own.write_all(b"z").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_dead_process_neither_calls_nor_is_called() {
        let net = SimNet::default();
        let (a, b) = (net.host("a"), net.host("b"));
        let old = b.listen("b:9092").await.unwrap();
        let mut near = a.connect("b:9092").await.unwrap();
        let next = b.next_life();
        assert_eq!(near.write(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let refused = a.connect("b:9092").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let new = next.listen("b:9092").await.unwrap();
        a.connect("b:9092").await.unwrap();
        new.accept().await.unwrap();
        let long = std::time::Duration::from_secs(60);
        assert!(tokio::time::timeout(long, old.accept()).await.is_err());
        assert!(tokio::time::timeout(long, b.connect("b:9092")).await.is_err());
        next.connect("b:9092").await.unwrap();
    }

    #[tokio::test]
    async fn connecting_where_nobody_listens_is_refused() {
        let net = SimNet::default();
        let kind = |result: io::Result<Box<dyn Stream>>| result.err().map(|error| error.kind());
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(kind(net.connect("127.0.0.1:9092").await), refused);
        let listener = net.listen("broker-1:9092").await.unwrap();
        assert_eq!(kind(net.connect("broker-1:9092").await), None);
        assert_eq!(kind(net.connect("broker-2:9092").await), refused);
        let at = listener.local_addr().unwrap();
        net.set_reachable(at, false);
        assert_eq!(kind(net.connect("broker-1:9092").await), refused);
        net.set_reachable(at, true);
        assert_eq!(kind(net.connect("broker-1:9092").await), None);
        drop(listener);
        assert_eq!(kind(net.connect("broker-1:9092").await), refused);
    }

    #[tokio::test]
    async fn an_address_has_one_listener_at_a_time() {
        let net = SimNet::default();
        let first = net.listen("0.0.0.0:9092").await.unwrap();
        let second = net.listen("0.0.0.0:9092").await;
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        net.connect("10.9.8.7:9092").await.unwrap();
        drop(first);
        net.listen("0.0.0.0:9092").await.unwrap();
    }

    #[tokio::test]
    async fn a_cut_wakes_both_ends_with_a_reset() {
        let net = SimNet::default();
        let (listener, (mut far, _), mut near) = pair(&net, "127.0.0.1:0").await;
        let (_other, (mut other_far, _), mut other_near) = pair(&net, "127.0.0.1:0").await;
        let (mut near_buf, mut far_buf) = ([0; 1], [0; 1]);
        let cut = async { net.cut_at(listener.local_addr().unwrap()) };
        let (near_end, far_end, ()) =
            tokio::join!(near.read(&mut near_buf), far.read(&mut far_buf), cut);
        for end in [near_end, far_end, near.write(b"x").await] {
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        other_near.write_all(b"y").await.unwrap();
        assert_eq!(other_far.read_u8().await.unwrap(), b'y');
    }
}
