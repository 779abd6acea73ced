//! What a plugin says beside what it asks for: with an event, with a subscription, with a line of
//! its log.
//!
//! Each has room for what is not thought of yet. A new option of one ABI number is an [`Extension`]
//! with a number of its own, so that no layout changes; the fields are those that every host knows.
//! Whoever says an option counts on it, so a host that does not know one refuses what it stands
//! with. In a line of a log, which nobody waits for, it is ignored.

use std::{collections::BTreeMap, time::Duration};

use abi_stable::{
    StableAbi,
    std_types::{RSlice, RStr},
};

use super::{Refusal, RefusalCode};

/// One thing more that is said. No number has a meaning yet.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Extension<'a> {
    /// What it is, among those of the record that it stands in.
    pub option: u32,
    /// Its number, or 0.
    pub number: u64,
    /// Its text, or an empty one.
    pub text: RStr<'a>,
}

/// Extensions of a record.
pub type Extensions<'a> = RSlice<'a, Extension<'a>>;

/// Refuses what stands with an option that this host does not know.
fn all_known(extensions: &Extensions<'_>, of: &str) -> Result<(), Refusal> {
    let Some(unknown) = extensions.as_slice().first() else { return Ok(()) };
    let text = format_args!(
        "the plugin says option {} with {of}, and this host does not know it: it takes a newer host",
        unknown.option
    );
    Err(Refusal::new(RefusalCode::UNSUPPORTED, text))
}

/// A text that is attached to an event.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Attribute<'a> {
    /// By which it is read.
    pub key: RStr<'a>,
    /// What is read.
    pub value: RStr<'a>,
}

/// Texts that are attached to an event, by key. The events that follow from it inherit them.
pub type Attributes = BTreeMap<String, String>;

/// The bytes that the attributes of an event may have to which a plugin attaches some, with their
/// keys and those that it inherits.
pub const ATTRIBUTE_BYTES: usize = 64 * 1024;

/// What an emitter says beside its event.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct EmitOptions<'a> {
    /// What the event's handlers can read, and those of all events that follow from it.
    pub attributes: RSlice<'a, Attribute<'a>>,
    /// What its handlers may take in all, in nanoseconds, if that is shorter than what they may
    /// take otherwise; 0 for no such limit.
    pub timeout: u64,
    /// How many events lie before it that this host does not know.
    pub depth: u32,
    /// What else is said.
    pub extensions: Extensions<'a>,
}

impl<'a> EmitOptions<'a> {
    /// Those of these attributes, and nothing else said.
    pub fn of(attributes: &'a [Attribute<'a>]) -> Self {
        let (attributes, extensions) = (RSlice::from_slice(attributes), RSlice::EMPTY);
        EmitOptions { attributes, timeout: 0, depth: 0, extensions }
    }

    /// What is attached, by key.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let attributes = self.attributes.as_slice().iter();
        attributes.map(|attribute| (attribute.key.as_str(), attribute.value.as_str()))
    }

    /// What its handlers may take in all.
    pub fn timeout(&self) -> Option<Duration> {
        duration(self.timeout)
    }

    /// What an event of this name gets attached beside what it inherits. Of two texts of one key
    /// the later is taken.
    ///
    /// # Errors
    /// What the event would have in all is too large, or an option is said that is not known here.
    pub fn attached(&self, name: &str, inherited: &Attributes) -> Result<Attributes, Refusal> {
        all_known(&self.extensions, "an event")?;
        let attributes = self.attributes();
        let own: Attributes = attributes.map(|(key, it)| (key.to_owned(), it.to_owned())).collect();
        // What came from outside may be larger, and goes on as it is.
        if own.is_empty() {
            return Ok(own);
        }
        let stays = inherited.iter().filter(|(key, _)| !own.contains_key(*key));
        let bytes: usize = own.iter().chain(stays).map(|(key, it)| key.len() + it.len()).sum();
        if bytes > ATTRIBUTE_BYTES {
            let text = format_args!(
                "the attributes of {name} have {bytes} bytes, and {ATTRIBUTE_BYTES} are allowed"
            );
            return Err(Refusal::new(RefusalCode::TOO_LARGE, text));
        }
        Ok(own)
    }
}

