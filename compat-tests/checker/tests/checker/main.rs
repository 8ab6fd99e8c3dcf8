//! The checker itself is tried: a minimal history for each anomaly, histories that only look wrong, and good histories
//! that are broken in every way a broker could break them.
#![allow(clippy::unwrap_used, reason = "the whole program is tests")]

mod anomalies;
mod format;
mod legal;
mod linear;
mod mutations;
mod script;
