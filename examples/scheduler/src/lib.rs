//! Emits events at a time, or again and again. What is planned is kept over a replacement of the
//! plugin and over a restart of the host.
//!
//! A task waits for what comes next and changes nothing itself: it has the plugin handle `Due`.
//! While the plugin is replaced that event waits like any other, and the next version gets it, with
//! the plan. So nothing is emitted twice or forgotten on the way. If the host dies, what was
//! planned or emitted since the last snapshot is not known to the next one.

mod plan;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ksi_plugin_api::{prelude::*, validate_event_name};
use tokio::sync::Notify;

use crate::plan::{Clock, Entry, Plan};

/// How long something is put off that the host does not take now.
const PAUSE: Duration = Duration::from_millis(100);

/// `[plugin.scheduler]` in the host's configuration.
#[payload]
#[serde(default, deny_unknown_fields)]
struct Config {
    max_entries: usize,
    /// Of one entry, as JSON.
    max_data_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_entries: 1_000, max_data_bytes: 65_536 }
    }
}

/// Plans an event for one time, in place of what has the same `id`.
#[event("schedule:at")]
struct At {
    id: String,
    event: String,
    #[serde(default)]
    data: Value,
    #[serde(flatten)]
    when: When,
}

/// One of the two.
#[payload]
#[serde(rename_all = "snake_case")]
enum When {
    /// In milliseconds since the Unix epoch. A time that is over is now.
    AtMs(u64),
    /// In milliseconds from now on.
    InMs(u64),
}

/// Plans an event for every so many milliseconds, first after one of them, in place of what has the
/// same `id`. Times that nobody was there for are left out, but for one.
#[event("schedule:every")]
struct Every {
    id: String,
    event: String,
    #[serde(default)]
    data: Value,
    /// At least 10.
    every_ms: u64,
}

/// Takes something off the plan. Tells whether it was there.
#[event("schedule:cancel")]
struct Cancel {
    id: String,
}

/// Asks for all that is planned.
#[event("schedule:list")]
struct List {}

/// Something of the plan is due. The plugin emits it for itself.
#[event("schedule:due")]
struct Due {}

/// What is shared with the task that waits.
struct Shared {
    clock: Clock,
    plan: Mutex<Plan>,
    changed: Notify,
}

struct Scheduler {
    config: Config,
    shared: Arc<Shared>,
}

#[plugin(emits(Due))]
impl Scheduler {
    #[initialize]
    async fn initialize(ctx: &Context, config: Config) -> Result<Self> {
        let (clock, plan) = (Clock::started_at(ctx.now()), Mutex::default());
        let shared = Arc::new(Shared { clock, plan, changed: Notify::new() });
        // With the context of `initialize`: what is emitted with that of a call belongs to that
        // call's chain of events, which may be so long and no longer.
        ctx.spawn(wait(ctx.clone(), shared.clone()))?;
        Ok(Scheduler { config, shared })
    }

    /// Plans an event for one time.
    #[event_handler]
    async fn at(&self, ctx: &Context, at: At) -> Result<Entry> {
        let due_ms = match at.when {
            When::AtMs(time) => time,
            When::InMs(wait) => self.now_ms(ctx).saturating_add(wait),
        };
        self.add(at.id, Entry { due_ms, every_ms: None, event: at.event, data: at.data })
    }

    /// Plans an event for again and again.
    #[event_handler]
    async fn every(&self, ctx: &Context, every: Every) -> Result<Entry> {
        if every.every_ms < 10 {
            return Err(Error::new("too_often", "`every_ms` is at least 10"));
        }
        let due_ms = self.now_ms(ctx).saturating_add(every.every_ms);
        let every_ms = Some(every.every_ms);
        self.add(every.id, Entry { due_ms, every_ms, event: every.event, data: every.data })
    }

    /// Takes something off the plan.
    #[event_handler]
    async fn cancel(&self, _: &Context, cancel: Cancel) -> Result<bool> {
        Ok(self.shared.plan(|plan| plan.entries.remove(&cancel.id)).is_some())
    }

    /// What is planned.
    #[event_handler]
    async fn list(&self, _: &Context, _: List) -> Result<Plan> {
        Ok(self.shared.plan(|plan| plan.clone()))
    }

    /// Emits what is due.
    #[event_handler]
    async fn due(&self, ctx: &Context, _: Due) -> Result<()> {
        let now = self.now_ms(ctx);
        for (id, entry) in self.shared.plan(|plan| plan.take_due(now)) {
            // Nobody is waited for: the handlers of one do not hold up the next.
            if let Err(error) = ctx.send(named(&entry.event, &entry.data)) {
                tracing::warn!("{} of {id} is put off: {error}", entry.event);
                let due_ms = now + PAUSE.as_millis() as u64;
                self.shared.plan(|plan| plan.put_off(id, Entry { due_ms, ..entry }));
            }
        }
        Ok(())
    }

    #[snapshot]
    async fn snapshot(&self, _: &Context) -> Result<Plan> {
        Ok(self.shared.plan(|plan| plan.clone()))
    }

    #[restore]
    async fn restore(&self, _: &Context, saved: Plan) -> Result<()> {
        self.shared.plan(|plan| *plan = saved);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Scheduler {
    fn add(&self, id: String, entry: Entry) -> Result<Entry> {
        validate_event_name(&entry.event)?;
        let (size, most) = (entry.data.to_string().len(), self.config.max_data_bytes);
        if size > most || id.len() > 256 {
            let text = format!("`data` has at most {most} bytes, and `id` 256");
            return Err(Error::new("too_large", text));
        }
        self.shared.plan(|plan| {
            let known = plan.entries.contains_key(&id);
            if !known && plan.entries.len() >= self.config.max_entries {
                let text = format!("{} are planned, which is `max_entries`", plan.entries.len());
                return Err(Error::new("too_many", text));
            }
            plan.entries.insert(id, entry.clone());
            Ok(())
        })?;
        self.shared.changed.notify_one();
        Ok(entry)
    }

    fn now_ms(&self, ctx: &Context) -> u64 {
        self.shared.clock.now_ms(ctx.now())
    }
}

impl Shared {
    /// No `await` while it is locked. After a panic in another call it is as good as before.
    fn plan<T>(&self, of: impl FnOnce(&mut Plan) -> T) -> T {
        of(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says when something is due, for as long as the plugin lives.
async fn wait(ctx: Context, shared: Arc<Shared>) {
    loop {
        let Some(next) = shared.plan(|plan| plan.next_ms()) else {
            shared.changed.notified().await;
            continue;
        };
        let wait = Duration::from_millis(next.saturating_sub(shared.clock.now_ms(ctx.now())));
        if !wait.is_zero() {
            // Until then, or until the plan is another one.
            let _ = ctx.timeout(wait, shared.changed.notified()).await;
            continue;
        }
        // Nobody handles it while this generation is not live yet, and the next one does when it
        // has taken over: then it is still due here.
        let taken = ctx.emit(Due {}).await.is_ok();
        if !taken || shared.plan(|plan| plan.next_ms()) == Some(next) {
            ctx.sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests;
