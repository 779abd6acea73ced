//! Transformers come and go: from files, and by events.

use std::{mem, sync::Arc, time::SystemTime};

use ksi_plugin_api::{SubscriptionId, prelude::*};

use crate::{
    Shared, apply,
    definition::{Found, Problem},
    events::{Registered, Reloaded, Unregistered},
    files,
    pending::Begun,
    registry::{Change, FileProblem, Key, Live, Registry, Slot},
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
    let Change { added, exchanged, moved, removed, mut kept, mut problems } = change;
    let mut changed = exchanged.len();
    for (slot, transformer) in exchanged {
        slot.exchange(transformer);
    }
    for (key, transformer) in moved {
        match succeed(shared, ctx, &mut registry, key, transformer) {
            Ok(()) => changed += 1,
            Err(problem) => {
                kept += 1;
                problems.push(problem);
            }
        }
    }
    let before = registry.live.len();
    for (key, transformer) in added {
        match live(shared, ctx, key, transformer) {
            Ok(live) => registry.live.push(live),
            Err(problem) => problems.push(problem),
        }
    }
    let new = registry.live.len() - before;
    // The new ones are there before the old ones go.
    let gone = registry.take(&removed);
    unsubscribe(ctx, gone.iter().flat_map(Live::subscriptions));
    // A trial finds what the plugin itself will tell.
    if !ctx.is_trial() {
        for problem in &problems {
            tracing::error!("{}", problem.line());
        }
        tracing::info!(
            "transformers read: {new} new, {changed} changed, {} gone, {kept} as before",
            gone.len()
        );
    }
    let shown = problems.iter().map(shown::problem).collect();
    registry.problems = problems;
    Ok(Reloaded { added: new, changed, removed: gone.len(), kept, problems: shown })
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
    let key = match before {
        Some((_, slot)) if has_name && transformer.hears_like(&slot.current()) => {
            slot.exchange(transformer);
            return Ok(registered);
        }
        Some((key, _)) if has_name => {
            let succeeded = succeed(shared, ctx, &mut registry, key, transformer);
            return succeeded.map(|()| registered).map_err(|it| invalid(&it.problem));
        }
        before => {
            let number = before.map_or(0, |(key, _)| key.number + 1);
            Key { file: String::new(), name, number }
        }
    };
    let count = registry.registered().count();
    if count >= MAX_REGISTERED {
        let message = format!("{count} transformers are registered, and no more are allowed");
        return Err(Error::new("too_many_transformers", message));
    }
    let live = live(shared, ctx, key, transformer).map_err(|it| invalid(&it.problem))?;
    registry.live.push(live);
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
    unsubscribe(ctx, removed.iter().flat_map(Live::subscriptions));
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

/// Has a transformer take the place of the one of its key, whose events are others. If the host
/// does not let it, that one goes on.
fn succeed(
    shared: &Arc<Shared>,
    ctx: &Context,
    registry: &mut Registry,
    key: Key,
    transformer: Transformer,
) -> Result<(), FileProblem> {
    let Some(before) = registry.by_key_mut(&key) else {
        registry.live.push(live(shared, ctx, key, transformer)?);
        return Ok(());
    };
    let gone = if before.slot.current().source == transformer.source {
        // That subscription stays, so that no event is taken by both, or by neither.
        let answers = subscribe_answers(shared, ctx, &before.slot, &transformer)?;
        before.slot.exchange(transformer);
        mem::replace(&mut before.answers, answers).into_iter().collect()
    } else {
        let new = live(shared, ctx, key, transformer)?;
        let before = mem::replace(before, new);
        before.subscriptions().collect::<Vec<_>>()
    };
    unsubscribe(ctx, gone);
    Ok(())
}

/// Subscribes a transformer: to its source, and to where its answers come from.
fn live(
    shared: &Arc<Shared>,
    ctx: &Context,
    key: Key,
    transformer: Transformer,
) -> Result<Live, FileProblem> {
    let transformer = Arc::new(transformer);
    let slot = Slot::new(key.clone(), transformer.clone());
    let source = {
        let (shared, slot) = (shared.clone(), slot.clone());
        ctx.subscribe(&transformer.source, move |ctx: Context, data: Value| {
            apply::transform(shared.clone(), slot.clone(), ctx, data)
        })
    };
    let source = source.map_err(|error| refused(&slot, &transformer, &error))?;
    match subscribe_answers(shared, ctx, &slot, &transformer) {
        Ok(answers) => Ok(Live { key, slot, source, answers }),
        Err(problem) => {
            ctx.unsubscribe(source);
            Err(problem)
        }
    }
}

/// Subscribes to where the answers of a transformer come from, if any do.
fn subscribe_answers(
    shared: &Arc<Shared>,
    ctx: &Context,
    slot: &Arc<Slot>,
    transformer: &Transformer,
) -> Result<Option<SubscriptionId>, FileProblem> {
    let Some(route) = &transformer.route else { return Ok(None) };
    let (shared, of, from) = (shared.clone(), slot.clone(), route.from.clone());
    let subscribed = ctx.subscribe(&route.from, move |ctx: Context, data: Value| {
        apply::answer(shared.clone(), of.clone(), from.clone(), ctx, data)
    });
    subscribed.map(Some).map_err(|error| refused(slot, transformer, &error))
}

fn refused(slot: &Slot, transformer: &Transformer, error: &Error) -> FileProblem {
    let problem = Problem::new(transformer.line, &slot.key.name, error.message());
    FileProblem { file: slot.key.file.clone(), problem }
}

fn unsubscribe(ctx: &Context, gone: impl IntoIterator<Item = SubscriptionId>) {
    for subscription in gone {
        ctx.unsubscribe(subscription);
    }
}
