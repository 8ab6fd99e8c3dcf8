//! Handing out checks, taking them back, and asking for one.

use std::sync::Arc;

use crate::half::draft::{Answer, Item, Landed};
use crate::half::event::Event;
use crate::half::id::TransactionId;
use crate::half::polls::{Handed, Poll};
use crate::half::request::Unavailable;
use crate::half::table::{CheckBlocked, DueCheck};
use crate::store::{AppendError, Class};

use super::told::{CheckRefused, Reply, answer, unavailable};
use super::{LOOK_UP_MAX, Owner};

impl Owner {
    pub(super) fn on_poll(&mut self, group: &Arc<str>, poll: Poll) {
        // What is due is handed out at the end of the pass, with what else came in.
        match self.polls.push(group, poll) {
            Ok(()) => self.check_due_ms = i64::MIN,
            Err(poll) => {
                let _gone = poll.reply.send(Err(Unavailable::Overloaded));
            }
        }
    }

    /// Hands out the checks that are due to those who wait for them.
    pub(super) fn serve_polls(&mut self) {
        let now_ms = self.now_ms();
        if self.check_due_ms <= now_ms {
            for group in self.polls.groups().cloned().collect::<Vec<_>>() {
                self.serve_group(now_ms, &group);
            }
            self.look_when_checks_are_due(now_ms);
        }
        while let Some(late) = self.polls.pop_late(self.env.clock.monotonic()) {
            let none = Handed::new(Vec::new(), self.myself.clone());
            let _gone = late.reply.send(Ok(none));
        }
    }

    pub(super) fn serve_group(&mut self, now_ms: i64, group: &Arc<str>) {
        loop {
            let Some(table) = &self.table else { return };
            if table.due_checks(now_ms, group).next().is_none() {
                return;
            }
            let Some(Poll { max, reply, .. }) = self.polls.pop(group) else { return };
            let checks: Vec<_> = table.due_checks(now_ms, group).take(max).collect();
            let events = checks.iter().map(|check| table.decide_check(now_ms, *check)).collect();
            let handed = Handed::new(checks, self.myself.clone());
            let then = move |landed: Result<Landed, AppendError>| match landed {
                Ok(_) => answer(reply, Ok(handed)),
                Err(error) => {
                    // They were not counted, so there is nothing to give back.
                    handed.delivered();
                    answer(reply, Err(unavailable(&error)))
                }
            };
            self.push(Item {
                events,
                carried: None,
                batch: None,
                class: Class::System,
                then: Box::new(then),
            });
            self.flush();
        }
    }

    pub(super) fn look_when_checks_are_due(&mut self, now_ms: i64) {
        let due = self
            .table
            .as_ref()
            .map(|table| self.polls.groups().filter_map(|group| table.next_check_ms(group)).min());
        // What is due and was not handed out is about to expire: that is not waited for.
        let look_up_ms = i64::try_from(LOOK_UP_MAX.as_millis()).unwrap_or(i64::MAX);
        self.check_due_ms = match due.flatten() {
            Some(due_ms) if due_ms <= now_ms => now_ms.saturating_add(look_up_ms),
            due_ms => due_ms.unwrap_or(i64::MAX),
        };
    }

    pub(super) fn on_return(
        &mut self,
        check: DueCheck,
        postponed: bool,
        reply: Option<Reply<Result<(), CheckRefused>>>,
    ) {
        if self.draft.touches(check.id.half) {
            self.flush();
        }
        let (now_ms, rules) = (self.now_ms(), self.rules());
        let wait_ms = if postponed { rules.check_interval_ms } else { 0 };
        let Some(table) = &self.table else { return };
        let decided = table.decide_return(now_ms, check, now_ms.saturating_add(wait_ms));
        self.settle_check(decided, reply);
    }

    pub(super) fn on_check_now(
        &mut self,
        id: TransactionId,
        reply: Reply<Result<(), CheckRefused>>,
    ) {
        if self.draft.touches(id.half) {
            self.flush();
        }
        let Some(table) = &self.table else { return };
        let decided = table.decide_check_now(self.now_ms(), id);
        self.settle_check(decided, Some(reply));
    }

    pub(super) fn settle_check(
        &mut self,
        decided: Result<Event, CheckBlocked>,
        reply: Option<Reply<Result<(), CheckRefused>>>,
    ) {
        let send = move |result| {
            if let Some(reply) = reply {
                let _gone = reply.send(result);
            }
        };
        match decided {
            Err(blocked) => self.answer_in_turn(Box::new(move |durable| {
                let refused = durable.map_err(CheckRefused::Unavailable);
                send(refused.and(Err(CheckRefused::Blocked(blocked))));
            })),
            Ok(event) => {
                let then = move |landed: Result<Landed, AppendError>| -> Answer {
                    let landed = landed.map(|_| ()).map_err(|error| unavailable(&error));
                    Box::new(move |durable: Result<(), Unavailable>| {
                        send(landed.and(durable).map_err(CheckRefused::Unavailable));
                    })
                };
                self.push(Item {
                    events: vec![event],
                    carried: None,
                    batch: None,
                    class: Class::System,
                    then: Box::new(then),
                });
            }
        }
    }
}
