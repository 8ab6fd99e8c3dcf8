//! Accepts clients and bounds how many there are, in all and per address.
//!
//! One task per listener. Connections that come faster than they may wait for their turn, and those
//! behind them with the system ([`Pace`]). A connection over a limit is closed at once: Kafka's clients back off
//! and try again. Connections that have not sent a request are watched: they end at a deadline, and
//! earlier when their places are needed. Running out of descriptors pauses accepting instead of
//! spinning.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::{self, Broker, Caller};
use crate::config::ListenerConfig;
use crate::env::net::{Listener, Stream};
use crate::server::connection::Connection;
use crate::server::memory::RequestMemory;
use crate::server::pace::Pace;

/// Pause after a failed accept (out of descriptors): long enough for connections to end.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections accepted before others have their turn: a crowd of newcomers must not hold up those
/// that are being served.
const ACCEPTS_IN_A_ROW: u32 = 8;

/// How many connections are open.
#[derive(Debug, Default)]
pub(crate) struct Census {
    all: AtomicUsize,
    came: AtomicU64,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// Of all listeners together.
    pace: Mutex<Pace>,
}

/// A counted connection; uncounted when dropped.
#[derive(Debug)]
struct Seat {
    census: Arc<Census>,
    address: IpAddr,
}

impl Census {
    /// Connections open now.
    pub(crate) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// The number of a new connection.
    fn next(&self) -> u64 {
        self.came.fetch_add(1, Ordering::Relaxed)
    }

