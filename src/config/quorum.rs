//! The metadata quorum of a cluster: who votes, where this node listens for the others, and what they
//! have in common.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use braid_base::model::BrokerId;

use super::listener::ControllerListener;

/// Fewest bytes of a secret.
const SECRET_BYTES_MIN: usize = 16;
/// Most voters.
const VOTERS_MAX: usize = 31;

/// The quorum that this node is one of several voters of.
#[derive(Clone, PartialEq, Eq)]
pub struct QuorumConfig {
    /// All voters and where they listen, as host and port.
    pub voters: BTreeMap<BrokerId, String>,
    /// Where this node listens for the others, as host and port.
    pub listen: String,
    /// What all voters know and nobody else; empty is none.
    pub secret: String,
    /// Without a leader for this long, a voter stands for election.
    pub election_timeout: Duration,
    /// How often a broker tells the controller that it lives.
    pub heartbeat_interval: Duration,
    /// A broker that is not heard for so long is fenced.
    pub session_timeout: Duration,
    /// How often leadership is given back to preferred replicas; none is never.
    pub rebalance_interval: Option<Duration>,
    /// Whether a replica that may lack records leads where no other is up.
    pub unclean_elections: bool,
}

impl fmt::Debug for QuorumConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuorumConfig")
            .field("voters", &self.voters)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the quorum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Not of the form.
    #[error(
        "Invalid value {given} for configuration controller.quorum.voters: expected id@host:port, separated by commas"
    )]
    Form {
        /// The part that does not read.
        given: String,
    },
    /// A voter twice.
    #[error(
        "Invalid value {given} for configuration controller.quorum.voters: voter {id} is named twice"
    )]
    Twice {
        /// The whole value.
        given: String,
        /// The voter.
        id: BrokerId,
    },
    /// More voters than there may be.
    #[error(
        "Invalid value {given} for configuration controller.quorum.voters: there may be {VOTERS_MAX} voters at most"
    )]
    Many {
        /// The whole value.
        given: String,
    },
    /// This node is not among the voters.
    #[error(
        "Invalid value {given} for configuration controller.quorum.voters: node.id {id} is not among them, and brokers that do not vote are not built yet"
    )]
    NoVoter {
        /// The whole value.
        given: String,
        /// This node.
        id: BrokerId,
    },
    /// The role controller is missing.
    #[error(
        "Invalid value {given} for configuration process.roles: the role controller is missing, and brokers that do not vote are not built yet"
    )]
    NoController {
        /// process.roles.
        given: String,
    },
    /// No listener for the other voters.
    #[error(
        "Invalid value {given} for configuration controller.listener.names: no listener of that name is in listeners"
    )]
    NoListener {
        /// controller.listener.names.
        given: String,
    },
    /// A listener that other machines reach, without a secret.
    #[error(
        "Missing required configuration braid.cluster.secret: the controller listener {address} is open to other machines"
    )]
    NoSecret {
        /// Where it listens.
        address: String,
    },
    /// A secret that can be guessed.
    #[error(
        "Invalid value [hidden] for configuration braid.cluster.secret: it has fewer than {SECRET_BYTES_MIN} bytes"
    )]
    ShortSecret,
}

impl QuorumError {
    /// The key that is to be corrected.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Form { .. } | Self::Twice { .. } | Self::Many { .. } | Self::NoVoter { .. } => {
                "controller.quorum.voters"
            }
            Self::NoController { .. } => "process.roles",
            Self::NoListener { .. } => "controller.listener.names",
            Self::NoSecret { .. } | Self::ShortSecret => "braid.cluster.secret",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Form { .. } | Self::Twice { .. } | Self::Many { .. } => {
                "for example controller.quorum.voters=1@host-1:9093,2@host-2:9093,3@host-3:9093"
                    .to_owned()
            }
            Self::NoVoter { .. } => "name every broker of the cluster".to_owned(),
            Self::NoController { .. } => "set process.roles=broker,controller".to_owned(),
            Self::NoListener { .. } => {
                "add CONTROLLER://host:port to listeners, and set controller.listener.names=CONTROLLER".to_owned()
            }
            Self::NoSecret { .. } | Self::ShortSecret => {
                "set braid.cluster.secret to the same long random text on every node".to_owned()
            }
        }
    }
}

/// What the quorum is read from.
pub(super) struct QuorumKeys<'a> {
    pub(super) id: BrokerId,
    pub(super) voters: &'a [String],
    pub(super) roles: &'a [String],
    pub(super) listener_names: &'a [String],
    pub(super) listeners: &'a [ControllerListener],
    pub(super) secret: &'a str,
    pub(super) election_timeout: Duration,
    pub(super) heartbeat_interval: Duration,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_interval: Option<Duration>,
    pub(super) unclean_elections: bool,
}

