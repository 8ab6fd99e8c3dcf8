//! What a version of an API can say or understand, as questions with a name.
//!
//! Handlers ask here instead of comparing versions with numbers.

/// Produce names its topics by id.
#[must_use]
pub fn produce_has_topic_ids(version: i16) -> bool {
    version >= 13
}

/// The producer may send batches compressed by zstd.
#[must_use]
pub fn produce_has_zstd(version: i16) -> bool {
    version >= 7
}

/// Writing in a transaction adds the partition to it without a request of its own.
#[must_use]
pub fn produce_adds_partitions_to_transaction(version: i16) -> bool {
    version >= 12
}

/// The producer knows the error that asks for an abort.
#[must_use]
pub fn produce_has_abortable_error(version: i16) -> bool {
    version >= 11
}

/// The producer's epoch is raised at the end, and the answer tells the new one.
#[must_use]
pub fn end_txn_raises_epoch(version: i16) -> bool {
    version >= 5
}

/// Committing offsets adds the group to the transaction without a request of its own.
#[must_use]
pub fn txn_offset_commit_adds_group(version: i16) -> bool {
    version >= 5
}

/// The producer knows the error that asks for an abort.
#[must_use]
pub fn txn_offset_commit_has_abortable_error(version: i16) -> bool {
    version >= 4
}

/// TxnOffsetCommit names its topics by id.
#[must_use]
pub fn txn_offset_commit_has_topic_ids(version: i16) -> bool {
    version >= 6
}

/// TxnOffsetCommit knows member epochs, and the error for a group that does not exist.
#[must_use]
pub fn txn_offset_commit_has_member_epochs(version: i16) -> bool {
    version >= 6
}

/// A marker says which transaction.version it is of.
#[must_use]
pub fn write_txn_markers_has_transaction_versions(version: i16) -> bool {
    version >= 2
}

/// The request may name several transactions, and is a broker's.
#[must_use]
pub fn add_partitions_is_batched(version: i16) -> bool {
    version >= 4
}

/// The response can name the current leader and its endpoint.
#[must_use]
pub fn produce_has_leader_hints(version: i16) -> bool {
    version >= 10
}

/// Fetch names its topics by id.
#[must_use]
pub fn fetch_has_topic_ids(version: i16) -> bool {
    version >= 13
}

/// Fetch sessions exist; below, the session id and epoch mean nothing.
#[must_use]
pub fn fetch_has_sessions(version: i16) -> bool {
    version >= 7
}

/// The consumer understands batches compressed by zstd.
#[must_use]
pub fn fetch_has_zstd(version: i16) -> bool {
    version >= 10
}

/// The response can name the current leader of a partition and where the log diverges.
#[must_use]
pub fn fetch_has_leader_hints(version: i16) -> bool {
    version >= 12
}

/// The response can name the endpoints of the leaders it hints at.
#[must_use]
pub fn fetch_has_node_endpoints(version: i16) -> bool {
    version >= 16
}

/// The consumer names its rack and may be sent to a nearer replica.
#[must_use]
pub fn fetch_has_preferred_replica(version: i16) -> bool {
    version >= 11
}

/// Which special timestamps a ListOffsets request of this version may name.
#[must_use]
pub fn list_offsets_has_timestamp(version: i16, timestamp: i64) -> bool {
    match timestamp {
        -2.. => true,
        -3 => version >= 7,
        -4 => version >= 8,
        -5 => version >= 9,
        -6 => version >= 11,
        i64::MIN..=-7 => false,
    }
}

/// Metadata can be asked for by topic id. Versions 10 and 11 carry the field but must not use it.
#[must_use]
pub fn metadata_has_topic_ids(version: i16) -> bool {
    version >= 12
}

/// A listener the leader lacks has an error of its own; below, the leader counts as missing.
#[must_use]
pub fn metadata_has_listener_error(version: i16) -> bool {
    version >= 6
}

/// OffsetCommit names its topics by id.
#[must_use]
pub fn offset_commit_has_topic_ids(version: i16) -> bool {
    version >= 10
}

/// A group may be of the consumer protocol, whose errors older clients do not know.
#[must_use]
pub fn offset_commit_has_member_epochs(version: i16) -> bool {
    version >= 9
}

/// OffsetFetch names its topics by id.
#[must_use]
pub fn offset_fetch_has_topic_ids(version: i16) -> bool {
    version >= 10
}

/// Coordinators of share groups can be looked up.
#[must_use]
pub fn find_coordinator_has_share(version: i16) -> bool {
    version >= 6
}

/// A first join is answered with a member id that the client joins again with.
#[must_use]
pub fn join_group_requires_member_id(version: i16) -> bool {
    version >= 4
}

/// The leader can be told to keep the assignment as it is.
#[must_use]
pub fn join_group_can_skip_assignment(version: i16) -> bool {
    version >= 9
}

/// The client understands an answer that says a quota held the request back.
#[must_use]
pub fn create_topics_has_throttling_error(version: i16) -> bool {
    version >= 6
}

/// See [`create_topics_has_throttling_error`].
#[must_use]
pub fn delete_topics_has_throttling_error(version: i16) -> bool {
    version >= 5
}

/// The client knows that deletion can be switched off.
#[must_use]
pub fn delete_topics_has_disabled_error(version: i16) -> bool {
    version >= 3
}

/// A group that was not deleted has a text beside its code.
#[must_use]
pub fn delete_groups_has_messages(version: i16) -> bool {
    version >= 3
}

/// A log directory says whether it is cordoned.
#[must_use]
pub fn describe_log_dirs_has_cordons(version: i16) -> bool {
    version >= 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_came_one_by_one() {
        for (timestamp, first) in [(0, 1), (-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            assert!(list_offsets_has_timestamp(first, timestamp));
            assert!(first == 1 || !list_offsets_has_timestamp(first - 1, timestamp));
        }
        assert!(!list_offsets_has_timestamp(11, -7));
    }
}
