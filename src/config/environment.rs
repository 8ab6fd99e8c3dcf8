//! The environment, read as Kafka's container images read it.
//!
//! `KAFKA_LOG_DIRS` is `log.dirs`: the prefix goes, letters become small, `_` is a dot, `__` an
//! underscore, `___` a dash. Variables that steer a JVM and its tools are not settings.

use super::source::{Given, Origin};

/// Variables under `KAFKA_` that are not settings of a broker; a trailing `*` stands for the rest.
const NOT_SETTINGS: &[&str] = &[
    "KAFKA_VERSION",
    "KAFKA_HOME",
    "KAFKA_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_DEBUG",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_LOG4J_*",
    "KAFKA_TOOLS_LOG4J_*",
    "KAFKA_JMX_*",
];

/// The settings among the variables, sorted by variable.
pub(super) fn read(environment: &[(String, String)]) -> Vec<Given> {
    let mut settings: Vec<Given> = environment
        .iter()
        .filter_map(|(variable, text)| {
            let name = key_of(variable)?;
            let origin = Origin::Environment(variable.clone());
            Some(Given { name, text: text.clone(), origin })
        })
        .collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    settings
}

fn key_of(variable: &str) -> Option<String> {
    if variable == "CLUSTER_ID" {
        return Some(super::broker::CLUSTER_ID.name.to_owned());
    }
    let rest = variable.strip_prefix("KAFKA_")?;
    let excluded = NOT_SETTINGS.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => variable.starts_with(prefix),
        None => variable == *pattern,
    });
    let dotted = || rest.to_lowercase().replace('_', ".").replace("...", "-").replace("..", "_");
    (!excluded && !rest.is_empty()).then(dotted)
}

/// Where to listen when only `KAFKA_ADVERTISED_LISTENERS` says something: on the same ports of
/// every interface.
pub(super) fn listeners_of_advertised(advertised: &str) -> Option<String> {
    let endpoints: Option<Vec<String>> = advertised
        .split(',')
        .map(|endpoint| {
            let (name, address) = endpoint.trim().split_once("://")?;
            let (_, port) = address.rsplit_once(':')?;
            Some(format!("{name}://0.0.0.0:{port}"))
        })
        .collect();
    endpoints.map(|endpoints| endpoints.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_keys_as_in_the_container() {
        for (variable, key) in [
            ("KAFKA_LOG_DIRS", Some("log.dirs")),
            ("KAFKA_NODE_ID", Some("node.id")),
            ("KAFKA_A__B", Some("a_b")),
            ("KAFKA_A___B", Some("a-b")),
            ("KAFKA_BRAID_COMMITLOG_RING_BYTES", Some("braid.commitlog.ring.bytes")),
            ("KAFKA_CONFLUENT_SUPPORT_METRICS_ENABLE", Some("confluent.support.metrics.enable")),
            ("CLUSTER_ID", Some("braid.cluster.id")),
            ("KAFKA_VERSION", None),
            ("KAFKA_OPTS", None),
            ("KAFKA_HEAP_OPTS", None),
            ("KAFKA_LOG4J_OPTS", None),
            ("KAFKA_LOG4J_ROOT_LOGLEVEL", None),
            ("KAFKA_TOOLS_LOG4J_LOGLEVEL", None),
            ("KAFKA_JMX_PORT", None),
            ("KAFKA_JVM_PERFORMANCE_OPTS", None),
            ("KAFKA_", None),
            ("PATH", None),
            ("BRAID_NODE_ID", None),
        ] {
            assert_eq!(key_of(variable).as_deref(), key, "{variable}");
        }
    }

    #[test]
    fn listeners_follow_advertised_ones_on_every_interface() {
        assert_eq!(
            listeners_of_advertised("PLAINTEXT://broker:9092, EXTERNAL://[::1]:19092").as_deref(),
            Some("PLAINTEXT://0.0.0.0:9092,EXTERNAL://0.0.0.0:19092")
        );
        assert_eq!(listeners_of_advertised("broker:9092"), None);
    }
}
