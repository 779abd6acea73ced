//! Lists of texts in a body, read where they stand.

use crate::{
    ProtocolError,
    fields::{Fields, Write},
};

/// Texts, one after another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Texts<'a> {
    count: u32,
    /// Read once before.
    bytes: &'a [u8],
}

impl<'a> Texts<'a> {
    /// A number and so many texts, or so many times `each`.
    #[inline]
    pub(crate) fn read(
        fields: &mut Fields<'a>,
        each: u32,
        field: &'static str,
    ) -> Result<Self, ProtocolError> {
        let count = fields.u32(field)?;
        let bytes = fields.taken(|fields| {
            for _ in 0..count {
                for _ in 0..each {
                    fields.text(field)?;
                }
            }
            Ok(())
        })?;
        Ok(Texts { count, bytes })
    }

    #[inline]
    pub(crate) fn write(self, to: &mut Vec<u8>) {
        to.u32(self.count);
        to.extend_from_slice(self.bytes);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut fields = Fields::new("", self.bytes);
        std::iter::from_fn(move || fields.text("").ok())
    }
}

/// The same, to be put together.
#[derive(Debug, Clone, Default)]
pub struct TextsBuf {
    count: u32,
    bytes: Vec<u8>,
}

impl TextsBuf {
    /// One more.
    pub fn push(&mut self, text: &str) {
        self.count += 1;
        self.bytes.text(text);
    }

    /// As they are written.
    pub fn texts(&self) -> Texts<'_> {
        Texts { count: self.count, bytes: &self.bytes }
    }
}

impl<'a> FromIterator<&'a str> for TextsBuf {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut all = TextsBuf::default();
        texts.into_iter().for_each(|text| all.push(text));
        all
    }
}

/// What is attached to an event: keys and values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes<'a>(Texts<'a>);

impl<'a> Attributes<'a> {
    #[inline]
    pub(crate) fn read(fields: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Texts::read(fields, 2, "attributes").map(Attributes)
    }

    #[inline]
    pub(crate) fn write(self, to: &mut Vec<u8>) {
        self.0.write(to);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each key with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut texts = self.0.iter();
        std::iter::from_fn(move || texts.next().zip(texts.next()))
    }
}

/// The same, to be put together. Without any it takes no memory.
#[derive(Debug, Clone, Default)]
pub struct AttributesBuf {
    count: u32,
    bytes: Vec<u8>,
}

impl AttributesBuf {
    /// One more.
    pub fn push(&mut self, key: &str, value: &str) {
        self.count += 1;
        self.bytes.text(key);
        self.bytes.text(value);
    }

    /// As they are written.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes(Texts { count: self.count, bytes: &self.bytes })
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for AttributesBuf {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(attributes: I) -> Self {
        let mut all = AttributesBuf::default();
        attributes.into_iter().for_each(|(key, value)| all.push(key, value));
        all
    }
}
