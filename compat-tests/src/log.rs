//! What a child process prints: every line is kept (bounded) for the report of a failure, and one may wait for a line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const LINES_MAX: usize = 20_000;

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// How many lines were ever printed.
    count: usize,
    open: usize,
}

/// The output of one process or of several incarnations of it.
#[derive(Clone, Debug, Default)]
pub struct Log {
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

impl Log {
    /// Reads `source` to its end on a thread of its own.
    pub fn follow(&self, source: impl Read + Send + 'static) {
        let log = self.clone();
        log.change(|lines| lines.open += 1);
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(source.read_until(b'\n', &mut line), Ok(1..)) {
                log.push(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
                line.clear();
            }
            log.change(|lines| lines.open -= 1);
        });
    }

    /// Adds one line.
    pub fn push(&self, line: String) {
        self.change(|lines| {
            lines.kept.push_back(line);
            lines.count += 1;
            if lines.kept.len() > LINES_MAX {
                lines.kept.pop_front();
            }
        });
    }

    /// How many lines were printed so far: what a later [`Log::wait`] counts from.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Waits for a line after `mark` of which `pick` makes something.
    ///
    /// # Errors
    /// When the deadline passes, or when the process closes its output first.
    pub fn wait<T>(
        &self,
        mark: usize,
        timeout: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let (mutex, changed) = &*self.shared;
        let mut lines = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = mark;
        loop {
            let first = lines.count - lines.kept.len();
            if let Some(found) =
                lines.kept.iter().skip(seen.saturating_sub(first)).find_map(|line| pick(line))
            {
                return Ok(found);
            }
            seen = lines.count;
            if lines.open == 0 {
                bail!("the process ended before it said what was waited for");
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                bail!("nothing was said within {timeout:?}");
            };
            lines = changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last `count` lines.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let lines = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = lines.kept.len().saturating_sub(count);
        lines.kept.iter().skip(skipped).map(|line| format!("    {line}\n")).collect()
    }

    /// Writes all that is kept into a file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, self.tail(LINES_MAX))?)
    }

    fn change(&self, by: impl FnOnce(&mut Lines)) {
        let (mutex, changed) = &*self.shared;
        by(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }
}
