//! What a version of the plugin tells the next one, so that clients that come back to that one go
//! on where they were.
//!
//! The next one begins to look before it asks what has passed: whatever passes while the plugin is
//! replaced is seen by one of the two, and what both have seen they know by the host's numbers.

use std::{sync::Arc, time::Duration};

use ksi_plugin_api::prelude::*;

use super::Channels;

/// The event by which a version is asked.
const PASSED: &str = "http:passed";

/// The version before answers soon, or is not there.
const SOON: Duration = Duration::from_secs(1);

/// Patterns that are looked at.
#[payload]
pub(crate) struct Passed {
    patterns: Vec<String>,
    /// The host's numbers of the last events that have passed.
    events: Vec<u64>,
}

impl Channels {
    /// All that is looked at, for the next version.
    pub(crate) fn passed(&self) -> Vec<Passed> {
        let open = self.open();
        let told = open.values().map(|channel| Passed {
            patterns: channel.patterns().to_vec(),
            events: channel.history(),
        });
        told.collect()
    }

    /// Looks at what the version before looks at, if there is one.
    pub(crate) async fn succeed(self: &Arc<Self>) {
        let Ok(before) = self.ask().await else { return };
        for Passed { patterns, .. } in before {
            // Where it cannot be looked at, clients are told that they have missed something.
            let _ = self.channel(&mut self.open(), patterns);
        }
        for Passed { patterns, events } in self.ask().await.unwrap_or_default() {
            if let Some(channel) = self.open().get(&patterns) {
                channel.follow(events);
            }
        }
    }

    async fn ask(&self) -> Result<Vec<Passed>> {
        let soon = self.ctx.with(EmitOptions::new().timeout(SOON));
        soon.request(named(PASSED, &json!({}))).await
    }
}
