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
    let kept = block.replace("#[event_handler]", "").replace("#[ksi_plugin_api::initialize]", "");
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
    let nameless = Package { name: Some("ksi-plugin-".into()), version: None, crate_name: None };
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
        let message = format!("#[{attribute}] belongs on a method inside a #[plugin] impl block");
        assert_eq!(messages(expansion), [message]);
    }
}
