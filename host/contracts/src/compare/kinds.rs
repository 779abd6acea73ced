//! One alternative against another one of the same type.

use serde_json::Value;

use super::{Comparison, Finding, TOO_LARGE, merge};
use crate::{
    BreakKind, describe,
    document::Conj,
    format,
    number::Num,
    sample::{name_like, sample, sample_list, sample_record},
    shape::{A_STRING, Kind, Lists, Numbers, Records, Shape, Texts, all_valid},
    tri::Tri,
};

/// The most characters of a name that are shown in a path.
const SHOWN: usize = 256;

/// A path with one step before it.
pub(super) fn step(name: &str, path: &str) -> String {
    let shown = match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    };
    format!("/{}{path}", shown.replace('~', "~0").replace('/', "~1"))
}

impl<'a> Comparison<'a> {
    pub(super) fn kinds(
        &mut self,
        sent: &Shape<'a>,
        taken: &Shape<'a>,
        depth: u32,
    ) -> Vec<Finding> {
        let narrowed = || {
            let detail = describe::difference(sent, &[taken]);
            vec![Finding::new(BreakKind::ValuesNarrowed, detail, None)]
        };
        match (&sent.kind, &taken.kind) {
            (Kind::Number(a), Kind::Number(b)) => match number(a, b) {
                Some((kind, example)) => {
                    let detail = describe::difference(sent, &[taken]);
                    vec![Finding::new(kind, detail, example.and_then(Num::to_value))]
                }
                None => Vec::new(),
            },
            (Kind::Text(a), Kind::Text(b)) => match text(a, b) {
                true => Vec::new(),
                false => narrowed().into_iter().map(|it| with_text(it, a, b)).collect(),
            },
            (Kind::List(a), Kind::List(b)) => self.lists(sent, a, taken, b, depth),
            (Kind::Record(a), Kind::Record(b)) => self.records(a, b, depth),
            _ => narrowed(),
        }
    }

    fn lists(
        &mut self,
        sent: &Shape<'a>,
        a: &Lists<'a>,
        taken: &Shape<'a>,
        b: &Lists<'a>,
        depth: u32,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let long = b.max.filter(|max| a.max.is_none_or(|most| most > *max));
        let length =
            if a.min < b.min { Some(a.min) } else { long.map(|max| max.saturating_add(1)) };
        let doubles = b.unique && !a.unique && a.max.is_none_or(|max| max > 1);
        if length.is_some() || doubles {
            let example = match length {
                Some(length) => sample_list(&self.sent, a, length, None),
                None => sample_list(&self.sent, a, 2, None),
            };
            let detail = describe::difference(sent, &[taken]);
            findings.push(Finding::new(BreakKind::ValuesNarrowed, detail, example));
        }
        let prefix = a.prefix.len().max(b.prefix.len());
        for at in 0..=prefix {
            if a.max.is_some_and(|max| max <= at as u64) {
                break;
            }
            let name = if at < prefix { at.to_string() } else { "*".to_owned() };
            if b.max.is_some_and(|max| max <= at as u64) {
                // That there are too many is said already.
                break;
            }
            for found in self.conjs(a.at(at), b.at(at), depth + 1) {
                let lift = |item| sample_list(&self.sent, a, 0, Some((at, item)));
                findings.push(lifted(found, &name, lift));
            }
        }
        findings
    }

    fn records(&mut self, a: &Records<'a>, b: &Records<'a>, depth: u32) -> Vec<Finding> {
        let mut findings = Vec::new();
        let parts = a.fields.len() + b.fields.len() + b.required.len();
        let patterns = a.patterns.len() + 1;
        let patterns = patterns.saturating_mul(b.patterns.len().saturating_mul(b.patterns.len()));
        if !self.fuel.burn(parts / 8 + patterns / 64) {
            return vec![Finding::undecided(TOO_LARGE)];
        }
        for name in b.required.iter().filter(|name| !a.required.contains(*name)) {
            merge(&mut findings, vec![self.missing(a, name)]);
        }
        for (name, field) in &a.fields {
            let Some(taken) = b.at(name, &self.taken.document) else { continue };
            merge(&mut findings, self.field(a, name, name, field, &taken, depth));
        }
        self.other_fields(a, b, depth, &mut findings);
        merge(&mut findings, self.names(a, b).into_iter().collect());
        merge(&mut findings, self.counts(a, b).into_iter().collect());
        findings
    }

