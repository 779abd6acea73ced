//! Notes for the schema what serde reads and schemars' derive does not see: a field's and a
//! variant's other names (`alias`), the variant that stands for all others (`other`), and that one
//! without content takes none.
//!
//! `ksi_plugin_api` makes of the notes what is read. A note stands beside its field, so that the
//! name which schemars gives that, by whichever `rename`, need not be known here.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Expr, ExprLit, Fields, Item, Lit, LitStr, Meta, parse_quote};

use crate::layout::{of_serde, text_of};

/// The item with its notes; as it is if there are none, or if it is no struct and no enum.
pub(crate) fn noted(item: TokenStream) -> TokenStream {
    let Ok(mut parsed) = syn::parse2::<Item>(item.clone()) else { return item };
    let any = match &mut parsed {
        Item::Struct(data) => note_fields(&mut data.fields),
        Item::Enum(data) => {
            let said = |word| match text_of(&data.attrs, word) {
                Some(text) => quote!(#text),
                None => quote!(null),
            };
            let (tag, content) = (said("tag"), said("content"));
            let is_adjacent =
                ["tag", "content"].iter().all(|it| text_of(&data.attrs, it).is_some());
            let variants = data.variants.iter_mut();
            variants.fold(false, |any, variant| {
                let inside = note_fields(&mut variant.fields);
                let (aliases, other) = (aliases(&variant.attrs), says(&variant.attrs, "other"));
                // What would be beside its tag is not passed over.
                let empty = matches!(variant.fields, Fields::Unit);
                let noted = !aliases.is_empty() || other || empty && is_adjacent;
                if noted {
                    variant.attrs.push(parse_quote!(#[schemars(extend(
                        "x-ksi-variant" = {
                            "aliases": [#(#aliases),*],
                            "other": #other,
                            "empty": #empty,
                            "tag": #tag,
                            "content": #content
                        }
                    ))]));
                }
                any | inside | noted
            })
        }
        _ => false,
    };
    if any { parsed.into_token_stream() } else { item }
}

fn note_fields(fields: &mut Fields) -> bool {
    let mut any = false;
    // The schema of a field that is flattened is none of its own.
    for field in fields.iter_mut().filter(|field| !says(&field.attrs, "flatten")) {
        let aliases = aliases(&field.attrs);
        if !aliases.is_empty() {
            any = true;
            field.attrs.push(parse_quote!(#[schemars(extend("x-ksi-aliases" = [#(#aliases),*]))]));
        }
    }
    any
}

fn aliases(attrs: &[Attribute]) -> Vec<LitStr> {
    let each = of_serde(attrs).flatten().flatten().filter_map(|meta| match meta {
        Meta::NameValue(pair) if pair.path.is_ident("alias") => match pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
            _ => None,
        },
        _ => None,
    });
    each.collect()
}

fn says(attrs: &[Attribute], word: &str) -> bool {
    of_serde(attrs).flatten().flatten().any(|meta| meta.path().is_ident(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::squeezed;

    #[test]
    fn aliases_and_the_other_variant_are_noted_and_nothing_else() {
        for (item, expected) in [
            (
                "struct A { #[serde(default, alias = \"b\", alias = \"c\")] a: u8 }",
                "struct A { #[serde(default, alias = \"b\", alias = \"c\")] \
                 #[schemars(extend(\"x-ksi-aliases\" = [\"b\", \"c\"]))] a: u8 }",
            ),
            (
                "#[serde(tag = \"kind\")] enum A { #[serde(other)] B }",
                "#[serde(tag = \"kind\")] enum A { #[serde(other)] #[schemars(extend( \
                 \"x-ksi-variant\" = {\"aliases\": [], \"other\": true, \"empty\": true, \"tag\": \"kind\", \
                 \"content\": null}))] B }",
            ),
            (
                "enum A { #[serde(alias = \"b\")] B }",
                "enum A { #[serde(alias = \"b\")] #[schemars(extend( \
                 \"x-ksi-variant\" = {\"aliases\": [\"b\"], \"other\": false, \"empty\": true, \"tag\": null, \
                 \"content\": null}))] B }",
            ),
        ] {
            assert_eq!(squeezed(noted(item.parse().unwrap())), squeezed(expected));
        }
        for item in [
            "struct A { #[serde(flatten, alias = \"b\")] a: B, #[serde(default)] c: u8 }",
            "enum A { #[serde(rename = \"other\")] B }",
            "fn a() {}",
        ] {
            assert_eq!(squeezed(noted(item.parse().unwrap())), squeezed(item));
        }
    }
}
