//! Mappings: values with `{{..}}` in their texts, compiled once and filled in for each event.

use serde_json::{Map, Value};

use crate::{
    definition::Values,
    expression::Expression,
    python,
    scope::{Path, Scope},
    yaml::{Kind, Node},
};

/// What an event is mapped to.
pub(crate) enum Template {
    /// No `{{..}}` in it.
    Fixed(Value),
    /// One `{{..}}` and nothing else.
    One(Hole, Values),
    Text(Vec<Part>),
    List(Vec<Template>),
    Map(Vec<(Vec<String>, Template)>),
}

pub(crate) enum Part {
    Fixed(String),
    Hole(Hole),
}

/// A `{{..}}`.
pub(crate) struct Hole {
    /// What stands in it.
    text: String,
    kind: HoleKind,
}

enum HoleKind {
    /// `$`.
    Whole,
    /// `_ksi_context`.
    Context,
    /// `a.b.0`, or `a.b.0|default`.
    Path {
        path: Path,
        default: Option<String>,
    },
    Expression(Box<Expression>),
}

/// How many bytes there may yet be made.
pub(crate) struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Budget { left: limit, limit }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => {
                return Err(format!("it makes more than {} bytes (max_bytes)", self.limit));
            }
        }
        Ok(())
    }
}

impl Template {
    /// Compiles a mapping. The error has the line.
    pub(crate) fn compile(node: &Node, values: Values) -> Result<Template, (u64, String)> {
        // Names with dots make objects in objects at the top alone, as in KSI.
        if let Kind::Map(entries) = &node.kind {
            return Self::map(entries, values, |key| key.split('.').map(str::to_owned).collect());
        }
        Self::below(node, values)
    }

    fn below(node: &Node, values: Values) -> Result<Template, (u64, String)> {
        Ok(match &node.kind {
            Kind::Scalar(Value::String(text)) => {
                Self::text(text, values).map_err(|message| (node.line, message))?
            }
            Kind::Scalar(value) => Template::Fixed(value.clone()),
            Kind::List(items) => {
                let items = items.iter().map(|item| Self::below(item, values));
                Template::List(items.collect::<Result<_, _>>()?)
            }
            Kind::Map(entries) => Self::map(entries, values, |key| vec![key.to_owned()])?,
        })
    }

    fn map(
        entries: &[(String, Node)],
        values: Values,
        path: impl Fn(&str) -> Vec<String>,
    ) -> Result<Template, (u64, String)> {
        let compiled = entries.iter().map(|(key, node)| {
            let template = Self::below(node, values)?;
            Ok((path(key), template))
        });
        compiled.collect::<Result<_, _>>().map(Template::Map)
    }

    fn text(text: &str, values: Values) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, inside, after)) = next_hole(rest) {
            if !before.is_empty() {
                parts.push(Part::Fixed(before.to_owned()));
            }
            parts.push(Part::Hole(Hole::compile(inside)?));
            rest = after;
        }
        if parts.is_empty() {
            return Ok(Template::Fixed(text.to_owned().into()));
        }
        if !rest.is_empty() {
            parts.push(Part::Fixed(rest.to_owned()));
        }
        if parts.len() > 1 {
            return Ok(Template::Text(parts));
        }
        match parts.pop() {
            Some(Part::Hole(hole)) => Ok(Template::One(hole, values)),
            fixed => Ok(Template::Text(Vec::from_iter(fixed))),
        }
    }

    /// Fills it in.
    pub(crate) fn fill(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, String> {
        match self {
            Template::Fixed(value) => {
                budget.spend(size(value))?;
                Ok(value.clone())
            }
            // The payload as it is, also where everything else becomes text.
            Template::One(Hole { kind: HoleKind::Whole, .. }, _) => {
                let whole = scope.whole();
                budget.spend(size(&whole))?;
                Ok(whole)
            }
            Template::One(hole, Values::Native) => {
                let value = hole.value(scope)?;
                budget.spend(size(&value))?;
                Ok(value)
            }
            Template::One(hole, Values::Text) => {
                let text = hole.text(scope)?;
                budget.spend(text.len() + 2)?;
                Ok(text.into())
            }
            Template::Text(parts) => {
                let mut all = String::new();
                for part in parts {
                    let text = match part {
                        Part::Fixed(text) => text.as_str(),
                        Part::Hole(hole) => &hole.text(scope)?,
                    };
                    budget.spend(text.len())?;
                    all.push_str(text);
                }
                Ok(all.into())
            }
            Template::List(items) => items.iter().map(|item| item.fill(scope, budget)).collect(),
            Template::Map(entries) => {
                let mut all = Map::new();
                for (path, template) in entries {
                    budget.spend(path.iter().map(String::len).sum())?;
                    put(&mut all, path, template.fill(scope, budget)?);
                }
                Ok(Value::Object(all))
            }
        }
    }
}

