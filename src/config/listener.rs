//! Listeners: where the broker binds and what it tells clients.
//!
//! The addresses are text until a socket is opened; the port that a listener with port 0 gets is
//! known only then, which is why the advertised port may be open.

use std::net::IpAddr;

/// One socket to listen on, and the address clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Name, in capitals.
    pub name: String,
    /// Host to bind: a name or an address; IPv6 without brackets.
    pub host: String,
    /// Port to bind; 0 takes a free one.
    pub port: u16,
    /// Host that clients are told.
    pub advertised_host: String,
    /// Port that clients are told; `None` is the port really bound.
    pub advertised_port: Option<u16>,
    /// New connections in a second, besides what bounds those of all listeners.
    pub creations_per_second_max: u32,
}

impl ListenerConfig {
    /// The address to bind, as [`braid_base::env::Net::listen`] takes it.
    #[must_use]
    pub fn bind_address(&self) -> String {
        with_port(&self.host, self.port)
    }

    /// The host and port to tell clients, once the port really bound is known.
    #[must_use]
    pub fn advertised(&self, bound_port: u16) -> (&str, u16) {
        (&self.advertised_host, self.advertised_port.unwrap_or(bound_port))
    }

    /// Whether only this machine can connect.
    #[must_use]
    pub fn loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// A listener for the other controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ControllerListener {
    /// Name, in capitals.
    pub(super) name: String,
    host: String,
    port: u16,
}

impl ControllerListener {
    /// The address to bind, as [`braid_base::env::Net::listen`] takes it.
    pub(super) fn bind_address(&self) -> String {
        with_port(if self.host.is_empty() { "0.0.0.0" } else { &self.host }, self.port)
    }

    /// Whether only this machine can connect.
    pub(super) fn loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// What is wrong with the listeners.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenerError {
    /// Not of the form.
    #[error(
        "Invalid value {given} for configuration {key}: expected NAME://host:port, separated by commas"
    )]
    Form {
        /// `listeners` or `advertised.listeners`.
        key: &'static str,
        /// The part that does not read.
        given: String,
    },
    /// A name is used twice.
    #[error(
        "Invalid value {given} for configuration {key}: each listener must have a different name"
    )]
    Name {
        /// `listeners` or `advertised.listeners`.
        key: &'static str,
        /// The name.
        given: String,
    },
    /// A port is used twice.
    #[error(
        "Invalid value {given} for configuration listeners: each listener must have a different port"
    )]
    Port {
        /// The port.
        given: u16,
    },
    /// A name without a security protocol.
    #[error(
        "Invalid value {name} for configuration listeners: no security protocol defined for listener {name}"
    )]
    NoProtocol {
        /// The listener.
        name: String,
    },
    /// A part of the map that does not read.
    #[error(
        "Invalid value {given} for configuration listener.security.protocol.map: expected NAME:PROTOCOL, separated by commas"
    )]
    Map {
        /// The part.
        given: String,
    },
    /// A security protocol that is not served.
    #[error(
        "Invalid value {name} for configuration listeners: listener {name} asks for {protocol}, and only PLAINTEXT is served yet"
    )]
    Protocol {
        /// The listener.
        name: String,
        /// What it asks for.
        protocol: String,
    },
    /// Only controller listeners, or none.
    #[error("Invalid value {given} for configuration listeners: no listener for clients is left")]
    NoneLeft {
        /// The whole value.
        given: String,
    },
    /// An advertised listener that does not exist.
    #[error(
        "Invalid value {name} for configuration advertised.listeners: the listener is not among those in listeners"
    )]
    NotListening {
        /// The listener.
        name: String,
    },
    /// An address that no client can reach.
    #[error(
        "Invalid value {given} for configuration {key}: clients of listener {name} cannot connect to the address of every interface"
    )]
    Unreachable {
        /// The key to correct.
        key: &'static str,
        /// The listener.
        name: String,
        /// The host that would be advertised.
        given: String,
        /// A port for the hint.
        port: u16,
    },
}

impl ListenerError {
    /// The key that is to be corrected.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Form { key, .. } | Self::Name { key, .. } | Self::Unreachable { key, .. } => key,
            Self::Port { .. }
            | Self::NoProtocol { .. }
            | Self::Protocol { .. }
            | Self::NoneLeft { .. } => "listeners",
            Self::Map { .. } => "listener.security.protocol.map",
            Self::NotListening { .. } => "advertised.listeners",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Form { key, .. } => format!("for example {key}=PLAINTEXT://127.0.0.1:9092"),
            Self::Name { .. } => "give each listener a name of its own, and map the names to PLAINTEXT in listener.security.protocol.map".to_owned(),
            Self::Port { .. } => "give each listener a port of its own".to_owned(),
            Self::NoProtocol { name } => {
                format!("add {name}:PLAINTEXT to listener.security.protocol.map")
            }
            Self::Map { .. } => {
                "for example listener.security.protocol.map=PLAINTEXT:PLAINTEXT,EXTERNAL:PLAINTEXT".to_owned()
            }
            Self::Protocol { name, .. } => format!(
                "use PLAINTEXT://…, or map {name} to PLAINTEXT in listener.security.protocol.map"
            ),
            Self::NoneLeft { .. } => {
                "name a listener that controller.listener.names does not name".to_owned()
            }
            Self::NotListening { name } => format!("add {name}://host:port to listeners"),
            Self::Unreachable { name, port, .. } => format!(
                "set advertised.listeners={name}://<a name or address of this machine that clients reach>:{port}"
            ),
        }
    }
}

