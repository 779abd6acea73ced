//! The plugin that emits and handles values, as bytes: who it is and which of its handlers get what it emits.

use std::sync::OnceLock;

use super::{Library, TestHost, until};

const MARK: &str = "lanes-version-";

impl Library {
    /// The plugin that emits and handles values, under a name of five letters: asked by events of that name. What it emits
    /// reaches those whose `handlers` are named, such as `reads`. It keeps no state.
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
        // Searching megabytes takes a while in an unoptimized test, and the place is always the same.
        static PLACE: OnceLock<usize> = OnceLock::new();
        let place = *PLACE.get_or_init(|| {
            let places = self.places_of(MARK);
            assert_eq!(places.len(), 1, "the version stands in one place");
            places[0]
        });
        assert!(self.0[place..].starts_with(MARK.as_bytes()) && number < 10_000);
        let digits = place + MARK.len();
        self.0[digits..digits + 4].copy_from_slice(format!("{number:04}").as_bytes());
    }
}

impl TestHost {
    /// Waits until so many calls and tasks of such a plugin wait for the gate.
    #[track_caller]
    pub(crate) fn until_waiting(&self, name: &str, count: u64) {
        let mut client = self.client();
        let stats = format!("{name}:stats");
        let waiting = || client.emit(&stats, serde_json::json!({}))["waiting"].clone();
        until("they wait for the gate", waiting, |waiting| *waiting == count);
    }
}
