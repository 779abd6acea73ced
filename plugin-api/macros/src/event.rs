//! `#[event("ns:name")]` and `#[payload]`: what travels as JSON.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, GenericParam, Generics, Ident, Item, LitStr, Path, Result, Token};

use crate::args::{self, Arg};
use crate::errors::Errors;
use crate::name::check_event_name;
use crate::plugin::with_error;
use crate::read_names::noted;
use crate::renamed::{self, renamed};

/// The whole work of `#[event(args)] item`.
pub(crate) fn event(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let (name, api) = match errors.take(event_name(args)) {
        Some((name, api)) => (Some(name), api),
        None => (None, None),
    };
    let api = api.as_ref();
    let data = errors.take(data(&item, "#[event]"));
    if let Some(Data { generics, .. }) = &data {
        check_not_generic(generics, &mut errors);
    }
    let expansion = match (name, data) {
        (Some(name), Some(data)) if has_one_form(&data.generics) => {
            errors.take(check_event_name(&name));
            let derives = derives(&data.attrs, api);
            let implementation = renamed(implementation(&name, &data), api);
            let item = noted(item);
            quote!(#derives #item #implementation)
        }
        (_, Some(data)) => {
            let derives = derives(&data.attrs, api);
            let item = noted(item);
            quote!(#derives #item)
        }
        (_, None) => item,
    };
    finish(expansion, errors)
}

/// The whole work of `#[payload] item`.
pub(crate) fn payload(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let api = errors.take(only_crate(args)).flatten();
    let derives =
        errors.take(data(&item, "#[payload]")).map(|data| derives(&data.attrs, api.as_ref()));
    let item = noted(item);
    finish(quote!(#derives #item), errors)
}

fn implementation(name: &LitStr, Data { ident, generics, .. }: &Data) -> TokenStream {
    let (parameters, arguments, condition) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #parameters ::ksi_plugin_api::__private::EventName for #ident #arguments #condition {
            const NAME: &'static str = #name;
        }

        #[automatically_derived]
        #[allow(unused_imports)]
        impl #parameters ::ksi_plugin_api::Event for #ident #arguments #condition {
            const NAME: &'static str = #name;

            fn slot() -> ::core::option::Option<&'static ::ksi_plugin_api::__private::EventSlot> {
                static SLOT: ::ksi_plugin_api::__private::EventSlot =
                    ::ksi_plugin_api::__private::EventSlot::new();
                ::core::option::Option::Some(&SLOT)
            }

            fn into_value(
                self,
            ) -> ::core::result::Result<::ksi_plugin_api::__private::Value, Self> {
                use ::ksi_plugin_api::__private::Unproved as _;
                ::ksi_plugin_api::__private::Probe::<Self>::into_value(self)
            }

            fn to_value(&self) -> ::core::option::Option<::ksi_plugin_api::__private::Value> {
                use ::ksi_plugin_api::__private::Unproved as _;
                ::ksi_plugin_api::__private::Probe::<Self>::to_value(self)
            }
        }
    }
}

/// A mistake leaves the derives in place, lest every use of the type becomes a mistake as well.
fn finish(expansion: TokenStream, errors: Errors) -> TokenStream {
    match errors.finish() {
        Ok(()) => expansion,
        Err(error) => with_error(&expansion, error),
    }
}

/// The name of an event, and what `ksi_plugin_api` is called, if not so.
fn event_name(args: TokenStream) -> Result<(LitStr, Option<Path>)> {
    let expected = "an event has one name in quotes: write `#[event(\"greet:request\")]`";
    let (mut name, mut api) = (None, None);
    for arg in args::of_tokens(args)? {
        match arg {
            Arg::Text(text) if name.is_none() => name = Some(text),
            Arg::Text(second) => return Err(Error::new(second.span(), expected)),
            Arg::Value(option, value) if option == "crate" => {
                args::set(&mut api, &option, renamed::path(&value)?)?;
            }
            Arg::Flag(option) | Arg::Value(option, _) | Arg::List(option, _) => {
                return Err(Error::new(
                    option.span(),
                    format!("`{option}` is no option: {expected}"),
                ));
            }
        }
    }
    let name = name.ok_or_else(|| Error::new(Span::call_site(), expected))?;
    Ok((name, api))
}

/// What `ksi_plugin_api` is called, if not so: the one argument of a payload.
fn only_crate(args: TokenStream) -> Result<Option<Path>> {
    if args.is_empty() {
        return Ok(None);
    }
    match args::of_tokens(args.clone()).as_deref() {
        Ok([Arg::Value(option, value)]) if option == "crate" => renamed::path(value).map(Some),
        _ => {
            let message = "#[payload] takes no arguments but `crate = path`; a payload with a name \
                           is an event: write `#[event(\"greet:request\")]`";
            Err(Error::new_spanned(args, message))
        }
    }
}

struct Data {
    attrs: Vec<Attribute>,
    ident: Ident,
    generics: Generics,
}

