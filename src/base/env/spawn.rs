//! Tasks and threads. A detached task whose panic nobody sees is how brokers half-die, so there
//! are only two kinds: *critical* ones take the process down with them, *connection* tasks only
//! themselves.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What ends the process when a critical part dies.
pub type OnFatal = fn(&str) -> !;

/// Starts tasks and threads on the current tokio runtime.
#[derive(Debug, Clone, Copy)]
pub struct Spawner {
    on_fatal: OnFatal,
}

impl Spawner {
    /// A spawner that calls `on_fatal` when a critical task or thread panics.
    #[must_use]
    pub fn new(on_fatal: OnFatal) -> Self {
        Self { on_fatal }
    }

    /// Ends the process, naming why. For parts that find themselves unable to go on safely.
    pub fn fatal(&self, why: &str) -> ! {
        (self.on_fatal)(why)
    }

    /// Runs a task whose panic ends the process.
    pub fn critical<F>(&self, name: &'static str, task: F) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let on_fatal = self.on_fatal;
        #[expect(clippy::disallowed_methods, reason = "this is the seam the ban points to")]
        tokio::spawn(async move {
            if CatchPanic(Box::pin(task)).await.is_err() {
                on_fatal(name);
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
        let on_fatal = self.on_fatal;
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                on_fatal(name);
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
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
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