/// Options of a subscription made at run time.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default)]
pub struct SubscribeOptions<'a> {
    /// Higher ones are called first.
    pub priority: i32,
    /// What a call may take, in nanoseconds; 0 stands for the host's default.
    pub timeout: u64,
    /// The handler is called on a thread that may block.
    pub blocking: bool,
    /// What else is said.
    pub extensions: Extensions<'a>,
}

impl SubscribeOptions<'_> {
    /// What a call may take, if that is not the host's default.
    pub fn timeout(&self) -> Option<Duration> {
        duration(self.timeout)
    }

    /// Whether all that is said is known here.
    ///
    /// # Errors
    /// An option is said that is not.
    pub fn check(&self) -> Result<(), Refusal> {
        all_known(&self.extensions, "a subscription")
    }
}

/// A line of a plugin's log.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct LogRecord<'a> {
    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u8,
    /// Where in the plugin it comes from.
    pub target: RStr<'a>,
    /// The message.
    pub message: RStr<'a>,
    /// Further fields as `name=value`, separated by spaces.
    pub fields: RStr<'a>,
    /// What else is said.
    pub extensions: Extensions<'a>,
}

/// A span that a plugin opens.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct SpanRecord<'a> {
    /// As in [`LogRecord`].
    pub level: u8,
    /// Where in the plugin it comes from.
    pub target: RStr<'a>,
    /// Its name.
    pub name: RStr<'a>,
    /// Its fields as `name=value`, separated by spaces.
    pub fields: RStr<'a>,
    /// What else is said.
    pub extensions: Extensions<'a>,
}

/// Nanoseconds as they cross; 0 stands for none.
fn duration(nanos: u64) -> Option<Duration> {
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_with_an_option_of_a_newer_plugin_is_refused_and_says_so() {
        let newer = [Extension { option: 77, number: 1, text: "".into() }];
        let extensions = RSlice::from_slice(&newer);
        let refused = |result: Result<(), Refusal>| {
            let refusal = result.expect_err("it is not known");
            assert_eq!(refusal.code, RefusalCode::UNSUPPORTED);
            assert!(refusal.text().contains("option 77"), "{refusal}");
        };
        let options = EmitOptions { extensions, ..EmitOptions::of(&[]) };
        refused(options.attached("a:b", &Attributes::new()).map(drop));
        refused(SubscribeOptions { extensions, ..SubscribeOptions::default() }.check());
    }

    #[test]
    fn the_attributes_that_an_event_has_in_the_end_are_counted_and_only_where_some_are_attached() {
        let text = |bytes: usize| "x".repeat(bytes);
        let inherited = |bytes: usize| Attributes::from([("key".to_owned(), text(bytes))]);
        let attached = |key: &str, bytes: usize, inherited: &Attributes| {
            let value = text(bytes);
            let attribute = [Attribute { key: key.into(), value: value.as_str().into() }];
            let own = EmitOptions::of(&attribute).attached("a:b", inherited);
            own.map_err(|refusal| (refusal.code, refusal.text()))
        };
        let half = ATTRIBUTE_BYTES - 3;
        assert!(attached("key", half, &inherited(half)).is_ok(), "it comes in place of the other");
        let (code, why) = attached("k", half, &inherited(half)).expect_err("there are two");
        assert_eq!(code, RefusalCode::TOO_LARGE);
        assert!(why.starts_with("the attributes of a:b have 131070 bytes"), "{why}");
        let outside = inherited(ATTRIBUTE_BYTES * 2);
        assert!(EmitOptions::of(&[]).attached("a:b", &outside).is_ok(), "nothing is attached");
    }
}
