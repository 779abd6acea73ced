//! What the `#[plugin]` attribute implements, and how it becomes an instance that a host can call.

use std::{future::Future, marker::PhantomData};

use ksi_abi::{CallStart, Fingerprint, TypeDescription, export::Shared};
use serde_json::Value;

use crate::{
    call::Call,
    context::Context,
    error::{Error, Result},
    payload, schema,
    state::{Restore, Snapshot},
    types::{BuiltByDefault, Configuration, HandlerPayload, HandlerReply, LentPayload},
};

/// A reference to the plugin that a call may keep until it ends.
pub type PluginRef<P> = Shared<P>;

/// A named unit of behaviour. Written through the `#[plugin]` attribute, not by hand.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// Its name, the same in all its versions.
    const NAME: &'static str;
    /// Its version.
    const VERSION: &'static str;
    /// Whether it has a tokio runtime of its own.
    #[doc(hidden)]
    const RUNTIME: bool;
    /// Whether two instances of it must not be alive at a time.
    #[doc(hidden)]
    const EXCLUSIVE: bool = false;
    /// The events that it says it emits.
    #[doc(hidden)]
    const EMITS: &'static [&'static str];
    /// JSON Schemas of their payloads, in the same order.
    #[doc(hidden)]
    const EMIT_SCHEMAS: &'static [fn() -> SentSchemas];
    /// Their types, in the same order; nothing where the name alone is declared.
    #[doc(hidden)]
    const EMIT_TYPES: &'static [fn() -> Option<TypeDescription>];
    /// The events that it needs somebody to handle.
    #[doc(hidden)]
    const REQUIRES: &'static [&'static str];
    /// JSON Schemas of what it reads of the replies to those, in the same order; null where it does
    /// not say.
    #[doc(hidden)]
    const REPLY_SCHEMAS: &'static [fn() -> Value];
    /// The versions of snapshots that it writes, highest first; none when it keeps no state.
    #[doc(hidden)]
    const SNAPSHOTS: &'static [Snapshot<Self>];
    /// The versions of snapshots that it restores, highest first.
    #[doc(hidden)]
    const RESTORES: &'static [Restore<Self>];
    /// Its handlers, in order of declaration.
    #[doc(hidden)]
    const HANDLERS: &'static [Handler<Self>];

    /// Makes it from its configuration.
    #[doc(hidden)]
    fn initialize(ctx: Context, config: RawConfig) -> impl Future<Output = Result<Self>> + Send;
}

/// One declared handler.
pub struct Handler<P> {
    /// The method's name.
    pub name: &'static str,
    /// The first paragraph of its documentation.
    pub summary: &'static str,
    /// Event names and patterns.
    pub subscriptions: &'static [&'static str],
    /// Higher ones are called first.
    pub priority: i32,
    /// In milliseconds; 0 stands for the host's default.
    pub timeout_ms: u64,
    /// Whether it is called on a thread that may block.
    pub blocking: bool,
    /// JSON Schema of its payload.
    pub payload_schema: fn() -> Value,
    /// JSON Schema of its reply.
    pub reply_schema: fn() -> SentSchemas,
    /// The type of its payload.
    pub payload_type: fn() -> TypeDescription,
    /// Starts a call.
    pub call: fn(Call<'_, P>) -> CallStart,
}

/// A plugin's configuration as the host gives it: the plugin's table of the host's configuration.
pub struct RawConfig(Vec<u8>);

impl RawConfig {
    pub(crate) fn new(json: Vec<u8>) -> Self {
        RawConfig(json)
    }

    /// Decodes it.
    ///
    /// # Errors
    /// `invalid_config`, with the path inside it.
    pub fn decode<C: Configuration>(self) -> Result<C> {
        payload::decode(&self.0).map_err(|error| {
            Error::new("invalid_config", format_args!("in its configuration: {error}"))
        })
    }

    /// Refuses a configuration for a plugin that takes none.
    ///
    /// # Errors
    /// `invalid_config` when there is one.
    pub fn expect_empty(self) -> Result<()> {
        let config: Value = self.decode()?;
        match config.as_object().and_then(|table| table.keys().next()) {
            Some(key) => {
                let text = format!("this plugin takes no configuration, but {key:?} is set");
                Err(Error::new("invalid_config", text))
            }
            None => Ok(()),
        }
    }
}

/// A plugin whose type says how it is built.
pub fn by_default<T: BuiltByDefault>() -> T {
    T::default()
}

/// The JSON Schema of a payload, for [`Handler`].
pub fn payload_schema<T: HandlerPayload>() -> Value {
    schema::read::<T>()
}

/// The same for one that may borrow.
pub fn lent_schema<T: LentPayload<'static>>() -> Value {
    schema::read::<T>()
}

/// The JSON Schema of a reply, for [`Handler`].
pub fn reply_schema<T: HandlerReply>() -> SentSchemas {
    sent_schemas::<T>()
}

/// JSON Schemas of what is sent.
#[derive(Default)]
pub struct SentSchemas {
    /// As serde writes it; null where nothing is known.
    pub sent: Value,
    /// As the same type reads it, where that is another one: whoever takes that takes all of it,
    /// also where the two cannot be compared, as two patterns of a decimal number.
    pub read: Option<Value>,
}

/// The type of a payload, for [`Handler`], with what its values are known by.
pub fn type_of<T: ?Sized>(fingerprint: Option<Fingerprint>) -> TypeDescription {
    TypeDescription { name: std::any::type_name::<T>().to_owned(), fingerprint }
}

/// The JSON Schema of a type that is named in `#[plugin]`, if that has one.
pub struct SchemaOf<T>(PhantomData<T>);

impl<T: schemars::JsonSchema> SchemaOf<T> {
    /// Of what is sent.
    pub fn sent() -> SentSchemas {
        sent_schemas::<T>()
    }

    /// Of what is read.
    pub fn read() -> Value {
        schema::read::<T>()
    }
}

/// Found by the compiler for those that have none.
pub trait NoSchema {
    /// Nothing is known.
    fn sent() -> SentSchemas {
        SentSchemas::default()
    }

    /// Nothing is known.
    fn read() -> Value {
        Value::Null
    }
}

impl<T> NoSchema for SchemaOf<T> {}

fn sent_schemas<T: schemars::JsonSchema>() -> SentSchemas {
    let sent = schema::sent::<T>();
    let read = Some(schema::read::<T>()).filter(|read| *read != sent);
    SentSchemas { sent, read }
}
