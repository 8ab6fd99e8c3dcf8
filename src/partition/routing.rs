//! Which partition of `__consumer_offsets` a group belongs to, and which of `__transaction_state` a
//! transactional id. Kafka's rule, because tools compute it themselves: Java's string hash, made positive as Kafka does it, modulo the partitions.

/// The partition that holds an id, of a coordinator's topic that has `partitions` of them.
///
/// # Panics
/// `partitions` is not positive.
#[must_use]
pub fn partition_for(id: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition");
    // Java has no positive counterpart of its smallest int; Kafka takes 0 for it.
    java_hash(id).checked_abs().unwrap_or(0) % partitions
}

/// `String.hashCode()` of Java: over UTF-16 units, wrapping.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_javas() {
        for (text, hash) in [
            ("", 0),
            ("a", 97),
            ("hello", 99_162_322),
            ("console-consumer-12345", java_reference("console-consumer-12345")),
            // Two UTF-16 units, one character.
            ("\u{1F600}", 1_772_899),
            // A well-known string whose hash is Java's smallest int.
            ("polygenelubricants", i32::MIN),
        ] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
    }

    /// The polynomial written out, in arithmetic that cannot wrap.
    fn java_reference(text: &str) -> i32 {
        let mut hash = 0_i128;
        for unit in text.encode_utf16() {
            hash = (hash * 31 + i128::from(unit)).rem_euclid(1 << 32);
        }
        u32::try_from(hash).unwrap().cast_signed()
    }

    #[test]
    fn the_smallest_hash_goes_to_partition_zero() {
        assert_eq!(partition_for("polygenelubricants", 50), 0);
    }

    #[test]
    fn negative_hashes_lose_their_sign() {
        // "group-b" hashes to a negative or positive number; the partition never is negative.
        for id in ["group-a", "group-b", "zzzzzzzz", "a much longer group id than most"] {
            let partition = partition_for(id, 50);
            assert_eq!(i64::from(partition), i64::from(java_hash(id)).abs() % 50, "{id}");
        }
    }
}
