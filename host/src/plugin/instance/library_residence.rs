//! A library of this process as the residence of a generation.

use std::{
    path::Path,
    sync::{Arc, Weak},
};

use ksi_abi::{Description, HostRef, ModuleRef};
use ksi_kernel::lock::Lock;

use super::{
    body::Body,
    configs::PluginConfig,
    host_api::HostApiShim,
    leftovers,
    library::{self, Closed, LoadError, PluginLibrary},
    library_body::LibraryBody,
    residence::{Creation, Residence, Vacated},
    services::HostServices,
    signals::Handled,
};
use crate::{
    crash::Noted,
    log_levels::Follower,
    plugin::file::manifest::{NO_DELETE, NativeBuild},
};

/// A library that is open.
pub(crate) struct LibraryResidence {
    library: PluginLibrary,
    /// The file says that it never leaves memory.
    no_delete: bool,
    /// The ways to the host of the instances that it made, for as long as anything of them is left.
    shims: Lock<Vec<Weak<HostApiShim>>>,
}

impl LibraryResidence {
    /// Opens the copy at `path` on a thread that stays with it. What runs of it then is noted.
    pub(crate) async fn open(
        path: &Path,
        build: &NativeBuild,
        noted: Noted,
    ) -> Result<Self, LoadError> {
        let header = build.header.clone();
        let open = move |path: &Path| noted.during(|| PluginLibrary::open(path, &header));
        let library = PluginLibrary::open_on_its_own_thread(path.to_owned(), open).await?;
        let no_delete = build.linkage.no_delete;
        Ok(LibraryResidence { library, no_delete, shims: Lock::default() })
    }
}

/// Tells a library that the host listens to another level of its log, for as long as something of
/// an instance of it is left.
struct Listens {
    module: ModuleRef,
    shim: Weak<HostApiShim>,
}

impl Follower for Listens {
    fn is_there(&self) -> bool {
        self.shim.strong_count() > 0
    }

    fn levels_changed(&self) {
        let (module, Some(shim)) = (self.module, self.shim.upgrade()) else { return };
        let router = shim.router().clone();
        router.spawn_detached(async move {
            ksi_abi::log_level_changed(module);
            // It kept the library for that.
            drop(shim);
        });
    }
}

impl Residence for LibraryResidence {
    fn belongs_to(&self, plugin: &Arc<str>, generation: u64) {
        self.library.signals.belong_to(plugin.clone(), generation);
    }

    fn describe(&self) -> Result<Description, String> {
        self.library.describe()
    }

    fn create(&self, config: PluginConfig, services: &Arc<HostServices>) -> Creation {
        let shim = HostApiShim::new(services.clone());
        {
            let mut shims = self.shims.lock();
            shims.retain(|shim| shim.strong_count() > 0);
            shims.push(Arc::downgrade(&shim));
        }
        let (module, keeper) = (self.library.module, shim.keeper());
        let listens = Listens { module, shim: Arc::downgrade(&shim) };
        services.levels().follow(services.session().plugin().clone(), Arc::new(listens));
        let host = HostRef::new(shim);
        Box::pin(async move {
            let created = library::create(module, host, &config).await;
            let body = |instance| Box::new(LibraryBody::new(instance, Some(keeper)));
            created
                .map(|instance| body(instance) as Box<dyn Body>)
                .map_err(|failure| library::reason_of(failure).into())
        })
    }

    fn references(&self) -> usize {
        self.shims.lock().iter().map(Weak::strong_count).sum()
    }

    fn signals(&self) -> Vec<Handled> {
        self.library.signals()
    }

    fn withdraw(&self) {
        self.library.signals.withdraw();
    }

    fn vacate(self: Box<Self>) -> Vacated {
        let LibraryResidence { library, no_delete, shims } = *self;
        let signals = library.signals;
        let again = |library| Box::new(LibraryResidence { library, no_delete, shims });
        match leftovers::close(library) {
            Ok(Closed::Unmapped) => {
                signals.gone();
                Vacated::Gone
            }
            Ok(Closed::Mapped { cause, library }) => {
                // What its file says of that is certain, and anything else a guess.
                let cause = if no_delete { NO_DELETE.to_owned() } else { cause };
                Vacated::Stays { cause, residence: again(*library) }
            }
            Err((library, remaining)) => {
                let by = remaining.iter().map(ToString::to_string).collect();
                Vacated::Needed { by, residence: again(library) }
            }
        }
    }
}
