//! Contracts between plugins: what one sends and another takes, as the JSON Schemas of both say.
//!
//! A candidate is compared with every plugin beside it: what they send and it would no longer take,
//! what they read of its replies and would no longer get, what it sends and they can't take; and
//! with the version before it, in whose place clients of the socket could send something. What that
//! version broke as well is no reason to refuse the next one, which may mend another half of it.
//!
//! A side that says nothing (an event that is emitted without a type, a payload that may be any
//! JSON) has promised nothing, and there is nothing to compare. Whoever listens to everything takes
//! part in no contract either.

use std::{collections::HashMap, fmt, sync::Arc};

use ksi_abi::{Description, EmitDescription, HandlerDescription, Pattern};
use ksi_contracts::{Verdict, compare};
use serde_json::Value;

use super::requirements::names_something;
use crate::plugin::{file::manifest::Manifest, instance::info::is_directed};

/// Breaks of one contract that a message tells: somebody who has removed a field wants to read of
/// that, and not of fifty that come with it.
const TOLD: usize = 3;
/// The same for contracts.
const CONTRACTS: usize = 8;

/// What is done about a broken contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnBreak {
    Ignore,
    Warn,
    Refuse,
}

/// What the operator decides of the contracts of a candidate over an event, with another plugin or,
/// where there is none, with clients: event, candidate, other.
pub(crate) type ContractPolicies = Arc<dyn Fn(&str, &str, Option<&str>) -> OnBreak + Send + Sync>;

/// One side of contracts.
#[derive(Clone, Copy)]
pub(crate) struct Party<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) description: &'a Description,
}

/// What was found of a candidate's contracts, in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// It must not go live.
    pub(crate) refused: Vec<String>,
    /// It may, and somebody should know.
    pub(crate) warned: Vec<String>,
    /// The plugins that it is refused for: when one of them changes, it may do.
    pub(crate) with: Vec<Arc<str>>,
}

/// Compares a candidate with the version before it, which is live, and the plugins beside it.
pub(crate) fn judge(
    candidate: Party<'_>,
    before: Option<Party<'_>>,
    others: &[Party<'_>],
    policies: &ContractPolicies,
) -> Findings {
    let others: Vec<Side<'_>> = others.iter().copied().map(Side::of).collect();
    let before = before.map(Side::of);
    let (candidate, before) = (Side::of(candidate), before.as_ref());
    let mut judging = Judging { candidate: &candidate, policies, findings: Findings::default() };
    for other in &others {
        judging.sent_by(other, before);
        judging.sent_to(other, before);
        judging.read_by(other, before, &others);
        judging.read_of(other);
    }
    if let Some(before) = before {
        judging.of_clients(before, &others);
    }
    judging.findings
}

/// A party, and its handlers by what they are subscribed to: of a plugin that handles thousands of
/// events, they are looked for thousands of times.
struct Side<'a> {
    party: Party<'a>,
    /// By the text of the subscription, the places of handlers.
    named: HashMap<&'a str, Vec<usize>>,
    patterns: Vec<(Pattern, usize)>,
}

impl<'a> Side<'a> {
    fn of(party: Party<'a>) -> Self {
        let mut side = Side { party, named: HashMap::new(), patterns: Vec::new() };
        for (place, (subscriptions, _)) in party.handlers().enumerate() {
            for text in subscriptions {
                side.named.entry(text).or_default().push(place);
                // A name is no pattern, and there are far more of those.
                let pattern = text.contains('*').then(|| Pattern::parse(text).ok()).flatten();
                let pattern = pattern.filter(names_something);
                side.patterns.extend(pattern.map(|pattern| (pattern, place)));
            }
        }
        side
    }

    fn handlers(&self) -> impl Iterator<Item = (&'a Vec<String>, &'a HandlerDescription)> {
        self.party.handlers()
    }

    /// Its handlers that are called for an event of this name or pattern, by their names.
    fn handlers_of(&self, event: &str) -> impl Iterator<Item = (&'a str, &'a HandlerDescription)> {
        let matching = self.patterns.iter().filter(|(pattern, _)| pattern.matches(event));
        let mut places: Vec<usize> = matching.map(|(_, place)| *place).collect();
        places.extend(self.named.get(event).into_iter().flatten());
        places.sort_unstable();
        places.dedup();
        let handlers = &self.party.description.handlers;
        places.into_iter().filter_map(|place| handlers.get(place)).map(|it| (&*it.name, it))
    }

    fn is_handled(&self, event: &str) -> bool {
        self.handlers_of(event).next().is_some()
    }

    fn live(&self) -> String {
        let Manifest { name, version, .. } = self.party.manifest;
        format!("{name} {version}, which is live,")
    }
}

