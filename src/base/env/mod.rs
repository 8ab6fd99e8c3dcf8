//! The one seam to the machine. Whatever needs a clock, chance, a task, a thread, a file or a
//! socket takes it from an [`Env`]; the simulator hands out another one and the same code runs
//! under a seed, repeatable to the bit.

use std::fmt;
use std::sync::Arc;

pub mod clock;
pub mod fs;
pub mod net;
pub mod real;
pub mod rng;
pub mod sim;
pub mod spawn;

pub use clock::Clock;
pub use fs::{File, Fs};
pub use net::Net;
pub use rng::Rng;
pub use spawn::Spawner;

/// Everything a part may ask of the machine. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Monotonic and wall time.
    pub clock: Arc<dyn Clock>,
    /// The one source of chance.
    pub rng: Arc<dyn Rng>,
    /// Files.
    pub fs: Arc<dyn Fs>,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Tasks and threads.
    pub spawner: Spawner,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}
