//! Whether two schemas say the same in the same words, whatever they say to people.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    document::{Document, Term},
    keywords::asserts,
};

/// How deep the two are followed.
const DEPTH: u32 = 96;

/// Whether a schema of one document is the same as one of another.
pub(crate) fn are_same<'a>(
    a: &'a Value,
    of: &Document<'a>,
    b: &'a Value,
    in_: &Document<'a>,
) -> bool {
    Walk { of, in_, met: HashSet::new() }.schemas(a, b, 0)
}

/// Whether some keywords say the same in both.
pub(crate) fn say_the_same<'a>(
    keywords: &[&str],
    a: &'a Value,
    of: &Document<'a>,
    b: &'a Value,
    in_: &Document<'a>,
) -> bool {
    let mut walk = Walk { of, in_, met: HashSet::new() };
    keywords.iter().all(|keyword| match (a.get(keyword), b.get(keyword)) {
        (None, None) => true,
        (Some(a), Some(b)) => walk.arguments(keyword, a, b, 1),
        _ => false,
    })
}

struct Walk<'a, 'd> {
    of: &'d Document<'a>,
    in_: &'d Document<'a>,
    /// Pairs that references led to. They are the same unless a difference is found elsewhere.
    met: HashSet<(Term<'a>, Term<'a>)>,
}

impl<'a> Walk<'a, '_> {
    fn schemas(&mut self, a: &'a Value, b: &'a Value, depth: u32) -> bool {
        if depth > DEPTH || !self.of.fuel.burn(1) {
            return false;
        }
        let (Value::Object(a), Value::Object(b)) = (a, b) else {
            return a.is_boolean() && a == b;
        };
        let mut said = 0;
        for (keyword, a) in a.iter().filter(|(keyword, _)| says(keyword)) {
            said += 1;
            if !b.get(keyword).is_some_and(|b| self.arguments(keyword, a, b, depth + 1)) {
                return false;
            }
        }
        said == b.keys().filter(|keyword| says(keyword)).count()
    }

    fn arguments(&mut self, keyword: &str, a: &'a Value, b: &'a Value, depth: u32) -> bool {
        match (keyword, a, b) {
            ("$ref", ..) => {
                let (Some(a), Some(b)) = (a.as_str(), b.as_str()) else { return false };
                let (Some(a), Some(b)) = (self.of.resolve(a), self.in_.resolve(b)) else {
                    return false;
                };
                !self.met.insert((Term(a), Term(b))) || self.schemas(a, b, depth)
            }
            ("$dynamicRef" | "$recursiveRef", ..) => false,
            (
                "properties" | "patternProperties" | "dependentSchemas",
                Value::Object(a),
                Value::Object(b),
            ) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(name, a)| b.get(name).is_some_and(|b| self.schemas(a, b, depth)))
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.schemas(a, b, depth))
            }
            (
                "additionalProperties"
                | "contains"
                | "else"
                | "if"
                | "items"
                | "not"
                | "propertyNames"
                | "then"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                ..,
            ) => self.schemas(a, b, depth),
            // Older ones are a mixture of schemas and names.
            ("dependencies" | "additionalItems", ..) => false,
            _ => {
                let size = a.as_array().map_or(1, Vec::len);
                self.of.fuel.burn(size / 8) && a == b
            }
        }
    }
}

fn says(keyword: &str) -> bool {
    asserts(keyword) || matches!(keyword, "then" | "else" | "minContains" | "maxContains")
}
