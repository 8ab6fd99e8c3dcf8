//! The process's limits: on open files and sockets, and on the size of a file.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

/// The signal that comes with a write beyond the limit of a file's size (`ulimit -f`). Unless it is
/// caught it ends the process.
pub const FILE_TOO_LARGE_SIGNAL: i32 = Signal::XFSZ.as_raw();

/// Raises the limit as far as the system lets this process, and says how far that is; `None` is
/// without limit.
#[must_use]
pub fn raise_descriptor_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files and sockets");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let before = getrlimit(Resource::Nofile);
        assert_eq!(raise_descriptor_limit(), before.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
