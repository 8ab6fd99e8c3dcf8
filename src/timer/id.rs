//! The handle of a scheduled message, as its sender keeps it.
//!
//! To whoever holds it the text is opaque: base64url of version, bucket, offset and due time. It
//! says where to look, never what is there: that it names a message is checked against the record,
//! which must have the same due time.

use std::fmt;
use std::str::FromStr;

const VERSION: u8 = 1;
const SIZE_BYTES: usize = 17;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Which scheduled message. Prints as the text that senders are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TimerId {
    /// The bucket that holds it.
    pub(crate) bucket: u32,
    /// Its record in the bucket's queue.
    pub(crate) offset: u32,
    /// When it is due, in ms since 1970.
    pub(crate) due_ms: i64,
}

/// The text is no handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no handle of a scheduled message: a handle is the 23 characters that scheduling answered"
)]
pub(crate) struct NoTimerId;

impl fmt::Display for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; SIZE_BYTES + 1];
        let fields = [VERSION]
            .into_iter()
            .chain(self.bucket.to_be_bytes())
            .chain(self.offset.to_be_bytes())
            .chain(self.due_ms.to_be_bytes());
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        // The last group has two bytes: its last digit would be of a byte that is not there.
        let digits = bytes.chunks_exact(3).flat_map(|three| {
            let [a, b, c] = [three.first(), three.get(1), three.get(2)]
                .map(|byte| u32::from(byte.copied().unwrap_or_default()));
            let bits = a << 16 | b << 8 | c;
            [18, 12, 6, 0].map(|shift| DIGITS.get((bits >> shift & 63) as usize).copied())
        });
        digits.take(DIGITS_COUNT).flatten().try_for_each(|digit| write!(f, "{}", char::from(digit)))
    }
}

const DIGITS_COUNT: usize = SIZE_BYTES.div_ceil(3) * 4 - 1;

impl FromStr for TimerId {
    type Err = NoTimerId;

    fn from_str(text: &str) -> Result<Self, NoTimerId> {
        if text.len() != DIGITS_COUNT {
            return Err(NoTimerId);
        }
        let mut bytes = [0_u8; SIZE_BYTES];
        let (mut bits, mut held, mut at) = (0_u32, 0, 0);
        for digit in text.bytes() {
            let value = DIGITS.iter().position(|known| *known == digit).ok_or(NoTimerId)?;
            bits = bits << 6 | u32::try_from(value).map_err(|_| NoTimerId)?;
            held += 6;
            if held >= 8 {
                held -= 8;
                let [.., byte] = (bits >> held).to_be_bytes();
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
                at += 1;
            }
            bits &= (1 << held) - 1;
        }
        // One text per handle: the bits of the last digit that are of no byte are zero.
        let rest = bytes.split_first().filter(|(version, _)| bits == 0 && **version == VERSION);
        let (_, rest) = rest.ok_or(NoTimerId)?;
        let (bucket, rest) = rest.split_first_chunk().ok_or(NoTimerId)?;
        let (offset, rest) = rest.split_first_chunk().ok_or(NoTimerId)?;
        let due_ms = i64::from_be_bytes(*rest.first_chunk().ok_or(NoTimerId)?);
        let (bucket, offset) = (u32::from_be_bytes(*bucket), u32::from_be_bytes(*offset));
        Ok(Self { bucket, offset, due_ms })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_handle_has_golden_text() {
        let id = TimerId { bucket: 2_970_000, offset: 17, due_ms: 1_800_000_000_123 };
        assert_eq!(id.to_string(), "AQAtUZAAAAARAAABoxhcUHs");
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        let good = TimerId { bucket: 1, offset: 2, due_ms: 3 }.to_string();
        assert!(good.parse::<TimerId>().is_ok());
        let long = format!("{good}A");
        let padded = format!("{}=", &good[1..]);
        let other_version = good.replacen('A', "B", 1);
        let loose_bits = format!("{}N", &good[..22]);
        for text in
            ["", "A", &good[1..], &long, &padded, &other_version, &loose_bits, "ééééééééééé."]
        {
            assert_eq!(text.parse::<TimerId>(), Err(NoTimerId), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_handle_is_read_again(bucket: u32, offset: u32, due_ms: i64) {
            let id = TimerId { bucket, offset, due_ms };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_but_its_own_is_a_handle(text in "[A-Za-z0-9_-]{23}") {
            if let Ok(id) = text.parse::<TimerId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
