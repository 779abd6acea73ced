//! A worker on threads of this process, with a plugin without a file, and a host that is a script.

mod calls;
mod fake;
mod kit;
mod life;
mod services;

use ksi_plugin_api::json;
use ksi_worker_protocol::life::Limits;

use fake::Fake;
use kit::Host;

/// One with an instance of the plugin.
fn live() -> Host {
    Host::live::<Fake>(json!({}), Limits::default())
}
