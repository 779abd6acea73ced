//! What plugins are in, as the host tells of it, by the types that every client reads it with: no
//! test spells such a word.

use ksi_wire::module::{ModuleState, Retired, RetiredState};
use serde::Deserialize;
use serde_json::Value;

/// What the host says of a plugin, or of a file that is none.
pub(crate) trait States {
    /// What it does; a word of no host if there is nothing of that name.
    fn state(&self) -> ModuleState;

    /// What has become of the generations before, as they are listed.
    fn retired_states(&self) -> Vec<RetiredState>;

    /// The same of one of them; a word of no host if there is none.
    fn retired_state(&self, index: usize) -> RetiredState {
        self.retired_states().get(index).cloned().unwrap_or_default()
    }
}

impl States for Value {
    fn state(&self) -> ModuleState {
        ModuleState::deserialize(&self["state"]).unwrap_or_default()
    }

    fn retired_states(&self) -> Vec<RetiredState> {
        let retired = Vec::<Retired>::deserialize(&self["retired"]).unwrap_or_default();
        retired.into_iter().map(|old| old.state).collect()
    }
}
