//! Against serde, which reads and writes the same types, and against the comparison of contracts.

use ksi_contracts::{Verdict, compare};
use serde::de::DeserializeOwned;

use super::*;
use crate::payload;

#[payload]
struct WithUser {
    user: String,
}

#[payload]
struct WithCustomer {
    customer: String,
}

#[payload]
#[serde(rename_all = "camelCase")]
struct Order {
    #[serde(alias = "user", alias = "buyer")]
    customer: String,
    #[serde(alias = "so_many")]
    how_many: Option<u32>,
    #[serde(rename = "note", alias = "remark", default)]
    text: String,
    #[serde(alias = "before")]
    previous: Vec<WithUser>,
}

#[payload]
struct Rename {
    #[serde(alias = "user")]
    customer: String,
}

#[payload]
enum Colour {
    Red,
    #[serde(alias = "lime")]
    Green,
    #[serde(other)]
    Unknown,
}

#[payload]
enum Red {
    Red,
    Blue,
}

#[payload]
#[serde(tag = "kind")]
enum Change {
    #[serde(alias = "new")]
    Made {
        #[serde(alias = "id")]
        number: u32,
    },
    Gone(WithUser),
    #[serde(other)]
    Unknown,
}

#[payload]
#[serde(tag = "kind")]
enum Later {
    Made { number: u32 },
    Moved { to: String },
}

#[payload]
#[serde(tag = "kind")]
enum Wrong {
    Made { number: String },
}

#[payload]
enum Shape {
    #[serde(alias = "round")]
    Circle(u32),
    Point,
}

#[payload]
#[serde(deny_unknown_fields)]
struct Many {
    #[serde(alias = "a2", alias = "a3", alias = "a4")]
    a: u8,
    #[serde(alias = "b2", alias = "b3", alias = "b4")]
    b: u8,
    #[serde(alias = "c2", alias = "c3", alias = "c4")]
    c: u8,
    #[serde(alias = "d2")]
    d: u8,
}

#[payload]
struct Around {
    #[serde(flatten)]
    inside: Rename,
    color: Colour,
}

#[payload]
#[serde(transparent)]
struct Word {
    #[serde(alias = "nothing")]
    word: String,
}

#[payload]
#[serde(tag = "kind", content = "of", rename_all = "snake_case")]
enum Adjacent {
    #[serde(alias = "new")]
    WasMade {
        #[serde(alias = "id")]
        number: u32,
    },
    Gone(WithUser),
    #[serde(other)]
    Unknown,
}

#[payload]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Untagged {
    ByNumber {
        #[serde(alias = "id")]
        the_number: u32,
    },
    ByUser(Rename),
    Word(String),
}

#[payload]
#[serde(rename_all = "kebab-case", rename_all_fields = "SCREAMING_SNAKE_CASE")]
enum External {
    #[serde(alias = "new", alias = "fresh")]
    WasMade {
        #[serde(alias = "id")]
        number: u32,
        #[serde(alias = "by")]
        user: Rename,
    },
    #[serde(rename(deserialize = "left", serialize = "gone"), alias = "away")]
    Gone,
    Pair(u8, Rename),
}

#[payload]
struct Page<T> {
    #[serde(alias = "rows")]
    items: Vec<T>,
    #[serde(alias = "head")]
    first: Box<T>,
    #[serde(skip, alias = "seen")]
    _hidden: u8,
    #[serde(alias = "any")]
    anything: Value,
}

#[payload]
struct Tree {
    #[serde(alias = "kids")]
    children: Vec<Tree>,
}

#[track_caller]
fn as_serde_reads<T: JsonSchema + DeserializeOwned>(values: &[Value]) {
    let schema = read::<T>();
    for value in values {
        let reads = serde_json::from_value::<T>(value.clone());
        let fits = compare(&json!({"const": value}), &schema) == Verdict::Compatible;
        assert_eq!(reads.is_ok(), fits, "{value}: {:?}\n{schema:#}", reads.err());
    }
    let said = [schema, sent::<T>()].map(|schema| schema.to_string());
    assert!(!said.iter().any(|it| it.contains("x-ksi")), "{said:?}");
}

#[track_caller]
fn fits<Sent: JsonSchema, Read: JsonSchema>() {
    let (sent, read) = (sent::<Sent>(), read::<Read>());
    assert_eq!(compare(&sent, &read), Verdict::Compatible, "\n{sent:#}\n{read:#}");
}

