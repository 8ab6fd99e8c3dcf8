//! The broker's loggers and their levels, as BROKER_LOGGER resources show and set them.
//!
//! Knows names, levels and the filter they amount to; installing the filter is `main`'s, handed in
//! as a function. A level that was set holds until the process ends, as in Kafka.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

/// Everything that has no logger of its own.
pub const ROOT: &str = "root";

/// Names that levels can be set of, [`ROOT`] apart: the parts of the broker, by the beginnings of
/// their log targets. Kafka's tools take letters, digits, dots, dashes and underscores only, so
/// `braid.store` stands for what `braid::store` logs.
const NAMES: &[&str] = &[
    "braid",
    "braid.api",
    "braid.cli",
    "braid.config",
    "braid.delivery",
    "braid.group",
    "braid.half",
    "braid.http",
    "braid.loggers",
    "braid.native",
    "braid.node",
    "braid.partition",
    "braid.reconcile",
    "braid.replication",
    "braid.server",
    "braid.store",
    "braid.timer",
    "braid.traffic",
    "braid.txn",
    "braid_base",
    "braid_protocol",
    "braid_raft",
    "openraft",
];

/// Kafka's log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    /// Nothing here is logged at this level, so it means silence.
    Fatal,
}

/// Kafka's names of the levels, as its messages list them.
pub const LEVEL_NAMES: &str = "DEBUG, ERROR, FATAL, INFO, TRACE, WARN";

impl Level {
    /// The level of Kafka's name, in capitals.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "TRACE" => Some(Self::Trace),
            "DEBUG" => Some(Self::Debug),
            "INFO" => Some(Self::Info),
            "WARN" => Some(Self::Warn),
            "ERROR" => Some(Self::Error),
            "FATAL" => Some(Self::Fatal),
            _ => None,
        }
    }

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// The word in a filter.
    fn directive(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "off",
        }
    }

    fn of_directive(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "off" => Some(Self::Fatal),
            word => Self::of_name(&word.to_ascii_uppercase()),
        }
    }
}

/// Puts a filter in force.
pub type Install = Box<dyn Fn(&str) + Send + Sync>;

/// The loggers and what their levels are.
pub struct Loggers {
    /// The filter the process started with.
    start: String,
    set: Mutex<BTreeMap<&'static str, Level>>,
    install: Install,
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loggers").field("start", &self.start).field("set", &self.set).finish()
    }
}

impl Loggers {
    /// Loggers under a filter (`info,openraft=warn`), and what puts another in force.
    #[must_use]
    pub fn new(start: impl Into<String>, install: Install) -> Self {
        Self { start: start.into(), set: Mutex::default(), install }
    }

    /// The logger of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static str> {
        std::iter::once(&ROOT).chain(NAMES).find(|known| **known == name).copied()
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().chain(std::iter::once(&ROOT)).copied()
    }

    /// Every logger with the level in force, by name.
    #[must_use]
    pub fn levels(&self) -> Vec<(&'static str, Level)> {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        Self::names().map(|name| (name, self.level(name, &set))).collect()
    }

    /// Sets levels, or with `None` takes back what was set, and puts them in force at once.
    pub fn change(&self, changes: impl IntoIterator<Item = (&'static str, Option<Level>)>) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, level) in changes {
            match level {
                Some(level) => set.insert(name, level),
                None => set.remove(name),
            };
        }
        let mut filter = self.start.clone();
        for (name, level) in &*set {
            let _grows = match *name {
                ROOT => write!(filter, ",{}", level.directive()),
                name => write!(filter, ",{}={}", target(name), level.directive()),
            };
        }
        (self.install)(&filter);
    }

    /// The longest name that the logger's begins with decides; what was set later is stronger.
    fn level(&self, name: &str, set: &BTreeMap<&'static str, Level>) -> Level {
        let own = target(name);
        let start = self.start.split(',').filter_map(directive);
        let start = start.map(|(target, level)| (target.to_owned(), level));
        let later = set.iter().map(|(name, level)| (target(name), *level));
        start
            .chain(later)
            .filter(|(target, _)| own.starts_with(target.as_str()))
            .max_by_key(|(target, _)| target.len())
            .map_or(Level::Error, |(_, level)| level)
    }
}

