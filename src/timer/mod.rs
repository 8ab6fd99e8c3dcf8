//! Floor F3: messages that are delivered at a point in time.
//!
//! A scheduled message is a record in the queue of the ten minutes it is due in; what became of it
//! is a record in a second queue of the same ten minutes. It is delivered by one group of the log:
//! the record in its topic and the note that it is there, so no crash loses or doubles it. Due is
//! what the broker's wall clock says: a message is never delivered before, a jump forward delivers
//! what is due by the new time, a jump back makes messages wait for it. Knows no HTTP, no Kafka
//! requests and no topics by name; where messages go it asks [`Destinations`].

mod batch;
mod deliver;
mod error;
mod event;
mod id;
mod keeper;
mod list;
mod message;
mod read;
mod shared;
mod slot;
mod table;
mod timers;

#[cfg(test)]
mod tests;

pub(crate) use error::{ScheduleError, TimerError};
pub(crate) use event::End;
pub(crate) use id::{NoTimerId, TimerId};
pub(crate) use list::{Cursor, Page};
pub(crate) use message::{Message, NewTimer, Target};
pub(crate) use shared::{Destination, Destinations, Limits, Totals};
pub(crate) use timers::{Recalled, TimerState, Timers};

/// The header that says when a message is due, in ms since 1970 (RocketMQ's `TIMER_DELIVER_MS`).
pub(crate) const DELIVER_MS: &str = "TIMER_DELIVER_MS";
/// The header that says in how many ms a message is due (RocketMQ's `TIMER_DELAY_MS`).
pub(crate) const DELAY_MS: &str = "TIMER_DELAY_MS";
/// The header of a delivered message that keeps the time its producer gave it (RocketMQ's
/// `BORN_TIMESTAMP`): its timestamp is the time of its delivery, from which retention counts.
pub(crate) const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
