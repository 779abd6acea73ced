//! What the host of a plugin under test keeps for it.

use std::{
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use ksi_abi::{Refusal, RefusalCode};
use ksi_plugin_api::Plugin;

use super::{Harness, Setup, world::World};

impl<P: Plugin> Setup<P> {
    /// Something that an earlier generation has had the host keep: what the plugin gets by
    /// [`Context::kept`](ksi_plugin_api::Context::kept), or a listening socket by its address as it
    /// was given.
    pub fn kept(mut self, name: &str, descriptor: impl Into<OwnedFd>) -> Self {
        self.kept.insert(name.to_owned(), descriptor.into());
        self
    }
}

impl Harness {
    /// A duplicate of what the plugin has had the host keep by this name.
    pub fn kept(&self, name: &str) -> Option<OwnedFd> {
        self.world.kept_by(name).ok().flatten()
    }
}

impl World {
    pub(super) fn listener_at(&self, address: &str) -> Result<OwnedFd, Refusal> {
        let invalid = |error| Refusal::new(RefusalCode::INVALID_ADDRESS, error);
        let parsed = match address.strip_prefix("unix:") {
            Some(_) => None,
            None => Some(address.parse::<SocketAddr>().map_err(invalid)?),
        };
        let listen = || match parsed {
            None => Ok(UnixListener::bind(address.trim_start_matches("unix:"))?.into()),
            Some(address) => {
                // The live generation may listen there.
                let port = if self.trial { 0 } else { address.port() };
                Ok(TcpListener::bind((address.ip(), port))?.into())
            }
        };
        if let Some(kept) = self.kept_by(address)? {
            return Ok(kept);
        }
        let listening: std::io::Result<OwnedFd> = listen();
        let listening = listening.map_err(|error| {
            let text = format_args!("{address} cannot be listened at: {error}");
            Refusal::new(RefusalCode::ADDRESS_UNAVAILABLE, text)
        })?;
        self.keep_by(address, listening.as_fd().try_clone_to_owned().map_err(no_descriptor)?);
        Ok(listening)
    }

    pub(super) fn keep_by(&self, name: &str, descriptor: OwnedFd) {
        if !self.trial {
            self.state.lock().kept.insert(name.to_owned(), descriptor);
        }
    }

    pub(super) fn kept_by(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        let state = self.state.lock();
        let kept = state.kept.get(name).filter(|_| !self.trial);
        let duplicate = kept.map(|kept| kept.as_fd().try_clone_to_owned()).transpose();
        duplicate.map_err(no_descriptor)
    }
}

fn no_descriptor(error: std::io::Error) -> Refusal {
    Refusal::new(RefusalCode::NO_DESCRIPTOR, error)
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpStream, os::unix::net::UnixStream};

    use ksi_plugin_api::{Context, Result, Value, json};

    use crate::Harness;

    struct Web {
        listener: std::net::TcpListener,
        line: Option<std::os::fd::OwnedFd>,
    }

    #[ksi_plugin_api::plugin(name = "web", version = "1")]
    impl Web {
        #[ksi_plugin_api::initialize]
        async fn initialize(ctx: &Context, _: Value) -> Result<Self> {
            let (listener, line) = (ctx.listener("127.0.0.1:0")?, ctx.kept("line")?);
            if line.is_none() {
                ctx.keep("line", UnixStream::pair()?.0)?;
            }
            Ok(Web { listener, line })
        }

        #[ksi_plugin_api::event_handler("web:had")]
        async fn had(&self, _: &Context, _: Value) -> Result<(u16, bool)> {
            Ok((self.listener.local_addr()?.port(), self.line.is_some()))
        }
    }

    fn had(web: &Harness) -> (u16, bool) {
        let had = web.emit("web:had", ()).results().remove(0);
        serde_json::from_value(had).unwrap()
    }

    #[test]
    fn what_one_generation_keeps_the_next_one_gets() {
        let first = Harness::start::<Web>();
        let (port, line) = had(&first);
        assert!(!line);
        let listener = first.kept("127.0.0.1:0").expect("it is kept");
        let line = first.kept("line").expect("it is kept");
        drop(first);
        let next = Harness::setup::<Web>().kept("127.0.0.1:0", listener).kept("line", line);
        let next = next.start().unwrap();
        assert_eq!(had(&next), (port, true));
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn who_is_tried_out_gets_another_socket_and_keeps_nothing() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let trial = Harness::setup::<Web>().trial().kept("127.0.0.1:0", listener);
        let trial = trial.kept("line", near).start().unwrap();
        let (other, line) = had(&trial);
        assert!(other != port && !line, "{}", json!([other, line]));
        drop(trial);
        assert_eq!(far.read(&mut [0]).unwrap(), 0, "what it was given is closed");
    }
}
