//! Small values of a schema, to show and to try.

use serde_json::{Map, Value};

use crate::{
    document::{Conj, weight},
    format,
    number::Num,
    shape::{Kind, Lists, Numbers, Records, Shape, Texts, all_valid},
    shapes::Shapes,
    tri::Tri,
};

/// How deep a value may have to be.
const DEPTH: u32 = 12;
/// The longest list or text that is made.
const LENGTH: u64 = 64;

/// A small value of some schemas together, if one is found.
pub(crate) fn sample<'a>(shapes: &Shapes<'a>, conj: &Conj<'a>) -> Option<Value> {
    // The flattest one first: of a type that contains itself, the one that does not.
    (0..DEPTH).find_map(|depth| of_conj(shapes, conj, depth))
}

/// A small value of a shape.
pub(crate) fn sample_shape<'a>(shapes: &Shapes<'a>, shape: &Shape<'a>) -> Option<Value> {
    (0..DEPTH).find_map(|depth| of_shape(shapes, shape, depth))
}

/// A small object of a shape without the fields of some names, with one field as it is given, and
/// with others that it need not have.
pub(crate) fn sample_record<'a>(
    shapes: &Shapes<'a>,
    records: &Records<'a>,
    with: Option<(&str, Value)>,
) -> Option<Value> {
    (0..DEPTH).find_map(|depth| of_record(shapes, records, with.clone(), depth))
}

/// A list of a shape with at least so many items, and one of them as it is given.
pub(crate) fn sample_list<'a>(
    shapes: &Shapes<'a>,
    lists: &Lists<'a>,
    at_least: u64,
    with: Option<(usize, Value)>,
) -> Option<Value> {
    (0..DEPTH).find_map(|depth| of_list(shapes, lists, at_least, with.clone(), depth))
}

/// Several values of a shape that differ in what may matter.
pub(crate) fn samples<'a>(shapes: &Shapes<'a>, shape: &Shape<'a>) -> Vec<Value> {
    let mut all: Vec<Value> = sample_shape(shapes, shape).into_iter().collect();
    match &shape.kind {
        Kind::Literal(_) => {}
        Kind::Number(numbers) => all.extend(in_numbers(numbers).filter_map(Num::to_value)),
        Kind::Text(texts) => all.extend(in_texts(texts).into_iter().map(Value::from)),
        Kind::List(lists) => {
            let more = [0, 1, 2, 8].map(|more| lists.min.saturating_add(more));
            all.extend(more.into_iter().filter_map(|it| sample_list(shapes, lists, it, None)));
        }
        Kind::Record(records) => {
            for (name, conj) in &records.fields {
                let Some(field) = sample(shapes, conj) else { continue };
                all.extend(sample_record(shapes, records, Some((name, field))));
            }
        }
    }
    all.retain(|it| shape.accepts(it, &shapes.document) != Tri::No);
    all
}

fn of_conj<'a>(shapes: &Shapes<'a>, conj: &Conj<'a>, depth: u32) -> Option<Value> {
    if !shapes.document.fuel.burn(1) {
        return None;
    }
    if conj.is_any() {
        return Some(Value::Null);
    }
    let alternatives = shapes.of(conj);
    let mut values = alternatives.iter().filter_map(|it| of_shape(shapes, it, depth));
    values.find(|it| conj.only.is_some() || all_valid(&shapes.document, conj, it) != Tri::No)
}

fn of_shape<'a>(shapes: &Shapes<'a>, shape: &Shape<'a>, depth: u32) -> Option<Value> {
    let document = &shapes.document;
    match &shape.kind {
        Kind::Literal(value) => {
            let fuel = &document.fuel;
            fuel.burn(weight(value, fuel.left())).then(|| (*value).clone())
        }
        Kind::Number(_) | Kind::Text(_) if !document.fuel.burn(2) => None,
        Kind::Number(numbers) => {
            let mut values = in_numbers(numbers).filter_map(Num::to_value);
            values.find(|it| shape.accepts(it, document) == Tri::Yes)
        }
        Kind::Text(texts) => {
            let mut values = in_texts(texts).into_iter().map(Value::from);
            values.find(|it| shape.accepts(it, document) == Tri::Yes)
        }
        Kind::List(lists) => of_list(shapes, lists, 0, None, depth),
        Kind::Record(records) => of_record(shapes, records, None, depth),
    }
}

