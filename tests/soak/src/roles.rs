//! The plugins of a run. All are builds of one package, with another name and other events in their
//! bytes.

/// A plugin of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Counts: its state must be right at every request.
    Count,
    /// Counts too, beside a megabyte of state.
    Heavy,
    /// Asks others in its handlers; keeps nothing.
    Relay,
    /// Has a tokio runtime of its own, waits, panics, is late.
    Tokio,
    /// Answers; keeps nothing.
    Quick,
    /// Answers, and is never replaced: what happens to the others must not be felt here. Clients
    /// run inside it.
    Other,
}

/// How many there are.
pub(crate) const ROLES: usize = 6;

impl Role {
    pub(crate) const ALL: [Role; ROLES] =
        [Role::Count, Role::Heavy, Role::Relay, Role::Tokio, Role::Quick, Role::Other];

    /// The name of the plugin, and the namespace of its events. All are as long as `count`, for
    /// which they stand in the bytes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Count => "count",
            Role::Heavy => "heavy",
            Role::Relay => "relay",
            Role::Tokio => "tokio",
            Role::Quick => "quick",
            Role::Other => "other",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn file(self) -> String {
        format!("{}.so", self.name())
    }

    /// Whether its state is handed over.
    pub(crate) fn keeps_state(self) -> bool {
        matches!(self, Role::Count | Role::Heavy)
    }

    /// Whether it may be swapped for a worse version. What fails on purpose in `tokio` would blur
    /// the comparison.
    pub(crate) fn can_get_worse(self) -> bool {
        matches!(self, Role::Count | Role::Heavy | Role::Relay | Role::Quick)
    }

    /// An event of this plugin.
    pub(crate) fn event(self, verb: &str) -> String {
        format!("{}:{verb}", self.name())
    }
}
