//! Several brokers as one cluster, each a process of its own.

use anyhow::{Result, anyhow};

use crate::server::{Server, free_port};

/// Starts so many brokers that form a cluster, with Kafka's keys as settings of all.
///
/// # Errors
/// As [`Server::start`].
pub fn start(count: usize, settings: &[(&str, &str)]) -> Result<Vec<Server>> {
    let mut ports = Vec::new();
    for _ in 0..count {
        ports.push((free_port()?, free_port()?));
    }
    let voters = (1..).zip(&ports).map(|(id, (_, port))| format!("{id}@127.0.0.1:{port}"));
    let voters = voters.collect::<Vec<_>>().join(",");
    // The cluster is formed when all of them are there, so each start waits for the others.
    std::thread::scope(|scope| {
        let starts: Vec<_> = (1..)
            .zip(&ports)
            .map(|(id, (port, controllers))| {
                let (id, voters): (u32, &str) = (id, &voters);
                scope.spawn(move || {
                    let id = id.to_string();
                    let listeners = format!(
                        "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controllers}"
                    );
                    let mut all = vec![
                        ("node.id", id.as_str()),
                        ("listeners", &listeners),
                        ("controller.listener.names", "CONTROLLER"),
                        ("controller.quorum.voters", voters),
                    ];
                    all.extend_from_slice(settings);
                    Server::start(&all)
                })
            })
            .collect();
        let started = starts.into_iter().map(|start| match start.join() {
            Ok(server) => server,
            Err(_) => Err(anyhow!("a start panicked, see above")),
        });
        started.collect()
    })
}
