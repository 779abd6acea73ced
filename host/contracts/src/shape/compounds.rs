//! Lists and objects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{FALSE, all_valid, least};
use crate::{
    document::{Conj, Document, Role},
    tri::Tri,
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Lists<'a> {
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    pub(crate) unique: bool,
    pub(crate) prefix: Vec<Conj<'a>>,
    pub(crate) items: Conj<'a>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Records<'a> {
    /// Those that are declared by name; each with all that applies to it.
    pub(crate) fields: BTreeMap<&'a str, Conj<'a>>,
    pub(crate) required: BTreeSet<&'a str>,
    pub(crate) patterns: Vec<(&'a str, Conj<'a>)>,
    /// All other fields; `None` if nothing is said of them.
    pub(crate) rest: Option<Conj<'a>>,
    /// The schema does not speak of fields: others may, and then there are those alone.
    pub(crate) bare: bool,
    /// Of `propertyNames`.
    pub(crate) names: Conj<'a>,
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
}

impl<'a> Lists<'a> {
    /// What applies to the item at a place.
    pub(crate) fn at(&self, index: usize) -> &Conj<'a> {
        self.prefix.get(index).unwrap_or(&self.items)
    }

    pub(super) fn and(&self, other: &Lists<'a>) -> Option<Lists<'a>> {
        let prefix = self.prefix.len().max(other.prefix.len());
        let both = Lists {
            min: self.min.max(other.min),
            max: least(self.max, other.max),
            unique: self.unique || other.unique,
            prefix: (0..prefix).map(|it| self.at(it).clone().and(other.at(it))).collect(),
            items: self.items.clone().and(&other.items),
        };
        both.max.is_none_or(|max| both.min <= max).then_some(both)
    }

    pub(super) fn accepts(&self, items: &[Value], document: &Document<'a>) -> Tri {
        let count = items.len() as u64;
        let enough = count >= self.min && self.max.is_none_or(|max| count <= max);
        let unique = if self.unique && count > 1 { Tri::Unknown } else { Tri::Yes };
        items.iter().enumerate().fold(Tri::from(enough).and(unique), |all, (index, item)| {
            if all == Tri::No { all } else { all.and(all_valid(document, self.at(index), item)) }
        })
    }
}

impl<'a> Records<'a> {
    /// What applies to the field of a name; `None` if nothing is said.
    pub(crate) fn at(&self, name: &str, document: &Document<'a>) -> Option<Conj<'a>> {
        if let Some(field) = self.fields.get(name) {
            return Some(field.clone());
        }
        let mut found: Option<Conj<'a>> = None;
        for (pattern, conj) in &self.patterns {
            let terms = found.as_ref().map_or(0, |it| it.terms.len());
            if !document.fuel.burn(terms / 8) {
                let sent = document.role != Role::Taken;
                return Some(if sent { Conj::default() } else { Conj::of(&FALSE) });
            }
            match document.matches(pattern, name) {
                Tri::Yes => found = Some(found.unwrap_or_default().and(conj)),
                Tri::No => {}
                // It may apply. What is taken is not made larger by that, nor what is sent smaller.
                Tri::Unknown if document.role == Role::Taken => {
                    let rest = self.rest.clone().unwrap_or_default();
                    found = Some(found.unwrap_or(rest).and(conj));
                }
                Tri::Unknown => return Some(Conj::default()),
            }
        }
        found.or_else(|| self.rest.clone())
    }

    pub(super) fn and(&self, other: &Records<'a>, document: &Document<'a>) -> Records<'a> {
        let parts = |it: &Records<'a>| {
            let terms = it.fields.values().map(|it| 1 + it.terms.len() / 16).sum::<usize>();
            terms + it.patterns.len() + it.required.len() / 4
        };
        // Nothing is compatible any more then.
        if !document.fuel.burn(parts(self) + parts(other)) {
            return self.clone();
        }
        let mut both = Records {
            required: self.required.union(&other.required).copied().collect(),
            min: self.min.max(other.min),
            max: least(self.max, other.max),
            names: self.names.clone().and(&other.names),
            ..Records::default()
        };
        for name in self.fields.keys().chain(other.fields.keys()) {
            if !both.fields.contains_key(name) {
                let (a, b) = (self.at(name, document), other.at(name, document));
                both.fields.insert(name, a.unwrap_or_default().and(&b.unwrap_or_default()));
            }
        }
        for (one, another) in [(self, other), (other, self)] {
            for (pattern, conj) in &one.patterns {
                let rest = another.rest.as_ref().filter(|_| document.role == Role::Taken);
                let conj = rest.map_or(conj.clone(), |rest| conj.clone().and(rest));
                both.patterns.push((pattern, conj));
            }
        }
        both.bare = self.bare && other.bare;
        both.rest = match (&self.rest, &other.rest) {
            _ if self.bare && !other.bare => other.rest.clone(),
            _ if other.bare && !self.bare => self.rest.clone(),
            (Some(a), Some(b)) => Some(a.clone().and(b)),
            (one, another) => one.as_ref().or(another.as_ref()).cloned(),
        };
        both
    }

    pub(super) fn accepts(&self, fields: &Map<String, Value>, document: &Document<'a>) -> Tri {
        let declared = fields.iter().fold(Tri::Yes, |all, (name, value)| {
            let Some(conj) = self.at(name, document) else { return all };
            all.and(all_valid(document, &conj, value))
        });
        let count = fields.len() as u64;
        let required = self.required.iter().all(|name| fields.contains_key(*name));
        let enough = count >= self.min && self.max.is_none_or(|max| count <= max);
        let names = if self.names.is_any() { Tri::Yes } else { Tri::Unknown };
        declared.and(Tri::from(required && enough)).and(names)
    }
}