struct Judging<'a> {
    candidate: &'a Side<'a>,
    policies: &'a ContractPolicies,
    findings: Findings,
}

/// What is wrong between two schemas.
enum Wrong {
    Broken(String),
    Undecided(String),
}

impl<'a> Judging<'a> {
    /// What a live plugin sends, and the candidate takes.
    fn sent_by(&mut self, other: &Side<'_>, before: Option<&Side<'_>>) {
        for emit in &other.party.description.emits {
            let event = &emit.event;
            if self.policy(event, Some(other)) == OnBreak::Ignore {
                continue;
            }
            for (name, handler) in self.candidate.handlers_of(event) {
                let Some(wrong) = Sent::by(emit).difference(&handler.payload) else { continue };
                let earlier = before.is_some_and(|before| {
                    let mut handlers = before.handlers_of(event);
                    handlers.any(|(_, handler)| Sent::by(emit).is_broken(&handler.payload))
                });
                let what = format!(
                    "{} sends {event}, and `{name}` of this version does not take all of it",
                    other.live()
                );
                self.found(event, Some(other), earlier, &what, wrong);
            }
        }
    }

    /// What the candidate sends, and a live plugin takes.
    fn sent_to(&mut self, other: &Side<'_>, before: Option<&Side<'_>>) {
        for emit in &self.candidate.party.description.emits {
            let event = &emit.event;
            if self.policy(event, Some(other)) == OnBreak::Ignore {
                continue;
            }
            for (name, handler) in other.handlers_of(event) {
                let Some(wrong) = Sent::by(emit).difference(&handler.payload) else { continue };
                let earlier = before.is_some_and(|before| {
                    let mut emits = before.party.description.emits.iter();
                    emits.any(|emit| {
                        emit.event == *event && Sent::by(emit).is_broken(&handler.payload)
                    })
                });
                let what = format!(
                    "this version sends {event}, and `{name}` of {} does not take all of it",
                    other.live()
                );
                self.found(event, Some(other), earlier, &what, wrong);
            }
        }
    }

    /// What a live plugin reads of the candidate's replies.
    fn read_by(&mut self, other: &Side<'_>, before: Option<&Side<'_>>, others: &[Side<'_>]) {
        for event in &other.party.manifest.requires {
            if self.policy(event, Some(other)) == OnBreak::Ignore {
                continue;
            }
            let read =
                other.party.description.requires.iter().find(|required| required.event == *event);
            let mut is_handled = false;
            for (name, handler) in self.candidate.handlers_of(event) {
                is_handled = true;
                let Some(read) = read else { continue };
                let Some(wrong) = Sent::as_reply(handler).difference(&read.reply) else { continue };
                let earlier = before.is_some_and(|before| {
                    let mut handlers = before.handlers_of(event);
                    handlers.any(|(_, handler)| Sent::as_reply(handler).is_broken(&read.reply))
                });
                let what = format!(
                    "{} reads the reply to {event}, and `{name}` of this version does not reply so",
                    other.live()
                );
                self.found(event, Some(other), earlier, &what, wrong);
            }
            let was_handled = before.is_some_and(|before| before.is_handled(event));
            let by_others = || others.iter().any(|it| it.is_handled(event));
            if was_handled && !is_handled && !by_others() {
                let what = format!("{} requires {event}", other.live());
                let wrong = Wrong::Broken("nobody handles it any more".to_owned());
                self.found(event, Some(other), false, &what, wrong);
            }
        }
    }

    /// What the candidate reads of a live plugin's replies.
    fn read_of(&mut self, other: &Side<'_>) {
        for read in &self.candidate.party.description.requires {
            let event = &read.event;
            if self.policy(event, Some(other)) == OnBreak::Ignore {
                continue;
            }
            for (name, handler) in other.handlers_of(event) {
                let Some(wrong) = Sent::as_reply(handler).difference(&read.reply) else { continue };
                let what = format!(
                    "this version reads the reply to {event}, and `{name}` of {} does not reply so",
                    other.live()
                );
                self.found(event, Some(other), false, &what, wrong);
            }
        }
    }

    /// What clients could send to the version before.
    fn of_clients(&mut self, before: &Side<'_>, others: &[Side<'_>]) {
        for (subscriptions, earlier) in before.handlers() {
            for event in subscriptions {
                if self.policy(event, None) == OnBreak::Ignore
                    || !names(event)
                    || is_directed(event)
                {
                    continue;
                }
                let mut is_handled = false;
                for (name, handler) in self.candidate.handlers_of(event) {
                    is_handled = true;
                    let wrong = Sent::by_anybody(&earlier.payload).difference(&handler.payload);
                    let Some(wrong) = wrong else { continue };
                    let what = format!(
                        "clients could send {event}, and `{name}` of this version does not take \
                         all of what they could"
                    );
                    self.found(event, None, false, &what, wrong);
                }
                let by_others = || others.iter().any(|it| it.is_handled(event));
                if !is_handled && !by_others() {
                    let what = format!("clients could send {event}");
                    let wrong = Wrong::Broken("nobody handles it any more".to_owned());
                    self.found(event, None, false, &what, wrong);
                }
            }
        }
    }

