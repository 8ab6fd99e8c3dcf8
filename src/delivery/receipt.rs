//! Receipt handles: what a consumer shows to say what became of a message.
//!
//! A handle is opaque text to clients: base64url without padding of the layout below, ended by a
//! CRC-32C. It is a name, not a secret: whoever may use the group may make one up. What it names
//! is checked against the table, and an attempt that is over is refused there.

use crate::model::TopicId;

const VERSION: u8 = 1;
/// Version, group, topic, partition, generation, offset, attempt, checksum.
const SIZE_BYTES: usize = 1 + 4 + 16 + 4 + 8 + 8 + 2 + 4;
/// Base64 characters that `SIZE_BYTES` make.
const TEXT_LEN: usize = (SIZE_BYTES * 4).div_ceil(3);

/// One delivery of one message to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// [`Receipt::hash_of`] the group's name.
    pub(crate) group_hash: u32,
    pub(crate) topic: TopicId,
    pub(crate) partition: i32,
    /// Tells a lease from one before the group was reset.
    pub(crate) generation: i64,
    pub(crate) offset: i64,
    /// Which delivery of the message it was, from 1.
    pub(crate) attempt: u16,
}

/// Why a text is no receipt handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReceiptError {
    #[error("a receipt handle has {TEXT_LEN} characters, this has {len}")]
    Length { len: usize },
    #[error("this is no receipt handle: character {at} is none of base64url")]
    Character { at: usize },
    #[error("the receipt handle is damaged: its checksum does not match")]
    Checksum,
    #[error("receipt handles of version {version} are not known here")]
    Version { version: u8 },
}

impl Receipt {
    /// A group's mark in its handles.
    pub(crate) fn hash_of(group: &str) -> u32 {
        crc32c::crc32c(group.as_bytes())
    }

    /// The handle.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(SIZE_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.group_hash.to_be_bytes());
        bytes.extend_from_slice(self.topic.0.as_bytes());
        bytes.extend_from_slice(&self.partition.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.attempt.to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        to_text(&bytes)
    }

    /// Reads a handle from hostile hands.
    pub(crate) fn decode(text: &str) -> Result<Self, ReceiptError> {
        let bytes = from_text(text)?;
        let (body, checksum) = bytes.split_at(SIZE_BYTES - 4);
        if crc32c::crc32c(body).to_be_bytes() != *checksum {
            return Err(ReceiptError::Checksum);
        }
        let mut rest = body;
        let [version] = take(&mut rest);
        if version != VERSION {
            return Err(ReceiptError::Version { version });
        }
        Ok(Self {
            group_hash: u32::from_be_bytes(take(&mut rest)),
            topic: TopicId(uuid::Uuid::from_bytes(take(&mut rest))),
            partition: i32::from_be_bytes(take(&mut rest)),
            generation: i64::from_be_bytes(take(&mut rest)),
            offset: i64::from_be_bytes(take(&mut rest)),
            attempt: u16::from_be_bytes(take(&mut rest)),
        })
    }
}

/// The next bytes of a layout whose length was checked.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((taken, behind)) = rest.split_first_chunk::<N>() else {
        unreachable!("the fields are as long as the layout")
    };
    *rest = behind;
    *taken
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn to_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(TEXT_LEN);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for digit in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

fn from_text(text: &str) -> Result<[u8; SIZE_BYTES], ReceiptError> {
    if text.len() != TEXT_LEN {
        return Err(ReceiptError::Length { len: text.len() });
    }
    let mut bytes = [0; SIZE_BYTES];
    let mut filled = 0;
    let mut bits: u32 = 0;
    let mut held = 0;
    for (at, character) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|known| *known == character);
        let digit = digit.and_then(|digit| u32::try_from(digit).ok());
        bits = (bits << 6) | digit.ok_or(ReceiptError::Character { at })?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes[filled] = (bits >> held).to_be_bytes()[3];
            filled += 1;
            bits &= (1 << held) - 1;
        }
    }
    // One text per handle: bits that no byte takes are zero.
    if bits != 0 { Err(ReceiptError::Checksum) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            group_hash: Receipt::hash_of("orders"),
            topic: TopicId(uuid::Uuid::from_u128(7)),
            partition: 3,
            generation: 1_700_000_000_000,
            offset: 42,
            attempt: 2,
        }
    }

    #[test]
    fn a_handle_is_these_characters() {
        assert_eq!(receipt().encode(), GOLDEN);
        assert_eq!(Receipt::decode(GOLDEN), Ok(receipt()));
    }

    const GOLDEN: &str = "AQmnwIoAAAAAAAAAAAAAAAAAAAAHAAAAAwAAAYvP5WgAAAAAAAAAACoAAmGdzBk";

    #[test]
    fn a_changed_character_is_noticed() {
        let text = receipt().encode();
        for at in 0..text.len() {
            for replaced in ["A", "z", "*", "é"] {
                let mut bent = text.clone();
                bent.replace_range(at..=at, replaced);
                if bent != text {
                    assert!(Receipt::decode(&bent).is_err(), "{bent}");
                }
            }
        }
        assert_eq!(Receipt::decode(""), Err(ReceiptError::Length { len: 0 }));
        let cut = &text[..text.len() - 1];
        assert_eq!(Receipt::decode(cut), Err(ReceiptError::Length { len: TEXT_LEN - 1 }));
    }

    proptest! {
        #[test]
        fn handles_come_back(
            group_hash: u32, topic: u128, partition: i32, generation: i64, offset: i64,
            attempt: u16,
        ) {
            let topic = TopicId(uuid::Uuid::from_u128(topic));
            let receipt = Receipt { group_hash, topic, partition, generation, offset, attempt };
            prop_assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt));
        }

        #[test]
        fn nothing_breaks_the_reading(text in "[A-Za-z0-9_-]{60,66}|\\PC{0,80}") {
            let _any = Receipt::decode(&text);
        }
    }
}
