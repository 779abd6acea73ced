//! `#[plugin]` on an impl block: reads the block, and hands it back without the attributes that it
//! understood, followed by what the host needs or by the mistakes.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Attribute, Error, ImplItem, Item, ItemImpl, LitStr, Path, Result, Type};

use crate::errors::Errors;
use crate::generate;
use crate::handler::{self, Handler, Subscribed};
use crate::initialize::{self, Initialize};
use crate::options::{EventRef, PluginOptions, Required};
use crate::package::Package;
use crate::renamed::renamed;
use crate::signature::bare;
use crate::state::{self, Kind, State};

/// Everything that is known of a plugin once its block is read.
pub(crate) struct Plugin {
    pub(crate) ty: Type,
    pub(crate) name: String,
    pub(crate) version: String,
    /// What `ksi_plugin_api` is called here, if not so.
    pub(crate) api: Option<Path>,
    pub(crate) crate_name: String,
    /// The symbol of its root module.
    pub(crate) header: String,
    pub(crate) runtime: bool,
    pub(crate) exclusive: bool,
    /// It asks for a process of its own.
    pub(crate) isolated: bool,
    /// Whether an instance may be made elsewhere first.
    pub(crate) trial: bool,
    pub(crate) emits: Vec<EventRef>,
    pub(crate) requires: Vec<Required>,
    pub(crate) handlers: Vec<Handler>,
    pub(crate) initialize: Option<Initialize>,
    pub(crate) state: State,
}

/// The methods of a block that the host calls.
#[derive(Default)]
struct Methods {
    handlers: Vec<Handler>,
    initialize: Option<Initialize>,
    state: State,
}

