//! Resources that the host keeps for a plugin over its generations: listening sockets first, and
//! any other descriptor.
//!
//! They belong to the plugin, by its name. They outlive a replacement, a rollback and a version
//! that fails, and are closed when the plugin is unloaded or the host ends.
//!
//! A web server that is replaced without refusing a connection:
//!
//! ```
//! use std::net::TcpListener;
//!
//! use ksi_harness::Harness;
//! use ksi_plugin_api::prelude::*;
//!
//! struct Web {
//!     listener: TcpListener,
//! }
//!
//! #[plugin]
//! impl Web {
//!     #[initialize]
//!     async fn initialize(ctx: &Context, _: Value) -> Result<Self> {
//!         // The first generation binds it, each later one gets the same socket.
//!         Ok(Web { listener: ctx.listener("127.0.0.1:0")? })
//!     }
//!
//!     #[event_handler("web:port")]
//!     async fn port(&self, _: &Context, _: Value) -> Result<u16> {
//!         Ok(self.listener.local_addr()?.port())
//!     }
//! }
//!
//! # fn main() {
//! let web = Harness::start::<Web>();
//! assert!(web.emit("web:port", ()).results()[0].as_u64() > Some(0));
//! # }
//! ```

use std::net::TcpListener;
#[cfg(unix)]
use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
};

use crate::{
    context::Context,
    error::{Error, Result},
};

const CODE: &str = "not_kept";

impl Context {
    /// A TCP socket that listens at `address`, an IP address and a port like `"127.0.0.1:8080"` or
    /// `"[::]:80"`. The host binds it once and gives each later generation of this plugin the same
    /// socket: a client that connects while the plugin is replaced waits in the socket's queue and
    /// is not refused. Port 0 stands for a free port, which stays the same as well.
    ///
    /// Each caller gets a descriptor of its own, of the one socket: both generations may accept
    /// from it for a moment. Its flags are those of the socket: `set_nonblocking` holds for all.
    /// Where the plugin is only [tried out](Context::is_trial), it is another socket, at a free
    /// port.
    ///
    /// # Errors
    /// `not_kept` when the address is none, is taken, or the plugin has as many resources as it may
    /// have.
    pub fn listener(&self, address: &str) -> Result<TcpListener> {
        #[cfg(unix)]
        return self.listening(address).map(TcpListener::from);
        #[cfg(not(unix))]
        return unsupported(address);
    }

    /// The same for a Unix socket at a path. A socket that nobody listens at any more is removed
    /// there before.
    ///
    /// # Errors
    /// As [`listener`](Self::listener); also when the path is no text, or there is something else.
    #[cfg(unix)]
    pub fn unix_listener(&self, path: impl AsRef<Path>) -> Result<UnixListener> {
        let path = path.as_ref();
        let text = path
            .to_str()
            .ok_or_else(|| Error::new(CODE, format_args!("{} is no UTF-8", path.display())))?;
        self.listening(&format!("unix:{text}")).map(UnixListener::from)
    }

    #[cfg(unix)]
    fn listening(&self, address: &str) -> Result<OwnedFd> {
        self.scope().host.listener(address).map_err(|why| Error::refused(CODE, &why))
    }

    /// Has the host keep a duplicate of a descriptor by a name, for later generations of this
    /// plugin; in place of the one that was kept by that name. A name is 1 to 255 visible ASCII
    /// characters without a colon.
    ///
    /// # Errors
    /// `not_kept` when the name is none, the plugin has as many resources as it may have
    /// (`limits.kept_resources`), or is unloaded; also when the descriptor cannot be duplicated.
    #[cfg(unix)]
    pub fn keep(&self, name: &str, descriptor: impl AsFd) -> Result<()> {
        let duplicate = descriptor.as_fd().try_clone_to_owned().map_err(|why| {
            Error::new(CODE, format_args!("no descriptor can be kept as {name:?}: {why}"))
        })?;
        self.scope().host.keep(name, duplicate).map_err(|why| Error::refused(CODE, &why))
    }

    /// A duplicate of the descriptor that is kept by this name, if there is one. None where the
    /// plugin is only [tried out](Context::is_trial).
    ///
    /// # Errors
    /// `not_kept` when the system gives no further descriptor.
    #[cfg(unix)]
    pub fn kept(&self, name: &str) -> Result<Option<OwnedFd>> {
        self.scope().host.kept(name).map_err(|why| Error::refused(CODE, &why))
    }

    /// Has the host close what it keeps by this name, or the listener at this address, as it was
    /// given. Tells whether there was one. Duplicates stay open until whoever has them closes them.
    #[cfg(unix)]
    pub fn stop_keeping(&self, name: &str) -> bool {
        self.scope().host.stop_keeping(name)
    }
}

#[cfg(not(unix))]
fn unsupported(address: &str) -> Result<TcpListener> {
    let text = format_args!("{address}: resources are kept on Unix alone; bind it yourself there");
    Err(Error::new(CODE, text))
}