/// Puts a value under a name, or under a name in an object under a name.
fn put(all: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((name, further)) = path.split_first() else { return };
    if further.is_empty() {
        all.insert(name.clone(), value);
        return;
    }
    let inner = all.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        put(inner, further, value);
    }
}

/// What stands before the next `{{..}}`, in it and behind it. There is no `}` in one, as in KSI.
fn next_hole(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find("{{")?;
        let inside = &text[open + 2..];
        let close = inside.find('}')?;
        if close > 0 && inside[close..].starts_with("}}") {
            return Some((&text[..open], &inside[..close], &inside[close + 2..]));
        }
        from = open + 1;
    }
}

impl Hole {
    fn compile(text: &str) -> Result<Hole, String> {
        let text = text.trim();
        let is_call = text.contains('(') && text.contains(')');
        let kind = match text.split_once('|') {
            _ if text == "$" => HoleKind::Whole,
            _ if text == "_ksi_context" => HoleKind::Context,
            Some((path, default)) if !is_call => HoleKind::Path {
                path: Path::of(path.trim()),
                default: Some(default.trim().to_owned()),
            },
            _ if Path::is_one(text) => HoleKind::Path { path: Path::of(text), default: None },
            _ => HoleKind::Expression(Box::new(Expression::compile(text)?)),
        };
        Ok(Hole { text: text.to_owned(), kind })
    }

    /// Its value; an error for what is not there, as in KSI.
    fn value(&self, scope: &Scope<'_>) -> Result<Value, String> {
        match &self.kind {
            HoleKind::Whole => Ok(scope.whole()),
            HoleKind::Context => Ok(Value::Object(scope.context().clone())),
            HoleKind::Path { path, default } => match (scope.at(path), default) {
                (Some(value), _) => Ok(value.clone()),
                (None, Some(default)) => Ok(literal(default)),
                (None, None) => Err(self.nothing(scope)),
            },
            HoleKind::Expression(expression) => {
                let value = expression.value(scope);
                value.map_err(|reason| format!("{{{{{}}}}}: {reason}", self.text))
            }
        }
    }

    fn text(&self, scope: &Scope<'_>) -> Result<String, String> {
        match &self.kind {
            HoleKind::Path { path, default } => match (scope.at(path), default) {
                (Some(value), _) => Ok(python::text(value)),
                // As it stands, with its quotes if it has some.
                (None, Some(default)) => Ok(default.clone()),
                (None, None) => Err(self.nothing(scope)),
            },
            _ => self.value(scope).map(|value| python::text(&value)),
        }
    }

    fn nothing(&self, scope: &Scope<'_>) -> String {
        let names = scope.names();
        let shown = names.iter().take(20).copied().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 20 { ", …" } else { "" };
        format!(
            "the event has no {{{{{}}}}}, and there is no default; it has {shown}{more}",
            self.text
        )
    }
}

/// A default where values are kept: as JSON, a text in quotes, or a text.
fn literal(text: &str) -> Value {
    let quoted = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    match (quoted, serde_json::from_str(text)) {
        (Some(quoted), _) => quoted.into(),
        (None, Ok(value)) => value,
        (None, Err(_)) => text.into(),
    }
}

/// About as many bytes as its JSON has.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(entries) => {
            2 + entries.iter().map(|(name, it)| name.len() + 4 + size(it)).sum::<usize>()
        }
    }
}
