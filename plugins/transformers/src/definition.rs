//! What a transformer's definition says, before any of it is compiled.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::yaml::{Kind, Node};

/// What a template that is a single `{{..}}` becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Values {
    /// Text, as in KSI: a 5 becomes `"5"`.
    #[default]
    Text,
    /// The value itself: a 5 stays 5.
    Native,
}

/// A transformer as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    /// As it is called in messages; made of source and target where it has none.
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) mapping: Option<Node>,
    pub(crate) condition: Option<Text>,
    pub(crate) foreach: Option<Text>,
    pub(crate) is_async: bool,
    pub(crate) enabled: bool,
    pub(crate) response_route: Option<ResponseRoute>,
    pub(crate) values: Option<Values>,
    /// Where it begins.
    pub(crate) line: u64,
    /// All of it, to see whether another one is the same.
    pub(crate) written: Value,
    /// Keys that say nothing: one may be a typing error in a key that would.
    pub(crate) unknown: Vec<Text>,
}

/// What stands where a transformer is to be.
pub(crate) struct Found {
    /// By which it is known again when the file is read anew: its name, else its source.
    pub(crate) identity: String,
    pub(crate) definition: Result<Definition, Problem>,
}

impl Found {
    pub(crate) fn at(node: &Node) -> Found {
        let text = |key: &str| text_of(node.get(key)).map(|text| text.text);
        let identity = text("name").or_else(|| text("source")).unwrap_or_default();
        Found { identity, definition: definition(node) }
    }

    fn no_file_of_transformers(line: u64, message: &str) -> Found {
        let definition = Err(Problem::new(line, "", message));
        Found { identity: String::new(), definition }
    }
}

/// Where the answer of an async one goes.
#[derive(Debug, Clone)]
pub(crate) struct ResponseRoute {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) filter: Option<Text>,
}

/// A text and its line.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) line: u64,
    pub(crate) text: String,
}

/// What is wrong with a file, or with a transformer in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: u64,
    /// The transformer's name; empty where the file is meant.
    pub(crate) name: String,
    pub(crate) message: String,
}

impl Definition {
    /// What says nothing in it, each with its name.
    pub(crate) fn unknown_keys(&self) -> impl Iterator<Item = (&str, &Text)> {
        self.unknown.iter().map(|key| (self.name.as_str(), key))
    }
}

impl Problem {
    pub(crate) fn new(line: u64, name: &str, message: impl fmt::Display) -> Self {
        Problem { line, name: name.to_owned(), message: message.to_string() }
    }
}

/// What stands in the documents of a file, each good or not. A document is a mapping with a list of
/// `transformers`, a list of transformers, or one transformer.
pub(crate) fn definitions(documents: &[Node]) -> Vec<Found> {
    let mut found = Vec::new();
    for document in documents {
        match (&document.kind, document.get("transformers")) {
            (Kind::Scalar(Value::Null), _) => {}
            (_, Some(list)) => match &list.kind {
                Kind::List(items) => found.extend(items.iter().map(Found::at)),
                Kind::Scalar(Value::Null) => {}
                _ => found
                    .push(Found::no_file_of_transformers(list.line, "`transformers` is no list")),
            },
            (Kind::List(items), None) => found.extend(items.iter().map(Found::at)),
            (Kind::Map(_), None) if document.get("source").is_some() => {
                found.push(Found::at(document));
            }
            _ => found.push(Found::no_file_of_transformers(
                document.line,
                "there are no transformers in it: a list under the key `transformers` is wanted",
            )),
        }
    }
    found
}

/// One transformer.
fn definition(node: &Node) -> Result<Definition, Problem> {
    let unnamed = |message: &str| Problem::new(node.line, "", message);
    let Kind::Map(entries) = &node.kind else {
        return Err(unnamed("a transformer is a mapping with `source` and `target`"));
    };
    let given = text_of(node.get("name")).map(|name| name.text);
    let name = |fallback: &str| given.clone().unwrap_or_else(|| fallback.to_owned());
    let wrong = |node: &Node, message: String| Problem::new(node.line, &name(""), message);
    let needed = |key: &str| match node.get(key).map(|value| (value, text_of(Some(value)))) {
        Some((_, Some(text))) if !text.text.is_empty() => Ok(text),
        Some((value, _)) => Err(wrong(value, format!("`{key}` is to be the name of an event"))),
        None if key == "source" && node.get("source_pattern").is_some() => Err(wrong(
            node,
            "it has no `source`; `source_pattern` is not read, as in KSI".to_owned(),
        )),
        None => Err(wrong(node, format!("it has no `{key}`"))),
    };
    let (source, target) = (needed("source")?.text, needed("target")?.text);
    let name = name(&format!("{source} -> {target}"));
    let flag = |key: &str, otherwise: bool| match node.get(key) {
        None => Ok(otherwise),
        Some(Node { kind: Kind::Scalar(Value::Bool(it)), .. }) => Ok(*it),
        Some(value) => {
            Err(Problem::new(value.line, &name, format!("`{key}` is to be true or false")))
        }
    };
    let text = |node: &Node, key: &str| match node.get(key) {
        None => Ok(None),
        Some(value) if matches!(value.kind, Kind::Scalar(Value::Null)) => Ok(None),
        Some(value) => text_of(Some(value))
            .map(Some)
            .ok_or_else(|| Problem::new(value.line, &name, format!("`{key}` is to be a text"))),
    };
    let values = match node.get("values").map(|node| (node, Values::deserialize(node.to_value()))) {
        None => None,
        Some((_, Ok(values))) => Some(values),
        Some((node, Err(_))) => {
            return Err(Problem::new(node.line, &name, "`values` is to be text or native"));
        }
    };
    let response_route = match node.get("response_route") {
        None => None,
        Some(route) => {
            let event = |key: &str| {
                let message = format!("`response_route` has no `{key}`");
                text(route, key)?.ok_or_else(|| Problem::new(route.line, &name, message))
            };
            let (from, to) = (event("from")?.text, event("to")?.text);
            Some(ResponseRoute { from, to, filter: text(route, "filter")? })
        }
    };
    let unknown = entries.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()));
    let unknown = unknown.map(|(key, node)| Text { line: node.line, text: key.clone() });
    Ok(Definition {
        mapping: node.get("mapping").cloned(),
        condition: text(node, "condition")?,
        foreach: text(node, "foreach")?.filter(|path| !path.text.is_empty()),
        is_async: flag("async", false)?,
        enabled: flag("enabled", true)?,
        response_route,
        values,
        line: node.line,
        written: node.to_value(),
        unknown: unknown.collect(),
        name,
        source,
        target,
    })
}

/// All that is read, or may be there for people.
const KEYS: &[&str] = &[
    "name",
    "source",
    "target",
    "mapping",
    "condition",
    "foreach",
    "async",
    "enabled",
    "response_route",
    "values",
    "description",
    "metadata",
    "version",
    "priority",
];

/// A scalar as a text: a condition may be just `true`.
fn text_of(node: Option<&Node>) -> Option<Text> {
    let Node { line, kind: Kind::Scalar(value) } = node? else { return None };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => return None,
        other => other.to_string(),
    };
    Some(Text { line: *line, text })
}
