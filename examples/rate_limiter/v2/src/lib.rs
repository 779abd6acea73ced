//! Says whether somebody may do something once more. Version 2: what was taken comes back little by
//! little, and not all at once at the end of a window.
//!
//! Events and configuration are those of version 1, so nobody else has to change. The state is
//! another one: it is read in both forms and written in both, so that the plugin can be replaced
//! and gone back from without anybody getting more than their share.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ksi_plugin_api::prelude::*;

/// A longer key is refused.
const LONGEST_KEY: usize = 256;

/// `[plugin.rate_limiter]` in the host's configuration. What version 1 knows has its meaning.
#[payload]
#[serde(default)]
struct Config {
    /// So many come back in each window.
    limit: u32,
    window_seconds: u64,
    /// So many may be taken at once after a pause. Default: `limit`.
    burst: Option<u32>,
    /// So many keys are remembered; further ones are refused.
    max_keys: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { limit: 10, window_seconds: 60, burst: None, max_keys: 10_000 }
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

/// What a snapshot of version 2 holds: how much is there for whom, at the time of the snapshot.
/// Whoever has all that there can be is left out.
#[payload]
struct Saved {
    left: BTreeMap<String, f64>,
}

/// What one of version 1 holds.
#[payload]
struct SavedV1 {
    windows: BTreeMap<String, WindowV1>,
}

#[payload]
struct WindowV1 {
    age_ms: u64,
    used: u32,
}

/// What was there for somebody at a time of the host's clock.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Duration,
}

/// The plugin.
pub struct RateLimiter {
    config: Config,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

#[plugin(name = "rate_limiter", emits(Exceeded))]
impl RateLimiter {
    #[initialize]
    async fn initialize(_: &Context, config: Config) -> Result<Self> {
        if config.limit == 0 || config.window_seconds == 0 {
            let text = "`limit` and `window_seconds` must be more than 0";
            return Err(Error::new("invalid_config", text));
        }
        Ok(RateLimiter { config, buckets: Mutex::default() })
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

    #[snapshot(version = 2)]
    async fn snapshot(&self, ctx: &Context) -> Result<Saved> {
        Ok(Saved { left: self.left(ctx.now()).collect() })
    }

    #[restore(version = 2)]
    async fn restore(&self, ctx: &Context, saved: Saved) -> Result<()> {
        let at = ctx.now();
        let restored = saved.left.into_iter().map(|(key, left)| (key, Bucket { left, at }));
        self.buckets(|buckets| *buckets = restored.collect());
        Ok(())
    }

    /// For going back: what is missing now counts as used in a window that begins now.
    #[snapshot(version = 1)]
    async fn snapshot_v1(&self, ctx: &Context) -> Result<SavedV1> {
        let windows = self.left(ctx.now()).map(|(key, left)| {
            let used = (f64::from(self.config.limit) - left).ceil().max(0.0) as u32;
            (key, WindowV1 { age_ms: 0, used })
        });
        Ok(SavedV1 { windows: windows.collect() })
    }

    /// What was used in a window that is not over counts as used just now: nobody may take more
    /// than if it had been version 2 all the time. Before the end of that window it may be more
    /// than version 1 would have let them, because a part of it comes back until then.
    #[restore(version = 1)]
    async fn restore_v1(&self, ctx: &Context, saved: SavedV1) -> Result<()> {
        let of_window = |window: WindowV1| {
            let is_over = window.age_ms >= self.config.window_seconds.saturating_mul(1_000);
            let used = if is_over { 0 } else { window.used };
            f64::from(self.config.limit.saturating_sub(used))
        };
        let left = saved.windows.into_iter().map(|(key, window)| (key, of_window(window)));
        self.restore(ctx, Saved { left: left.collect() }).await
    }
}

impl RateLimiter {
    fn decide(&self, now: Duration, take: &Take) -> Result<Decision> {
        if take.key.len() > LONGEST_KEY {
            let text = format!("a key has at most {LONGEST_KEY} bytes");
            return Err(Error::new("key_too_long", text));
        }
        let cost = f64::from(take.cost);
        self.buckets(|buckets| {
            if buckets.len() >= self.config.max_keys && !buckets.contains_key(&take.key) {
                buckets.retain(|_, bucket| self.filled(*bucket, now) < self.most());
                if buckets.len() >= self.config.max_keys {
                    let text = format!("{} keys are in use, which is `max_keys`", buckets.len());
                    return Err(Error::new("too_many_keys", text));
                }
            }
            let full = Bucket { left: self.most(), at: now };
            let bucket = buckets.entry(take.key.clone()).or_insert(full);
            let left = self.filled(*bucket, now);
            let allowed = cost <= left;
            *bucket = Bucket { left: if allowed { left - cost } else { left }, at: now };
            let missing = (cost - left).max(0.0);
            let retry_after_ms = (missing / self.per_second() * 1_000.0).ceil() as u64;
            Ok(Decision { allowed, remaining: bucket.left as u32, retry_after_ms })
        })
    }

    /// Who has less than there can be, and how much.
    fn left(&self, now: Duration) -> impl Iterator<Item = (String, f64)> + use<> {
        let left: Vec<_> = self.buckets(|buckets| {
            let left = buckets.iter().map(|(key, bucket)| (key, self.filled(*bucket, now)));
            let used = left.filter(|(_, left)| *left < self.most());
            used.map(|(key, left)| (key.clone(), left)).collect()
        });
        left.into_iter()
    }

