//! Values as Python writes them, and the functions of KSI's templates.

use std::time::{Duration, SystemTime};

use serde_json::{Number, Value};

/// The functions of KSI's templates. `is_event_handled` is not among them: a plugin cannot tell.
pub(crate) const FUNCTIONS: &[&str] =
    &["timestamp_utc", "time", "len", "str", "int", "float", "json", "upper", "lower"];

/// A value in the middle of a text, as KSI puts it there: as `str` of Python has it, and JSON for
/// lists and objects, indented as KSI does.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => "None".to_owned(),
        Value::Number(number) => number_text(number),
        Value::Array(_) | Value::Object(_) => json(value),
    }
}

/// JSON as KSI writes it into texts.
pub(crate) fn json(value: &Value) -> String {
    format!("{value:#}")
}

/// Calls a function of this name.
pub(crate) fn call(name: &str, argument: Option<&Value>, now: SystemTime) -> Result<Value, String> {
    let since = || now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    match (name, argument) {
        ("timestamp_utc", None) => Ok(humantime::format_rfc3339_micros(now).to_string().into()),
        ("time", None) => Ok(since().as_secs_f64().into()),
        ("timestamp_utc" | "time", Some(_)) => Err(format!("{name}() takes nothing")),
        (_, None) => Err(format!("{name}() takes one value, and there is none")),
        ("len", Some(value)) => match value {
            Value::String(text) => Ok(text.chars().count().into()),
            Value::Array(items) => Ok(items.len().into()),
            Value::Object(entries) => Ok(entries.len().into()),
            other => Err(format!("{} has no length", text(other))),
        },
        ("str", Some(value)) => Ok(text(value).into()),
        ("json", Some(value)) => Ok(json(value).into()),
        ("upper", Some(value)) => Ok(text(value).to_uppercase().into()),
        ("lower", Some(value)) => Ok(text(value).to_lowercase().into()),
        ("int", Some(value)) => int(value).ok_or_else(|| format!("{} is no int", text(value))),
        ("float", Some(value)) => {
            float(value).ok_or_else(|| format!("{} is no float", text(value)))
        }
        _ => Err(format!("there is no function {name:?}")),
    }
}

fn int(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(it) => Some(i64::from(*it).into()),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64()?.trunc();
            // Up to where each of them is a number of its own.
            (whole.abs() < 9.0e15).then(|| (whole as i64).into())
        }
        Value::Number(number) => Some(number.clone().into()),
        Value::String(text) => text.trim().parse::<i64>().ok().map(Value::from),
        _ => None,
    }
}

fn float(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Bool(it) => f64::from(u8::from(*it)),
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Number::from_f64(number).map(Value::Number)
}

/// As `repr` of Python: floats have a point, and an exponent from 1e16 on and below 1e-4.
fn number_text(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent @ -4..16 if exponent != 0 || float == 0.0 => format!("{float:?}"),
        0 => format!("{float:?}"),
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
    }
}
