//! What is kept beyond this process, by whoever has started it: a service manager's descriptor
//! store.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use ksi_kernel::lock::Lock;

/// Whoever keeps descriptors beyond this process. It must not hold up who calls it for long, and
/// tells of what goes wrong itself.
pub trait DescriptorStore: Send + Sync {
    /// Keeps a duplicate of what a plugin has by this name.
    fn store(&self, plugin: &str, name: &str, descriptor: BorrowedFd<'_>);

    /// Closes what it has of that name.
    fn forget(&self, plugin: &str, name: &str);
}

/// What was kept beyond an earlier process.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoredDescriptor {
    /// Whose it is.
    pub plugin: String,
    /// By which name.
    pub name: String,
    /// What it is.
    pub descriptor: OwnedFd,
}

impl StoredDescriptor {
    /// What a plugin has kept by a name.
    pub fn new(plugin: &str, name: &str, descriptor: OwnedFd) -> Self {
        StoredDescriptor { plugin: plugin.to_owned(), name: name.to_owned(), descriptor }
    }
}

/// The store, and what was in it.
pub(crate) struct Beyond {
    store: Option<Box<dyn DescriptorStore>>,
    /// Of plugins that are not loaded yet.
    left: Lock<BTreeMap<String, Vec<(String, OwnedFd)>>>,
    /// This process ends, and what is stored stays.
    outlives: AtomicBool,
}

impl Beyond {
    pub(crate) fn new(
        store: Option<Box<dyn DescriptorStore>>,
        left: Vec<StoredDescriptor>,
    ) -> Self {
        let mut by_plugin: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for StoredDescriptor { plugin, name, descriptor } in left {
            by_plugin.entry(plugin).or_default().push((name, descriptor));
        }
        Beyond { store, left: Lock::new(by_plugin), outlives: AtomicBool::new(false) }
    }

    /// What is there for a plugin that is loaded now.
    pub(crate) fn left_for(&self, plugin: &str) -> Vec<(String, OwnedFd)> {
        self.left.lock().remove(plugin).unwrap_or_default()
    }

    pub(crate) fn leave(&self, plugin: &str, name: String, descriptor: OwnedFd) {
        self.left.lock().entry(plugin.to_owned()).or_default().push((name, descriptor));
    }

    pub(crate) fn is_there(&self) -> bool {
        self.store.is_some()
    }

    pub(crate) fn store(&self, plugin: &str, name: &str, descriptor: &OwnedFd) {
        if let Some(store) = &self.store {
            store.store(plugin, name, descriptor.as_fd());
        }
    }

    /// Gives it up beyond this process as well, unless that ends; whether nobody has it then.
    pub(crate) fn forget(&self, plugin: &str, name: &str) -> bool {
        let Some(store) = &self.store else { return true };
        if self.outlives.load(Ordering::Relaxed) {
            return false;
        }
        store.forget(plugin, name);
        true
    }

    pub(crate) fn outlive(&self) {
        self.outlives.store(true, Ordering::Relaxed);
    }
}
