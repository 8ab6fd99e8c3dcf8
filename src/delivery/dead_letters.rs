//! Dead letters from the operator's side: browse, re-drive, delete.
//!
//! They are records of the group's dead-letter topic, so reading them is ordinary reading. Which of
//! them are re-driven or deleted is the progress of a reserved group, named like the topic: a
//! letter's copy in the target queue and its end are one atomic group, so none is re-driven twice.

use std::sync::Arc;

use super::catalog::{TopicView, dead_letter_name};
use super::deliveries::Deliveries;
use super::error::Unavailable;
use super::event::PartKey;
use super::filter::TagFilter;
use super::look::{Look, ScanFrom, look, readable_to};
use super::message::{
    DLQ_ORIGIN_PARTITION, DLQ_ORIGIN_TOPIC, Message, REAL_PARTITION, REAL_TOPIC, message_key,
    returned,
};
use super::owner::{Input, Letter, Place};
use super::request::{DeadLetters, Outcome, Settled, Target, Which};
use crate::model::QueueId;

/// Outcomes that are told one by one.
const OTHERS_MAX: usize = 1_000;
/// Letters settled in one atomic group.
const SETTLED_AT_ONCE: usize = 256;
/// Bytes of copies in one atomic group, about.
const SETTLED_SIZE_BYTES: usize = 1024 * 1024;
/// Letters on a page.
const PAGE_MAX: usize = 1_000;

impl Deliveries {
    /// A page of a group's dead letters that are neither re-driven nor deleted, from a partition
    /// and offset on. A group without any has an empty page.
    ///
    /// # Errors
    /// Nothing is known at the moment.
    pub(crate) async fn dead_letters(
        &self,
        group: &str,
        from: (i32, i64),
        max: usize,
    ) -> Result<DeadLetters, Unavailable> {
        let mut letters = Vec::new();
        let Some(view) = self.catalog.topic_named(&dead_letter_name(group)) else {
            return Ok(DeadLetters { letters, next: None });
        };
        let max = max.clamp(1, PAGE_MAX);
        let mut at = from;
        while view.queue(at.0).is_some() {
            let (found, next) = self.undone_from(&view, at).await?;
            let Some(next) = next else {
                at = (at.0 + 1, 0);
                continue;
            };
            for message in found {
                if letters.len() == max {
                    return Ok(DeadLetters { letters, next: Some((at.0, message.offset)) });
                }
                letters.push((at.0, message));
            }
            at = (at.0, next);
        }
        Ok(DeadLetters { letters, next: None })
    }

    /// Reads on in a partition of dead letters; where to go on, `None` at its end.
    async fn undone_from(
        &self,
        view: &TopicView,
        (partition, from): (i32, i64),
    ) -> Result<(Vec<Message>, Option<i64>), Unavailable> {
        let Some(queue) = view.queue(partition) else { return Ok((Vec::new(), None)) };
        let offsets = self.partitions.offsets(queue);
        let from = from.max(offsets.log_start.0);
        if from >= readable_to(&self.partitions, queue) {
            return Ok((Vec::new(), None));
        }
        let scan = ScanFrom { from, filter: TagFilter::All, is_ordered: false };
        let asked = Look { queue, again: Vec::new(), scan: Some(scan) };
        let looked = look(&self.env, &self.partitions, asked).await.map_err(|error| {
            tracing::warn!(topic = %view.name, partition, %error, "dead letters cannot be read");
            Unavailable::Busy
        })?;
        let found: Vec<Message> = looked.fresh.into_iter().filter_map(|(_, m)| m).collect();
        let key = reserved(view, partition);
        let offsets = found.iter().map(|message| message.offset).collect();
        let undone = self.ask(|reply| Input::Undone { key, offsets, reply }).await??;
        let is_undone = |message: &Message| undone.binary_search(&message.offset).is_ok();
        let next = looked.seen_to.filter(|next| *next > from);
        Ok((found.into_iter().filter(is_undone).collect(), next))
    }

    /// Puts dead letters back where they came from, or into another topic, without what made them
    /// dead letters. Each is put back once, however often and by whomever this is called.
    ///
    /// # Errors
    /// Not all is told: what is not among the done is to be tried again.
    pub(crate) async fn re_drive(
        &self,
        group: &str,
        which: Which,
        target: Target,
    ) -> Result<Settled, Unavailable> {
        self.settle(group, which, Some(target)).await
    }

    /// Takes dead letters off the list for good. The records stay until retention takes them.
    ///
    /// # Errors
    /// Not all is told: what is not among the done is to be tried again.
    pub(crate) async fn delete_dead_letters(
        &self,
        group: &str,
        which: Which,
    ) -> Result<Settled, Unavailable> {
        self.settle(group, which, None).await
    }

