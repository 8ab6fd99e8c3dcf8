//! A message as senders give it and as readers get it, and what it must be to be taken.
//!
//! A message is a Kafka record; what RocketMQ calls properties are headers ([`property`]). Pure.

use std::sync::Arc;

use braid_protocol::records::Record;
use bytes::Bytes;

use super::{partitioner, property};
use crate::config::MessageType;

/// Longest message id, tag and key in bytes.
const WORD_SIZE_BYTES_MAX: usize = 255;
/// Longest message group in bytes, as RocketMQ has it.
const GROUP_SIZE_BYTES_MAX: usize = 64;

/// A header; names may stand more than once.
pub(crate) type Header = (String, Option<Bytes>);

/// A message that somebody sends.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewMessage {
    pub(crate) key: Option<Bytes>,
    pub(crate) payload: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
    /// None: the broker chooses.
    pub(crate) partition: Option<i32>,
    /// None: the broker makes one up.
    pub(crate) message_id: Option<String>,
    pub(crate) tags: Option<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) message_group: Option<String>,
    /// When it is to appear.
    pub(crate) due: Option<Due>,
    /// None: now.
    pub(crate) timestamp_ms: Option<i64>,
}

/// When a delayed message is to appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// At this wall time.
    At(i64),
    /// So many milliseconds from now.
    After(i64),
}

