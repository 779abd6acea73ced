//! Transformers come and go: from files, and by events.

use std::{sync::Arc, time::SystemTime};

use ksi_plugin_api::{SubscriptionId, prelude::*};

use crate::{
    Shared, apply,
    definition::{Found, Problem},
    events::{Registered, Reloaded, Unregistered},
    files,
    pending::Begun,
    registry::{Change, FileProblem, Key, Live, Slot},
    shown,
    transformer::Transformer,
    yaml::Node,
};

/// How many transformers may be registered by events, and how large each may be as JSON.
const MAX_REGISTERED: usize = 1000;
const MAX_REGISTERED_BYTES: usize = 64 << 10;

/// Reads the files, and has what stands in them live.
pub(crate) fn reload(shared: &Arc<Shared>, ctx: &Context) -> Result<Reloaded> {
    let read = files::read_all(&shared.settings);
    let settings = &shared.settings;
    let mut registry = shared.registry();
    let change = registry.change_to(read, |definition| {
        Transformer::compile(definition, settings.values, settings.limits)
    });
    let Change { added, exchanged, removed, kept, mut problems } = change;
    let gone: Vec<Live> = registry.take(&removed);
    let changed = exchanged.len();
    for (slot, transformer) in exchanged {
        slot.exchange(transformer);
    }
    // One whose source is another now is neither new nor gone.
    let moved = added.iter().filter(|(key, _)| removed.contains(key)).count();
    let new = added.len() - moved;
    for (key, transformer) in added {
        match live(shared, ctx, key, transformer) {
            Ok(live) => registry.live.push(live),
            Err(problem) => problems.push(problem),
        }
    }
    // The new ones are there before the old ones go.
    unsubscribe(ctx, gone);
    // A trial finds what the plugin itself will tell.
    if !ctx.is_trial() {
        for problem in &problems {
            tracing::error!("{}", problem.line());
        }
        tracing::info!(
            "transformers read: {new} new, {} changed, {} gone, {kept} as before",
            changed + moved,
            removed.len() - moved
        );
    }
    let shown = problems.iter().map(shown::problem).collect();
    registry.problems = problems;
    Ok(Reloaded {
        added: new,
        changed: changed + moved,
        removed: removed.len() - moved,
        kept,
        problems: shown,
    })
}

/// A transformer that an event brought, as a snapshot has it.
#[payload]
pub(crate) struct Kept {
    number: usize,
    transformer: Value,
}

/// Those that events have brought.
pub(crate) fn kept(shared: &Shared) -> Vec<Kept> {
    let registry = shared.registry();
    let kept = registry.registered().map(|live| Kept {
        number: live.key.number,
        transformer: live.slot.current().written.clone(),
    });
    kept.collect()
}

/// Has those live again.
pub(crate) fn restore(shared: &Arc<Shared>, ctx: &Context, kept: Vec<Kept>) -> Result<()> {
    for Kept { number, transformer } in kept {
        let (name, transformer) = compiled(shared, transformer)?;
        let key = Key { file: String::new(), name, number };
        let live = live(shared, ctx, key, transformer).map_err(|it| invalid(&it.problem))?;
        shared.registry().live.push(live);
    }
    Ok(())
}

/// Has one live that an event brought. One with a name takes the place of the one of that name.
pub(crate) fn register(shared: &Arc<Shared>, ctx: &Context, written: Value) -> Result<Registered> {
    let (name, transformer) = compiled(shared, written)?;
    let registered = Registered {
        status: "registered".to_owned(),
        name: transformer.name.clone(),
        source: transformer.source.clone(),
        target: transformer.target.clone(),
    };
    let mut registry = shared.registry();
    if registry.registered().any(|live| live.slot.current().written == transformer.written) {
        return Ok(registered);
    }
    let has_name = transformer.written.get("name").is_some();
    let of_name = registry.registered().filter(|live| live.key.name == name);
    let before = of_name.max_by_key(|live| live.key.number);
    let before = before.map(|live| (live.key.clone(), live.slot.clone()));
    let (key, old) = match before {
        Some((_, slot)) if has_name && transformer.hears_like(&slot.current()) => {
            slot.exchange(transformer);
            return Ok(registered);
        }
        Some((key, _)) if has_name => (key.clone(), Some(key)),
        before => {
            let number = before.map_or(0, |(key, _)| key.number + 1);
            (Key { file: String::new(), name, number }, None)
        }
    };
    let count = registry.registered().count();
    if count >= MAX_REGISTERED && old.is_none() {
        let message = format!("{count} transformers are registered, and no more are allowed");
        return Err(Error::new("too_many_transformers", message));
    }
    let live = live(shared, ctx, key, transformer).map_err(|it| invalid(&it.problem))?;
    let old = old.map(|key| registry.take(&[key])).unwrap_or_default();
    registry.live.push(live);
    unsubscribe(ctx, old);
    Ok(registered)
}

