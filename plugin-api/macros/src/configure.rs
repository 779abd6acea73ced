//! `#[configure]`: the method that a live plugin gets another configuration by.
//!
//! For the host it is a handler, of an event that goes to this plugin alone.

use syn::{Attribute, ImplItemFn, LitStr, Meta, Type, parse_quote};

use crate::doc::summary;
use crate::errors::Errors;
use crate::handler::{Handler, Subscribed};
use crate::options::EventRef;
use crate::payload::Payload;
use crate::signature::{Shape, bare, same_tokens};

/// What the host calls it for.
const EVENT: &str = "module:configure";

pub(crate) fn read(
    method: &ImplItemFn,
    attr: &Attribute,
    subscribed: &mut Subscribed,
    errors: &mut Errors,
) -> Option<Handler> {
    let sig = &method.sig;
    let shape = Shape {
        what: "#[configure]",
        form: format!("async fn {}(&self, ctx: &Context, config: T) -> Result<()>", sig.ident),
        params: "two parameters beside `self`",
        input: "the configuration",
        output: "what it gives",
        returns: "Result<()>",
    };
    if !matches!(attr.meta, Meta::Path(_)) {
        errors.at(attr, "#[configure] takes no arguments: write `#[configure]`");
    }
    shape.check_kind(sig, errors);
    shape.check_receiver(sig, errors);
    shape.check_conditions(&method.attrs, errors);
    let event = LitStr::new(EVENT, sig.ident.span());
    subscribed.add(std::slice::from_ref(&event), &sig.ident, errors);
    let config = shape.input(sig, errors);
    let reply = shape.reply(sig, errors);
    let nothing: Type = parse_quote!(());
    if let Some(reply) = reply.filter(|reply| !same_tokens(bare(reply), &nothing)) {
        errors
            .at(reply, "#[configure] takes the configuration or refuses it: write `-> Result<()>`");
    }
    Some(Handler {
        method: sig.ident.clone(),
        summary: summary(&method.attrs),
        subscriptions: vec![EventRef::Name(event)],
        priority: 0,
        timeout_ms: 0,
        blocking: false,
        payload: Payload::Owned(config?.clone()),
        reply: reply?.clone(),
        is_configure: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(source: &str) -> Vec<String> {
        let mut method: ImplItemFn = syn::parse_str(source).unwrap();
        let attr = method.attrs.pop().unwrap_or_else(|| parse_quote!(#[configure]));
        let mut errors = Errors::default();
        let read = read(&method, &attr, &mut Subscribed::default(), &mut errors);
        let messages: Vec<_> = errors.finish().err().into_iter().flatten().collect();
        assert!(read.is_some() || !messages.is_empty(), "nothing read and nothing said");
        messages.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_mistake_says_what_to_write() {
        let good = "async fn take(&self, _: &Context, config: Config) -> Result<()> {}";
        assert!(mistakes(good).is_empty());
        for (source, message) in [
            (
                "#[configure(now)] async fn take(&self, _: &Context, c: C) -> Result<()> {}",
                "#[configure] takes no arguments: write `#[configure]`",
            ),
            (
                "fn take(&self, _: &Context, c: C) -> Result<()> {}",
                "#[configure] is async: write `async fn take(&self, ctx: &Context, config: T) -> Result<()>`",
            ),
            (
                "async fn take(_: &Context, c: C) -> Result<()> {}",
                "#[configure] takes `&self` first: write `async fn take(&self, ctx: &Context, config: T) -> Result<()>`",
            ),
            (
                "async fn take(&self, _: &Context) -> Result<()> {}",
                "#[configure] takes two parameters beside `self`, found 1: write `async fn take(&self, ctx: &Context, config: T) -> Result<()>`",
            ),
            (
                "async fn take(&self, _: &Context, c: &C) -> Result<()> {}",
                "the configuration is owned, not borrowed: write `async fn take(&self, ctx: &Context, config: T) -> Result<()>`",
            ),
            (
                "async fn take(&self, _: &Context, c: C) -> Result<Self> {}",
                "#[configure] takes the configuration or refuses it: write `-> Result<()>`",
            ),
        ] {
            assert_eq!(mistakes(source), [message], "{source}");
        }
    }
}
