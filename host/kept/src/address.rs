//! Where a socket is to listen.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{fs::FileTypeExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use ksi_abi::{Refusal, RefusalCode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Where a socket is to listen.
///
/// ```
/// use ksi_kept::Address;
/// assert!(Address::parse("127.0.0.1:8080").is_ok());
/// assert!(Address::parse("unix:/run/web.sock").is_ok());
/// // Names are not looked up.
/// assert!(Address::parse("localhost:8080").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// By an IP address and a port; of port 0 the system takes a free one.
    Tcp(SocketAddr),
    /// By a file at an absolute path.
    Unix(PathBuf),
}

/// A socket that listens.
pub(crate) struct Listening {
    pub(crate) descriptor: OwnedFd,
    /// Where, for people.
    pub(crate) address: String,
    pub(crate) file: Option<SocketFile>,
}

/// The file of a Unix socket, removed when this is dropped.
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    /// Of a listener that somebody else has bound there.
    pub(crate) fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Unix(path) => Some(SocketFile(path.clone())),
            Address::Tcp(_) => None,
        }
    }

    /// It stays.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs::remove_file(&self.0);
    }
}

impl Address {
    /// An IP address with a port, or `unix:` and a path.
    ///
    /// # Errors
    /// `INVALID_ADDRESS` for everything else, with an example of what to write.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match Path::new(path).is_absolute() {
                true => Ok(Address::Unix(path.into())),
                false => Err(Refusal::new(
                    RefusalCode::INVALID_ADDRESS,
                    format_args!("{path:?} is no absolute path: write \"/run/web.sock\""),
                )),
            };
        }
        text.parse().map(Address::Tcp).map_err(|_| {
            let text = format_args!(
                "{text:?} is no IP address with a port: write \"127.0.0.1:8080\" or \"[::1]:8080\" (names are not \
                 looked up)"
            );
            Refusal::new(RefusalCode::INVALID_ADDRESS, text)
        })
    }

    pub(crate) fn listen(&self) -> io::Result<Listening> {
        match self {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let address = listener.local_addr()?.to_string();
                Ok(Listening { descriptor: listener.into(), address, file: None })
            }
            Address::Unix(path) => {
                remove_stale(path)?;
                let descriptor = UnixListener::bind(path)?.into();
                let (address, file) = (path.display().to_string(), SocketFile(path.clone()));
                Ok(Listening { descriptor, address, file: Some(file) })
            }
        }
    }

    /// Where a socket that was bound for this address listens, for people.
    pub(crate) fn told(&self, descriptor: &OwnedFd) -> Option<String> {
        match self {
            Address::Tcp(_) => {
                let bound = rustix::net::getsockname(descriptor).ok()?;
                SocketAddr::try_from(bound).ok().map(|address| address.to_string())
            }
            Address::Unix(path) => Some(path.display().to_string()),
        }
    }

    /// Another socket like the one at this address, for somebody who is only tried out.
    ///
    /// # Errors
    /// Those of the system, when it binds none.
    pub fn stand_in(&self) -> io::Result<OwnedFd> {
        match self {
            Address::Tcp(address) => {
                Ok(TcpListener::bind(SocketAddr::new(address.ip(), 0))?.into())
            }
            Address::Unix(_) => {
                // Several are tried at a time, as by the tests of a plugin.
                static NEXT: AtomicU64 = AtomicU64::new(0);
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("ksi-trial-{}-{number}.sock", std::process::id());
                let path = std::env::temp_dir().join(name);
                remove_stale(&path)?;
                let listener = UnixListener::bind(&path)?;
                fs::remove_file(path)?;
                Ok(listener.into())
            }
        }
    }
}

/// The system says no more than that the address is in use.
fn in_the_way(found: fs::FileType) -> io::Error {
    let what = match (found.is_dir(), found.is_file(), found.is_symlink()) {
        (true, ..) => "a folder",
        (_, true, _) => "a file",
        (.., true) => "a symbolic link",
        _ => "something else",
    };
    let text = format!("there is {what}, and no socket: remove it, or name another path");
    io::Error::new(io::ErrorKind::AddrInUse, text)
}

/// Removes the file of a socket that nobody listens at any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(found) => return Err(in_the_way(found.file_type())),
        // Whatever is wrong there makes the bind fail.
        Err(_) => return Ok(()),
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(rustix::io::Errno::CONNREFUSED) => fs::remove_file(path),
        _ => Ok(()),
    }
}
