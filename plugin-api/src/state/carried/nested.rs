//! The arrays and objects of a snapshot: what lies in them is checked as they are.

use std::cell::RefCell;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::{Checked, Keys, Place};

/// An array or object that is being written.
pub(super) struct Nested<C> {
    inner: C,
    /// Of what lies in it.
    place: Place<'static>,
    /// Of a map.
    keys: RefCell<Keys>,
}

impl<C> Nested<C> {
    pub(super) fn new(inner: C, place: Place<'static>) -> Self {
        // Without keys, a set has no memory of its own.
        Nested { inner, place, keys: Keys::new(place.exact) }
    }
}

fn key<'a, T: ?Sized>(
    value: &'a T,
    place: Place<'static>,
    keys: &'a RefCell<Keys>,
) -> Checked<'a, T> {
    Checked { value, place: Place { key_of: Some(keys), ..place } }
}

macro_rules! elements {
    ($($of:ident: $method:ident,)*) => {$(
        impl<C: $of> $of for Nested<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.inner.$method(&Checked { value, place: self.place })
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! fields {
    ($($of:ident,)*) => {$(
        impl<C: $of> $of for Nested<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                self.inner.serialize_field(name, &Checked { value, place: self.place })
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields! {
    SerializeStruct,
    SerializeStructVariant,
}

impl<C: SerializeMap> SerializeMap for Nested<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(&key(value, self.place, &self.keys))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&Checked { value, place: self.place })
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        name: &K,
        value: &V,
    ) -> Result<(), C::Error> {
        let value = Checked { value, place: self.place };
        self.inner.serialize_entry(&key(name, self.place, &self.keys), &value)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
