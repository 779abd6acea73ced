//! One `#[event_handler]` method, read into what the host's table needs of it.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Attribute, ImplItemFn, LitStr, Type};

use crate::args;
use crate::doc::summary;
use crate::errors::Errors;
use crate::options::{EventRef, HandlerOptions};
use crate::payload::Payload;
use crate::signature::Shape;

pub(crate) struct Handler {
    pub(crate) method: Ident,
    pub(crate) summary: String,
    pub(crate) subscriptions: Vec<EventRef>,
    pub(crate) priority: i32,
    /// 0 leaves it to the host.
    pub(crate) timeout_ms: u64,
    pub(crate) blocking: bool,
    pub(crate) payload: Payload,
    pub(crate) reply: Type,
    /// It is called with the plugin's configuration, which nobody sends and no schema describes.
    pub(crate) is_configure: bool,
}

impl Handler {
    pub(crate) fn name(&self) -> String {
        self.method.unraw().to_string()
    }
}

/// The subscriptions of the handlers read so far, names and types as they are written, with the
/// method of each.
#[derive(Default)]
pub(crate) struct Subscribed(Vec<(String, Ident)>);

/// Reads a method with its `#[event_handler]` attribute, which is no longer among its own.
///
/// `None` means that the mistakes, now in `errors`, leave nothing that could be called.
pub(crate) fn read(
    method: &ImplItemFn,
    attr: &Attribute,
    subscribed: &mut Subscribed,
    errors: &mut Errors,
) -> Option<Handler> {
    let sig = &method.sig;
    let args = errors.take(args::of_attribute(attr));
    let options = args.map(|args| HandlerOptions::read(args, errors)).unwrap_or_default();
    subscribed.add(&options.subscriptions, &sig.ident, errors);

    let shape = Shape {
        what: "a handler",
        form: format!("async fn {}(&self, ctx: &Context, data: T) -> Result<R>", sig.ident),
        params: "two parameters beside `self`",
        input: "the payload",
        output: "the reply",
        returns: "Result<R>",
    };
    shape.check_kind(sig, errors);
    shape.check_receiver(sig, errors);
    shape.check_conditions(&method.attrs, errors);
    let payload = shape.second(sig, errors);
    let payload = payload.and_then(|ty| Payload::read(ty, &shape.form, errors));
    let reply = shape.reply(sig, errors);

    let payload = payload?;
    if options.subscriptions.is_empty() {
        subscribed.add_type(&payload.lasting(), &sig.ident, errors);
    }
    Some(Handler {
        method: sig.ident.clone(),
        summary: summary(&method.attrs),
        subscriptions: subscriptions(options.subscriptions, &payload),
        priority: options.priority,
        timeout_ms: options.timeout_ms,
        blocking: options.blocking,
        payload,
        reply: reply?.clone(),
        is_configure: false,
    })
}

impl Subscribed {
    pub(crate) fn add(&mut self, names: &[LitStr], method: &Ident, errors: &mut Errors) {
        let mut own: Vec<String> = Vec::new();
        for literal in names {
            let name = literal.value();
            if own.contains(&name) {
                errors.at(literal, format!("`{name}` is written twice: once is enough"));
            } else if let Some((_, first)) = self.0.iter().find(|(known, _)| *known == name) {
                let message = format!(
                    "`{name}` is handled by `{first}` already: a plugin handles an event in one \
                     place, so call the second method from the first"
                );
                errors.at(literal, message);
            }
            own.push(name);
        }
        self.0.extend(own.into_iter().map(|name| (name, method.clone())));
    }

    /// A handler of whatever event the type is. That two types may be of one event, the compiler
    /// finds.
    fn add_type(&mut self, ty: &Type, method: &Ident, errors: &mut Errors) {
        let written = ty.to_token_stream().to_string();
        if let Some((_, first)) = self.0.iter().find(|(known, _)| *known == written) {
            let message = format!(
                "`{written}` is handled by `{first}` already: a plugin handles an event in one \
                 place, so call the second method from the first"
            );
            errors.at(ty, message);
        }
        self.0.push((written, method.clone()));
    }
}