/// The whole work of `#[plugin(args)] item`.
pub(crate) fn expand(args: TokenStream, item: TokenStream, package: &Package) -> TokenStream {
    let mut block = match impl_block(item.clone()) {
        Ok(block) => block,
        Err(error) => return with_error(&item, error),
    };
    match read(args, &mut block, package) {
        Ok(plugin) => {
            let generated = renamed(generate::plugin(&plugin), plugin.api.as_ref());
            quote!(#block #generated)
        }
        // Nothing calls the methods then, and warnings of that would bury the message.
        Err(error) => with_error(&quote!(#[allow(unused_variables, dead_code)] #block), error),
    }
}

/// What an inner attribute expands to when no `#[plugin]` consumed it.
pub(crate) fn used_alone(attribute: &str, item: &TokenStream) -> TokenStream {
    let message = format!("#[{attribute}] belongs on a method inside a #[plugin] impl block");
    with_error(item, Error::new(Span::call_site(), message))
}

/// The author's code stays, so that the mistake is not followed by messages about missing names.
pub(crate) fn with_error(item: &TokenStream, error: Error) -> TokenStream {
    let error = error.into_compile_error();
    quote!(#item #error)
}

fn impl_block(item: TokenStream) -> Result<ItemImpl> {
    match syn::parse2(item)? {
        Item::Impl(block) => Ok(block),
        _ => Err(Error::new(
            Span::call_site(),
            "#[plugin] belongs on the impl block with the handlers, as in \
             `#[plugin] impl Greeter { .. }`",
        )),
    }
}

fn read(args: TokenStream, block: &mut ItemImpl, package: &Package) -> Result<Plugin> {
    let mut errors = Errors::default();
    let options = PluginOptions::read(args, &mut errors);
    check_block(block, &mut errors);
    let name = errors.take(or_lent(options.name, || package.plugin_name()));
    let version = errors.take(or_lent(options.version, || package.plugin_version()));
    let Methods { handlers, initialize, state } = read_methods(block, &mut errors);
    errors.finish()?;
    let name = name.unwrap_or_default();
    Ok(Plugin {
        ty: (*block.self_ty).clone(),
        api: options.api,
        crate_name: package.crate_name(&name),
        header: package.header(&name),
        name,
        version: version.unwrap_or_default(),
        runtime: options.runtime,
        exclusive: options.exclusive,
        isolated: options.isolated,
        trial: options.trial.is_none_or(|trial| trial.value),
        emits: options.emits,
        requires: options.requires,
        handlers,
        initialize,
        state,
    })
}

fn check_block(block: &ItemImpl, errors: &mut Errors) {
    if let Some((path, _)) = &block.trait_ {
        let message = "#[plugin] belongs on the struct's own impl block, not on a trait's: write \
                       `impl Greeter { .. }`";
        errors.at(path, message);
    }
    if !block.generics.params.is_empty() || block.generics.where_clause.is_some() {
        let message = "a plugin is one type, so that the host can build it: write an impl block \
                       without generics";
        errors.at(&block.self_ty, message);
    } else if !matches!(bare(&block.self_ty), Type::Path(_)) {
        errors.at(&block.self_ty, "a plugin is a struct or an enum: write `impl Greeter { .. }`");
    }
}

fn read_methods(block: &mut ItemImpl, errors: &mut Errors) -> Methods {
    let mut methods = Methods::default();
    let mut initialize = None;
    let mut versions = state::Versions::default();
    let mut subscribed = Subscribed::default();
    let mut marked = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        let marks = take_marks(&mut method.attrs);
        let Some((mark, attr)) = marks.first() else { continue };
        if let Some((_, second)) = marks.get(1) {
            let message = "one mark on a method is enough: several events go into one \
                           #[event_handler(\"a:b\", \"c:d\")], and a method with another mark \
                           handles none";
            errors.at(second, message);
        }
        let name = method.sig.ident.clone();
        match mark {
            Mark::Handler => {
                if marked.contains(&name) {
                    let message = format!(
                        "two handlers are called `{name}`: the host tells them apart by their \
                         names, so rename one"
                    );
                    errors.at(&name, message);
                }
                methods.handlers.extend(handler::read(method, attr, &mut subscribed, errors));
                marked.push(name);
            }
            Mark::Initialize => {
                let read = initialize::read(method, attr, &block.self_ty, errors);
                if let Some(first) = initialize.replace((name.clone(), read)) {
                    let message = format!(
                        "`{}` is marked with #[initialize] already: a plugin is built in one place",
                        first.0
                    );
                    errors.at(&name, message);
                }
            }
            Mark::State(kind) => {
                let read = state::read(*kind, method, attr, &mut versions, errors);
                methods.state.extend(*kind, read);
            }
        }
    }
    versions.check(errors);
    methods.initialize = initialize.and_then(|(_, read)| read);
    methods
}

enum Mark {
    Handler,
    Initialize,
    State(Kind),
}

/// Takes the attributes that this block understands off a method. They are known by their last
/// segment, so that `#[ksi_plugin_api::event_handler]` works too.
fn take_marks(attrs: &mut Vec<Attribute>) -> Vec<(Mark, Attribute)> {
    let mut marks = Vec::new();
    for attr in std::mem::take(attrs) {
        let name = attr.path().segments.last().map(|segment| segment.ident.to_string());
        match name.as_deref() {
            Some("event_handler") => marks.push((Mark::Handler, attr)),
            Some("initialize") => marks.push((Mark::Initialize, attr)),
            Some("snapshot") => marks.push((Mark::State(Kind::Snapshot), attr)),
            Some("restore") => marks.push((Mark::State(Kind::Restore), attr)),
            _ => attrs.push(attr),
        }
    }
    marks
}

/// What the options say, or else what the package lends.
fn or_lent(option: Option<LitStr>, lent: impl FnOnce() -> Result<String>) -> Result<String> {
    option.map_or_else(lent, |text| Ok(text.value()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{messages, squeezed};

    fn package() -> Package {
        Package {
            name: Some("ksi-plugin-greeter".into()),
            version: Some("0.3.1".into()),
            crate_name: Some("ksi_plugin_greeter".into()),
        }
    }

    fn expand_str(args: &str, item: &str) -> String {
        let expansion = expand(args.parse().unwrap(), item.parse().unwrap(), &package());
        syn::parse2::<syn::File>(expansion.clone()).expect("the expansion is valid Rust");
        squeezed(expansion)
    }

    fn mistakes(args: &str, item: &str) -> Vec<String> {
        let expansion = expand(args.parse().unwrap(), item.parse().unwrap(), &package());
        let mistakes = messages(expansion.clone());
        let generated = expansion.to_string().contains("export_plugin");
        assert_eq!(generated, mistakes.is_empty(), "either generated or refused: {expansion}");
        mistakes
    }

    const GREET: &str = "async fn greet(&self, ctx: &Context, g: Greet) -> Result<Greeted> { x }";
    const START: &str = "async fn start(ctx: &Context, c: Config) -> Result<Self> { x }";

    #[test]
    fn the_block_stays_as_it_is_without_the_attributes() {
        let block = format!(
            "#[allow(unused)] impl Greeter {{ const A: u8 = 1; #[event_handler] #[inline] pub {GREET} \
             #[ksi_plugin_api::initialize] {START} /// Other.\n fn other(self) -> u8 {{ 1 }} }}"
        );
        let kept =
            block.replace("#[event_handler]", "").replace("#[ksi_plugin_api::initialize]", "");
        let expansion = expand_str("", &block);
        let kept: TokenStream = kept.parse().unwrap();
        assert!(expansion.starts_with(&squeezed(kept)), "{expansion}");
    }

    #[test]
    fn a_full_plugin_is_written_out() {
        let block = format!(
            "impl Greeter {{ #[initialize] {START} /// Greets.\n #[event_handler] {GREET} \
             #[event_handler(\"a:b\", \"c:*\", priority = -2, timeout = \"5s\", blocking)] \
             async fn r#type(&self, ctx: &Context, _: Value) -> Result<()> {{ x }} }}"
        );
        let expansion = expand_str(
            "runtime, exclusive, isolated, trial = false, emits(\"x:y\", Greeted), requires(Get, \"y:z\" -> Reading)",
            &block,
        );
        for part in [
            "impl ::ksi_plugin_api::Plugin for Greeter",
            "const NAME: &'static str = \"greeter\";",
            "const VERSION: &'static str = \"0.3.1\";",
            "const RUNTIME: bool = true;",
            "EMITS: &'static [&'static str] = &[\"x:y\", <Greeted as ::ksi_plugin_api::Event>::NAME]",
            "EMIT_SCHEMAS: &'static [fn() -> ::ksi_plugin_api::__private::SentSchemas] = \
             &[::core::default::Default::default, { #[allow(unused_imports)] \
             use ::ksi_plugin_api::__private::NoSchema as _; \
             ::ksi_plugin_api::__private::SchemaOf::<Greeted>::sent }]",
            "EMIT_TYPES: &'static [fn() -> ::core::option::Option< \
             ::ksi_plugin_api::__private::TypeDescription >] = &[|| ::core::option::Option::None, \
             || ::core::option::Option::Some({ #[allow(unused_imports)] \
             use ::ksi_plugin_api::__private::Unproved as _; \
             ::ksi_plugin_api::__private::type_of::<Greeted>( \
             ::ksi_plugin_api::__private::Probe::<Greeted>::fingerprint()) })]",
            "REQUIRES: &'static [&'static str] = &[<Get as ::ksi_plugin_api::Event>::NAME, \"y:z\"]",
            "REPLY_SCHEMAS: &'static [fn() -> ::ksi_plugin_api::Value] = \
             &[|| ::ksi_plugin_api::Value::Null, { #[allow(unused_imports)] \
             use ::ksi_plugin_api::__private::NoSchema as _; \
             ::ksi_plugin_api::__private::SchemaOf::<Reading>::read }]",
            "name: \"greet\", summary: \"Greets.\", \
             subscriptions: &[<Greet as ::ksi_plugin_api::Event>::NAME], \
             priority: 0, timeout_ms: 0, blocking: false,",
            "name: \"type\", summary: \"\", subscriptions: &[\"a:b\", \"c:*\"], \
             priority: -2, timeout_ms: 5000, blocking: true,",
            "use ::ksi_plugin_api::__private::Unproved as _; unsafe { call.run::<Greeted, _, _>( \
             ::ksi_plugin_api::__private::Probe::<Greeted>::giver, \
             |plugin: ::ksi_plugin_api::PluginRef<Self>, \
             ctx: ::ksi_plugin_api::Context, \
             give: ::ksi_plugin_api::__private::Give<Greeted>| async move { \
             let data = ctx.own_payload::<Greet>( \
             ::ksi_plugin_api::__private::Probe::<Greet>::taker()); \
             let result = match data { \
             ::core::result::Result::Ok(data) => Self::greet(&plugin, &ctx, data).await, \
             ::core::result::Result::Err(error) => ::core::result::Result::Err(error), }; \
             ::ksi_plugin_api::__private::handler_end::<Greeted>(result, give) }) }",
            "reply_schema: ::ksi_plugin_api::__private::reply_schema::<Greeted>",
            "Self::start(&ctx, config.decode::<Config>()?).await",
            "::ksi_plugin_api::__private::export_plugin!(Greeter, name = \"greeter\", \
             version = \"0.3.1\", crate_name = \"ksi_plugin_greeter\", \
             header = \"ksi_plugin_ksi_plugin_greeter_ksi_plugin_greeter_0_3_1\", \
             runtime = true, exclusive = true, isolated = true, trial = false, handlers = [",
            "{ name = \"type\", subscriptions = [\"a:b\", \"c:*\"], priority = \"-2\", \
             timeout_ms = \"5000\", blocking = \"true\" }",
            "const _: () = ::ksi_plugin_api::__private::assert_distinct(&[\
             <Greeter as ::ksi_plugin_api::Plugin>::HANDLERS[0usize].subscriptions[0usize], \
             \"a:b\", \"c:*\"]);",
            "emits = [\"x:y\", <Greeter as ::ksi_plugin_api::Plugin>::EMITS[1usize]]",
        ] {
            assert!(expansion.contains(&squeezed(part)), "{part}\nis missing in\n{expansion}");
        }
    }

    #[test]
    fn a_renamed_dependency_is_called_by_its_name() {
        let block = format!("impl Greeter {{ #[event_handler] {GREET} }}");
        for path in ["api", "::api", "some::place::api", "\"api\""] {
            let expansion = expand_str(&format!("crate = {path}"), &block);
            assert!(!expansion.contains("ksi_plugin_api"), "{expansion}");
            let plugin = format!("impl {}::Plugin for Greeter", path.trim_matches('"'));
            assert!(expansion.contains(&squeezed(plugin)), "{expansion}");
        }
        let found = mistakes("crate = 5", &block);
        assert_eq!(found, ["`crate` takes a path: write `crate = my_ksi_plugin_api`"]);
    }

    #[test]
    fn a_plugin_without_initialize_is_built_from_its_default() {
        let expansion = expand_str("name = \"x\", version = \"9\"", "impl Greeter {}");
        for part in [
            "const NAME: &'static str = \"x\";",
            "const VERSION: &'static str = \"9\";",
            "config.expect_empty()?;",
            "::ksi_plugin_api::__private::by_default::<Greeter>()",
            "handlers = [], emits = [], requires = [], writes = [], restores = []",
        ] {
            assert!(expansion.contains(&squeezed(part)), "{part}\nis missing in\n{expansion}");
        }
    }

    #[test]
    fn state_is_written_out_with_the_highest_version_first() {
        let expansion = expand_str(
            "",
            "impl Greeter { \
             #[snapshot] async fn old(&self, _: &Context) -> Result<Old> { x } \
             #[snapshot(version = 2)] async fn r#new(&self, _: &Context) -> Result<Saved> { x } \
             #[ksi_plugin_api::restore] async fn from_old(&self, _: &Context, s: Old) -> Result<()> { x } \
             #[restore(version = 2)] async fn from_new(&self, _: &Context, s: Saved) -> Result<()> { x } }",
        );
        for part in [
            "impl Greeter { async fn old(&self, _: &Context) -> Result<Old> { x }",
            "const SNAPSHOTS: &'static [::ksi_plugin_api::__private::Snapshot<Self>] = \
             &[::ksi_plugin_api::__private::Snapshot { version: 2, \
             call: |taking| unsafe { taking.run::<Saved, _, _>(|plugin: ::ksi_plugin_api::PluginRef<Self>, \
             ctx: ::ksi_plugin_api::Context| async move { Self::r#new(&plugin, &ctx).await }) } }, \
             ::ksi_plugin_api::__private::Snapshot { version: 1,",
            "const RESTORES: &'static [::ksi_plugin_api::__private::Restore<Self>] = \
             &[::ksi_plugin_api::__private::Restore { version: 2, \
             call: |restoring| unsafe { restoring.run::<Saved, _, _>(|plugin: ::ksi_plugin_api::PluginRef<Self>, \
             ctx: ::ksi_plugin_api::Context, saved: Saved| async move { \
             Self::from_new(&plugin, &ctx, saved).await }) }, \
             read: ::ksi_plugin_api::__private::read_as::<Saved> }, \
             ::ksi_plugin_api::__private::Restore { version: 1,",
            "writes = [\"2\", \"1\"], restores = [\"2\", \"1\"]",
        ] {
            assert!(expansion.contains(&squeezed(part)), "{part}\nis missing in\n{expansion}");
        }
    }

    #[test]
    fn only_a_block_of_its_own_can_be_a_plugin() {
        for (item, message) in [
            ("struct Greeter;", "#[plugin] belongs on the impl block with the handlers"),
            ("impl Display for Greeter {}", "#[plugin] belongs on the struct's own impl block"),
            ("impl<T> Greeter<T> {}", "a plugin is one type"),
            ("impl Greeter where u8: Copy {}", "a plugin is one type"),
            ("impl (u8, u8) {}", "a plugin is a struct or an enum"),
        ] {
            let found = mistakes("", item);
            assert_eq!(found.len(), 1, "{item}: {found:?}");
            assert!(found[0].starts_with(message), "{item}: {found:?}");
        }
    }

    #[test]
    fn names_and_subscriptions_are_used_once() {
        let block = format!(
            "impl Greeter {{ #[event_handler(\"a:b\")] {GREET} #[event_handler(\"c:d\")] {GREET} \
             #[event_handler(\"a:b\")] {} }}",
            GREET.replace("greet", "other")
        );
        let found = mistakes("", &block);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("two handlers are called `greet`"), "{found:?}");
        assert!(found[1].starts_with("`a:b` is handled by `greet` already"), "{found:?}");
    }

    #[test]
    fn one_function_initializes() {
        let block = format!(
            "impl Greeter {{ #[initialize] {START} #[initialize] {} }}",
            START.replace("start", "again")
        );
        assert_eq!(
            mistakes("", &block),
            ["`start` is marked with #[initialize] already: a plugin is built in one place"]
        );
    }

    #[test]
    fn a_method_has_one_mark() {
        for second in ["#[event_handler(\"c:d\")]", "#[initialize]", "#[snapshot]", "#[restore]"] {
            let block = format!("impl Greeter {{ #[event_handler(\"a:b\")] {second} {GREET} }}");
            let found = mistakes("", &block);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("one mark on a method is enough"), "{found:?}");
        }
    }

    #[test]
    fn mistakes_of_all_parts_come_together() {
        let block = format!(
            "impl<T> Greeter<T> {{ #[initialize] fn start() {{}} #[event_handler(\"x\")] {GREET} }}"
        );
        let starts = [
            "`tokio` is no option",
            "a plugin is one type",
            "#[initialize] is async",
            "#[initialize] takes two parameters",
            "#[initialize] returns",
            "`x` is no event name",
        ];
        let found = mistakes("tokio", &block);
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for (message, start) in found.iter().zip(starts) {
            assert!(message.starts_with(start), "{message}");
        }
    }

    #[test]
    fn a_package_without_a_usable_name_must_be_named() {
        let nameless =
            Package { name: Some("ksi-plugin-".into()), version: None, crate_name: None };
        let found = messages(expand(TokenStream::new(), quote!(impl A {}), &nameless));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("write `#[plugin(name = \"greeter\")]`"), "{found:?}");
        assert!(found[1].contains("write `#[plugin(version = \"1.0.0\")]`"), "{found:?}");
        let args = quote!(name = "a", version = "1");
        assert!(messages(expand(args, quote!(impl A {}), &nameless)).is_empty());
    }

    #[test]
    fn an_inner_attribute_alone_says_where_it_belongs() {
        for attribute in ["event_handler", "snapshot"] {
            let expansion = used_alone(
                attribute,
                &quote!(
                    fn f() {}
                ),
            );
            let message =
                format!("#[{attribute}] belongs on a method inside a #[plugin] impl block");
            assert_eq!(messages(expansion), [message]);
        }
    }
}
