//! Which brokers the controller has heard lately. Pure: told the time, the heartbeats and the image.
//!
//! Only the leader of the quorum listens. What it heard is not shared: a new leader gives everyone a
//! whole session to be heard, and so does one that was itself asleep.

use std::collections::BTreeMap;
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
}

impl Liveness {
    /// Brokers are silent that were not heard for `session`.
    pub(crate) fn new(session: Duration) -> Self {
        Self { session, leads: None, looked: Duration::ZERO, heard: BTreeMap::new() }
    }

    /// A broker was heard.
    pub(crate) fn hear(&mut self, now: Duration, broker: BrokerId) {
        self.heard.insert(broker, now);
    }

    /// The unfenced brokers that are silent. `leads` is the term this node leads, if it does.
    /// To be asked much more often than a session lasts.
    pub(crate) fn silent(
        &mut self,
        now: Duration,
        leads: Option<u64>,
        image: &MetadataImage,
    ) -> Vec<(BrokerId, Uuid)> {
        let slept = now.saturating_sub(self.looked) > self.session / 2;
        self.looked = now;
        let Some(term) = leads else {
            self.leads = None;
            return Vec::new();
        };
        let since = match self.leads {
            Some((known, since)) if known == term && !slept => since,
            Some(_) | None => now,
        };
        self.leads = Some((term, since));
        let is_silent = |broker: BrokerId| {
            let heard = self.heard.get(&broker).copied().unwrap_or_default().max(since);
            now.saturating_sub(heard) > self.session
        };
        let unfenced = image.brokers().filter(|broker| !broker.fenced);
        let silent = unfenced.filter(|broker| is_silent(broker.id));
        silent.map(|broker| (broker.id, broker.incarnation)).collect()
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
