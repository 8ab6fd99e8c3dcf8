//! Tag filters: `*`, or tags joined by `||`, as RocketMQ's consumers write them.

use std::sync::Arc;

/// Longest filter text, as in RocketMQ.
const TEXT_SIZE_BYTES_MAX: usize = 16_000;

/// Which tags a receiver wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagFilter {
    /// Every message, with or without a tag.
    All,
    /// Messages whose tag is one of these (sorted).
    OneOf(Arc<[Box<str>]>),
}

/// Why a text is no tag filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("a tag filter has at most {TEXT_SIZE_BYTES_MAX} bytes")]
    TooLong,
    #[error("a tag between || is empty; write `a || b`, or `*` for all messages")]
    EmptyTag,
    #[error("`*` stands alone: it takes every message")]
    StarAmongTags,
}

impl TagFilter {
    /// Parses `*`, an empty text (all messages, too), or `a || b || c`.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > TEXT_SIZE_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        if matches!(text.trim(), "" | "*") {
            return Ok(Self::All);
        }
        let mut tags = Vec::new();
        for tag in text.split("||").map(str::trim) {
            match tag {
                "" => return Err(FilterError::EmptyTag),
                "*" => return Err(FilterError::StarAmongTags),
                tag => tags.push(Box::from(tag)),
            }
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(Self::OneOf(tags.into()))
    }

    /// Whether a message with this tag is wanted.
    pub(crate) fn wants(&self, tag: Option<&[u8]>) -> bool {
        match (self, tag) {
            (Self::All, _) => true,
            (Self::OneOf(_), None) => false,
            (Self::OneOf(tags), Some(tag)) => {
                tags.binary_search_by(|candidate| candidate.as_bytes().cmp(tag)).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_taken_by_name() {
        let filter = TagFilter::parse(" paid||shipped || paid").unwrap();
        for (tag, wanted) in [
            (Some(&b"paid"[..]), true),
            (Some(b"shipped"), true),
            (Some(b"pai"), false),
            (Some(b""), false),
            (None, false),
        ] {
            assert_eq!(filter.wants(tag), wanted, "{tag:?}");
        }
    }

    #[test]
    fn a_star_and_nothing_take_everything() {
        for text in ["*", "", " * "] {
            let filter = TagFilter::parse(text).unwrap();
            assert!(filter.wants(None) && filter.wants(Some(b"x")), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        assert_eq!(TagFilter::parse("a || "), Err(FilterError::EmptyTag));
        assert_eq!(TagFilter::parse("a || *"), Err(FilterError::StarAmongTags));
        assert_eq!(TagFilter::parse(&"a".repeat(16_001)), Err(FilterError::TooLong));
    }
}
