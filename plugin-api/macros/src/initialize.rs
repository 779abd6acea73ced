//! The `#[initialize]` function of a plugin.

use proc_macro2::Ident;
use syn::{Attribute, FnArg, ImplItemFn, Meta, Type, parse_quote};

use crate::errors::Errors;
use crate::signature::{Shape, bare, same_tokens};

pub(crate) struct Initialize {
    pub(crate) function: Ident,
    pub(crate) config: Type,
}

/// Reads the function that builds a plugin of type `plugin`.
pub(crate) fn read(
    function: &ImplItemFn,
    attr: &Attribute,
    plugin: &Type,
    errors: &mut Errors,
) -> Option<Initialize> {
    let sig = &function.sig;
    let shape = Shape {
        what: "#[initialize]",
        form: format!("async fn {}(ctx: &Context, config: T) -> Result<Self>", sig.ident),
        params: "two parameters",
        input: "the configuration",
        output: "the plugin",
        returns: "Result<Self>",
    };
    if !matches!(attr.meta, Meta::Path(_)) {
        errors.at(attr, "#[initialize] takes no arguments: write `#[initialize]`");
    }
    shape.check_kind(sig, errors);
    if let Some(receiver @ FnArg::Receiver(_)) = sig.inputs.first() {
        let form = &shape.form;
        let message =
            format!("#[initialize] builds the plugin, there is no `self` yet: write `{form}`");
        errors.at(receiver, message);
    }
    let config = shape.input(sig, errors);
    let built = shape.reply(sig, errors);
    if let Some(built) = built {
        let itself: Type = parse_quote!(Self);
        if !same_tokens(bare(built), &itself) && !same_tokens(bare(built), bare(plugin)) {
            errors.at(built, "#[initialize] builds the plugin itself: write `-> Result<Self>`");
        }
    }
    Some(Initialize { function: sig.ident.clone(), config: config?.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(source: &str) -> Vec<String> {
        let mut errors = Errors::default();
        let mut function: ImplItemFn = syn::parse_str(source).unwrap();
        let attr = function.attrs.pop().unwrap_or_else(|| parse_quote!(#[initialize]));
        let plugin: Type = parse_quote!(Greeter);
        let read = read(&function, &attr, &plugin, &mut errors);
        let messages: Vec<_> = errors.finish().err().into_iter().flatten().collect();
        assert!(read.is_some() || !messages.is_empty(), "nothing read and nothing said");
        messages.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn builds_the_plugin_from_its_configuration() {
        for built in ["Result<Self>", "ksi_plugin_api::Result<Greeter>"] {
            let source =
                format!("async fn start(_: &Context, Config {{ a }}: Config) -> {built} {{}}");
            assert!(mistakes(&source).is_empty(), "{built}");
        }
    }

    #[test]
    fn each_mistake_says_what_to_write() {
        let form = "write `async fn start(ctx: &Context, config: T) -> Result<Self>`";
        for (source, message) in [
            ("fn start(ctx: &Context, c: C) -> Result<Self> {}", "#[initialize] is async"),
            (
                "async fn start<T>(ctx: &Context, c: C) -> Result<Self> {}",
                "#[initialize] is not generic",
            ),
            (
                "async fn start(&self, ctx: &Context, c: C) -> Result<Self> {}",
                "#[initialize] builds the plugin, there is no `self` yet",
            ),
            (
                "async fn start(ctx: &Context) -> Result<Self> {}",
                "#[initialize] takes two parameters, found 1",
            ),
            ("async fn start() -> Result<Self> {}", "#[initialize] takes two parameters, found 0"),
            (
                "async fn start(ctx: &Context, c: &C) -> Result<Self> {}",
                "the configuration is owned, not borrowed",
            ),
        ] {
            let found = mistakes(source);
            assert_eq!(found.len(), 1, "{source}: {found:?}");
            assert!(found[0].starts_with(message), "{source}: {found:?}");
            assert!(found[0].ends_with(form), "{source}: {found:?}");
        }
    }

    #[test]
    fn the_result_is_the_plugin() {
        assert_eq!(
            mistakes("async fn start(ctx: &Context, c: C) -> Result<Other> {}"),
            ["#[initialize] builds the plugin itself: write `-> Result<Self>`"]
        );
        assert_eq!(
            mistakes("async fn start(ctx: &Context, c: C) -> Self {}"),
            ["#[initialize] returns `Result<Self>`, with `Result` from `ksi_plugin_api`: write \
              `-> Result<Self>`"]
        );
        assert_eq!(
            mistakes("async fn start(ctx: Context, c: C) {}"),
            [
                "the context comes by reference: write `ctx: &Context`",
                "#[initialize] returns `Result<Self>`: write `-> Result<Self>`",
            ]
        );
    }

    #[test]
    fn the_attribute_stands_alone() {
        assert_eq!(
            mistakes("#[initialize(blocking)] async fn a(c: &Context, d: C) -> Result<Self> {}"),
            ["#[initialize] takes no arguments: write `#[initialize]`"]
        );
    }
}
