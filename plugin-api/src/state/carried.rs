//! What a snapshot may hold, so that what is read back is what was taken.
//!
//! serde_json writes some values that it does not read back: NaN and the infinities become `null`,
//! and so does `Some(None)`; nesting deeper than [`DEEPEST`] is written and refused when it is
//! read; of two equal keys a map keeps one. Each of them is refused here, with its path. The rest
//! comes back as it went: integers of 128 bits, every other float to its last bit, keys that are
//! numbers, bytes, unit.
//!
//! Whether the type that restores it reads what the other one wrote is seen by reading it
//! ([`super::read_back`]), not here.

mod nested;

use std::{
    cell::RefCell,
    collections::HashSet,
    fmt::{self, Display, Write},
    hash::{DefaultHasher, Hasher},
};

use ksi_abi::{Buffer, json};
use nested::Nested;
use serde::ser::{Error as _, Serialize, Serializer};

use crate::error::{Error, Result};

/// So many arrays and objects may lie in one another: serde_json reads no more.
const DEEPEST: u32 = 127;
/// A longer path is cut in its middle, in characters.
const LONGEST_PATH: usize = 240;

/// Encodes a snapshot.
///
/// # Errors
/// `encode`, with the path of the first value that cannot be carried.
pub(crate) fn encode<T: Serialize>(state: &T) -> Result<Buffer> {
    match json::encode(&Checked { value: state, place: Place::ROOT }) {
        Ok(snapshot) => Ok(snapshot),
        // Noting the path costs, so it is done for those that fail alone.
        Err(_) => encode_with_path(state),
    }
}

#[cold]
fn encode_with_path<T: Serialize>(state: &T) -> Result<Buffer> {
    let traced = Traced { state, path: RefCell::default() };
    json::encode(&traced).map_err(|error| {
        let path = traced.path.into_inner();
        let place = match path.as_str() {
            "" | "." => String::new(),
            path => format!("at {:?}: ", shortened(path)),
        };
        Error::new("encode", format_args!("{place}the state cannot be carried: {error}"))
    })
}

fn shortened(path: &str) -> String {
    let count = path.chars().count();
    if count <= LONGEST_PATH {
        return path.to_owned();
    }
    let part = |skipped, taken| path.chars().skip(skipped).take(taken).collect::<String>();
    let half = LONGEST_PATH / 2;
    format!("{}[...]{}", part(0, half), part(count - half, half))
}

/// Notes the path of what fails.
struct Traced<'a, T> {
    state: &'a T,
    path: RefCell<String>,
}

impl<T: Serialize> Serialize for Traced<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut track = serde_path_to_error::Track::new();
        let place = Place { exact: true, ..Place::ROOT };
        let strict = Strict { inner: serializer, place };
        let written =
            self.state.serialize(serde_path_to_error::Serializer::new(strict, &mut track));
        *self.path.borrow_mut() = track.path().to_string();
        written
    }
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// How many arrays and objects it lies in.
    depth: u32,
    /// It is all that an `Option` has.
    inside_some: bool,
    /// It is a key of a map.
    key_of: Option<&'a RefCell<Keys>>,
    /// Keys are compared, and not their hashes.
    exact: bool,
}

impl Place<'_> {
    const ROOT: Place<'static> = Place { depth: 0, inside_some: false, key_of: None, exact: false };
}

/// The keys of a map so far.
enum Keys {
    /// By their hashes. Two keys may share one, which the exact way tells from a key that is there
    /// twice.
    Hashed(HashSet<u64>),
    Exact(HashSet<String>),
}

impl Keys {
    fn new(exact: bool) -> RefCell<Self> {
        RefCell::new(match exact {
            false => Keys::Hashed(HashSet::new()),
            true => Keys::Exact(HashSet::new()),
        })
    }

    /// Whether it is a new one.
    fn add(&mut self, key: impl Display) -> bool {
        match self {
            Keys::Hashed(hashes) => {
                let mut hashed = Hashed(DefaultHasher::new());
                // Hashing cannot fail; a key that cannot be shown fails when it is written.
                let _ = write!(hashed, "{key}");
                hashes.insert(hashed.0.finish())
            }
            Keys::Exact(keys) => keys.insert(key.to_string()),
        }
    }
}