    fn seat(
        census: &Arc<Self>,
        address: IpAddr,
        max: usize,
        per_ip_max: usize,
    ) -> Result<Seat, Full> {
        if census.all.fetch_add(1, Ordering::Relaxed) >= max {
            census.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::InAll);
        }
        let mut by_address = census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.get(&address).copied().unwrap_or(0) >= per_ip_max {
            census.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Here);
        }
        *by_address.entry(address).or_insert(0) += 1;
        drop(by_address);
        Ok(Seat { census: Arc::clone(census), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.census.all.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// What the connections of all listeners share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) broker: Arc<Broker>,
    pub(crate) census: Arc<Census>,
    pub(crate) memory: Arc<RequestMemory>,
}

/// Serves a listener until `stopping` turns true.
pub(crate) async fn serve(
    listener: Box<dyn Listener>,
    listener_name: Arc<str>,
    common: Common,
    mut stopping: watch::Receiver<bool>,
    open: tokio::sync::mpsc::Sender<()>,
) {
    let mut newcomers = Newcomers::default();
    let mut pace = Pace::default();
    let mut in_a_row = 0;
    loop {
        if in_a_row >= ACCEPTS_IN_A_ROW {
            in_a_row = 0;
            tokio::task::yield_now().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = newcomers.overdue() => {
                newcomers.end_overdue(&common.broker);
                continue;
            }
            changed = stopping.changed() => {
                if changed.is_err() || *stopping.borrow() {
                    return;
                }
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                newcomers.end_oldest(&common.broker).await;
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        in_a_row += 1;
        let wait = wait(&common, &listener_name, &mut pace);
        if !wait.is_zero() && !rest(wait, &common, &mut newcomers, &mut stopping).await {
            return;
        }
        let caller = Caller::new(Arc::clone(&listener_name), peer, common.census.next());
        match seat(&common, &mut newcomers, &caller).await {
            Ok(seat) => {
                let stopping = stopping.clone();
                newcomers.add(start(&common, caller, stream, seat, stopping, open.clone()));
            }
            Err(full) => api::tell_connection(&common.broker, &caller, &full),
        }
    }
}

/// How long whoever comes now has to wait, so that no more come in a second than may.
fn wait(common: &Common, listener_name: &str, here: &mut Pace) -> Duration {
    let config = common.broker.live.load();
    let now = Instant::now();
    let of_name = |listener: &&ListenerConfig| *listener.name == *listener_name;
    let here_max = config.network.listeners.iter().find(of_name);
    let here_max = here_max.map_or(u32::MAX, |listener| listener.creations_per_second_max);
    let all_max = config.network.connection_creations_per_second_max;
    let mut all = common.census.pace.lock().unwrap_or_else(PoisonError::into_inner);
    all.wait(now, all_max).max(here.wait(now, here_max))
}

/// Lets a time pass, except for newcomers whose time is over; false when the broker stops.
async fn rest(
    time: Duration,
    common: &Common,
    newcomers: &mut Newcomers,
    stopping: &mut watch::Receiver<bool>,
) -> bool {
    let until = Instant::now() + time;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => return true,
            () = newcomers.overdue() => newcomers.end_overdue(&common.broker),
            changed = stopping.changed() => if changed.is_err() || *stopping.borrow() {
                return false;
            },
        }
    }
}

async fn seat(common: &Common, newcomers: &mut Newcomers, caller: &Caller) -> Result<Seat, Full> {
    let Common { broker, census, .. } = common;
    let config = broker.live.load();
    let limits = &config.network;
    let address = caller.peer.ip().to_canonical();
    let here_max = limits.connections_by_ip_max.get(&address);
    let here_max = here_max.copied().unwrap_or(limits.connections_per_ip_max);
    let seat = || Census::seat(census, address, limits.connections_max, here_max);
    match seat() {
        Err(Full::InAll) if newcomers.end_oldest(broker).await => seat(),
        other => other,
    }
}

fn start(
    common: &Common,
    caller: Caller,
    stream: Box<dyn Stream>,
    seat: Seat,
    stopping: watch::Receiver<bool>,
    open: tokio::sync::mpsc::Sender<()>,
) -> Newcomer {
    let Common { broker, memory, .. } = common;
    let has_spoken = Arc::new(AtomicBool::new(false));
    let connection = Connection::new(
        stream,
        Arc::clone(broker),
        Arc::clone(memory),
        caller.clone(),
        Arc::clone(&has_spoken),
        stopping,
    );
    let counted = broker.traffic.connection(&caller.listener);
    let task = broker.env.spawner.connection(async move {
        connection.run().await;
        drop((seat, open, counted));
    });
    let deadline = Instant::now() + broker.limits.first_request_max;
    Newcomer { caller, deadline, has_spoken, task }
}

/// A connection that has perhaps not sent a request yet.
#[derive(Debug)]
struct Newcomer {
    caller: Caller,
    deadline: Instant,
    has_spoken: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// Connections in the order of their coming, without most of those that have sent a request.
#[derive(Debug, Default)]
struct Newcomers {
    line: VecDeque<Newcomer>,
    /// At this length those that need no watching are taken out.
    tidy_at: usize,
}

impl Newcomer {
    fn is_silent(&self) -> bool {
        !self.has_spoken.load(Ordering::Relaxed) && !self.task.is_finished()
    }

    fn end(&self, broker: &Broker, why: Silent) {
        self.task.abort();
        api::tell_connection(broker, &self.caller, &why);
    }
}

impl Newcomers {
    fn add(&mut self, newcomer: Newcomer) {
        if self.line.len() >= self.tidy_at {
            self.line.retain(Newcomer::is_silent);
            self.tidy_at = 2 * self.line.len().max(50);
        }
        self.line.push_back(newcomer);
    }

    /// Waits until a deadline has passed.
    async fn overdue(&self) {
        match self.line.front() {
            Some(first) => tokio::time::sleep_until(first.deadline).await,
            None => std::future::pending().await,
        }
    }

    fn end_overdue(&mut self, broker: &Broker) {
        let now = Instant::now();
        while let Some(first) = self.line.pop_front_if(|first| first.deadline <= now) {
            if first.is_silent() {
                first.end(broker, Silent::TooLong);
            }
        }
    }

    /// Ends the silent connection that came first and waits until its place is free; false when
    /// there was none.
    async fn end_oldest(&mut self, broker: &Broker) -> bool {
        while let Some(first) = self.line.pop_front() {
            if first.is_silent() {
                first.end(broker, Silent::InTheWay);
                // An error says that it was aborted.
                drop(first.task.await);
                return true;
            }
        }
        false
    }
}

/// Why a connection was ended that had sent no request.
#[derive(Debug, thiserror::Error)]
enum Silent {
    #[error("no whole request within braid.first.request.max.ms")]
    TooLong,
    #[error("no request yet, and its place was needed: max.connections")]
    InTheWay,
}

/// Why a connection was not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Full {
    #[error("max.connections are open")]
    InAll,
    #[error("max.connections.per.ip are open from its address")]
    Here,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_in_all_and_per_address_and_come_back() {
        let census = Arc::new(Census::default());
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = Census::seat(&census, a, 3, 2);
        let second = Census::seat(&census, a, 3, 2);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(Census::seat(&census, a, 3, 2).err(), Some(Full::Here));
        let third = Census::seat(&census, b, 3, 2);
        assert!(third.is_ok());
        assert_eq!(Census::seat(&census, b, 3, 2).err(), Some(Full::InAll));
        drop(first);
        assert!(Census::seat(&census, b, 3, 2).is_ok());
        drop((second, third));
        assert_eq!(census.count(), 0);
        assert!(census.by_address.lock().unwrap().is_empty());
    }
}
