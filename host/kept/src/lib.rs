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
use beyond::Beyond;

mod address;
mod beyond;

pub use address::Address;
pub use beyond::{DescriptorStore, StoredDescriptor};

/// The longest name of a resource, in bytes.
const LONGEST_NAME: usize = 255;

/// The resources of all plugins.
pub struct KeptResources {
    /// How many each plugin may have.
    limit: usize,
    plugins: Lock<BTreeMap<Arc<str>, OfPlugin>>,
    /// How many generations there were.
    generations: AtomicU64,
    beyond: Beyond,
}

#[derive(Default)]
struct OfPlugin {
    /// Those who may ask for them.
    users: usize,
    /// They were given back, and nothing is kept before the plugin is loaded again.
    unloaded: bool,
    /// A generation of it is, or was, live.
    was_live: bool,
    kept: BTreeMap<String, KeptDescriptor>,
}

struct KeptDescriptor {
    descriptor: OwnedFd,
    /// Where a listener listens, for people.
    address: Option<String>,
    /// The generation that added it, until that is live or another one asks for it.
    candidate: Option<u64>,
    /// The socket's file, which goes with it.
    file: Option<SocketFile>,
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
        Self::with_store(limit, None, Vec::new())
    }

    /// The same for a process that has somebody who keeps them beyond it, and has left these for
    /// it when an earlier process ended.
    pub fn with_store(
        limit: usize,
        store: Option<Box<dyn DescriptorStore>>,
        left: Vec<StoredDescriptor>,
    ) -> Arc<Self> {
        let (plugins, generations) = (Lock::default(), AtomicU64::new(0));
        Arc::new(KeptResources { limit, plugins, generations, beyond: Beyond::new(store, left) })
    }

    /// This process ends, and the next one is to have what is stored beyond it: from here on
    /// nothing of that is given up.
    pub fn outlive_this_process(&self) {
        self.beyond.outlive();
    }

    /// For a generation of a plugin, which is loaded.
    pub fn of(self: &Arc<Self>, plugin: Arc<str>) -> PluginResources {
        let mut plugins = self.lock();
        let own = plugins.entry(plugin.clone()).or_default();
        own.users += 1;
        own.unloaded = false;
        for (name, descriptor) in self.beyond.left_for(&plugin) {
            let kept = KeptDescriptor::left(&name, descriptor);
            own.kept.entry(name).or_insert(kept);
        }
        let number = self.generations.fetch_add(1, Ordering::Relaxed);
        PluginResources { all: self.clone(), plugin, number, live: AtomicBool::new(false) }
    }

    /// Closes all that is kept for a plugin: it is unloaded.
    pub fn give_back(&self, plugin: &str) {
        let mut plugins = self.lock();
        if let Some(own) = plugins.get_mut(plugin) {
            own.unloaded = true;
            std::mem::take(&mut own.kept)
                .into_iter()
                .for_each(|(name, kept)| self.let_go(plugin, &name, kept));
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

    /// Has it wait for the next generation, if there is somebody who keeps it beyond this process.
    fn leave(&self, plugin: &str, name: String, mut kept: KeptDescriptor) {
        match self.beyond.is_there() {
            true => {
                kept.file.take().into_iter().for_each(SocketFile::leave);
                self.beyond.leave(plugin, name, kept.descriptor);
            }
            false => drop(kept),
        }
    }

    /// Closes it here, and beyond this process unless that ends.
    fn let_go(&self, plugin: &str, name: &str, mut kept: KeptDescriptor) {
        match self.beyond.forget(plugin, name) {
            true => drop(kept),
            // It is listened at all the time, and the next process is to be found there.
            false => kept.file.take().into_iter().for_each(SocketFile::leave),
        }
    }
}

impl KeptDescriptor {
    /// What an earlier process had: a listener has the name of where it listens.
    fn left(name: &str, descriptor: OwnedFd) -> Self {
        let address = Address::parse(name).ok();
        let file = address.as_ref().and_then(SocketFile::of);
        let address = address.and_then(|address| address.told(&descriptor));
        KeptDescriptor { descriptor, address, candidate: None, file }
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
                self.all.beyond.store(&self.plugin, text, &descriptor);
                let kept = KeptDescriptor { descriptor, address, candidate, file };
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
            if let Some(before) = own.kept.remove(name) {
                self.all.let_go(&self.plugin, name, before);
            }
            self.all.beyond.store(&self.plugin, name, &descriptor);
            let kept = KeptDescriptor { descriptor, address: None, candidate, file: None };
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
            let kept = KeptDescriptor { descriptor, address: None, candidate: None, file: None };
            own.kept.insert(name.to_owned(), kept);
        }
    }

    /// The generation is live: what it added stays after it.
    pub fn is_live(&self) {
        let mut plugins = self.all.lock();
        self.live.store(true, Ordering::Relaxed);
        plugins.get_mut(&self.plugin).into_iter().for_each(|own| own.was_live = true);
        let kept = plugins.get_mut(&self.plugin).into_iter().flat_map(|own| own.kept.values_mut());
        kept.filter(|kept| kept.candidate == Some(self.number))
            .for_each(|kept| kept.candidate = None);
    }

    /// The generation goes. Nobody would accept at a listener that it alone has asked for, without
    /// ever having been live.
    pub fn leaves(&self) {
        let mut plugins = self.all.lock();
        if let Some(own) = plugins.get_mut(&self.plugin) {
            let is_gone =
                |_: &String, kept: &mut KeptDescriptor| kept.candidate == Some(self.number);
            let gone: Vec<_> = own.kept.extract_if(.., is_gone).collect();
            gone.into_iter().for_each(|(name, kept)| self.all.let_go(&self.plugin, &name, kept));
        }
    }

    /// Closes what is kept by this name; whether there was something.
    pub fn stop_keeping(&self, name: &str) -> bool {
        let mut plugins = self.all.lock();
        let kept = plugins.get_mut(&self.plugin).and_then(|own| own.kept.remove(name));
        let was_kept = kept.is_some();
        kept.into_iter().for_each(|kept| self.all.let_go(&self.plugin, name, kept));
        was_kept
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
            if own.users == 0
                && let Some(own) = plugins.remove(&self.plugin)
            {
                for (name, kept) in own.kept {
                    // What an earlier process has left waits for one that comes up.
                    match own.was_live {
                        true => self.all.let_go(&self.plugin, &name, kept),
                        false => self.all.leave(&self.plugin, name, kept),
                    }
                }
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

    /// Whatever a service manager would have.
    #[derive(Clone, Default)]
    struct Manager(Arc<Lock<Vec<(String, String, OwnedFd)>>>);

    impl DescriptorStore for Manager {
        fn store(&self, plugin: &str, name: &str, descriptor: std::os::fd::BorrowedFd<'_>) {
            let descriptor = descriptor.try_clone_to_owned().unwrap();
            self.0.lock().push((plugin.to_owned(), name.to_owned(), descriptor));
        }

        fn forget(&self, plugin: &str, name: &str) {
            self.0.lock().retain(|(owner, kept, _)| owner != plugin || kept != name);
        }
    }

    impl Manager {
        fn names(&self) -> Vec<String> {
            self.0.lock().iter().map(|(plugin, name, _)| format!("{plugin} {name}")).collect()
        }

        fn resources(&self, left: Vec<StoredDescriptor>) -> Arc<KeptResources> {
            KeptResources::with_store(4, Some(Box::new(self.clone())), left)
        }
    }

    #[test]
    fn what_is_stored_beyond_a_process_is_there_in_the_next_one_and_goes_with_its_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let unix = format!("unix:{}", path.display());
        let manager = Manager::default();
        let all = manager.resources(Vec::new());
        let own = all.of("web".into());
        own.is_live();
        let address = local_address(own.listener("127.0.0.1:0").unwrap());
        own.listener(&unix).unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        own.keep("port", one.into()).unwrap();
        own.keep("port", other.into()).unwrap();
        let candidate = all.of("web".into());
        candidate.listener("[::1]:0").unwrap();
        drop(candidate);
        let tcp = "web 127.0.0.1:0".to_owned();
        assert_eq!(manager.names(), [tcp.clone(), format!("web {unix}"), "web port".to_owned()]);
        own.stop_keeping("port");
        all.outlive_this_process();
        drop((own, all));
        TcpStream::connect(address).expect("it listens while nobody is there");
        UnixStream::connect(&path).expect("so does this one");

        let duplicate = |(plugin, name, kept): &(String, String, OwnedFd)| {
            StoredDescriptor::new(plugin, name, kept.try_clone().unwrap())
        };
        let left = manager.0.lock().iter().map(duplicate).collect();
        let all = manager.resources(left);
        // One that does not come up leaves it to the next.
        drop(all.of("web".into()));
        let own = all.of("web".into());
        assert_eq!(local_address(own.listener("127.0.0.1:0").unwrap()), address);
        let told = |text: &str| (text.to_owned(), Some(text.to_owned()));
        let mut names = all.names("web");
        assert_eq!(names.pop(), Some((unix, Some(path.display().to_string()))));
        assert_eq!(names, [("127.0.0.1:0".to_owned(), told(&address.to_string()).1)]);
        all.give_back("web");
        assert!(manager.names().is_empty() && !path.exists());
        assert!(TcpStream::connect(address).is_err(), "nobody has it any more");
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
