//! Why a host refuses what a plugin asks for: a code for programs, a text for people.

use std::fmt;

use abi_stable::StableAbi;

use super::Buffer;

/// What kind of refusal it is. A number that this side does not know is a refusal all the same.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalCode(u32);

impl RefusalCode {
    /// There is none: what is told of was not refused.
    pub const NONE: RefusalCode = RefusalCode(0);
    /// It is no event name.
    pub const INVALID_NAME: RefusalCode = RefusalCode(1);
    /// It is no pattern.
    pub const INVALID_PATTERN: RefusalCode = RefusalCode(2);
    /// Too many sent events are not handled yet.
    pub const QUEUE_FULL: RefusalCode = RefusalCode(3);
    /// Those that are not handled yet are too large.
    pub const QUEUE_BYTES: RefusalCode = RefusalCode(4);
    /// What the event carries is too large.
    pub const TOO_LARGE: RefusalCode = RefusalCode(5);
    /// The chain of events is too long.
    pub const TOO_DEEP: RefusalCode = RefusalCode(6);
    /// The payload has no encoding.
    pub const NOT_ENCODABLE: RefusalCode = RefusalCode(7);
    /// The plugin has as many subscriptions as it may have.
    pub const TOO_MANY_SUBSCRIPTIONS: RefusalCode = RefusalCode(8);
    /// The same of background tasks.
    pub const TOO_MANY_TASKS: RefusalCode = RefusalCode(9);
    /// The same of watches.
    pub const TOO_MANY_WATCHES: RefusalCode = RefusalCode(10);
    /// The plugin is being retired.
    pub const RETIRING: RefusalCode = RefusalCode(11);
    /// The plugin is only tried out.
    pub const TRIAL: RefusalCode = RefusalCode(12);
    /// It is no address to listen at.
    pub const INVALID_ADDRESS: RefusalCode = RefusalCode(13);
    /// The address cannot be listened at.
    pub const ADDRESS_UNAVAILABLE: RefusalCode = RefusalCode(14);
    /// The plugin has as many resources as it may have.
    pub const TOO_MANY_RESOURCES: RefusalCode = RefusalCode(15);
    /// It is no name of a resource.
    pub const INVALID_RESOURCE_NAME: RefusalCode = RefusalCode(16);
    /// The plugin has asked for as much as it may that is not answered yet.
    pub const TOO_MANY_ASKS: RefusalCode = RefusalCode(21);
    /// The operator does not let the plugin do it.
    pub const NOT_ALLOWED: RefusalCode = RefusalCode(22);
    /// The plugin is unloaded, and nothing is kept for it.
    pub const UNLOADED: RefusalCode = RefusalCode(17);
    /// The system gives no further descriptor.
    pub const NO_DESCRIPTOR: RefusalCode = RefusalCode(18);
    /// The host panicked.
    pub const HOST_PANICKED: RefusalCode = RefusalCode(19);
    /// There is nothing like it on this system.
    pub const UNSUPPORTED: RefusalCode = RefusalCode(20);

    /// The code of this number.
    pub fn of(number: u32) -> Self {
        RefusalCode(number)
    }

    /// Its number, which is the same for good.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// A refusal, as it crosses.
#[repr(C)]
#[derive(StableAbi)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    text: Buffer,
}

impl Refusal {
    /// A refusal of this kind and text.
    #[cold]
    pub fn new(code: RefusalCode, text: impl fmt::Display) -> Self {
        Refusal { code, text: Buffer::from(&*text.to_string()) }
    }

    /// For people.
    pub fn text(&self) -> String {
        self.text.to_text()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("code", &self.code).field("text", &self.text()).finish()
    }
}