    /// A field that is required, and not always sent.
    fn missing(&self, a: &Records<'a>, name: &'a str) -> Finding {
        let path = step(name, "");
        let found = a.at(name, &self.sent.document).filter(|it| !it.is_never());
        if !a.fields.contains_key(name) && found.as_ref().is_some_and(Conj::is_any) {
            let text = "it is required, and the sender's schema leaves open which fields there are";
            return Finding { path, ..Finding::open(text) };
        }
        let example = sample_record(&self.sent, a, None);
        let (kind, detail) = match found {
            None => (BreakKind::Removed, "it is required, and not sent"),
            Some(_) => (BreakKind::RequiredNow, "it is required, and may be left out"),
        };
        Finding { path, ..Finding::new(kind, detail.to_owned(), example) }
    }

    /// A field that is sent, under `name` as an example, and how it is taken.
    fn field(
        &mut self,
        a: &Records<'a>,
        shown: &str,
        name: &str,
        sent: &Conj<'a>,
        taken: &Conj<'a>,
        depth: u32,
    ) -> Vec<Finding> {
        if taken.is_never() && !sent.is_never() {
            let example = sample(&self.sent, sent)
                .and_then(|it| sample_record(&self.sent, a, Some((name, it))));
            let detail = "it is sent, and the receiver refuses fields that it does not know";
            let finding = Finding::new(BreakKind::FieldRefused, detail.to_owned(), example);
            // Of a type without values none is sent.
            let is_sent = !self.sent.of(sent).is_empty();
            return is_sent
                .then(|| Finding { path: step(shown, ""), ..finding })
                .into_iter()
                .collect();
        }
        let found = self.conjs(sent, taken, depth + 1);
        let lift = |value| sample_record(&self.sent, a, Some((name, value)));
        found.into_iter().map(|it| lifted(it, shown, lift)).collect()
    }

    /// The fields that have no name in what is sent: those of maps.
    fn other_fields(
        &mut self,
        a: &Records<'a>,
        b: &Records<'a>,
        depth: u32,
        findings: &mut Vec<Finding>,
    ) {
        let rest = b.rest.clone().unwrap_or_default();
        for (pattern, sent) in &a.patterns {
            let same = b.patterns.iter().find(|(it, _)| it == pattern);
            let mut taken = same.map_or(rest.clone(), |(_, conj)| conj.clone());
            // Names of another pattern may be among them.
            for (_, conj) in b.patterns.iter().filter(|(it, _)| it != pattern) {
                taken = taken.and(conj);
            }
            let name = name_like(&self.sent, a, pattern).unwrap_or("a");
            merge(findings, self.field(a, "*", name, sent, &taken, depth));
            for (name, taken) in &b.fields {
                let other = a.fields.contains_key(name)
                    || self.sent.document.matches(pattern, name) == Tri::No;
                if self.fuel.is_empty() {
                    return merge(findings, vec![Finding::undecided(TOO_LARGE)]);
                }
                if !other {
                    merge(findings, self.field(a, name, name, sent, taken, depth));
                }
            }
        }
        let Some(sent) = a.rest.as_ref().filter(|it| !it.is_never()) else { return };
        let taken = b.patterns.iter().fold(rest, |taken, (_, conj)| taken.and(conj));
        let free = ["a", "b", "key", "other"];
        let name = free.iter().find(|it| a.at(it, &self.sent.document).as_ref() == Some(sent));
        merge(findings, self.field(a, "*", name.unwrap_or(&"a"), sent, &taken, depth));
        for (name, taken) in b.fields.iter().filter(|(name, _)| !a.fields.contains_key(*name)) {
            merge(findings, self.field(a, name, name, sent, taken, depth));
        }
    }

    /// The names of fields, if the receiver demands something of them.
    fn names(&mut self, a: &Records<'a>, b: &Records<'a>) -> Option<Finding> {
        if b.names.is_any() {
            return None;
        }
        let document = &self.taken.document;
        let declared = a.fields.keys().fold(Tri::Yes, |all, name| {
            self.fuel.burn(name.len() / 256);
            all.and(all_valid(document, &b.names, &Value::from(*name)))
        });
        let has_others = !a.patterns.is_empty() || a.rest.as_ref().is_some_and(|it| !it.is_never());
        let others = has_others && {
            let sent = a.names.clone().and(&Conj::of(&A_STRING));
            !self.conjs(&sent, &b.names.clone(), 1).is_empty()
        };
        (declared != Tri::Yes || others)
            .then(|| Finding::undecided("the receiver does not take every name of a field"))
    }

