//! What the host of a plugin under test keeps for it, over all generations.

use std::{collections::BTreeMap, sync::Arc};
#[cfg(unix)]
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::FileTypeExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

#[cfg(unix)]
use ksi_abi::{Refusal, RefusalCode};
use ksi_kernel::lock::Lock;
#[cfg(unix)]
use ksi_plugin_api::Plugin;

#[cfg(unix)]
use super::{Harness, Setup};

/// How many resources a plugin may have, and how long their names may be. As in a host.
#[cfg(unix)]
const LIMIT: usize = 64;
#[cfg(unix)]
const LONGEST_NAME: usize = 255;

/// The resources of one plugin.
#[derive(Default)]
pub(super) struct Kept(Lock<Resources>);

#[derive(Default)]
struct Resources {
    by_name: BTreeMap<String, Resource>,
    /// The generation that is live, or was last.
    live: u64,
}

struct Resource {
    #[cfg(unix)]
    descriptor: OwnedFd,
    /// The generation that added it, until that is live or another one asks for it.
    candidate: Option<u64>,
}

#[cfg(unix)]
impl<P: Plugin> Setup<P> {
    /// Something that an earlier generation has had the host keep: what the plugin gets by
    /// [`Context::kept`](ksi_plugin_api::Context::kept), or a listening socket by its address as it
    /// was given. [`Harness::replace`] hands on what there is without being told.
    pub fn kept(mut self, name: &str, descriptor: impl Into<OwnedFd>) -> Self {
        self.kept.insert(name.to_owned(), descriptor.into());
        self
    }
}

#[cfg(unix)]
impl Harness {
    /// A duplicate of what the plugin has had the host keep by this name.
    pub fn kept(&self, name: &str) -> Option<OwnedFd> {
        let kept = self.kept.0.lock();
        kept.by_name.get(name).and_then(|kept| duplicate(&kept.descriptor).ok())
    }
}

impl Kept {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What this generation has added stays after it: it is live.
    pub(super) fn is_live(&self, generation: u64) {
        let mut kept = self.0.lock();
        kept.live = generation;
        let own = kept.by_name.values_mut().filter(|kept| kept.candidate == Some(generation));
        own.for_each(|kept| kept.candidate = None);
    }

    /// This generation goes. What it alone has asked for, without ever having been live, goes too.
    pub(super) fn leaves(&self, generation: u64) {
        self.0.lock().by_name.retain(|_, kept| kept.candidate != Some(generation));
    }
}

#[cfg(unix)]
impl Kept {
    /// What an earlier generation has left.
    pub(super) fn add(&self, all: BTreeMap<String, OwnedFd>) {
        let resource = |descriptor| Resource { descriptor, candidate: None };
        let all = all.into_iter().map(|(name, descriptor)| (name, resource(descriptor)));
        self.0.lock().by_name.extend(all);
    }

    /// A duplicate of the socket that listens at an address, which is bound at the first time.
    pub(super) fn listener(&self, address: &str, generation: u64) -> Result<OwnedFd, Refusal> {
        let parsed = Address::parse(address)?;
        if let Some(kept) = self.get(address, generation)? {
            return Ok(kept);
        }
        let listening = parsed.listen().map_err(|error| unavailable(address, error))?;
        let own = duplicate(&listening)?;
        self.insert(address, listening, generation)?;
        Ok(own)
    }

    /// Another socket, for somebody who is only tried out: the live generation may listen there.
    pub(super) fn of_trial(address: &str) -> Result<OwnedFd, Refusal> {
        let parsed = Address::parse(address)?;
        parsed.stand_in().map_err(|error| unavailable(address, error))
    }

    pub(super) fn keep(
        &self,
        name: &str,
        descriptor: OwnedFd,
        generation: u64,
    ) -> Result<(), Refusal> {
        let visible = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if name.is_empty() || name.len() > LONGEST_NAME || !visible {
            let text = format_args!(
                "{name:?} is no name of a resource: it has 1 to {LONGEST_NAME} visible ASCII characters, and no colon"
            );
            return Err(Refusal::new(RefusalCode::INVALID_RESOURCE_NAME, text));
        }
        self.insert(name, descriptor, generation)
    }