/// Why a message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidMessage {
    #[error("{what} has {size} bytes; it has to have 1 to {max}")]
    Length { what: &'static str, size: usize, max: usize },
    #[error("{what} holds the character {character:?}")]
    Character { what: &'static str, character: char },
    #[error("{what} and the header {header} are both given")]
    Twice { what: &'static str, header: &'static str },
    #[error("messageId {0} is given to more than one message of the request")]
    IdTwice(String),
    #[error("the time {0} ms is before 1970")]
    Time(i64),
    #[error("the topic takes {expected} messages: {why}")]
    Type { expected: &'static str, why: &'static str },
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It appears at once, or when it is due.
    Plain,
    /// It appears when it is committed.
    Half,
}

impl NewMessage {
    /// Checks the message alone, and against the type of its topic.
    pub(crate) fn check(&self, of: MessageType, way: Way) -> Result<(), InvalidMessage> {
        let words = [
            ("messageId", self.message_id.as_deref(), WORD_SIZE_BYTES_MAX),
            ("tags", self.tags.as_deref(), WORD_SIZE_BYTES_MAX),
            ("messageGroup", self.message_group.as_deref(), GROUP_SIZE_BYTES_MAX),
        ];
        let keys = self.keys.iter().map(|key| ("keys", Some(key.as_str()), WORD_SIZE_BYTES_MAX));
        for (what, word, max) in words.into_iter().chain(keys) {
            word.map_or(Ok(()), |word| check_word(what, word, max))?;
        }
        let own = [
            ("messageId", self.message_id.is_some(), property::MESSAGE_ID),
            ("tags", self.tags.is_some(), property::TAGS),
            ("keys", !self.keys.is_empty(), property::KEYS),
            ("messageGroup", self.message_group.is_some(), property::MESSAGE_GROUP),
        ];
        for (what, given, header) in own {
            if given && self.headers.iter().any(|(name, _)| name == header) {
                return Err(InvalidMessage::Twice { what, header });
            }
        }
        let times = self.timestamp_ms.into_iter().chain(self.due.map(|due| match due {
            Due::At(ms) | Due::After(ms) => ms,
        }));
        if let Some(before) = times.into_iter().find(|ms| *ms < 0) {
            return Err(InvalidMessage::Time(before));
        }
        self.check_type(of, way)
    }

    fn check_type(&self, of: MessageType, way: Way) -> Result<(), InvalidMessage> {
        let refused = |why| Err(InvalidMessage::Type { expected: of.name(), why });
        match (of, way) {
            (MessageType::Transaction, Way::Plain) => {
                return refused("send a half message and commit it");
            }
            (MessageType::Normal | MessageType::Fifo | MessageType::Delay, Way::Half) => {
                return refused("half messages are for topics of the type TRANSACTION");
            }
            (MessageType::Transaction, Way::Half)
            | (MessageType::Normal | MessageType::Fifo | MessageType::Delay, Way::Plain) => {}
        }
        match (of, self.group().is_some(), self.due.is_some()) {
            (MessageType::Fifo, false, _) => refused("messageGroup is missing"),
            (MessageType::Fifo, true, true) => {
                refused("deliverAtMs and delayMs are for topics of the type DELAY")
            }
            (MessageType::Delay, true, _) => refused("messageGroup is for topics of the type FIFO"),
            (MessageType::Delay, false, false) => refused("deliverAtMs or delayMs is missing"),
            (MessageType::Normal | MessageType::Transaction, true, _) => {
                refused("messageGroup is for topics of the type FIFO")
            }
            (MessageType::Normal | MessageType::Transaction, false, true) => {
                refused("deliverAtMs and delayMs are for topics of the type DELAY")
            }
            (MessageType::Fifo, true, false)
            | (MessageType::Delay, false, true)
            | (MessageType::Normal | MessageType::Transaction, false, false) => Ok(()),
        }
    }

    /// The message group, by the field or by the header.
    pub(crate) fn group(&self) -> Option<&[u8]> {
        let by_header = || {
            let header = self.headers.iter().find(|(name, _)| name == property::MESSAGE_GROUP)?;
            header.1.as_deref().filter(|group| !group.is_empty())
        };
        self.message_group.as_deref().map(str::as_bytes).or_else(by_header)
    }

    /// The partition that it goes to among so many: the one it names, its group's, its key's, or the
    /// one whose turn it is.
    pub(crate) fn partition_among(&self, count: usize, turn: usize) -> i32 {
        let by_content = || match (self.group(), &self.key) {
            (Some(group), _) => partitioner::of_key(group, count),
            (None, Some(key)) => partitioner::of_key(key, count),
            (None, None) => turn % count.max(1),
        };
        self.partition.unwrap_or_else(|| i32::try_from(by_content()).unwrap_or(0))
    }

    /// Bytes of its key, its value and its headers.
    pub(crate) fn texts_size_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        let words: usize = self.keys.iter().map(|key| key.len() + 1).sum();
        let word = |word: &Option<String>| word.as_ref().map_or(0, String::len);
        let named = word(&self.tags) + word(&self.message_group) + word(&self.message_id);
        length(&self.key) + length(&self.payload) + headers + words + named
    }

    /// Takes the id out of the headers, if it is there.
    pub(crate) fn take_id_header(&mut self) -> Option<String> {
        let at = self.headers.iter().position(|(name, _)| name == property::MESSAGE_ID)?;
        let (_, value) = self.headers.remove(at);
        String::from_utf8(value?.to_vec()).ok()
    }

    /// All headers, those of the properties first.
    pub(crate) fn all_headers(&self, message_id: &str) -> Vec<Header> {
        let text = |name: &str, value: &str| (name.to_owned(), Some(Bytes::from(value.to_owned())));
        let mut all = Vec::with_capacity(self.headers.len() + 2);
        if !self.headers.iter().any(|(name, _)| name == property::MESSAGE_ID) {
            all.push(text(property::MESSAGE_ID, message_id));
        }
        all.extend(self.tags.as_deref().map(|tags| text(property::TAGS, tags)));
        if !self.keys.is_empty() {
            all.push(text(property::KEYS, &self.keys.join(" ")));
        }
        all.extend(self.message_group.as_deref().map(|g| text(property::MESSAGE_GROUP, g)));
        all.extend(self.headers.iter().cloned());
        all
    }
}

fn check_word(what: &'static str, word: &str, max: usize) -> Result<(), InvalidMessage> {
    if word.is_empty() || word.len() > max {
        return Err(InvalidMessage::Length { what, size: word.len(), max });
    }
    let wrong = |c: &char| {
        c.is_control() || what == "tags" && *c == '|' || what == "keys" && c.is_whitespace()
    };
    match word.chars().find(wrong) {
        Some(character) => Err(InvalidMessage::Character { what, character }),
        None => Ok(()),
    }
}

