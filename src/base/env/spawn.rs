//! Tasks and threads. A detached task whose panic nobody sees is how brokers half-die, so there
//! are only two kinds: *critical* ones take the process down with them, *connection* tasks only
//! themselves.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What ends the process when a critical part dies. It never returns.
type OnFatal = Arc<dyn Fn(&str) -> Infallible + Send + Sync>;

/// Starts tasks and threads on the current tokio runtime. Cheap to clone.
#[derive(Clone)]
pub struct Spawner {
    on_fatal: OnFatal,
    blocking: Blocking,
}

/// Where blocking work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's pool of blocking threads.
    Pool,
    /// On the spot: for simulations, whose disk does not block and whose order must repeat.
    Inline,
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").field("blocking", &self.blocking).finish_non_exhaustive()
    }
}

impl Spawner {
    /// A spawner that calls `on_fatal` when a critical task or thread panics.
    #[must_use]
    pub fn new(
        on_fatal: impl Fn(&str) -> Infallible + Send + Sync + 'static,
        blocking: Blocking,
    ) -> Self {
        Self { on_fatal: Arc::new(on_fatal), blocking }
    }

    /// Whether blocking work runs on the spot: then parts with threads of their own do without.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.blocking == Blocking::Inline
    }

    /// How much work runs at once on this machine: threads, or one thing in a simulation.
    #[must_use]
    pub fn parallelism(&self) -> usize {
        match self.blocking {
            Blocking::Pool => std::thread::available_parallelism().map_or(1, usize::from),
            Blocking::Inline => 1,
        }
    }

    /// Ends the process, naming why. For parts that find themselves unable to go on safely.
    pub fn fatal(&self, why: &str) -> ! {
        match (self.on_fatal)(why) {}
    }

    /// Runs a task whose panic ends the process.
    pub fn critical<F>(&self, name: &'static str, task: F) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let spawner = self.clone();
        #[expect(clippy::disallowed_methods, reason = "this is the seam the ban points to")]
        tokio::spawn(async move {
            if CatchPanic(Box::pin(task)).await.is_err() {
                spawner.fatal(name);
            }
        })
    }

    /// Runs a task whose panic ends only itself, for one client's connection.
    pub fn connection<F>(&self, task: F) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "this is the seam the ban points to")]
        tokio::spawn(async move {
            if CatchPanic(Box::pin(task)).await.is_err() {
                tracing::error!("a connection's task panicked and was closed");
            }
        })
    }

    /// Starts an OS thread whose panic ends the process.
    pub fn thread<F>(&self, name: &'static str, body: F) -> io::Result<std::thread::JoinHandle<()>>
    where
        F: FnOnce() + Send + 'static,
    {
        let spawner = self.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                spawner.fatal(name);
            }
        })
    }

    /// Runs blocking work (disk reads) off the async workers.
    ///
    /// # Errors
    /// The work panicked, or the runtime is shutting down.
    pub async fn blocking<T, F>(&self, work: F) -> io::Result<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.blocking {
            Blocking::Pool => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
            Blocking::Inline => catch_unwind(AssertUnwindSafe(work))
                .map_err(|_| io::Error::other("blocking work panicked")),
        }
    }
}

struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(_) => Poll::Ready(Err(())),
        }
    }
}
