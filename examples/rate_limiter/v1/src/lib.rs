//! Says whether somebody may do something once more: so many times in each window of time.
//!
//! This is version 1. Version 2, in the folder beside this one, takes its place and its state while
//! it runs. In a repository of your own the two are one crate at two times.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ksi_plugin_api::prelude::*;

/// A longer key is refused.
const LONGEST_KEY: usize = 256;

/// `[plugin.rate_limiter]` in the host's configuration.
#[payload]
#[serde(default)]
struct Config {
    /// So many in each window.
    limit: u32,
    window_seconds: u64,
    /// So many keys are remembered; further ones are refused.
    max_keys: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { limit: 10, window_seconds: 60, max_keys: 10_000 }
    }
}

/// Asks whether `key` may do something that counts as `cost`, and counts it if so.
#[event("limit:take")]
struct Take {
    key: String,
    #[serde(default = "one")]
    cost: u32,
}

fn one() -> u32 {
    1
}

/// The reply to [`Take`].
#[payload]
struct Decision {
    allowed: bool,
    /// What may be taken at once after this.
    remaining: u32,
    /// When as much may be there, if it was not now.
    retry_after_ms: u64,
}

/// Somebody was told to wait.
#[event("limit:exceeded")]
struct Exceeded {
    key: String,
    retry_after_ms: u64,
}

/// What a snapshot holds. The clock of a host begins anew with it, so times are ages.
#[payload]
struct Saved {
    windows: BTreeMap<String, SavedWindow>,
}

#[payload]
struct SavedWindow {
    age_ms: u64,
    used: u32,
}

struct Window {
    began: Duration,
    used: u32,
}

/// The plugin.
pub struct RateLimiter {
    config: Config,
    windows: Mutex<BTreeMap<String, Window>>,
}

#[plugin(name = "rate_limiter", emits(Exceeded))]
impl RateLimiter {
    #[initialize]
    async fn initialize(_: &Context, config: Config) -> Result<Self> {
        Ok(RateLimiter { config, windows: Mutex::default() })
    }

    /// Whether somebody may do something once more.
    #[event_handler]
    async fn take(&self, ctx: &Context, take: Take) -> Result<Decision> {
        let decision = self.decide(ctx.now(), &take)?;
        if !decision.allowed {
            let exceeded = Exceeded { key: take.key, retry_after_ms: decision.retry_after_ms };
            // Whoever listens is not waited for.
            ctx.send(exceeded)?;
        }
        Ok(decision)
    }

    #[snapshot(version = 1)]
    async fn snapshot(&self, ctx: &Context) -> Result<Saved> {
        let now = ctx.now();
        let windows = self.windows(|windows| {
            let saved = windows.iter().map(|(key, window)| {
                let age = now.saturating_sub(window.began);
                (key.clone(), SavedWindow { age_ms: millis(age), used: window.used })
            });
            saved.collect()
        });
        Ok(Saved { windows })
    }

    #[restore(version = 1)]
    async fn restore(&self, ctx: &Context, saved: Saved) -> Result<()> {
        let now = ctx.now();
        let restored = saved.windows.into_iter().filter_map(|(key, saved)| {
            // A window that began before this host did is left out if it is over, and else as old
            // as the host.
            let age = Duration::from_millis(saved.age_ms);
            let began = now.saturating_sub(age);
            (age < self.window()).then_some((key, Window { began, used: saved.used }))
        });
        self.windows(|windows| *windows = restored.collect());
        Ok(())
    }
}

impl RateLimiter {
    fn decide(&self, now: Duration, take: &Take) -> Result<Decision> {
        if take.key.len() > LONGEST_KEY {
            let text = format!("a key has at most {LONGEST_KEY} bytes");
            return Err(Error::new("key_too_long", text));
        }
        let (limit, length) = (self.config.limit, self.window());
        self.windows(|windows| {
            if windows.len() >= self.config.max_keys && !windows.contains_key(&take.key) {
                windows.retain(|_, window| now.saturating_sub(window.began) < length);
                if windows.len() >= self.config.max_keys {
                    let text = format!("{} keys are in use, which is `max_keys`", windows.len());
                    return Err(Error::new("too_many_keys", text));
                }
            }
            let fresh = Window { began: now, used: 0 };
            let window = windows.entry(take.key.clone()).or_insert(fresh);
            if now.saturating_sub(window.began) >= length {
                *window = Window { began: now, used: 0 };
            }
            let used = window.used.saturating_add(take.cost);
            let allowed = used <= limit;
            if allowed {
                window.used = used;
            }
            let remaining = limit.saturating_sub(window.used);
            let retry_after_ms = match allowed {
                true => 0,
                false => millis((window.began + length).saturating_sub(now)),
            };
            Ok(Decision { allowed, remaining, retry_after_ms })
        })
    }

    fn window(&self) -> Duration {
        Duration::from_secs(self.config.window_seconds)
    }

    /// No `await` while it is locked. After a panic in another call it is as good as before.
    fn windows<T>(&self, of: impl FnOnce(&mut BTreeMap<String, Window>) -> T) -> T {
        of(&mut self.windows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ksi_harness::Harness;

    use super::*;

    fn two_a_minute() -> Harness {
        Harness::with_config::<RateLimiter>(json!({"limit": 2})).unwrap()
    }

    fn take(plugin: &Harness, key: &str) -> Decision {
        plugin.request(Take { key: key.to_owned(), cost: 1 }).unwrap()
    }

    #[test]
    fn beyond_the_limit_a_key_waits_for_the_next_window() {
        let plugin = two_a_minute();
        assert!(take(&plugin, "ada").allowed && take(&plugin, "ada").allowed);
        plugin.advance(Duration::from_secs(10));
        let refused = take(&plugin, "ada");
        assert_eq!((refused.allowed, refused.remaining), (false, 0));
        assert_eq!(refused.retry_after_ms, 50_000);
        assert_eq!(plugin.emitted_of("limit:exceeded")[0]["key"], "ada");
        assert!(take(&plugin, "grace").allowed, "each key has its own");
        plugin.advance(Duration::from_millis(refused.retry_after_ms));
        assert!(take(&plugin, "ada").allowed);
    }

    #[test]
    fn no_more_keys_are_remembered_than_may_be() {
        let plugin = Harness::with_config::<RateLimiter>(json!({"max_keys": 1})).unwrap();
        assert!(take(&plugin, "ada").allowed);
        let refused = plugin.request::<Decision>(Take { key: "grace".into(), cost: 1 });
        assert_eq!(refused.unwrap_err().code(), "too_many_keys");
        plugin.advance(Duration::from_secs(60));
        assert!(take(&plugin, "grace").allowed, "a window that is over takes no place");
    }

    #[test]
    fn what_was_used_is_used_in_the_next_generation_too() {
        let old = two_a_minute();
        old.advance(Duration::from_secs(5));
        take(&old, "ada");
        take(&old, "ada");
        let (version, saved) = old.snapshot().unwrap();
        let new = Harness::setup::<RateLimiter>().config(json!({"limit": 2}));
        let new = new.restore(version, saved).start().unwrap();
        assert!(!take(&new, "ada").allowed);
    }
}
