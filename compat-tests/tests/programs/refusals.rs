//! Transactions by Kafka's tools, and tools for what a broker without access control, share groups and the newer group protocol does not have:
//! they end at once, with Kafka's words.

use std::time::Duration;

use anyhow::{Result, ensure};
use braid_compat_tests::client::{Client, Input, Kind, Produce, Transaction};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::{self, Server};
use braid_compat_tests::tools::{Said, refused, run, try_run};

pub(crate) fn add(suite: &mut Suite) {
    suite.add("refusals::security_is_disabled", security);
    suite.add("refusals::producers_of_a_partition_are_told", producers);
    suite.add("refusals::transactions_are_written_read_and_told", transactions);
    suite.add("refusals::a_transaction_left_open_is_found_and_ended", left_open);
    suite.add("refusals::a_transaction_that_its_coordinator_lost_is_found_and_ended", hanging);
    suite.add("refusals::what_is_not_built_is_refused_by_the_client", not_built);
}

fn security(world: &World) -> Result<()> {
    let server = world.server()?;
    let on_topic = ["--topic", "tool.acl"];
    let add = ["--add", "--allow-principal", "User:me", "--operation", "Read"];
    for (arguments, words) in [
        (vec!["--list"], "SecurityDisabledException: No Authorizer is configured on the broker"),
        ([&add[..], &on_topic].concat(), "SecurityDisabledException: No Authorizer is configured"),
        (
            [&["--remove", "--force"][..], &on_topic].concat(),
            "SecurityDisabledException: No Authorizer is configured",
        ),
    ] {
        refused(server, "AclCommand", &arguments, &[words])?;
    }
    world.ran(Program::Refusals, 3);
    Ok(())
}

fn producers(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.producers";
    Kind::Java.shared()?.new_topic(server, topic, 1, &[])?;
    run(server, "ConsoleProducer", &["--topic", topic], "one\ntwo\nthree\n")?;
    let tool = |arguments: &[&str]| -> Result<Said> {
        try_run(server, "TransactionsCommand", arguments, "")
    };
    let partition = ["--topic", topic, "--partition", "0"];
    let said = tool(&[&["describe-producers"][..], &partition].concat())?;
    let rows = said.rows();
    // Epoch 0, no coordinator, sequence 2, no open transaction.
    let wanted =
        |row: &Vec<&str>| row.len() == 6 && row[1..4] == ["0", "-1", "2"] && row[5] == "None";
    ensure!(said.status == 0 && rows.iter().any(wanted), "{said:?}");
    let id = braid_compat_tests::tools::broker_id(server)?;
    let said = tool(&["find-hanging", "--broker-id", &id])?;
    ensure!(said.status == 0 && said.out.lines().count() == 1, "{said:?}");
    let said = tool(&[&["abort", "--start-offset", "0"][..], &partition].concat())?;
    ensure!(said.status != 0, "{said:?}");
    said.has(&[
        "Could not find any open transactions starting at offset 0 on partition tool.producers-0",
    ])?;
    world.ran(Program::Refusals, 3);
    Ok(())
}

fn transactions(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.transactions";
    Kind::Java.shared()?.new_topic(server, topic, 1, &[])?;
    let write = ["--topic", topic, "--num-records", "1000", "--record-size", "10"];
    let transactional = ["--throughput", "5000", "--transactional-id", "tool.transaction"];
    let often = ["--transaction-duration-ms", "20"];
    run(server, "ProducerPerformance", &[&write[..], &transactional, &often].concat(), "")?;
    let read = ["--topic", topic, "--from-beginning", "--isolation-level", "read_committed"];
    let all = ["--max-messages", "1000", "--timeout-ms", "30000"];
    run(server, "consumer.ConsoleConsumer", &[&read[..], &all].concat(), "")?
        .has(&["Processed a total of 1000 messages"])?;
    let listed = run(server, "TransactionsCommand", &["list"], "")?;
    let is_it = |row: &Vec<&str>| row.first() == Some(&"tool.transaction");
    ensure!(listed.rows().iter().any(is_it), "{listed:?}");
    let one = ["describe", "--transactional-id", "tool.transaction"];
    run(server, "TransactionsCommand", &one, "")?.has(&["CompleteCommit"])?;
    world.ran(Program::Refusals, 4);
    Ok(())
}

