//! Values of Rust types that cross as they are.
//!
//! A value carries the fingerprint of its type, so whoever reads it as a type proves first that
//! both mean the same. What only its maker can do with it (encode it, drop it) goes through a table
//! of the maker's functions: the owner of a value keeps the maker's library open until the value is
//! gone, and does both where plugin code may run. This module does not know which library that is.
//!
//! A value is one pointer, so that it crosses in a register: what is known of it stands before it,
//! in the same block of the host's memory.

use std::{fmt, marker::PhantomData, mem::needs_drop, ptr};

use abi_stable::StableAbi;

use super::{
    Buffer, Failure,
    future::DropInPlace,
    layout::{Fingerprint, Layout},
    memory::{ALIGN, Memory, SMALL, memory},
    panic::{discard, guarded},
};

/// A type whose values its own binary can turn into bytes.
pub trait Encode {
    /// The bytes.
    ///
    /// # Errors
    /// A value that has no encoding.
    fn encode(&self) -> Result<Buffer, Failure>;
}

/// A value of some type.
#[repr(transparent)]
#[derive(StableAbi)]
#[sabi(unsafe_opaque_fields, phantom_field(block: Head))]
pub struct Value(*mut Head);

/// What a block begins with; the value follows, or a pointer to it if it is boxed.
#[repr(C, align(16))]
#[derive(StableAbi)]
struct Head {
    print: Fingerprint,
    /// Lies in the maker's library, so it is looked at only where the maker is needed.
    table: *const ValueTable,
    /// The host's, and so is the block.
    memory: &'static Memory,
    /// Of the block.
    size: usize,
    boxed: bool,
    needs_maker_to_drop: bool,
}

const HEAD: usize = size_of::<Head>();
const _: () = assert!(align_of::<Head>() == ALIGN && HEAD.is_multiple_of(ALIGN));

/// Functions of a value's maker; each gets the pointer to the value.
#[repr(C)]
#[derive(StableAbi)]
struct ValueTable {
    encode: unsafe extern "C" fn(*const ()) -> Encoded,
    /// Called once, unless nothing has to be done.
    drop: unsafe extern "C" fn(*mut ()),
}

#[repr(C, u64)]
#[derive(StableAbi)]
enum Encoded {
    Done(Buffer),
    Failed(Failure),
}

// SAFETY: `Value::new` takes `Send + Sync` types alone.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

struct ValueShims<T>(PhantomData<T>);

impl<T: Encode> ValueShims<T> {
    const BOXED: bool = align_of::<T>() > ALIGN;
    const TABLE: &'static ValueTable = &ValueTable { encode: Self::encode, drop: Self::drop };
    /// Of a block. Most values fit into one that is there already.
    const SIZE: usize = {
        let inside = if Self::BOXED { size_of::<*mut T>() } else { size_of::<T>() };
        if HEAD + inside < SMALL { SMALL } else { HEAD + inside }
    };

    unsafe extern "C" fn encode(value: *const ()) -> Encoded {
        // SAFETY: the pointer is that of a live `T`, which `Value::new` stored with this table.
        match guarded(|| unsafe { &*value.cast::<T>() }.encode()) {
            Ok(Ok(bytes)) => Encoded::Done(bytes),
            Ok(Err(failure)) => Encoded::Failed(failure),
            Err(message) => Encoded::Failed(Failure::new("panicked", &message.to_text())),
        }
    }

    unsafe extern "C" fn drop(value: *mut ()) {
        let value = value.cast::<T>();
        // SAFETY: as in `encode`; a boxed value came out of a box in `Value::new`, and this is
        // called once.
        unsafe {
            match Self::BOXED {
                true => discard(Box::from_raw(value)),
                false => discard(DropInPlace(value)),
            }
        }
    }
}

