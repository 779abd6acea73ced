//! Numbers and strings.

use serde_json::Value;
use smallvec::SmallVec;

use super::least;
use crate::{document::Document, format, number::Num, tri::Tri};

/// Both bounds belong to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    pub(crate) whole: bool,
    pub(crate) min: Option<Num>,
    pub(crate) max: Option<Num>,
    /// The same for bounds that do not belong to it, of numbers that need not be whole.
    pub(crate) above: Option<Num>,
    pub(crate) below: Option<Num>,
    pub(crate) multiples: SmallVec<[Num; 1]>,
}

/// Lengths are in characters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts<'a> {
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    pub(crate) patterns: SmallVec<[&'a str; 1]>,
    pub(crate) formats: SmallVec<[&'a str; 1]>,
}

impl Numbers {
    pub(super) fn and(&self, other: &Numbers) -> Option<Numbers> {
        let larger = |a: Option<Num>, b: Option<Num>| a.max(b);
        let smaller = |a: Option<Num>, b: Option<Num>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let mut multiples = self.multiples.clone();
        multiples.extend(other.multiples.iter().copied());
        Numbers {
            whole: self.whole || other.whole,
            min: larger(self.min, other.min),
            max: smaller(self.max, other.max),
            above: larger(self.above, other.above),
            below: smaller(self.below, other.below),
            multiples,
        }
        .tidied()
    }

    /// With bounds that are whole if the numbers are, and belong to it; `None` if nothing is left.
    pub(crate) fn tidied(mut self) -> Option<Numbers> {
        if self.whole {
            // Beyond what is counted one by one there is none next to another.
            let is_counted = |it: &mut Num| matches!(it.floor(), Num::Int(_));
            let above = self.above.take_if(is_counted).map(|it| it.floor().plus(1));
            let below = self.below.take_if(is_counted).map(|it| it.ceil().plus(-1));
            self.min = self.min.map(Num::ceil).max(above);
            self.max = match (self.max.map(Num::floor), below) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (one, other) => one.or(other),
            };
        }
        let (low, high) = (self.min.max(self.above), self.upper());
        let crossed = matches!((low, high), (Some(low), Some(high)) if low > high);
        (!crossed).then_some(self)
    }

    /// The smaller of the two bounds above.
    pub(crate) fn upper(&self) -> Option<Num> {
        match (self.max, self.below) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// The larger of the two bounds below.
    pub(crate) fn lower(&self) -> Option<Num> {
        self.min.max(self.above)
    }

    pub(super) fn accepts(&self, value: &Value) -> Tri {
        let Some(num) = Num::of(value) else { return Tri::Unknown };
        let within = (!self.whole || num.is_whole())
            && self.min.is_none_or(|min| num >= min)
            && self.max.is_none_or(|max| num <= max)
            && self.above.is_none_or(|above| num > above)
            && self.below.is_none_or(|below| num < below);
        self.multiples.iter().fold(Tri::from(within), |all, by| {
            all.and(match (num, by) {
                (Num::Int(int), Num::Int(by)) if *by > 0 => Tri::from(int % by == 0),
                _ => Tri::Unknown,
            })
        })
    }
}

impl<'a> Texts<'a> {
    pub(super) fn and(&self, other: &Texts<'a>) -> Option<Texts<'a>> {
        let mut both = self.clone();
        both.min = self.min.max(other.min);
        both.max = least(self.max, other.max);
        for pattern in &other.patterns {
            if !both.patterns.contains(pattern) {
                both.patterns.push(pattern);
            }
        }
        for format in &other.formats {
            if !both.formats.contains(format) {
                both.formats.push(format);
            }
        }
        both.max.is_none_or(|max| both.min <= max).then_some(both)
    }

    pub(super) fn accepts(&self, text: &str, document: &Document<'a>) -> Tri {
        let length = text.chars().count() as u64;
        let long = length >= self.min && self.max.is_none_or(|max| length <= max);
        let patterns = self.patterns.iter().fold(Tri::from(long), |all, pattern| {
            all.and(if long { document.matches(pattern, text) } else { Tri::No })
        });
        self.formats.iter().fold(patterns, |all, format| all.and(format::is_of(format, text)))
    }
}
