//! What is promised of a verdict, held against another crate's idea of what is valid.

// The helpers of tests are no tests to clippy.
#![allow(clippy::unwrap_used)]

mod cases;
mod changes;
mod closed;
mod cost;
mod fuzz;
mod hostile;
mod oracle;
mod properties;
mod random;
mod soundness;
mod types;
mod values;
mod wild;
