//! What a configuration key is: its name, type, default, bounds, doc and effect.
//!
//! Every key is declared exactly once, as a `const` of the tables in [`super::broker`],
//! [`super::inert`] and [`super::topic`]; reading, checking, DescribeConfigs, `conf/` and `docs/`
//! all follow from that declaration. Nothing here holds a value that a user has set.

use super::value::{InvalidValue, Value};

/// Kafka's types of configuration values, by the names and codes of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// The code in a DescribeConfigs response.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// The name as Kafka's messages have it, in capitals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// Which values of a key's type are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Every value of the type.
    Any,
    /// Numbers from the first bound to the second, both included.
    Range(Option<i64>, Option<i64>),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words.
    EachOf(&'static [&'static str]),
    /// A list with at least one part and no empty ones.
    NonEmpty,
    /// A gzip level: -1 or 1 to 9.
    GzipLevel,
    /// `*` or a list of `partition:broker`.
    ThrottledReplicas,
    /// `earliest`, `latest` or `by_duration:` and an ISO 8601 duration.
    ShareOffsetReset,
    /// A list of 1 to 32 durations in milliseconds, none above 7 days.
    RestsMs,
    /// Empty, or an address of the form `http://host[:port][/path]`.
    HttpUrl,
    /// 22 characters of URL-safe base64: a UUID as Kafka writes it.
    ClusterId,
    /// A list of `address:count`, as one text.
    CountByAddress,
}

/// How Kafka lets a broker key change while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    ReadOnly,
    PerBroker,
    ClusterWide,
}

impl Update {
    /// The name as Kafka's documentation has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::PerBroker => "per-broker",
            Self::ClusterWide => "cluster-wide",
        }
    }
}

