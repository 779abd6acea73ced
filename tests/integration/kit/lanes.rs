//! The plugin that emits and handles values, as bytes: who it is and which of its handlers get what
//! it emits. And hosts with it.

use std::sync::OnceLock;

use ksi_wire::module::{Retired, RetiredState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Library, TestHost, isolated, until};

impl Library {
    /// The plugin that emits and handles values, under a name of five letters: asked by events of
    /// that name. What it emits reaches those whose `handlers` are named, such as `reads`. It keeps
    /// no state.
    pub(crate) fn lanes(name: &str, handlers: &[&str]) -> Library {
        const STATE: &str = r#""state":{"writes":[1],"restores":[1]}"#;
        let stateless = format!("{:width$}", r#""state":null"#, width = STATE.len());
        Library::lanes_with_state(name, handlers).with(STATE, &stateless)
    }

    /// The same with the state that it keeps: how many notes it has read.
    pub(crate) fn lanes_with_state(name: &str, handlers: &[&str]) -> Library {
        let named = format!(r#""name":"{name}","version""#);
        let mut library = Library::of("ksi-fixture-lanes")
            .with(r#""name":"drive","version""#, &named)
            .with("\"drive:", &format!("\"{name}:"));
        for kind in handlers {
            library = library.with(&format!("\"{kind}:"), "\"lanes:");
        }
        library
    }

    /// Another version of it, which says so.
    pub(crate) fn lanes_version(&mut self, number: usize) {
        static PLACE: OnceLock<usize> = OnceLock::new();
        self.set_number("lanes-version-", &PLACE, number);
    }
}

impl TestHost {
    /// Waits until so many calls and tasks of such a plugin wait for the gate.
    #[track_caller]
    pub(crate) fn until_waiting(&self, name: &str, count: u64) {
        let mut client = self.client();
        let stats = format!("{name}:stats");
        let waiting = || client.emit(&stats, json!({}))["waiting"].clone();
        until("they wait for the gate", waiting, |waiting| *waiting == count);
    }
}

/// A host with an emitter, `alpha`, and a handler that reads values, `bravo`.
#[track_caller]
pub(crate) fn reading() -> TestHost {
    with(&["reads"])
}

/// The same with other handlers.
#[track_caller]
pub(crate) fn with(handlers: &[&str]) -> TestHost {
    TestHost::builder()
        .plugin("alpha.so", &Library::lanes("alpha", &[]))
        .plugin("bravo.so", &Library::lanes("bravo", handlers))
        .start()
}

/// Whether values go from one plugin to another as they are: to another process they go as JSON.
pub(crate) fn by_pointer() -> bool {
    !isolated::is_on()
}

#[track_caller]
pub(crate) fn ask(host: &TestHost, event: &str, text: &str) -> Value {
    host.client().emit(event, json!({"text": text}))
}

#[track_caller]
pub(crate) fn unload(host: &TestHost, name: &str) {
    host.client().emit("module:unload", json!({"module_name": name}));
}

/// Lets go on whoever waits for the gate.
pub(crate) fn open_gate(host: &TestHost) {
    host.client().reply("gates:open", json!({}));
}

#[track_caller]
pub(crate) fn heard(host: &TestHost, name: &str) -> Value {
    host.client().emit(&format!("{name}:stats"), json!({}))["heard"].clone()
}

#[track_caller]
pub(crate) fn until_heard(host: &TestHost, name: &str, what: &[&str]) {
    until("it is heard", || heard(host, name), |heard| *heard == json!(what));
}

/// The library of a plugin that was unloaded leaves memory, and it is the only one that does.
#[track_caller]
pub(crate) fn leaves(host: &TestHost, name: &str, left: usize) {
    host.until_unmapped(name);
    assert_eq!(host.resources().libraries.len(), left);
}

/// The library of a plugin that was unloaded stays, and the host tells so.
#[track_caller]
pub(crate) fn stays(host: &TestHost, name: &str) {
    let pinned = |module: &Value| {
        let retired = Vec::<Retired>::deserialize(module.get("retired")?).expect("as clients know");
        retired.into_iter().find(|old| old.state == RetiredState::Pinned)?.cause
    };
    let module = host.until_module("its library stays", name, |module| pinned(module).is_some());
    let cause = pinned(&module).unwrap();
    assert!(cause.contains("value"), "{cause}");
    let copies = host.modules().len();
    assert_eq!(host.resources().libraries.len(), copies);
}
