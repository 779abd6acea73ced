//! How a call ended, as the report of a host shows it to a plugin.

use abi_stable::{StableAbi, std_types::RStr};

use super::RefusalCode;

/// How a call ended, as a number that crosses. One that this side does not know is a failure, whose
/// code and message stand beside it.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeCode(u8);

impl OutcomeCode {
    /// With a reply.
    pub const REPLIED: OutcomeCode = OutcomeCode(0);
    /// Well, without a reply.
    pub const NO_REPLY: OutcomeCode = OutcomeCode(1);
    /// With an error.
    pub const FAILED: OutcomeCode = OutcomeCode(2);
    /// With a panic.
    pub const PANICKED: OutcomeCode = OutcomeCode(3);
    /// It took too long.
    pub const TIMED_OUT: OutcomeCode = OutcomeCode(4);
    /// It was not started.
    pub const REJECTED: OutcomeCode = OutcomeCode(5);
    /// The process that it ran in ended first.
    pub const CRASHED: OutcomeCode = OutcomeCode(6);

    /// One that may have no name here.
    pub const fn of(number: u8) -> Self {
        OutcomeCode(number)
    }

    /// Its number, which is the same for good.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// With a reply, or well without one. Whatever gets a number later is not well.
    #[inline]
    pub const fn is_ok(self) -> bool {
        self.0 <= OutcomeCode::NO_REPLY.0
    }
}

/// One outcome, borrowed from a report of the host.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct OutcomeView<'a> {
    /// How the call ended.
    pub kind: OutcomeCode,
    /// The plugin that was called; empty for the host itself.
    pub plugin: RStr<'a>,
    /// Its handler.
    pub handler: RStr<'a>,
    /// For programs: of a failure its own code, of whatever else is not well a word for that.
    pub code: RStr<'a>,
    /// Why the event was not accepted, if it was not.
    pub refusal: RefusalCode,
    /// The message of whatever is not well.
    pub message: RStr<'a>,
}
