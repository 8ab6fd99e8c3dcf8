//! Sockets of the native API: accepts, serves HTTP/1.1, and lets requests under way end when the
//! broker stops.
//!
//! One task per listener and one per connection. Connections are bounded by a count; further ones
//! wait in the system's backlog. A connection that sends no whole head in time is closed, and one
//! that takes nothing of its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, mpsc, watch};

use super::patient::Patient;
use super::problem::{Code, Problem};
use super::{App, body, routes};
use crate::env::net::Listener;
use crate::native::Native;

/// Pause after a failed accept (out of descriptors): long enough for connections to end.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long a connection may take to send the head of a request, and so may lie idle.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const HEAD_SIZE_BYTES_MAX: usize = 64 << 10;
/// How long a request may take; longer than the longest poll.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// How long requests under way have when the broker stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// What the connections of all listeners share.
#[derive(Clone)]
pub(crate) struct Common {
    native: Arc<Native>,
    router: Router,
    seats: Arc<Semaphore>,
}

impl Common {
    pub(crate) fn new(native: Arc<Native>) -> Self {
        let config = &native.config.native;
        let memory = body::MEMORY_BYTES.max(config.request_size_bytes_max);
        let seats = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
        let body_memory = Arc::new(Semaphore::new(memory));
        let app = App { native: Arc::clone(&native), body_memory };
        let router = routes::router(app).layer(middleware::from_fn(in_time));
        Self { native, router, seats }
    }
}

/// Ends a request that takes too long.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let why = format!("not done within {} s", REQUEST_TIME_MAX.as_secs());
            Problem::new(Code::TimedOut, why).into_response()
        }
    }
}

/// Serves a listener until `stopping` turns true. `open` is held by everything that still runs.
pub(crate) async fn serve(
    listener: Box<dyn Listener>,
    common: Common,
    mut stopping: watch::Receiver<bool>,
    open: mpsc::Sender<()>,
) {
    loop {
        let seat = Arc::clone(&common.seats).acquire_owned();
        let accepted = tokio::select! {
            accepted = async { (seat.await, listener.accept().await) } => accepted,
            () = stops(&mut stopping) => return,
        };
        match accepted {
            (Ok(seat), Ok((stream, _peer))) => {
                let stream = Patient::new(stream, Arc::clone(&common.native.traffic));
                let (router, stopping, open) =
                    (common.router.clone(), stopping.clone(), open.clone());
                drop(common.native.env.spawner.connection(async move {
                    connection(stream, router, stopping).await;
                    drop((seat, open));
                }));
            }
            (Err(_), _) => unreachable!("the semaphore is never closed"),
            (Ok(_), Err(error)) => {
                tracing::warn!(%error, "cannot accept connections of the native API; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Waits until the broker stops.
async fn stops(stopping: &mut watch::Receiver<bool>) {
    // An error says that it is gone.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

async fn connection(stream: Patient, router: Router, mut stopping: watch::Receiver<bool>) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_SIZE_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = stops(&mut stopping) => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_TIME_MAX, served).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = outcome {
        // A client that hangs up or speaks no HTTP is no event.
        tracing::debug!(%error, "a connection of the native API ended early");
    }
}
