//! One transformer, compiled: which events it takes and what it makes of them.

use ksi_plugin_api::{Pattern, validate_event_name};
use serde_json::{Map, Value};

use crate::{
    definition::{Definition, Problem, Text, Values},
    expression::Expression,
    scope::{Path, Scope},
    template::{Budget, Template},
};

/// What a transformer may make of one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// In all, as JSON.
    pub(crate) bytes: usize,
    /// Events, of one that is for each item of a list.
    pub(crate) items: usize,
}

pub(crate) struct Transformer {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) is_async: bool,
    pub(crate) line: u64,
    pub(crate) written: Value,
    pub(crate) values: Values,
    pub(crate) foreach: Option<String>,
    pub(crate) route: Option<Route>,
    condition: Option<Expression>,
    items: Option<Path>,
    mapping: Template,
    limits: Limits,
}

/// Where the answer to an async one goes.
pub(crate) struct Route {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) filter: Option<Expression>,
}

/// The event of a call, as transformers see it.
pub(crate) struct Origin<'a> {
    pub(crate) event: &'a str,
    pub(crate) context: &'a Map<String, Value>,
    /// A name for what an async one begins.
    pub(crate) transform_id: Option<&'a str>,
}

/// What is to be emitted, and what could not be made.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Made {
    pub(crate) payloads: Vec<Value>,
    pub(crate) failure: Option<String>,
}

impl Transformer {
    /// Compiles it, with `values` unless it says itself.
    pub(crate) fn compile(
        definition: Definition,
        values: Values,
        limits: Limits,
    ) -> Result<Self, Problem> {
        let Definition { name, source, target, line, .. } = definition;
        let problem = |line: u64, what: &str, reason: &dyn std::fmt::Display| {
            Problem::new(line, &name, format_args!("{what}: {reason}"))
        };
        Pattern::parse(&source).map_err(|error| problem(line, "source", &error))?;
        validate_event_name(&target).map_err(|error| problem(line, "target", &error))?;
        let expression = |what: &str, Text { line, text }: Text| {
            Expression::compile(&text).map_err(|reason| problem(line, what, &reason))
        };
        let condition = match definition.condition {
            Some(text) => Some(expression("condition", text)?),
            None => None,
        };
        let route = match definition.response_route {
            None => None,
            Some(route) => {
                let is_name = |name: &str| {
                    let checked = validate_event_name(name);
                    checked.map_err(|error| problem(line, "response_route", &error))
                };
                is_name(&route.from)?;
                is_name(&route.to)?;
                // KSI puts the id's text there; here it is a name that has it.
                let filter = route.filter.map(|Text { line, text }| Text {
                    line,
                    text: text.replace("{{transform_id}}", "transform_id"),
                });
                let filter = match filter {
                    Some(text) => Some(expression("response_route.filter", text)?),
                    None => None,
                };
                Some(Route { from: route.from, to: route.to, filter })
            }
        };
        if route.is_some() && !definition.is_async {
            let reason = "only an async one has a response that is awaited";
            return Err(problem(line, "response_route", &reason));
        }
        let foreach = match definition.foreach {
            Some(Text { line, text }) if !Path::is_one(&text) => {
                let reason = format!("{text:?} is no path to a list");
                return Err(problem(line, "foreach", &reason));
            }
            Some(Text { text, .. }) => Some(text),
            None => None,
        };
        let values = definition.values.unwrap_or(values);
        let mapping = match &definition.mapping {
            None => Template::Fixed(Value::Object(Map::new())),
            Some(node) => Template::compile(node, values)
                .map_err(|(line, reason)| problem(line, "mapping", &reason))?,
        };
        Ok(Transformer {
            items: foreach.as_deref().map(Path::of),
            is_async: definition.is_async,
            written: definition.written,
            name,
            source,
            target,
            line,
            values,
            foreach,
            route,
            condition,
            mapping,
            limits,
        })
    }

    pub(crate) fn has_condition(&self) -> bool {
        self.condition.is_some()
    }

    /// What becomes of an event; `None` if its condition does not hold.
    pub(crate) fn make(&self, data: &Value, origin: &Origin<'_>) -> Result<Option<Made>, String> {
        let scope = Scope::new(data, origin.context, origin.event);
        if let Some(condition) = &self.condition {
            let holds = condition.holds(&scope).map_err(|error| format!("condition: {error}"))?;
            if !holds {
                return Ok(None);
            }
        }
        let scope = match origin.transform_id {
            Some(id) => scope.with("transform_id", id.into()),
            None => scope,
        };
        let mut budget = Budget::new(self.limits.bytes);
        let Some(path) = &self.items else {
            let payloads = vec![self.mapping.fill(&scope, &mut budget)?];
            return Ok(Some(Made { payloads, failure: None }));
        };
        let items: Vec<&Value> = match scope.at(path) {
            None => Vec::new(),
            Some(Value::Array(items)) => items.iter().collect(),
            Some(Value::Object(entries)) => entries.values().collect(),
            Some(single) => vec![single],
        };
        let (total, limit) = (items.len(), self.limits.items);
        if total > limit {
            return Err(format!("it has {total} items, and {limit} are allowed (max_items)"));
        }
        let mut made = Made::default();
        for (index, item) in items.into_iter().enumerate() {
            match self.mapping.fill(&scope.for_item(item, index, total), &mut budget) {
                Ok(payload) => made.payloads.push(payload),
                // The others go on, as in KSI.
                Err(reason) => {
                    made.failure.get_or_insert(format!("item {index}: {reason}"));
                }
            }
        }
        Ok(Some(made))
    }
}

impl Route {
    /// Whether an event answers what was begun under this id.
    pub(crate) fn takes(&self, data: &Value, origin: &Origin<'_>) -> Result<bool, String> {
        let (Some(filter), Some(id)) = (&self.filter, origin.transform_id) else { return Ok(true) };
        let scope = Scope::new(data, origin.context, origin.event);
        filter.holds(&scope.with("transform_id", id.into()))
    }
}