#[track_caller]
fn breaks<Sent: JsonSchema, Read: JsonSchema>() {
    let (sent, read) = (sent::<Sent>(), read::<Read>());
    let verdict = compare(&sent, &read);
    assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}\n{sent:#}\n{read:#}");
}

#[test]
fn a_field_may_be_called_by_each_of_its_names_and_has_to_be_by_one() {
    as_serde_reads::<Order>(&[
        json!({"customer": "ada", "howMany": 1, "note": "", "previous": []}),
        json!({"user": "ada", "so_many": 1, "remark": "", "before": [{"user": "grace"}]}),
        json!({"buyer": "ada", "before": []}),
        json!({"previous": []}),
        json!({"customer": "ada"}),
        json!({"user": 1, "previous": []}),
        json!({"user": "ada", "so_many": "1", "previous": []}),
        json!({"user": "ada", "remark": 1, "previous": []}),
        json!({"user": "ada", "before": [{"customer": "grace"}]}),
    ]);
    as_serde_reads::<Around>(&[
        json!({"user": "ada", "color": "Red"}),
        json!({"customer": "ada", "color": "pink"}),
        json!({"color": "Red"}),
    ]);
    as_serde_reads::<Word>(&[json!("a"), json!({"nothing": "a"})]);
}

#[test]
fn a_sender_of_the_name_before_and_one_of_the_name_now_break_no_contract() {
    fits::<WithUser, Rename>();
    fits::<WithCustomer, Rename>();
    fits::<Rename, WithCustomer>();
    fits::<Rename, Rename>();
    fits::<Order, Order>();
    fits::<Around, Around>();
    breaks::<Rename, WithUser>();
    breaks::<WithUser, WithCustomer>();
    // What clients could send to the version before.
    let (before, now) = (read::<WithUser>(), read::<Rename>());
    for (sent, taken) in [(&before, &now), (&now, &now)] {
        assert_eq!(compare(sent, taken), Verdict::Compatible);
    }
    assert!(matches!(compare(&now, &before), Verdict::Broken(_)));
}

#[test]
fn of_very_many_names_none_is_required() {
    as_serde_reads::<Many>(&[
        json!({"a": 1, "b2": 2, "c": 3, "d2": 4}),
        json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}),
        json!({"a": 1, "b": 2, "c": "three", "d": 4}),
        json!({"a": 1, "c": 3, "d": 4}),
    ]);
    let without = json!({"a4": 1, "b": 2, "c": 3});
    let verdict = compare(&json!({"const": without}), &read::<Many>());
    assert_eq!(verdict, Verdict::Compatible, "a handler says itself that `d` is missing");
    fits::<Many, Many>();
}

#[test]
fn a_variant_may_be_called_by_each_of_its_names_and_the_other_one_by_any() {
    as_serde_reads::<Colour>(&[json!("Red"), json!("lime"), json!("pink"), json!(1)]);
    as_serde_reads::<Change>(&[
        json!({"kind": "Made", "number": 1}),
        json!({"kind": "new", "id": 1}),
        json!({"kind": "Made"}),
        json!({"kind": "new", "number": "one"}),
        json!({"kind": "Gone", "user": "ada"}),
        json!({"kind": "Gone"}),
        json!({"kind": "Moved", "to": "there"}),
        json!({"kind": "Unknown"}),
        json!({"number": 1}),
    ]);
    as_serde_reads::<Shape>(&[
        json!({"Circle": 1}),
        json!({"round": 1}),
        json!({"round": "one"}),
        json!("Point"),
        json!({"square": 1}),
    ]);
}

#[test]
fn names_hold_however_an_enum_is_tagged() {
    as_serde_reads::<Adjacent>(&[
        json!({"kind": "was_made", "of": {"number": 1}}),
        json!({"kind": "new", "of": {"id": 1}}),
        json!({"kind": "new"}),
        json!({"kind": "new", "of": {"number": "one"}}),
        json!({"kind": "gone", "of": {"user": "ada"}}),
        json!({"kind": "unknown"}),
        json!({"kind": "moved"}),
        json!({"kind": "moved", "of": null}),
        json!({"kind": "moved", "of": {"to": "there"}}),
        json!({"of": {"number": 1}}),
    ]);
    as_serde_reads::<Untagged>(&[
        json!({"theNumber": 1}),
        json!({"id": 1}),
        json!({"the_number": 1}),
        json!({"user": "ada"}),
        json!({"customer": "ada"}),
        json!("word"),
        json!({"user": 1}),
    ]);
    as_serde_reads::<External>(&[
        json!({"was-made": {"NUMBER": 1, "USER": {"user": "ada"}}}),
        json!({"new": {"id": 1, "by": {"customer": "ada"}}}),
        json!({"fresh": {"NUMBER": 1, "by": {}}}),
        json!({"fresh": {"id": "one", "by": {"user": "ada"}}}),
        json!({"WasMade": {"NUMBER": 1, "USER": {"user": "ada"}}}),
        json!("left"),
        json!("away"),
        json!("gone"),
        json!({"pair": [1, {"user": "ada"}]}),
        json!({"pair": [1, {}]}),
    ]);
    fits::<Adjacent, Adjacent>();
    fits::<Untagged, Untagged>();
}

