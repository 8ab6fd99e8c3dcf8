//! The name of a half message that its sender gets: text that nobody needs to take apart.
//!
//! It says where the half is and when it was born, so finding it needs no index, and a number
//! that somebody made up, or that another data directory handed out, names nothing.

use std::fmt;
use std::str::FromStr;

use crate::model::Offset;

/// Version of the text.
const VERSION: u8 = 1;
/// Version, offset and time of birth.
const SIZE_BYTES: usize = 1 + 8 + 8;

/// Which half message. As text: 34 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TransactionId {
    /// Where the half is in the queue of halves.
    pub(super) half: Offset,
    /// When it was sent, in ms since 1970.
    pub(super) born_ms: i64,
}

/// A text that is no transaction id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no transaction id: use the text that sending the half message answered, unchanged"
)]
pub(crate) struct NoTransactionId;

impl TransactionId {
    /// When the half message was sent, in ms since 1970.
    pub(crate) fn born_ms(self) -> i64 {
        self.born_ms
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION:02x}{:016x}{:016x}", self.half.0, self.born_ms)
    }
}

impl FromStr for TransactionId {
    type Err = NoTransactionId;

    fn from_str(text: &str) -> Result<Self, NoTransactionId> {
        let digits: &[u8; 2 * SIZE_BYTES] =
            text.as_bytes().try_into().map_err(|_| NoTransactionId)?;
        let mut bytes = [0u8; SIZE_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { unreachable!("chunks are of two") };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        let [version, rest @ ..] = bytes;
        let (half, born) = rest.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes);
        let half = Offset(number(half).map_err(|_| NoTransactionId)?);
        let born_ms = number(born).map_err(|_| NoTransactionId)?;
        if version != VERSION || half < Offset::ZERO {
            return Err(NoTransactionId);
        }
        Ok(Self { half, born_ms })
    }
}

fn nibble(digit: u8) -> Result<u8, NoTransactionId> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(NoTransactionId),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_34_digits_and_comes_back() {
        let id = TransactionId { half: Offset(0x1234), born_ms: 1_700_000_000_000 };
        let text = "0100000000000012340000018bcfe56800";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        let early = TransactionId { half: Offset(0), born_ms: -1 };
        assert_eq!(early.to_string().parse(), Ok(early));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let good = TransactionId { half: Offset(7), born_ms: 8 }.to_string();
        let cases = [
            String::new(),
            good[1..].to_owned(),
            format!("{good}0"),
            format!("02{}", &good[2..]),
            format!("01f{}", &good[3..]),
            good.replace('7', "g"),
            good.replace('7', "-"),
            "é".repeat(17),
            format!("+1{}", &good[2..]),
        ];
        for text in cases {
            assert_eq!(text.parse::<TransactionId>(), Err(NoTransactionId), "{text}");
        }
    }
}
