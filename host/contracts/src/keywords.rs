//! The words of JSON Schema, and what is written behind them.

use serde_json::{Map, Value};

use crate::number::Num;

/// Whether a keyword says something of a value. All others are for people, or hold definitions.
pub(crate) fn asserts(keyword: &str) -> bool {
    matches!(
        keyword,
        "$dynamicRef"
            | "$recursiveRef"
            | "$ref"
            | "additionalItems"
            | "additionalProperties"
            | "allOf"
            | "anyOf"
            | "const"
            | "contains"
            | "dependencies"
            | "dependentRequired"
            | "dependentSchemas"
            | "enum"
            | "exclusiveMaximum"
            | "exclusiveMinimum"
            | "format"
            | "if"
            | "items"
            | "maxItems"
            | "maxLength"
            | "maxProperties"
            | "maximum"
            | "minItems"
            | "minLength"
            | "minProperties"
            | "minimum"
            | "multipleOf"
            | "not"
            | "oneOf"
            | "pattern"
            | "patternProperties"
            | "prefixItems"
            | "properties"
            | "propertyNames"
            | "required"
            | "type"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "uniqueItems"
    )
}

/// Whether a schema says nothing of a value.
pub(crate) fn is_any(schema: &Value) -> bool {
    match schema {
        Value::Object(keywords) => !keywords.keys().any(|keyword| asserts(keyword)),
        other => other == &Value::Bool(true),
    }
}

/// A keyword whose value is a list of schemas.
pub(crate) fn schemas<'a>(keywords: &'a Map<String, Value>, keyword: &str) -> &'a [Value] {
    keywords.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A keyword whose value is a count.
pub(crate) fn count(keywords: &Map<String, Value>, keyword: &str) -> Option<u64> {
    // It may be written as 1.0.
    let value = keywords.get(keyword)?;
    value.as_u64().or_else(|| value.as_f64().filter(|it| *it >= 0.0).map(|it| it as u64))
}

/// Whether a keyword that says something of a value does so in a way that means something. What a
/// wrong argument means nobody knows, so nothing is concluded from a schema with one.
pub(crate) fn is_well_formed(keyword: &str, argument: &Value) -> bool {
    match keyword {
        "$ref" | "$dynamicRef" | "$recursiveRef" | "format" | "pattern" => argument.is_string(),
        // Those of older drafts are lists too.
        "items" => argument.is_object() || argument.is_boolean() || argument.is_array(),
        "additionalItems"
        | "additionalProperties"
        | "contains"
        | "else"
        | "if"
        | "not"
        | "propertyNames"
        | "then"
        | "unevaluatedItems"
        | "unevaluatedProperties" => argument.is_object() || argument.is_boolean(),
        "allOf" | "anyOf" | "oneOf" | "prefixItems" | "enum" => argument.is_array(),
        "dependencies" | "dependentRequired" | "dependentSchemas" | "patternProperties"
        | "properties" => argument.is_object(),
        "exclusiveMaximum" | "exclusiveMinimum" | "maximum" | "minimum" => {
            Num::of(argument).is_some()
        }
        "multipleOf" => Num::of(argument).is_some_and(|by| by > Num::Int(0)),
        "maxContains" | "maxItems" | "maxLength" | "maxProperties" | "minContains" | "minItems"
        | "minLength" | "minProperties" => {
            Num::of(argument).is_some_and(|it| it.is_whole() && it >= Num::Int(0))
        }
        "required" => argument.as_array().is_some_and(|it| it.iter().all(Value::is_string)),
        "type" => match argument {
            Value::Array(names) => names.iter().all(Value::is_string),
            one => one.is_string(),
        },
        "uniqueItems" => argument.is_boolean(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_for_people_say_nothing_of_a_value() {
        assert!(is_any(&json!({"title": "T", "default": 1})) && !is_any(&json!({"type": "null"})));
    }
}