struct Hashed(DefaultHasher);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// A value that is written through [`Strict`].
struct Checked<'a, T: ?Sized> {
    value: &'a T,
    place: Place<'a>,
}

impl<T: Serialize + ?Sized> Serialize for Checked<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict { inner: serializer, place: self.place })
    }
}

/// Writes as `inner` does, and refuses what would not be read back.
struct Strict<'a, S> {
    inner: S,
    place: Place<'a>,
}

impl<'a, S: Serializer> Strict<'a, S> {
    /// The depth inside `levels` more arrays or objects.
    fn enter(&self, levels: u32) -> Result<u32, S::Error> {
        let depth = self.place.depth.saturating_add(levels);
        if depth > DEEPEST {
            return Err(S::Error::custom(format_args!(
                "it lies in more than {DEEPEST} arrays and objects, and no more are read back; keep it flat, as a list \
                 whose entries name one another by index"
            )));
        }
        Ok(depth)
    }

    /// Notes it, if it is the key of a map.
    fn key(&self, key: impl Display) -> Result<(), S::Error> {
        let Some(keys) = self.place.key_of else { return Ok(()) };
        match keys.borrow_mut().add(&key) {
            true => Ok(()),
            false => {
                let text = format_args!("the key {:?} is there twice", key.to_string());
                Err(S::Error::custom(format_args!("{text}, and one of its values would be lost")))
            }
        }
    }

    fn not_nothing(&self) -> Result<(), S::Error> {
        match self.place.inside_some {
            true => Err(S::Error::custom(
                "it is `Some` of what is written as null, and would come back as `None`",
            )),
            false => Ok(()),
        }
    }

    fn finite(is_finite: bool, value: impl Display) -> Result<(), S::Error> {
        match is_finite {
            true => Ok(()),
            false => Err(S::Error::custom(format_args!(
                "JSON has no number {value}, and it would come back as null; keep an Option, or a text"
            ))),
        }
    }

    /// Where the values of an array or object are that lies so deep.
    fn inside(&self, levels: u32) -> Result<Place<'static>, S::Error> {
        Ok(Place { depth: self.enter(levels)?, exact: self.place.exact, ..Place::ROOT })
    }
}

macro_rules! scalars {
    ($($method:ident: $ty:ty,)*) => {$(
        fn $method(self, value: $ty) -> Result<S::Ok, S::Error> {
            self.key(value)?;
            self.inner.$method(value)
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Strict<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Nested<S::SerializeSeq>;
    type SerializeTuple = Nested<S::SerializeTuple>;
    type SerializeTupleStruct = Nested<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Nested<S::SerializeTupleVariant>;
    type SerializeMap = Nested<S::SerializeMap>;
    type SerializeStruct = Nested<S::SerializeStruct>;
    type SerializeStructVariant = Nested<S::SerializeStructVariant>;

    scalars! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        Self::finite(value.is_finite(), value)?;
        self.key(value)?;
        self.inner.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        Self::finite(value.is_finite(), value)?;
        self.key(value)?;
        self.inner.serialize_f64(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.enter(1)?;
        self.inner.serialize_bytes(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.not_nothing()?;
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let place = Place { inside_some: true, ..self.place };
        self.inner.serialize_some(&Checked { value, place })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.not_nothing()?;
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.not_nothing()?;
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.key(variant)?;
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Checked { value, place: self.place })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let place = self.inside(1)?;
        self.inner.serialize_newtype_variant(name, index, variant, &Checked { value, place })
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let place = self.inside(1)?;
        Ok(Nested::new(self.inner.serialize_seq(len)?, place))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let place = self.inside(1)?;
        Ok(Nested::new(self.inner.serialize_tuple(len)?, place))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let place = self.inside(1)?;
        Ok(Nested::new(self.inner.serialize_tuple_struct(name, len)?, place))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let place = self.inside(2)?;
        Ok(Nested::new(self.inner.serialize_tuple_variant(name, index, variant, len)?, place))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let place = self.inside(1)?;
        Ok(Nested::new(self.inner.serialize_map(len)?, place))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let place = self.inside(1)?;
        Ok(Nested::new(self.inner.serialize_struct(name, len)?, place))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let place = self.inside(2)?;
        Ok(Nested::new(self.inner.serialize_struct_variant(name, index, variant, len)?, place))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

#[cfg(test)]
mod tests;