/// Its producer is gone. As long as the coordinator knows of it, it is not one that hangs.
fn left_open(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "tool.open";
    Kind::Java.shared()?.new_topic(server, topic, 1, &[])?;
    let client = Client::start(Kind::Java)?;
    let input =
        Input::Numbers { topic, prefix: "n", count: u64::MAX >> 12, keys: 1, value_bytes: 100 };
    let transaction = Some(Transaction { id: topic, commit: true, offset: None });
    let produce = Produce { transaction, window: 500, ..Produce::new(input) };
    let mut production = client.begin_produce(server, &produce)?;
    production.acked(1000, Duration::from_secs(60))?;
    client.driver()?.kill()?;
    let tool = |arguments: &[&str]| run(server, "TransactionsCommand", arguments, "");
    tool(&["describe", "--transactional-id", topic])?.has(&["Ongoing", "tool.open-0"])?;
    let id = braid_compat_tests::tools::broker_id(server)?;
    let hanging = tool(&["find-hanging", "--broker-id", &id, "--max-transaction-timeout", "0"])?;
    ensure!(!hanging.out.contains(topic), "{hanging:?}");
    let partition = ["--topic", topic, "--partition", "0"];
    let begins = |at: &str| -> Result<()> {
        let said = tool(&[&["describe-producers"][..], &partition].concat())?;
        let is_it = |row: &Vec<&str>| row.len() == 6 && row[5] == at;
        ensure!(said.rows().iter().any(is_it), "{at} is missing in {said:?}");
        Ok(())
    };
    begins("0")?;
    tool(&[&["abort", "--start-offset", "0"][..], &partition].concat())?;
    begins("None")?;
    tool(&["describe", "--transactional-id", topic])?.has(&["CompleteAbort"])?;
    // Nothing is held back any more, and nothing of it is there.
    run(server, "ConsoleProducer", &["--topic", topic], "after\n")?;
    let read = ["--topic", topic, "--from-beginning", "--isolation-level", "read_committed"];
    let one = ["--max-messages", "1", "--timeout-ms", "30000"];
    let said = run(server, "consumer.ConsoleConsumer", &[&read[..], &one].concat(), "")?;
    ensure!(said.out.lines().eq(["after"]), "{said:?}");
    world.ran(Program::Refusals, 6);
    Ok(())
}

/// No client can make a transaction hang: what is written is verified. One does where the log has lost the
/// coordinator's states and not the records.
fn hanging(world: &World) -> Result<()> {
    if server::kind() == server::Kind::Kafka {
        return Ok(());
    }
    let mut server = Server::start(&[("braid.commitlog.segment.bytes", "16777216")])?;
    let (topic, id) = ("tool.hanging", "the-lost-transaction");
    Kind::Java.shared()?.new_topic(&server, topic, 1, &[])?;
    run(&server, "ConsoleProducer", &["--topic", topic], "before\n")?;
    let client = Client::start(Kind::Java)?;
    let input =
        Input::Numbers { topic, prefix: "n", count: u64::MAX >> 12, keys: 1, value_bytes: 100 };
    let transaction = Some(Transaction { id, commit: true, offset: None });
    let produce = Produce { transaction, window: 500, ..Produce::new(input) };
    let mut production = client.begin_produce(&server, &produce)?;
    production.acked(1000, Duration::from_secs(60))?;
    client.driver()?.kill()?;
    server.kill()?;
    server.lose_frames_of(id)?;
    server.set("braid.commitlog.loss.accept", "true");
    server.restart()?;

    let tool = |arguments: &[&str]| run(&server, "TransactionsCommand", arguments, "");
    let listed = tool(&["list"])?;
    ensure!(!listed.out.contains(id), "{listed:?}");
    run(&server, "ConsoleProducer", &["--topic", topic], "after\n")?;
    let read = ["--topic", topic, "--from-beginning", "--isolation-level", "read_committed"];
    let some = |count: &str, timeout_ms: &str| {
        let most = ["--max-messages", count, "--timeout-ms", timeout_ms];
        run(&server, "consumer.ConsoleConsumer", &[&read[..], &most].concat(), "")
    };
    // The second is behind the transaction, and not to be had.
    let said = some("1", "30000")?;
    ensure!(said.out.lines().eq(["before"]), "{said:?}");
    let broker = braid_compat_tests::tools::broker_id(&server)?;
    let find = ["find-hanging", "--broker-id", &broker, "--max-transaction-timeout", "0"];
    let found = tool(&find)?;
    let of_topic = |row: &Vec<&str>| row.len() == 8 && row[..2] == [topic, "0"] && row[5] == "1";
    ensure!(found.rows().iter().any(of_topic), "{found:?}");
    let partition = ["--topic", topic, "--partition", "0"];
    tool(&[&["abort", "--start-offset", "1"][..], &partition].concat())?;
    let found = tool(&find)?;
    ensure!(!found.out.contains(topic), "{found:?}");
    let said = some("2", "30000")?;
    ensure!(said.out.lines().eq(["before", "after"]), "{said:?}");
    world.ran(Program::Refusals, 7);
    Ok(())
}

