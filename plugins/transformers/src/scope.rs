//! What a template or a condition sees of an event.

use serde_json::{Map, Value};

/// The event's payload, what is laid over it, and `_ksi_context`.
pub(crate) struct Scope<'a> {
    data: &'a Value,
    /// Found before the payload's fields: `transform_id`, or `item` and its like.
    over: Map<String, Value>,
    /// The payload is one field, `data`, as in KSI's `foreach`.
    nested: bool,
    context: &'a Map<String, Value>,
    event: &'a str,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(data: &'a Value, context: &'a Map<String, Value>, event: &'a str) -> Self {
        Scope { data, over: Map::new(), nested: false, context, event }
    }

    /// With a field laid over the payload's.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.over.insert(name.to_owned(), value);
        self
    }

    /// For one item of a list, as KSI's `foreach` has it: the payload is `data`, and beside it are
    /// `item`, `index`, `total`, `is_first`, `is_last`, each field of the item as `item_NAME`, and
    /// the context's fields.
    pub(crate) fn for_item(&self, item: &Value, index: usize, total: usize) -> Scope<'a> {
        let mut over = self.over.clone();
        let mut put = |name: &str, value: Value| drop(over.insert(name.to_owned(), value));
        put("item", item.clone());
        put("index", index.into());
        put("total", total.into());
        put("is_first", (index == 0).into());
        put("is_last", (index + 1 == total).into());
        for (name, value) in self.context {
            put(name, value.clone());
        }
        for (name, value) in item.as_object().into_iter().flatten() {
            put(&format!("item_{name}"), value.clone());
        }
        let Scope { data, context, event, .. } = *self;
        Scope { data, over, nested: true, context, event }
    }

    pub(crate) fn event_name(&self) -> &'a str {
        self.event
    }

    pub(crate) fn context(&self) -> &'a Map<String, Value> {
        self.context
    }

    /// A field by its name.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        match self.over.get(name) {
            Some(value) => Some(value),
            None if self.nested => (name == "data").then_some(self.data),
            None => step(self.data, name),
        }
    }

    /// What a path leads to; `None` for what is not there, and for null.
    pub(crate) fn at(&self, path: &Path) -> Option<&Value> {
        let start = match path.in_context {
            true => self.context.get(path.first.as_str()),
            false => self.field(&path.first),
        };
        let found = path.further.iter().try_fold(start?, |value, name| step(value, name))?;
        (!found.is_null()).then_some(found)
    }

    /// All of it: what `{{$}}` is.
    pub(crate) fn whole(&self) -> Value {
        if self.nested {
            let mut all = self.over.clone();
            all.insert("data".to_owned(), self.data.clone());
            return Value::Object(all);
        }
        let mut all = self.data.clone();
        if let Value::Object(fields) = &mut all {
            fields.extend(self.over.clone());
        }
        all
    }

    /// The names that there are, for a message about one that is not.
    pub(crate) fn names(&self) -> Vec<&str> {
        let fields = self.data.as_object().filter(|_| !self.nested);
        let fields = fields.into_iter().flat_map(|fields| fields.keys());
        let mut names: Vec<_> = fields.chain(self.over.keys()).map(String::as_str).collect();
        if self.nested {
            names.push("data");
        }
        names
    }
}

/// A way into a value: names and positions, with dots between them.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    in_context: bool,
    first: String,
    further: Vec<String>,
}

impl Path {
    /// Splits it. Whatever stands between the dots is a name.
    pub(crate) fn of(text: &str) -> Path {
        let inside = text.strip_prefix("_ksi_context.");
        let mut names = inside.unwrap_or(text).split('.').map(str::to_owned);
        Path {
            in_context: inside.is_some(),
            first: names.next().unwrap_or_default(),
            further: names.collect(),
        }
    }

    /// Whether a text is meant as a path, and not as an expression.
    pub(crate) fn is_one(text: &str) -> bool {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@' | '/');
        !text.is_empty() && text.chars().all(plain)
    }
}

fn step<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}
