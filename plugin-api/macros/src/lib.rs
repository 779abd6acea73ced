//! The attributes that a plugin is written with, re-exported by `ksi-plugin-api`.
//!
//! An attribute reads what the author wrote, checks it, and either writes out the code that the
//! host needs or says at the right place what is wrong. All mistakes of a block are reported at
//! once, and the block itself is always handed back, so that one mistake stays one message.
//!
//! This crate knows the paths of `ksi_plugin_api` and nothing else of it: no host, no ABI, no
//! manifest layout. Everything below works on `proc_macro2` tokens and is tested that way; only
//! the entry points here speak to the compiler. The examples cannot run in this crate, which must
//! not depend on `ksi_plugin_api`; that crate's own examples do.

mod plugin;

mod configure;
mod handler;
mod initialize;
mod options;
mod package;
mod payload;
mod signature;
mod state;

mod generate;

mod event;
mod layout;

mod args;
mod doc;
mod duration;
mod errors;
mod name;
mod read_names;
mod renamed;
#[cfg(test)]
mod testing;

use proc_macro::TokenStream;

use package::Package;

/// Makes a struct a plugin, and the library that it is built into loadable by a host.
///
/// It goes on the struct's impl block. Methods with [`macro@event_handler`] become the plugin's
/// handlers, and a function with [`macro@initialize`] builds the plugin from its configuration;
/// without one, `Default::default()` does. One with [`macro@configure`] takes another configuration
/// later. Methods with [`macro@snapshot`] and [`macro@restore`]
/// carry its state over a reload. Everything else in the block is left alone.
///
/// ```ignore
/// #[plugin(emits(Greeted))]
/// impl Greeter {
///     /// Greets somebody.
///     #[event_handler]
///     async fn greet(&self, ctx: &Context, greet: Greet) -> Result<Greeted> {
///         let done = Greeted { text: format!("Hello, {}!", greet.name) };
///         ctx.emit(&done).await;
///         Ok(done)
///     }
/// }
/// ```
///
/// # Options
/// - `name = "greeter"`: the plugin's name, made of letters, digits, `_` and `-`. Without it, the
///   package's name less a leading `ksi-plugin-`.
/// - `version = "1.2"`: without it, the package's version.
/// - `runtime`: the plugin gets a tokio runtime of its own, entered around each poll of its
///   handlers. It needs the feature `runtime` of `ksi-plugin-api`.
/// - `exclusive`: the plugin holds something that two instances of it cannot hold at a time: a
///   database file, a device, a lock. When it is replaced, its events wait, its old instance is
///   shut down and dropped, and only then the new one is initialized.
/// - `isolated`: the plugin asks for a process of its own, because it may end the process that it
///   is in, or hold a thread for ever: what is in another language, or takes input that nobody has
///   looked at. Whether it gets one is the operator's to say; one that says nothing lets it have
///   it. Calls then cross a socket, which takes some 10 µs more.
/// - `trial = false`: the host makes no instance in a process of its own before it makes one. For
///   a plugin whose `#[initialize]` does what may not be done twice, and cannot leave it out where
///   `Context::is_trial` is true. An `#[initialize]` that crashes then ends the host.
/// - `emits("a:b", Greeted)`: the events that the plugin emits, by name or by type. They are shown
///   to whoever inspects the plugin; emitting others is not refused.
/// - `requires("state:set", Get -> Reading)`: the events that somebody must handle for the plugin
///   to be of use. The host does not start it before that, and says what is missing. Behind an
///   arrow stands the type that the plugin reads the reply as: the host refuses a version of
///   whoever handles the event that no longer replies so.
///
/// - `crate = my_api`: what the crate calls `ksi-plugin-api`, if that is renamed in its Cargo.toml
///   or comes by way of another crate. The attributes [`macro@event`] and [`macro@payload`] take it
///   too.
///
/// # Errors
/// The build fails when the block is a trait's or generic, when two handlers have one name or
/// subscribe to one event name, when a snapshot has no restore of its version, and for every method
/// with a mark that cannot be called.
#[proc_macro_attribute]
pub fn plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    plugin::expand(args.into(), item.into(), &Package::being_built()).into()
}

/// Subscribes a method of a [`macro@plugin`] block to events.
///
/// The method is `async fn(&self, ctx: &Context, data: T) -> Result<R>`. The payload type `T` is
/// any type with `Deserialize` and `JsonSchema` (`Value` for raw JSON), the reply type `R` any with
/// `Serialize` and `JsonSchema`; a reply of `()` or `None` counts as no reply. The first paragraph
/// of the doc comment is the summary that the host shows.
///
/// The payload may be lent for the time of the call, which saves a copy: `data: &T` is the
/// emitter's own value where both were built from one definition of `T`; `data: &str`,
/// `data: &RawValue` and types with lifetimes, such as `data: Line<'_>`, borrow from the JSON.
///
/// ```ignore
/// #[event_handler("state:update", "audit:*", priority = 10, timeout = "500ms")]
/// async fn update(&self, ctx: &Context, data: Value) -> Result<()> { Ok(()) }
/// ```
///
/// # Options
/// - Any number of names or patterns. In a pattern `*` stands for one segment, `**` for any
///   number, and a bare `*` matches every event. Without one, the name of the payload's
///   [`macro@event`] type is used.
/// - `priority = 10`: handlers with a higher priority come first in the report; 0 without it.
/// - `timeout = "5s"`: the call is cancelled after this time (`ms`, `s` or `m`); the host's default
///   without it.
/// - `blocking`: the method may block its thread; it runs on threads kept for that.
#[proc_macro_attribute]
pub fn event_handler(_args: TokenStream, item: TokenStream) -> TokenStream {
    plugin::used_alone("event_handler", &item.into()).into()
}

