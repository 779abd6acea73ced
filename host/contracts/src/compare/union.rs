//! One alternative that is sent against all that are taken.

use serde_json::Value;

use super::{Comparison, Finding};
use crate::{
    BreakKind, describe,
    disjoint::are_disjoint,
    document::{Conj, Role},
    number::Num,
    sample::sample_shape,
    shape::{Kind, Numbers, Records, Shape},
};

/// The most cases that an alternative is taken apart into, how many fields it is tried with, and
/// how often within one another.
const CASES: usize = 64;
const SPLIT_FIELDS: usize = 3;
const SPLITS: u32 = 2;

impl<'a> Comparison<'a> {
    pub(super) fn union(&mut self, sent: &Shape<'a>, taken: &Conj<'a>, depth: u32) -> Vec<Finding> {
        self.cases(sent, taken, depth, SPLITS)
    }

    fn cases(
        &mut self,
        sent: &Shape<'a>,
        taken: &Conj<'a>,
        depth: u32,
        splits: u32,
    ) -> Vec<Finding> {
        let all = self.taken.of(taken);
        self.fuel.burn(all.len() / 16);
        let same_type: Vec<&Shape<'a>> =
            all.iter().filter(|it| it.is_of() == sent.is_of()).collect();
        if same_type.is_empty() {
            return vec![self.other_type(sent, &all)];
        }
        let mut candidates = same_type.clone();
        if candidates.len() > 1 {
            candidates.retain(|it| !are_disjoint(sent, &self.sent, it, &self.taken));
        }
        let mut best: Option<Vec<Finding>> = None;
        for candidate in &candidates {
            if !self.fuel.burn(1) {
                return vec![Finding::undecided(super::TOO_LARGE)];
            }
            let mut findings = self.kinds(sent, candidate, depth);
            if findings.is_empty() {
                findings = self.beside(sent, candidate);
            }
            if findings.is_empty() {
                return findings;
            }
            if best.as_ref().is_none_or(|best| findings.len() < best.len()) {
                best = Some(findings);
            }
        }
        if candidates.len() > 1 && self.together(sent, &candidates, taken, depth, splits) {
            return Vec::new();
        }
        match best {
            Some(best) if candidates.len() == 1 => best,
            Some(best) if matches!(sent.kind, Kind::Record(_) | Kind::List(_)) => best,
            Some(_) => {
                let detail = describe::difference(sent, &same_type);
                let example = sample_shape(&self.sent, sent);
                vec![Finding::new(BreakKind::ValuesNarrowed, detail, example)]
            }
            None => vec![self.no_alternative(sent, &same_type)],
        }
    }

