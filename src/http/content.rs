//! Messages in JSON: keys, payloads and headers as text, base64 or JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::native::message::{Due, Header, Message, NewMessage};
use crate::native::property;

/// Bytes as a client gives them: a text, or an object with one of `text`, `base64` and `json`.
#[derive(Debug, Clone, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the forms are read by hand, for errors that say what is wrong")]
enum ContentForms {
    /// Text, stored in UTF-8.
    Plain(String),
    /// Text, stored in UTF-8.
    Text { text: String },
    /// Any bytes, in base64 with padding.
    Base64 { base64: String },
    /// Any JSON, stored as its text.
    Json { json: Value },
}

/// Bytes that a client gave.
#[derive(Debug, Clone)]
pub(super) struct Content(pub(super) Bytes);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORMS: &str = "expected a text, or an object with one of text, base64 and json";
        let wrong = |why: &str| Err(de::Error::custom(why));
        let mut members = match Value::deserialize(deserializer)? {
            Value::String(text) => return Ok(Self(Bytes::from(text))),
            Value::Object(members) => members.into_iter(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                return wrong(FORMS);
            }
        };
        match (members.next(), members.next()) {
            (Some((form, Value::String(text))), None) if form == "text" => {
                Ok(Self(Bytes::from(text)))
            }
            (Some((form, Value::String(text))), None) if form == "base64" => {
                match STANDARD.decode(text) {
                    Ok(bytes) => Ok(Self(Bytes::from(bytes))),
                    Err(error) => wrong(&format!("base64: {error}")),
                }
            }
            (Some((form, value)), None) if form == "json" => {
                Ok(Self(Bytes::from(value.to_string())))
            }
            (Some(_) | None, _) => wrong(FORMS),
        }
    }
}

/// Bytes as they are shown: text if they are UTF-8, else base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Shown {
    /// UTF-8.
    Text { text: String },
    /// Other bytes.
    Base64 { base64: String },
}

impl From<Bytes> for Shown {
    fn from(bytes: Bytes) -> Self {
        match String::from_utf8(bytes.into()) {
            Ok(text) => Self::Text { text },
            Err(error) => Self::Base64 { base64: STANDARD.encode(error.as_bytes()) },
        }
    }
}

/// A header to write. The same name may be given more than once.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderGiven {
    name: String,
    #[serde(default)]
    #[schema(value_type = Option<ContentForms>)]
    value: Option<Content>,
}

/// A header as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeaderShown {
    name: String,
    value: Option<Shown>,
}

/// Headers as they are shown.
pub(super) fn headers_shown(headers: Vec<Header>) -> Vec<HeaderShown> {
    let shown = |(name, value): Header| HeaderShown { name, value: value.map(Shown::from) };
    headers.into_iter().map(shown).collect()
}

/// Words, as a list or as one text with spaces.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(untagged)]
enum Words {
    #[default]
    None,
    Text(String),
    List(Vec<String>),
}

impl Words {
    fn list(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            Self::List(words) => words,
        }
    }
}

/// A message to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MessageGiven {
    /// What it says; absent or null is a record without a value, which deletes its key on a
    /// compacted topic.
    #[serde(default)]
    #[schema(value_type = Option<ContentForms>)]
    payload: Option<Content>,
    /// Its key, which decides its partition as with Kafka's own producers.
    #[serde(default)]
    #[schema(value_type = Option<ContentForms>)]
    key: Option<Content>,
    #[serde(default)]
    headers: Vec<HeaderGiven>,
    /// The partition; by default the key's or the group's, else one after the other.
    #[schema(minimum = 0)]
    partition: Option<i32>,
    /// The sender's own id. A message of the same id in the same topic that comes again within
    /// braid.native.message.id.window.ms is not written again. Kept in the header UNIQ_KEY.
    #[schema(max_length = 255)]
    message_id: Option<String>,
    /// One word by which consumers filter. Kept in the header TAGS.
    #[schema(max_length = 255)]
    tags: Option<String>,
    /// Words by which it is found again. Kept in the header KEYS.
    #[serde(default)]
    keys: Words,
    /// On a FIFO topic: the group whose messages keep their order. Kept in the header
    /// __SHARDINGKEY.
    #[schema(max_length = 64)]
    message_group: Option<String>,
    /// On a DELAY topic: when it is due, in milliseconds since 1970.
    #[schema(minimum = 0)]
    deliver_at_ms: Option<i64>,
    /// On a DELAY topic: after how many milliseconds it is due.
    #[schema(minimum = 0)]
    delay_ms: Option<i64>,
    /// Its time, in milliseconds since 1970; now by default.
    #[schema(minimum = 0)]
    timestamp_ms: Option<i64>,
}

