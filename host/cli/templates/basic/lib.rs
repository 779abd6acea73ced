//! A plugin for ksi.

use ksi_plugin_api::prelude::*;

/// Asks for a greeting.
#[event("greeter:greet")]
struct Greet {
    name: String,
}

/// The reply to [`Greet`].
#[payload]
struct Greeting {
    text: String,
}

#[derive(Default)]
struct Greeter;

#[plugin]
impl Greeter {
    /// Greets by name.
    #[event_handler]
    async fn greet(&self, _: &Context, greet: Greet) -> Result<Greeting> {
        Ok(Greeting { text: format!("Hello, {}!", greet.name) })
    }
}

#[cfg(test)]
mod tests {
    use ksi_harness::Harness;

    use super::*;

    #[test]
    fn it_greets_by_name() {
        let plugin = Harness::start::<Greeter>();
        let greeting: Greeting = plugin.request(Greet { name: "Ada".into() }).unwrap();
        assert_eq!(greeting.text, "Hello, Ada!");
    }
}
