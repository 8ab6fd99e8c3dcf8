//! `conf/server.properties` and `docs/configuration.md`, written from the declarations.
//!
//! The tests compare the files with what the declarations say; `UPDATE=1 cargo test` writes them.

use std::fmt::Write as _;

use super::inert::{FAMILIES, INERT};
use super::key::{Effect, Key};
use super::{Config, Sources, topic_keys};
use crate::golden;

/// Settings that stand in the file uncommented, as a place to start from.
const STARTING_POINT: &[(&str, &str)] =
    &[("node.id", "1"), ("listeners", "PLAINTEXT://127.0.0.1:9092"), ("log.dirs", "braid-data")];

const WIDTH: usize = 98;

#[test]
fn the_sample_file_lists_every_honoured_key() {
    golden::check("conf/server.properties", &sample());
}

#[test]
fn the_reference_lists_every_key() {
    golden::check("docs/configuration.md", &reference());
}

#[test]
fn the_sample_file_starts_a_broker_without_a_warning() {
    let file = golden::path("conf/server.properties");
    let sources = Sources { file: Some(file), ..Sources::default() };
    let config = Config::load(&sources, &crate::env::real::RealFs).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.settings().count(), STARTING_POINT.len());
    let text = sample();
    let commented = text.lines().filter_map(|line| line.strip_prefix('#'));
    let settings: Vec<&str> =
        commented.filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase())).collect();
    assert!(settings.len() > 40, "{settings:?}");
    for line in settings {
        let (name, default) = line.split_once('=').unwrap();
        let key = super::broker_key(name).unwrap();
        assert!(key.default.is_none() || key.parse(default).is_ok(), "{line}");
    }
}

#[test]
fn the_files_of_a_cluster_of_three_name_each_other() {
    let ids: Vec<i32> = (1..4).collect();
    for id in &ids {
        let file = golden::path(&format!("conf/cluster-3/node-{id}.properties"));
        let sources = Sources { file: Some(file), ..Sources::default() };
        let config = Config::load(&sources, &crate::env::real::RealFs).unwrap();
        assert_eq!((config.warnings, config.node.id.0), (vec![], *id));
        let quorum = config.node.quorum.unwrap();
        assert_eq!(quorum.voters.keys().map(|voter| voter.0).collect::<Vec<_>>(), ids);
        assert_eq!(quorum.voters[&config.node.id], quorum.listen);
    }
}

fn sample() -> String {
    let mut out = String::from(
        "# Braid's configuration: every key that has an effect, with its default.\n\
         #\n\
         # The names are Kafka's; those that begin with braid. are Braid's own. A file from a Kafka\n\
         # broker works too: what Braid does not know or does not need is named in a warning.\n\
         # Run with `braid --config FILE`; check with `braid --config FILE --check-config`.\n\
         # Stronger than this file are environment variables (KAFKA_LOG_DIRS is log.dirs), and\n\
         # stronger than those is `-X key=value` on the command line.\n\
         # docs/configuration.md has the topic keys, and the keys of Kafka without effect.\n",
    );
    for (title, keys) in super::broker::SECTIONS {
        let _ = write!(out, "\n######## {title}\n");
        for key in *keys {
            sample_key(&mut out, key);
        }
    }
    out
}