/// The quorum; none of a node alone, which one voter or none means.
pub(super) fn read(keys: &QuorumKeys<'_>) -> Result<Option<QuorumConfig>, QuorumError> {
    if keys.voters.len() < 2 {
        return Ok(None);
    }
    let given = keys.voters.join(",");
    if keys.voters.len() > VOTERS_MAX {
        return Err(QuorumError::Many { given });
    }
    let mut voters = BTreeMap::new();
    for part in keys.voters {
        let (id, address) = voter(part).ok_or_else(|| QuorumError::Form { given: part.clone() })?;
        if voters.insert(id, address).is_some() {
            return Err(QuorumError::Twice { given, id });
        }
    }
    if !voters.contains_key(&keys.id) {
        return Err(QuorumError::NoVoter { given, id: keys.id });
    }
    if !keys.roles.iter().any(|role| role == "controller") {
        return Err(QuorumError::NoController { given: keys.roles.join(",") });
    }
    let Some(listener) = keys.listeners.first() else {
        return Err(QuorumError::NoListener { given: keys.listener_names.join(",") });
    };
    if keys.secret.is_empty() && !listener.loopback() {
        return Err(QuorumError::NoSecret { address: listener.bind_address() });
    }
    if !keys.secret.is_empty() && keys.secret.len() < SECRET_BYTES_MIN {
        return Err(QuorumError::ShortSecret);
    }
    Ok(Some(QuorumConfig {
        voters,
        listen: listener.bind_address(),
        secret: keys.secret.to_owned(),
        election_timeout: keys.election_timeout,
        heartbeat_interval: keys.heartbeat_interval,
        session_timeout: keys.session_timeout,
        rebalance_interval: keys.rebalance_interval,
        unclean_elections: keys.unclean_elections,
    }))
}

/// A part `id@host:port`.
fn voter(part: &str) -> Option<(BrokerId, String)> {
    let (id, address) = part.split_once('@')?;
    let id: i32 = id.trim().parse().ok().filter(|id| *id >= 0)?;
    let (host, port) = address.rsplit_once(':')?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    (is_port && !host.is_empty()).then(|| (BrokerId(id), address.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    const VOTERS: (&str, &str) =
        ("controller.quorum.voters", "1@127.0.0.1:19093,2@127.0.0.1:29093,3@host:39093");
    const LISTENERS: (&str, &str) =
        ("listeners", "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093");
    const NAMES: (&str, &str) = ("controller.listener.names", "CONTROLLER");

    fn refused(settings: &[(&str, &str)]) -> String {
        let error = Config::of(settings).unwrap_err();
        error.to_string()
    }

    #[test]
    fn a_quorum_is_read() {
        let config = Config::of(&[VOTERS, LISTENERS, NAMES, ("node.id", "3")]).unwrap();
        let quorum = config.node.quorum.as_ref().unwrap();
        let voters: Vec<_> = quorum.voters.iter().map(|(id, at)| (id.0, at.as_str())).collect();
        assert_eq!(voters, [(1, "127.0.0.1:19093"), (2, "127.0.0.1:29093"), (3, "host:39093")]);
        assert_eq!(quorum.listen, "127.0.0.1:9093");
        assert_eq!(quorum.session_timeout.as_millis(), 9000);
        assert_eq!(config.network.listeners.len(), 1);
        assert_eq!(config.warnings, []);
    }

    #[test]
    fn one_voter_or_none_is_a_node_alone() {
        for voters in ["", "7@broker:29093", "nonsense"] {
            let config = Config::of(&[("controller.quorum.voters", voters)]).unwrap();
            assert_eq!(config.node.quorum, None, "{voters}");
        }
    }

    #[test]
    fn what_cannot_be_a_quorum_is_refused() {
        let with = |voters| refused(&[("controller.quorum.voters", voters), LISTENERS, NAMES]);
        for malformed in ["1@a:1,2", "1@a:1,2@b", "1@a:1,-2@b:1", "1@a:1,2@b:0", "1@a:1,2@:9"] {
            assert!(with(malformed).contains("expected id@host:port"), "{malformed}");
        }
        assert!(with("1@a:1,1@b:1").ends_with("voter 1 is named twice"));
        assert!(with("2@a:1,3@b:1").contains("node.id 1 is not among them"));
        let many = (1..33).map(|id| format!("{id}@h:1")).collect::<Vec<_>>().join(",");
        assert!(with(&many).contains("31 voters at most"));
        assert!(refused(&[VOTERS]).contains("no listener of that name"));
        let roles = ("process.roles", "broker");
        assert!(refused(&[VOTERS, LISTENERS, NAMES, roles]).contains("role controller is missing"));
    }

    #[test]
    fn a_controller_listener_that_is_open_needs_a_secret() {
        let open = ("listeners", "PLAINTEXT://127.0.0.1:9092,CONTROLLER://:9093");
        let told = refused(&[VOTERS, open, NAMES]);
        assert!(told.starts_with("Missing required configuration braid.cluster.secret"), "{told}");
        let short = refused(&[VOTERS, open, NAMES, ("braid.cluster.secret", "short")]);
        assert!(!short.contains("short f") && short.contains("fewer than 16 bytes"), "{short}");
        let secret = ("braid.cluster.secret", "0123456789abcdef");
        let config = Config::of(&[VOTERS, open, NAMES, secret]).unwrap();
        let quorum = config.node.quorum.unwrap();
        assert_eq!(quorum.secret, "0123456789abcdef");
        assert!(!format!("{quorum:?}").contains("0123456789abcdef"));
    }
}