    /// Whether all cases of what is sent are taken, each by another alternative.
    fn together(
        &mut self,
        sent: &Shape<'a>,
        candidates: &[&Shape<'a>],
        taken: &Conj<'a>,
        depth: u32,
        splits: u32,
    ) -> bool {
        match &sent.kind {
            Kind::Number(numbers) => covered(numbers, candidates),
            Kind::Record(records) if splits > 0 => {
                let fields = self.telling_fields(records, candidates);
                fields.into_iter().any(|(name, cases)| {
                    (0..cases).all(|case| {
                        self.fuel.burn(sent.weight());
                        let mut one = sent.clone();
                        if let Kind::Record(records) = &mut one.kind
                            && let Some(field) = records.fields.get_mut(name)
                        {
                            field.only = Some(case);
                        }
                        self.has_no_value(&one)
                            || self.cases(&one, taken, depth, splits - 1).is_empty()
                    })
                })
            }
            _ => false,
        }
    }

    /// Fields that all values have, that may be several things, and that some candidate speaks of;
    /// with how many things they may be.
    fn telling_fields(
        &self,
        records: &Records<'a>,
        candidates: &[&Shape<'a>],
    ) -> Vec<(&'a str, usize)> {
        let mut found = Vec::new();
        if !self.fuel.burn(records.fields.len().saturating_mul(candidates.len()) / 64) {
            return found;
        }
        for (name, conj) in &records.fields {
            let spoken = candidates.iter().any(|it| match &it.kind {
                Kind::Record(records) => records.fields.contains_key(name),
                _ => false,
            });
            let certain = records.required.contains(name) && conj.only.is_none();
            if !spoken || !certain || conj.is_any() {
                continue;
            }
            let cases = self.sent.of(conj).len();
            if (2..=CASES).contains(&cases) {
                found.push((*name, cases));
            }
            if found.len() == SPLIT_FIELDS {
                break;
            }
        }
        found
    }

    /// An alternative, a variant of an enum for one, that the receiver has none like.
    fn no_alternative(&self, sent: &Shape<'a>, taken: &[&Shape<'a>]) -> Finding {
        let example = sample_shape(&self.sent, sent);
        let general = || {
            Finding::new(
                BreakKind::ValuesNarrowed,
                describe::difference(sent, taken),
                example.clone(),
            )
        };
        let Kind::Record(records) = &sent.kind else { return general() };
        // The field by which all of them are told apart, if there is one.
        for name in &records.required {
            if !self.fuel.burn(1 + taken.len() / 8) {
                break;
            }
            let Some(Value::String(tag)) = self.only_literal(records, name) else { continue };
            let tags: Option<Vec<String>> = taken
                .iter()
                .map(|it| match &it.kind {
                    Kind::Record(of) => self.tag(of, name),
                    _ => None,
                })
                .collect();
            let Some(mut tags) = tags else { continue };
            tags.dedup();
            let detail = format!("{tag:?} is sent, {} is taken", listed(&tags));
            let finding = Finding::new(BreakKind::ValuesNarrowed, detail, example.clone());
            return Finding { path: super::kinds::step(name, ""), ..finding };
        }
        if let Some(names) = self.never_sent(records, taken)
            && let [first, others @ ..] = names.as_slice()
        {
            let others: Vec<String> = others.iter().map(|name| describe::quoted(name)).collect();
            let detail = match others.as_slice() {
                [] => "it is required, and not sent".to_owned(),
                others => format!("it or {} is required, and none is sent", listed(others)),
            };
            let finding = Finding::new(BreakKind::Removed, detail, example.clone());
            return Finding { path: super::kinds::step(first, ""), ..finding };
        }
        match records.required.first() {
            Some(name) if records.required.len() == 1 => {
                let name = describe::quoted(name);
                let detail = format!("an object with {name} is sent, and none like it is taken");
                Finding::new(BreakKind::ValuesNarrowed, detail, example.clone())
            }
            _ => general(),
        }
    }

    /// The fields of which each alternative requires one that is never sent: names of one field, if
    /// it has several. None if one of them is another thing than what is sent, with which it shares
    /// no field.
    fn never_sent(&self, sent: &Records<'a>, taken: &[&Shape<'a>]) -> Option<Vec<&'a str>> {
        let mut names = Vec::new();
        for it in taken {
            let Kind::Record(of) = &it.kind else { return None };
            if !of.fields.keys().any(|name| sent.fields.contains_key(name)) {
                return None;
            }
            let is_sent = |name: &str| {
                sent.at(name, &self.sent.document).is_some_and(|field| !field.is_never())
            };
            let missing = of.required.iter().copied().find(|name| !is_sent(name))?;
            if !names.contains(&missing) {
                names.push(missing);
            }
        }
        Some(names)
    }

    fn only_literal(&self, records: &Records<'a>, name: &str) -> Option<&'a Value> {
        match self.sent.of(records.fields.get(name)?).as_ref() {
            [Shape { kind: Kind::Literal(value), .. }] => Some(value),
            _ => None,
        }
    }

    fn tag(&self, records: &Records<'a>, name: &str) -> Option<String> {
        debug_assert_eq!(self.taken.document.role, Role::Taken);
        match self.taken.of(records.fields.get(name)?).as_ref() {
            [Shape { kind: Kind::Literal(value), .. }] => Some(describe::literal(value)),
            _ => None,
        }
    }
}

fn listed(tags: &[String]) -> String {
    const SHOWN: usize = 6;
    match tags {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first @ .., last] if tags.len() <= SHOWN => format!("{} or {last}", first.join(", ")),
        _ => format!("{} or one of {} others", tags[..SHOWN].join(", "), tags.len() - SHOWN),
    }
}

/// Whether ranges of numbers together leave none of the sent ones out.
fn covered(sent: &Numbers, candidates: &[&Shape<'_>]) -> bool {
    let mut ranges: Vec<(Option<Num>, Option<Num>)> = Vec::new();
    for candidate in candidates {
        let plain = candidate.excluded.is_empty() && candidate.opaque.is_empty();
        match &candidate.kind {
            Kind::Number(it) if plain && it.multiples.is_empty() => {
                let open = it.above.is_some() || it.below.is_some();
                if !open && (sent.whole || !it.whole) {
                    ranges.push((it.min, it.max));
                }
            }
            Kind::Literal(value) if plain => {
                let num = Num::of(value);
                ranges.extend(num.map(|_| (num, num)));
            }
            _ => {}
        }
    }
    // Whole ones are next to each other; of all others there are some between any two.
    let after = |it: Num| if sent.whole { it.plus(1) } else { it };
    ranges.sort();
    let Some(mut next) = sent.min else {
        return ranges.iter().any(|(min, max)| min.is_none() && max.is_none());
    };
    for (min, max) in ranges {
        if min.is_some_and(|min| min > next) {
            return false;
        }
        let Some(max) = max else { return true };
        if max >= next {
            next = after(max);
        }
        if sent.max.is_some_and(|end| max >= end) {
            return true;
        }
    }
    false
}
