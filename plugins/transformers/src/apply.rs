//! What happens when an event comes that a transformer takes.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use ksi_plugin_api::{EventInfo, prelude::*};
use serde_json::Map;

use crate::{
    Shared,
    events::TransformResult,
    pending::{Begun, deadline},
    registry::Slot,
    transformer::{Origin, Transformer},
};

/// Names for what is begun, that no other instance gives.
pub(crate) struct Ids {
    instance: u64,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        // The standard library's own source of chance.
        let instance = RandomState::new().build_hasher().finish();
        Ids { instance, next: AtomicU64::new(0) }
    }

    fn next(&self) -> String {
        format!("transform-{:016x}-{}", self.instance, self.next.fetch_add(1, Relaxed))
    }
}

/// Takes an event of a transformer's source.
pub(crate) async fn transform(
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    ctx: Context,
    data: Value,
) -> Result<()> {
    let transformer = slot.current();
    slot.counts.events.fetch_add(1, Relaxed);
    let result = transform_by(&shared, &slot, &transformer, &ctx, &data).await;
    result.inspect_err(|error| slot.counts.fail(error.message()))
}

async fn transform_by(
    shared: &Shared,
    slot: &Slot,
    transformer: &Transformer,
    ctx: &Context,
    data: &Value,
) -> Result<()> {
    let failed = |reason: &dyn std::fmt::Display| {
        Error::new("transform_failed", format_args!("transformer {:?}: {reason}", transformer.name))
    };
    let Some(event) = ctx.event() else { return Ok(()) };
    let (name, context) = (event.name(), context_of(&event));
    let id = transformer.is_async.then(|| shared.ids.next());
    let origin = Origin { event: name, context: &context, transform_id: id.as_deref() };
    let made = transformer.make(data, &origin).map_err(|reason| failed(&reason))?;
    let Some(made) = made else {
        slot.counts.skipped.fetch_add(1, Relaxed);
        return Ok(());
    };
    let awaited = transformer.route.is_some();
    if let (true, Some(id)) = (awaited, &id) {
        // Before it is sent: the answer may be there before the sending returns.
        begin(shared, slot, id.clone(), name);
    }
    let mut sent = false;
    let mut failure = made.failure;
    for payload in &made.payloads {
        let target = named(&transformer.target, payload);
        let refused = if transformer.is_async {
            ctx.send(target).err().map(|error| error.message().to_owned())
        } else {
            refusal(&ctx.emit(target).await)
        };
        match refused {
            None => {
                slot.counts.emitted.fetch_add(1, Relaxed);
                sent = true;
            }
            Some(reason) => drop(failure.get_or_insert(reason)),
        }
    }
    if let (true, false, Some(id)) = (awaited, sent, &id) {
        shared.pending().end(id);
    }
    failure.map_or(Ok(()), |reason| Err(failed(&reason)))
}

/// Takes an event that may be the answer to what a transformer has begun, by the subscription to
/// where its answers come `from`.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    from: String,
    ctx: Context,
    data: Value,
) -> Result<()> {
    let transformer = slot.current();
    let (Some(event), Some(route)) = (ctx.event(), &transformer.route) else { return Ok(()) };
    // It is being exchanged, and they come from elsewhere before it or after it.
    if route.from != from {
        return Ok(());
    }
    let id = ["transform_id", "request_id"].iter().find_map(|&key| data.get(key)?.as_str());
    let now = SystemTime::now();
    let Some(begun) = id.and_then(|id| shared.pending().of(id, &slot.key, now)) else {
        return Ok(());
    };
    let context = context_of(&event);
    let origin = Origin { event: event.name(), context: &context, transform_id: Some(&begun.id) };
    let failed = |reason: &dyn std::fmt::Display| {
        slot.counts.fail(&reason.to_string());
        let message = format_args!("transformer {:?}, response_route: {reason}", transformer.name);
        Error::new("transform_failed", message)
    };
    if !route.takes(&data, &origin).map_err(|reason| failed(&reason))? {
        return Ok(());
    }
    if !shared.pending().end(&begun.id) {
        return Ok(());
    }
    if let Some(reason) = refusal(&ctx.emit(named(&route.to, &data)).await) {
        return Err(failed(&reason));
    }
    slot.counts.emitted.fetch_add(1, Relaxed);
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let result = TransformResult {
        transform_id: begun.id,
        source_event: begun.source_event,
        target_event: route.to.clone(),
        result: data,
        timestamp: since.as_secs_f64(),
    };
    ctx.emit(&result).await;
    Ok(())
}

fn begin(shared: &Shared, slot: &Slot, id: String, source_event: &str) {
    let now = SystemTime::now();
    let begun = Begun {
        id,
        transformer: slot.key.clone(),
        source_event: source_event.to_owned(),
        until: deadline(now, shared.settings.response_timeout),
    };
    if let Some(oldest) = shared.pending().begin(begun, shared.settings.max_pending, now) {
        tracing::warn!(
            "too many answers are awaited (max_pending): that of transformer {:?} to {} is no longer",
            oldest.transformer.name,
            oldest.id
        );
    }
}

/// Why an event was not accepted, if it was not. What its handlers made of it is theirs.
fn refusal(report: &Report) -> Option<String> {
    report.refusal()?;
    report.outcomes().into_iter().find_map(|outcome| match outcome.result {
        OutcomeKind::Rejected { reason } => Some(reason),
        _ => None,
    })
}

/// `_ksi_context`, as KSI's transformers have it.
fn context_of(event: &EventInfo<'_>) -> Map<String, Value> {
    let mut context = Map::new();
    let mut put = |name: &str, value: Value| drop(context.insert(name.to_owned(), value));
    put("event", event.name().into());
    put("_event_depth", event.depth().into());
    put("_timestamp", event.timestamp().as_secs_f64().into());
    // A client of KSI's may have numbers of its own.
    let known = |name: &str| event.attribute(name).map(Value::from);
    let number = |id: u64| Value::from(id.to_string());
    put("_event_id", known("_event_id").unwrap_or_else(|| number(event.id())));
    put("_root_event_id", known("_root_event_id").unwrap_or_else(|| number(event.root())));
    let parent = known("_parent_event_id").or_else(|| event.parent().map(number));
    for (name, value) in [
        ("_parent_event_id", parent),
        ("_correlation_id", known("_correlation_id")),
        ("_client_id", known("_client_id")),
        ("_agent_id", Some(known("_agent_id").unwrap_or_else(|| "system".into()))),
    ] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    context
}
