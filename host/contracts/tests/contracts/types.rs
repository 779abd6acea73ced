//! Types as authors write them, with the schemas that `schemars` derives: of what a type becomes,
//! and of what it is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    num::{NonZeroI32, NonZeroU32},
    time::Duration,
};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A type, and how it is read and written again.
pub(crate) struct Type {
    pub(crate) name: String,
    /// What all types have in common that are made in the same way.
    pub(crate) family: &'static str,
    pub(crate) sent: Value,
    pub(crate) taken: Value,
    /// A value as the type would send it, if it takes it.
    pub(crate) through: fn(&Value) -> Option<Value>,
}

pub(crate) trait Sample: Serialize + DeserializeOwned + JsonSchema {}
impl<T: Serialize + DeserializeOwned + JsonSchema> Sample for T {}

pub(crate) fn sent<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

pub(crate) fn taken<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

fn through<T: Sample>(value: &Value) -> Option<Value> {
    serde_json::to_value(serde_json::from_value::<T>(value.clone()).ok()?).ok()
}

fn made<T: Sample>(family: &'static str) -> Type {
    let name = std::any::type_name::<T>().replace("contracts::types::", "");
    Type { name, family, sent: sent::<T>(), taken: taken::<T>(), through: through::<T> }
}

macro_rules! shapes {
    ($($(#[$attribute:meta])* $kind:ident $name:ident $body:tt)*) => {
        $(
            #[derive(Serialize, Deserialize, JsonSchema)]
            $(#[$attribute])*
            $kind $name<T> $body
        )*

        /// Every shape, of one type.
        fn shapes<T: Sample>(all: &mut Vec<Type>) {
            $(all.push(made::<$name<T>>(stringify!($name)));)*
        }
    };
}

shapes! {
    struct Required { value: T }
    struct Optional { value: Option<T> }
    struct Skipped { #[serde(skip_serializing_if = "Option::is_none")] value: Option<T> }
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    struct Defaulted { #[serde(default)] value: Vec<T> }
    #[serde(deny_unknown_fields)]
    struct Denied { value: T }
    struct More { value: T, more: String }
    struct MoreOptional { value: T, more: Option<String> }
    struct Documented {
        /// What it is worth.
        value: T
    }
    struct Many { value: BTreeMap<String, Vec<T>> }
    struct Nested { value: Required<Required<T>> }
    struct NestedOption { value: Option<Box<More<T>>> }
    enum External { One(T), Two { value: T }, Unit }
    enum ExternalMore { One(T), Two { value: T }, Unit, Other, Three(T, String) }
    #[serde(tag = "kind")]
    enum Internal { One { value: T }, Unit }
    #[serde(tag = "kind")]
    enum InternalMore { One { value: T }, Unit, Two { more: T }, Three(Required<T>) }
    #[serde(tag = "kind", content = "value")]
    enum Adjacent { One(T), Unit }
    #[serde(tag = "kind", content = "value")]
    enum AdjacentMore { One(T), Unit, Two { value: T } }
    #[serde(untagged)]
    enum Untagged { One { value: T }, Two { more: Vec<T> } }
    #[serde(untagged)]
    enum UntaggedMore { One { value: T }, Two { more: Vec<T> }, Other(T) }
    struct Flat { more: String, #[serde(flatten)] inner: Required<T> }
    struct FlatEnum { more: String, #[serde(flatten)] inner: External<T> }
    struct FlatTagged { more: String, #[serde(flatten)] inner: Internal<T> }
    struct FlatOption { more: String, #[serde(flatten)] inner: Option<Required<T>> }
    struct FlatMap { more: String, #[serde(flatten)] inner: BTreeMap<String, T> }
    struct Tuple { value: (T, String) }
    struct List { value: T, next: Option<Box<List<T>>> }
    struct Tree { value: T, children: Vec<Tree<T>> }
}

// What only some of the others have. Generic types would need bounds for it.
#[derive(Serialize, Deserialize, JsonSchema)]
enum Expression {
    Number(f64),
    Add(Box<Expression>, Box<Expression>),
    Call { name: String, arguments: Vec<Expression> },
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Colour {
    Red,
    Green,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum MoreColours {
    Red,
    Green,
    /// It has a word for people, which gives it another schema.
    Blue,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    #[schemars(range(min = 1, max = 10))]
    at_most: u8,
    #[schemars(length(min = 1, max = 8))]
    name: String,
    #[schemars(regex(pattern = "^[a-z]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default)]
    extra: bool,
    #[serde(skip)]
    #[allow(dead_code)]
    hidden: u8,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Id(u64);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Empty {}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Unit;

/// All of them.
pub(crate) fn types() -> Vec<Type> {
    let mut all = Vec::new();
    macro_rules! of_each {
        ($($each:ty),* $(,)?) => { $(shapes::<$each>(&mut all);)* };
    }
    of_each!(
        bool,
        i8,
        u8,
        i32,
        u32,
        i64,
        u64,
        f64,
        String,
        Option<i32>,
        Colour,
        MoreColours,
        Point
    );
    macro_rules! alone {
        ($($each:ty),* $(,)?) => { $(all.push(made::<Required<$each>>("Required"));)* };
    }
    alone!(
        i16, u16, usize, isize, f32, char, (), Value, Duration, Ipv4Addr, IpAddr, NonZeroI32,
        NonZeroU32, Expression, Limits, Id, Empty, Unit, Vec<i32>, Vec<u8>, Vec<Option<u8>>,
        BTreeSet<u16>, [u8; 3], (i32, String), BTreeMap<String, i32>, BTreeMap<u32, String>,
        BTreeMap<i32, String>, BTreeMap<String, Value>, Result<u8, String>, Vec<Colour>,
        BTreeMap<Colour2, u8>, std::ops::Range<u32>, Box<Point>, External<External<u8>>,
    );
    all
}

#[derive(Serialize, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
enum Colour2 {
    Red,
    Blue,
}
