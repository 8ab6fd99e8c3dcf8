//! Addresses that the broker itself calls: plain http, since there is no TLS yet.

/// Longest address.
const SIZE_BYTES_MAX: usize = 2048;

/// An address of the form `http://host[:port][/path]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// Host and port, as [`braid_base::env::Net::connect`] takes them.
    pub authority: String,
    /// The path and what follows, from the slash on.
    pub path: String,
}

impl HttpUrl {
    /// Reads an address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '#' | '\\' | '"');
        let fits = text.len() <= SIZE_BYTES_MAX && text.chars().all(plain);
        let rest = text.strip_prefix("http://").filter(|_| fits)?;
        let (host, path) = match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('/') => rest.split_at(at),
            Some(_) => return None,
            None => (rest, "/"),
        };
        let bracketed = host.starts_with('[').then(|| host.find(']')).flatten();
        let name_end = match bracketed {
            Some(end) => end + 1,
            None => host.find(':').unwrap_or(host.len()),
        };
        let (name, port) = host.split_at(name_end);
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port: &u16| *port > 0)?,
            None if port.is_empty() => 80,
            None => return None,
        };
        let is_name = bracketed.is_some() || !name.contains(['[', ']']);
        (!name.is_empty() && is_name)
            .then(|| Self { authority: format!("{name}:{port}"), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, authority, path) in [
            ("http://127.0.0.1:8000/check", "127.0.0.1:8000", "/check"),
            ("http://localhost", "localhost:80", "/"),
            ("http://a.example/b?c=d", "a.example:80", "/b?c=d"),
            ("http://[::1]:9/", "[::1]:9", "/"),
        ] {
            let url = HttpUrl { authority: authority.to_owned(), path: path.to_owned() };
            assert_eq!(HttpUrl::parse(text), Some(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_address_is_refused() {
        for text in [
            "",
            "https://a/",
            "http://",
            "http:///x",
            "http://a:x/",
            "http://a:0/",
            "http://a:70000",
            "http://u@a/",
            "http://a b/",
            "http://a/\r\nx",
            "http://a?x",
            "http://[::1/",
            "ftp://a/",
        ] {
            assert_eq!(HttpUrl::parse(text), None, "{text}");
        }
    }
}