/// What setting a key does in Braid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What the doc says.
    Full,
    /// Less than in Kafka; the text says what is missing and ends a sentence.
    Partial(&'static str),
    /// Nothing: the key is known, setting it warns. The text completes "has no effect because …".
    Nothing(&'static str),
    /// Set to anything but its default it stops the start, because ignoring it would be dangerous.
    /// The text says why and ends a sentence.
    Refused(&'static str),
}

/// Another key that may hold the same setting, and how its unit converts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// Name of the broker key.
    pub name: &'static str,
    /// Factor from the synonym's unit to the key's.
    pub factor: i64,
}

impl Synonym {
    pub(super) const fn same(name: &'static str) -> Self {
        Self { name, factor: 1 }
    }
    pub(super) const fn minutes(name: &'static str) -> Self {
        Self { name, factor: 60_000 }
    }
    pub(super) const fn hours(name: &'static str) -> Self {
        Self { name, factor: 3_600_000 }
    }
}

/// One declared key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Kafka's name, or ours under `braid.`.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// The default as text; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// What a value must fulfil beyond its type.
    pub check: Check,
    /// How Kafka lets it change at run time. Topic keys are always changeable.
    pub update: Update,
    /// What it does here.
    pub effect: Effect,
    /// Broker keys that may hold the setting, strongest first. For a broker key that includes the
    /// key itself; empty means only itself. For a topic key these are its broker defaults.
    pub synonyms: &'static [Synonym],
    /// Where the default is not Kafka's: Kafka's, and why ours differs.
    pub differs: Option<&'static str>,
    doc: &'static str,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: Option<&'static str>) -> Self {
        Self {
            name,
            kind,
            default,
            check: Check::Any,
            update: Update::ReadOnly,
            effect: Effect::Full,
            synonyms: &[],
            differs: None,
            doc: "",
        }
    }

    pub(super) const fn boolean(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Boolean, Some(default))
    }
    pub(super) const fn string(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::String, Some(default))
    }
    pub(super) const fn int(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Int, Some(default))
    }
    pub(super) const fn short(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Short, Some(default))
    }
    pub(super) const fn long(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Long, Some(default))
    }
    pub(super) const fn double(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Double, Some(default))
    }
    pub(super) const fn list(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::List, Some(default))
    }
    /// A key of Kafka's that is known by its name only.
    pub(super) const fn foreign(
        name: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        because: &'static str,
    ) -> Self {
        Self::new(name, kind, default).nothing(because).doc("One of Kafka's settings.")
    }
    /// A key whose default is null.
    pub(super) const fn null(name: &'static str, kind: Kind) -> Self {
        Self::new(name, kind, None)
    }

    pub(super) const fn at_least(mut self, min: i64) -> Self {
        self.check = Check::Range(Some(min), None);
        self
    }
    pub(super) const fn between(mut self, min: i64, max: i64) -> Self {
        self.check = Check::Range(Some(min), Some(max));
        self
    }
    pub(super) const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }
    pub(super) const fn cluster_wide(mut self) -> Self {
        self.update = Update::ClusterWide;
        self
    }
    pub(super) const fn per_broker(mut self) -> Self {
        self.update = Update::PerBroker;
        self
    }
    pub(super) const fn synonyms(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }
    pub(super) const fn partial(mut self, missing: &'static str) -> Self {
        self.effect = Effect::Partial(missing);
        self
    }
    pub(super) const fn nothing(mut self, because: &'static str) -> Self {
        self.effect = Effect::Nothing(because);
        self
    }
    pub(super) const fn refused(mut self, why: &'static str) -> Self {
        self.effect = Effect::Refused(why);
        self
    }
    pub(super) const fn differs(mut self, note: &'static str) -> Self {
        self.differs = Some(note);
        self
    }
    pub(super) const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// What it does, in one to three sentences.
    #[must_use]
    pub fn doc_text(&self) -> &'static str {
        self.doc.trim_start()
    }

    /// Which values it takes, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        let kind = match self.kind {
            Kind::Boolean => "true or false",
            Kind::String | Kind::Password => "text",
            Kind::Int => "a 32-bit integer",
            Kind::Short => "a 16-bit integer",
            Kind::Long => "a 64-bit integer",
            Kind::Double => "a number",
            Kind::List => "a list separated by commas",
            Kind::Class => "the name of a class",
        };
        match self.check {
            Check::Any | Check::Range(None, None) => kind.to_owned(),
            Check::Range(Some(min), None) => format!("{kind} of at least {min}"),
            Check::Range(None, Some(max)) => format!("{kind} of at most {max}"),
            Check::Range(Some(min), Some(max)) => format!("{kind} from {min} to {max}"),
            Check::OneOf(words) => format!("one of {}", words.join(", ")),
            Check::EachOf(words) => format!("a list of {}", words.join(", ")),
            Check::NonEmpty => format!("{kind}, not empty"),
            Check::GzipLevel => "-1, or 1 to 9".to_owned(),
            Check::ThrottledReplicas => "* or a list of partition:broker".to_owned(),
            Check::ShareOffsetReset => {
                "earliest, latest, or by_duration: and a duration such as PT1H".to_owned()
            }
            Check::RestsMs => "1 to 32 durations in ms, such as 1000,5000,30000".to_owned(),
            Check::HttpUrl => "an address such as http://127.0.0.1:8000/path".to_owned(),
            Check::ClusterId => "22 characters of URL-safe base64".to_owned(),
            Check::CountByAddress => "a list of address:count, such as 10.0.0.1:50".to_owned(),
        }
    }

    /// Whether values must never be shown.
    #[must_use]
    pub fn sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Reads a value of this key.
    ///
    /// # Errors
    /// [`InvalidValue`], in Kafka's words, when the text is not of the type or out of bounds.
    pub fn parse(&self, text: &str) -> Result<Value, InvalidValue> {
        Value::parse(self, text)
    }

    /// The default as a value.
    #[must_use]
    pub fn default_value(&self) -> Option<Value> {
        let text = self.default?;
        match self.parse(text) {
            Ok(value) => Some(value),
            // A test reads every declared default.
            Err(error) => unreachable!("declared default: {error}"),
        }
    }
}

/// Declares keys as constants and lists all of them. The doc comment of a key is its doc text.
macro_rules! keys {
    ($(#[$meta:meta])* $all:ident: $($(#[doc = $doc:literal])+ $name:ident = $key:expr;)+) => {
        $($(#[doc = $doc])+ pub(super) const $name: Key = $key.doc(concat!($($doc),+));)+
        $(#[$meta])*
        pub(super) static $all: &[Key] = &[$($name),+];
    };
}
pub(super) use keys;
