//! Another configuration for the plugin under test, while it runs.

use ksi_kernel::event::{Payload, of_host};
use ksi_plugin_api::{__private::testing::encode, Error, Result};
use serde_json::Value;

use super::{
    Harness,
    handlers::{CONFIGURE_EVENT, Only},
};

impl Harness {
    /// Gives the plugin another configuration, as a host does whose configuration file has changed.
    /// Time passes as it needs it. What it has taken is what its next instance gets, after a
    /// [reload](crate::Subject::reload).
    ///
    /// ```
    /// use std::sync::Mutex;
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// #[payload]
    /// struct Config {
    ///     greeting: String,
    /// }
    ///
    /// struct Greeter {
    ///     greeting: Mutex<String>,
    /// }
    ///
    /// #[plugin]
    /// impl Greeter {
    ///     #[initialize]
    ///     async fn initialize(_: &Context, config: Config) -> Result<Self> {
    ///         Ok(Greeter { greeting: Mutex::new(config.greeting) })
    ///     }
    ///
    ///     #[configure]
    ///     async fn configure(&self, _: &Context, config: Config) -> Result<()> {
    ///         if config.greeting.is_empty() {
    ///             return Err(Error::new("no_greeting", "`greeting` is empty"));
    ///         }
    ///         *self.greeting.lock().unwrap() = config.greeting;
    ///         Ok(())
    ///     }
    ///
    ///     #[event_handler("greet:request")]
    ///     async fn greet(&self, _: &Context, name: String) -> Result<String> {
    ///         Ok(format!("{}, {name}!", self.greeting.lock().unwrap()))
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let greeter = Harness::with_config::<Greeter>(json!({"greeting": "Hello"})).unwrap();
    /// let refused = greeter.configure(&json!({"greeting": ""})).unwrap_err();
    /// assert_eq!(refused.code(), "no_greeting");
    /// assert_eq!(greeter.configure(&json!({})).unwrap_err().code(), "invalid_config");
    /// greeter.configure(&json!({"greeting": "Good day"})).unwrap();
    /// assert_eq!(greeter.emit("greet:request", "Ada").results(), [json!("Good day, Ada!")]);
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the plugin refuses it for, `invalid_config` for one that does not decode, `panicked`,
    /// `timed_out`, and `gone` after a shutdown; `made_anew` for a plugin without `#[configure]`,
    /// which a host replaces then.
    pub fn configure(&self, config: &Value) -> Result<()> {
        let bytes = encode(config)?.to_vec();
        let of = self.world.state.lock().live.as_ref().map(|live| live.of);
        let handlers = of.map(|of| (of.handlers)(Only(CONFIGURE_EVENT))).transpose()?;
        let handlers = handlers.unwrap_or_default();
        if let (Some(of), true) = (of, handlers.iter().all(|it| it.patterns.is_empty())) {
            let text = format_args!("{} has no #[configure]: a host replaces it", of.name);
            return Err(Error::new("made_anew", text));
        }
        let number = (0..).zip(&handlers).find(|(_, handler)| !handler.patterns.is_empty());
        let number = number.map_or(0, |(number, _)| number);
        let event = of_host(CONFIGURE_EVENT, Payload::from_json_bytes(bytes.clone()));
        let event = self.world.router().directed(event);
        self.of_instance(move |instance, cx| {
            instance.call(number, event.clone(), &ksi_abi::ReplyForm::Json, cx)
        })?;
        if let Some(live) = &mut self.world.state.lock().live {
            live.config = bytes;
        }
        Ok(())
    }
}
