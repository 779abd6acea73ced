use super::*;
use crate::testing::squeezed;

fn derived(item: &str) -> String {
    let package =
        Package { name: Some("greeter".into()), version: Some("0.3.1".into()), crate_name: None };
    let expansion = derive(item.parse().unwrap(), &package);
    syn::parse2::<syn::File>(expansion.clone()).expect("the expansion is valid Rust");
    squeezed(expansion)
}

#[track_caller]
fn contains(expansion: &str, parts: &[&str]) {
    for part in parts {
        assert!(expansion.contains(&squeezed(part)), "{part}\nis missing in\n{expansion}");
    }
}

#[test]
fn package_definition_and_fields_are_described() {
    let expansion = derived("struct Greet { name: String, r#type: Option<Kind> }");
    contains(
        &expansion,
        &[
            "unsafe impl ::ksi_plugin_api::__private::Layout for Greet {",
            "to.text(\"greeter\"); to.text(\"0.3.1\"); to.text(::core::module_path!());",
            "to.number(::core::mem::offset_of!(Self, r#type) as u128);",
            "to.text(\"name\"); ::ksi_plugin_api::__private::Probe::<String>::describe(to);",
            "::ksi_plugin_api::__private::Probe::<Option<Kind>>::describe(to);",
            "let _ = |value: &Self| match value { Self { name: field0, r#type: field1 } => { \
             let _: *const String = field0; let _: *const Option<Kind> = field1; } };",
            "static PRINT",
        ],
    );
}

#[test]
fn a_generic_type_is_a_part_of_others_and_one_with_a_lifetime_is_none() {
    let expansion = derived("struct Page<T: Copy, const N: usize> where T: Eq { items: [T; N] }");
    contains(
        &expansion,
        &[
            "unsafe impl<T: Copy + ::ksi_plugin_api::__private::Layout, const N: usize> \
             ::ksi_plugin_api::__private::Layout for Page<T, N> where T: Eq {",
            "::ksi_plugin_api::__private::Probe::<T>::describe(to);",
            "to.text(&::std::string::ToString::to_string(&N));",
        ],
    );
    assert!(!expansion.contains("PRINT"), "{expansion}");
    assert_eq!(derived("struct Line<'a, T> { text: &'a T }"), "");
}

#[test]
fn docs_and_blanks_are_no_part_of_the_definition() {
    let of = |item: &str| definition(&syn::parse_str(item).unwrap());
    let plain = of("#[serde(rename_all = \"camelCase\")] enum Kind { One, Two(Vec<u8>) }");
    let documented = of("/// Kinds.\n#[serde( rename_all=\"camelCase\" )]\nenum Kind {\n\
         /// One.\nOne,\nTwo(/** Bytes. */ Vec < u8 >) }");
    assert_eq!(plain, documented);
    assert_ne!(plain, of("#[serde(rename_all = \"snake_case\")] enum Kind { One, Two(Vec<u8>) }"));
}

#[test]
fn a_definition_that_json_or_the_compiler_may_change_is_unproved() {
    for item in [
        "struct A { #[serde(with = \"hex\")] a: u64 }",
        "struct A { #[serde(skip)] a: u64 }",
        "struct A { #[serde(default, skip_serializing_if = \"is_zero\")] a: u64 }",
        "struct A { #[serde(skip_serializing_if = \"Vec::is_empty\")] a: Vec<u64> }",
        "#[serde(untagged)] #[repr(u8)] enum A { B(u8), C(u64) }",
        "enum A { B, #[serde(other)] C }",
        "#[serde(unknown to all)] struct A;",
        "enum A { B(u8) }",
        "#[repr(u8)] enum A { B(u8) = B, C }",
        "#[repr(C, packed(2))] struct A { a: u64 }",
    ] {
        contains(&derived(item), &["_; to.unproved(); }"]);
    }
    for item in [
        "struct A { #[serde(rename = \"b\", alias = \"c\", default = \"one\")] a: u64 }",
        "#[serde(crate = \"serde\", tag = \"kind\")] #[repr(C, u8)] enum A { B { a: u8 } = 3, C }",
        "enum A { #[serde(rename = \"b\")] B = LARGE, C }",
        "#[serde(default)] struct A { a: Option<u64> }",
    ] {
        assert!(!derived(item).contains("unproved"), "{item}");
    }
}

#[test]
fn what_may_encode_as_nothing_is_told() {
    for (item, nothing) in [
        ("struct A;", true),
        ("struct A(Option<u8>);", true),
        ("#[serde(transparent)] struct A { a: Option<u8> }", true),
        ("struct A { a: Option<u8> }", false),
        ("struct A(u8, u8);", false),
        ("enum A { B }", false),
    ] {
        let constant = format!("const MAY_BE_NOTHING: bool = {nothing};");
        contains(&derived(item), &[&constant]);
    }
}
