//! Which brokers the controller has heard lately. Pure: told the time, the heartbeats and the image.
//!
//! Only the leader of the quorum listens. What it heard is not shared: a new leader gives everyone a
//! whole session to be heard, and so does one that was itself asleep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use braid_base::model::BrokerId;
use uuid::Uuid;

use crate::image::MetadataImage;

/// When each broker was last heard, in the time of this process.
#[derive(Debug)]
pub(crate) struct Liveness {
    session: Duration,
    /// The term this node leads, and when it began to judge.
    leads: Option<(u64, Duration)>,
    looked: Duration,
    heard: BTreeMap<BrokerId, Duration>,
    /// Those that are about to be fenced: what they say comes too late.
    judged: BTreeSet<BrokerId>,
    /// Those that may be dead.
    suspects: BTreeSet<BrokerId>,
}

impl Liveness {
    /// Brokers are silent that were not heard for `session`.
    pub(crate) fn new(session: Duration) -> Self {
        Self {
            session,
            leads: None,
            looked: Duration::ZERO,
            heard: BTreeMap::new(),
            judged: BTreeSet::new(),
            suspects: BTreeSet::new(),
        }
    }

    /// A broker was heard. Says whether that counts: it does not once it was judged, since who was
    /// told to be heard relies on not being fenced for a while.
    pub(crate) fn hear(&mut self, now: Duration, broker: BrokerId) -> bool {
        if self.judged.contains(&broker) {
            return false;
        }
        self.heard.insert(broker, now);
        true
    }

    /// What became of the command that fences a broker is known: it is heard again.
    pub(crate) fn settle(&mut self, broker: BrokerId) {
        self.judged.remove(&broker);
    }

    /// A broker may be dead. Who does not lead need not know.
    pub(crate) fn suspect(&mut self, broker: BrokerId) {
        if self.leads.is_some() {
            self.suspects.insert(broker);
        }
    }

    /// Those that may be dead, once.
    pub(crate) fn take_suspects(&mut self) -> BTreeSet<BrokerId> {
        std::mem::take(&mut self.suspects)
    }

    /// A broker is known to be dead: judges it if it is not fenced, as [`silent`](Self::silent) does.
    pub(crate) fn bury(&mut self, broker: BrokerId, image: &MetadataImage) -> Option<Uuid> {
        let known = image.broker(broker).filter(|broker| !broker.fenced)?;
        (self.leads.is_some() && self.judged.insert(broker)).then_some(known.incarnation)
    }

    /// Judges: the unfenced brokers that are silent, to be fenced now. `leads` is the term this node
    /// leads, if it does. To be asked much more often than a session lasts.
    pub(crate) fn silent(
        &mut self,
        now: Duration,
        leads: Option<u64>,
        image: &MetadataImage,
    ) -> Vec<(BrokerId, Uuid)> {
        let slept = now.saturating_sub(self.looked) > self.session / 2;
        self.looked = now;
        if self.leads.map(|(term, _)| term) != leads {
            // What an earlier term judged is in the log by now, or never will be.
            self.judged.clear();
            self.suspects.clear();
        }
        let Some(term) = leads else {
            self.leads = None;
            return Vec::new();
        };
        let since = match self.leads {
            Some((known, since)) if known == term && !slept => since,
            Some((known, _)) if known == term => now,
            Some(_) | None => {
                // Who died together with the last leader was not seen to.
                self.suspects.extend(image.brokers().map(|broker| broker.id));
                now
            }
        };
        self.leads = Some((term, since));
        let is_silent = |broker: BrokerId| {
            let heard = self.heard.get(&broker).copied().unwrap_or_default().max(since);
            now.saturating_sub(heard) > self.session
        };
        let unfenced = image.brokers().filter(|broker| !broker.fenced);
        let silent = unfenced.filter(|broker| is_silent(broker.id));
        let silent: Vec<_> = silent.map(|broker| (broker.id, broker.incarnation)).collect();
        self.judged.extend(silent.iter().map(|(broker, _)| *broker));
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::apply;
    use crate::testing::register_broker;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        for broker in 1..3 {
            apply(&mut image, &register_broker(broker, 7).into());
        }
        image
    }