impl Value {
    /// The value, or what was given if its type cannot be proved.
    ///
    /// # Errors
    /// The value itself.
    #[inline]
    pub fn new<T: Layout + Encode + Send + Sync>(value: T) -> Result<Value, T> {
        let Some(print) = T::fingerprint() else { return Err(value) };
        let (boxed, size, memory) = (ValueShims::<T>::BOXED, ValueShims::<T>::SIZE, memory());
        let needs_maker_to_drop = boxed || needs_drop::<T>();
        let table = ptr::from_ref(ValueShims::<T>::TABLE);
        let head = memory.block(size).cast::<Head>();
        // SAFETY: the block has room for a head and, behind it, for the value or a pointer to it;
        // it is aligned for all of them.
        unsafe {
            head.write(Head { print, table, memory, size, boxed, needs_maker_to_drop });
            let inside = head.cast::<u8>().add(HEAD);
            match boxed {
                true => inside.cast::<*mut T>().write(Box::into_raw(Box::new(value))),
                false => inside.cast::<T>().write(value),
            }
        }
        Ok(Value(head))
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: the block begins with a head, and is there as long as `self`.
        unsafe { &*self.0 }
    }

    /// The fingerprint of its type.
    #[inline]
    pub fn fingerprint(&self) -> Fingerprint {
        self.head().print
    }

    /// Whether dropping it runs code of its maker. Plain data can be let go, read and copied
    /// without.
    #[inline]
    pub fn needs_maker_to_drop(&self) -> bool {
        self.head().needs_maker_to_drop
    }

    /// The value as a `T`, if it is one.
    #[inline]
    pub fn get<T: Layout>(&self) -> Option<&T> {
        // SAFETY: equal fingerprints say that maker and reader mean the same by `T`; the value
        // lives as long as `self`.
        self.is::<T>().then(|| unsafe { &*self.pointer().cast::<T>() })
    }

    /// The value as a `T` of this binary's own: copied if it is plain data, otherwise cloned, and
    /// dropped by its maker.
    ///
    /// # Errors
    /// The value itself, when it is no `T`.
    #[inline]
    pub fn take<T: Layout + Clone>(self) -> Result<T, Value> {
        match self.get::<T>() {
            Some(value) if !self.needs_maker_to_drop() => {
                // SAFETY: it is a `T`, as `get` has shown, and may be copied: nothing has to be
                // done to drop it.
                Ok(unsafe { ptr::from_ref(value).read() })
            }
            Some(value) => Ok(value.clone()),
            None => Err(self),
        }
    }

    /// The value as bytes, by its maker's code.
    ///
    /// # Errors
    /// It has no encoding, or making it panicked.
    pub fn encode(&self) -> Result<Buffer, Failure> {
        // SAFETY: whoever owns a value keeps its maker's library open, and with it the table.
        match unsafe { ((*self.head().table).encode)(self.pointer()) } {
            Encoded::Done(bytes) => Ok(bytes),
            Encoded::Failed(failure) => Err(failure),
        }
    }

    #[inline]
    fn is<T: Layout>(&self) -> bool {
        self.fingerprint().is_read_as(T::fingerprint())
    }

    #[inline]
    fn pointer(&self) -> *const () {
        // SAFETY: behind the head lies the value, or the pointer of its box, as `new` wrote it.
        unsafe {
            let inside = self.0.cast::<u8>().add(HEAD).cast_const();
            match self.head().boxed {
                true => inside.cast::<*const ()>().read(),
                false => inside.cast(),
            }
        }
    }
}

impl Drop for Value {
    #[inline]
    fn drop(&mut self) {
        if self.needs_maker_to_drop() {
            // SAFETY: as in `encode`; the value is not used again.
            unsafe { ((*self.head().table).drop)(self.pointer().cast_mut()) }
        }
        let (memory, size) = (self.head().memory, self.head().size);
        // SAFETY: the block came from this memory with this size, and is not used again.
        unsafe { memory.free(self.0.cast(), size) }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// What an emitter hands over.
#[repr(C, u64)]
#[derive(StableAbi, Debug)]
pub enum Content {
    /// A value, which whoever means the same by its type gets as it is.
    Value(Value),
    /// Its encoding.
    Bytes(Buffer),
}

impl Content {
    /// The content; what is left is empty.
    #[inline]
    pub(super) fn take(&mut self) -> Content {
        std::mem::replace(self, Content::Bytes(Buffer::new()))
    }

    /// The encoding, made now if there is none.
    ///
    /// # Errors
    /// As [`Value::encode`].
    pub fn into_bytes(self) -> Result<Buffer, Failure> {
        match self {
            Content::Value(value) => value.encode(),
            Content::Bytes(bytes) => Ok(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