    /// What is there by now.
    fn filled(&self, bucket: Bucket, now: Duration) -> f64 {
        let seconds = now.saturating_sub(bucket.at).as_secs_f64();
        (bucket.left + seconds * self.per_second()).min(self.most())
    }

    fn per_second(&self) -> f64 {
        f64::from(self.config.limit) / self.config.window_seconds as f64
    }

    fn most(&self) -> f64 {
        f64::from(self.config.burst.unwrap_or(self.config.limit))
    }

    /// No `await` while it is locked. After a panic in another call it is as good as before.
    fn buckets<T>(&self, of: impl FnOnce(&mut BTreeMap<String, Bucket>) -> T) -> T {
        of(&mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use ksi_harness::Harness;
    use rate_limiter_v1::RateLimiter as Version1;

    use super::*;

    const TWO_A_MINUTE: &str = r#"{"limit": 2}"#;

    fn config() -> Value {
        TWO_A_MINUTE.parse().unwrap()
    }

    fn take(plugin: &Harness) -> Decision {
        plugin.request(Take { key: "ada".to_owned(), cost: 1 }).unwrap()
    }

    #[test]
    fn what_was_taken_comes_back_little_by_little() {
        let plugin = Harness::with_config::<RateLimiter>(config()).unwrap();
        assert!(take(&plugin).allowed && take(&plugin).allowed);
        let refused = take(&plugin);
        assert_eq!((refused.allowed, refused.retry_after_ms), (false, 30_000));
        assert_eq!(plugin.emitted_of("limit:exceeded")[0]["key"], "ada");
        plugin.advance(Duration::from_millis(refused.retry_after_ms));
        assert!(take(&plugin).allowed);
        assert!(!take(&plugin).allowed, "one has come back, and not two");
    }

    #[test]
    fn a_burst_is_what_may_be_taken_at_once() {
        let config = json!({"limit": 2, "burst": 3});
        let plugin = Harness::with_config::<RateLimiter>(config).unwrap();
        assert!((0..3).all(|_| take(&plugin).allowed) && !take(&plugin).allowed);
    }

    /// What a host does when version 2 takes the place of version 1.
    #[test]
    fn what_was_used_in_version_1_is_used_in_version_2() {
        let old = Harness::with_config::<Version1>(config()).unwrap();
        assert_eq!(old.emit("limit:take", json!({"key": "ada"})).results()[0]["remaining"], 1);
        let (version, saved) = old.snapshot().unwrap();
        assert_eq!(version, 1);
        let new = Harness::setup::<RateLimiter>().config(config());
        let new = new.restore(version, saved).start().unwrap();
        assert!(take(&new).allowed && !take(&new).allowed);
    }

    #[test]
    fn whoever_comes_from_version_1_gets_no_more_than_if_it_had_been_version_2_all_the_time() {
        let always = Harness::with_config::<RateLimiter>(config()).unwrap();
        let old = Harness::with_config::<Version1>(config()).unwrap();
        for plugin in [&always, &old] {
            let taken = plugin.emit("limit:take", json!({"key": "ada", "cost": 2}));
            assert_eq!(taken.results()[0]["allowed"], true);
            plugin.advance(Duration::from_secs(20));
        }
        let new = Harness::setup::<RateLimiter>().config(config()).state_of(&old).unwrap();
        let new = new.start().unwrap();
        let mut had = [0, 0];
        for _ in 0..90 {
            for (plugin, had) in [&always, &new].into_iter().zip(&mut had) {
                *had += u32::from(take(plugin).allowed);
                plugin.advance(Duration::from_secs(1));
            }
            assert!(had[1] <= had[0], "{had:?}");
        }
        assert_eq!(had, [3, 2]);
    }

    /// And when it is gone back from.
    #[test]
    fn what_was_used_in_version_2_is_used_in_version_1() {
        let new = Harness::with_config::<RateLimiter>(config()).unwrap();
        assert!(take(&new).allowed && take(&new).allowed);
        let saved = new.snapshot_of(1).unwrap();
        let old = Harness::setup::<Version1>().config(config());
        let old = old.restore(1, saved).start().unwrap();
        let decision = &old.emit("limit:take", json!({"key": "ada"})).results()[0];
        assert_eq!(decision["allowed"], false, "{decision}");
    }

    /// Snapshots of earlier versions lie on the disks of whoever runs the plugin. One that was
    /// written then, as it was written.
    #[test]
    fn a_snapshot_as_version_1_has_left_it_on_a_disk_is_read() {
        let saved = json!({"windows": {
            "ada": {"age_ms": 5_000, "used": 2},
            "grace": {"age_ms": 60_000, "used": 2},
        }});
        let plugin = Harness::setup::<RateLimiter>().config(config());
        let plugin = plugin.restore(1, saved).start().unwrap();
        assert!(!take(&plugin).allowed);
        let grace = plugin.request::<Decision>(Take { key: "grace".into(), cost: 2 }).unwrap();
        assert!(grace.allowed, "her window was over");
    }

    #[test]
    fn a_snapshot_of_version_2_is_restored_as_it_was() {
        let old = Harness::with_config::<RateLimiter>(config()).unwrap();
        assert!(take(&old).allowed && take(&old).allowed);
        old.advance(Duration::from_secs(45));
        let (version, saved) = old.snapshot().unwrap();
        let new = Harness::setup::<RateLimiter>().config(config());
        let new = new.restore(version, saved).start().unwrap();
        assert!(take(&new).allowed, "one and a half have come back");
        assert_eq!(take(&new).retry_after_ms, 15_000);
    }
}
