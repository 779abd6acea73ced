//! Which events get to whom as the values that they are, and which as JSON.
//!
//! What is decided for a value by its reader, with the fingerprints of both types, is said before
//! there is one, by the same fingerprints.

use std::collections::BTreeMap;

use ksi_abi::{Pattern, TypeDescription};
use ksi_kernel::router::routes::Subscribers;
use ksi_wire::module::Exchange;

use crate::plugin::{
    file::manifest::Built,
    lifecycle::requirements::names_something,
    supervisor::registry::{Plugin, Registry},
};

/// A handler as it is subscribed.
struct Subscribed<'a> {
    pattern: &'a Pattern,
    plugin: &'a str,
    handler: &'a str,
}

/// Of the events that a plugin emits, or handles, with all others and with itself. Whoever listens
/// to everything is left out, and so is the host, which reads JSON.
pub(super) fn exchanges(
    subscribers: &Subscribers,
    registry: &Registry,
    plugin: &str,
) -> Vec<Exchange> {
    let live: BTreeMap<&str, &Plugin> = registry
        .plugins
        .iter()
        .filter(|(_, plugin)| plugin.live.is_some())
        .map(|(name, plugin)| (&**name, plugin))
        .collect();
    let subscribed: Vec<Subscribed<'_>> = subscribers
        .iter()
        .filter(|it| live.contains_key(&*it.handler.plugin) && names_something(it.pattern))
        .map(|it| Subscribed {
            pattern: it.pattern,
            plugin: &it.handler.plugin,
            handler: &it.handler.handler,
        })
        .collect();
    let mut found = Vec::new();
    for (&name, emitter) in &live {
        let is_of = |it: &&Subscribed<'_>| name == plugin || it.plugin == plugin;
        for event in &emitter.info.manifest.emits {
            for handler in subscribed.iter().filter(is_of).filter(|it| it.pattern.matches(event)) {
                let Some(receiver) = live.get(handler.plugin) else { continue };
                found.push(exchange(event, (name, emitter), (handler, receiver)));
            }
        }
    }
    let place = |it: &Exchange| (it.event.clone(), it.module.clone(), it.handler.clone());
    found.sort_by_key(|it| (it.emitter.clone(), place(it)));
    found.dedup();
    found
}

fn exchange(
    event: &str,
    (name, emitter): (&str, &Plugin),
    (handler, receiver): (&Subscribed<'_>, &Plugin),
) -> Exchange {
    let sent = sent_type(emitter, event);
    let taken = taken_type(receiver, handler.handler);
    let (form, why) = decided((emitter, sent), (receiver, taken));
    let name_of = |of: Option<&TypeDescription>| of.map(|of| of.name.clone());
    Exchange {
        emitter: name.to_owned(),
        event: event.to_owned(),
        form: form.into(),
        handler: handler.handler.to_owned(),
        module: handler.plugin.to_owned(),
        sent_type: name_of(sent),
        taken_type: name_of(taken),
        why: why.into(),
    }
}

/// As what an event is emitted, and why.
fn decided(
    (emitter, sent): (&Plugin, Option<&TypeDescription>),
    (receiver, taken): (&Plugin, Option<&TypeDescription>),
) -> (&'static str, &'static str) {
    let either = |is: fn(&Plugin) -> bool| is(emitter) || is(receiver);
    if either(is_python) {
        return ("json", "python");
    }
    if either(is_elsewhere) {
        return ("json", "process");
    }
    let Some(sent) = sent else { return ("unknown", "declared_by_name") };
    let Some(taken) = taken else { return ("unknown", "not_told") };
    match (sent.fingerprint, taken.fingerprint) {
        (Some(print), reader) if print.is_read_as(reader) => ("value", "same_definition"),
        (None, _) => ("json", "sent_as_json"),
        (_, None) => ("json", "taken_as_json"),
        _ if sent.name == taken.name => ("json", "other_layout"),
        _ => ("json", "other_type"),
    }
}

fn is_python(plugin: &Plugin) -> bool {
    matches!(plugin.info.manifest.built, Built::Python(_))
}

fn is_elsewhere(plugin: &Plugin) -> bool {
    plugin.live.as_ref().is_some_and(|live| !live.residence.is_here())
}

fn sent_type<'a>(plugin: &'a Plugin, event: &str) -> Option<&'a TypeDescription> {
    let emits = &plugin.info.description.emits;
    emits.iter().find(|known| known.event == event)?.payload_type.as_ref()
}

fn taken_type<'a>(plugin: &'a Plugin, handler: &str) -> Option<&'a TypeDescription> {
    let info = &plugin.info;
    let at = info.manifest.handlers.iter().position(|declared| declared.name == handler)?;
    info.description.handlers.get(at)?.payload_type.as_ref()
}
