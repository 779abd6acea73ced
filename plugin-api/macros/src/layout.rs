//! `#[derive(Layout)]`, which `#[event]` and `#[payload]` add: what proves that two builds mean the
//! same type.
//!
//! It is a derive of its own, and not part of those attributes, because a derive sees the
//! definition with its `cfg`s decided. Whatever cannot be proved is no mistake: the type then
//! travels as JSON.
//!
//! The implementation that it writes is an unsafe one, which this module answers for. The lint
//! `unsafe_code` does not look into what a derive of another crate writes, so a plugin may forbid
//! unsafe code all the same.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Data, DeriveInput, Expr, ExprLit, Field, Fields, GenericParam, Ident, Index, Lit,
    Member, Meta, MetaNameValue, Path, Token, Variant, parse_quote,
};

use crate::package::Package;
use crate::renamed::{self, renamed};

/// The whole work of the derive. A type with lifetimes gets nothing: what it borrows from is JSON.
pub(crate) fn derive(input: TokenStream, package: &Package) -> TokenStream {
    let mut input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    if input.generics.lifetimes().next().is_some() {
        return TokenStream::new();
    }
    let api = take_crate(&mut input.attrs);
    let checked = checked_fields(&input);
    let description = match is_provable(&input) {
        true => description(&input, package),
        false => quote!(to.unproved();),
    };
    let fingerprint = input.generics.params.is_empty().then(|| {
        quote! {
            fn fingerprint() -> ::core::option::Option<::ksi_plugin_api::__private::Fingerprint> {
                static PRINT: ::ksi_plugin_api::__private::Cached =
                    ::ksi_plugin_api::__private::Cached::new();
                PRINT.of::<Self>()
            }
        }
    });
    for parameter in input.generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::ksi_plugin_api::__private::Layout));
    }
    let may_be_nothing = may_be_nothing(&input);
    let ident = &input.ident;
    let (generics, arguments, condition) = input.generics.split_for_impl();
    let implementation = quote! {
        #[automatically_derived]
        #[allow(deprecated, unused_imports)]
        unsafe impl #generics ::ksi_plugin_api::__private::Layout for #ident #arguments #condition {
            const MAY_BE_NOTHING: bool = #may_be_nothing;

            fn describe(to: &mut ::ksi_plugin_api::__private::LayoutDescription) {
                #checked
                use ::ksi_plugin_api::__private::Unproved as _;
                #description
            }

            #fingerprint
        }
    };
    renamed(implementation, api.as_ref())
}

/// Has the compiler say of a field that cannot cross what to write, before serde's and schemars'
/// derives say what it lacks. Fields that an attribute treats in a way of its own are left to them,
/// and so are those of generic types.
fn checked_fields(input: &DeriveInput) -> Option<TokenStream> {
    let converted = ["from", "try_from", "into", "remote", "bound", "deserialize_with"];
    if !input.generics.params.is_empty() || serde_says(&input.attrs, &converted) {
        return None;
    }
    let fields: Vec<&Field> = match &input.data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => {
            let plain = data.variants.iter().filter(|variant| !has_own_way(&variant.attrs));
            plain.flat_map(|variant| &variant.fields).collect()
        }
        Data::Union(_) => return None,
    };
    let plain = fields.into_iter().filter(|field| !has_own_way(&field.attrs));
    let types: Vec<_> = plain.map(|field| &field.ty).collect();
    (!types.is_empty()).then(|| {
        quote! {
            const fn field<T: ::ksi_plugin_api::__private::PayloadField>() {}
            #(field::<#types>();)*
        }
    })
}

fn has_own_way(attrs: &[Attribute]) -> bool {
    attrs
        .iter()
        .any(|attr| ["serde", "schemars"].iter().any(|crate_name| attr.path().is_ident(crate_name)))
}

/// Whether `#[serde(..)]` has one of these words.
fn serde_says(attrs: &[Attribute], words: &[&str]) -> bool {
    attrs.iter().filter(|attr| attr.path().is_ident("serde")).any(|attr| {
        let Ok(list) = attr.meta.require_list() else { return false };
        let is_one = |tree: TokenTree| {
            matches!(tree, TokenTree::Ident(word) if words.iter().any(|known| word == known))
        };
        list.tokens.clone().into_iter().any(is_one)
    })
}

/// What `ksi_plugin_api` is called, if not so. That is no part of the definition.
fn take_crate(attrs: &mut Vec<Attribute>) -> Option<Path> {
    let place = attrs.iter().position(|attr| attr.path().is_ident("ksi"))?;
    let pair: MetaNameValue = attrs.remove(place).parse_args().ok()?;
    renamed::path(&pair.value).ok()
}