fn data(item: &TokenStream, attribute: &str) -> Result<Data> {
    match syn::parse2(item.clone())? {
        Item::Struct(data) => {
            Ok(Data { attrs: data.attrs, ident: data.ident, generics: data.generics })
        }
        Item::Enum(data) => {
            Ok(Data { attrs: data.attrs, ident: data.ident, generics: data.generics })
        }
        _ => Err(Error::new(
            Span::call_site(),
            format!("{attribute} belongs on a struct or an enum"),
        )),
    }
}

/// Lifetimes make no difference to what an event is.
fn has_one_form(generics: &Generics) -> bool {
    generics.params.iter().all(|parameter| matches!(parameter, GenericParam::Lifetime(_)))
}

fn check_not_generic(generics: &Generics, errors: &mut Errors) {
    if !has_one_form(generics) {
        let message = "an event has one form, so its type takes no generics but lifetimes: make the generic \
                       part a #[payload] type, and write an event type for each of its uses";
        errors.at(generics, message);
    }
}

/// The derives that the author has not written, and where they find their crates.
///
/// They come before the author's attributes, because `#[serde(..)]` is only known once a derive
/// that understands it has been seen.
fn derives(attrs: &[Attribute], api: Option<&Path>) -> TokenStream {
    let derived = already_derived(attrs);
    let wanted = [
        ("Debug", quote!(::core::fmt::Debug)),
        ("Clone", quote!(::core::clone::Clone)),
        ("Serialize", quote!(::ksi_plugin_api::__private::serde::Serialize)),
        ("Deserialize", quote!(::ksi_plugin_api::__private::serde::Deserialize)),
        ("JsonSchema", quote!(::ksi_plugin_api::__private::schemars::JsonSchema)),
    ];
    let missing = wanted
        .iter()
        .filter(|(name, _)| !derived.iter().any(|it| it == name))
        .map(|(_, path)| path);
    let serde = (!names_its_crate(attrs, "serde"))
        .then(|| quote!(#[serde(crate = "::ksi_plugin_api::__private::serde")]));
    let schemars = (!names_its_crate(attrs, "schemars"))
        .then(|| quote!(#[schemars(crate = "::ksi_plugin_api::__private::schemars")]));
    // Nobody else's derive of this name is ours.
    let layout = quote!(::ksi_plugin_api::__private::Layout);
    // A derive has no arguments, but attributes of its own.
    let ksi = api.map(|api| quote!(#[ksi(crate = #api)]));
    // It comes first, because it says best what is wrong with a field.
    renamed(quote!(#[derive(#layout, #(#missing),*)] #serde #schemars #ksi), api)
}

/// The last segments of everything in `#[derive(..)]` below our own attribute.
fn already_derived(attrs: &[Attribute]) -> Vec<String> {
    attrs
        .iter()
        .filter(|attr| attr.path().is_ident("derive"))
        .filter_map(|attr| {
            attr.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated).ok()
        })
        .flatten()
        .filter_map(|path| Some(path.segments.last()?.ident.to_string()))
        .collect()
}

/// Whether one of the author's `#[serde(..)]` or `#[schemars(..)]` says `crate = ".."` already.
fn names_its_crate(attrs: &[Attribute], attribute: &str) -> bool {
    attrs.iter().filter(|attr| attr.path().is_ident(attribute)).any(|attr| {
        let Ok(list) = attr.meta.require_list() else { return false };
        let mut words = list.tokens.clone().into_iter();
        words.any(|tree| matches!(tree, TokenTree::Ident(word) if word == "crate"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{messages, squeezed};

    const ALL: &str = "#[derive(::ksi_plugin_api::__private::Layout, \
         ::core::fmt::Debug, ::core::clone::Clone, \
         ::ksi_plugin_api::__private::serde::Serialize, \
         ::ksi_plugin_api::__private::serde::Deserialize, \
         ::ksi_plugin_api::__private::schemars::JsonSchema)] \
         #[serde(crate = \"::ksi_plugin_api::__private::serde\")] \
         #[schemars(crate = \"::ksi_plugin_api::__private::schemars\")]";

    fn expand_event(args: &str, item: &str) -> TokenStream {
        valid(event(args.parse().unwrap(), item.parse().unwrap()))
    }

    fn valid(expansion: TokenStream) -> TokenStream {
        syn::parse2::<syn::File>(expansion.clone()).expect("the expansion is valid Rust");
        expansion
    }

    fn assert_same(expansion: TokenStream, expected: &str) {
        assert_eq!(squeezed(expansion), squeezed(expected));
    }

    #[test]
    fn an_event_gets_its_derives_and_its_name() {
        let item = "#[serde(deny_unknown_fields)] pub struct Greet { name: String }";
        let expansion = squeezed(expand_event("\"greet:request\"", item));
        let head = format!(
            "{ALL} {item} #[automatically_derived] \
             impl ::ksi_plugin_api::__private::EventName for Greet {{ \
             const NAME: &'static str = \"greet:request\"; }} \
             #[automatically_derived] #[allow(unused_imports)] \
             impl ::ksi_plugin_api::Event for Greet {{ \
             const NAME: &'static str = \"greet:request\"; fn slot()"
        );
        assert!(expansion.starts_with(&squeezed(head)), "{expansion}");
        for part in [
            "::ksi_plugin_api::__private::Probe::<Self>::into_value(self)",
            "::ksi_plugin_api::__private::Probe::<Self>::to_value(self)",
        ] {
            assert!(expansion.contains(&squeezed(part)), "{part}\nis missing in\n{expansion}");
        }
    }

    #[test]
    fn an_event_may_borrow() {
        let expansion = expand_event("\"log:line\"", "struct Line<'a> { text: &'a str }");
        let head = squeezed("impl<'a> ::ksi_plugin_api::Event for Line<'a> {");
        assert!(squeezed(expansion).contains(&head));
    }

    #[test]
    fn a_payload_gets_the_derives_alone() {
        for item in ["struct Config { a: u8 }", "enum Kind { A, B(u8) }", "struct Page<T>(Vec<T>);"]
        {
            let expansion = valid(payload(TokenStream::new(), item.parse().unwrap()));
            assert_same(expansion, &format!("{ALL} {item}"));
        }
    }

    #[test]
    fn a_renamed_dependency_is_called_by_its_name() {
        let payload = payload(
            quote!(crate = my::api),
            quote!(
                struct A;
            ),
        );
        let event = event(
            quote!("a:b", crate = "my::api"),
            quote!(
                struct A;
            ),
        );
        for expansion in [valid(payload), valid(event)].map(squeezed) {
            assert!(!expansion.contains("ksi_plugin_api"), "{expansion}");
            for part in [
                "my::api::__private::Layout",
                "#[serde(crate = \"my::api::__private::serde\")]",
                "#[ksi(crate = my::api)]",
            ] {
                assert!(expansion.contains(&squeezed(part)), "{part}\nis missing in\n{expansion}");
            }
        }
    }

    #[test]
    fn what_is_derived_already_is_left_out() {
        let item: TokenStream =
            "#[derive(PartialEq, Debug)] #[derive(serde::Serialize, Clone)] struct A;"
                .parse()
                .unwrap();
        let expansion = squeezed(valid(payload(TokenStream::new(), item)));
        let derive = squeezed(
            "#[derive(::ksi_plugin_api::__private::Layout, \
             ::ksi_plugin_api::__private::serde::Deserialize, \
             ::ksi_plugin_api::__private::schemars::JsonSchema)]",
        );
        assert!(expansion.starts_with(&derive), "{expansion}");
    }

    #[test]
    fn a_crate_that_the_author_names_stays() {
        let item: TokenStream = "#[serde(crate = \"serde\")] struct A;".parse().unwrap();
        let expansion = valid(payload(TokenStream::new(), item)).to_string();
        assert_eq!(expansion.matches("serde (crate").count(), 1, "{expansion}");
        assert_eq!(expansion.matches("schemars (crate").count(), 1, "{expansion}");
    }

    #[test]
    fn a_bad_name_is_the_only_mistake() {
        let expansion = expand_event("\"greet\"", "struct Greet;");
        assert!(expansion.to_string().contains("Event for Greet"), "{expansion}");
        let found = messages(expansion);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("`greet` is no event name"), "{found:?}");
        let found = messages(expand_event("\"greet:*\"", "struct Greet;"));
        assert!(found[0].starts_with("`greet:*` is a pattern"), "{found:?}");
    }

    #[test]
    fn an_event_has_one_name_and_no_options() {
        let write = "an event has one name in quotes: write `#[event(\"greet:request\")]`";
        for (args, message) in [
            ("", write.to_string()),
            ("\"a:b\", \"c:d\"", write.to_string()),
            ("\"a:b\", priority = 1", format!("`priority` is no option: {write}")),
            ("name = \"a:b\"", format!("`name` is no option: {write}")),
            (
                "greet:request",
                "an event's name is written in quotes: \"greet:request\"".to_string(),
            ),
        ] {
            assert_eq!(messages(expand_event(args, "struct Greet;")), [message], "{args}");
        }
    }

    #[test]
    fn generics_and_other_items_are_mistakes() {
        for item in
            ["struct Greet<T> { name: T }", "struct Greet<'a, const N: usize>([&'a str; N]);"]
        {
            let found = messages(expand_event("\"a:b\"", item));
            assert_eq!(found.len(), 1, "{item}: {found:?}");
            assert!(found[0].starts_with("an event has one form"), "{item}: {found:?}");
        }
        for item in ["fn greet() {}", "union Greet { a: u8 }", "type Greet = u8;"] {
            let found = messages(expand_event("\"a:b\"", item));
            assert_eq!(found, ["#[event] belongs on a struct or an enum"], "{item}");
            let found = messages(valid(payload(TokenStream::new(), item.parse().unwrap())));
            assert_eq!(found, ["#[payload] belongs on a struct or an enum"], "{item}");
        }
    }

    #[test]
    fn a_payload_takes_no_arguments() {
        let found = messages(valid(payload(
            quote!("a:b"),
            quote!(
                struct A;
            ),
        )));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("#[payload] takes no arguments but `crate = path`"),
            "{found:?}"
        );
    }
}
