//! Plugins as people write them, below `tests/fixtures/field`, in the versions that tests need.

use super::Library;

impl Library {
    /// The ledger in a SQLite file, in a version of its own.
    pub(crate) fn ledger(version: usize) -> Library {
        Library::of("ksi-field-sqlite").of_version(version)
    }

    /// The web server on a kept listener, in a version of its own.
    pub(crate) fn web(version: usize) -> Library {
        Library::of("ksi-field-web").of_version(version)
    }

    /// Whether the manifest says that it is exclusive.
    #[track_caller]
    pub(crate) fn exclusive(self, exclusive: bool) -> Library {
        let [to, from] = [exclusive, !exclusive].map(|it| format!("\"exclusive\":{it:>5},"));
        self.with(&from, &to)
    }

    /// Writes a version into the manifest; the one of the workspace has three parts of one digit.
    #[track_caller]
    pub(crate) fn of_version(self, version: usize) -> Library {
        assert!(version < 1_000, "three digits are there");
        let digits = format!("{version:03}");
        let [a, b, c] = [0, 1, 2].map(|place| &digits[place..=place]);
        self.with("\"version\":\"0.1.0\"", &format!("\"version\":\"{a}.{b}.{c}\""))
    }
}
