//! Yes, no, or not known.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tri {
    Yes,
    No,
    Unknown,
}

impl From<bool> for Tri {
    fn from(yes: bool) -> Tri {
        if yes { Tri::Yes } else { Tri::No }
    }
}

impl Tri {
    pub(crate) fn and(self, other: Tri) -> Tri {
        match (self, other) {
            (Tri::No, _) | (_, Tri::No) => Tri::No,
            (Tri::Yes, Tri::Yes) => Tri::Yes,
            _ => Tri::Unknown,
        }
    }

    /// Whether all are, looked at as far as the first one that is not.
    pub(crate) fn all(parts: impl IntoIterator<Item = Tri>) -> Tri {
        let mut all = Tri::Yes;
        for part in parts {
            all = all.and(part);
            if all == Tri::No {
                break;
            }
        }
        all
    }

    pub(crate) fn or(self, other: Tri) -> Tri {
        self.negated().and(other.negated()).negated()
    }

    pub(crate) fn negated(self) -> Tri {
        match self {
            Tri::Yes => Tri::No,
            Tri::No => Tri::Yes,
            Tri::Unknown => Tri::Unknown,
        }
    }
}
