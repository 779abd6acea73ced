//! Descriptors that a host keeps for its plugins, by name: listening sockets and whatever else
//! outlives a generation, as systemd's descriptor store does for a service. A host has them, and a
//! test of a plugin, which plays one.
//!
//! They belong to a plugin and not to a generation of it. Invariant: they are there as long as
//! anything of the plugin is that may ask for them, each plugin has a bounded number, and all are
//! closed when it is unloaded.
//!
//! ```
//! use ksi_kept::KeptResources;
//! let all = KeptResources::new(64);
//! let first = all.of("web".into());
//! first.is_live();
//! first.listener("127.0.0.1:0").unwrap();
//! // It listens while the next generation is made, which gets the same one.
//! let second = all.of("web".into());
//! drop(first);
//! assert!(second.kept("127.0.0.1:0").unwrap().is_some());
//! ```

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ksi_abi::{Refusal, RefusalCode};
use ksi_kernel::lock::Lock;

use address::{Listening, SocketFile};

mod address;

pub use address::Address;

/// The longest name of a resource, in bytes.
const LONGEST_NAME: usize = 255;

/// The resources of all plugins.
pub struct KeptResources {
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
pub struct PluginResources {
    all: Arc<KeptResources>,
    plugin: Arc<str>,
    /// Which of all that ever were.
    number: u64,
    /// It is, or was, the live one.
    live: AtomicBool,
}

impl KeptResources {
    /// Of plugins that may have so many each.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(KeptResources { limit, plugins: Lock::default(), generations: AtomicU64::new(0) })
    }

    /// For a generation of a plugin, which is loaded.
    pub fn of(self: &Arc<Self>, plugin: Arc<str>) -> PluginResources {
        let mut plugins = self.lock();
        let own = plugins.entry(plugin.clone()).or_default();
        own.users += 1;
        own.unloaded = false;
        let number = self.generations.fetch_add(1, Ordering::Relaxed);
        PluginResources { all: self.clone(), plugin, number, live: AtomicBool::new(false) }
    }

    /// Closes all that is kept for a plugin: it is unloaded.
    pub fn give_back(&self, plugin: &str) {
        let mut plugins = self.lock();
        if let Some(own) = plugins.get_mut(plugin) {
            own.unloaded = true;
            own.kept.clear();
        }
    }

    /// What is kept for a plugin: names, and where listeners listen.
    pub fn names(&self, plugin: &str) -> Vec<(String, Option<String>)> {
        let plugins = self.lock();
        let kept = plugins.get(plugin).into_iter().flat_map(|own| &own.kept);
        kept.map(|(name, kept)| (name.clone(), kept.address.clone())).collect()
    }

    /// A duplicate of what is kept for a plugin by this name.
    pub fn duplicate(&self, plugin: &str, name: &str) -> Option<OwnedFd> {
        duplicate(&self.lock().get(plugin)?.kept.get(name)?.descriptor).ok()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, OfPlugin>> {
        self.plugins.lock()
    }
}

impl PluginResources {
    /// A duplicate of the socket that listens at an address, which is bound at the first time.
    ///
    /// # Errors
    /// `INVALID_ADDRESS`, `TOO_MANY_RESOURCES`, `ADDRESS_UNAVAILABLE`, `NO_DESCRIPTOR`, and `UNLOADED`
    /// once all was given back.
    pub fn listener(&self, text: &str) -> Result<OwnedFd, Refusal> {
        let address = Address::parse(text)?;
        self.with(|own, limit| {
            if !own.kept.contains_key(text) {
                self.has_room(own, limit, text)?;
                let listening = address.listen();
                let Listening { descriptor, address, file } = listening.map_err(|error| {
                    let text = format_args!("{text} cannot be listened at: {error}");
                    Refusal::new(RefusalCode::ADDRESS_UNAVAILABLE, text)
                })?;
                let (address, candidate) = (Some(address), self.as_candidate());
                let kept = KeptDescriptor { descriptor, address, candidate, _file: file };
                own.kept.insert(text.to_owned(), kept);
            }
            let not_kept = || Refusal::new(RefusalCode::UNLOADED, "it is not kept");
            let kept = own.kept.get_mut(text).ok_or_else(not_kept)?;
            kept.candidate = kept.candidate.filter(|candidate| *candidate == self.number);
            duplicate(&kept.descriptor)
        })
    }

