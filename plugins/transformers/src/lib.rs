//! Routes events by rules in YAML files, in KSI's form: which event becomes which other one, on
//! which condition, and with what.
//!
//! ```yaml
//! transformers:
//!   - name: "order_paid"
//!     source: "order:changed"
//!     target: "mail:send"
//!     condition: "status == 'paid' and total > 0"
//!     mapping:
//!       to: "{{customer.email}}"
//!       subject: "Order {{id}} is paid"
//!       at: "{{timestamp_utc()}}"
//! ```
//!
//! | event | what |
//! |---|---|
//! | `transformer:list` | all that are live, with counts, and what is wrong in the files |
//! | `transformer:reload` | reads the files again |
//! | `router:register_transformer` | registers one: `{"transformer": {..}}` |
//! | `router:unregister_transformer` | removes those of a source: `{"source": ".."}` |
//! | `router:list_transformers` | the list in KSI's form |
//!
//! A transformer is a subscription: its source's emitter waits for it as for every handler, and it
//! gives no reply. Those with `async: true` are not waited for. What a replacement of the plugin
//! leaves behind is read from the files again, and handed over: transformers that were registered
//! by events, and answers that are awaited. docs/transformers.md has the whole of it, beside KSI.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ksi_plugin_api::prelude::*;

mod apply;
mod config;
mod definition;
mod events;
mod expression;
mod files;
mod pending;
mod python;
mod registry;
mod scope;
mod shown;
mod steer;
mod template;
#[cfg(test)]
mod tests;
mod transformer;
mod yaml;

use config::{Config, Settings};
use events::{
    List, ListForRouter, Listed, ListedForRouter, Register, Registered, Reload, Reloaded,
    TransformResult, Unregister, Unregistered,
};
use pending::{Begun, Pending};
use registry::Registry;

struct Transformers {
    shared: Arc<Shared>,
}

/// What the subscriptions share.
struct Shared {
    settings: Settings,
    registry: Mutex<Registry>,
    pending: Mutex<Pending>,
    ids: apply::Ids,
}

/// What no file says.
#[payload]
struct Saved {
    registered: Vec<steer::Kept>,
    pending: Vec<Begun>,
}

#[plugin(emits(TransformResult))]
impl Transformers {
    #[initialize]
    async fn initialize(ctx: &Context, config: Config) -> Result<Self> {
        let shared = Arc::new(Shared {
            settings: Settings::new(ctx, config)?,
            registry: Mutex::default(),
            pending: Mutex::default(),
            ids: apply::Ids::new(),
        });
        steer::reload(&shared, ctx)?;
        Ok(Transformers { shared })
    }

    /// Lists all transformers.
    #[event_handler]
    async fn list(&self, _: &Context, list: List) -> Result<Listed> {
        Ok(shown::listed(&self.shared.registry(), list.source.as_deref()))
    }

    /// Lists all transformers as KSI does.
    #[event_handler]
    async fn list_for_router(&self, _: &Context, _: ListForRouter) -> Result<ListedForRouter> {
        Ok(shown::listed_for_router(&self.shared.registry()))
    }

    /// Reads all files again. What is wrong in one leaves what was there before.
    #[event_handler(blocking)]
    async fn reload(&self, ctx: &Context, _: Reload) -> Result<Reloaded> {
        steer::reload(&self.shared, ctx)
    }

    /// Registers a transformer.
    #[event_handler]
    async fn register(&self, ctx: &Context, register: Register) -> Result<Registered> {
        steer::register(&self.shared, ctx, register.transformer)
    }

    /// Removes the transformers of a source.
    #[event_handler]
    async fn unregister(&self, ctx: &Context, unregister: Unregister) -> Result<Unregistered> {
        Ok(steer::unregister(&self.shared, ctx, unregister.source))
    }

    #[snapshot]
    async fn snapshot(&self, _: &Context) -> Result<Saved> {
        let registered = steer::kept(&self.shared);
        Ok(Saved { registered, pending: self.shared.pending().all() })
    }

    #[restore]
    async fn restore(&self, ctx: &Context, saved: Saved) -> Result<()> {
        steer::restore(&self.shared, ctx, saved.registered)?;
        steer::restore_pending(&self.shared, saved.pending);
        Ok(())
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
