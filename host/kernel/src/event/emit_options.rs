//! What an emitter says beside its event, in whatever form it has that.

use std::time::Duration;

use ksi_abi::{Attributes, Refusal};

/// What an emitter says beside its event. It is asked for once, and its texts are kept then.
pub trait EmitOptions {
    /// What is attached, by key.
    fn attributes(&self) -> impl Iterator<Item = (&str, &str)>;

    /// What is attached to an event of this name in the end, which inherits these.
    ///
    /// # Errors
    /// It is too much.
    fn attached(&self, name: &str, inherited: &Attributes) -> Result<Attributes, Refusal>;

    /// What its handlers may take in all, if that is shorter than what they may take otherwise.
    fn timeout(&self) -> Option<Duration>;

    /// How many events lie before it that this host does not know.
    fn depth(&self) -> u32;
}

/// As they come through the boundary.
impl EmitOptions for &ksi_abi::EmitOptions<'_> {
    fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        ksi_abi::EmitOptions::attributes(self)
    }

    fn attached(&self, name: &str, inherited: &Attributes) -> Result<Attributes, Refusal> {
        ksi_abi::EmitOptions::attached(self, name, inherited)
    }

    fn timeout(&self) -> Option<Duration> {
        ksi_abi::EmitOptions::timeout(self)
    }

    fn depth(&self) -> u32 {
        self.depth
    }
}