/// The names that were written, or the one that comes with the payload's type.
fn subscriptions(names: Vec<LitStr>, payload: &Payload) -> Vec<EventRef> {
    if names.is_empty() {
        return vec![EventRef::Type(Box::new(payload.lasting()))];
    }
    names.into_iter().map(EventRef::Name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(source: &str) -> (Option<Handler>, Vec<String>) {
        let mut method: ImplItemFn = syn::parse_str(source).unwrap();
        let at = method.attrs.iter().position(|attr| attr.path().is_ident("event_handler"));
        let attr = method.attrs.remove(at.unwrap());
        let mut errors = Errors::default();
        let handler = read(&method, &attr, &mut Subscribed::default(), &mut errors);
        let messages = errors.finish().err().into_iter().flatten();
        (handler, messages.map(|error| error.to_string()).collect())
    }

    fn mistakes(source: &str) -> Vec<String> {
        read_one(source).1
    }

    #[test]
    fn reads_a_handler_with_everything() {
        let (handler, found) = read_one(
            "/// Matches\n/// both.\n\
             #[event_handler(\"a:b\", \"c:*\", priority = 3, timeout = \"2m\", blocking)]\n\
             async fn r#match(&self, Context { .. }: &Context, mut _data: Vec<u8>) -> Result<()> {}",
        );
        assert!(found.is_empty(), "{found:?}");
        let handler = handler.unwrap();
        assert_eq!(handler.name(), "match");
        assert_eq!(handler.summary, "Matches both.");
        assert_eq!((handler.priority, handler.timeout_ms, handler.blocking), (3, 120_000, true));
        assert!(matches!(
            handler.subscriptions.as_slice(),
            [EventRef::Name(first), EventRef::Name(second)]
                if first.value() == "a:b" && second.value() == "c:*"
        ));
    }

    #[test]
    fn takes_the_name_from_the_payload_without_one() {
        let source = "#[event_handler] async fn a(&self, _: &Context, _: Greet) -> Result<()> {}";
        let handler = read_one(source).0.unwrap();
        assert!(matches!(handler.subscriptions.as_slice(), [EventRef::Type(_)]));
    }

    #[test]
    fn each_mistake_says_what_to_write() {
        let form = "write `async fn h(&self, ctx: &Context, data: T) -> Result<R>`";
        for (source, message) in [
            ("fn h(&self, c: &Context, d: D) -> Result<R> {}", "a handler is async"),
            (
                "async unsafe fn h(&self, c: &Context, d: D) -> Result<R> {}",
                "a handler is a safe function",
            ),
            (
                "async extern \"C\" fn h(&self, c: &Context, d: D) -> Result<R> {}",
                "a handler is a plain Rust function",
            ),
            (
                "async fn h<T>(&self, c: &Context, d: T) -> Result<R> {}",
                "a handler is not generic, the host calls it with one type",
            ),
            (
                "async fn h(&self, c: &Context, d: D) -> Result<R> where D: Copy {}",
                "a handler takes no `where` clause",
            ),
            (
                "async fn h(&mut self, c: &Context, d: D) -> Result<R> {}",
                "a handler takes `&self`, because calls run side by side",
            ),
            (
                "async fn h(self, c: &Context, d: D) -> Result<R> {}",
                "a handler takes `&self`, because calls run side by side",
            ),
            (
                "async fn h(self: Arc<Self>, c: &Context, d: D) -> Result<R> {}",
                "a handler takes `&self`, because calls run side by side",
            ),
            ("async fn h(c: &Context, d: D) -> Result<R> {}", "a handler takes `&self` first"),
            (
                "async fn h(&self) -> Result<R> {}",
                "a handler takes two parameters beside `self`, found 0",
            ),
            (
                "async fn h(&self, c: &Context, d: D, e: E) -> Result<R> {}",
                "a handler takes two parameters beside `self`, found 3",
            ),
            (
                "async fn h(&self, c: &Context, d: &mut D) -> Result<R> {}",
                "the payload is shared with other handlers, so it is not `&mut`",
            ),
            (
                "async fn h(&self, c: &Context, d: &'static D) -> Result<R> {}",
                "the payload lives as long as the call, not `'static`",
            ),
            (
                "async fn h(&self, c: &Context, d: &[D]) -> Result<R> {}",
                "the payload has a size, also behind a reference",
            ),
            (
                "async fn h(&self, c: &Context, d: impl Copy) -> Result<R> {}",
                "the payload is one type that can be named, not `impl ..`",
            ),
            (
                "async fn h(&self, c: &Context, d: D) -> Result<&str> {}",
                "the reply is owned, not borrowed",
            ),
        ] {
            let found = mistakes(&format!("#[event_handler] {source}"));
            assert_eq!(found.len(), 1, "{source}: {found:?}");
            assert!(found[0].starts_with(message), "{source}: {found:?}");
            assert!(found[0].ends_with(form), "{source}: {found:?}");
        }
    }

    #[test]
    fn the_context_and_the_return_type_are_checked() {
        let from = ", with `Context` from `ksi_plugin_api`";
        for (ctx, from) in [("Context", ""), ("&mut Context", ""), ("&Ctx", from)] {
            let source =
                format!("#[event_handler] async fn h(&self, c: {ctx}, d: D) -> Result<R> {{}}");
            let message = format!("the context comes by reference: write `c: &Context`{from}");
            assert_eq!(mistakes(&source), [message], "{ctx}");
        }
        let swapped = "#[event_handler] async fn h(&self, d: D, c: &Context) -> Result<R> {}";
        let form = "async fn h(&self, ctx: &Context, data: T) -> Result<R>";
        let message = format!("the context comes before the payload: write `{form}`");
        assert_eq!(mistakes(swapped), [message]);
        assert_eq!(
            mistakes("#[event_handler] async fn h(&self, c: &Context, d: D) {}"),
            ["a handler returns `Result<R>`: write `-> Result<R>`"]
        );
        for output in ["R", "Option<R>", "Result<R, String>", "Result"] {
            let source =
                format!("#[event_handler] async fn h(&self, c: &Context, d: D) -> {output} {{}}");
            assert_eq!(
                mistakes(&source),
                ["a handler returns `Result<R>`, with `Result` from `ksi_plugin_api`: write \
                  `-> Result<R>`"],
                "{output}"
            );
        }
    }

    #[test]
    fn reports_all_mistakes_at_once() {
        let found = mistakes("#[event_handler(\"state\", prio = 3)] fn h(self) {}");
        let starts = [
            "`state` is no event name",
            "`prio` is no option",
            "a handler is async",
            "a handler takes `&self`",
            "a handler takes two parameters",
            "a handler returns",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for (message, start) in found.iter().zip(starts) {
            assert!(message.starts_with(start), "{message}");
        }
    }

    #[test]
    fn a_name_without_parentheses_is_a_mistake() {
        let signature = "async fn h(&self, c: &Context, d: D) -> Result<R> {}";
        assert_eq!(
            mistakes(&format!("#[event_handler = \"a:b\"] {signature}")),
            ["arguments go into parentheses, like `#[event_handler(\"a:b\")]`"]
        );
    }

    #[test]
    fn one_name_twice_in_a_handler_and_a_condition_are_mistakes() {
        let found = mistakes(
            "#[event_handler(\"a:b\", \"a:b\")] #[cfg(test)] \
             async fn h(&self, c: &Context, d: D) -> Result<R> {}",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "`a:b` is written twice: once is enough");
        assert!(found[1].starts_with("a handler is there in every build"), "{found:?}");
    }
}
