//! Text for people: an error with all its causes, and what comes from outside made harmless.

pub(crate) mod causes;
pub(crate) mod printable;