/// Values of a shape that differ from one another, no deeper than that.
fn several<'a>(shapes: &Shapes<'a>, shape: &Shape<'a>, more: u64, depth: u32) -> Vec<Value> {
    let document = &shapes.document;
    if !document.fuel.burn(4) {
        return Vec::new();
    }
    let mut all: Vec<Value> = of_shape(shapes, shape, depth).into_iter().collect();
    match &shape.kind {
        Kind::Number(numbers) => all.extend(in_numbers(numbers).filter_map(Num::to_value)),
        Kind::Text(texts) => all.extend(in_texts(texts).into_iter().map(Value::from)),
        Kind::List(lists) => all.extend(of_list(shapes, lists, more, None, depth)),
        Kind::Literal(_) | Kind::Record(_) => {}
    }
    all.retain(|it| shape.accepts(it, document) != Tri::No);
    all
}

fn in_numbers(numbers: &Numbers) -> impl Iterator<Item = Num> {
    let near = |it: Option<Num>| {
        it.into_iter().flat_map(|it| [it, it.plus(1), it.plus(-1), it.half(1), it.half(-1)])
    };
    let multiples = numbers.multiples.clone().into_iter();
    let common = [0, 1, -1].map(Num::Int).into_iter().chain([Num::Real(0.5)]);
    let (lower, upper) = (numbers.lower(), numbers.upper());
    let large = [Num::Real(1e300), Num::Real(-1e300), Num::Int(1 << 64)];
    let numbers = numbers.clone();
    let all = common.chain(near(lower)).chain(near(upper)).chain(multiples).chain(large);
    all.filter(move |it| {
        (!numbers.whole || it.is_whole())
            && lower.is_none_or(|min| *it >= min)
            && upper.is_none_or(|max| *it <= max)
    })
}

fn in_texts(texts: &Texts<'_>) -> Vec<String> {
    const COMMON: &[&str] = &[
        "a", "", "b", "A", "0", "1", "10", "aa", "ab", "a-b", "a b", "a.b", "é", "1.0", "1.0.0",
        "-1",
    ];
    let formats = texts.formats.iter().filter_map(|it| format::sample(it));
    let mut all: Vec<String> = formats.chain(COMMON.iter().copied()).map(str::to_owned).collect();
    let lengths = [Some(texts.min), texts.max].into_iter().flatten();
    all.extend(lengths.filter(|it| *it <= LENGTH).map(|it| "a".repeat(it as usize)));
    all
}

fn of_list<'a>(
    shapes: &Shapes<'a>,
    lists: &Lists<'a>,
    at_least: u64,
    with: Option<(usize, Value)>,
    depth: u32,
) -> Option<Value> {
    let place = with.as_ref().map_or(0, |(at, _)| *at as u64 + 1);
    let length = lists.min.max(at_least).max(place);
    if length > LENGTH || lists.max.is_some_and(|max| length > max) {
        return None;
    }
    if length > 0 && depth == 0 {
        return None;
    }
    let mut items: Vec<Value> = Vec::new();
    for at in 0..length as usize {
        let item = match &with {
            Some((place, value)) if *place == at => value.clone(),
            _ if lists.unique && !items.is_empty() => {
                let alternatives = shapes.of(lists.at(at));
                let mut others =
                    alternatives.iter().flat_map(|it| several(shapes, it, at as u64, depth - 1));
                others.find(|it| !items.contains(it))?
            }
            _ => of_conj(shapes, lists.at(at), depth - 1)?,
        };
        items.push(item);
    }
    Some(Value::Array(items))
}

fn of_record<'a>(
    shapes: &Shapes<'a>,
    records: &Records<'a>,
    with: Option<(&str, Value)>,
    depth: u32,
) -> Option<Value> {
    if !shapes.document.fuel.burn(1 + records.required.len()) {
        return None;
    }
    let mut fields = Map::new();
    let given = with.as_ref().map(|(name, _)| *name);
    for name in records.required.iter().filter(|name| Some(**name) != given) {
        let conj = records.at(name, &shapes.document).unwrap_or_default();
        fields.insert((*name).to_owned(), of_conj(shapes, &conj, depth.checked_sub(1)?)?);
    }
    fields.extend(with.map(|(name, value)| (name.to_owned(), value)));
    // One of the fields that need not be there, as long as there are too few.
    for (name, conj) in &records.fields {
        if fields.len() as u64 >= records.min {
            break;
        }
        if !fields.contains_key(*name) {
            let field = of_conj(shapes, conj, depth.checked_sub(1)?);
            fields.extend(field.map(|it| ((*name).to_owned(), it)));
        }
    }
    Some(Value::Object(fields))
}

/// A name of a field that a pattern is found in and that is none of those with a name.
pub(crate) fn name_like<'a>(
    shapes: &Shapes<'a>,
    records: &Records<'a>,
    pattern: &'a str,
) -> Option<&'static str> {
    const NAMES: &[&str] = &["a", "0", "1", "-1", "A", "key", "x-a", "a_b", "a-b", "1.0.0"];
    let mut names = NAMES.iter().filter(|name| !records.fields.contains_key(**name));
    names.find(|name| shapes.document.matches(pattern, name) == Tri::Yes).copied()
}
