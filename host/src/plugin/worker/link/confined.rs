//! What the host does not do in the name of a plugin that is limited: it would be a way around the
//! limits of its process.

use std::net::SocketAddr;

use ksi_abi::{Refusal, RefusalCode};
use ksi_sandbox::Ports;

/// What a limited plugin may have the host do; see the module.
#[derive(Debug)]
pub(crate) struct Confined {
    /// Where it may listen.
    pub(crate) bind: Ports,
    /// Which events of the host change what runs in it, what is kept, or who is connected.
    pub(crate) is_change: fn(&str) -> bool,
}

impl Confined {
    /// Whether an event of this name may be emitted.
    pub(super) fn may_emit(&self, name: &str) -> Result<(), Refusal> {
        match (self.is_change)(name) {
            false => Ok(()),
            true => Err(not_allowed(&format!(
                "{name} changes what runs in the host, what it keeps or who is connected, which a \
                 plugin with a profile may not (isolation.profile)"
            ))),
        }
    }

    /// Whether the host may listen at this address for it.
    pub(super) fn may_listen(&self, address: &str) -> Result<(), Refusal> {
        let port = address.parse::<SocketAddr>().ok().map(|address| address.port());
        let may = match (&self.bind, port) {
            (Ports::Any, Some(_)) => true,
            (Ports::Only(ports), Some(port)) => ports.contains(&port),
            _ => false,
        };
        match may {
            true => Ok(()),
            false => Err(not_allowed(&format!(
                "{address} is not among the ports that it may listen on (isolation.bind)"
            ))),
        }
    }
}

fn not_allowed(text: &str) -> Refusal {
    Refusal::new(RefusalCode::NOT_ALLOWED, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_plugin_has_the_host_listen_where_it_might_and_changes_nothing_in_it() {
        let is_change = |name: &str| name == "module:load";
        let confined = Confined { bind: Ports::Only([8080].into()), is_change };
        assert!(confined.may_listen("127.0.0.1:8080").is_ok());
        for address in ["127.0.0.1:0", "0.0.0.0:80", "unix:/run/web.sock", "nowhere"] {
            assert!(confined.may_listen(address).is_err(), "{address}");
        }
        assert!(confined.may_emit("module:list").is_ok() && confined.may_emit("a:b").is_ok());
        let refused = confined.may_emit("module:load").unwrap_err();
        assert_eq!(refused.code, RefusalCode::NOT_ALLOWED);
        assert!(Confined { bind: Ports::Any, is_change }.may_listen("[::1]:0").is_ok());
    }
}
