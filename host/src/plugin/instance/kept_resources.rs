//! Descriptors that the host keeps for its plugins, by name: listening sockets and whatever else
//! outlives a generation, as systemd's descriptor store does for a service.
//!
//! They belong to a plugin and not to a generation of it. Invariant: they are there as long as
//! anything of the plugin is that may ask for them, each plugin has a bounded number, and all are
//! closed when it is unloaded.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileTypeExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ksi_abi::{Refusal, RefusalCode};
use ksi_kernel::lock::Lock;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// The longest name of a resource, in bytes.
const LONGEST_NAME: usize = 255;

/// The resources of all plugins.
pub(crate) struct KeptResources {
    /// How many each plugin may have.
    limit: usize,
    plugins: Lock<BTreeMap<Arc<str>, OfPlugin>>,
    /// How many generations there were.
    generations: AtomicU64,
}

#[derive(Default)]
struct OfPlugin {
    /// Those who may ask for them.
    users: usize,
    /// They were given back, and nothing is kept before the plugin is loaded again.
    unloaded: bool,
    kept: BTreeMap<String, KeptDescriptor>,
}

struct KeptDescriptor {
    descriptor: OwnedFd,
    /// Where a listener listens, for people.
    address: Option<String>,
    /// The generation that added it, until that is live or another one asks for it.
    candidate: Option<u64>,
    /// The socket's file, which goes with it.
    _file: Option<SocketFile>,
}

/// The way of one generation to the resources of its plugin.
pub(crate) struct PluginResources {
    all: Arc<KeptResources>,
    plugin: Arc<str>,
    /// Which of all that ever were.
    number: u64,
    /// It is, or was, the live one.
    live: AtomicBool,
}

/// Where a socket is to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The file of a Unix socket, removed when this is dropped.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs::remove_file(&self.0);
    }
}

impl Address {
    /// An IP address with a port, or `unix:` and a path.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
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

