//! What events there are: who handles them, what they take, in the spelling of KSI's clients; and
//! which of the host's own change plugins, or the host.
//!
//! Knows what is written down of events, by hand or by plugins, and not who answers them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::plugin::supervisor::registry::Registry;

/// The host's own events that change plugins, or what is kept of them, or have files opened that
/// are none yet.
const CHANGES: &[&str] = &[
    "module:load",
    "module:check",
    "module:reload",
    "module:unload",
    "module:rollback",
    "module:state_restore",
    "module:state_drop",
    "config:reload",
];

/// The host's own events that end something else: the host, and the connections of its clients.
const ENDS: &[&str] = &["system:shutdown_request", "system:disconnect", "system:log"];

/// Whether this is an event of the host's own by which plugins are changed.
pub(crate) fn changes_plugins(event: &str) -> bool {
    CHANGES.contains(&event)
}

/// Whether this is an event of the host's own that changes what runs in it, what is kept, or who is
/// connected.
pub(crate) fn changes_the_host(event: &str) -> bool {
    changes_plugins(event) || ENDS.contains(&event)
}

/// All that [change the host](changes_the_host).
#[cfg(test)]
pub(crate) fn all_changes() -> impl Iterator<Item = &'static str> {
    CHANGES.iter().chain(ENDS).copied()
}

/// A parameter of an event that is described by hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// KSI's spelling: `str`, `int`, `float`, `bool`, `list`, `dict` or `Any`.
    pub(crate) kind: &'static str,
    pub(crate) required: bool,
    pub(crate) description: &'static str,
}

/// An event of the host itself.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) event: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) parameters: Vec<Parameter>,
}

impl Described {
    pub(crate) fn new(event: &'static str, summary: &'static str) -> Self {
        Described { event, summary, parameters: Vec::new() }
    }

    pub(crate) fn takes(
        mut self,
        name: &'static str,
        kind: &'static str,
        required: bool,
        description: &'static str,
    ) -> Self {
        self.parameters.push(Parameter { name, kind, required, description });
        self
    }
}

/// One event of the catalogue, by one handler of it.
#[derive(Debug, Clone)]
pub(crate) struct CatalogEntry {
    pub(crate) event: String,
    pub(crate) summary: String,
    /// By name: type, required, and perhaps a description.
    pub(crate) parameters: Map<String, Value>,
    /// `host` for the host itself.
    pub(crate) module: String,
    pub(crate) handler: String,
}

/// Every exactly named event, sorted; an event of several handlers stands there several times.
pub(crate) fn entries(described: &[Described], registry: &Registry) -> Vec<CatalogEntry> {
    let mut entries: Vec<CatalogEntry> = described.iter().map(by_hand).collect();
    for (name, plugin) in registry.plugins.iter().filter(|(_, plugin)| plugin.live.is_some()) {
        let described = &plugin.info.description.handlers;
        for (index, handler) in plugin.info.manifest.handlers.iter().enumerate() {
            let description = described.get(index);
            let exact = handler.subscriptions.iter().filter(|event| !event.contains('*'));
            entries.extend(exact.map(|event| CatalogEntry {
                event: event.clone(),
                summary: description.map_or_else(String::new, |known| known.summary.clone()),
                parameters: description.map(|known| parameters(&known.payload)).unwrap_or_default(),
                module: name.to_string(),
                handler: handler.name.clone(),
            }));
        }
    }
    entries.sort_by(|a, b| (&a.event, &a.module).cmp(&(&b.event, &b.module)));
    entries
}

fn by_hand(described: &Described) -> CatalogEntry {
    let parameters = described.parameters.iter().map(|parameter| {
        let Parameter { name, kind, required, description } = *parameter;
        let value = json!({ "type": kind, "required": required, "description": description });
        (name.to_owned(), value)
    });
    CatalogEntry {
        event: described.event.to_owned(),
        summary: described.summary.to_owned(),
        parameters: parameters.collect(),
        module: "host".to_owned(),
        handler: described.event.to_owned(),
    }
}