fn description(input: &DeriveInput, package: &Package) -> TokenStream {
    let name = package.name.as_deref().unwrap_or_default();
    let version = package.version.as_deref().unwrap_or_default();
    let definition = definition(input);
    let parameters = input.generics.params.iter().filter_map(|parameter| match parameter {
        GenericParam::Type(parameter) => {
            let ident = &parameter.ident;
            Some(quote!(::ksi_plugin_api::__private::Probe::<#ident>::describe(to);))
        }
        GenericParam::Const(parameter) => {
            let ident = &parameter.ident;
            Some(quote!(to.text(&::std::string::ToString::to_string(&#ident));))
        }
        GenericParam::Lifetime(_) => None,
    });
    let inside = match &input.data {
        Data::Struct(data) => {
            let offsets = data
                .fields
                .members()
                .map(|member| quote!(to.number(::core::mem::offset_of!(Self, #member) as u128);));
            let fields = fields(&data.fields);
            let whole = whole([(quote!(Self), &data.fields)].into_iter());
            quote!(#(#offsets)* #fields #whole)
        }
        Data::Enum(data) => {
            let plain = data.variants.iter().all(is_unit);
            let variants = data.variants.iter().map(|variant| {
                let (ident, name) = (&variant.ident, variant.ident.to_string());
                let number = plain.then(|| quote!(to.number(Self::#ident as i128 as u128);));
                let fields = fields(&variant.fields);
                quote!(to.text(#name); #number #fields)
            });
            let whole = whole(
                data.variants
                    .iter()
                    .map(|Variant { ident, fields, .. }| (quote!(Self::#ident), fields)),
            );
            quote!(#(#variants)* #whole)
        }
        Data::Union(_) => quote!(to.unproved();),
    };
    quote! {
        to.text(#name);
        to.text(#version);
        to.text(::core::module_path!());
        to.text(#definition);
        #(#parameters)*
        #inside
    }
}

fn fields(fields: &Fields) -> TokenStream {
    let each = fields.members().zip(fields).map(|(member, Field { ty, .. })| {
        let name = member_name(&member);
        quote!(to.text(#name); ::ksi_plugin_api::__private::Probe::<#ty>::describe(to);)
    });
    each.collect()
}

/// Has the compiler check that the type has the fields that were described, and no others: an
/// attribute that stands below the derive could have changed them. It asks for pointers because a
/// reference to a box would do for one to what is in it.
fn whole<'a>(shapes: impl Iterator<Item = (TokenStream, &'a Fields)>) -> TokenStream {
    let mut arms = shapes.map(|(path, fields)| {
        let bound: Vec<Ident> = (0..fields.len()).map(|n| format_ident!("field{n}")).collect();
        let members = fields.members();
        let types = fields.iter().map(|field| &field.ty);
        quote!(#path { #(#members: #bound),* } => { #(let _: *const #types = #bound;)* })
    });
    let Some(first) = arms.next() else { return TokenStream::new() };
    quote!(let _ = |value: &Self| match value { #first #(#arms)* };)
}

fn member_name(member: &Member) -> String {
    match member {
        Member::Named(ident) => ident.to_string(),
        Member::Unnamed(Index { index, .. }) => index.to_string(),
    }
}

fn is_unit(variant: &Variant) -> bool {
    matches!(variant.fields, Fields::Unit)
}

/// The definition as text: without docs, which change nothing, and without the blanks and line ends
/// that tokens do not keep in one way.
fn definition(input: &DeriveInput) -> String {
    let mut input = input.clone();
    let is_no_doc = |attr: &Attribute| !attr.path().is_ident("doc");
    input.attrs.retain(is_no_doc);
    let strip = |fields: &mut Fields| fields.iter_mut().for_each(|it| it.attrs.retain(is_no_doc));
    match &mut input.data {
        Data::Struct(data) => strip(&mut data.fields),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                variant.attrs.retain(is_no_doc);
                strip(&mut variant.fields);
            }
        }
        Data::Union(_) => {}
    }
    let mut text = String::new();
    write(input.into_token_stream(), &mut text);
    text
}

fn write(tokens: TokenStream, text: &mut String) {
    for tree in tokens {
        match tree {
            TokenTree::Group(group) => {
                // The parts of a group that has no delimiters count as if they stood by themselves.
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            other => {
                text.push_str(&other.to_string());
                text.push(' ');
            }
        }
    }
}

/// Whether the layout is one that can be described, and a value the same whether or not it goes by
/// way of JSON.
fn is_provable(input: &DeriveInput) -> bool {
    let fields_are_kept = match &input.data {
        Data::Struct(data) => data.fields.iter().all(|field| field_is_kept(field, &input.attrs)),
        Data::Enum(data) => data.variants.iter().all(|variant| {
            keeps(&variant.attrs, &["rename", "alias", "rename_all", "bound", "borrow"])
                && variant.fields.iter().all(|field| field_is_kept(field, &input.attrs))
        }),
        Data::Union(_) => false,
    };
    fields_are_kept && layout_is_defined(input) && keeps(&input.attrs, OF_TYPES)
}

/// What serde may be told about a type without changing what arrives.
const OF_TYPES: &[&str] = &[
    "rename",
    "rename_all",
    "rename_all_fields",
    "deny_unknown_fields",
    "tag",
    "content",
    "bound",
    "default",
    "crate",
    "transparent",
    "expecting",
];

/// A struct has offsets that can be asked for; the fields of an enum have a place only by its
/// `repr`.
fn layout_is_defined(input: &DeriveInput) -> bool {
    let reprs: Vec<Ident> = input
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("repr"))
        .filter_map(|attr| attr.parse_args::<TokenStream>().ok())
        .flatten()
        .filter_map(|tree| match tree {
            TokenTree::Ident(ident) => Some(ident),
            _ => None,
        })
        .collect();
    let has = |names: &[&str]| reprs.iter().any(|repr| names.iter().any(|name| repr == name));
    if has(&["packed"]) {
        // Its fields cannot be borrowed.
        return false;
    }
    let Data::Enum(data) = &input.data else { return true };
    const DEFINED: &[&str] = &[
        "C", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
    ];
    let literal = |variant: &Variant| match &variant.discriminant {
        Some((_, Expr::Lit(ExprLit { lit: Lit::Int(_), .. }))) | None => true,
        Some(_) => false,
    };
    data.variants.iter().all(is_unit) || has(DEFINED) && data.variants.iter().all(literal)
}

/// Whether serde encodes the field as it is, and decodes what it has encoded.
fn field_is_kept(field: &Field, of_type: &[Attribute]) -> bool {
    const OF_FIELDS: &[&str] =
        &["rename", "alias", "default", "bound", "borrow", "skip_serializing_if"];
    let Some(skips) = text_of(&field.attrs, "skip_serializing_if") else {
        return keeps(&field.attrs, OF_FIELDS);
    };
    // What is left out comes back as the default of the field's type, which the known conditions
    // ask for.
    let known = match skips.as_str() {
        "Option::is_none" => true,
        "Vec::is_empty" | "String::is_empty" | "HashMap::is_empty" | "BTreeMap::is_empty"
        | "HashSet::is_empty" | "BTreeSet::is_empty" | "VecDeque::is_empty" => {
            of_serde(&field.attrs)
                .flatten()
                .flatten()
                .any(|meta| matches!(&meta, Meta::Path(path) if path.is_ident("default")))
        }
        _ => false,
    };
    let other_default = text_of(&field.attrs, "default").is_some()
        || of_serde(of_type).flatten().flatten().any(|meta| meta.path().is_ident("default"));
    known && !other_default && keeps(&field.attrs, OF_FIELDS)
}

/// Whether serde is told nothing else than these.
fn keeps(attrs: &[Attribute], known: &[&str]) -> bool {
    of_serde(attrs).all(|metas| {
        metas.is_some_and(|metas| {
            metas.iter().all(|meta| {
                // In parentheses it may be told one thing for encoding and another for decoding.
                let one_way = matches!(meta, Meta::List(_)) && !meta.path().is_ident("bound");
                !one_way && known.iter().any(|known| meta.path().is_ident(known))
            })
        })
    })
}

pub(crate) fn text_of(attrs: &[Attribute], word: &str) -> Option<String> {
    of_serde(attrs).flatten().flatten().find_map(|meta| match meta {
        Meta::NameValue(pair) if pair.path.is_ident(word) => match pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

pub(crate) type Metas = Punctuated<Meta, Token![,]>;

/// What the `#[serde(..)]` attributes say; `None` for one that cannot be read.
pub(crate) fn of_serde(attrs: &[Attribute]) -> impl Iterator<Item = Option<Metas>> {
    attrs
        .iter()
        .filter(|attr| attr.path().is_ident("serde"))
        .map(|attr| attr.parse_args_with(Metas::parse_terminated).ok())
}

/// Whether JSON's `null` may stand for a value: as a reply it means that there is none.
fn may_be_nothing(input: &DeriveInput) -> bool {
    let Data::Struct(data) = &input.data else { return false };
    let transparent =
        of_serde(&input.attrs).flatten().flatten().any(|meta| meta.path().is_ident("transparent"));
    let newtype = matches!(&data.fields, Fields::Unnamed(fields) if fields.unnamed.len() == 1);
    transparent || newtype || matches!(data.fields, Fields::Unit)
}

#[cfg(test)]
mod tests;