    fn policy(&self, event: &str, other: Option<&Side<'_>>) -> OnBreak {
        let other = other.map(|other| &*other.party.manifest.name);
        (self.policies)(event, &self.candidate.party.manifest.name, other)
    }

    fn found(
        &mut self,
        event: &str,
        other: Option<&Side<'_>>,
        earlier: bool,
        what: &str,
        wrong: Wrong,
    ) {
        let policy = self.policy(event, other);
        let (text, is_broken) = match wrong {
            Wrong::Broken(text) if earlier => {
                (format!("{what}: {text}; the version before did not either"), false)
            }
            Wrong::Broken(text) => (format!("{what}: {text}"), true),
            Wrong::Undecided(text) => {
                (format!("{what}, or it can't be told from their schemas: {text}"), false)
            }
        };
        let Findings { refused, warned, with } = &mut self.findings;
        if is_broken && policy == OnBreak::Refuse {
            if let Some(name) = other.map(|other| &*other.party.manifest.name)
                && !with.iter().any(|known| **known == *name)
            {
                with.push(name.into());
            }
            refused.push(text);
        } else {
            warned.push(text);
        }
    }
}

impl<'a> Party<'a> {
    fn handlers(self) -> impl Iterator<Item = (&'a Vec<String>, &'a HandlerDescription)> {
        let declared = self.manifest.handlers.iter().map(|handler| &handler.subscriptions);
        declared.zip(&self.description.handlers)
    }
}

fn names(subscription: &str) -> bool {
    Pattern::parse(subscription).is_ok_and(|pattern| names_something(&pattern))
}

/// Whether a schema says nothing of what it describes.
fn is_silent(schema: &Value) -> bool {
    match schema {
        Value::Null | Value::Bool(true) => true,
        // Names and words for people say nothing of values.
        Value::Object(keys) => keys.keys().all(|key| {
            matches!(key.as_str(), "$schema" | "title" | "description" | "$defs" | "definitions")
        }),
        _ => false,
    }
}

/// What is sent.
#[derive(Clone, Copy)]
struct Sent<'a> {
    schema: &'a Value,
    /// What its own type reads, if that is said: whoever takes that takes what is sent.
    read: Option<&'a Value>,
}

impl<'a> Sent<'a> {
    fn by(emit: &'a EmitDescription) -> Self {
        Sent { schema: &emit.schema, read: emit.read.as_ref() }
    }

    fn as_reply(handler: &'a HandlerDescription) -> Self {
        Sent { schema: &handler.reply, read: handler.reply_read.as_ref() }
    }

    fn by_anybody(schema: &'a Value) -> Self {
        Sent { schema, read: None }
    }

    /// What is wrong between it and who takes it.
    fn difference(self, taken: &Value) -> Option<Wrong> {
        let Sent { schema, read } = self;
        if is_silent(schema) || is_silent(taken) || schema == taken {
            return None;
        }
        match compare(schema, taken) {
            Verdict::Compatible => None,
            Verdict::Broken(breaks) => Some(Wrong::Broken(few(&breaks))),
            // Two patterns, as of a decimal number that is written in one way and read in several.
            Verdict::Undecided(_)
                if read.is_some_and(|read| compare(read, taken) == Verdict::Compatible) =>
            {
                None
            }
            Verdict::Undecided(reasons) => Some(Wrong::Undecided(few(&reasons))),
        }
    }

    fn is_broken(self, taken: &Value) -> bool {
        matches!(self.difference(taken), Some(Wrong::Broken(_)))
    }
}

/// The first of them, and how many there are beside.
fn few<T: fmt::Display>(all: &[T]) -> String {
    let told: Vec<String> = all.iter().take(TOLD).map(T::to_string).collect();
    match all.len().saturating_sub(TOLD) {
        0 => told.join("; "),
        more => format!("{}; and {more} more", told.join("; ")),
    }
}

/// What a refusal says of contracts.
pub(crate) fn in_short(broken: &[String]) -> String {
    let told: Vec<&str> = broken.iter().take(CONTRACTS).map(String::as_str).collect();
    match broken.len().saturating_sub(CONTRACTS) {
        0 => told.join(". "),
        more => format!("{}. And {more} more", told.join(". ")),
    }
}

#[cfg(test)]
mod tests;