    fn counts(&self, a: &Records<'a>, b: &Records<'a>) -> Option<Finding> {
        let least = a.min.max(a.required.len() as u64);
        let closed = a.patterns.is_empty() && a.rest.as_ref().is_none_or(Conj::is_never);
        let most = if closed { Some(a.fields.len() as u64) } else { None };
        let most = [most, a.max].into_iter().flatten().min();
        let few = least < b.min;
        let many = b.max.is_some_and(|max| most.is_none_or(|most| most > max));
        (few || many).then(|| {
            let detail = "the receiver takes another number of fields".to_owned();
            let example = sample_record(&self.sent, a, None);
            Finding::new(BreakKind::ValuesNarrowed, detail, example)
        })
    }
}

/// What was found of a part, as something of the whole.
fn lifted(found: Finding, name: &str, lift: impl Fn(Value) -> Option<Value>) -> Finding {
    let path = step(name, &found.path);
    Finding { path, example: found.example.and_then(lift), ..found }
}

/// How numbers that are sent are not taken, and one of them.
fn number(a: &Numbers, b: &Numbers) -> Option<(BreakKind, Option<Num>)> {
    if b.whole && !a.whole {
        let between = a.lower().or(a.upper()).map_or(Num::Real(0.5), |it| match it {
            Num::Int(int) if a.lower().is_some() => Num::Real(int as f64 + 0.5),
            Num::Int(int) => Num::Real(int as f64 - 0.5),
            real => real,
        });
        return Some((BreakKind::TypeChanged, Some(between)));
    }
    let bounds = [below(a, b), above(a, b)];
    if let Some(example) = bounds.into_iter().flatten().next() {
        return Some((BreakKind::ValuesNarrowed, Some(example)));
    }
    let divided = |by: &Num| {
        (a.whole && *by == Num::Int(1))
            || a.multiples.iter().any(|it| match (it, by) {
                (Num::Int(it), Num::Int(by)) => *by > 0 && it % by == 0,
                (it, by) => it == by,
            })
    };
    (!b.multiples.iter().all(divided)).then_some((BreakKind::ValuesNarrowed, None))
}

/// A number of one range, near the other one, that is below all of it.
fn below(a: &Numbers, b: &Numbers) -> Option<Num> {
    let bound = b.lower()?;
    let near = bound.plus(-1);
    match a.lower() {
        Some(lower) if lower > bound => None,
        Some(lower) if lower == bound => {
            (b.above == Some(bound) && a.above != Some(bound)).then_some(bound)
        }
        Some(lower) if lower > near => Some(lower),
        _ => Some(near),
    }
}

/// The same at the other end.
fn above(a: &Numbers, b: &Numbers) -> Option<Num> {
    let bound = b.upper()?;
    let near = bound.plus(1);
    match a.upper() {
        Some(upper) if upper < bound => None,
        Some(upper) if upper == bound => {
            (b.below == Some(bound) && a.below != Some(bound)).then_some(bound)
        }
        Some(upper) if upper < near => Some(upper),
        _ => Some(near),
    }
}

fn text(a: &Texts<'_>, b: &Texts<'_>) -> bool {
    let within = a.min >= b.min && b.max.is_none_or(|max| a.max.is_some_and(|it| it <= max));
    let patterns = b.patterns.iter().all(|it| a.patterns.contains(it));
    let formats = b.formats.iter().all(|it| a.formats.iter().any(|own| format::implies(own, it)));
    within && patterns && formats
}

/// With an example that is too long or too short, if that is what it is.
fn with_text(mut finding: Finding, a: &Texts<'_>, b: &Texts<'_>) -> Finding {
    const LONGEST: u64 = 4096;
    let long =
        b.max.filter(|max| a.max.is_none_or(|it| it > *max)).map(|max| max.saturating_add(1));
    let length = if a.min < b.min { Some(a.min) } else { long.map(|it| it.max(a.min)) };
    let free = a.patterns.is_empty() && a.formats.is_empty();
    if let Some(length) = length.filter(|it| free && *it <= LONGEST) {
        finding.example = Some(Value::from("a".repeat(length as usize)));
    }
    finding
}
