//! The arguments of an attribute as they are written, before anything is known of their meaning.
//!
//! Splitting them first lets the reader of each option report its own mistake and go on with the
//! next one.

use proc_macro2::{Ident, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Error, Expr, ExprLit, Lit, LitStr, Meta, Result, Token, parenthesized, token,
};

pub(crate) enum Arg {
    /// `"a:b"`
    Text(LitStr),
    /// `blocking`
    Flag(Ident),
    /// `priority = 10`
    Value(Ident, Expr),
    /// `emits(A, B)`
    List(Ident, TokenStream),
}

/// What stands between the parentheses of `#[attribute(..)]`.
pub(crate) fn of_tokens(tokens: TokenStream) -> Result<Vec<Arg>> {
    Ok(Punctuated::<Arg, Token![,]>::parse_terminated.parse2(tokens)?.into_iter().collect())
}

/// The arguments of an attribute inside a block.
pub(crate) fn of_attribute(attr: &Attribute) -> Result<Vec<Arg>> {
    match &attr.meta {
        Meta::Path(_) => Ok(Vec::new()),
        Meta::List(list) => of_tokens(list.tokens.clone()),
        Meta::NameValue(assigned) => {
            let name = assigned.path.segments.last().map(|segment| segment.ident.to_string());
            let name = name.unwrap_or_default();
            let message = format!("arguments go into parentheses, like `#[{name}(\"a:b\")]`");
            Err(Error::new_spanned(attr, message))
        }
    }
}

/// The text of an option that is written as `name = "text"`.
pub(crate) fn text(option: &Ident, value: &Expr, example: &str) -> Result<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        other => Err(Error::new_spanned(
            other,
            format!("`{option}` takes a string: write `{option} = \"{example}\"`"),
        )),
    }
}

/// Refuses an option that was given before.
pub(crate) fn set<T>(slot: &mut Option<T>, option: &Ident, value: T) -> Result<()> {
    match slot.replace(value) {
        Some(_) => Err(Error::new_spanned(option, format!("`{option}` is given twice"))),
        None => Ok(()),
    }
}

impl Parse for Arg {
    fn parse(input: ParseStream) -> Result<Self> {
        if input.peek(LitStr) {
            return Ok(Arg::Text(input.parse()?));
        }
        if !input.peek(Ident::peek_any) {
            return Err(input.error("expected an event name in quotes or an option"));
        }
        let name = input.call(Ident::parse_any)?;
        if input.peek(Token![:]) {
            input.parse::<Token![:]>()?;
            let second = input.call(Ident::parse_any)?;
            let message = format!("an event's name is written in quotes: \"{name}:{second}\"");
            return Err(Error::new(name.span(), message));
        }
        if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            return Ok(Arg::Value(name, input.parse()?));
        }
        if input.peek(token::Paren) {
            let list;
            parenthesized!(list in input);
            return Ok(Arg::List(name, list.parse()?));
        }
        Ok(Arg::Flag(name))
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn mistake(tokens: TokenStream) -> String {
        of_tokens(tokens).err().unwrap().to_string()
    }

    #[test]
    fn splits_every_form() {
        let args = of_tokens(quote!("a:b", blocking, priority = -1, emits(A, B),)).unwrap();
        assert!(matches!(
            args.as_slice(),
            [Arg::Text(_), Arg::Flag(_), Arg::Value(..), Arg::List(..)]
        ));
    }

    #[test]
    fn a_name_without_quotes_is_shown_with_them() {
        assert_eq!(
            mistake(quote!(state:update)),
            "an event's name is written in quotes: \"state:update\""
        );
    }

    #[test]
    fn anything_else_says_what_is_expected() {
        assert_eq!(mistake(quote!(5)), "expected an event name in quotes or an option");
    }
}