/// What an event brings, compiled, and by what it is known.
fn compiled(shared: &Shared, written: Value) -> Result<(String, Transformer)> {
    if written.to_string().len() > MAX_REGISTERED_BYTES {
        let message = format!("a transformer may have {MAX_REGISTERED_BYTES} bytes as JSON");
        return Err(invalid(&Problem::new(0, "", message)));
    }
    let settings = &shared.settings;
    let Found { identity, definition } = Found::at(&Node::from(written));
    let compiled = definition
        .and_then(|definition| Transformer::compile(definition, settings.values, settings.limits));
    compiled.map(|transformer| (identity, transformer)).map_err(|problem| invalid(&problem))
}

fn invalid(problem: &Problem) -> Error {
    let Problem { name, message, .. } = problem;
    let message = match name.as_str() {
        "" => message.clone(),
        name => format!("transformer {name:?}: {message}"),
    };
    Error::new("invalid_transformer", message)
}

/// Removes what is of this source.
pub(crate) fn unregister(shared: &Shared, ctx: &Context, source: String) -> Unregistered {
    let removed = shared.registry().take_source(&source);
    let count = removed.len();
    unsubscribe(ctx, removed);
    Unregistered { status: "unregistered".to_owned(), source, count }
}

/// Goes on awaiting what the instance before this one awaited, of transformers that are still here.
pub(crate) fn restore_pending(shared: &Shared, saved: Vec<Begun>) {
    let registry = shared.registry();
    let now = SystemTime::now();
    for begun in saved {
        if registry.by_key(&begun.transformer).is_some() {
            shared.pending().begin(begun, shared.settings.max_pending, now);
        }
    }
}

/// Subscribes a transformer: to its source, and to where its answers come from.
fn live(
    shared: &Arc<Shared>,
    ctx: &Context,
    key: Key,
    transformer: Transformer,
) -> Result<Live, FileProblem> {
    let (source, line) = (transformer.source.clone(), transformer.line);
    let from = transformer.route.as_ref().map(|route| route.from.clone());
    let slot = Slot::new(key.clone(), transformer);
    let mut subscriptions: Vec<SubscriptionId> = Vec::new();
    let subscribed = {
        let (shared, slot) = (shared.clone(), slot.clone());
        ctx.subscribe(&source, move |ctx: Context, data: Value| {
            apply::transform(shared.clone(), slot.clone(), ctx, data)
        })
    };
    let answers = from.map(|from| {
        let (shared, slot) = (shared.clone(), slot.clone());
        ctx.subscribe(&from, move |ctx: Context, data: Value| {
            apply::answer(shared.clone(), slot.clone(), ctx, data)
        })
    });
    for subscribed in std::iter::once(subscribed).chain(answers) {
        match subscribed {
            Ok(subscription) => subscriptions.push(subscription),
            Err(error) => {
                for subscription in subscriptions {
                    ctx.unsubscribe(subscription);
                }
                let problem = Problem::new(line, &key.name, error.message());
                return Err(FileProblem { file: key.file, problem });
            }
        }
    }
    Ok(Live { key, slot, subscriptions })
}

fn unsubscribe(ctx: &Context, gone: Vec<Live>) {
    for subscription in gone.into_iter().flat_map(|live| live.subscriptions) {
        ctx.unsubscribe(subscription);
    }
}
