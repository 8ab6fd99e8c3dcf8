//! The clients by name: which program each is, and what its library cannot write.

use std::collections::BTreeSet;
use std::fmt;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::record::Record;
use crate::{install, kcat};

/// The clients, each a decoder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Java,
    /// The last of the line before Kafka 4.
    Java3,
    /// The oldest that Kafka 4 still serves.
    Java2,
    Librdkafka,
    Kcat,
    Rdkafka,
    KafkaPython,
    AioKafka,
    KafkaJs,
    Platformatic,
    /// A binding of librdkafka.
    KafkaJavascript,
    FranzGo,
    Sarama,
    KafkaGo,
    Rskafka,
}

impl Kind {
    /// All of them, in the table's order.
    pub const ALL: [Kind; 15] = [
        Kind::Java,
        Kind::Java3,
        Kind::Java2,
        Kind::Librdkafka,
        Kind::Kcat,
        Kind::Rdkafka,
        Kind::KafkaPython,
        Kind::AioKafka,
        Kind::KafkaJs,
        Kind::Platformatic,
        Kind::KafkaJavascript,
        Kind::FranzGo,
        Kind::Sarama,
        Kind::KafkaGo,
        Kind::Rskafka,
    ];

    /// As used in names of topics and tests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Java => "java",
            Kind::Java3 => "java-3",
            Kind::Java2 => "java-2",
            Kind::Librdkafka => "librdkafka",
            Kind::Kcat => "kcat",
            Kind::Rdkafka => "rdkafka",
            Kind::KafkaPython => "kafka-python",
            Kind::AioKafka => "aiokafka",
            Kind::KafkaJs => "kafkajs",
            Kind::Platformatic => "platformatic",
            Kind::KafkaJavascript => "kafka-javascript",
            Kind::FranzGo => "franz-go",
            Kind::Sarama => "sarama",
            Kind::KafkaGo => "kafka-go",
            Kind::Rskafka => "rskafka",
        }
    }

    /// One of those that every scenario takes; of the others each takes part in every scenario, but meets few of its like.
    #[must_use]
    pub fn is_core(self) -> bool {
        match self {
            Kind::Java
            | Kind::Librdkafka
            | Kind::Kcat
            | Kind::KafkaPython
            | Kind::KafkaJs
            | Kind::FranzGo => true,
            Kind::Java3
            | Kind::Java2
            | Kind::Rdkafka
            | Kind::AioKafka
            | Kind::Platformatic
            | Kind::KafkaJavascript
            | Kind::Sarama
            | Kind::KafkaGo
            | Kind::Rskafka => false,
        }
    }

    /// Whether scenarios that try pairs try this one: all would be a quarter of a thousand.
    #[must_use]
    pub fn meets(self, other: Kind) -> bool {
        let reference = |kind| matches!(kind, Kind::Java | Kind::Librdkafka | Kind::FranzGo);
        self == other || reference(self) || reference(other) || (self.is_core() && other.is_core())
    }

    /// Those that read what `self` wrote.
    pub fn readers(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |reader| reader.meets(self))
    }

    /// Whether the client's library can write the record as it is.
    #[must_use]
    pub fn carries(self, record: &Record) -> bool {
        match self {
            Kind::Kcat => kcat::carries(record),
            // Their encoders fail on a header without a value.
            Kind::KafkaJs | Kind::KafkaJavascript => {
                record.headers.iter().all(|(_, value)| value.is_some())
            }
            // It wants a key or a value, and a value in every header.
            Kind::KafkaPython => {
                (record.key.is_some() || record.value.is_some())
                    && record.headers.iter().all(|(_, value)| value.is_some())
            }
            // Its headers are a map of names to values.
            Kind::Rskafka => {
                let names: BTreeSet<_> = record.headers.iter().map(|(name, _)| name).collect();
                names.len() == record.headers.len()
                    && names.into_iter().eq(record.headers.iter().map(|(name, _)| name))
                    && record.headers.iter().all(|(_, value)| value.is_some())
            }
            // It wants a key or a value.
            Kind::AioKafka => record.key.is_some() || record.value.is_some(),
            Kind::Java
            | Kind::Java3
            | Kind::Java2
            | Kind::Librdkafka
            | Kind::Rdkafka
            | Kind::Platformatic
            | Kind::FranzGo
            | Kind::Sarama
            | Kind::KafkaGo => true,
        }
    }

    pub(crate) fn command(self) -> Result<Command> {
        let python = |program: &str| -> Result<Command> {
            let mut command = Command::new(install::python()?);
            command.arg("-B").arg(install::package_dir().join("clients/python").join(program));
            Ok(command)
        };
        let node = |program: &str| -> Result<Command> {
            let mut command = Command::new("node");
            command.arg(install::node()?.join(program)).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
            Ok(command)
        };
        let go = || -> Result<Command> {
            let mut command = Command::new(install::go()?);
            command.arg(self.name());
            Ok(command)
        };
        Ok(match self {
            Kind::Java => java("java")?,
            Kind::Java3 => java("java-3")?,
            Kind::Java2 => java("java-2")?,
            Kind::Librdkafka => python("librdkafka.py")?,
            Kind::KafkaPython => python("kafka_python.py")?,
            Kind::AioKafka => python("aio_kafka.py")?,
            Kind::KafkaJs => node("kafkajs.js")?,
            Kind::Platformatic => node("platformatic.js")?,
            Kind::KafkaJavascript => {
                let mut command = Command::new("node");
                command.arg(install::package_dir().join("clients/node/confluent.js"));
                // A read that waits holds a thread.
                command.env("NODE_PATH", install::node_binding()?).env("UV_THREADPOOL_SIZE", "32");
                command
            }
            Kind::FranzGo | Kind::Sarama | Kind::KafkaGo => go()?,
            Kind::Rdkafka | Kind::Rskafka => {
                let mut command = Command::new(install::rust()?);
                command.arg(self.name());
                command
            }
            Kind::Kcat => bail!("kcat is no driver"),
        })
    }

    /// The program shared by all scenarios of this process.
    ///
    /// # Errors
    /// When it cannot be installed or started.
    pub fn shared(self) -> Result<&'static Client> {
        static SHARED: [OnceLock<Result<Client, String>>; Kind::ALL.len()] =
            [const { OnceLock::new() }; Kind::ALL.len()];
        let slot = &SHARED
            [Kind::ALL.iter().position(|kind| *kind == self).context("every kind is listed")?];
        let client = slot.get_or_init(|| Client::start(self).map_err(|error| format!("{error:#}")));
        client.as_ref().map_err(|error| anyhow::Error::msg(error.clone()))
    }
}

/// The driver on the Java client of that installation.
fn java(installation: &str) -> Result<Command> {
    let home = install::java(installation)?;
    let classes = std::env::join_paths([home.join("client/*"), home.join("classes")])?;
    let mut command = Command::new("java");
    command.args(["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", install::java_logging().display()));
    command.arg("-cp").arg(classes).arg("Driver");
    Ok(command)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
