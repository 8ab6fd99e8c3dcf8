//! kafka-configs: settings of topics, brokers and everything else that can have some.

use anyhow::{Context, Result, ensure};
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::tools::{Said, broker_id, refused, run};

pub(crate) fn add(suite: &mut Suite) {
    suite.add("configs::of_topics_are_set_shown_and_taken_back", topics);
    suite.add("configs::of_other_entities_are_shown", others);
    suite.add("configs::of_brokers_loggers_and_groups_are_set_and_taken_back", dynamic);
    suite.add("configs::of_client_metrics_are_set_and_taken_back", client_metrics);
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

/// Nothing here changes what other scenarios of this broker see.
fn dynamic(world: &World) -> Result<()> {
    let server = world.server()?;
    let id = broker_id(server)?;
    let tool = |entity: &[&str], arguments: &[&str]| -> Result<Said> {
        run(server, "ConfigCommand", &[entity, arguments].concat(), "")
    };
    let broker = ["--entity-type", "brokers", "--entity-name", &id];
    let all = ["--entity-type", "brokers", "--entity-default"];
    let group = ["--entity-type", "groups", "--entity-name", "tool.group.config"];
    let settings: [(&[&str], &str, &str); 3] = [
        (&broker, "log.cleaner.threads=2", "DYNAMIC_BROKER_CONFIG:log.cleaner.threads=2"),
        (
            &all,
            "log.retention.ms=600000000",
            "DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=600000000",
        ),
        (
            &group,
            "consumer.session.timeout.ms=50000",
            "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000",
        ),
    ];
    for (entity, setting, told) in settings {
        tool(entity, &["--alter", "--add-config", setting])?.has(&["Completed updating"])?;
        tool(entity, &["--describe"])?.has(&[setting, told])?;
        let key = setting.split_once('=').map_or(setting, |(key, _)| key);
        tool(entity, &["--alter", "--delete-config", key])?.has(&["Completed updating"])?;
        let said = tool(entity, &["--describe"])?;
        ensure!(!said.out.contains(key), "{said:?}");
    }
    let refuse = |entity: &[&str], setting: &str, words: &str| -> Result<()> {
        let arguments = [entity, &["--alter", "--add-config", setting]].concat();
        refused(server, "ConfigCommand", &arguments, &[words])
    };
    refuse(&broker, "node.id=7", "Cannot update these configs dynamically: [node.id]")?;
    refuse(&group, "nope=1", "Unknown group config name: nope")?;

    let loggers = ["--entity-type", "broker-loggers", "--entity-name", &id];
    let said = tool(&loggers, &["--describe"])?;
    let named = said.out.lines().find_map(|line| line.trim().split_once('='));
    let (logger, rest) = named.with_context(|| format!("{said:?}"))?;
    let before = rest.split_whitespace().next().unwrap_or_default();
    tool(&loggers, &["--alter", "--add-config", &format!("{logger}=DEBUG")])?;
    tool(&loggers, &["--describe"])?.has(&[&format!("{logger}=DEBUG sensitive=false")])?;
    tool(&loggers, &["--alter", "--add-config", &format!("{logger}={before}")])?;
    refuse(&loggers, &format!("{logger}=LOUD"), "LOUD as it is not a supported log level")?;
    refuse(&loggers, "no.such.Logger=DEBUG", "Invalid broker logger(s): no.such.Logger")?;
    world.ran(Program::Configs, 4 * settings.len() + 6);
    Ok(())
}

fn client_metrics(world: &World) -> Result<()> {
    let server = world.server()?;
    let name = "tool.metrics";
    let tool =
        |arguments: &[&str]| -> Result<Said> { run(server, "ClientMetricsCommand", arguments, "") };
    let metrics = ["--metrics", "org.apache.kafka.producer.", "--match", "client_id=nobody"];
    let set = ["--alter", "--name", name, "--interval", "3600000"];
    tool(&[&set[..], &metrics].concat())?
        .has(&["Altered client metrics config for tool.metrics."])?;
    tool(&["--list"])?.has(&[name])?;
    tool(&["--describe", "--name", name])?.has(&[
        "interval.ms=3600000",
        "match=client_id=nobody",
        "metrics=org.apache.kafka.producer.",
    ])?;
    let refuse = |setting: [&str; 2], words: &str| -> Result<()> {
        let arguments = [&["--alter", "--name", name], &setting[..]].concat();
        refused(server, "ClientMetricsCommand", &arguments, &[words])
    };
    refuse(["--interval", "5"], "InvalidRequestException")?;
    refuse(["--match", "nope=1"], "InvalidConfigurationException")?;
    tool(&["--delete", "--name", name])?
        .has(&["Deleted client metrics config for tool.metrics."])?;
    tool(&["--describe", "--name", name])?
        .has(&["doesn't exist and doesn't have dynamic config."])?;
    world.ran(Program::Configs, 7);
    Ok(())
}
