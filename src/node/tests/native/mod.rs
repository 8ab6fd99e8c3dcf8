//! The native API from outside: a broker on a simulated machine, spoken to in HTTP.

mod deliveries;
mod errors;
mod groups;
mod half_messages;
pub(super) mod http;
mod messages;
mod timers;
mod topics;