fn sample_key(out: &mut String, key: &Key) {
    out.push('\n');
    comment(out, &full_doc(key));
    comment(out, &format!("{}. {}", sentence(&key.expected()), default_text(key, "")));
    let set = STARTING_POINT.iter().find(|(name, _)| *name == key.name);
    let _ = match set {
        Some((name, text)) => writeln!(out, "{name}={text}"),
        None => writeln!(out, "#{}={}", key.name, key.default.unwrap_or_default()),
    };
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

/// The doc and what is missing in Braid.
fn full_doc(key: &Key) -> String {
    let doc = key.doc_text();
    match key.effect {
        Effect::Partial(missing) | Effect::Refused(missing) => format!("{doc} {missing}"),
        Effect::Full | Effect::Nothing(_) => doc.to_owned(),
    }
}

fn default_text(key: &Key, quote: &str) -> String {
    let default = match key.default {
        None => "Not set by default.".to_owned(),
        Some("") => "The default is empty.".to_owned(),
        Some(default) => format!("The default is {quote}{default}{quote}."),
    };
    match key.differs {
        Some(note) => format!("{default} {note}."),
        None => default,
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\
         \n\
         This page is written from the declarations in `src/config/`; `UPDATE=1 cargo test` renews\n\
         it. `conf/server.properties` is the same as a file to start from.\n\
         \n\
         Settings come from the command line (`-X key=value`), from the environment, from a file\n\
         (`--config FILE`, Java's `.properties` rules, UTF-8) and from the defaults below; the first\n\
         that names a key wins. In the environment `KAFKA_LOG_DIRS` is `log.dirs`: the prefix goes,\n\
         letters become small, `_` is a dot, `__` an underscore, `___` a dash. `CLUSTER_ID` is\n\
         `braid.cluster.id`. Variables for a JVM (`KAFKA_OPTS`, `KAFKA_HEAP_OPTS`, `KAFKA_LOG4J_…`,\n\
         `KAFKA_JMX_…`) are passed over. Where only `KAFKA_ADVERTISED_LISTENERS` is set, the broker\n\
         listens on the same ports of every interface.\n\
         \n\
         A wrong value stops the start, with exit code 2, and names the key, what was given, what is\n\
         right and where it stands. A key that is not known, or that has no effect in Braid, is named\n\
         in a warning. `braid --check-config` says all of this without starting.\n\
         \n\
         The mode says how a key may change while the broker runs, as in Kafka: *read-only* keys are\n\
         read at the start; *per-broker* and *cluster-wide* keys can be set for one broker\n\
         (`kafka-configs.sh --entity-type brokers --entity-name 1`), *cluster-wide* ones also for all\n\
         brokers (`--entity-default`). They are kept in the metadata and hold from the moment they are\n\
         set: a broker's own before those of all brokers before the file before the default, and a\n\
         topic's own before all of these. `listeners` and `listener.security.protocol.map` are\n\
         per-broker in Kafka and read at the start here; changing them is refused, as are settings of\n\
         one listener (`listener.name.…`).\n\
         \n\
         Log levels are BROKER_LOGGER resources, as in Kafka: `kafka-configs.sh --entity-type\n\
         broker-loggers --entity-name 1 --alter --add-config braid.store=DEBUG`. They hold until the\n\
         process ends; `BRAID_LOG` says what it starts with.\n\
         \n\
         ## Broker keys\n",
    );
    for (title, keys) in super::broker::SECTIONS {
        let _ = write!(out, "\n### {title}\n\n");
        for key in *keys {
            entry(&mut out, key, &format!("{}, {}", kind(key), key.update.name()));
        }
    }
    out.push_str(
        "\n## Topic keys\n\nA topic that does not set a key follows the broker keys named with it, the first that is\nset; then the default.\n\n",
    );
    for key in topic_keys() {
        entry(&mut out, key, &kind(key));
        if !key.synonyms.is_empty() {
            let names: Vec<String> =
                key.synonyms.iter().map(|synonym| format!("`{}`", synonym.name)).collect();
            let _ = writeln!(out, "  Broker: {}.", names.join(", "));
        }
        if let Effect::Nothing(because) = key.effect {
            let _ = writeln!(out, "  It has no effect in Braid because {because}.");
        }
    }
    out.push_str(
        "\n## Group keys\n\nThey are checked, kept and told as Kafka does (`--entity-type groups`). Those that begin with\n`delivery.` and `half.` are Braid's: how messages are delivered to a group of the native API, and how a\ngroup of producers is asked about its half messages. The others\ngovern groups of Kafka's newer protocols, which are not served yet, so they have no effect.\n\n",
    );
    for key in super::group_keys() {
        entry(&mut out, key, &kind(key));
    }
    out.push_str(
        "\n## Client metrics keys\n\nThey are checked, kept and told as Kafka does (`--entity-type client-metrics`). As a Kafka without\na receiver of client telemetry, the broker asks no client for metrics, so none has an effect.\n\n",
    );
    for key in super::client_metrics::KEYS {
        entry(&mut out, key, &kind(key));
    }
    without_effect(&mut out);
    out
}

fn kind(key: &Key) -> String {
    key.kind.name().to_lowercase()
}

fn entry(out: &mut String, key: &Key, kind: &str) {
    let _ = writeln!(out, "- **`{}`** ({kind}): {}", key.name, full_doc(key));
    let _ = writeln!(out, "  {}. {}", sentence(&key.expected()), default_text(key, "`"));
}

fn without_effect(out: &mut String) {
    out.push_str(
        "\n## Kafka's broker keys without effect\n\nThey may be set, and each is named in a warning; DescribeConfigs tells them with Kafka's types,\ndefaults and modes. Those marked *refused* stop the start when\nthey are set to anything but their default, because passing over them would be dangerous.\n\n| key | why |\n|---|---|\n",
    );
    for key in INERT {
        let _ = match key.effect {
            Effect::Nothing(because) => writeln!(out, "| `{}` | {because} |", key.name),
            Effect::Refused(why) => writeln!(out, "| `{}` | *refused*: {why} |", key.name),
            Effect::Full | Effect::Partial(_) => unreachable!("{} has an effect", key.name),
        };
    }
    for (family, because) in FAMILIES {
        let star = if family.ends_with('.') { "*" } else { "" };
        let _ = writeln!(out, "| `{family}{star}` | {because} |");
    }
}
