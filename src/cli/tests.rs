use super::*;
use crate::env::real::RealFs;

fn ask(arguments: &[&str]) -> Command {
    let arguments = ["braid"].iter().chain(arguments);
    command(Arguments::try_parse_from(arguments).unwrap(), Vec::new())
}

fn sources(arguments: &[&str]) -> Sources {
    match ask(arguments) {
        Command::Run(sources) => sources,
        other => panic!("{other:?}"),
    }
}

fn said(sources: &Sources) -> String {
    let mut out = Vec::new();
    match Config::load(sources, &RealFs) {
        Ok(config) => summarise(&config, &mut out).unwrap(),
        Err(error) => explain(&error, &mut out).unwrap(),
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn without_arguments_the_broker_runs_on_defaults() {
    let sources = sources(&[]);
    assert_eq!(sources.file, None);
    assert!(sources.overrides.is_empty());
}

#[test]
fn conveniences_are_settings_and_x_is_stronger() {
    let sources = sources(&[
        "--config",
        "a.properties",
        "--data-dir",
        "/d",
        "--listen",
        "127.0.0.1:0",
        "-X",
        "num.partitions=4",
        "-Xlisteners=PLAINTEXT://[::1]:1",
        "-X",
        "broker.rack=a=b",
    ]);
    assert_eq!(sources.file.as_deref(), Some(std::path::Path::new("a.properties")));
    let pairs: Vec<_> = sources.overrides.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("log.dirs", "/d"),
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("num.partitions", "4"),
            ("listeners", "PLAINTEXT://[::1]:1"),
            ("broker.rack", "a=b"),
        ]
    );
    let config = Config::load(&Sources { file: None, ..sources }, &RealFs).unwrap();
    assert_eq!(config.network.listeners[0].bind_address(), "[::1]:1");
}

#[test]
fn log_commands_name_a_directory() {
    assert!(matches!(ask(&["log", "dump", "d"]), Command::LogDump { dir, spec }
            if dir.as_os_str() == "d" && spec == DumpSpec::default()));
    assert!(
        matches!(ask(&["log", "check", "d"]), Command::LogCheck { dir } if dir.as_os_str() == "d")
    );
    assert!(matches!(ask(&["--check-config"]), Command::CheckConfig(_)));
}

#[test]
fn wrong_arguments_end_with_exit_code_2() {
    for arguments in [&["-X", "novalue"][..], &["-X", "=1"], &["log"], &["--nothing"], &["sevre"]] {
        let arguments = ["braid"].iter().chain(arguments);
        let error = Arguments::try_parse_from(arguments).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_BAD_CONFIG));
    }
}

#[test]
fn a_check_prints_what_is_set_and_where_the_broker_would_be() {
    let sources = sources(&["--listen", "127.0.0.1:0", "-X", "num.io.threads=9"]);
    assert_eq!(
        said(&sources),
        "listeners=PLAINTEXT://127.0.0.1:0    # on the command line\n\
         warning: num.io.threads, set on the command line, has no effect in Braid because threads follow the number of cores\n\
         ok: would listen on 127.0.0.1:0\n\
         ok: would serve the native API at http://127.0.0.1:8081\n\
         ok: would keep its data in braid-data\n"
    );
}

#[test]
fn faults_are_printed_with_a_hint() {
    assert_eq!(
        said(&sources(&["-X", "num.partitions=x"])),
        "error: Invalid value x for configuration num.partitions: Not a number of type INT\n\
         hint: set on the command line; expected a 32-bit integer of at least 1; the default is 1\n"
    );
    assert!(said(&sources(&["--config", "/nowhere"])).contains("error: cannot read /nowhere: "));
}

#[test]
fn the_arguments_do_not_contradict_each_other() {
    Arguments::command().debug_assert();
}

#[test]
fn serve_is_what_no_command_is() {
    assert_eq!(
        sources(&["serve", "--listen", "h:1"]).overrides,
        [("listeners".to_owned(), "PLAINTEXT://h:1".to_owned())]
    );
    assert!(matches!(ask(&[]), Command::Run(_)));
}

#[test]
fn commands_for_a_running_broker_take_the_target_before_or_behind() {
    for arguments in [
        &["topic", "list", "--api", "http://h:1", "-o", "json"][..],
        &["topic", "--api", "http://h:1", "-o", "json", "list"],
        &["dlq", "redrive", "billing", "3", "4", "--topic", "t"],
        &["dlq", "delete", "billing", "--all"],
        &["produce", "t", "text", "--key", "k", "--header", "a=b", "--delay", "90s"],
        &["produce", "t", "--key-separator", ":"],
        &["consume", "t", "--group", "g", "--max", "3"],
        &["group", "reset", "g", "t", "--latest"],
        &["half", "commit", "abc"],
        &["timer", "recall", "abc"],
        &["message", "get", "t", "0", "--offset", "5"],
        &["cluster", "show"],
        &["cluster", "replace", "3", "--directory", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"],
        &["config", "set", "log.retention.ms=1"],
        &["context", "add", "a", "http://h:1"],
    ] {
        assert!(matches!(ask(arguments), Command::Remote { .. }), "{arguments:?}");
    }
}

#[test]
fn what_leaves_open_what_is_meant_is_refused() {
    for arguments in [
        &["dlq", "delete", "billing"][..],
        &["dlq", "delete", "billing", "3", "--all"],
        &["group", "reset", "g", "t"],
        &["group", "reset", "g", "t", "--latest", "--earliest"],
        &["consume", "t"],
        &["produce", "t", "text", "--delay", "90"],
        &["produce", "t", "--message-id", "a"],
        &["topic", "create", "t", "--set", "novalue"],
    ] {
        let arguments = ["braid"].iter().chain(arguments);
        assert!(Arguments::try_parse_from(arguments.clone()).is_err(), "{arguments:?}");
    }
}

#[test]
fn every_command_has_completions() {
    let mut script = Vec::new();
    clap_complete::generate(Shell::Bash, &mut Arguments::command(), "braid", &mut script);
    let script = String::from_utf8(script).unwrap();
    for command in ["topic", "group", "produce", "consume", "message", "half", "timer", "dlq"] {
        assert!(script.contains(&format!("braid__subcmd__{command}")), "{command}");
    }
}
