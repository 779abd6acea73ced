//! The host's events over HTTP.
//!
//! | request | what |
//! |---|---|
//! | `POST /events/NAME` | emits: the answer is the report, or with `?wait=none` that it was sent |
//! | `GET /events?pattern=..` | events that pass, as Server-Sent Events |
//! | `/ws` | both over one WebSocket |
//! | `GET /metrics` | what the host counts, for Prometheus |
//! | `GET /openapi.json` | what the plugins' events take and reply, by OpenAPI |
//! | `GET /healthz` | whether the host answers |
//! | `GET /readyz` | whether it has loaded its plugins and does not stop |
//!
//! No client notices that the plugin is replaced. The listening socket is the host's: whoever
//! connects in between waits in its queue. What a version has accepted, it answers before it goes
//! (`server`).
//!
//! At an address of this machine alone nobody has to say who he is; at any other one clients need a
//! token or a certificate, or the plugin does not start (`access`, `tls`). docs/http.md has the
//! whole of it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::sync::{Arc, Mutex, PoisonError};

use ksi_plugin_api::prelude::*;

mod access;
mod answer;
mod app;
mod body;
mod config;
mod emit;
mod health;
mod listener;
mod metrics;
mod openapi;
mod passing;
mod query;
mod report;
mod server;
mod sse;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
mod trace_context;
mod ws;

use app::App;
use config::{Config, Settings};
use listener::Listener;
use passing::{Channels, Passed};
use server::Server;

struct Http {
    address: String,
    passing: Arc<Channels>,
    /// Until the shutdown takes it.
    server: Mutex<Option<Server>>,
}

#[plugin(runtime)]
impl Http {
    #[initialize]
    async fn initialize(ctx: &Context, config: Config) -> Result<Self> {
        let Settings { address, access, tls, limits, serves } = Settings::new(config)?;
        let listener = Listener::at(ctx, &address)?;
        let address = listener.address()?;
        let (stop, stopped) = server::stop();
        let passing =
            Channels::new(ctx.clone(), serves.watch.clone(), serves.keeps, stopped.clone());
        passing.succeed().await;
        let streams = serves.streams.clone();
        let app = App::new(ctx.clone(), access, serves, passing.clone(), stopped.clone());
        let server = Server::start(listener, tls, limits, streams, app.routes(), (stop, stopped));
        Ok(Http { address, passing, server: Mutex::new(Some(server)) })
    }

    /// What clients were told of by now, for the next version.
    #[event_handler("http:passed")]
    async fn passed(&self, _: &Context, _: Value) -> Result<Vec<Passed>> {
        Ok(self.passing.passed())
    }

    /// Where it listens.
    #[event_handler("http:address")]
    async fn address(&self, _: &Context, _: Value) -> Result<String> {
        Ok(self.address.clone())
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