/// A message as readers get it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) payload: Option<Bytes>,
    /// Names need not be UTF-8 in Kafka's records; here they are made so.
    pub(crate) headers: Vec<Header>,
}

impl Message {
    /// The message of a record.
    pub(crate) fn of(topic: &Arc<str>, partition: i32, record: &Record<'_>) -> Self {
        let headers = record.headers.iter().map(|(name, value)| {
            (String::from_utf8_lossy(name).into_owned(), value.map(Bytes::copy_from_slice))
        });
        Self {
            topic: Arc::clone(topic),
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp,
            key: record.key.map(Bytes::copy_from_slice),
            payload: record.value.map(Bytes::copy_from_slice),
            headers: headers.collect(),
        }
    }

    /// The text of a property.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Whether it is found by this word: its key, its id, or one of its KEYS.
    pub(crate) fn is_found_by(&self, word: &str) -> bool {
        let keys = self.property(property::KEYS).unwrap_or_default();
        self.key.as_deref() == Some(word.as_bytes())
            || self.property(property::MESSAGE_ID) == Some(word)
            || keys.split_whitespace().any(|key| key == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> NewMessage {
        NewMessage::default()
    }

    #[test]
    fn each_type_takes_its_own_messages_only() {
        let group = || NewMessage { message_group: Some("g".to_owned()), ..plain() };
        let due = || NewMessage { due: Some(Due::After(1)), ..plain() };
        let both = || NewMessage { due: Some(Due::At(1)), ..group() };
        let by_header = || {
            let header = (property::MESSAGE_GROUP.to_owned(), Some(Bytes::from_static(b"g")));
            NewMessage { headers: vec![header], ..plain() }
        };
        for (of, way, taken) in [
            // plain, group, due, both, a group by its header
            (MessageType::Normal, Way::Plain, [true, false, false, false, false]),
            (MessageType::Fifo, Way::Plain, [false, true, false, false, true]),
            (MessageType::Delay, Way::Plain, [false, false, true, false, false]),
            (MessageType::Transaction, Way::Plain, [false; 5]),
            (MessageType::Normal, Way::Half, [false; 5]),
            (MessageType::Fifo, Way::Half, [false; 5]),
            (MessageType::Delay, Way::Half, [false; 5]),
            (MessageType::Transaction, Way::Half, [true, false, false, false, false]),
        ] {
            let messages = [plain(), group(), due(), both(), by_header()];
            let found = messages.map(|message| message.check(of, way).is_ok());
            assert_eq!(found, taken, "{of:?} {way:?}");
        }
    }

    #[test]
    fn words_that_cannot_be_are_refused() {
        let check = |message: NewMessage| message.check(MessageType::Normal, Way::Plain);
        let word = |text: &str| Some(text.to_owned());
        let long = "x".repeat(256);
        for message in [
            NewMessage { message_id: word(""), ..plain() },
            NewMessage { message_id: word(&long), ..plain() },
            NewMessage { message_id: word("a\nb"), ..plain() },
            NewMessage { tags: word("a|b"), ..plain() },
            NewMessage { tags: word(""), ..plain() },
            NewMessage { keys: vec!["a b".to_owned()], ..plain() },
            NewMessage { timestamp_ms: Some(-1), ..plain() },
            NewMessage {
                tags: word("a"),
                headers: vec![(property::TAGS.to_owned(), None)],
                ..plain()
            },
        ] {
            assert!(check(message.clone()).is_err(), "{message:?}");
        }
        let fifo = NewMessage { message_group: word(&"x".repeat(65)), ..plain() };
        assert!(fifo.check(MessageType::Fifo, Way::Plain).is_err());
        let taken = NewMessage {
            message_id: word("Ä-1"),
            tags: word("a b"),
            keys: vec!["k1".to_owned(), "k2".to_owned()],
            headers: vec![("h".to_owned(), None), ("h".to_owned(), None)],
            ..plain()
        };
        assert_eq!(check(taken), Ok(()));
    }
}
