//! The name under which the author's crate knows `ksi_plugin_api`, in what the attributes write
//! out.
//!
//! All templates say `::ksi_plugin_api`; this puts the path in its place that `crate = ..` gives.

use proc_macro2::{Group, Literal, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Error, Expr, ExprLit, ExprPath, Lit, Path, Result};

const NAME: &str = "ksi_plugin_api";

/// Reads the value of `crate = path`, or of `crate = "path"`, as serde has it.
pub(crate) fn path(value: &Expr) -> Result<Path> {
    match value {
        Expr::Path(ExprPath { qself: None, path, .. }) => Ok(path.clone()),
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text.parse(),
        other => {
            let message = "`crate` takes a path: write `crate = my_ksi_plugin_api`";
            Err(Error::new_spanned(other, message))
        }
    }
}

/// The same code with `api` in place of `::ksi_plugin_api`, also where a path stands in quotes.
pub(crate) fn renamed(tokens: TokenStream, api: Option<&Path>) -> TokenStream {
    let Some(api) = api else { return tokens };
    let mut out: Vec<TokenTree> = Vec::new();
    for tree in tokens {
        match tree {
            TokenTree::Ident(ident) if ident == NAME && after_colons(&out) => {
                out.truncate(out.len() - 2);
                out.extend(api.to_token_stream());
            }
            TokenTree::Group(group) => {
                let mut inside = Group::new(group.delimiter(), renamed(group.stream(), Some(api)));
                inside.set_span(group.span());
                out.push(TokenTree::Group(inside));
            }
            TokenTree::Literal(literal) => out.push(TokenTree::Literal(in_quotes(literal, api))),
            other => out.push(other),
        }
    }
    out.into_iter().collect()
}

/// Whether the last two are the colons that a path of the crate root begins with.
fn after_colons(trees: &[TokenTree]) -> bool {
    let colon =
        |tree: &TokenTree| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ':');
    matches!(trees, [.., first, second] if colon(first) && colon(second))
}

fn in_quotes(literal: Literal, api: &Path) -> Literal {
    let text = literal.to_string();
    match text.strip_prefix("\"::ksi_plugin_api::").and_then(|rest| rest.strip_suffix('"')) {
        Some(rest) => {
            let api: String = api.to_token_stream().to_string().split_whitespace().collect();
            let mut renamed = Literal::string(&format!("{api}::{rest}"));
            renamed.set_span(literal.span());
            renamed
        }
        None => literal,
    }
}
