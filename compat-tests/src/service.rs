//! A program that runs until it is told to end: a Connect worker, a schema registry. Killed when dropped.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::log::Log;

/// Between two looks at a program that prints nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// One running program and what it prints.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: Log,
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Service> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let log = Log::default();
        log.follow(child.stdout.take().context("stdout is piped")?);
        log.follow(child.stderr.take().context("stderr is piped")?);
        Ok(Service { name: name.to_owned(), child, log })
    }

    /// Asks until there is an answer: whenever the program prints a line, and now and then.
    ///
    /// # Errors
    /// When the program ends or the time is up; the error carries the program's last lines.
    pub fn wait<T>(
        &mut self,
        timeout: Duration,
        mut ask: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = std::time::Instant::now() + timeout;
        loop {
            if let Some(answer) = ask().with_context(|| self.tail())? {
                return Ok(answer);
            }
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "{} has ended: {ended:?}\n{}", self.name, self.tail());
            ensure!(
                std::time::Instant::now() < deadline,
                "{} was waited for in vain for {timeout:?}\n{}",
                self.name,
                self.tail()
            );
            // As soon as it says something, there may be something to see.
            let _said = self.log.wait(self.log.mark(), PAUSE, |_| Some(()));
        }
    }

    /// Asks it to end (SIGTERM) and waits until it is gone.
    ///
    /// # Errors
    /// When it has already ended by itself.
    pub fn stop(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "{} has ended by itself: {ended:?}\n{}", self.name, self.tail());
        let pid =
            Pid::from_raw(i32::try_from(self.child.id())?).context("a process id is positive")?;
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself, and well; the last lines that it printed.
    ///
    /// # Errors
    /// When it fails or the time is up.
    pub fn finish(mut self, timeout: Duration) -> Result<String> {
        let deadline = std::time::Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{} ended with {status}\n{}", self.name, self.tail());
                return Ok(self.tail());
            }
            let in_time = std::time::Instant::now() < deadline;
            ensure!(in_time, "{} takes longer than {timeout:?}\n{}", self.name, self.tail());
            let _said = self.log.wait(self.log.mark(), PAUSE, |_| Some(()));
        }
    }

    /// The last lines that it printed.
    #[must_use]
    pub fn tail(&self) -> String {
        self.log.tail(60)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}
