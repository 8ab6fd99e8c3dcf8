//! kafka-configs: settings of topics, brokers and everything else that can have some.

use anyhow::{Result, ensure};
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::tools::{Said, broker_id, refused, run};

pub(crate) fn add(suite: &mut Suite) {
    suite.add("configs::of_topics_are_set_shown_and_taken_back", topics);
    suite.add("configs::of_other_entities_are_shown", others);
}

fn topics(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.configs";
    run(server, "TopicCommand", &["--create", "--topic", topic], "")?;
    let entity = ["--entity-type", "topics", "--entity-name", topic];
    let tool = |arguments: &[&str]| -> Result<Said> {
        run(server, "ConfigCommand", &[&entity, arguments].concat(), "")
    };
    let done = format!("Completed updating config for topic {topic}.");
    let added = "max.message.bytes=2000000,cleanup.policy=[compact,delete]";
    tool(&["--alter", "--add-config", added])?.has(&[&done])?;
    let said = tool(&["--describe"])?;
    said.has(&[
        "Dynamic configs for topic tool.configs are:",
        "cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, \
         DEFAULT_CONFIG:log.cleanup.policy=delete}",
        "max.message.bytes=2000000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000, \
         DEFAULT_CONFIG:message.max.bytes=1048588}",
    ])?;
    ensure!(said.out.lines().count() == 3, "{said:?}");
    let said = tool(&["--describe", "--all"])?;
    said.has(&[
        "compression.type=producer sensitive=false synonyms={DEFAULT_CONFIG:compression.type=producer}",
        "segment.bytes=1073741824 sensitive=false synonyms={DEFAULT_CONFIG:log.segment.bytes=1073741824}",
        "min.cleanable.dirty.ratio=0.5 ",
    ])?;
    ensure!(said.out.lines().count() > 30, "{said:?}");

    tool(&["--alter", "--delete-config", "cleanup.policy"])?.has(&[&done])?;
    let said = tool(&["--describe"])?;
    ensure!(!said.out.contains("cleanup.policy"), "{said:?}");
    let unknown = [&entity[..], &["--alter", "--add-config", "nope=1"]].concat();
    refused(server, "ConfigCommand", &unknown, &["Unknown topic config name: nope"])?;
    let nowhere = ["--entity-type", "topics", "--entity-name", "tool.none"];
    let nowhere = [&nowhere[..], &["--alter", "--add-config", "retention.ms=1"]].concat();
    refused(server, "ConfigCommand", &nowhere, &["UnknownTopicOrPartitionException"])?;
    run(server, "ConfigCommand", &["--describe", "--entity-type", "topics"], "")?
        .has(&["tool.configs"])?;
    world.ran(Program::Configs, 8);
    Ok(())
}

fn others(world: &World) -> Result<()> {
    let server = world.server()?;
    let id = broker_id(server)?;
    let tool = |arguments: &[&str]| -> Result<Said> {
        run(server, "ConfigCommand", &[&["--describe"], arguments].concat(), "")
    };
    let broker = ["--entity-type", "brokers", "--entity-name", &id];
    tool(&broker)?.has(&[&format!("Dynamic configs for broker {id} are:")])?;
    let said = tool(&[&broker[..], &["--all"]].concat())?;
    said.has(&[
        "num.partitions=4 sensitive=false synonyms={STATIC_BROKER_CONFIG:num.partitions=4, DEFAULT_CONFIG:num.partitions=1}",
        "auto.create.topics.enable=true ",
    ])?;
    ensure!(said.out.lines().count() > 100, "{said:?}");
    tool(&["--entity-type", "brokers", "--entity-default"])?
        .has(&["Default configs for brokers in the cluster are:"])?;
    for kind in ["clients", "users", "groups", "client-metrics", "ips"] {
        tool(&["--entity-type", kind])?;
    }
    world.ran(Program::Configs, 8);
    Ok(())
}