    #[test]
    fn a_broker_is_silent_a_session_after_it_was_heard() {
        let (mut liveness, image) = (Liveness::new(ms(100)), image());
        assert!(liveness.silent(ms(0), Some(1), &image).is_empty());
        for now in [40, 80, 120] {
            liveness.hear(ms(now), BrokerId(2));
            let silent = liveness.silent(ms(now), Some(1), &image);
            let expected = if now > 100 { vec![(BrokerId(1), Uuid::from_u128(7))] } else { vec![] };
            assert_eq!(silent, expected, "{now}");
        }
    }

    #[test]
    fn who_begins_to_lead_or_slept_gives_everyone_a_session() {
        let (mut liveness, image) = (Liveness::new(ms(100)), image());
        for now in [0, 40, 80] {
            assert!(liveness.silent(ms(now), Some(1), &image).is_empty());
        }
        // Another term at the moment in which they would be silent.
        for now in [120, 160, 200] {
            assert!(liveness.silent(ms(now), Some(2), &image).is_empty(), "{now}");
        }
        assert_eq!(liveness.silent(ms(240), Some(2), &image).len(), 2);
        // A long sleep.
        assert!(liveness.silent(ms(5000), Some(2), &image).is_empty());
        assert_eq!(liveness.silent(ms(5040), None, &image), []);
    }

    #[test]
    fn who_is_judged_is_not_heard_until_that_is_settled() {
        let (mut liveness, image) = (Liveness::new(ms(100)), image());
        assert!(liveness.silent(ms(0), Some(1), &image).is_empty());
        assert!(liveness.hear(ms(40), BrokerId(2)));
        assert!(liveness.silent(ms(50), Some(1), &image).is_empty());
        assert!(liveness.silent(ms(90), Some(1), &image).is_empty());
        assert_eq!(liveness.silent(ms(101), Some(1), &image).len(), 1);
        assert!(!liveness.hear(ms(102), BrokerId(1)));
        assert!(liveness.hear(ms(102), BrokerId(2)));
        // It is judged again and again until it is known to be fenced.
        assert_eq!(liveness.silent(ms(103), Some(1), &image).len(), 1);
        liveness.settle(BrokerId(1));
        assert!(liveness.hear(ms(104), BrokerId(1)));
        // In another term nothing is under way.
        assert_eq!(liveness.silent(ms(210), Some(1), &image).len(), 0, "it slept");
        for now in [250, 290, 330] {
            drop(liveness.silent(ms(now), Some(1), &image));
        }
        assert!(!liveness.hear(ms(331), BrokerId(1)));
        drop(liveness.silent(ms(332), Some(2), &image));
        assert!(liveness.hear(ms(333), BrokerId(1)));
    }

    #[test]
    fn who_may_be_dead_is_looked_for_by_who_leads() {
        let (mut liveness, image) = (Liveness::new(ms(100)), image());
        liveness.suspect(BrokerId(1));
        assert!(liveness.take_suspects().is_empty());
        assert_eq!(liveness.bury(BrokerId(1), &image), None);
        drop(liveness.silent(ms(0), Some(1), &image));
        // Everybody, at first: nobody saw who died with the leader before.
        assert_eq!(liveness.take_suspects(), BTreeSet::from([BrokerId(1), BrokerId(2)]));
        liveness.suspect(BrokerId(2));
        assert_eq!(liveness.take_suspects(), BTreeSet::from([BrokerId(2)]));
        assert_eq!(liveness.bury(BrokerId(2), &image), Some(Uuid::from_u128(7)));
        assert!(!liveness.hear(ms(1), BrokerId(2)));
        assert_eq!(liveness.bury(BrokerId(2), &image), None, "that is under way");
        assert_eq!(liveness.bury(BrokerId(9), &image), None);
    }

    #[test]
    fn a_fenced_broker_is_not_fenced_again() {
        let mut image = image();
        let fence = crate::command::FenceBroker {
            broker: BrokerId(1),
            incarnation: Uuid::from_u128(7),
            fenced: true,
        };
        apply(&mut image, &fence.into());
        let mut liveness = Liveness::new(ms(100));
        for now in [0, 40, 80] {
            assert!(liveness.silent(ms(now), Some(1), &image).is_empty());
        }
        let silent = liveness.silent(ms(120), Some(1), &image);
        assert_eq!(silent, [(BrokerId(2), Uuid::from_u128(7))]);
    }
}
