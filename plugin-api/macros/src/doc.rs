//! The summary of a handler: what its doc comment says first.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// The first paragraph of the doc comment on one line; empty without a doc comment.
pub(crate) fn summary(attrs: &[Attribute]) -> String {
    let text = attrs.iter().filter_map(doc_text).collect::<Vec<_>>().join("\n");
    text.lines()
        .map(|line| line.trim().trim_start_matches("* ").trim())
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty() && *line != "*")
        .collect::<Vec<_>>()
        .join(" ")
}

fn doc_text(attr: &Attribute) -> Option<String> {
    match &attr.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use syn::{ImplItemFn, parse_str};

    use super::*;

    fn summary_of(comment: &str) -> String {
        summary(&parse_str::<ImplItemFn>(&format!("{comment}\nfn f() {{}}")).unwrap().attrs)
    }

    #[test]
    fn joins_the_first_paragraph() {
        let comment = "///\n/// Greets somebody\n///   by name.\n#[allow(dead_code)]\n/// Always.\n\
                       ///\n/// And counts.";
        assert_eq!(summary_of(comment), "Greets somebody by name. Always.");
    }

    #[test]
    fn reads_block_comments() {
        let comment = "/** Greets\n * somebody.\n *\n * And counts.\n */";
        assert_eq!(summary_of(comment), "Greets somebody.");
    }

    #[test]
    fn is_empty_without_a_comment() {
        assert_eq!(summary_of("#[allow(dead_code)]"), "");
    }
}