    pub(super) fn get(&self, name: &str, generation: u64) -> Result<Option<OwnedFd>, Refusal> {
        let mut all = self.0.lock();
        let Some(kept) = all.by_name.get_mut(name) else { return Ok(None) };
        kept.candidate = kept.candidate.filter(|candidate| *candidate == generation);
        duplicate(&kept.descriptor).map(Some)
    }

    pub(super) fn remove(&self, name: &str) -> bool {
        self.0.lock().by_name.remove(name).is_some()
    }

    fn insert(&self, name: &str, descriptor: OwnedFd, generation: u64) -> Result<(), Refusal> {
        let mut resources = self.0.lock();
        let own = (resources.live != generation).then_some(generation);
        let all = &mut resources.by_name;
        if !all.contains_key(name) && all.len() >= LIMIT {
            let text = format_args!(
                "{name} is not kept: the plugin has {LIMIT} resources already, and no more are allowed                  (limits.kept_resources)"
            );
            return Err(Refusal::new(RefusalCode::TOO_MANY_RESOURCES, text));
        }
        // What it takes the place of is nothing that could be gone back to.
        let candidate = all.get(name).map_or(own, |before| before.candidate);
        all.insert(name.to_owned(), Resource { descriptor, candidate });
        Ok(())
    }
}

/// Where a socket is to listen.
#[cfg(unix)]
enum Address<'a> {
    Tcp(SocketAddr),
    Unix(&'a Path),
}

#[cfg(unix)]
impl<'a> Address<'a> {
    fn parse(text: &'a str) -> Result<Self, Refusal> {
        let invalid = |why: &str| {
            let text = format_args!("{text:?} is no address: {why}");
            Refusal::new(RefusalCode::INVALID_ADDRESS, text)
        };
        match text.strip_prefix("unix:").map(Path::new) {
            Some(path) if path.is_absolute() => Ok(Address::Unix(path)),
            Some(_) => Err(invalid("the path is not absolute")),
            None => text
                .parse()
                .map(Address::Tcp)
                .map_err(|_| invalid("write an IP address with a port, like \"127.0.0.1:8080\"")),
        }
    }

    fn listen(&self) -> io::Result<OwnedFd> {
        match self {
            Address::Tcp(address) => Ok(TcpListener::bind(address)?.into()),
            Address::Unix(path) => {
                remove_stale(path)?;
                Ok(UnixListener::bind(path)?.into())
            }
        }
    }

    fn stand_in(&self) -> io::Result<OwnedFd> {
        match self {
            Address::Tcp(address) => {
                Ok(TcpListener::bind(SocketAddr::new(address.ip(), 0))?.into())
            }
            Address::Unix(path) => {
                let mut other = path.as_os_str().to_owned();
                other.push(format!(".trial-{}", std::process::id()));
                let listener = UnixListener::bind(&other)?;
                fs::remove_file(other)?;
                Ok(listener.into())
            }
        }
    }
}

/// Removes the file of a socket that nobody listens at any more.
#[cfg(unix)]
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            let text = "there is something else, and no socket: remove it, or name another path";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        // Whatever is wrong there makes the bind fail.
        Err(_) => return Ok(()),
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn unavailable(address: &str, error: io::Error) -> Refusal {
    let text = format_args!("{address} cannot be listened at: {error}");
    Refusal::new(RefusalCode::ADDRESS_UNAVAILABLE, text)
}

#[cfg(unix)]
fn duplicate(descriptor: &OwnedFd) -> Result<OwnedFd, Refusal> {
    let duplicate = descriptor.as_fd().try_clone_to_owned();
    duplicate.map_err(|error| Refusal::new(RefusalCode::NO_DESCRIPTOR, error))
}
