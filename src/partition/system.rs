//! The queues that are no partition of any topic: the broker's own, which no client can name.
//!
//! The metadata hands out queue numbers from below; these are taken from above, and never meet.

use crate::model::QueueId;

/// Half messages, each with the batch that it is to become.
pub(crate) const HALF: QueueId = QueueId(0xF000_0001);
/// What became of deliveries.
pub(crate) const DELIVERY: QueueId = QueueId(0xF000_0002);
/// Ids that senders gave their messages.
pub(crate) const MESSAGE_IDS: QueueId = QueueId(0xF000_0003);
/// Which buckets of timers are never written to again.
pub(crate) const TIMER_NOTES: QueueId = QueueId(0xF000_0004);

/// What became of half messages.
pub(crate) const HALF_EVENTS: QueueId = QueueId(0xF000_0005);

const RECEIPTS: u32 = 0x8000_0000;

const TIMERS: u32 = 0xC000_0000;
const TIMER_ENDS: u32 = 0xD000_0000;
/// Buckets from here on have no queue: with 600 s a bucket, the year 7000.
pub(crate) const TIMER_BUCKETS: u32 = 0x1000_0000;

/// Whether a queue is one of the broker's own.
pub(crate) fn is_system(queue: QueueId) -> bool {
    queue >= QueueId::PARTITIONS_END
}

/// Messages that are due in a bucket of time, numbered since 1970.
pub(crate) fn timer_bucket(bucket: u32) -> QueueId {
    QueueId(TIMERS + bucket.min(TIMER_BUCKETS - 1))
}

/// Which timers of a bucket were delivered or recalled.
pub(crate) fn timer_ends(bucket: u32) -> QueueId {
    QueueId(TIMER_ENDS + bucket.min(TIMER_BUCKETS - 1))
}

/// The bucket whose messages a queue holds.
pub(crate) fn bucket_of(queue: QueueId) -> Option<u32> {
    (TIMERS..TIMER_ENDS).contains(&queue.0).then(|| queue.0 - TIMERS)
}

/// The bucket whose ends a queue holds.
pub(crate) fn ends_of(queue: QueueId) -> Option<u32> {
    (TIMER_ENDS..TIMER_ENDS + TIMER_BUCKETS).contains(&queue.0).then(|| queue.0 - TIMER_ENDS)
}

/// Receipts for batches that producers sent to a partition whose records are delivered later: what
/// makes a batch that is sent again known is kept beside a queue, and this one has no other use.
pub(crate) fn receipts(partition: QueueId) -> QueueId {
    QueueId(RECEIPTS | partition.0)
}

/// Whether a queue holds receipts.
pub(crate) fn is_receipts(queue: QueueId) -> bool {
    (RECEIPTS..TIMERS).contains(&queue.0)
}

/// The partition whose receipts a queue holds.
pub(crate) fn receipts_of(queue: QueueId) -> Option<QueueId> {
    is_receipts(queue).then(|| QueueId(queue.0 - RECEIPTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_own_queue_has_a_number_of_its_own() {
        let last = TIMER_BUCKETS - 1;
        let last_partition = QueueId(QueueId::PARTITIONS_END.0 - 1);
        let own = [
            receipts(QueueId(0)),
            receipts(last_partition),
            timer_bucket(0),
            timer_bucket(last),
            timer_ends(0),
            timer_ends(last),
            HALF,
            DELIVERY,
            MESSAGE_IDS,
            TIMER_NOTES,
            HALF_EVENTS,
        ];
        assert!(own.is_sorted_by(|a, b| a < b), "{own:?}");
        assert!(own.iter().all(|queue| is_system(*queue)));
        assert_eq!(bucket_of(timer_bucket(7)), Some(7));
        assert_eq!(bucket_of(timer_ends(7)), None);
        assert_eq!((ends_of(timer_ends(7)), ends_of(timer_bucket(7))), (Some(7), None));
        assert_eq!(receipts_of(receipts(last_partition)), Some(last_partition));
        assert_eq!(receipts_of(timer_bucket(0)), None);
    }
}
