use quote::quote;

use super::*;

fn messages(errors: Errors) -> Vec<String> {
    let error = errors.finish().expect_err("a mistake");
    error.into_iter().map(|error| error.to_string()).collect()
}

fn of_plugin(tokens: TokenStream) -> (PluginOptions, Errors) {
    let mut errors = Errors::default();
    let options = PluginOptions::read(tokens, &mut errors);
    (options, errors)
}

fn of_handler(tokens: TokenStream) -> (HandlerOptions, Errors) {
    let mut errors = Errors::default();
    let options = HandlerOptions::read(args::of_tokens(tokens).unwrap(), &mut errors);
    (options, errors)
}

fn mistakes_of_handler(tokens: TokenStream) -> Vec<String> {
    messages(of_handler(tokens).1)
}

fn mistakes_of_plugin(tokens: TokenStream) -> Vec<String> {
    messages(of_plugin(tokens).1)
}

#[test]
fn reads_all_options_of_a_plugin() {
    let (options, errors) = of_plugin(quote! {
        name = "greeter", version = "1.2.0-rc.1", runtime, exclusive, isolated, trial = false,
        emits("a:b", events::Greeted),
        requires(Get -> Reading, "c:d"),
    });
    errors.finish().unwrap();
    assert_eq!(options.name.unwrap().value(), "greeter");
    assert_eq!(options.version.unwrap().value(), "1.2.0-rc.1");
    assert!(options.runtime && options.exclusive && options.isolated);
    assert!(options.trial.is_some_and(|trial| !trial.value));
    assert!(matches!(options.emits.as_slice(), [EventRef::Name(_), EventRef::Type(_)]));
    let [get, named] = options.requires.as_slice() else { panic!("two are required") };
    assert!(matches!((&get.event, &get.reply), (EventRef::Type(_), Some(_))));
    assert!(matches!((&named.event, &named.reply), (EventRef::Name(_), None)));
}

#[test]
fn reads_all_options_of_a_handler() {
    let (options, errors) =
        of_handler(quote!("a:b", "c:*", priority = -10, timeout = "500ms", blocking));
    errors.finish().unwrap();
    let names: Vec<_> = options.subscriptions.iter().map(LitStr::value).collect();
    assert_eq!(names, ["a:b", "c:*"]);
    assert_eq!((options.priority, options.timeout_ms, options.blocking), (-10, 500, true));
}

#[test]
fn has_defaults() {
    let (options, errors) = of_handler(quote!());
    errors.finish().unwrap();
    assert_eq!((options.priority, options.timeout_ms, options.blocking), (0, 0, false));
}

#[test]
fn an_unknown_option_lists_the_known_ones() {
    let found = mistakes_of_handler(quote!(retries = 3));
    assert_eq!(found, [format!("`retries` is no option: {KNOWN_TO_HANDLER}")]);
    let found = mistakes_of_plugin(quote!(tokio));
    assert_eq!(found, [format!("`tokio` is no option: {KNOWN_TO_PLUGIN}")]);
    let found = mistakes_of_plugin(quote!("greeter"));
    assert_eq!(found, [format!("a string does not belong here: {KNOWN_TO_PLUGIN}")]);
}

#[test]
fn an_option_with_a_slip_is_known_again() {
    for (written, meant) in [("prio", "priority"), ("timout", "timeout"), ("Blocking", "blocking")]
    {
        assert_eq!(similar(written, &HANDLER_OPTIONS), Some(meant));
    }
    for (written, meant) in [("exclusiv", "exclusive"), ("emit", "emits"), ("require", "requires")]
    {
        assert_eq!(similar(written, &PLUGIN_OPTIONS), Some(meant));
    }
    for written in ["x", "io", "retries", "tokio"] {
        assert_eq!(similar(written, &PLUGIN_OPTIONS), None);
    }
    let found = mistakes_of_plugin(quote!(exclusiv));
    let message = format!("`exclusiv` is no option, did you mean `exclusive`? {KNOWN_TO_PLUGIN}");
    assert_eq!(found, [message]);
}

#[test]
fn a_known_option_in_the_wrong_form_shows_the_right_one() {
    let found = mistakes_of_handler(quote!(blocking = true, priority));
    assert_eq!(
        found,
        [
            format!("`blocking` is not written like this: {KNOWN_TO_HANDLER}"),
            format!("`priority` is not written like this: {KNOWN_TO_HANDLER}"),
        ]
    );
    let found = mistakes_of_plugin(quote!(emits = "a:b"));
    assert_eq!(found, [format!("`emits` is not written like this: {KNOWN_TO_PLUGIN}")]);
}

#[test]
fn a_value_of_the_wrong_kind_says_what_is_taken() {
    let found = mistakes_of_handler(quote!(priority = "high", timeout = 5));
    assert_eq!(
        found,
        [
            "`priority` takes a whole number: write `priority = 10` or `priority = -10`",
            "`timeout` takes a string: write `timeout = \"5s\"`",
        ]
    );
    let found = mistakes_of_plugin(quote!(name = 5, version = "1 2"));
    assert_eq!(
        found,
        [
            "`name` takes a string: write `name = \"greeter\"`",
            "a version is made of ASCII letters, digits, `.`, `-`, `+` and `_`, like \"1.0.0\"",
        ]
    );
}

#[test]
fn a_trial_is_allowed_or_not() {
    assert_eq!(mistakes_of_plugin(quote!(trial = 1)), ["`trial` takes `true` or `false`"]);
    let found = mistakes_of_plugin(quote!(trial));
    assert_eq!(found, [format!("`trial` is not written like this: {KNOWN_TO_PLUGIN}")]);
}

#[test]
fn values_out_of_range_are_mistakes() {
    let found = mistakes_of_handler(quote!(priority = 2147483648, timeout = "0s"));
    assert!(found[0].starts_with("`priority` must lie between -2147483648 and"), "{found:?}");
    assert!(found[1].starts_with("a timeout of zero"), "{found:?}");
    assert_eq!(of_handler(quote!(priority = -2147483648)).0.priority, i32::MIN);
}

#[test]
fn an_option_given_twice_is_a_mistake() {
    assert_eq!(
        mistakes_of_handler(quote!(blocking, priority = 1, blocking, priority = 1)),
        ["`blocking` is given twice", "`priority` is given twice"]
    );
    assert_eq!(
        mistakes_of_plugin(quote!(
            name = "a",
            name = "b",
            emits(),
            emits(),
            requires(),
            requires()
        )),
        ["`name` is given twice", "`emits` is given twice", "`requires` is given twice"]
    );
}

#[test]
fn listed_events_are_names_and_types() {
    for option in [quote!(emits), quote!(requires)] {
        let found = mistakes_of_plugin(quote!(#option("greet", "a:*", "a:b", "a:b")));
        assert!(found[0].starts_with("`greet` is no event name"), "{found:?}");
        assert!(found[1].starts_with("`a:*` is a pattern"), "{found:?}");
        assert_eq!(found[2], "`a:b` is listed twice: write it once");
        let found = mistakes_of_plugin(quote!(#option(5)));
        assert_eq!(found, ["expected an event: its name in quotes, or a type with #[event(..)]"]);
    }
}

#[test]
fn a_bad_subscription_and_a_bad_plugin_name_are_explained() {
    let found = mistakes_of_handler(quote!("state"));
    assert!(found[0].starts_with("`state` is no event name"), "{found:?}");
    let found = mistakes_of_plugin(quote!(name = "my plugin"));
    assert!(found[0].starts_with("`my plugin` is no plugin name"), "{found:?}");
}
