//! What comes of a comparison, and how it reads.

use std::fmt;

use serde_json::Value;

/// Whether every value that is sent is one that is taken.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Verdict {
    /// Every one is.
    Compatible,
    /// Some are not, and each break shows one. What could not be decided beside them is left out.
    Broken(Vec<Break>),
    /// No value was found that is sent and not taken, nor a proof that there is none.
    Undecided(Vec<Undecided>),
}

/// A place at which what is sent is not what is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Break {
    /// The field, as a JSON pointer in which `*` is any item of a list and any key of a map:
    /// `/items/*/price`. Empty for the value as a whole.
    pub path: String,
    /// In what way.
    pub kind: BreakKind,
    /// What is sent and what is taken, in words: `a string is sent, an integer is taken`.
    pub detail: String,
    /// A small value that is sent, as a whole, and not taken.
    pub example: Value,
}

/// In what way something is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakKind {
    /// The receiver requires a field, and the sender has none of that name.
    Removed,
    /// The receiver requires a field that the sender may leave out.
    RequiredNow,
    /// A value of another type is sent, null included.
    TypeChanged,
    /// The type is the same, but not all of its values are taken: another variant, a larger number,
    /// text of another format.
    ValuesNarrowed,
    /// The receiver refuses fields that it does not know, and one of them is sent.
    FieldRefused,
}

impl BreakKind {
    /// The kind as a word for programs: `removed`, `required_now`, `type_changed`,
    /// `values_narrowed` or `field_refused`.
    pub fn code(self) -> &'static str {
        match self {
            BreakKind::Removed => "removed",
            BreakKind::RequiredNow => "required_now",
            BreakKind::TypeChanged => "type_changed",
            BreakKind::ValuesNarrowed => "values_narrowed",
            BreakKind::FieldRefused => "field_refused",
        }
    }
}

/// A place at which it is not known whether what is sent is what is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// The field, as in [`Break::path`].
    pub path: String,
    /// What stood in the way.
    pub reason: String,
}

impl fmt::Display for BreakKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BreakKind::Removed => "removed",
            BreakKind::RequiredNow => "required now",
            BreakKind::TypeChanged => "type changed",
            BreakKind::ValuesNarrowed => "values narrowed",
            BreakKind::FieldRefused => "field refused",
        })
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, Break { kind, detail, example, .. }) = (Place(&self.path), self);
        write!(f, "{at}: {kind}: {detail}; {example} would fail")
    }
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Place(&self.path), self.reason)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Compatible => f.write_str("compatible"),
            Verdict::Broken(breaks) => list(f, breaks),
            Verdict::Undecided(places) => {
                f.write_str("cannot be decided: ")?;
                list(f, places)
            }
        }
    }
}

struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the value" } else { self.0 })
    }
}

fn list(f: &mut fmt::Formatter<'_>, all: &[impl fmt::Display]) -> fmt::Result {
    for (at, each) in all.iter().enumerate() {
        write!(f, "{}{each}", if at == 0 { "" } else { "\n" })?;
    }
    Ok(())
}
