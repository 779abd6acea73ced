//! Bytes that the soak changes in the library's file, to have another version of it, or a bad one,
//! without a build.

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
    /// `restore` fails.
    Restore,
    /// `initialize` panics, but not when it is only tried.
    InitInEarnest,
    /// `restore` fails, but not when it is only tried.
    RestoreInEarnest,
    /// It answers every second request with a failure.
    Worse,
}

impl Defect {
    pub(crate) fn of_this_library() -> Self {
        match black_box(&DEFECT)[12] {
            b'1' => Defect::Init,
            b'2' => Defect::Restore,
            b'3' => Defect::InitInEarnest,
            b'4' => Defect::RestoreInEarnest,
            b'5' => Defect::Worse,
            _ => Defect::None,
        }
    }

    /// Panics where a version with this defect does, before anything is made.
    pub(crate) fn in_initialize(self, ctx: &Context) {
        if self == Defect::Init || (self == Defect::InitInEarnest && !ctx.is_trial()) {
            panic!("initialize panics on purpose");
        }
    }

    /// Fails where a version with this defect does.
    pub(crate) fn in_restore(self, ctx: &Context) -> Result<()> {
        if self == Defect::Restore || (self == Defect::RestoreInEarnest && !ctx.is_trial()) {
            return Err(Error::new("not_restored", "restore fails on purpose"));
        }
        Ok(())
    }
}