    async fn settle(
        &self,
        group: &str,
        which: Which,
        target: Option<Target>,
    ) -> Result<Settled, Unavailable> {
        let mut settled = Settled::default();
        let Some(view) = self.catalog.topic_named(&dead_letter_name(group)) else {
            if let Which::Some(letters) = which {
                let missing = letters.into_iter().map(|letter| (letter, Outcome::NotThere));
                missing.for_each(|other| settled.tell(other));
            }
            return Ok(settled);
        };
        match which {
            Which::Some(mut letters) => {
                letters.sort_unstable();
                letters.dedup();
                for asked in letters.chunk_by(|a, b| a.0 == b.0) {
                    self.settle_some(&view, asked, target.as_ref(), &mut settled).await?;
                }
            }
            Which::All => {
                for (partition, queue) in view.partitions() {
                    // Those that die while this runs are of another call.
                    let end = readable_to(&self.partitions, queue);
                    let mut at = 0;
                    while let (found, Some(next)) = self.undone_from(&view, (partition, at)).await?
                    {
                        let found = found.into_iter().filter(|message| message.offset < end);
                        let found = found.collect();
                        self.settle_found(&view, partition, found, target.as_ref(), &mut settled)
                            .await?;
                        at = next;
                        if at >= end {
                            break;
                        }
                    }
                }
            }
        }
        Ok(settled)
    }

    /// Settles named letters of one partition.
    async fn settle_some(
        &self,
        view: &TopicView,
        asked: &[(i32, i64)],
        target: Option<&Target>,
        settled: &mut Settled,
    ) -> Result<(), Unavailable> {
        let Some(((partition, _), queue)) =
            asked.first().and_then(|first| Some((*first, view.queue(first.0)?)))
        else {
            asked.iter().for_each(|letter| settled.tell((*letter, Outcome::NotThere)));
            return Ok(());
        };
        let mut rest: Vec<i64> = asked.iter().map(|(_, offset)| *offset).collect();
        while !rest.is_empty() {
            let again = rest.iter().copied().take(SETTLED_AT_ONCE).collect();
            let looked = look(&self.env, &self.partitions, Look { queue, again, scan: None });
            let looked = looked.await.map_err(|error| {
                tracing::warn!(topic = %view.name, partition, %error, "dead letters cannot be read");
                Unavailable::Busy
            })?;
            let mut found = Vec::new();
            rest.drain(..looked.again.len().min(rest.len()));
            for (offset, message) in looked.again {
                match message {
                    Some(message) => found.push(message),
                    None => settled.tell(((partition, offset), Outcome::NotThere)),
                }
            }
            self.settle_found(view, partition, found, target, settled).await?;
        }
        Ok(())
    }

    /// Settles letters that were read.
    async fn settle_found(
        &self,
        view: &TopicView,
        partition: i32,
        found: Vec<Message>,
        target: Option<&Target>,
        settled: &mut Settled,
    ) -> Result<(), Unavailable> {
        let mut letters = Vec::new();
        let mut size_bytes = 0;
        for message in found {
            let offset = message.offset;
            let copy = match target {
                None => None,
                Some(target) => match self.place_for(&message, target) {
                    Some(place) => Some((place, returned(&message))),
                    None => {
                        settled.tell(((partition, offset), Outcome::NoTarget));
                        continue;
                    }
                },
            };
            size_bytes += message.size_bytes();
            letters.push(Letter { offset, copy });
            if letters.len() >= SETTLED_AT_ONCE || size_bytes >= SETTLED_SIZE_BYTES {
                size_bytes = 0;
                self.settle_letters(view, partition, std::mem::take(&mut letters), settled).await?;
            }
        }
        self.settle_letters(view, partition, letters, settled).await
    }

    async fn settle_letters(
        &self,
        view: &TopicView,
        partition: i32,
        letters: Vec<Letter>,
        settled: &mut Settled,
    ) -> Result<(), Unavailable> {
        if letters.is_empty() {
            return Ok(());
        }
        let key = reserved(view, partition);
        let outcomes = self.ask(|reply| Input::Settle { key, letters, reply }).await??;
        for (offset, outcome) in outcomes {
            settled.tell(((partition, offset), outcome));
        }
        Ok(())
    }

    /// Where a letter goes.
    fn place_for(&self, message: &Message, target: &Target) -> Option<Place> {
        let (view, queue) = match target {
            Target::Origin => {
                let text = |name| std::str::from_utf8(message.header(name)?).ok();
                let topic = text(DLQ_ORIGIN_TOPIC).or_else(|| text(REAL_TOPIC))?;
                let view = self.catalog.topic_named(topic)?;
                let partition = text(DLQ_ORIGIN_PARTITION).or_else(|| text(REAL_PARTITION))?;
                let partition = partition.parse().ok()?;
                let queue = view.queue(partition).or_else(|| self.by_key(&view, message))?;
                (view, queue)
            }
            Target::Topic(name) => {
                let view = self.catalog.topic_named(name)?;
                let queue = self.by_key(&view, message)?;
                (view, queue)
            }
        };
        Some(Place { queue, log_append_time: view.log_append_time })
    }

    /// The queue that a message's group or key belongs to; one without goes where its offset says.
    fn by_key(&self, view: &TopicView, message: &Message) -> Option<QueueId> {
        let partitions = view.queues.len();
        let index = match message_key(message) {
            Some(key) => self.catalog.partition_of(key, partitions),
            None => usize::try_from(message.offset).ok()?.checked_rem(partitions)?,
        };
        Some(view.at(index)?.1)
    }
}

/// The part that keeps which letters of a partition are settled.
fn reserved(view: &TopicView, partition: i32) -> PartKey {
    PartKey { group: Arc::clone(&view.name), topic: view.id, partition }
}

impl Settled {
    fn tell(&mut self, (letter, outcome): ((i32, i64), Outcome)) {
        if outcome == Outcome::Done {
            self.done += 1;
        } else if self.others.len() < OTHERS_MAX {
            self.others.push((letter, outcome));
        }
    }
}
