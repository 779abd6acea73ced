//! What the types of an author have to be, and what is said when one is not.
//!
//! Each of these traits stands for what its place asks of a type, and is there for every type that
//! has that. The compiler would name the first thing that is missing, which is a trait of some
//! crate that the author need not know; so it is told to name the place and what to write instead.

use std::fmt::Debug;

use ksi_abi::Layout;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The payload of a handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the payload of a handler",
    label = "no payload type",
    note = "write #[payload] or #[event(\"ns:name\")] on `{Self}`, which derive what it takes: `Deserialize` and `JsonSchema`",
    note = "for types of common crates, such as chrono's and uuid's, ksi-plugin-api has features of these names"
)]
pub trait HandlerPayload: DeserializeOwned + JsonSchema {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + JsonSchema> HandlerPayload for T {}

/// The payload of a handler, if it may borrow.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the payload of a handler",
    label = "no payload type",
    note = "write #[payload] or #[event(\"ns:name\")] on `{Self}`, which derive what it takes: `Deserialize` and `JsonSchema`",
    note = "for types of common crates, such as chrono's and uuid's, ksi-plugin-api has features of these names"
)]
pub trait LentPayload<'a>: Deserialize<'a> + JsonSchema {}

#[diagnostic::do_not_recommend]
impl<'a, T: Deserialize<'a> + JsonSchema> LentPayload<'a> for T {}

/// The reply of a handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the reply of a handler",
    label = "no reply type",
    note = "write #[payload] on `{Self}`, which derives what it takes: `Serialize` and `JsonSchema`",
    note = "for types of common crates, such as chrono's and uuid's, ksi-plugin-api has features of these names"
)]
pub trait HandlerReply: Serialize + JsonSchema {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + JsonSchema> HandlerReply for T {}

/// What a request awaits.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be awaited as a reply",
    label = "no reply type",
    note = "write #[payload] on `{Self}`, or await a type of the standard library or a `Value`"
)]
pub trait AwaitedReply: DeserializeOwned + Layout + Clone {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Layout + Clone> AwaitedReply for T {}

/// The payload of a handler that is [subscribed](crate::Context::subscribe) at run time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the payload of a subscribed handler",
    label = "no payload type",
    note = "write #[payload] on `{Self}`, derive `Clone`, or take a type of the standard library or a `Value`"
)]
pub trait SubscribedPayload: DeserializeOwned + Layout + Clone + Send {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Layout + Clone + Send> SubscribedPayload for T {}

/// The reply of such a handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the reply of a subscribed handler",
    label = "no reply type",
    note = "write #[payload] on `{Self}`, derive `Clone`, or give a type of the standard library or a `Value`"
)]
pub trait SubscribedReply: Serialize + Layout + Clone + Send + Sync {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Layout + Clone + Send + Sync> SubscribedReply for T {}

/// The type of a plugin without an `#[initialize]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is built by nobody: the plugin has no #[initialize], and its type no `Default`",
    label = "not built",
    note = "derive `Default`, or write `#[initialize] async fn initialize(ctx: &Context, config: T) -> Result<Self>`"
)]
pub trait BuiltByDefault: Default {}

#[diagnostic::do_not_recommend]
impl<T: Default> BuiltByDefault for T {}

/// A field of an event or a payload; read from what lasts, as one that is only emitted may have a
/// `&'static str`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of an event or a payload",
    label = "no payload type",
    note = "write #[payload] on what is your own in `{Self}`: it derives `Serialize`, `Deserialize`, `JsonSchema`, `Debug` and `Clone`",
    note = "for what is of another crate: a feature of that crate and one of ksi-plugin-api, or #[serde(with = \"..\")] and \
            #[schemars(with = \"..\")] on the field"
)]
pub trait PayloadField: Serialize + Deserialize<'static> + JsonSchema + Debug + Clone {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Deserialize<'static> + JsonSchema + Debug + Clone> PayloadField for T {}

/// A plugin's configuration.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the configuration of a plugin",
    label = "no configuration type",
    note = "write #[payload] on `{Self}`, which derives what it takes: `Deserialize`"
)]
pub trait Configuration: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Configuration for T {}

/// What a `#[snapshot]` gives.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a snapshot",
    label = "no snapshot type",
    note = "write #[payload] on `{Self}`, which derives what it takes: `Serialize`, and `Deserialize` to restore it"
)]
pub trait TakenSnapshot: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> TakenSnapshot for T {}

/// What a `#[restore]` takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be restored from a snapshot",
    label = "no snapshot type",
    note = "write #[payload] on `{Self}`, which derives what it takes: `Deserialize`"
)]
pub trait RestoredSnapshot: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> RestoredSnapshot for T {}