/// The entries of each namespace.
pub(crate) fn by_namespace(entries: &[CatalogEntry]) -> BTreeMap<&str, Vec<&CatalogEntry>> {
    let mut spaces: BTreeMap<&str, Vec<&CatalogEntry>> = BTreeMap::new();
    for entry in entries {
        let space = entry.event.split(':').next().unwrap_or_default();
        let known = spaces.entry(space).or_default();
        if !known.iter().any(|other| other.event == entry.event) {
            known.push(entry);
        }
    }
    spaces
}

/// The parameters that a JSON Schema of an object stands for.
pub(crate) fn parameters(schema: &Value) -> Map<String, Value> {
    let object = resolved(schema, schema);
    let required = |name: &str| {
        let names = object.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|known| known == name))
    };
    let properties = object.get("properties").and_then(Value::as_object);
    let each = properties.into_iter().flatten().map(|(name, property)| {
        let mut parameter = Map::new();
        parameter.insert("type".to_owned(), kind(schema, property).into());
        parameter.insert("required".to_owned(), required(name).into());
        if let Some(text) = property.get("description").and_then(Value::as_str) {
            parameter.insert("description".to_owned(), text.into());
        }
        (name.clone(), Value::Object(parameter))
    });
    each.collect()
}

/// What a `$ref` inside `root` leads to; references to references are followed, but not for ever.
fn resolved<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..8 {
        let target = schema.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|path| root.pointer(path.strip_prefix('#')?));
        match target {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// KSI's name for the type of a property.
fn kind(root: &Value, property: &Value) -> &'static str {
    let property = resolved(root, property);
    let named = match property.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        // An optional value is a list of its type and "null".
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|&name| name != "null")
        }
        _ => None,
    };
    match named {
        Some("string") => "str",
        Some("integer") => "int",
        Some("number") => "float",
        Some("boolean") => "bool",
        Some("array") => "list",
        Some("object") => "dict",
        _ => {
            match property.get("anyOf").or_else(|| property.get("oneOf")).and_then(Value::as_array)
            {
                Some(choices) => choices
                    .iter()
                    .map(|choice| kind(root, choice))
                    .find(|&kind| kind != "Any")
                    .unwrap_or("Any"),
                None if property.get("enum").is_some() || property.get("const").is_some() => "str",
                None => "Any",
            }
        }
    }
}

/// A payload that shows how an event is sent.
pub(crate) fn example(parameters: &Map<String, Value>) -> Value {
    let required = parameters.iter().filter(|(_, parameter)| parameter["required"] == true);
    let each = required.map(|(name, parameter)| {
        let value = match parameter["type"].as_str() {
            Some("str") => json!("text"),
            Some("int") => json!(1),
            Some("float") => json!(0.5),
            Some("bool") => json!(true),
            Some("list") => json!([]),
            Some("dict") => json!({}),
            _ => Value::Null,
        };
        (name.clone(), value)
    });
    Value::Object(each.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_becomes_parameters_in_ksis_spelling() {
        let schema = json!({
            "type": "object",
            "required": ["name", "operation"],
            "properties": {
                "name": { "type": "string", "description": "Whom" },
                "count": { "type": ["integer", "null"] },
                "operation": { "$ref": "#/$defs/Operation" },
                "limits": { "anyOf": [{ "$ref": "#/$defs/Limits" }, { "type": "null" }] },
                "value": true,
            },
            "$defs": {
                "Operation": { "type": "string", "enum": ["set", "get"] },
                "Limits": { "type": "object" },
            },
        });
        let parameters = parameters(&schema);
        assert_eq!(
            parameters["name"],
            json!({"type": "str", "required": true, "description": "Whom"})
        );
        assert_eq!(parameters["count"], json!({"type": "int", "required": false}));
        assert_eq!(parameters["operation"]["type"], "str");
        assert_eq!(parameters["limits"]["type"], "dict");
        assert_eq!(parameters["value"]["type"], "Any");
        assert_eq!(example(&parameters), json!({"name": "text", "operation": "text"}));
    }

    #[test]
    fn a_reference_to_itself_is_followed_no_further() {
        let schema = json!({ "$ref": "#/$defs/A", "$defs": { "A": { "$ref": "#/$defs/A" } } });
        assert!(parameters(&schema).is_empty());
    }
}
