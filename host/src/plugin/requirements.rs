//! What a plugin needs others for: the events that somebody has to handle before it starts.

use ksi_plugin_api::Pattern;

use super::manifest::Manifest;
use crate::router::table::RoutingTable;

/// The events that a plugin requires and that neither somebody else nor itself handles.
pub(crate) fn missing(manifest: &Manifest, table: &RoutingTable) -> Vec<String> {
    let handled = |event: &str| declares(manifest, event) || is_handled(event, table);
    manifest.requires.iter().filter(|event| !handled(event)).cloned().collect()
}

/// Whether somebody handles an event, and not just everything.
pub(crate) fn is_handled(event: &str, table: &RoutingTable) -> bool {
    table.routes().any(|route| names_something(&route.pattern) && route.pattern.matches(event))
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
fn names_something(pattern: &Pattern) -> bool {
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
