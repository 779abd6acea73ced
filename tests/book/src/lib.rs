//! The Rust code of the book, as documentation tests: `cargo test --doc -p ksi-book`. A mistake is
//! told with the chapter and the line.
//!
//! A line that begins with `# ` is compiled and not shown in the book.

/// A module for each chapter with code. That none is missing is seen by the integration tests.
macro_rules! chapters {
    ($($chapter:ident = $file:literal;)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("../../../", $file))]
            mod $chapter {}
        )*
    };
}

chapters! {
    readme = "README.md";
    authors = "docs/authors.md";
    background = "docs/background.md";
    embedding = "docs/embedding.md";
    events = "docs/events.md";
    first_plugin = "docs/first-plugin.md";
    from_python = "docs/from-python.md";
    io = "docs/io.md";
    messages = "docs/messages.md";
    must_not = "docs/must-not.md";
    outcomes = "docs/outcomes.md";
    plugin_configuration = "docs/plugin-configuration.md";
    replacement = "docs/replacement.md";
    testing = "docs/testing.md";
    upgrades = "docs/upgrades.md";
}
