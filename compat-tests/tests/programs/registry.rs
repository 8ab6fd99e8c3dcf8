//! A schema registry that keeps its schemas in Kafka topics: what was registered is there after broker and registry were
//! started again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::Kind;
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use braid_compat_tests::service::Service;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(90);
const SCHEMAS: u64 = 20;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("registry::schemas_outlive_broker_and_registry", schemas);
}

/// The registry's process and its address.
struct Registry {
    service: Service,
    port: u16,
}

impl Registry {
    fn start(server: &Server) -> Result<Registry> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("java");
        command.args(["-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg("-Dapicurio.storage.kind=kafkasql");
        command.arg(format!("-Dapicurio.kafkasql.bootstrap.servers={}", server.bootstrap()));
        command.arg(format!("-Dquarkus.http.port={port}")).arg("-Dquarkus.http.host=127.0.0.1");
        command.arg("-jar").arg(install::registry()?).current_dir(install::scratch()?);
        let service = Service::start("the registry", &mut command)?;
        let mut registry = Registry { service, port };
        // It answers before it has read its topic to the end, and is ready afterwards.
        registry.service.wait(TIMEOUT, || Ok(ask(port, "GET", "/health/ready", None).ok()))?;
        Ok(registry)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let path = format!("/apis/ccompat/v7{path}");
        ask(self.port, method, &path, body).with_context(|| self.service.tail())
    }
}

/// One request; its answer if that is 200.
fn ask(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection, in one piece.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, told) =
        answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{method} {path} ended with {head}\n{told}");
    Ok(serde_json::from_str(told)?)
}

fn schema(number: u64) -> String {
    let field = format!("field_{number}");
    json!({"type": "record", "name": "Thing", "fields": [{"name": field, "type": "long"}]})
        .to_string()
}

fn schemas(world: &World) -> Result<()> {
    let mut server = Server::start(&[])?;
    let registry = Registry::start(&server)?;
    let mut ids = Vec::new();
    for number in 0..SCHEMAS {
        let path = format!("/subjects/thing-{number}/versions");
        let told = registry.ask("POST", &path, Some(&json!({"schema": schema(number)})))?;
        ids.push(told["id"].as_u64().with_context(|| format!("{told}"))?);
    }
    registry.service.stop()?;
    let journal = json!({"topic": "kafkasql-journal", "partitions": [0], "at": "latest"});
    let client = Kind::Java.shared()?;
    let end = client.ask("list_offsets", &server, journal.clone())?;
    server.stop()?;
    server.restart()?;
    ensure!(client.ask("list_offsets", &server, journal)? == end, "the journal ended at {end}");

    let registry = Registry::start(&server)?;
    let subjects = registry.ask("GET", "/subjects", None)?;
    ensure!(
        subjects.as_array().is_some_and(|all| all.len() == ids.len()),
        "of {} subjects there are {subjects}\n{}",
        ids.len(),
        registry.service.tail()
    );
    for (number, id) in (0..).zip(&ids) {
        let told = registry.ask("GET", &format!("/schemas/ids/{id}"), None)?;
        let found: Value = serde_json::from_str(told["schema"].as_str().unwrap_or_default())?;
        ensure!(found == serde_json::from_str::<Value>(&schema(number))?, "{told}");
        let told =
            registry.ask("GET", &format!("/subjects/thing-{number}/versions/latest"), None)?;
        ensure!(told["id"] == *id && told["version"] == 1, "{told}");
    }
    // The same schema again is no new one.
    let told =
        registry.ask("POST", "/subjects/thing-0/versions", Some(&json!({"schema": schema(0)})))?;
    ensure!(told["id"] == ids[0], "{told}");
    registry.service.stop()?;
    world.ran(Program::Registry, 3 * ids.len());
    Ok(())
}
