//! Telling whoever started the process how it is, by the protocol of `sd_notify`: a datagram to
//! the socket that the environment variable `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The environment variable that names the socket.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Clients are served.
    Ready,
    /// The end has begun.
    Stopping,
}

/// Tells the socket of this name: a path, or after `@` a name of the abstract kind.
///
/// # Errors
/// The name is none, or nobody listens there.
pub fn notify(socket: &OsStr, state: State) -> io::Result<()> {
    let told: &[u8] = match state {
        State::Ready => b"READY=1\n",
        State::Stopping => b"STOPPING=1\n",
    };
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(told, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listener: &UnixDatagram) -> String {
        let mut buf = [0; 64];
        let len = listener.recv(&mut buf).unwrap();
        String::from_utf8_lossy(&buf[..len]).into_owned()
    }

    #[test]
    fn states_reach_a_socket_in_the_file_system_and_an_abstract_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str(), State::Ready).unwrap();
        assert_eq!(told(&listener), "READY=1\n");
        let name = path.to_str().unwrap();
        let listener =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        notify(OsStr::new(&format!("@{name}")), State::Stopping).unwrap();
        assert_eq!(told(&listener), "STOPPING=1\n");
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        assert!(notify(OsStr::new("/nowhere/at/all"), State::Ready).is_err());
        assert!(notify(OsStr::new(""), State::Ready).is_err());
    }
}
