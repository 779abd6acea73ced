//! Whether a valid value is one that a sender sends: one with no fields but those that are
//! declared.
//!
//! It is a reading of the schema of its own, and on the safe side: where it says yes, it is.

use std::{cell::RefCell, collections::HashMap};

use fastrand::Rng;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::oracle::validator;

pub(crate) struct Sender<'a> {
    root: &'a Value,
    parts: RefCell<HashMap<*const Value, Validator>>,
}

/// What schemas that apply to one object say of its fields.
#[derive(Default)]
struct Said<'a> {
    names: HashMap<String, Vec<&'a Value>>,
    /// Of all fields there may be.
    open: bool,
    speaks: bool,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(root: &'a Value) -> Self {
        Sender { root, parts: RefCell::default() }
    }

    /// Whether a value that is valid is sent, with one choice of branches or another.
    pub(crate) fn sends(&self, value: &Value, rng: &mut Rng) -> bool {
        (0..4).any(|_| self.all(&[self.root], value, rng))
    }

    fn all(&self, schemas: &[&'a Value], value: &Value, rng: &mut Rng) -> bool {
        match value {
            Value::Number(it) => {
                it.as_i64().is_some()
                    || !it.as_f64().unwrap().is_normal()
                    || it.as_f64().unwrap().abs() < 9e18
            }
            Value::Object(fields) => {
                let mut said = Said::default();
                for schema in schemas {
                    if !self.fields(schema, value, fields, &mut said, rng) {
                        return false;
                    }
                }
                let open = said.open || !said.speaks;
                fields.iter().all(|(name, field)| match said.names.get(name) {
                    Some(schemas) => self.all(schemas, field, rng),
                    None => open && self.all(&[], field, rng),
                })
            }
            Value::Array(items) => items.iter().enumerate().all(|(at, item)| {
                let mut its = Vec::new();
                schemas.iter().for_each(|schema| self.items(schema, value, at, &mut its, rng));
                self.all(&its, item, rng)
            }),
            _ => true,
        }
    }

    /// The schemas that apply to the value itself by others, of each choice one that it is valid
    /// under.
    fn applied(&self, schema: &'a Value, value: &Value, rng: &mut Rng) -> Vec<&'a Value> {
        let Value::Object(keywords) = schema else { return Vec::new() };
        let mut applied = Vec::new();
        if let Some(Value::String(target)) = keywords.get("$ref") {
            applied.extend(self.root.pointer(&target[1..]));
        }
        applied.extend(keywords.get("allOf").and_then(Value::as_array).into_iter().flatten());
        for word in ["anyOf", "oneOf"] {
            let branches = keywords.get(word).and_then(Value::as_array).into_iter().flatten();
            let valid: Vec<_> = branches.filter(|it| self.is_valid(it, value)).collect();
            applied.extend(rng.choice(valid));
        }
        if let Some(condition) = keywords.get("if") {
            let met = self.is_valid(condition, value);
            applied.extend(met.then_some(condition));
            applied.extend(keywords.get(if met { "then" } else { "else" }));
        }
        if let (Some(Value::Object(each)), Value::Object(fields)) =
            (keywords.get("dependentSchemas"), value)
        {
            applied
                .extend(each.iter().filter(|(name, _)| fields.contains_key(*name)).map(|it| it.1));
        }
        applied
    }

    fn fields(
        &self,
        schema: &'a Value,
        value: &Value,
        fields: &Map<String, Value>,
        said: &mut Said<'a>,
        rng: &mut Rng,
    ) -> bool {
        let Value::Object(keywords) = schema else { return true };
        let map = |word| keywords.get(word).and_then(Value::as_object).into_iter().flatten();
        let words =
            ["properties", "patternProperties", "additionalProperties", "unevaluatedProperties"];
        said.speaks |= words.iter().any(|it| keywords.contains_key(*it));
        said.speaks |= keywords.contains_key("required");
        // A place in the definitions makes a type without fields of it.
        said.speaks |= map("$defs").next().is_none() && keywords.contains_key("type");
        for name in fields.keys() {
            let mut declared = false;
            let mut add = |schema: Option<&'a Value>| {
                declared = true;
                said.names.entry(name.clone()).or_default().extend(schema);
            };
            for (_, schema) in map("properties").filter(|it| it.0 == name) {
                add(Some(schema));
            }
            for (pattern, schema) in map("patternProperties") {
                let found = validator(&json!({"pattern": pattern}));
                if found.is_valid(&Value::from(name.as_str())) {
                    add(Some(schema));
                }
            }
            if !declared && let Some(rest) = keywords.get("additionalProperties") {
                said.names.entry(name.clone()).or_default().push(rest);
            }
            let required = keywords.get("required").and_then(Value::as_array);
            if required.is_some_and(|it| it.iter().any(|it| it == name)) {
                said.names.entry(name.clone()).or_default();
            }
        }
        let applied = self.applied(schema, value, rng);
        let known = applied.iter().all(|it| self.fields(it, value, fields, said, rng));
        if let Some(rest) = keywords.get("unevaluatedProperties").filter(|it| !it.is_boolean()) {
            for name in fields.keys() {
                if !said.names.contains_key(name) {
                    said.names.entry(name.clone()).or_default().push(rest);
                }
            }
        }
        known
    }

    fn items(
        &self,
        schema: &'a Value,
        value: &Value,
        at: usize,
        found: &mut Vec<&'a Value>,
        rng: &mut Rng,
    ) {
        let prefix = schema.get("prefixItems");
        found.extend(prefix.and_then(|it| it.get(at)).or_else(|| schema.get("items")));
        for it in self.applied(schema, value, rng) {
            self.items(it, value, at, found, rng);
        }
    }

    fn is_valid(&self, part: &'a Value, value: &Value) -> bool {
        let mut parts = self.parts.borrow_mut();
        let known = parts.entry(part).or_insert_with(|| {
            let definitions = self.root.get("$defs").cloned().unwrap_or_else(|| json!({}));
            validator(&json!({"allOf": [part], "$defs": definitions}))
        });
        known.is_valid(value)
    }
}