#[test]
fn names_hold_within_generic_types_and_those_that_have_themselves_within() {
    as_serde_reads::<Page<Rename>>(&[
        json!({"rows": [{"user": "ada"}], "head": {"customer": "ada"}, "any": null}),
        json!({"items": [], "first": {"user": "ada"}, "anything": {}}),
        json!({"items": [{}], "first": {"user": "ada"}, "anything": {}}),
        json!({"rows": [], "head": {}, "anything": 1}),
        json!({"rows": [], "head": {"user": "ada"}}),
        json!({"rows": [], "head": {"user": "ada"}, "seen": "no number", "any": 1}),
    ]);
    as_serde_reads::<Tree>(&[
        json!({"kids": [{"children": []}, {"kids": []}]}),
        json!({"kids": [{"child": []}]}),
    ]);
    fits::<Page<WithUser>, Page<Rename>>();
    fits::<Page<WithCustomer>, Page<Rename>>();
    breaks::<Page<Rename>, Page<WithUser>>();
    fits::<Tree, Tree>();
}

#[test]
fn a_variant_that_is_not_known_breaks_no_contract_where_there_is_one_for_it() {
    fits::<Red, Colour>();
    fits::<String, Colour>();
    fits::<Colour, Colour>();
    breaks::<Colour, Red>();
    fits::<Later, Change>();
    fits::<Change, Change>();
    breaks::<Wrong, Change>();
    fits::<Shape, Shape>();
    assert_eq!(compare(&read::<Change>(), &read::<Change>()), Verdict::Compatible);
    assert_eq!(compare(&read::<Colour>(), &read::<Colour>()), Verdict::Compatible);
}

#[payload]
enum Drawn {
    Point,
    Circle(u32),
    #[serde(alias = "box")]
    Square {
        side: u32,
    },
    #[serde(other)]
    Unknown,
}

#[payload]
enum Simpler {
    Point,
    Circle,
}

#[payload]
enum Further {
    Circle(u32),
    Blob,
}

#[payload]
#[serde(tag = "kind", deny_unknown_fields)]
enum Strict {
    Made {
        number: u32,
    },
    #[serde(other)]
    Unknown,
}

#[payload]
#[serde(tag = "kind", content = "of")]
enum Said {
    Number(u32),
    #[serde(skip)]
    _Hidden,
    Nothing,
}

#[payload]
#[serde(tag = "kind", content = "of")]
enum SaidMore {
    Number(u32),
    Nothing(u32),
}

#[test]
fn a_known_variant_without_what_it_has_within_is_none_of_the_unknown_ones() {
    as_serde_reads::<Drawn>(&[
        json!("Point"),
        json!("blob"),
        json!({"Circle": 1}),
        json!({"box": {"side": 1}}),
        json!("Circle"),
        json!("Square"),
        json!("box"),
    ]);
    breaks::<Simpler, Drawn>();
    fits::<Further, Drawn>();
    fits::<Drawn, Drawn>();
    assert_eq!(compare(&read::<Drawn>(), &read::<Drawn>()), Verdict::Compatible);
}

#[test]
fn an_unknown_variant_may_have_fields_where_unknown_ones_are_denied() {
    as_serde_reads::<Strict>(&[
        json!({"kind": "Made", "number": 1}),
        json!({"kind": "Made", "number": 1, "more": 1}),
        json!({"kind": "Moved", "to": "there"}),
    ]);
    fits::<Later, Strict>();
}

#[test]
fn a_variant_without_content_is_read_with_none() {
    as_serde_reads::<Said>(&[
        json!({"kind": "Nothing"}),
        json!({"kind": "Nothing", "of": null}),
        json!({"kind": "Nothing", "of": 1}),
        json!({"kind": "Number", "of": 1}),
    ]);
    fits::<Said, Said>();
    breaks::<SaidMore, Said>();
}
