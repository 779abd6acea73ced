//! The smallest plugin: it greets, and says that it did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ksi_plugin_api::prelude::*;

/// Ask for a greeting.
#[event("greet:request")]
struct Greet {
    /// Whom to greet.
    name: String,
}

#[event("greet:done")]
struct Greeted {
    text: String,
    count: u64,
}

#[derive(Default)]
struct Greeter {
    count: AtomicU64,
}

#[plugin(emits(Greeted))]
impl Greeter {
    /// Greets by name, and counts.
    #[event_handler]
    async fn greet(&self, ctx: &Context, greet: Greet) -> Result<Greeted> {
        let count = self.count.fetch_add(1, Relaxed) + 1;
        let done = Greeted { text: format!("Hello, {}!", greet.name), count };
        ctx.emit(&done).await;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use ksi_harness::Harness;

    use super::*;

    #[test]
    fn it_greets_counts_and_says_so() {
        let plugin = Harness::start::<Greeter>();
        plugin.emit("greet:request", json!({"name": "Ada"}));
        let report = plugin.emit("greet:request", json!({"name": "Grace"}));

        let second = json!({"text": "Hello, Grace!", "count": 2});
        assert_eq!(report.results()[0], second);
        assert_eq!(plugin.emitted_of("greet:done")[1], second);
    }

    #[test]
    fn a_greeting_needs_a_name() {
        let plugin = Harness::start::<Greeter>();
        assert!(!plugin.emit("greet:request", json!({})).is_ok());
        assert!(plugin.emitted().is_empty());
    }
}
