//! Where the native API listens, and the guard in front of it: whoever reaches it may do
//! everything, so an address that other machines reach has to be asked for twice.

use std::net::IpAddr;

use super::broker::NATIVE_OPEN;

/// One socket of the native API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeListenerConfig {
    /// Host to bind: a name or an address; IPv6 without brackets.
    pub host: String,
    /// Port to bind; 0 takes a free one.
    pub port: u16,
}

impl NativeListenerConfig {
    /// The address to bind, as [`braid_base::env::Net::listen`] takes it.
    #[must_use]
    pub fn bind_address(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether only this machine can connect.
    #[must_use]
    pub fn loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

/// What is wrong with the listeners of the native API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NativeListenerError {
    /// Not of the form.
    #[error(
        "Invalid value {given} for configuration braid.native.listeners: expected http://host:port, separated by commas"
    )]
    Form {
        /// The part that does not read.
        given: String,
    },
    /// The same address twice.
    #[error(
        "Invalid value {given} for configuration braid.native.listeners: each listener must have an address of its own"
    )]
    Twice {
        /// The part.
        given: String,
    },
    /// Other machines would reach it.
    #[error(
        "Invalid value {given} for configuration braid.native.listeners: other machines would reach the native API, which asks nobody who they are"
    )]
    Open {
        /// The part.
        given: String,
    },
}

impl NativeListenerError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Form { .. } => {
                "for example braid.native.listeners=http://127.0.0.1:8081; empty switches the native API off".to_owned()
            }
            Self::Twice { .. } => "name each address once".to_owned(),
            Self::Open { .. } => format!(
                "listen on 127.0.0.1, behind something that asks; or, where everybody who reaches the address may do everything, set {}=true",
                NATIVE_OPEN.name
            ),
        }
    }
}

/// The listeners of the key's parts, and those among them that other machines reach.
pub(super) fn read(
    parts: &[String],
    open: bool,
) -> Result<Vec<NativeListenerConfig>, NativeListenerError> {
    let mut listeners: Vec<NativeListenerConfig> = Vec::new();
    for part in parts {
        let form = || NativeListenerError::Form { given: part.clone() };
        let address = part.strip_prefix("http://").ok_or_else(form)?;
        let (host, port) = address.trim_end_matches('/').rsplit_once(':').ok_or_else(form)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(form)?,
            None if host.contains([':', '/']) => return Err(form()),
            None if host.is_empty() => "0.0.0.0",
            None => host,
        };
        let port = port.parse().map_err(|_| form())?;
        let listener = NativeListenerConfig { host: host.to_owned(), port };
        if port != 0 && listeners.contains(&listener) {
            return Err(NativeListenerError::Twice { given: part.clone() });
        }
        if !open && !listener.loopback() {
            return Err(NativeListenerError::Open { given: part.clone() });
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, LoadError, Warning};
    use super::*;

    fn of(listeners: &str) -> Result<Vec<NativeListenerConfig>, NativeListenerError> {
        let parts: Vec<String> = match listeners {
            "" => Vec::new(),
            some => some.split(',').map(str::to_owned).collect(),
        };
        read(&parts, false)
    }

    #[test]
    fn loopback_addresses_are_taken_and_nothing_is_off() {
        let cases = [
            ("http://127.0.0.1:8081", vec!["127.0.0.1:8081"]),
            ("http://localhost:1/", vec!["localhost:1"]),
            ("http://[::1]:8081,http://127.0.0.1:0", vec!["[::1]:8081", "127.0.0.1:0"]),
            ("", vec![]),
        ];
        for (text, expected) in cases {
            let bound: Vec<_> = of(text).unwrap().iter().map(|l| l.bind_address()).collect();
            assert_eq!(bound, expected, "{text}");
        }
    }

    #[test]
    fn wrong_lists_are_refused() {
        for text in [
            "8081",
            "https://127.0.0.1:1",
            "http://127.0.0.1",
            "http://::1:80",
            "http://a:x",
            "http://a/b:1",
        ] {
            assert!(matches!(of(text), Err(NativeListenerError::Form { .. })), "{text}");
        }
        let twice = of("http://127.0.0.1:1,http://127.0.0.1:1");
        assert!(matches!(twice, Err(NativeListenerError::Twice { .. })));
    }

    #[test]
    fn an_address_that_others_reach_has_to_be_asked_for_twice() {
        for host in ["0.0.0.0", "[::]", "broker.example", "10.0.0.1", ""] {
            let text = format!("http://{host}:8081");
            let settings = [("braid.native.listeners", text.as_str())];
            let Err(LoadError::Faults { faults, .. }) = Config::of(&settings) else {
                panic!("{text} is taken")
            };
            assert!(faults[0].hint().contains(NATIVE_OPEN.name), "{}", faults[0].hint());
            let meant = [settings[0], (NATIVE_OPEN.name, "true")];
            let config = Config::of(&meant).unwrap();
            assert_eq!(config.native.listeners.len(), 1);
            assert!(matches!(config.warnings[..], [Warning::NativeExposed { .. }]));
        }
    }
}
