//! Kafka's rules for topic names, with Kafka's sentences.

use serde::{Deserialize, Serialize};

/// The longest topic name, in characters.
pub const NAME_LEN_MAX: usize = 249;

/// Why a topic name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum InvalidTopicName {
    /// No character at all.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// `.` or `..`.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// Longer than [`NAME_LEN_MAX`].
    #[error(
        "Topic name is invalid: the length of '{0}' is longer than the max allowed length {max}",
        max = NAME_LEN_MAX
    )]
    TooLong(String),
    /// A character outside `[a-zA-Z0-9._-]`.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII \
         alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
}

/// Checks a topic name.
///
/// # Errors
/// The first rule that the name breaks.
pub fn check(name: &str) -> Result<(), InvalidTopicName> {
    if name.is_empty() {
        return Err(InvalidTopicName::Empty);
    }
    if name == "." || name == ".." {
        return Err(InvalidTopicName::Dots(name.to_owned()));
    }
    if name.chars().count() > NAME_LEN_MAX {
        return Err(InvalidTopicName::TooLong(name.to_owned()));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(InvalidTopicName::Characters(name.to_owned()));
    }
    Ok(())
}

/// What metric names make of a topic name: `.` and `_` fall together. None for a name that has
/// neither and therefore collides with nothing.
#[must_use]
pub fn unified(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kafka_judges_them() {
        let longest = "x".repeat(249);
        for good in ["a", "A.b_c-9", "...", "__consumer_offsets", longest.as_str()] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(250);
        for (bad, says) in [
            ("", "Topic name is invalid: the empty string is not allowed"),
            (".", "Topic name is invalid: '.' is not allowed"),
            ("..", "Topic name is invalid: '..' is not allowed"),
            (
                "a/b",
                "Topic name is invalid: 'a/b' contains one or more characters other than ASCII \
                 alphanumerics, '.', '_' and '-'",
            ),
            (
                "\u{e9}t\u{e9}",
                "Topic name is invalid: '\u{e9}t\u{e9}' contains one or more characters other \
                 than ASCII alphanumerics, '.', '_' and '-'",
            ),
        ] {
            assert_eq!(check(bad).unwrap_err().to_string(), says);
        }
        assert_eq!(
            check(&too_long).unwrap_err().to_string(),
            format!(
                "Topic name is invalid: the length of '{too_long}' is longer than the max \
                 allowed length 249"
            )
        );
    }

    #[test]
    fn only_names_with_a_dot_or_an_underscore_can_collide() {
        assert_eq!(unified("plain-name"), None);
        assert_eq!(unified("a.b"), unified("a_b"));
        assert_ne!(unified("a.b"), unified("a_c"));
    }
}
