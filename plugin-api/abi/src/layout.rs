//! Fingerprints of types: what proves that two binaries mean the same by a reference.
//!
//! A fingerprint covers the compiler, the target and the flags that change layouts; the definition
//! of the type as its author wrote it; and name, type, offset, size and alignment of every field,
//! down to types that this module knows. Whatever cannot be proved that way has no fingerprint, and
//! crosses as bytes.
//!
//! A reader of the value gets `&T` and nothing more, so no type may be in it that a reader could
//! change, or that two binaries may not share: no reference, no counted pointer, no cell, no
//! function. That is why the list in `std_types` is closed, and why a field of any other type
//! leaves the whole type unproved.

mod std_types;

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hasher,
    sync::OnceLock,
};

use abi_stable::StableAbi;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

/// What two binaries compare before one reads a value of the other: equal only for the same
/// definition, compiled in the same way.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// Whether a value of this type is read as it is by whoever reads it as a type of `reader`;
    /// otherwise he gets JSON. This alone decides it, where the value itself can get to him.
    #[inline]
    pub fn is_read_as(self, reader: Option<Fingerprint>) -> bool {
        reader == Some(self)
    }
}

/// A type whose layout can be told apart from any other. `#[event]` and `#[payload]` implement it;
/// nobody else does.
///
/// Implementing it makes no type cross as a value: that takes a fingerprint, and a type with a
/// field of a type that is not known here has none.
///
/// # Safety
/// Where fingerprints are equal, a binary reads as its own `Self` what another one has stored as
/// its own. So `describe` either calls [`LayoutDescription::unproved`], or it says all that two
/// builds of `Self` can differ in: its definition, and each field with its place and its type; and
/// whoever has a `&Self` cannot change anything in it, nor share it by a count, nor call it.
/// `fingerprint` gives nothing, or what [`Cached::of`] gives for `Self`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no payload type",
    note = "write #[payload] on it; of the standard library's types the owned ones are payloads, such as String, Vec, \
            Option and HashMap"
)]
pub unsafe trait Layout: 'static {
    /// Whether a value, once it is encoded, may be what stands for "no reply". Asked of types with
    /// a fingerprint alone.
    #[doc(hidden)]
    const MAY_BE_NOTHING: bool = false;

    /// Describes which type it is and what lies inside. Size and alignment are described by whoever
    /// calls this.
    #[doc(hidden)]
    fn describe(to: &mut LayoutDescription);

    /// The proof; none for types that cross as bytes.
    #[doc(hidden)]
    fn fingerprint() -> Option<Fingerprint> {
        None
    }
}

/// Makes payload types of types that cross as bytes, also as parts of others.
macro_rules! crosses_as_bytes {
    ($($type:ty),*) => { $(
        // SAFETY: the type has no fingerprint, and nor has any that it is a part of.
        unsafe impl $crate::layout::Layout for $type {
            fn describe(to: &mut $crate::layout::LayoutDescription) {
                to.unproved();
            }
        }
    )* };
}
pub(crate) use crosses_as_bytes;

/// A fingerprint that is computed once a binary, at its first use.
#[doc(hidden)]
pub struct Cached(OnceLock<Option<Fingerprint>>);

impl Cached {
    /// Nothing yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Cached(OnceLock::new())
    }

    /// The fingerprint of `T`, if it can be proved. One `Cached` is for one type.
    pub fn of<T: Layout>(&self) -> Option<Fingerprint> {
        *self.0.get_or_init(LayoutDescription::fingerprint_of::<T>)
    }
}

/// A description that becomes a fingerprint.
#[doc(hidden)]
pub struct LayoutDescription {
    hasher: SipHasher24,
    /// The types that were met, in this order. A type that is met again is described by its place
    /// here, so recursive types end, and a type that is used often costs once.
    met: Vec<TypeId>,
    proved: bool,
}

impl LayoutDescription {
    /// The fingerprint of `T`, if all of it can be proved.
    pub fn fingerprint_of<T: Layout>() -> Option<Fingerprint> {
        let mut description = LayoutDescription::of_this_build();
        description.part::<T>();
        description.finish()
    }

    /// What all types of this binary have in common.
    fn of_this_build() -> Self {
        let mut description =
            LayoutDescription { hasher: SipHasher24::new(), met: Vec::new(), proved: true };
        description.text(env!("KSI_BUILD"));
        // A std that was built otherwise shows in its own types, if at all.
        description.shape::<String>();
        description.shape::<Vec<u8>>();
        description.shape::<VecDeque<u64>>();
        description.shape::<HashMap<String, u64>>();
        description.shape::<BTreeMap<String, u64>>();
        description
    }

    /// Adds a type, with all that lies inside.
    pub fn part<T: Layout>(&mut self) {
        if !self.proved {
            return;
        }
        let id = TypeId::of::<T>();
        if let Some(place) = self.met.iter().position(|&met| met == id) {
            self.text("again");
            self.number(place as u128);
            return;
        }
        self.met.push(id);
        self.text("type");
        self.shape::<T>();
        T::describe(self);
        self.text("end");
    }

    fn shape<T>(&mut self) {
        self.number(size_of::<T>() as u128);
        self.number(align_of::<T>() as u128);
    }

    /// Adds a text; where it ends counts.
    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u128);
        self.hasher.write(text.as_bytes());
    }

    /// Adds a number.
    pub fn number(&mut self, number: u128) {
        self.hasher.write(&number.to_le_bytes());
    }

    /// The type has a part that cannot be proved.
    pub fn unproved(&mut self) {
        self.proved = false;
    }

    fn finish(self) -> Option<Fingerprint> {
        let hash = self.hasher.finish128();
        self.proved.then_some(Fingerprint([hash.h1, hash.h2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_itself_and_no_other() {
        let of = LayoutDescription::fingerprint_of::<Vec<u32>>;
        assert!(of().is_some());
        assert_eq!(of(), of());
        let others = [
            LayoutDescription::fingerprint_of::<Vec<i32>>(),
            LayoutDescription::fingerprint_of::<Vec<Vec<u32>>>(),
            LayoutDescription::fingerprint_of::<VecDeque<u32>>(),
            LayoutDescription::fingerprint_of::<Option<u32>>(),
            LayoutDescription::fingerprint_of::<[u32; 3]>(),
            LayoutDescription::fingerprint_of::<[u32; 4]>(),
            LayoutDescription::fingerprint_of::<(u32, u32)>(),
            LayoutDescription::fingerprint_of::<(u32, u32, u32)>(),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(*other, of());
            assert!(!others[..i].contains(other), "number {i}");
        }
    }

    /// A type that is met again counts as itself, not as whatever was met at another place.
    #[test]
    fn what_is_met_again_is_told_apart() {
        let first = LayoutDescription::fingerprint_of::<(Option<u8>, Option<i8>, Option<u8>)>();
        let second = LayoutDescription::fingerprint_of::<(Option<u8>, Option<i8>, Option<i8>)>();
        assert_ne!(first, second);
    }
}
