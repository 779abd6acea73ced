//! How a handler takes its payload.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Type, parse2};

use crate::errors::Errors;
use crate::signature::{bare, last_is};

/// The three ways in which a payload reaches a handler, from the type that the author wrote.
pub(crate) enum Payload {
    /// `T`: one of the handler's own.
    Owned(Type),
    /// `&T`: the event's own.
    Lent(Type),
    /// What borrows from the JSON: `Line<'_>`, `&str`, `&RawValue`.
    Borrowed(Type),
    /// `&Line<'_>`: a reference to such a thing.
    BorrowedLent(Type),
}

impl Payload {
    /// Reads the type of a handler's payload. `form` says what the handler's signature should be.
    pub(crate) fn read(ty: &Type, form: &str, errors: &mut Errors) -> Option<Self> {
        let mut refuse = |problem: &str| {
            errors.at(ty, format!("the payload {problem}: write `{form}`"));
            None
        };
        match bare(ty) {
            Type::ImplTrait(_) => refuse("is one type that can be named, not `impl ..`"),
            Type::Infer(_) => refuse("is one type that can be named, not `_`"),
            Type::Reference(reference) => {
                let inner = bare(&reference.elem);
                if reference.mutability.is_some() {
                    refuse("is shared with other handlers, so it is not `&mut`")
                } else if reference.lifetime.as_ref().is_some_and(|it| it.ident == "static") {
                    refuse("lives as long as the call, not `'static`")
                } else if borrows_whole(inner) {
                    Some(Payload::Borrowed(ty.clone()))
                } else if matches!(inner, Type::Slice(_) | Type::TraitObject(_)) {
                    refuse("has a size, also behind a reference: a list is a `Vec`")
                } else if borrows(inner.to_token_stream()) {
                    Some(Payload::BorrowedLent(inner.clone()))
                } else {
                    Some(Payload::Lent(inner.clone()))
                }
            }
            ty if borrows(ty.to_token_stream()) => Some(Payload::Borrowed(ty.clone())),
            ty => Some(Payload::Owned(ty.clone())),
        }
    }

    /// The type that is decoded, as one that stands outside of any call: for its schema and its
    /// event's name.
    pub(crate) fn lasting(&self) -> Type {
        let (Payload::Owned(ty)
        | Payload::Lent(ty)
        | Payload::Borrowed(ty)
        | Payload::BorrowedLent(ty)) = self;
        // What is not understood stays as it is, and the compiler points at it.
        parse2(with_static(ty.to_token_stream())).unwrap_or_else(|_| ty.clone())
    }
}

/// What has no size, and is part of the JSON as it is.
fn borrows_whole(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path.is_ident("str") || last_is(&path.path, "RawValue")
}

/// Whether a lifetime occurs that is not `'static`, written out or left out behind a `&`.
fn borrows(tokens: TokenStream) -> bool {
    with_static(tokens.clone()).to_string() != tokens.to_string()
}

/// The same type, with `'static` for every other lifetime.
fn with_static(tokens: TokenStream) -> TokenStream {
    let mut out = TokenStream::new();
    let mut trees = tokens.into_iter().peekable();
    let is = |tree: &TokenTree, c: char| matches!(tree, TokenTree::Punct(it) if it.as_char() == c);
    while let Some(tree) = trees.next() {
        match tree {
            tree if is(&tree, '\'') => {
                trees.next();
                out.extend(quote!('static));
            }
            tree if is(&tree, '&') => {
                out.extend([tree]);
                if !trees.peek().is_some_and(|next| is(next, '\'')) {
                    out.extend(quote!('static));
                }
            }
            TokenTree::Group(group) => {
                let inside = with_static(group.stream());
                out.extend([TokenTree::Group(proc_macro2::Group::new(group.delimiter(), inside))]);
            }
            tree => out.extend([tree]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Package;
    use crate::plugin::expand;
    use crate::testing::squeezed;

    fn written_out(block: &str) -> String {
        let package = Package {
            name: Some("greeter".into()),
            version: Some("1.0.0".into()),
            crate_name: None,
        };
        let expansion = expand(TokenStream::new(), block.parse().unwrap(), &package);
        syn::parse2::<syn::File>(expansion.clone()).expect("the expansion is valid Rust");
        squeezed(expansion)
    }

    /// A payload is taken as its type says; the schema and the event's name are those of what is
    /// decoded.
    #[test]
    fn a_payload_may_be_lent_or_borrowed() {
        for (payload, name, call) in [
            (
                "&Greet",
                "Greet",
                "let decoded: Greet; let data = match ctx.view_payload::<Greet>( \
                 ::ksi_plugin_api::__private::Probe::<Greet>::viewer()) { \
                 ::core::option::Option::Some(data) => ::core::result::Result::Ok(data), \
                 ::core::option::Option::None => match ctx.borrow_payload::<Greet>() { \
                 ::core::result::Result::Ok(data) => { \
                 decoded = data; ::core::result::Result::Ok(&decoded) } \
                 ::core::result::Result::Err(error) => ::core::result::Result::Err(error), }, }; \
                 let result = match data { \
                 ::core::result::Result::Ok(data) => Self::h(&plugin, &ctx, data).await,",
            ),
            (
                "Line<'_>",
                "Line<'static>",
                "let data = ctx.borrow_payload::<Line<'_>>(); let result = match data { \
                 ::core::result::Result::Ok(data) => Self::h(&plugin, &ctx, data).await,",
            ),
            (
                "&Line<'_>",
                "Line<'static>",
                "let data = ctx.borrow_payload::<Line<'_>>(); let result = match data { \
                 ::core::result::Result::Ok(data) => Self::h(&plugin, &ctx, &data).await,",
            ),
            ("&str", "&'static str", "let data = ctx.borrow_payload::<&str>();"),
            (
                "Option<&RawValue>",
                "Option<&'static RawValue>",
                "let data = ctx.borrow_payload::<Option<&RawValue>>();",
            ),
        ] {
            let block = format!(
                "impl Greeter {{ #[event_handler] \
                 async fn h(&self, _: &Context, data: {payload}) -> Result<()> {{ x }} }}"
            );
            let expansion = written_out(&block);
            for part in [
                call.to_owned(),
                format!("::ksi_plugin_api::__private::lent_schema::<{name}>"),
                format!("<{name} as ::ksi_plugin_api::Event>::NAME"),
            ] {
                assert!(expansion.contains(&squeezed(&part)), "{part}\nis missing in\n{expansion}");
            }
        }
    }

    #[test]
    fn a_type_borrows_by_its_lifetimes() {
        let owned = ["Greet", "Vec<Page<u8>>", "Cow<'static, str>", "(u8, &'static str)", "fn(u8)"];
        for ty in owned {
            assert!(!borrows(ty.parse().unwrap()), "{ty}");
        }
        for ty in ["Line<'_>", "Vec<Cow<'_, str>>", "(u8, &str)", "[Line<'a>; 2]"] {
            assert!(borrows(ty.parse().unwrap()), "{ty}");
        }
    }
}
