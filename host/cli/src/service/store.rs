//! systemd's descriptor store: what plugins keep is kept by the service manager as well, so that a
//! restart of the host closes no socket.
//!
//! A descriptor has one name there, made of its plugin and of its own.

use std::env;
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use ksi_host::{DescriptorStore, StoredDescriptor};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};

/// Before the name of a plugin. Other names are of what units say.
const PREFIX: &str = "ksi.";
/// What a service manager takes.
const LONGEST: usize = 255;

/// The store of the service manager at this address.
pub(super) struct Store {
    pub(super) socket: UnixDatagram,
    pub(super) manager: SocketAddrUnix,
}

/// Whether the service manager keeps anything for this process.
pub(super) fn is_there() -> bool {
    let most = env::var("FDSTORE").ok().and_then(|text| text.parse::<u32>().ok());
    most.is_some_and(|most| most > 0)
}

impl DescriptorStore for Store {
    fn store(&self, plugin: &str, name: &str, descriptor: BorrowedFd<'_>) {
        let Some(stored) = stored_name(plugin, name) else {
            tracing::warn!(
                plugin,
                "{name} is not kept beyond this host: its name is too long for a service manager"
            );
            return;
        };
        if !is_socket(descriptor) {
            tracing::warn!(
                plugin,
                "{name} is not kept beyond this host: it is no socket, and nothing else is"
            );
            return;
        }
        self.tell(plugin, name, &format!("FDSTORE=1\nFDNAME={stored}"), &[descriptor]);
    }

    fn forget(&self, plugin: &str, name: &str) {
        if let Some(stored) = stored_name(plugin, name) {
            self.tell(plugin, name, &format!("FDSTOREREMOVE=1\nFDNAME={stored}"), &[]);
        }
    }
}

impl Store {
    fn tell(&self, plugin: &str, name: &str, text: &str, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            beside.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let text = [IoSlice::new(text.as_bytes())];
        let sent =
            sendmsg_addr(&self.socket, &self.manager, &text, &mut beside, SendFlags::NOSIGNAL);
        if let Err(error) = sent {
            let error = io::Error::from(error);
            tracing::warn!(plugin, "the service manager could not be told of {name}: {error}");
        }
    }
}

/// A file can be opened again, and nobody waits at one meanwhile.
fn is_socket(descriptor: BorrowedFd<'_>) -> bool {
    let found = rustix::fs::fstat(descriptor);
    found.is_ok_and(|it| rustix::fs::FileType::from_raw_mode(it.st_mode).is_socket())
}

/// `ksi.web.127.0.0.1%3A8080`: what no name of a descriptor may have is written by its number.
fn stored_name(plugin: &str, name: &str) -> Option<String> {
    let mut stored = format!("{PREFIX}{plugin}.");
    for byte in name.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'/' | b'[' | b']' => {
                stored.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            other => drop(write!(stored, "%{other:02X}")),
        }
    }
    (stored.len() <= LONGEST).then_some(stored)
}

/// Plugin and name, of what a store has.
fn parsed(stored: &str) -> Option<(String, String)> {
    // No plugin has a dot in its name.
    let (plugin, name) = stored.strip_prefix(PREFIX)?.split_once('.')?;
    let (mut bytes, mut rest) = (Vec::new(), name);
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    bytes.extend(rest.bytes());
    Some((plugin.to_owned(), String::from_utf8(bytes).ok()?))
}

/// The names of the descriptors that this process was started with, as far as they were told.
pub(super) fn names() -> Vec<String> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    names.split(':').map(str::to_owned).collect()
}

/// Takes a descriptor that was stored by an earlier host, if it is one.
pub(super) fn take(
    given: &mut listenfd::ListenFd,
    index: usize,
    name: &str,
) -> Option<StoredDescriptor> {
    let (plugin, name) = parsed(name)?;
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX];
    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
    for family in families {
        for kind in kinds {
            let taken = given.take_custom::<OwnedFd>(index, family, kind, "socket");
            if let Ok(Some(descriptor)) = taken {
                return Some(StoredDescriptor::new(&plugin, &name, descriptor));
            }
        }
    }
    None
}

/// Whether a name is of something that an earlier host has stored.
pub(super) fn is_stored(name: &str) -> bool {
    parsed(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_store_is_of_one_plugin_and_has_nothing_that_none_may_have() {
        for (plugin, name) in
            [("web", "127.0.0.1:8080"), ("w-e_b", "unix:/run/a b%.sock"), ("web", "[::1]:0")]
        {
            let stored = stored_name(plugin, name).expect("it is short");
            assert!(!stored.contains([':', ' ']), "{stored}");
            assert_eq!(parsed(&stored), Some((plugin.to_owned(), name.to_owned())), "{stored}");
        }
        assert_eq!(stored_name("web", "127.0.0.1:80").as_deref(), Some("ksi.web.127.0.0.1%3A80"));
        assert_eq!(stored_name("web", &"x".repeat(250)), None);
        for other in ["ksi.socket", "connection", "", "ksi.web.%4", "ksi.web.%zz"] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