/// The texts of the four keys that say where to listen.
pub(super) struct ListenerKeys<'a> {
    pub(super) listeners: &'a [String],
    pub(super) advertised: &'a [String],
    pub(super) protocols: &'a str,
    pub(super) controllers: &'a [String],
}

/// The listeners to open for clients, in the order given, and those of controllers.
pub(super) fn read(
    keys: &ListenerKeys<'_>,
) -> Result<(Vec<ListenerConfig>, Vec<ControllerListener>), ListenerError> {
    let all = endpoints("listeners", keys.listeners)?;
    let advertised = endpoints("advertised.listeners", keys.advertised)?;
    let protocols = protocols(keys.protocols)?;
    let (left_out, open): (Vec<_>, Vec<_>) = all.into_iter().partition(|endpoint| {
        keys.controllers.iter().any(|name| name.eq_ignore_ascii_case(&endpoint.name))
    });
    let for_controllers: Result<Vec<_>, _> = left_out
        .into_iter()
        .map(|endpoint| {
            // As in Kafka the map need not name them.
            if protocols.iter().any(|(listener, _)| *listener == endpoint.name) {
                plaintext(&endpoint, &protocols)?;
            }
            let Endpoint { name, host, port } = endpoint;
            Ok(ControllerListener { name, host, port })
        })
        .collect();
    let for_controllers = for_controllers?;
    distinct_ports(&open)?;
    if let Some(stray) = advertised.iter().find(|ad| {
        open.iter().all(|endpoint| endpoint.name != ad.name)
            && for_controllers.iter().all(|listener| listener.name != ad.name)
    }) {
        return Err(ListenerError::NotListening { name: stray.name.clone() });
    }
    if open.is_empty() {
        return Err(ListenerError::NoneLeft { given: keys.listeners.join(",") });
    }
    let listeners: Result<Vec<_>, _> = open
        .into_iter()
        .map(|endpoint| {
            plaintext(&endpoint, &protocols)?;
            let told = advertised.iter().find(|ad| ad.name == endpoint.name);
            listener(&endpoint, told)
        })
        .collect();
    Ok((listeners?, for_controllers))
}

#[derive(Debug, Clone)]
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

fn endpoints(key: &'static str, parts: &[String]) -> Result<Vec<Endpoint>, ListenerError> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for part in parts {
        let form = || ListenerError::Form { key, given: part.clone() };
        let (name, address) = part.split_once("://").ok_or_else(form)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(form)?,
            None if host.contains(':') => return Err(form()),
            None => host,
        };
        let port = port.parse().map_err(|_| form())?;
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        {
            return Err(form());
        }
        let name = name.to_ascii_uppercase();
        if endpoints.iter().any(|endpoint| endpoint.name == name) {
            return Err(ListenerError::Name { key, given: name });
        }
        endpoints.push(Endpoint { name, host: host.to_owned(), port });
    }
    Ok(endpoints)
}

fn protocols(text: &str) -> Result<Vec<(String, String)>, ListenerError> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once(':') {
            Some((name, protocol)) => {
                Ok((name.trim().to_ascii_uppercase(), protocol.trim().to_ascii_uppercase()))
            }
            None => Err(ListenerError::Map { given: part.to_owned() }),
        })
        .collect()
}

/// Two listeners may share a port on different addresses, and a free port is never shared.
fn distinct_ports(open: &[Endpoint]) -> Result<(), ListenerError> {
    let clash = |a: &Endpoint, b: &Endpoint| {
        a.port != 0
            && a.port == b.port
            && (a.host == b.host || every_interface(&a.host) || every_interface(&b.host))
    };
    let twice = open.iter().enumerate().find(|(i, a)| open[..*i].iter().any(|b| clash(a, b)));
    match twice {
        Some((_, endpoint)) => Err(ListenerError::Port { given: endpoint.port }),
        None => Ok(()),
    }
}

fn plaintext(endpoint: &Endpoint, protocols: &[(String, String)]) -> Result<(), ListenerError> {
    let name = endpoint.name.clone();
    match protocols.iter().find(|(listener, _)| *listener == name) {
        None => Err(ListenerError::NoProtocol { name }),
        Some((_, protocol)) if protocol == "PLAINTEXT" => Ok(()),
        Some((_, protocol)) => Err(ListenerError::Protocol { name, protocol: protocol.clone() }),
    }
}

fn listener(endpoint: &Endpoint, told: Option<&Endpoint>) -> Result<ListenerConfig, ListenerError> {
    let (key, ad) = match told {
        Some(told) => ("advertised.listeners", told),
        None => ("listeners", endpoint),
    };
    if every_interface(&ad.host) {
        return Err(ListenerError::Unreachable {
            key,
            name: endpoint.name.clone(),
            given: if ad.host.is_empty() { "(empty host)".to_owned() } else { ad.host.clone() },
            port: if ad.port == 0 { 9092 } else { ad.port },
        });
    }
    let host = if endpoint.host.is_empty() { "0.0.0.0" } else { &endpoint.host };
    Ok(ListenerConfig {
        name: endpoint.name.clone(),
        host: host.to_owned(),
        port: endpoint.port,
        advertised_host: ad.host.clone(),
        advertised_port: (ad.port != 0).then_some(ad.port),
        creations_per_second_max: u32::MAX,
    })
}

/// Name, in capitals, of the listener that `key` is set for by this name.
pub(super) fn named_in(name: &str, key: &str) -> Option<String> {
    let of_listener = name.strip_prefix("listener.name.")?.strip_suffix(key)?;
    Some(of_listener.strip_suffix('.')?.to_ascii_uppercase())
}

fn every_interface(host: &str) -> bool {
    host.is_empty() || host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests;