/// Marks the function of a [`macro@plugin`] block that builds the plugin.
///
/// It is `async fn(ctx: &Context, config: T) -> Result<Self>`, where `T` is any type with
/// `Deserialize`: the plugin's table in the host's configuration is decoded into it. An error keeps
/// the plugin from going live, and leaves the running generation in place at a reload.
#[proc_macro_attribute]
pub fn initialize(_args: TokenStream, item: TokenStream) -> TokenStream {
    plugin::used_alone("initialize", &item.into()).into()
}

/// Marks a method of a [`macro@plugin`] block that takes another configuration while it runs.
///
/// It is `async fn(&self, ctx: &Context, config: T) -> Result<()>`, where `T` is any type with
/// `Deserialize`. The host calls it when the plugin's table in its configuration has changed,
/// beside other calls, in place of replacing the plugin. With an error the plugin refuses it: it
/// goes on as before, and the host shows why. Then nothing may have changed, so what can fail comes
/// first. Its next instance gets the configuration that was taken last, by [`macro@initialize`].
///
/// ```ignore
/// #[configure]
/// async fn configure(&self, _: &Context, config: Config) -> Result<()> {
///     *self.config() = config.checked()?;
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn configure(_args: TokenStream, item: TokenStream) -> TokenStream {
    plugin::used_alone("configure", &item.into()).into()
}

/// Marks a method of a [`macro@plugin`] block that takes a snapshot of the plugin's state.
///
/// It is `async fn(&self, ctx: &Context) -> Result<S>`, where `S` is any type with `Serialize` that
/// does not borrow. The host takes snapshots when it replaces the plugin, when it stops, and from
/// time to time, also beside calls: what is read together is locked together.
///
/// ```ignore
/// #[snapshot(version = 2)]
/// async fn snapshot(&self, _: &Context) -> Result<Saved> { Ok(Saved { count: self.count() }) }
/// ```
///
/// # Options
/// - `version = 2`: the version of the snapshot's shape, a whole number from 1 on; 1 without it. A
///   plugin may have several of these methods, each with a version of its own, so that an older
///   version of the plugin can go on with the state of this one. Each needs a [`macro@restore`] of
///   the same version.
#[proc_macro_attribute]
pub fn snapshot(_args: TokenStream, item: TokenStream) -> TokenStream {
    plugin::used_alone("snapshot", &item.into()).into()
}

/// Marks a method of a [`macro@plugin`] block that restores the plugin's state from a snapshot.
///
/// It is `async fn(&self, ctx: &Context, saved: S) -> Result<()>`, where `S` is any type with
/// `Deserialize` that does not borrow. It runs after [`macro@initialize`] and before the first
/// event. An error keeps the plugin from going live, and leaves the running generation in place at
/// a reload.
///
/// ```ignore
/// #[restore(version = 1)]
/// async fn restore_v1(&self, _: &Context, saved: SavedV1) -> Result<()> {
///     self.set_count(saved.n.into());
///     Ok(())
/// }
/// ```
///
/// # Options
/// - `version = 1`: the version of the snapshots that this method restores; 1 without it. A plugin
///   has one such method for each version that it can still read.
#[proc_macro_attribute]
pub fn restore(_args: TokenStream, item: TokenStream) -> TokenStream {
    plugin::used_alone("restore", &item.into()).into()
}

/// Makes a struct or enum the payload of the event with the given name.
///
/// It derives `Serialize`, `Deserialize`, `JsonSchema`, `Debug` and `Clone` and implements `Event`.
/// Other derives and `#[serde(..)]` attributes go below it. It also describes the type's layout, by
/// which the event reaches handlers that were built from the same definition without JSON; a type
/// that borrows, `struct Line<'a> { text: &'a str }`, always goes as JSON.
///
/// ```ignore
/// #[event("greet:request")]
/// #[serde(deny_unknown_fields)]
/// struct Greet {
///     /// Who is greeted.
///     name: String,
/// }
/// ```
#[proc_macro_attribute]
pub fn event(args: TokenStream, item: TokenStream) -> TokenStream {
    event::event(args.into(), item.into()).into()
}

/// What [`macro@event`] and [`macro@payload`] derive beside the traits of serde.
#[doc(hidden)]
#[proc_macro_derive(Layout, attributes(ksi))]
pub fn layout(item: TokenStream) -> TokenStream {
    layout::derive(item.into(), &Package::being_built()).into()
}

/// Derives what a payload, reply or configuration without a name of its own needs.
///
/// The derives are those of [`macro@event`]: `Serialize`, `Deserialize`, `JsonSchema`, `Debug` and
/// `Clone`. Other derives and `#[serde(..)]` attributes go below it. It may have type parameters
/// and lifetimes.
#[proc_macro_attribute]
pub fn payload(args: TokenStream, item: TokenStream) -> TokenStream {
    event::payload(args.into(), item.into()).into()
}