impl Default for Loggers {
    /// For a broker inside another process, whose log is not the broker's to change.
    fn default() -> Self {
        Self::new("info", Box::new(|_| ()))
    }
}

/// What a logger's targets begin with: nothing for the root.
fn target(name: &str) -> String {
    if name == ROOT { String::new() } else { name.replace('.', "::") }
}

/// Target and level of one directive; those that look at spans say nothing of a logger.
fn directive(text: &str) -> Option<(&str, Level)> {
    let text = text.trim();
    if text.contains('[') {
        return None;
    }
    match text.split_once('=') {
        Some((target, level)) => Some((target.trim(), Level::of_directive(level.trim())?)),
        None => match Level::of_directive(text) {
            Some(level) => Some(("", level)),
            None => (!text.is_empty()).then_some((text, Level::Trace)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn level(loggers: &Loggers, name: &str) -> &'static str {
        let levels = loggers.levels();
        levels.iter().find(|(known, _)| *known == name).map(|(_, level)| level.name()).unwrap()
    }

    #[test]
    fn a_logger_has_the_level_of_the_longest_name_it_begins_with() {
        let installed = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&installed);
        let install = Box::new(move |filter: &str| filter.clone_into(&mut seen.lock().unwrap()));
        let loggers = Loggers::new("info,openraft=warn,x[span]=trace", install);
        assert_eq!((level(&loggers, "root"), level(&loggers, "braid.store")), ("INFO", "INFO"));
        assert_eq!(level(&loggers, "openraft"), "WARN");
        loggers.change([("braid", Some(Level::Debug)), ("braid.store", Some(Level::Fatal))]);
        assert_eq!(level(&loggers, "braid.api"), "DEBUG");
        assert_eq!((level(&loggers, "braid.store"), level(&loggers, "root")), ("FATAL", "INFO"));
        let filter = "info,openraft=warn,x[span]=trace,braid=debug,braid::store=off";
        assert_eq!(*installed.lock().unwrap(), filter);
        loggers.change([("braid.store", None), ("root", Some(Level::Error))]);
        assert_eq!((level(&loggers, "braid.store"), level(&loggers, "root")), ("DEBUG", "ERROR"));
        let filter = "info,openraft=warn,x[span]=trace,braid=debug,error";
        assert_eq!(*installed.lock().unwrap(), filter);
    }

    /// The filter must mean to its reader what is told of it.
    #[test]
    fn every_filter_reads() {
        let install = Box::new(|filter: &str| {
            tracing_subscriber::EnvFilter::try_new(filter).unwrap();
        });
        let loggers = Loggers::new("info,openraft=warn", install);
        for name in Loggers::names() {
            for wanted in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"] {
                loggers.change([(name, Level::of_name(wanted))]);
                assert_eq!(level(&loggers, name), wanted);
            }
        }
    }

    #[test]
    fn every_part_of_the_broker_has_a_logger() {
        let library = include_str!("lib.rs").split("#[cfg(test)]").next().unwrap();
        let modules = library.lines().filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        });
        let modules: Vec<_> = modules.collect();
        assert!(modules.len() > 10, "{modules:?}");
        for module in modules {
            assert!(Loggers::find(&format!("braid.{module}")).is_some(), "{module}");
        }
    }

    #[test]
    fn levels_are_kafkas_in_capitals_and_loggers_are_known_by_name() {
        assert_eq!(Level::of_name("debug"), None);
        assert_eq!(Level::of_name("OFF"), None);
        assert_eq!(Loggers::find("kafka.server"), None);
        assert_eq!(Loggers::find("ROOT"), None);
        for name in Loggers::names() {
            assert_eq!(Loggers::find(name), Some(name));
        }
    }
}
