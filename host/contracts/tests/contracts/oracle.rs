//! What is valid under a schema, as the crate `jsonschema` says.

use std::net::IpAddr;

use jsonschema::Validator;
use serde_json::{Value, json};

/// A validator of a schema in which formats are assertions, those of integers included.
pub(crate) fn validator(schema: &Value) -> Validator {
    let mut schema = schema.clone();
    assert_integers(&mut schema);
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        // As `schemars` names it.
        .with_format("ip", |text: &str| text.parse::<IpAddr>().is_ok())
        .build(&schema)
        .unwrap_or_else(|error| panic!("{error}: {schema}"))
}

/// Makes the formats of integers what they mean: a range.
fn assert_integers(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            keywords.values_mut().for_each(assert_integers);
            let format = keywords.get("format").and_then(Value::as_str);
            let range = match format {
                Some("int8") => (json!(i8::MIN), json!(i8::MAX)),
                Some("int16") => (json!(i16::MIN), json!(i16::MAX)),
                Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
                Some("int64" | "int") => (json!(i64::MIN), json!(i64::MAX)),
                Some("uint8") => (json!(0), json!(u8::MAX)),
                Some("uint16") => (json!(0), json!(u16::MAX)),
                Some("uint32") => (json!(0), json!(u32::MAX)),
                Some("uint64" | "uint") => (json!(0), json!(u64::MAX)),
                _ => return,
            };
            // A keyword of its own: there may be another minimum.
            let asserted = json!({"anyOf": [
                {"not": {"type": "number"}},
                {"type": "integer", "minimum": range.0, "maximum": range.1}
            ]});
            let all = keywords.entry("allOf").or_insert_with(|| json!([]));
            all.as_array_mut().unwrap().push(asserted);
        }
        Value::Array(items) => items.iter_mut().for_each(assert_integers),
        _ => {}
    }
}
