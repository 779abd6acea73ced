//! What the tests read expansions with.

use proc_macro2::{TokenStream, TokenTree};

/// The messages of all `compile_error!` in an expansion.
pub(crate) fn messages(expansion: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    let mut after_compile_error = false;
    for tree in expansion {
        match tree {
            TokenTree::Ident(ident) => after_compile_error = ident == "compile_error",
            TokenTree::Group(group) if after_compile_error => {
                let text: syn::LitStr = syn::parse2(group.stream()).unwrap();
                found.push(text.value());
                after_compile_error = false;
            }
            TokenTree::Group(group) => found.extend(messages(group.stream())),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

/// Code without its blanks, which tokens do not keep as they were written.
pub(crate) fn squeezed(code: impl ToString) -> String {
    code.to_string().split_whitespace().collect()
}