    fn listen(&self) -> io::Result<KeptDescriptor> {
        match self {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let address = Some(listener.local_addr()?.to_string());
                Ok(KeptDescriptor {
                    descriptor: listener.into(),
                    address,
                    candidate: None,
                    _file: None,
                })
            }
            Address::Unix(path) => {
                remove_stale(path)?;
                let descriptor = UnixListener::bind(path)?.into();
                let address = Some(path.display().to_string());
                let _file = Some(SocketFile(path.clone()));
                Ok(KeptDescriptor { descriptor, address, candidate: None, _file })
            }
        }
    }

    /// Another socket like the one at this address, for somebody who is only tried out.
    pub(crate) fn stand_in(&self) -> io::Result<OwnedFd> {
        match self {
            Address::Tcp(address) => {
                Ok(TcpListener::bind(SocketAddr::new(address.ip(), 0))?.into())
            }
            Address::Unix(_) => {
                let name = format!("ksi-trial-{}.sock", std::process::id());
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

impl KeptResources {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(KeptResources { limit, plugins: Lock::default(), generations: AtomicU64::new(0) })
    }

    /// For a generation of a plugin, which is loaded.
    pub(crate) fn of(self: &Arc<Self>, plugin: Arc<str>) -> PluginResources {
        let mut plugins = self.lock();
        let own = plugins.entry(plugin.clone()).or_default();
        own.users += 1;
        own.unloaded = false;
        let number = self.generations.fetch_add(1, Ordering::Relaxed);
        PluginResources { all: self.clone(), plugin, number, live: AtomicBool::new(false) }
    }

    /// Closes all that is kept for a plugin: it is unloaded.
    pub(crate) fn give_back(&self, plugin: &str) {
        let mut plugins = self.lock();
        if let Some(own) = plugins.get_mut(plugin) {
            own.unloaded = true;
            own.kept.clear();
        }
    }

    /// What is kept for a plugin: names, and where listeners listen.
    pub(crate) fn names(&self, plugin: &str) -> Vec<(String, Option<String>)> {
        let plugins = self.lock();
        let kept = plugins.get(plugin).into_iter().flat_map(|own| &own.kept);
        kept.map(|(name, kept)| (name.clone(), kept.address.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, OfPlugin>> {
        self.plugins.lock()
    }
}

impl PluginResources {
    /// A duplicate of the socket that listens at an address, which is bound at the first time.
    pub(crate) fn listener(&self, text: &str) -> Result<OwnedFd, Refusal> {
        let address = Address::parse(text)?;
        self.with(|own, limit| {
            if !own.kept.contains_key(text) {
                self.has_room(own, limit, text)?;
                let listening = address.listen();
                let kept = listening.map_err(|error| {
                    let text = format_args!("{text} cannot be listened at: {error}");
                    Refusal::new(RefusalCode::ADDRESS_UNAVAILABLE, text)
                })?;
                own.kept.insert(
                    text.to_owned(),
                    KeptDescriptor { candidate: self.as_candidate(), ..kept },
                );
            }
            let not_kept = || Refusal::new(RefusalCode::UNLOADED, "it is not kept");
            let kept = own.kept.get_mut(text).ok_or_else(not_kept)?;
            kept.candidate = kept.candidate.filter(|candidate| *candidate == self.number);
            duplicate(&kept.descriptor)
        })
    }

    /// Keeps a descriptor, in place of the one of this name.
    pub(crate) fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), Refusal> {
        let visible = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if name.is_empty() || name.len() > LONGEST_NAME || !visible {
            let text = format_args!(
                "{name:?} is no name of a resource: it has 1 to {LONGEST_NAME} visible ASCII characters, and no colon"
            );
            return Err(Refusal::new(RefusalCode::INVALID_RESOURCE_NAME, text));
        }
        self.with(|own, limit| {
            if !own.kept.contains_key(name) {
                self.has_room(own, limit, name)?;
            }
            // What it takes the place of is nothing that could be gone back to.
            let before = own.kept.get(name).map(|kept| kept.candidate);
            let candidate = before.unwrap_or(self.as_candidate());
            let kept = KeptDescriptor { descriptor, address: None, candidate, _file: None };
            own.kept.insert(name.to_owned(), kept);
            Ok(())
        })
    }

    /// A duplicate of the descriptor of this name.
    pub(crate) fn kept(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        let mut plugins = self.all.lock();
        let kept = plugins.get_mut(&self.plugin).and_then(|own| own.kept.get_mut(name));
        let Some(kept) = kept else { return Ok(None) };
        kept.candidate = kept.candidate.filter(|candidate| *candidate == self.number);
        duplicate(&kept.descriptor).map(Some)
    }

    /// The generation is live: what it added stays after it.
    pub(crate) fn is_live(&self) {
        let mut plugins = self.all.lock();
        self.live.store(true, Ordering::Relaxed);
        let kept = plugins.get_mut(&self.plugin).into_iter().flat_map(|own| own.kept.values_mut());
        kept.filter(|kept| kept.candidate == Some(self.number))
            .for_each(|kept| kept.candidate = None);
    }

    /// The generation goes. Nobody would accept at a listener that it alone has asked for, without
    /// ever having been live.
    pub(crate) fn leaves(&self) {
        let mut plugins = self.all.lock();
        if let Some(own) = plugins.get_mut(&self.plugin) {
            own.kept.retain(|_, kept| kept.candidate != Some(self.number));
        }
    }

    /// Closes what is kept by this name; whether there was something.
    pub(crate) fn stop_keeping(&self, name: &str) -> bool {
        let mut plugins = self.all.lock();
        plugins.get_mut(&self.plugin).is_some_and(|own| own.kept.remove(name).is_some())
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut OfPlugin, usize) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut plugins = self.all.lock();
        match plugins.get_mut(&self.plugin) {
            Some(own) if !own.unloaded => work(own, self.all.limit),
            _ => {
                let text = format_args!("{} is unloaded, and nothing is kept for it", self.plugin);
                Err(Refusal::new(RefusalCode::UNLOADED, text))
            }
        }
    }

    /// Whose it is that is added now. Under the lock.
    fn as_candidate(&self) -> Option<u64> {
        (!self.live.load(Ordering::Relaxed)).then_some(self.number)
    }

    fn has_room(&self, own: &OfPlugin, limit: usize, name: &str) -> Result<(), Refusal> {
        match own.kept.len() < limit {
            true => Ok(()),
            false => Err(Refusal::new(
                RefusalCode::TOO_MANY_RESOURCES,
                format_args!(
                    "{name} is not kept: {} has {limit} resources already, and no more are allowed (limits.kept_resources)",
                    self.plugin
                ),
            )),
        }
    }
}

impl Drop for PluginResources {
    fn drop(&mut self) {
        self.leaves();
        let mut plugins = self.all.lock();
        if let Some(own) = plugins.get_mut(&self.plugin) {
            own.users -= 1;
            if own.users == 0 {
                plugins.remove(&self.plugin);
            }
        }
    }
}

fn duplicate(descriptor: &OwnedFd) -> Result<OwnedFd, Refusal> {
    let duplicate = descriptor.as_fd().try_clone_to_owned();
    duplicate.map_err(|error| {
        let text = format_args!("no further descriptor of it can be had: {error}");
        Refusal::new(RefusalCode::NO_DESCRIPTOR, text)
    })
}

#[cfg(test)]
mod tests;
