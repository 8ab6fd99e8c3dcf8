//! The command line against a running broker.

use std::process::{Command, Output};

use anyhow::{Result, ensure};
use braid_compat_tests::runner::Suite;
use braid_compat_tests::server::{self, Server};
use serde_json::Value;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("cli::topics_are_made_shown_changed_and_deleted", |world| topics(world.server()?));
    suite.add("cli::errors_say_what_to_do", |world| errors(world.server()?));
}

fn braid(server: &Server, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(server::binary()?);
    command.args(arguments).env("BRAID_API", server.native()).env("HOME", "/nonexistent");
    Ok(command.env_remove("XDG_CONFIG_HOME").output()?)
}

pub(crate) fn said(server: &Server, arguments: &[&str]) -> Result<String> {
    let output = braid(server, arguments)?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "braid {arguments:?}: {}\n{error}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn json(server: &Server, arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&said(server, &[arguments, &["-o", "json"]].concat())?)?)
}

fn topics(server: &Server) -> Result<()> {
    let created =
        json(server, &["topic", "create", "cli.topic", "--partitions", "3", "--type", "fifo"])?;
    ensure!(created["messageType"] == "FIFO" && created["partitions"] == 3, "{created}");
    let set = ["topic", "configure", "cli.topic", "--set", "retention.ms=60000"];
    said(server, &set)?;
    let shown = json(server, &["topic", "show", "cli.topic"])?;
    let retention =
        shown["configs"].as_array().into_iter().flatten().find(|it| it["name"] == "retention.ms");
    ensure!(retention.is_some_and(|it| it["value"] == "60000" && it["own"] == true), "{shown}");
    let listed = said(server, &["topic", "list"])?;
    ensure!(
        listed.lines().any(|line| line.starts_with("cli.topic ") && line.contains("FIFO")),
        "{listed}"
    );
    ensure!(said(server, &["topic", "delete", "cli.topic"])? == "deleted cli.topic\n", "one line");
    let listed = json(server, &["topic", "list"])?;
    ensure!(!listed.to_string().contains("cli.topic"), "{listed}");
    Ok(())
}

fn errors(server: &Server) -> Result<()> {
    for (arguments, code, texts) in [
        (&["topic", "show", "cli.none"][..], 1, &["TOPIC_NOT_FOUND", "hint: "][..]),
        (&["topic", "create", "cli/none"], 1, &["TOPIC_INVALID", "hint: "]),
        (
            &["topic", "list", "--api", "http://127.0.0.1:1"],
            1,
            &["no answer from", "hint: is the broker running"],
        ),
        (&["topic", "list", "--context", "none"], 1, &["there is no context none", "hint: "]),
        (&["topic", "lst"], 2, &["a similar subcommand exists: 'list'"]),
    ] {
        let output = braid(server, arguments)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{arguments:?}: {} {error}", output.status);
        ensure!(texts.iter().all(|text| error.contains(text)), "{arguments:?}: {error}");
        ensure!(output.stdout.is_empty(), "{arguments:?}: errors do not go to standard output");
    }
    Ok(())
}
