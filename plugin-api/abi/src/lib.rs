//! What crosses the boundary between the host and a plugin's library, and nothing else.
//!
//! Both sides compile this crate, each into its own binary. It moves bytes, handles and futures; it
//! knows no names of events, and of JSON only how to write it ([`json`]). Most of the `unsafe` code
//! that there is lies here (ARCHITECTURE.md lists the other places), and nothing else names types
//! of `abi_stable`.
//!
//! In reading order: [`memory`], [`buffer`] and [`json`] (memory of the host that both sides
//! write), [`waker`] and [`future`] (polling over the boundary), [`layout`], [`value`] and
//! [`probe`] (values that cross as they are), [`scratch`] (where a call is polled first),
//! [`counted`], [`object`] and [`outcome`] (an event and a report, seen from a plugin), [`host`],
//! [`options`] and [`refusal`] (what a plugin may ask of the host; `host_table` and `host_ref`
//! carry it over, `kept` the descriptors), [`module`] (what the host may ask of a plugin),
//! [`export`] (how a plugin type becomes a module), [`local`] (an instance without a library),
//! [`unload`] (what makes a library unloadable) and [`signals`] (whose handlers are called).
//!
//! # Invariants
//! * Nothing that a plugin allocated is owned by the host beyond the plugin's instance: payloads,
//!   replies and error texts are [`Buffer`]s, whose memory belongs to the host.
//! * No panic crosses: every function that is entered from the other side catches unwinding.
//! * Safe code outside of this crate cannot break any of this. What relies on a promise is unsafe:
//!   [`module::create`] for hosts, [`export::Exported`] and ways to emit ([`HostRef::emit`]) for
//!   those who make plugins. Authors do what they do with their host, their events and their
//!   instance through a `Context` of `ksi-plugin-api`, which has all of them from one call.
//! * A waker that the host hands out comes back to it as its own; any other is wrapped by the host
//!   ([`HostApi::adopt_waker`]) before it is kept.
//!
//! # What can come without a new number of the ABI
//! * A function: behind the last of [`module`]'s, of [`host`]'s, or of those that stand beside an
//!   event and a report. What else is to be known of an event ([`EventView`]) or of an outcome
//!   ([`OutcomeView`]) is a function there, too.
//! * A way in which calls end ([`OutcomeCode`]) and a reason to refuse ([`RefusalCode`]): open
//!   numbers, and each side has a meaning for one that it does not know.
//! * What is said beside an event, a subscription, a line of the log or a span: an
//!   [`options::Extension`].
//!
//! Closed is what owns or lends what it tells of: [`CallEnd`], [`CallStart`],
//! [`module::CreateEnd`], [`ReplyEnd`], [`host::WaitEnd`], [`host::WatchStep`], [`object::Lent`].
//! Whoever did not know a case could not read it, nor let go of what is in it. So is [`ReplyForm`],
//! which has to be answered in the form that it names, and [`host::SpanStep`], as no other steps
//! are known. What none of them can say is a function of its own.

#![allow(unsafe_code)]
// The derive of abi_stable emits items that these lints of newer compilers dislike.
#![allow(non_local_definitions)]

pub mod buffer;
pub mod counted;
mod description;
pub mod export;
pub mod future;
mod hidden;
pub mod host;
mod host_ref;
mod host_table;
pub mod json;
mod kept;
pub mod layout;
pub mod local;
pub mod manifest;
pub mod memory;
pub mod module;
pub mod name;
pub mod object;
pub mod options;
pub mod outcome;
pub mod panic;
pub mod probe;
pub mod refusal;
pub mod scratch;
pub mod signals;
pub mod unload;
pub mod value;
pub mod waker;

pub use buffer::{Buffer, Failure};
pub use counted::Counted;
pub use description::{
    Description, EmitDescription, HandlerDescription, RequirementDescription, TypeDescription,
};
pub use future::BoundaryFuture;
pub use host::{HostApi, HostRef, ReplyEnd, ReplyForm, Start, To};
pub use layout::{Fingerprint, Layout};
pub use module::{CallEnd, CallStart, Instance, ModuleRef, log_level_changed};
pub use name::{EventName, NameError, Pattern, PatternSegment, validate_event_name};
pub use object::{Encoding, EventHandle, EventObject, EventView, ReportHandle, ReportObject};
pub use options::{
    ATTRIBUTE_BYTES, Attribute, Attributes, EmitOptions, Extension, LogRecord, SpanRecord,
    SubscribeOptions,
};
pub use outcome::{OutcomeCode, OutcomeView};
pub use refusal::{Refusal, RefusalCode};
pub use value::{Content, Value};

/// The number of this ABI. A plugin that carries another number is refused from its manifest,
/// before any of its code runs. It is the major number of this crate's version too, and the crate
/// has a version of its own: abi_stable compares the versions of the crates that the types on both
/// sides are from, so that one with the version of the workspace would have a host refuse every
/// plugin that was built for the release before.
///
/// Beside it the layout is compared when a library is opened: of all that crosses, of the blocks of
/// [`memory`] that lie behind a pointer, and the sizes of blocks that both sides know. The number
/// is for what a layout does not show, and for a message that says more.
pub const ABI_VERSION: u32 = 4;

#[cfg(test)]
mod tests {
    use abi_stable::{library::RootModule, sabi_types::VersionNumber};

    use super::*;

    #[test]
    fn the_major_number_of_the_crate_that_plugins_carry_is_that_of_the_abi() {
        let version = VersionNumber::new(ModuleRef::VERSION_STRINGS).expect("a version");
        assert_eq!(version.major, ABI_VERSION, "of ksi-abi {version}");
    }
}