    /// Keeps a descriptor, in place of the one of this name.
    ///
    /// # Errors
    /// `INVALID_RESOURCE_NAME`, `TOO_MANY_RESOURCES`, and `UNLOADED` once all was given back.
    pub fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), Refusal> {
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
    ///
    /// # Errors
    /// `NO_DESCRIPTOR` when the system has no further one.
    pub fn kept(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        let mut plugins = self.all.lock();
        let kept = plugins.get_mut(&self.plugin).and_then(|own| own.kept.get_mut(name));
        let Some(kept) = kept else { return Ok(None) };
        kept.candidate = kept.candidate.filter(|candidate| *candidate == self.number);
        duplicate(&kept.descriptor).map(Some)
    }

    /// Keeps what was there before all generations that are, under no limit: by a name, or a
    /// listener by its address. A socket's file stays.
    pub fn inherit(&self, name: &str, descriptor: OwnedFd) {
        let mut plugins = self.all.lock();
        if let Some(own) = plugins.get_mut(&self.plugin) {
            let kept = KeptDescriptor { descriptor, address: None, candidate: None, _file: None };
            own.kept.insert(name.to_owned(), kept);
        }
    }

    /// The generation is live: what it added stays after it.
    pub fn is_live(&self) {
        let mut plugins = self.all.lock();
        self.live.store(true, Ordering::Relaxed);
        let kept = plugins.get_mut(&self.plugin).into_iter().flat_map(|own| own.kept.values_mut());
        kept.filter(|kept| kept.candidate == Some(self.number))
            .for_each(|kept| kept.candidate = None);
    }

    /// The generation goes. Nobody would accept at a listener that it alone has asked for, without
    /// ever having been live.
    pub fn leaves(&self) {
        let mut plugins = self.all.lock();
        if let Some(own) = plugins.get_mut(&self.plugin) {
            own.kept.retain(|_, kept| kept.candidate != Some(self.number));
        }
    }

    /// Closes what is kept by this name; whether there was something.
    pub fn stop_keeping(&self, name: &str) -> bool {
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
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    fn local_address(descriptor: OwnedFd) -> SocketAddr {
        TcpListener::from(descriptor).local_addr().unwrap()
    }

    #[test]
    fn every_generation_gets_the_same_socket_until_the_plugin_is_unloaded() {
        let all = KeptResources::new(4);
        let first = all.of("web".into());
        first.is_live();
        let address = local_address(first.listener("127.0.0.1:0").unwrap());
        let second = all.of("web".into());
        drop(first);
        assert_eq!(local_address(second.listener("127.0.0.1:0").unwrap()), address);
        TcpStream::connect(address).expect("it listens while nobody has a duplicate");
        assert_eq!(all.names("web"), [("127.0.0.1:0".to_owned(), Some(address.to_string()))]);
        all.give_back("web");
        assert!(TcpStream::connect(address).is_err(), "it is closed");
        assert!(second.listener("127.0.0.1:0").unwrap_err().text().contains("unloaded"));
        assert!(all.of("web".into()).listener("127.0.0.1:0").is_ok(), "it is loaded again");
    }

    #[test]
    fn what_only_a_generation_that_was_never_live_has_asked_for_goes_with_it() {
        let all = KeptResources::new(4);
        let live = all.of("web".into());
        let candidate = all.of("web".into());
        let added = local_address(candidate.listener("127.0.0.1:0").unwrap());
        let shared = local_address(candidate.listener("[::1]:0").unwrap());
        assert_eq!(local_address(live.listener("[::1]:0").unwrap()), shared);
        let (_far, near) = UnixStream::pair().unwrap();
        candidate.keep("port", near.into()).unwrap();
        drop(candidate);
        assert!(TcpStream::connect(added).is_err(), "nobody would accept there");
        assert!(live.kept("port").unwrap().is_none());
        TcpStream::connect(shared).expect("the live one has it too");
        let next = all.of("web".into());
        let added = local_address(next.listener("127.0.0.1:0").unwrap());
        next.is_live();
        drop(next);
        TcpStream::connect(added).expect("it was live");
    }

    #[test]
    fn nothing_is_kept_when_nothing_of_the_plugin_is_there_any_more() {
        let all = KeptResources::new(4);
        let only = all.of("web".into());
        let address = local_address(only.listener("127.0.0.1:0").unwrap());
        drop(only);
        assert!(TcpStream::connect(address).is_err());
        assert!(all.lock().is_empty());
    }

    #[test]
    fn any_descriptor_is_kept_by_name_and_replaced_by_the_next_of_that_name() {
        let all = KeptResources::new(1);
        let own = all.of("serial".into());
        assert!(own.kept("port").unwrap().is_none());
        let (mut far, near) = UnixStream::pair().unwrap();
        own.keep("port", near.into()).unwrap();
        let mut kept = UnixStream::from(own.kept("port").unwrap().expect("it is kept"));
        kept.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
        let (other, _) = UnixStream::pair().unwrap();
        own.keep("port", other.try_clone().unwrap().into()).expect("it takes no more room");
        assert!(
            own.keep("second", other.into()).unwrap_err().text().contains("limits.kept_resources")
        );
        assert!(own.stop_keeping("port") && !own.stop_keeping("port"));
    }

    #[test]
    fn names_and_addresses_that_are_none_are_refused_with_an_example() {
        let all = KeptResources::new(9);
        let own = all.of("a".into());
        for bad in ["", "a b", "a:b", "ä", &"x".repeat(LONGEST_NAME + 1)] {
            let (one, _) = UnixStream::pair().unwrap();
            assert!(own.keep(bad, one.into()).unwrap_err().text().contains("no colon"), "{bad}");
        }
        for bad in ["", "8080", "localhost:8080", "unix:web.sock"] {
            assert!(own.listener(bad).unwrap_err().text().contains("write \""), "{bad}");
        }
    }

    #[test]
    fn a_unix_socket_that_is_stale_is_bound_again_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = format!("unix:{}", path.display());
        drop(UnixListener::bind(&path).unwrap());
        let all = KeptResources::new(9);
        let own = all.of("a".into());
        let _listener = own.listener(&address).expect("nobody listens there");
        UnixStream::connect(&path).unwrap();
        let other = all.of("b".into());
        assert!(other.listener(&address).unwrap_err().text().contains("cannot be listened at"));
        all.give_back("a");
        assert!(!path.exists(), "its file goes with it");
        fs::write(&path, "a file").unwrap();
        let refused = other.listener(&address).unwrap_err().text();
        assert!(refused.contains("there is a file, and no socket"), "{refused}");
        let folder = format!("unix:{}", folder.path().display());
        let refused = other.listener(&folder).unwrap_err().text();
        assert!(refused.contains("there is a folder, and no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    }

    #[test]
    fn several_are_tried_out_at_a_time() {
        let address = Address::parse("unix:/run/web.sock").unwrap();
        let tries = || (0..200).map(|_| address.stand_in().map(drop)).collect::<Vec<_>>();
        let all = std::thread::scope(|scope| {
            let tried: Vec<_> = (0..4).map(|_| scope.spawn(tries)).collect();
            tried.into_iter().flat_map(|tried| tried.join().unwrap()).collect::<Vec<_>>()
        });
        let failed: Vec<_> = all.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{} of them, as {:?}", failed.len(), failed[0]);
    }
}
