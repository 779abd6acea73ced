//! Bytes that the soak changes in the library's file, to have another version of it, or a bad one, without a build.

use std::hint::black_box;

use ksi_plugin_api::prelude::*;

static VERSION: [u8; 21] = *b"soak-version-00000000";
static DEFECT: [u8; 13] = *b"soak-defect-0";

/// Which version the soak made of this library.
pub(crate) fn version() -> u32 {
    let digits = black_box(&VERSION)[13..].iter();
    digits.fold(0, |number, digit| number * 10 + u32::from(digit.wrapping_sub(b'0')))
}

/// What is wrong with this version, on purpose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    /// `initialize` panics.
    Init,
    /// It answers every second request with a failure.
    Worse,
}

impl Defect {
    pub(crate) fn of_this_library() -> Self {
        match black_box(&DEFECT)[12] {
            b'1' => Defect::Init,
            b'5' => Defect::Worse,
            _ => Defect::None,
        }
    }

    /// Panics where a version with this defect does, before anything is made.
    pub(crate) fn in_initialize(self, _ctx: &Context) {
        if self == Defect::Init {
            panic!("initialize panics on purpose");
        }
    }
}
