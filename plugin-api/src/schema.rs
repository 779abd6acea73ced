//! The JSON Schemas of types, with what serde reads and schemars does not see: other names
//! (`alias`), and the variant that stands for all that are not known (`other`).
//!
//! `#[event]` and `#[payload]` note these beside what they are about, under keywords that only
//! this module knows. It makes of them what the type reads; what is sent has one name.

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform, transform_subschemas},
};
use serde_json::{Map, Value, json};

/// Beside a field: the other names that are read.
const ALIASES: &str = "x-ksi-aliases";
/// Beside a variant: its `aliases`, whether it is the `other` one, and the `tag` and the `content`
/// of its enum, if that has them. In an enum with both, beside each that has no content.
const VARIANT: &str = "x-ksi-variant";
/// So many combinations of names are written out. Of further fields no name is required.
const COMBINATIONS: usize = 64;

/// Of what serde reads.
pub(crate) fn read<T: JsonSchema>() -> Value {
    of::<T>(SchemaSettings::draft2020_12(), read_all_names)
}

/// Of what serde writes: a field with a default is always there, where whoever reads it may miss
/// it.
pub(crate) fn sent<T: JsonSchema>() -> Value {
    of::<T>(SchemaSettings::draft2020_12().for_serialize(), |_| {})
}

