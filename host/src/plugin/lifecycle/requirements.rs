//! What a plugin needs others for: the events that somebody has to handle before it starts.

use std::sync::Arc;

use ksi_abi::Pattern;
use ksi_kernel::router::routes::Subscribers;

use crate::plugin::file::manifest::Manifest;

/// The events that a plugin requires and that neither somebody else nor itself handles, nor one of
/// those that go live with it.
pub(crate) fn missing(
    manifest: &Manifest,
    beside: &[&Manifest],
    subscribers: &Subscribers,
) -> Vec<String> {
    // What the generations before them handle goes with those.
    let stays =
        |plugin: &str| plugin != manifest.name && beside.iter().all(|beside| beside.name != plugin);
    let by_others = |event: &str| handlers(event, subscribers).any(|plugin| stays(plugin));
    let by_these = |event: &str| beside.iter().any(|it| declares(it, event));
    let handled = |event: &str| declares(manifest, event) || by_these(event) || by_others(event);
    manifest.requires.iter().filter(|event| !handled(event)).cloned().collect()
}

/// Whether somebody handles an event, and not just everything.
pub(crate) fn is_handled(event: &str, subscribers: &Subscribers) -> bool {
    handlers(event, subscribers).next().is_some()
}

/// The plugins that handle an event, and not just everything.
fn handlers<'a>(
    event: &'a str,
    subscribers: &'a Subscribers,
) -> impl Iterator<Item = &'a Arc<str>> {
    let named =
        subscribers.iter().filter(|it| names_something(it.pattern) && it.pattern.matches(event));
    named.map(|subscriber| &subscriber.handler.plugin)
}

/// Whether a plugin declares a handler of an event.
fn declares(manifest: &Manifest, event: &str) -> bool {
    let mut declared = manifest.handlers.iter().flat_map(|handler| &handler.subscriptions);
    declared.any(|text| {
        Pattern::parse(text)
            .is_ok_and(|pattern| names_something(&pattern) && pattern.matches(event))
    })
}

/// Somebody who listens to everything provides nothing.
pub(crate) fn names_something(pattern: &Pattern) -> bool {
    pattern.as_str().split(':').any(|segment| segment != "*" && segment != "**")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_names_nothing_provides_nothing() {
        for (text, names) in [("*", false), ("**", false), ("*:**", false), ("a:*", true)] {
            assert_eq!(names_something(&Pattern::parse(text).unwrap()), names, "{text}");
        }
    }
}
