//! What can be done with a type, picked where the type is known.
//!
//! The attributes write `Probe::<T>::taker()` and the like without knowing what `T` is. A function
//! of the type itself comes before one of a trait, if its bounds hold: so a type that qualifies
//! gets the functions of the impls below, and any other those of [`Unproved`], which give nothing.
//! Authors need no bounds on their types for that.

use std::marker::PhantomData;

use super::{
    host::ReplyForm,
    layout::{Fingerprint, Layout, LayoutDescription},
    object::EventHandle,
    value::{Encode, Value},
};

/// Makes a `T` of one's own from an event's value, if it is one.
pub type Taker<T> = fn(&EventHandle) -> Option<T>;
/// Sees an event's value as a `T`, if it is one.
pub type Viewer<T> = fn(&EventHandle) -> Option<&T>;
/// Makes a value, or gives back what cannot become one.
pub type Giver<T> = fn(T) -> Result<Value, T>;
/// How a reply is given; none if it goes as bytes.
pub type Give<T> = Option<Giver<T>>;
/// Finds that out for a reply that is to have this form.
pub type Giving<T> = fn(&ReplyForm) -> Give<T>;

/// See the module. To be used at types without parameters of their own, with [`Unproved`] in scope.
pub struct Probe<T>(PhantomData<T>);

impl<T: Layout> Probe<T> {
    /// Describes a part of a type.
    pub fn describe(to: &mut LayoutDescription) {
        to.part::<T>();
    }
}

impl<T: Layout + Encode + Clone + Send + Sync> Probe<T> {
    /// By what values of it are known to those who read them as they are, with the functions below.
    pub fn fingerprint() -> Option<Fingerprint> {
        T::fingerprint()
    }

    /// Makes a value.
    ///
    /// # Errors
    /// What was given, if its type is unproved.
    pub fn into_value(value: T) -> Result<Value, T> {
        Value::new(value)
    }

    /// Makes a value of a copy.
    pub fn to_value(value: &T) -> Option<Value> {
        T::fingerprint()?;
        Value::new(value.clone()).ok()
    }

    /// For payloads that a handler owns.
    pub fn taker() -> Option<Taker<T>> {
        Some(|event| event.value::<T>().cloned())
    }

    /// For payloads that a handler borrows.
    pub fn viewer() -> Option<Viewer<T>> {
        Some(EventHandle::value::<T>)
    }

    /// For replies. A reply that may stand for none goes as bytes, which tell.
    pub fn giver(form: &ReplyForm) -> Give<T> {
        (!T::MAY_BE_NOTHING && form.takes(T::fingerprint())).then_some(Value::new)
    }
}

/// What is left for all other types.
pub trait Unproved {
    /// The type that was asked about.
    type Of;

    /// Such a part leaves the whole unproved.
    fn describe(to: &mut LayoutDescription) {
        to.unproved();
    }

    /// Nobody reads one as it is.
    fn fingerprint() -> Option<Fingerprint> {
        None
    }

    /// None can be made.
    ///
    /// # Errors
    /// What was given.
    fn into_value(value: Self::Of) -> Result<Value, Self::Of> {
        Err(value)
    }

    /// None can be made.
    fn to_value(_: &Self::Of) -> Option<Value> {
        None
    }

    /// It comes as bytes.
    fn taker() -> Option<Taker<Self::Of>> {
        None
    }

    /// It comes as bytes.
    fn viewer() -> Option<Viewer<Self::Of>> {
        None
    }

    /// It goes as bytes.
    fn giver(_: &ReplyForm) -> Give<Self::Of> {
        None
    }
}

impl<T> Unproved for Probe<T> {
    type Of = T;
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use super::*;

    #[test]
    fn a_type_that_qualifies_is_told_from_one_that_does_not() {
        assert!(Probe::<String>::taker().is_some() && Probe::<String>::viewer().is_some());
        assert!(Probe::<u64>::into_value(7).is_ok() && Probe::<u64>::to_value(&7).is_some());
        assert!(Probe::<Arc<u64>>::taker().is_none() && Probe::<Cell<u8>>::viewer().is_none());
        assert_eq!(Probe::<&str>::into_value("text").unwrap_err(), "text");
        assert_eq!(Probe::<String>::fingerprint(), String::fingerprint());
        assert_eq!((Probe::<&str>::fingerprint(), Probe::<Arc<u64>>::fingerprint()), (None, None));
        let gives = |form| Probe::<String>::giver(&form).is_some();
        let of = |print| gives(ReplyForm::of(print));
        assert!(gives(ReplyForm::Any) && of(String::fingerprint()));
        assert!(!gives(ReplyForm::Json) && !of(u64::fingerprint()) && !of(None));
        // A payload type by itself, but one that crosses as bytes.
        assert!(Probe::<Vec<u8>>::into_value(vec![1]).is_err());
    }
}
