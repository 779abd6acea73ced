use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::{
    layout::{Cached, LayoutDescription},
    module::check_layouts,
};

/// The value of a build whose blocks begin with a head that has these last fields.
macro_rules! value_of_build {
    ($build:ident: $($field:ident),*) => {
        #[allow(dead_code, unreachable_pub)]
        mod $build {
            use super::*;

            #[repr(transparent)]
            #[derive(StableAbi)]
            #[sabi(unsafe_opaque_fields, phantom_field(block: Head))]
            pub struct Value(*mut Head);

            #[repr(C, align(16))]
            #[derive(StableAbi)]
            struct Head {
                print: Fingerprint,
                table: *const ValueTable,
                memory: &'static Memory,
                size: usize,
                $($field: bool),*
            }
        }
    };
}
value_of_build!(same: boxed, needs_maker_to_drop);
// As large as the head of this build.
value_of_build!(other: boxed, needs_maker_to_drop, needs_maker_to_encode);

#[test]
fn a_build_with_another_head_is_refused() {
    assert_eq!(check_layouts(Value::LAYOUT, same::Value::LAYOUT), Ok(()));
    assert!(check_layouts(Value::LAYOUT, other::Value::LAYOUT).is_err());
}

/// Makes a type of this test one that is proved, as the attributes do.
macro_rules! proved {
    ($type:ty) => {
        // SAFETY: the types of this test are of one build, and own plain data alone.
        unsafe impl Layout for $type {
            fn describe(to: &mut LayoutDescription) {
                to.text(stringify!($type));
            }

            fn fingerprint() -> Option<Fingerprint> {
                static PRINT: Cached = Cached::new();
                PRINT.of::<Self>()
            }
        }
    };
}

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
struct Plain {
    number: u64,
    small: u8,
}
proved!(Plain);

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Nothing;
proved!(Nothing);

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Large([u64; 32]);
proved!(Large);

#[repr(align(32))]
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Aligned(u8);
proved!(Aligned);

fn value<T: Layout + Encode + Send + Sync>(value: T) -> Value {
    Value::new(value).ok().expect("it is proved")
}

#[track_caller]
fn holds<T>(given: T, boxed: bool)
where
    T: Layout + Encode + Send + Sync + Clone + PartialEq + fmt::Debug,
{
    let held = value(given.clone());
    assert_eq!(held.head().boxed, boxed);
    assert_eq!(held.get::<T>(), Some(&given));
    assert_eq!(held.pointer().align_offset(align_of::<T>()), 0);
    // It is moved about like any other value.
    let held = Box::new(held);
    assert_eq!(held.get::<T>(), Some(&given));
    assert_eq!(*held.encode().unwrap(), *given.encode().unwrap());
    assert_eq!(held.take::<T>().unwrap(), given);
}

#[test]
fn a_value_is_held_wherever_it_fits() {
    holds(Plain { number: 7, small: 1 }, false);
    holds(Nothing, false);
    holds("a text".to_owned(), false);
    holds(Large([5; 32]), false);
    holds(Aligned(3), true);
}

#[test]
fn a_value_is_no_value_of_another_type() {
    let held = value(Plain { number: 7, small: 1 });
    assert_eq!(held.get::<Nothing>(), None);
    assert_eq!(held.get::<String>(), None);
    // A type without a fingerprint is never equal to another one without.
    assert_eq!(held.get::<()>(), None);
    let held = held.take::<String>().unwrap_err();
    assert_eq!(held.take::<Plain>().unwrap(), Plain { number: 7, small: 1 });
    assert!(Value::new(()).is_err());
}

#[test]
fn plain_data_is_let_go_without_its_maker() {
    assert!(!value(Plain { number: 7, small: 1 }).needs_maker_to_drop());
    assert!(!value(Nothing).needs_maker_to_drop());
    assert!(value("a text".to_owned()).needs_maker_to_drop());
    assert!(!value(Large([5; 32])).needs_maker_to_drop());
    assert!(value(Aligned(3)).needs_maker_to_drop(), "the box is its maker's");
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Clone, serde::Serialize)]
struct Counted<const N: usize> {
    #[serde(skip)]
    _room: [u64; N],
}
impl<const N: usize> Counted<N> {
    const NEW: Self = Counted { _room: [0; N] };
}
impl<const N: usize> Drop for Counted<N> {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
    }
}
proved!(Counted<1>);
proved!(Counted<9>);

#[test]
fn a_value_is_dropped_once() {
    let dropped = || DROPPED.swap(0, Relaxed);
    drop(value(Counted::<1>::NEW));
    assert_eq!(dropped(), 1);
    drop(value(Counted::<9>::NEW));
    assert_eq!(dropped(), 1);
    let taken = value(Counted::<9>::NEW).take::<Counted<9>>().unwrap();
    assert_eq!(dropped(), 1, "the maker's");
    drop(taken);
    assert_eq!(dropped(), 1, "the taker's");
}

#[derive(Debug, Clone)]
struct Bomb;
proved!(Bomb);
impl serde::Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("in serialize")
    }
}
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

#[test]
fn a_panic_of_the_maker_does_not_leave_it() {
    let held = value(Bomb);
    let (code, message) = held.encode().unwrap_err().to_texts();
    assert_eq!(code, "panicked");
    assert!(message.contains("in serialize"), "{message:?}");
    drop(held);
}

#[test]
fn content_becomes_bytes_either_way() {
    let of_value = Content::Value(value(Plain { number: 7, small: 1 })).into_bytes().unwrap();
    let of_bytes = Content::Bytes("{}".into()).into_bytes().unwrap();
    assert_eq!(of_value.to_text(), r#"{"number":7,"small":1}"#);
    assert_eq!(of_bytes.to_text(), "{}");
}
