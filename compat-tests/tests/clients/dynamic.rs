//! Settings that are changed while the broker runs, by kafka-configs as an operator types it, and what they do.

use std::process::Command;

use anyhow::{Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Client, Input, Kind, Produce, Start};
use braid_compat_tests::install;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::{self, Server};

pub(crate) fn add(suite: &mut Suite) {
    suite.add("dynamic::brokers_are_changed_by_an_operator", brokers);
    suite.add("dynamic::loggers_are_changed_by_an_operator", loggers);
    suite.add("dynamic::groups_and_client_metrics_are_configured", resources);
    suite.add("dynamic::a_topics_codec_is_the_brokers_work", codecs);
}

/// What kafka-configs says, on either stream; it ends with a failure when something is refused.
fn kafka_configs(server: &Server, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", install::java_logging().display()));
    command.arg("-cp").arg(install::kafka_distribution()?.join("lib/*"));
    command.arg("org.apache.kafka.tools.ConfigCommand");
    command.args(["--bootstrap-server", &server.bootstrap()]).args(arguments);
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// An entity as kafka-configs names it.
struct Entity<'a> {
    server: &'a Server,
    named: &'a [&'a str],
}

impl Entity<'_> {
    fn alter(&self, what: &[&str]) -> Result<()> {
        let (done, said) = kafka_configs(self.server, &[self.named, &["--alter"], what].concat())?;
        ensure!(done && said.contains("Completed updating"), "{what:?}: {said}");
        Ok(())
    }

    fn refused(&self, what: &[&str], why: &str) -> Result<()> {
        let (done, said) = kafka_configs(self.server, &[self.named, &["--alter"], what].concat())?;
        ensure!(!done && said.contains(why), "{what:?}: {said}");
        Ok(())
    }

    fn describe(&self, has: &[&str], has_not: &[&str]) -> Result<()> {
        let (done, said) = kafka_configs(self.server, &[&["--describe"], self.named].concat())?;
        ensure!(done, "{said}");
        for text in has {
            ensure!(said.contains(text), "{text} is missing in: {said}");
        }
        for text in has_not {
            ensure!(!said.contains(text), "{text} stands in: {said}");
        }
        Ok(())
    }
}

/// How many of one record of that size are refused.
fn refused(client: &Client, server: &Server, topic: &str, size_bytes: usize) -> Result<u64> {
    let value = vec![b'x'; size_bytes];
    let mut record = Record::new(topic, None, Some(&value));
    record.partition = 0;
    let records = [record];
    Ok(client.produce(server, &Produce::new(Input::Records(&records)))?.failed)
}

fn brokers(world: &World) -> Result<()> {
    let mut server = Server::start(&[])?;
    let client = Kind::Java.shared()?;
    client.new_topic(&server, "dynamic", 1, &[])?;
    ensure!(refused(client, &server, "dynamic", 5_000)? == 0, "the default is large enough");

    let all = Entity { server: &server, named: &["--entity-type", "brokers", "--entity-default"] };
    let one =
        Entity { server: &server, named: &["--entity-type", "brokers", "--entity-name", "1"] };
    all.alter(&["--add-config", "message.max.bytes=2000,log.retention.ms=3600000"])?;
    all.describe(
        &[
            "message.max.bytes=2000 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=2000}",
            "log.retention.ms=3600000 ",
        ],
        &[],
    )?;
    ensure!(refused(client, &server, "dynamic", 5_000)? == 1, "the limit of all brokers holds");
    one.alter(&["--add-config", "message.max.bytes=9000"])?;
    ensure!(refused(client, &server, "dynamic", 5_000)? == 0, "the broker's own is stronger");
    let synonyms = "message.max.bytes=9000 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:message.max.bytes=9000, \
                    DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=2000, DEFAULT_CONFIG:message.max.bytes=1048588}";
    one.describe(&[synonyms], &[])?;
    let topic = Entity {
        server: &server,
        named: &["--entity-type", "topics", "--entity-name", "dynamic", "--all"],
    };
    topic.describe(
        &[
            "retention.ms=3600000 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=3600000, \
             DEFAULT_CONFIG:log.retention.hours=168}",
            "max.message.bytes=9000 ",
        ],
        &[],
    )?;
    for (what, why) in [
        ("num.partitions=3", "Cannot update these configs dynamically: [num.partitions]"),
        ("compression.type=bad", "Invalid value bad for configuration compression.type"),
        ("num.io.threads=1000", "value should not be greater than double the current value 8"),
    ] {
        one.refused(&["--add-config", what], why)?;
    }
    all.refused(
        &["--add-config", "sasl.jaas.config=x"],
        "Cannot update these configs at default cluster level, broker id must be specified: [sasl.jaas.config]",
    )?;
    one.alter(&["--add-config", "num.io.threads=9,my.own.key=secret"])?;
    one.describe(&["num.io.threads=9 ", "my.own.key=null sensitive=true"], &["secret"])?;

    server.kill()?;
    server.restart()?;
    let one =
        Entity { server: &server, named: &["--entity-type", "brokers", "--entity-name", "1"] };
    one.describe(&[synonyms], &[])?;
    ensure!(refused(client, &server, "dynamic", 5_000)? == 0, "it holds after kill -9");
    ensure!(refused(client, &server, "dynamic", 10_000)? == 1, "it holds after kill -9");
    one.alter(&["--delete-config", "message.max.bytes,num.io.threads,my.own.key"])?;
    ensure!(refused(client, &server, "dynamic", 5_000)? == 1, "what is taken away falls back");
    let all = Entity { server: &server, named: &["--entity-type", "brokers", "--entity-default"] };
    all.alter(&["--delete-config", "message.max.bytes,log.retention.ms"])?;
    ensure!(refused(client, &server, "dynamic", 5_000)? == 0, "to the default in the end");
    one.describe(&[], &["message.max.bytes", "my.own.key"])?;
    world.shown(Kind::Java, Capability::Configs, 18);
    Ok(())
}

