//! Events over HTTP: `POST /events/NAME` with a JSON body asks for an event, and is answered with
//! the reply.
//!
//! No client notices that the plugin is replaced. The listening socket is the host's: whoever
//! connects in between waits in its queue. What a version has accepted, it answers before it goes
//! (`server`).

mod gateway;
mod server;

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use ksi_plugin_api::{Pattern, prelude::*};
use tokio::net::TcpListener;

use crate::{gateway::Gateway, server::Server};

/// `[plugin.web]` in the host's configuration.
#[payload]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// An IP address and a port; port 0 is a free one.
    address: String,
    /// What may be asked for: names or patterns of events. All others are unknown to clients.
    events: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config { address: "127.0.0.1:8080".to_owned(), events: vec!["greet:request".to_owned()] }
    }
}

struct Web {
    address: SocketAddr,
    /// Until the shutdown takes it.
    server: Mutex<Option<Server>>,
}

#[plugin(runtime)]
impl Web {
    #[initialize]
    async fn initialize(ctx: &Context, config: Config) -> Result<Self> {
        let allowed = config.events.iter().map(|it| Pattern::parse(it));
        let gateway = Gateway::new(ctx.clone(), allowed.collect::<Result<_, _>>()?);
        let listener = ctx.listener(&config.address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let server = Mutex::new(Some(Server::start(listener, gateway)));
        Ok(Web { address, server })
    }

    /// Where it listens.
    #[event_handler("web:address")]
    async fn address(&self, _: &Context, _: Value) -> Result<String> {
        Ok(self.address.to_string())
    }

    /// Answers what was accepted.
    #[event_handler("module:shutdown")]
    async fn shutdown(&self, _: &Context, _: Value) -> Result<()> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.stop().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
