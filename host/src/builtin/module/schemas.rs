//! Who emits, handles and requires which event, with what its types say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ksi_abi::{HandlerDescription, Pattern};
use ksi_kernel::router::host_handler::Failure;
use ksi_kernel::router::routes::Subscriber;
use ksi_wire::module::{AskSchemas, Emitted, EventSchemas, Handled, Required, Schemas};
use serde_json::Value;

use crate::{
    core::Core,
    plugin::{
        instance::info::GenerationInfo, lifecycle::requirements::names_something,
        supervisor::registry::Registry,
    },
};

/// The owner of the host's own handlers.
const HOST: &str = "host";

pub(super) async fn schemas(core: Arc<Core>, ask: AskSchemas) -> Result<Schemas, Failure> {
    let subscribers = core.router.subscribers();
    let registry = core.supervisor.registry();
    let said = Said::of(&registry, subscribers.iter());
    let events = match ask.event {
        None => {
            said.names().into_iter().map(|event| (event.to_owned(), said.of_event(event))).collect()
        }
        Some(event) => {
            let of = said.of_event(&event);
            match of == EventSchemas::default() {
                true => BTreeMap::new(),
                false => BTreeMap::from([(event, of)]),
            }
        }
    };
    Ok(Schemas { events })
}

/// All that is said, so that an event is found without a look at every subscription.
struct Said<'a> {
    live: Vec<&'a GenerationInfo>,
    emits: BTreeMap<&'a str, Vec<Emitted>>,
    requires: BTreeMap<&'a str, Vec<Required>>,
    /// By name or pattern, as it is written.
    handles: BTreeMap<&'a str, Vec<Handled>>,
    patterns: Vec<&'a Pattern>,
}

impl<'a> Said<'a> {
    fn of(registry: &'a Registry, subscribers: impl Iterator<Item = Subscriber<'a>>) -> Self {
        let live = registry.plugins.values().filter(|plugin| plugin.live.is_some());
        let mut said = Said {
            live: live.map(|plugin| &*plugin.info).collect(),
            emits: BTreeMap::new(),
            requires: BTreeMap::new(),
            handles: BTreeMap::new(),
            patterns: Vec::new(),
        };
        for info in said.live.clone() {
            said.declared(info);
        }
        for subscriber in subscribers.filter(|it| names_something(it.pattern)) {
            let handled = said.handled(&subscriber);
            let pattern = subscriber.pattern;
            let known = said.handles.entry(pattern.as_str()).or_default();
            if known.is_empty() && !pattern.is_exact() {
                said.patterns.push(pattern);
            }
            known.push(handled);
        }
        said
    }

    fn declared(&mut self, info: &'a GenerationInfo) {
        let (module, version) = (&info.manifest.name, &info.manifest.version);
        for event in &info.manifest.emits {
            let known = info.description.emits.iter().find(|known| known.event == *event);
            self.emits.entry(event).or_default().push(Emitted {
                module: module.clone(),
                payload_schema: known.and_then(|known| given(&known.schema)),
                version: Some(version.clone()),
            });
        }
        for event in &info.manifest.requires {
            let known = info.description.requires.iter().find(|known| known.event == *event);
            self.requires.entry(event).or_default().push(Required {
                module: module.clone(),
                reply_schema: known.and_then(|known| given(&known.reply)),
                version: Some(version.clone()),
            });
        }
    }

    fn handled(&self, subscriber: &Subscriber<'_>) -> Handled {
        let (module, handler) = (subscriber.handler.owner(), &*subscriber.handler.handler);
        let info = self.live.iter().find(|info| info.manifest.name == module);
        let description = info.and_then(|info| description_of(info, handler));
        Handled {
            handler: handler.to_owned(),
            module: module.to_owned(),
            payload_schema: description.and_then(|known| given(&known.payload)),
            reply_schema: description.and_then(|known| given(&known.reply)),
            subscription: subscriber.pattern.to_string(),
            summary: description.map(|known| known.summary.clone()),
            version: info.map(|info| info.manifest.version.clone()),
        }
    }

    /// The events and patterns that plugins speak of.
    fn names(&self) -> BTreeSet<&'a str> {
        let handled = self.handles.iter().filter(|(_, by)| by.iter().any(|it| it.module != HOST));
        let handled = handled.map(|(&name, _)| name);
        let declared = self.emits.keys().chain(self.requires.keys()).copied();
        handled.chain(declared).collect()
    }

    fn of_event(&self, event: &str) -> EventSchemas {
        let patterns = self.patterns.iter().map(|pattern| (pattern.as_str(), *pattern));
        let matching = patterns.filter(|(text, it)| *text != event && it.matches(event));
        let names = [event].into_iter().chain(matching.map(|(text, _)| text));
        let handles = names.filter_map(|name| self.handles.get(name)).flatten();
        let mut handles: Vec<Handled> = handles.cloned().collect();
        handles.sort_by(|a, b| (&a.module, &a.handler).cmp(&(&b.module, &b.handler)));
        EventSchemas {
            emits: self.emits.get(event).cloned().unwrap_or_default(),
            handles,
            requires: self.requires.get(event).cloned().unwrap_or_default(),
        }
    }
}

/// What is said of a handler that its plugin declares.
fn description_of<'a>(info: &'a GenerationInfo, handler: &str) -> Option<&'a HandlerDescription> {
    let at = info.manifest.handlers.iter().position(|declared| declared.name == handler)?;
    info.description.handlers.get(at)
}

fn given(schema: &Value) -> Option<Value> {
    (!schema.is_null()).then(|| schema.clone())
}
