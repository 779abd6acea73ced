//! The types of std whose layout is the same wherever the same compiler built them, and whose
//! values a reader can neither change nor share by count. The list is closed: no `Arc`, `Rc`,
//! reference, cell, lock, atomic, function or trait object belongs here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::{Cached, Fingerprint, Layout, LayoutDescription};

macro_rules! plain {
    ($($type:ty)*) => { $(
        // SAFETY: the module says why, and `plain!` names no other types.
        unsafe impl Layout for $type {
            fn describe(to: &mut LayoutDescription) {
                to.text(stringify!($type));
            }

            fn fingerprint() -> Option<Fingerprint> {
                static PRINT: Cached = Cached::new();
                PRINT.of::<Self>()
            }
        }
    )* };
}
plain!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char String);

/// Those that are known as parts, and cross as bytes by themselves: a float that is no number has
/// no encoding.
macro_rules! part {
    ($($type:ty),*) => { $(
        // SAFETY: as above.
        unsafe impl Layout for $type {
            fn describe(to: &mut LayoutDescription) {
                to.text(stringify!($type));
            }
        }
    )* };
}
part!(f32, f64, (), Duration);

/// A reply may be a text of the library's own. It is a reference, so it goes as bytes.
// SAFETY: it is unproved.
unsafe impl Layout for &'static str {
    fn describe(to: &mut LayoutDescription) {
        to.unproved();
    }
}

macro_rules! generic {
    ($($type:ident<$($parameter:ident),*>)*) => { $(
        // SAFETY: it owns its items and nothing else, and lays them out by their type alone.
        unsafe impl<$($parameter: Layout),*> Layout for $type<$($parameter),*> {
            fn describe(to: &mut LayoutDescription) {
                to.text(stringify!($type));
                $( to.part::<$parameter>(); )*
            }
        }
    )* };
}
generic!(Vec<T> VecDeque<T> Option<T> Box<T> HashMap<K, V> HashSet<T> BTreeMap<K, V> BTreeSet<T>);

// SAFETY: an array is so many items, one behind the other.
unsafe impl<T: Layout, const N: usize> Layout for [T; N] {
    fn describe(to: &mut LayoutDescription) {
        to.text("array");
        to.number(N as u128);
        to.part::<T>();
    }
}

macro_rules! tuple {
    ($($parameter:ident . $index:tt),*) => {
        // SAFETY: the place and the type of each field is described.
        unsafe impl<$($parameter: Layout),*> Layout for ($($parameter,)*) {
            fn describe(to: &mut LayoutDescription) {
                to.text(concat!("tuple" $(, " ", $index)*));
                $(
                    to.number(std::mem::offset_of!(Self, $index) as u128);
                    to.part::<$parameter>();
                )*
            }
        }
    };
}
tuple!(A.0);
tuple!(A.0, B.1);
tuple!(A.0, B.1, C.2);
tuple!(A.0, B.1, C.2, D.3);