/// Not advertised, so the client refuses by itself, as with every older Kafka.
fn not_built(world: &World) -> Result<()> {
    if server::kind() == server::Kind::Kafka {
        return Ok(());
    }
    let server = world.server()?;
    let quota = ["--alter", "--entity-type", "clients", "--entity-name", "me"];
    let quota = [&quota[..], &["--add-config", "producer_byte_rate=1000"]].concat();
    refused(server, "ConfigCommand", &quota, &["The node does not support ALTER_CLIENT_QUOTAS"])?;
    let read = ["--topic", "tool.newer", "--group", "tool.newer", "--timeout-ms", "30000"];
    let newer = [&read[..], &["--command-property", "group.protocol=consumer"]].concat();
    try_run(server, "consumer.ConsoleConsumer", &newer, "")?.has(&[
        "The cluster does not support the new CONSUMER group protocol. Set group.protocol=classic",
        "Processed a total of 0 messages",
    ])?;
    let said = try_run(
        server,
        "consumer.group.ShareGroupCommand",
        &["--describe", "--group", "tool.share"],
        "",
    )?;
    said.has(&["The node does not support SHARE_GROUP_DESCRIBE"])?;
    let share = ["--topic", "tool.newer", "--group", "tool.share", "--timeout-ms", "1000"];
    try_run(server, "consumer.ConsoleShareConsumer", &share, "")?.has(&[
        "The cluster does not support the share group protocol",
        "Processed a total of 0 messages",
    ])?;
    // The tool takes its client's settings from a file, and the settings of the controller to add as well.
    let dir = tempfile::Builder::new().prefix("refusals-").tempdir_in(install::scratch()?)?;
    let path = |name: &str| dir.path().join(name);
    std::fs::write(
        path("controller.properties"),
        format!(
            "process.roles=controller\nnode.id=4711\ncontroller.listener.names=CONTROLLER\n\
             listeners=CONTROLLER://127.0.0.1:9093\ncontroller.quorum.bootstrap.servers=127.0.0.1:9093\nlog.dirs={}\n",
            dir.path().display()
        ),
    )?;
    std::fs::write(
        path("meta.properties"),
        "version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAABA\nnode.id=4711\ndirectory.id=AAAAAAAAAAAAAAAAAAAABA\n",
    )?;
    let config = path("controller.properties").display().to_string();
    let config = ["--command-config", config.as_str()];
    let hmac = ["--hmac", "abcd"];
    let directory = ["--controller-directory-id", "AAAAAAAAAAAAAAAAAAAABA"];
    for (tool, arguments, api) in [
        (
            "DelegationTokenCommand",
            [&["--create", "--max-life-time-period", "-1"][..], &[]],
            "CREATE_DELEGATION_TOKEN",
        ),
        ("DelegationTokenCommand", [&["--describe"][..], &[]], "DESCRIBE_DELEGATION_TOKEN"),
        (
            "DelegationTokenCommand",
            [&["--renew", "--renew-time-period", "-1"], &hmac],
            "RENEW_DELEGATION_TOKEN",
        ),
        (
            "DelegationTokenCommand",
            [&["--expire", "--expiry-time-period", "-1"], &hmac],
            "EXPIRE_DELEGATION_TOKEN",
        ),
        ("MetadataQuorumCommand", [&["add-controller"][..], &[]], "ADD_RAFT_VOTER"),
        (
            "MetadataQuorumCommand",
            [&["remove-controller", "--controller-id", "1"], &directory],
            "REMOVE_RAFT_VOTER",
        ),
    ] {
        let arguments = [&config[..], &arguments.concat()].concat();
        refused(server, tool, &arguments, &[&format!("The node does not support {api}")])?;
    }
    for tool in ["consumer.group.ShareGroupCommand", "streams.StreamsGroupCommand"] {
        let said = run(server, tool, &["--list"], "")?;
        ensure!(said.out.trim().is_empty(), "{said:?}");
    }
    world.ran(Program::Refusals, 12);
    Ok(())
}
