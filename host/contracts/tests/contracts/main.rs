//! What is promised of a verdict, held against another crate's idea of what is valid.

mod cases;
mod oracle;
