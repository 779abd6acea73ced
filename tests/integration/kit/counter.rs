//! The plugin with state as bytes: its version, what state it says it keeps and what it does wrong
//! are written into them.

use std::sync::OnceLock;

use super::Library;

/// Where in the library's bytes that stands.
struct Places {
    version: usize,
    behaviour: usize,
    name: usize,
    manifest_version: usize,
    state: usize,
    room: usize,
}

const VERSION: &str = "counter-version-";
const BEHAVIOUR: &str = "counter-behaviour:";
const BEHAVIOUR_ROOM: usize = 80;
const NAME: &str = r#""name":"counter","version":"#;
const MANIFEST_VERSION: &str = r#""0.1.0""#;
const STATE: &str = r#""state":{"writes":[3,2,1],"restores":[3,2,1]}"#;
const ROOM: &str =
    r#""emits":["counter:the_room_that_tests_need_for_what_a_copy_of_it_requires"],"requires":[]"#;

impl Places {
    fn get() -> &'static Places {
        // Searching megabytes takes a while in an unoptimized test, and nothing that is written
        // moves anything.
        static PLACES: OnceLock<Places> = OnceLock::new();
        PLACES.get_or_init(|| {
            let library = Library::of("ksi-fixture-counter");
            let only = |text: &str| {
                let places = library.places_of(text);
                assert_eq!(places.len(), 1, "{text:?} stands in one place");
                places[0]
            };
            let name = only(NAME);
            Places {
                version: only(VERSION) + VERSION.len(),
                behaviour: only(BEHAVIOUR) + BEHAVIOUR.len(),
                name: name + r#""name":""#.len(),
                manifest_version: name + NAME.len(),
                state: only(STATE),
                room: only(ROOM),
            }
        })
    }
}

impl Library {
    /// The plugin that keeps state, as the version `number`: `4.0.0` in its manifest, and
    /// `counter-version-0004` in what it replies. It writes and restores snapshots of the versions
    /// 1, 2 and 3.
    pub(crate) fn counter(number: usize) -> Library {
        assert!(number < 1_000);
        let mut library = Library::of("ksi-fixture-counter");
        library.write(Places::get().version, 4, &format!("{number:04}"));
        let version = match number {
            0..10 => format!("\"{number}.0.0\""),
            10..100 => format!("\"{number}.00\""),
            _ => format!("\"{number}.0\""),
        };
        library.write(Places::get().manifest_version, MANIFEST_VERSION.len(), &version);
        library
    }

    /// What it does at which step, as in `restore=panic calls=fail`.
    pub(crate) fn does(mut self, behaviour: &str) -> Library {
        self.write(Places::get().behaviour, BEHAVIOUR_ROOM, behaviour);
        self
    }

    /// Says in its manifest that it writes and restores snapshots of these versions alone, as in
    /// `[3,1]`.
    pub(crate) fn keeping(mut self, writes: &str, restores: &str) -> Library {
        let state = format!(r#""state":{{"writes":{writes},"restores":{restores}}}"#);
        self.write(Places::get().state, STATE.len(), &state);
        self
    }

    /// Says in its manifest that it keeps no state.
    pub(crate) fn stateless(mut self) -> Library {
        self.write(Places::get().state, STATE.len(), r#""state":null"#);
        self
    }

    /// Says in its manifest that it requires these events.
    pub(crate) fn requiring(mut self, events: &[&str]) -> Library {
        let events: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
        let requires = format!(r#""emits":[],"requires":[{}]"#, events.join(","));
        self.write(Places::get().room, ROOM.len(), &requires);
        self
    }

    /// Another plugin of seven letters with the same code, whose events begin with that name.
    pub(crate) fn called(self, name: &str) -> Library {
        let mut library = self.with("\"counter:", &format!("\"{name}:"));
        library.write(Places::get().name, "counter".len(), name);
        library
    }

    fn write(&mut self, place: usize, room: usize, text: &str) {
        assert!(text.len() <= room, "there is no room for {text:?}");
        let padded = format!("{text:room$}");
        self.0[place..place + room].copy_from_slice(padded.as_bytes());
    }
}
