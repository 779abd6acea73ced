//! What is proved of a type, and how an event goes to its handlers.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use ksi_abi::{Fingerprint, Layout};

use super::*;
use crate::{payload as as_json, prelude::*};

/// The fingerprint of the `Order` that is defined. All of them are defined in this module, so that
/// they differ by nothing but their definitions.
macro_rules! print_of {
    ($($definition:tt)*) => {{
        $($definition)*
        <Order as Layout>::fingerprint()
    }};
}

fn base() -> Option<Fingerprint> {
    print_of! {
        #[payload]
        struct Order { id: u64, number: u64, user: String }
    }
}

#[test]
fn one_definition_has_one_fingerprint_wherever_it_is_compiled() {
    assert!(base().is_some());
    let again = print_of! {
        /// With a description,
        #[payload]
        struct Order {
            id:u64,
            /// of its fields too.
            number:u64,
            user : String
        }
    };
    assert_eq!(again, base());
}

#[test]
fn another_definition_has_another_fingerprint() {
    let others = [
        print_of! {
            #[payload]
            struct Order { id: u64, number: u64, user: String, more: u8 }
        },
        print_of! {
            #[payload]
            struct Order { id: u64, user: String }
        },
        // Laid out in the same way, with two names exchanged.
        print_of! {
            #[payload]
            struct Order { number: u64, id: u64, user: String }
        },
        print_of! {
            #[payload]
            struct Order { id: u64, amount: u64, user: String }
        },
        print_of! {
            #[payload]
            struct Order { id: u64, number: i64, user: String }
        },
        print_of! {
            #[payload]
            struct Order { id: u64, number: Box<u64>, user: String }
        },
        // Other JSON.
        print_of! {
            #[payload]
            struct Order { #[serde(rename = "n")] id: u64, number: u64, user: String }
        },
        print_of! {
            #[payload]
            #[serde(deny_unknown_fields)]
            struct Order { id: u64, number: u64, user: String }
        },
        // The same text, in which a name stands for something else.
        print_of! {
            type String = u64;
            #[payload]
            struct Order { id: u64, number: u64, user: String }
        },
        print_of! {
            #[payload]
            struct String(std::string::String);
            #[payload]
            struct Order { id: u64, number: u64, user: String }
        },
    ];
    for (index, other) in others.iter().enumerate() {
        assert!(other.is_some(), "number {index}");
        assert_ne!(*other, base(), "number {index}");
        let same = others[..index].iter().position(|earlier| earlier == other);
        assert_eq!(same, None, "number {index}");
    }
}

#[test]
fn what_lies_inside_counts() {
    fn order<T: Layout>() -> Option<Fingerprint> {
        ksi_abi::layout::LayoutDescription::fingerprint_of::<Page<T>>()
    }
    #[payload]
    struct Page<T> {
        items: Vec<T>,
        next: Option<u64>,
    }
    fn first() -> Option<Fingerprint> {
        #[payload]
        struct Item {
            name: String,
            weight: u32,
        }
        order::<Item>()
    }
    fn second() -> Option<Fingerprint> {
        #[payload]
        struct Item {
            name: String,
            weight: i32,
        }
        order::<Item>()
    }
    fn third() -> Option<Fingerprint> {
        #[payload]
        struct Item {
            name: String,
            weight: u32,
        }
        order::<Item>()
    }
    assert!(first().is_some());
    assert_ne!(first(), second());
    assert_eq!(first(), third());
    assert_eq!(Page::<u8>::fingerprint(), None, "it has one for each `T`, so none is kept");
}

/// The number of a variant may come from elsewhere, so it counts beside the text.
#[test]
fn the_numbers_of_variants_count() {
    const ONE: isize = 1;
    fn one() -> Option<Fingerprint> {
        const NUMBER: isize = ONE;
        print_of! {
            #[payload]
            enum Order { Bought = NUMBER, Sold = 9 }
        }
    }
    fn two() -> Option<Fingerprint> {
        const NUMBER: isize = ONE + 1;
        print_of! {
            #[payload]
            enum Order { Bought = NUMBER, Sold = 9 }
        }
    }
    assert!(one().is_some() && two().is_some());
    assert_ne!(one(), two());
}

#[test]
fn types_that_contain_themselves_are_proved() {
    #[payload]
    struct Node {
        name: String,
        children: Vec<Node>,
    }
    #[payload]
    struct Folder {
        files: BTreeMap<String, File>,
        parent: Option<Box<Self>>,
    }
    #[payload]
    struct File {
        folder: Option<Box<Folder>>,
        near: Vec<(File, Folder)>,
    }
    let prints = [Node::fingerprint(), Folder::fingerprint(), File::fingerprint()];
    assert!(prints.iter().all(Option::is_some), "{prints:?}");
    assert!(prints[0] != prints[1] && prints[1] != prints[2]);
}

#[test]
fn what_is_known_is_proved() {
    #[payload]
    #[derive(PartialEq)]
    struct Everything {
        numbers: (u8, i128, f64, char),
        nothing: (),
        texts: [String; 2],
        tags: HashMap<String, Vec<Option<bool>>>,
        after: Duration,
        side: Side,
        #[serde(default)]
        r#type: Kind,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        list: Vec<u8>,
    }
    #[payload]
    #[derive(PartialEq, Default)]
    enum Kind {
        #[default]
        Plain,
        Other,
    }
    #[payload]
    #[derive(PartialEq)]
    #[repr(u8)]
    enum Side {
        Buy,
        Sell { limit: Option<u32> },
        Both(u8, String),
    }
    assert!(Everything::fingerprint().is_some());
}

#[event("order:shared")]
struct Shared {
    count: Arc<u64>,
}

#[event("order:cell")]
struct InCell {
    count: Cell<u64>,
}

#[event("order:json")]
struct Json {
    count: crate::Value,
}

#[event("order:choice")]
enum Choice {
    Count(u64),
}

#[event("order:static")]
struct Static {
    count: std::borrow::Cow<'static, str>,
}

#[event("order:line")]
struct Line<'a> {
    count: &'a str,
}