fn loggers(world: &World) -> Result<()> {
    let server = Server::start(&[])?;
    let named = ["--entity-type", "broker-loggers", "--entity-name", "1"];
    let loggers = Entity { server: &server, named: &named };
    loggers.alter(&["--add-config", "root=ERROR"])?;
    loggers.describe(&["root=ERROR "], &[])?;
    if server::kind() == server::Kind::Braid {
        ensure!(!server.log_tail(1000).contains(" DEBUG "), "{}", server.log_tail(20));
        loggers.alter(&["--add-config", "braid.server=DEBUG"])?;
        loggers.describe(&["braid.server=DEBUG ", "braid.store=ERROR "], &[])?;
        ensure!(server.log_tail(1000).contains(" DEBUG "), "connections come and go unseen");
        loggers.alter(&["--delete-config", "braid.server"])?;
        loggers.describe(&["braid.server=ERROR "], &[])?;
    }
    loggers.refused(&["--add-config", "no.such=INFO"], "Invalid broker logger(s): no.such")?;
    let level = "Cannot set the log level of root to LOUD as it is not a supported log level.";
    loggers.refused(&["--add-config", "root=LOUD"], level)?;
    loggers.refused(
        &["--delete-config", "root"],
        "Removing the log level of the root logger is not allowed",
    )?;
    world.shown(Kind::Java, Capability::Configs, 8);
    Ok(())
}

fn resources(world: &World) -> Result<()> {
    let mut server = Server::start(&[])?;
    let group = ["--entity-type", "groups", "--entity-name", "configured"];
    let metrics = ["--entity-type", "client-metrics", "--entity-name", "subscribed"];
    let of = Entity { server: &server, named: &group };
    of.alter(&["--add-config", "consumer.session.timeout.ms=50000"])?;
    of.refused(
        &["--add-config", "consumer.session.timeout.ms=5"],
        "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
    )?;
    of.refused(&["--add-config", "nope=5"], "Unknown group config name: nope")?;
    let of = Entity { server: &server, named: &metrics };
    of.alter(&[
        "--add-config",
        "interval.ms=1000,metrics=[org.apache.kafka.],match=[client_id=a.*]",
    ])?;
    of.refused(
        &["--add-config", "interval.ms=10"],
        "Invalid value 10 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
    )?;
    server.kill()?;
    server.restart()?;
    let of = Entity { server: &server, named: &group };
    let synonyms = "consumer.session.timeout.ms=50000 sensitive=false synonyms={DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, \
                    DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000}";
    of.describe(&[synonyms], &[])?;
    Entity { server: &server, named: &["--entity-type", "groups"] }
        .describe(&["configured"], &[])?;
    let of = Entity { server: &server, named: &metrics };
    of.describe(&["interval.ms=1000 ", "match=client_id=a.* "], &[])?;
    world.shown(Kind::Java, Capability::Configs, 8);
    Ok(())
}

/// What the broker compresses anew, each client reads.
fn codecs(world: &World) -> Result<()> {
    let server = world.server()?;
    let client = Kind::Java.shared()?;
    for (codec, level) in [
        ("gzip", Some(("compression.gzip.level", "9"))),
        ("snappy", None),
        ("lz4", Some(("compression.lz4.level", "12"))),
        ("zstd", Some(("compression.zstd.level", "19"))),
        ("uncompressed", None),
    ] {
        let topic = format!("recompressed.{codec}");
        let settings: Vec<_> = [("compression.type", codec)].into_iter().chain(level).collect();
        client.new_topic(server, &topic, 1, &settings)?;
        let values: Vec<String> = (0..500).map(|n| format!("line {n} of {codec}")).collect();
        let records: Vec<Record> = values
            .iter()
            .map(|value| {
                let mut record = Record::new(&topic, None, Some(value.as_bytes()));
                record.partition = 0;
                record
            })
            .collect();
        client.produce_all(server, &Produce::new(Input::Records(&records)))?;
        for kind in [Kind::Java, Kind::Librdkafka, Kind::KafkaPython] {
            let read = kind.shared()?.consume(server, &[&topic], Start::Earliest)?;
            let found: Vec<_> = read.iter().filter_map(|r| r.value.as_deref()).collect();
            let wanted: Vec<_> = values.iter().map(String::as_bytes).collect();
            ensure!(found == wanted, "{kind} reads {} records of {codec}", found.len());
            world.shown(kind, Capability::Configs, 1);
        }
    }
    Ok(())
}
