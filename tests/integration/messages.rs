//! What the compiler says to an author who has forgotten something: the thing that is missing,
//! once.

use crate::kit::OutsideCrate;

/// A plugin `Shop` with this method, and these items beside it.
fn shop(items: &str, method: &str) -> String {
    format!(
        "use ksi_plugin_api::prelude::*;\n{items}\n#[derive(Default)]\nstruct Shop;\n#[plugin]\nimpl Shop {{\n{method}\n}}\n"
    )
}

const ORDER: &str =
    "async fn order(&self, _: &Context, order: Order) -> Result<String> { Ok(order.item) }";
const PLAIN: &str = "struct Order { item: String }";

/// The messages of the errors in what cargo prints, without its own last word.
fn errors(printed: &str) -> Vec<&str> {
    let errors = printed.lines().filter(|line| line.starts_with("error"));
    errors.filter(|line| !line.starts_with("error: could not compile")).collect()
}

#[test]
fn what_an_author_forgot_is_named_in_one_message() {
    let named = format!("#[event_handler(\"shop:order\")] {ORDER}");
    let unnamed = format!("#[event_handler] {ORDER}");
    let receipt = "#[event_handler(\"shop:order\")] \
                   async fn order(&self, _: &Context, item: String) -> Result<Order> { Ok(Order { item }) }";
    let start = "#[initialize] async fn start(_: &Context, _: Order) -> Result<Self> { Ok(Shop) }";
    let state = "#[snapshot] async fn take(&self, _: &Context) -> Result<u64> { Ok(1) }\n\
                 #[restore] async fn back(&self, _: &Context, _: Order) -> Result<()> { Ok(()) }";
    let asks = "#[event_handler(\"shop:order\")] \
                async fn order(&self, ctx: &Context, item: String) -> Result<()> { \
                let _: Order = ctx.request(named(\"a:b\", &item)).await?; Ok(()) }";
    let with_payload = format!("#[payload]\n{PLAIN}");
    let package = OutsideCrate::new("mistaken", "");
    for (source, message, advice) in [
        (
            shop(PLAIN, &named),
            "`Order` cannot be the payload of a handler",
            "write #[payload] or #[event(",
        ),
        (shop(&with_payload, &unnamed), "`Order` carries no event name", "write #[event("),
        (
            shop(PLAIN, receipt),
            "`Order` cannot be the reply of a handler",
            "write #[payload] on `Order`",
        ),
        (shop(PLAIN, start), "`Order` cannot be the configuration of a plugin", "write #[payload]"),
        (shop(PLAIN, state), "`Order` cannot be restored from a snapshot", "write #[payload]"),
        (shop(PLAIN, asks), "`Order` cannot be awaited as a reply", "write #[payload]"),
    ] {
        package.write(&source);
        let (built, printed) = package.cargo(&["build"]);
        assert!(!built, "{source}");
        assert_eq!(errors(&printed), [format!("error[E0277]: {message}")], "{printed}");
        assert!(printed.contains(advice), "{printed}");
    }
}

#[test]
fn what_is_emitted_without_a_name_and_a_second_plugin_are_explained() {
    let emits = "#[event_handler(\"shop:order\")] \
                 async fn order(&self, ctx: &Context, item: String) -> Result<()> { \
                 ctx.emit(Order { item }).await; Ok(()) }";
    let package = OutsideCrate::new("mistaken-too", &shop(&format!("#[payload]\n{PLAIN}"), emits));
    let (built, printed) = package.cargo(&["build"]);
    let message = "error[E0277]: `Order` cannot be emitted, because it carries no event name";
    assert!(!built && errors(&printed).iter().all(|error| *error == message), "{printed}");
    assert!(printed.contains("or emit it as named("), "{printed}");

    let pay = "#[event_handler(\"bank:pay\")] async fn pay(&self, _: &Context, _: u64) -> Result<()> { Ok(()) }";
    let second = format!("mod bank {{ {} }}", shop("", pay));
    package.write(&format!("{second}\n{}", shop("", pay)));
    let (built, printed) = package.cargo(&["build"]);
    let errors = errors(&printed);
    assert!(!built && errors.len() == 1, "{printed}");
    assert!(errors[0].contains("a_crate_has_one_plugin_so_put_the_other_into_a_crate_of_its_own"));
}