fn of<T: JsonSchema>(settings: SchemaSettings, noted: fn(&mut Schema)) -> Value {
    let settings = settings.with_transform(RecursiveTransform(noted)).with_transform(WithoutNotes);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// A note that nobody understood says nothing: that of a field without a name, for one.
#[derive(Clone)]
struct WithoutNotes;

impl Transform for WithoutNotes {
    fn transform(&mut self, schema: &mut Schema) {
        schema.remove(ALIASES);
        schema.remove(VARIANT);
        transform_subschemas(self, schema);
    }
}

fn read_all_names(schema: &mut Schema) {
    let Some(keywords) = schema.as_object_mut() else { return };
    read_all_variants(keywords);
    read_all_fields(keywords);
}

fn read_all_fields(keywords: &mut Map<String, Value>) {
    let Some(fields) = keywords.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let mut named = Vec::new();
    for (name, field) in fields.iter_mut() {
        let Some(noted) = field.as_object_mut().and_then(|it| it.remove(ALIASES)) else { continue };
        let names = [name.clone()].into_iter().chain(texts(&noted)).collect::<Vec<_>>();
        named.push((names, field.clone()));
    }
    for (names, field) in &named {
        for alias in names {
            fields.entry(alias).or_insert_with(|| field.clone());
        }
    }
    let mut combinations = 1_usize;
    for (names, _) in named {
        let Some(required) = keywords.get_mut("required").and_then(Value::as_array_mut) else {
            return;
        };
        let Some(at) = required.iter().position(|it| *it == names[0]) else { continue };
        required.remove(at);
        if required.is_empty() {
            keywords.remove("required");
        }
        combinations = names.len().saturating_mul(combinations);
        if combinations > COMBINATIONS {
            continue;
        }
        let one: Vec<_> = names.iter().map(|name| json!({"required": [name]})).collect();
        let all = keywords.entry("allOf").or_insert_with(|| json!([]));
        all.as_array_mut().into_iter().for_each(|all| all.push(json!({"anyOf": one})));
    }
}

fn read_all_variants(keywords: &mut Map<String, Value>) {
    let Some(key) = ["oneOf", "anyOf"].into_iter().find(|key| keywords.contains_key(*key)) else {
        return;
    };
    let Some(branches) = keywords.get_mut(key).and_then(Value::as_array_mut) else { return };
    let notes: Vec<_> = branches.iter_mut().map(Note::take).collect();
    let noted = || notes.iter().enumerate().filter_map(|(at, note)| Some((at, note.as_ref()?)));
    if noted().next().is_none() {
        return;
    }
    for (at, note) in noted() {
        let more: Vec<_> =
            note.aliases.iter().filter_map(|alias| note.call(&mut branches[at], alias)).collect();
        branches.extend(more);
    }
    for (at, Note { content, is_empty, .. }) in noted() {
        // What stands beside the tag is not passed over: the variant has nothing there.
        let fields = branches[at].get_mut("properties").and_then(Value::as_object_mut);
        if let (true, Some(content), Some(fields)) = (is_empty, content, fields) {
            fields.insert(content.clone(), json!({"type": "null"}));
        }
    }
    let other = noted().find(|(_, note)| note.other);
    if let Some((at, Note { tag, content, .. })) = other {
        let known: Vec<_> = match tag {
            Some(tag) => tags(branches, at, tag),
            None => with_content(branches),
        };
        if let Some(name) = name_mut(&mut branches[at], tag.as_deref()) {
            name.remove("const");
            name.remove("enum");
            // One that is known has to be as that one is. Without a tag it is a word alone, as are
            // those that have nothing within.
            if !known.is_empty() {
                name.insert("not".to_owned(), json!({"enum": known}));
            }
        }
        // Whatever stands beside the tag alone is passed over, if that is refused elsewhere or not.
        if let (Some(_), None, Some(branch)) = (tag, content, branches[at].as_object_mut()) {
            branch.remove("additionalProperties");
            branch.remove("unevaluatedProperties");
        }
        // A word that is known is of two branches now.
        if let Some(branches) = keywords.remove(key) {
            keywords.insert("anyOf".to_owned(), branches);
        }
    }
}

/// What is noted of a variant.
struct Note {
    aliases: Vec<String>,
    other: bool,
    /// Whether it has no content.
    is_empty: bool,
    tag: Option<String>,
    content: Option<String>,
}

impl Note {
    fn take(branch: &mut Value) -> Option<Note> {
        let note = branch.as_object_mut()?.remove(VARIANT)?;
        Some(Note {
            aliases: texts(&note["aliases"]).collect(),
            other: note["other"] == true,
            is_empty: note["empty"] == true,
            tag: note["tag"].as_str().map(str::to_owned),
            content: note["content"].as_str().map(str::to_owned),
        })
    }

    /// Has the variant be called by another name as well, or tells the branch of that name.
    fn call(&self, branch: &mut Value, alias: &str) -> Option<Value> {
        if let Some(name) = name_mut(branch, self.tag.as_deref())
            && (name.contains_key("const") || name.contains_key("enum"))
        {
            let own = name.remove("const").map(|own| json!([own]));
            let names = name.entry("enum").or_insert(own.unwrap_or_default());
            names.as_array_mut()?.push(json!(alias));
            return None;
        }
        let own = branch["required"][0].as_str()?.to_owned();
        let mut called = branch.clone();
        let content = called["properties"].as_object_mut()?.remove(&own)?;
        called["properties"][alias] = content;
        called["required"][0] = json!(alias);
        Some(called)
    }
}

/// The schema of a variant's name: that of the tag, or of a word that stands alone.
fn name_mut<'a>(branch: &'a mut Value, tag: Option<&str>) -> Option<&'a mut Map<String, Value>> {
    match tag {
        Some(tag) => branch.get_mut("properties")?.get_mut(tag)?.as_object_mut(),
        None => branch.as_object_mut(),
    }
}

/// The names of variants that have something within, where there is no tag.
fn with_content(branches: &[Value]) -> Vec<Value> {
    let named = branches.iter().filter(|branch| branch["type"] == "object");
    named.filter_map(|branch| branch["required"].get(0)).cloned().collect()
}

/// The names of all variants but one.
fn tags(branches: &[Value], but: usize, tag: &str) -> Vec<Value> {
    let others = branches.iter().enumerate().filter(|(at, _)| *at != but);
    let names = others.filter_map(|(_, branch)| branch.get("properties")?.get(tag));
    let each = names.flat_map(|name| match name.get("enum").and_then(Value::as_array) {
        Some(names) => names.clone(),
        None => name.get("const").cloned().into_iter().collect(),
    });
    each.collect()
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests;
