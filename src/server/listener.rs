//! Accepts clients and bounds how many there are, in all and per address.
//!
//! One task per listener. A connection over a limit is closed at once: Kafka's clients back off
//! and try again. Running out of descriptors pauses accepting instead of spinning.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::api::{Broker, Caller};
use crate::env::net::Listener;
use crate::server::connection::Connection;
use crate::server::memory::RequestMemory;

/// Pause after a failed accept (out of descriptors): long enough for connections to end.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How many connections are open.
#[derive(Debug, Default)]
pub(crate) struct Census {
    all: AtomicUsize,
    came: AtomicU64,
    by_address: Mutex<HashMap<IpAddr, usize>>,
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

    fn seat(census: &Arc<Self>, address: IpAddr, max: usize, per_ip_max: usize) -> Option<Seat> {
        if census.all.fetch_add(1, Ordering::Relaxed) >= max {
            census.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut by_address = census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.get(&address).copied().unwrap_or(0) >= per_ip_max {
            census.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *by_address.entry(address).or_insert(0) += 1;
        drop(by_address);
        Some(Seat { census: Arc::clone(census), address })
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
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
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
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Common { broker, census, memory } = &common;
        let limits = &broker.limits;
        let Some(seat) =
            Census::seat(census, peer.ip(), limits.connections_max, limits.connections_per_ip_max)
        else {
            tracing::warn!(%peer, "refused a connection: max.connections or max.connections.per.ip");
            continue;
        };
        let number = census.next();
        let caller = Caller::new(Arc::clone(&listener_name), peer, number);
        let connection = Connection::new(
            stream,
            Arc::clone(broker),
            Arc::clone(memory),
            caller,
            stopping.clone(),
        );
        let open = open.clone();
        broker.env.spawner.connection(async move {
            let ended = connection.run().await;
            tracing::debug!(%peer, reason = %ended, "connection ended");
            drop((seat, open));
        });
    }
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
        assert!(first.is_some() && second.is_some());
        assert!(Census::seat(&census, a, 3, 2).is_none(), "per address");
        let third = Census::seat(&census, b, 3, 2);
        assert!(third.is_some());
        assert!(Census::seat(&census, b, 3, 2).is_none(), "in all");
        drop(first);
        assert!(Census::seat(&census, b, 3, 2).is_some());
        drop((second, third));
        assert_eq!(census.count(), 0);
        assert!(census.by_address.lock().unwrap().is_empty());
    }
}