impl MessageGiven {
    /// The message, or why it contradicts itself.
    pub(super) fn message(self) -> Result<NewMessage, &'static str> {
        let due = match (self.deliver_at_ms, self.delay_ms) {
            (Some(_), Some(_)) => return Err("deliverAtMs and delayMs are both given"),
            (Some(at), None) => Some(Due::At(at)),
            (None, Some(after)) => Some(Due::After(after)),
            (None, None) => None,
        };
        let header = |header: HeaderGiven| (header.name, header.value.map(|Content(bytes)| bytes));
        Ok(NewMessage {
            key: self.key.map(|Content(bytes)| bytes),
            payload: self.payload.map(|Content(bytes)| bytes),
            headers: self.headers.into_iter().map(header).collect(),
            partition: self.partition,
            message_id: self.message_id,
            tags: self.tags,
            keys: self.keys.list(),
            message_group: self.message_group,
            due,
            timestamp_ms: self.timestamp_ms,
        })
    }
}

/// A half message to store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HalfGiven {
    /// What it says.
    #[serde(default)]
    #[schema(value_type = Option<ContentForms>)]
    payload: Option<Content>,
    /// Its key, which decides its partition as with Kafka's own producers.
    #[serde(default)]
    #[schema(value_type = Option<ContentForms>)]
    key: Option<Content>,
    #[serde(default)]
    headers: Vec<HeaderGiven>,
    /// The partition; by default the key's, else one after the other.
    #[schema(minimum = 0)]
    partition: Option<i32>,
    /// The sender's own id: as long as the half message is known, the same id of the same group on
    /// the same topic gives the same transaction.
    #[schema(max_length = 255)]
    message_id: Option<String>,
    /// One word by which consumers filter.
    #[schema(max_length = 255)]
    tags: Option<String>,
    /// Words by which it is found again.
    #[serde(default)]
    keys: Words,
    /// Any live producer of this group is asked what became of the half message.
    #[schema(min_length = 1, max_length = 255)]
    producer_group: String,
    /// For so many milliseconds nobody is asked.
    #[schema(minimum = 0, maximum = 3_600_000)]
    check_immunity_ms: Option<u32>,
}

impl HalfGiven {
    /// The message, the group of its producers, and for how long they are not asked.
    pub(super) fn parts(self) -> (NewMessage, String, u32) {
        let header = |header: HeaderGiven| (header.name, header.value.map(|Content(bytes)| bytes));
        let message = NewMessage {
            key: self.key.map(|Content(bytes)| bytes),
            payload: self.payload.map(|Content(bytes)| bytes),
            headers: self.headers.into_iter().map(header).collect(),
            partition: self.partition,
            message_id: self.message_id,
            tags: self.tags,
            keys: self.keys.list(),
            ..NewMessage::default()
        };
        (message, self.producer_group, self.check_immunity_ms.unwrap_or(0))
    }
}

/// A message as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageShown {
    topic: String,
    partition: i32,
    offset: i64,
    /// Its time, in milliseconds since 1970.
    timestamp_ms: i64,
    key: Option<Shown>,
    payload: Option<Shown>,
    /// All headers, those of the properties too.
    headers: Vec<HeaderShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_group: Option<String>,
}

impl From<Message> for MessageShown {
    fn from(message: Message) -> Self {
        let text = |name| message.property(name).map(str::to_owned);
        let keys = message.property(property::KEYS).unwrap_or_default();
        Self {
            topic: message.topic.to_string(),
            partition: message.partition,
            offset: message.offset,
            timestamp_ms: message.timestamp_ms,
            message_id: text(property::MESSAGE_ID),
            tags: text(property::TAGS),
            keys: keys.split_whitespace().map(str::to_owned).collect(),
            message_group: text(property::MESSAGE_GROUP),
            key: message.key.map(Shown::from),
            payload: message.payload.map(Shown::from),
            headers: headers_shown(message.headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(json: &str) -> Result<Vec<u8>, String> {
        let content: Result<Content, _> = serde_json::from_str(json);
        content.map(|Content(bytes)| bytes.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn content_comes_in_four_forms() {
        assert_eq!(content("\"a\"").unwrap(), b"a");
        assert_eq!(content("{\"text\":\"\u{e4}\"}").unwrap(), "\u{e4}".as_bytes());
        assert_eq!(content("{\"base64\":\"/w==\"}").unwrap(), [255]);
        assert_eq!(content("{\"json\":{\"a\":[1]}}").unwrap(), b"{\"a\":[1]}");
        assert_eq!(content("{\"json\":null}").unwrap(), b"null");
        for wrong in [
            "1",
            "[]",
            "{}",
            "{\"text\":1}",
            "{\"base64\":\"?\"}",
            "{\"text\":\"a\",\"json\":1}",
            "{\"bytes\":\"\"}",
        ] {
            assert!(content(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_shown_as_text_where_they_are() {
        assert_eq!(Shown::from(Bytes::from("a")), Shown::Text { text: "a".to_owned() });
        let base64 = "/w==".to_owned();
        assert_eq!(Shown::from(Bytes::from_static(&[255])), Shown::Base64 { base64 });
    }
}