#[event("order:known")]
struct Known {
    count: u64,
}

/// Whether the event goes as a value, and what its bytes are.
fn emitted(event: impl Emit) -> (bool, String) {
    let content = event.into_content().unwrap();
    let is_value = matches!(content, Content::Value(_));
    (is_value, as_json::bytes_of(content).unwrap().to_text())
}

#[test]
fn a_type_that_cannot_be_proved_goes_as_bytes() {
    let json = r#"{"count":7}"#.to_owned();
    let text = r#"{"count":"7"}"#.to_owned();
    assert_eq!(emitted(Shared { count: Arc::new(7) }), (false, json.clone()));
    assert_eq!(emitted(InCell { count: Cell::new(7) }), (false, json.clone()));
    assert_eq!(emitted(Json { count: json!(7) }), (false, json.clone()));
    assert_eq!(emitted(Choice::Count(7)), (false, r#"{"Count":7}"#.to_owned()));
    assert_eq!(emitted(Static { count: "7".into() }), (false, text.clone()));
    assert_eq!(emitted(Line { count: "7" }), (false, text));
    let by_name = named("order:known", &Known { count: 7 });
    assert_eq!(emitted(&by_name), (false, json.clone()));
    assert_eq!(emitted(by_name), (false, json));
}

#[test]
fn an_event_that_is_proved_goes_as_a_value_given_or_lent() {
    let json = r#"{"count":7}"#.to_owned();
    let known = Known { count: 7 };
    assert_eq!(emitted(&known), (true, json.clone()));
    let lent = &&known;
    assert_eq!(emitted(lent), (true, json.clone()));
    assert_eq!(Emit::owned_name(lent), "order:known");
    assert_eq!(Emit::slot(lent).map(EventSlot::number), known.slot().map(EventSlot::number));
    assert_eq!(emitted(known), (true, json));
}

fn three() -> Vec<u64> {
    vec![3]
}

/// What JSON would change must arrive changed on either way, so it goes as JSON.
#[test]
fn what_serde_does_not_keep_goes_as_bytes() {
    let unproved = [
        print_of! {
            #[payload]
            struct Order { #[serde(skip)] _id: u64 }
        },
        print_of! {
            #[payload]
            struct Order { #[serde(skip_serializing, default)] _id: u64 }
        },
        print_of! {
            #[payload]
            #[serde(untagged)]
            #[repr(u8)]
            enum Order { Id(u64), Number(u64) }
        },
        print_of! {
            #[payload]
            #[serde(from = "u64", into = "u64")]
            struct Order(u64);
            impl From<u64> for Order {
                fn from(id: u64) -> Self {
                    Order(id)
                }
            }
            impl From<Order> for u64 {
                fn from(order: Order) -> u64 {
                    order.0 + 1
                }
            }
        },
        print_of! {
            #[payload]
            struct Order { #[serde(flatten)] id: HashMap<String, u64> }
        },
        print_of! {
            #[payload]
            struct Order { #[serde(rename(serialize = "number"), default)] id: u64 }
        },
        print_of! {
            #[payload]
            struct Order {
                #[serde(default = "three", skip_serializing_if = "Vec::is_empty")]
                ids: Vec<u64>,
            }
        },
        print_of! {
            #[payload]
            #[derive(Default)]
            #[serde(default)]
            struct Order { #[serde(skip_serializing_if = "Option::is_none")] id: Option<u64> }
        },
    ];
    for (index, print) in unproved.iter().enumerate() {
        assert_eq!(*print, None, "number {index}");
    }
}

#[test]
fn what_has_no_offsets_is_not_proved() {
    let with_data = print_of! {
        #[payload]
        enum Order { Id(u64), Name(String) }
    };
    let packed = print_of! {
        #[payload]
        #[derive(Copy)]
        #[repr(C, packed)]
        struct Order { id: u64, small: u8 }
    };
    assert_eq!([with_data, packed], [None, None]);
}

#[test]
fn each_event_type_has_a_number_of_its_own() {
    static FIRST: EventSlot = EventSlot::new();
    static SECOND: EventSlot = EventSlot::new();
    let first = FIRST.number();
    assert_ne!(first, SECOND.number());
    assert_eq!(first, FIRST.number());
}

#[test]
fn a_program_without_plugins_knows_the_name_of_an_event_type() {
    #[event("shop:order")]
    struct Order {
        number: u64,
    }
    fn name_of<E: ksi_abi::EventName>(_: &E) -> &'static str {
        E::NAME
    }
    assert_eq!(name_of(&Order { number: 1 }), <Order as Event>::NAME);
}
