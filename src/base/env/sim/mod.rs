//! The simulated machine: a disk that loses, tears and reorders what was not synced.
