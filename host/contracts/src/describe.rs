//! What is sent and what is taken, in words.

use serde_json::Value;

use crate::shape::{Kind, Numbers, Shape, Texts};

/// The most alternatives that are named, those that are looked at for that, and the characters of a
/// literal that are shown.
const NAMED: usize = 4;
const LOOKED_AT: usize = 64;
const SHOWN: usize = 40;

/// `a string is sent, an integer from 0 to 255 is taken`
pub(crate) fn difference(sent: &Shape<'_>, taken: &[&Shape<'_>]) -> String {
    format!("{} is sent, {} is taken", shape(sent), any_of(taken))
}

/// A name in a sentence.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", shortened(name))
}

/// A literal in a sentence.
pub(crate) fn literal(value: &Value) -> String {
    shortened(&beginning(value, &mut (SHOWN + 1)).to_string())
}

/// As much of a value as may be shown, counted in parts and characters.
fn beginning(value: &Value, left: &mut usize) -> Value {
    *left = left.saturating_sub(1);
    let text = |text: &str, left: &mut usize| {
        let text: String = text.chars().take(*left).collect();
        *left = left.saturating_sub(text.len());
        text
    };
    match value {
        Value::String(all) => Value::String(text(all, left)),
        Value::Array(items) => {
            let most = items.iter().take(*left);
            most.map_while(|it| (*left > 0).then(|| beginning(it, left))).collect()
        }
        Value::Object(fields) => {
            let most = fields.iter().take(*left);
            let field = |(name, value): (&String, &Value)| {
                (*left > 0).then(|| (text(name, left), beginning(value, left)))
            };
            Value::Object(most.map_while(field).collect())
        }
        other => other.clone(),
    }
}

fn any_of(shapes: &[&Shape<'_>]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut more = shapes.len().saturating_sub(LOOKED_AT);
    for it in shapes.iter().take(LOOKED_AT) {
        let word = shape(it);
        if words.contains(&word) {
            continue;
        }
        if words.len() < NAMED {
            words.push(word);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        words.push(format!("{more} others"));
    }
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn shape(shape: &Shape<'_>) -> String {
    match &shape.kind {
        Kind::Literal(value) => literal(value),
        Kind::Number(numbers) => number(numbers),
        Kind::Text(texts) => text(texts),
        Kind::List(lists) => {
            let length = match (lists.min, lists.max) {
                (0, None) => String::new(),
                (min, Some(max)) if min == max => format!(" of {min}"),
                (0, Some(max)) => format!(" of at most {max}"),
                (min, None) => format!(" of at least {min}"),
                (min, Some(max)) => format!(" of {min} to {max}"),
            };
            format!("a list{length}{}", if lists.unique { " without doubles" } else { "" })
        }
        Kind::Record(_) => "an object".to_owned(),
    }
}

fn number(numbers: &Numbers) -> String {
    let mut words = if numbers.whole { "an integer" } else { "a number" }.to_owned();
    if let Some(min) = numbers.min {
        words += &format!(" from {min}");
    }
    if let Some(above) = numbers.above {
        words += &format!(" above {above}");
    }
    if let Some(max) = numbers.max {
        words += &format!(" to {max}");
    }
    if let Some(below) = numbers.below {
        words += &format!(" below {below}");
    }
    for by in &numbers.multiples {
        words += &format!(" divisible by {by}");
    }
    words
}

fn text(texts: &Texts<'_>) -> String {
    let mut words = "a string".to_owned();
    match (texts.min, texts.max) {
        (0, None) => {}
        (min, Some(max)) if min == max => words += &format!(" of length {min}"),
        (0, Some(max)) => words += &format!(" of at most {max} characters"),
        (min, None) => words += &format!(" of at least {min} characters"),
        (min, Some(max)) => words += &format!(" of {min} to {max} characters"),
    }
    for format in &texts.formats {
        words += &format!(" of format {}", shortened(format));
    }
    for pattern in &texts.patterns {
        words += &format!(" that matches {}", quoted(pattern));
    }
    words
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
