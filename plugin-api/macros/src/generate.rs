//! What `#[plugin]` writes out behind the author's block.
//!
//! Types keep the author's spans, and the call of a handler has the span of the method's name, so
//! that what the compiler says about a payload or a future points into the author's code.
//!
//! A call is run by an unsafe function, whose condition this module answers for: what it gets (the
//! plugin, the context) stays in the future. A plugin may forbid unsafe code all the same; see
//! `layout`.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Type;

use crate::handler::Handler;
use crate::initialize::Initialize;
use crate::options::EventRef;
use crate::payload::Payload;
use crate::plugin::Plugin;
use crate::state::Versioned;

pub(crate) fn plugin(plugin: &Plugin) -> TokenStream {
    let implementation = implementation(plugin);
    let export = export(plugin);
    let distinct = assert_distinct(plugin);
    let only = only_plugin();
    quote!(#implementation #export #distinct #only)
}

fn implementation(plugin: &Plugin) -> TokenStream {
    let Plugin { ty, name, version, runtime, exclusive, emits, requires, handlers, state, .. } =
        plugin;
    let handlers = handlers.iter().map(handler);
    let snapshots = state.snapshots.iter().map(snapshot);
    let restores = state.restores.iter().map(restore);
    let initialize = initialize(plugin);
    let emit_schemas = emits.iter().map(|event| match event {
        EventRef::Name(_) => quote!(::core::default::Default::default),
        EventRef::Type(ty) => schema_of(Some(ty), "sent"),
    });
    let emit_types = emits.iter().map(|event| match event {
        EventRef::Name(_) => quote!(|| ::core::option::Option::None),
        EventRef::Type(ty) => {
            let described = type_of(&quote!(#ty), true);
            quote!(|| ::core::option::Option::Some(#described))
        }
    });
    let reply_schemas = requires.iter().map(|required| schema_of(required.reply.as_ref(), "read"));
    let requires = requires.iter().map(|required| &required.event);
    quote! {
        #[automatically_derived]
        impl ::ksi_plugin_api::Plugin for #ty {
            const NAME: &'static str = #name;
            const VERSION: &'static str = #version;
            const RUNTIME: bool = #runtime;
            const EXCLUSIVE: bool = #exclusive;
            const EMITS: &'static [&'static str] = &[#(#emits),*];
            const EMIT_SCHEMAS: &'static [fn() -> ::ksi_plugin_api::__private::SentSchemas] =
                &[#(#emit_schemas),*];
            const EMIT_TYPES: &'static [fn() -> ::core::option::Option<
                ::ksi_plugin_api::__private::TypeDescription
            >] = &[#(#emit_types),*];
            const REQUIRES: &'static [&'static str] = &[#(#requires),*];
            const REPLY_SCHEMAS: &'static [fn() -> ::ksi_plugin_api::Value] = &[#(#reply_schemas),*];
            const SNAPSHOTS: &'static [::ksi_plugin_api::__private::Snapshot<Self>] =
                &[#(#snapshots),*];
            const RESTORES: &'static [::ksi_plugin_api::__private::Restore<Self>] =
                &[#(#restores),*];
            const HANDLERS: &'static [::ksi_plugin_api::Handler<Self>] = &[#(#handlers),*];
            #initialize
        }
    }
}

/// What gives the schema of a type that is sent or read; one without it is found by a trait.
fn schema_of(ty: Option<&Type>, which: &str) -> TokenStream {
    let which = format_ident!("{which}");
    match ty {
        None => quote!(|| ::ksi_plugin_api::Value::Null),
        Some(ty) => quote! {{
            #[allow(unused_imports)]
            use ::ksi_plugin_api::__private::NoSchema as _;
            ::ksi_plugin_api::__private::SchemaOf::<#ty>::#which
        }},
    }
}

/// A type with what its values are known by, if they can get to whoever reads it.
fn type_of(ty: &TokenStream, as_value: bool) -> TokenStream {
    let fingerprint = match as_value {
        true => quote!(::ksi_plugin_api::__private::Probe::<#ty>::fingerprint()),
        false => quote!(::core::option::Option::None),
    };
    quote! {{
        #[allow(unused_imports)]
        use ::ksi_plugin_api::__private::Unproved as _;
        ::ksi_plugin_api::__private::type_of::<#ty>(#fingerprint)
    }}
}

fn handler(handler: &Handler) -> TokenStream {
    let Handler {
        summary, subscriptions, timeout_ms, blocking, payload, reply, is_configure, ..
    } = handler;
    let name = handler.name();
    let priority = signed(handler.priority);
    let timeout_ms = Literal::u64_unsuffixed(*timeout_ms);
    let call = call(handler);
    let schema = match payload {
        Payload::Owned(_) => quote!(payload_schema),
        Payload::Lent(_) | Payload::Borrowed(_) | Payload::BorrowedLent(_) => quote!(lent_schema),
    };
    // As `call` takes them.
    let as_value = matches!(payload, Payload::Owned(_) | Payload::Lent(_)) && !is_configure;
    let payload = payload.lasting();
    let schema = match is_configure {
        true => quote!(|| ::ksi_plugin_api::Value::Null),
        false => quote!(::ksi_plugin_api::__private::#schema::<#payload>),
    };
    let payload_type = type_of(&quote!(#payload), as_value);
    quote! {
        ::ksi_plugin_api::Handler {
            name: #name,
            summary: #summary,
            subscriptions: &[#(#subscriptions),*],
            priority: #priority,
            timeout_ms: #timeout_ms,
            blocking: #blocking,
            payload_schema: #schema,
            reply_schema: ::ksi_plugin_api::__private::reply_schema::<#reply>,
            payload_type: || #payload_type,
            call: #call,
        }
    }
}

fn call(Handler { method, payload, reply, is_configure, .. }: &Handler) -> TokenStream {
    let span = method.span().resolved_at(Span::call_site());
    // The payload is taken inside the future, where it stays. The types are spelled out so that a
    // missing trait is reported at the author's type. And the method is called by its path, lest
    // one of `PluginRef`'s own is taken for it.
    let (taken, data) = match payload {
        Payload::Owned(ty) if *is_configure => {
            (quote_spanned!(span=> let data = ctx.configuration::<#ty>();), quote!(data))
        }
        Payload::Owned(ty) => {
            let take = quote!(::ksi_plugin_api::__private::Probe::<#ty>::taker());
            (quote_spanned!(span=> let data = ctx.own_payload::<#ty>(#take);), quote!(data))
        }
        Payload::Lent(ty) => {
            let view = quote!(::ksi_plugin_api::__private::Probe::<#ty>::viewer());
            let taken = quote_spanned! { span=>
                let decoded: #ty;
                let data = match ctx.view_payload::<#ty>(#view) {
                    ::core::option::Option::Some(data) => ::core::result::Result::Ok(data),
                    ::core::option::Option::None => match ctx.borrow_payload::<#ty>() {
                        ::core::result::Result::Ok(data) => {
                            decoded = data;
                            ::core::result::Result::Ok(&decoded)
                        }
                        ::core::result::Result::Err(error) => ::core::result::Result::Err(error),
                    },
                };
            };
            (taken, quote!(data))
        }
        Payload::Borrowed(ty) | Payload::BorrowedLent(ty) => {
            let lent = matches!(payload, Payload::BorrowedLent(_)).then(|| quote!(&));
            (quote_spanned!(span=> let data = ctx.borrow_payload::<#ty>();), quote!(#lent data))
        }
    };
    let run = quote_spanned! { span=>
        call.run::<#reply, _, _>(
            ::ksi_plugin_api::__private::Probe::<#reply>::giver,
            |plugin: ::ksi_plugin_api::PluginRef<Self>,
             ctx: ::ksi_plugin_api::Context,
             give: ::ksi_plugin_api::__private::Give<#reply>| async move {
                #taken
                let result = match data {
                    ::core::result::Result::Ok(data) => Self::#method(&plugin, &ctx, #data).await,
                    ::core::result::Result::Err(error) => ::core::result::Result::Err(error),
                };
                ::ksi_plugin_api::__private::handler_end::<#reply>(result, give)
            }
        )
    };
    // SAFETY of what is generated: the plugin and the context go into the future of the method,
    // which only borrows them, and nowhere else (`Call::run`).
    quote! {
        |call| {
            #[allow(unused_imports)]
            use ::ksi_plugin_api::__private::Unproved as _;
            unsafe { #run }
        }
    }
}

fn snapshot(Versioned { method, version, ty }: &Versioned) -> TokenStream {
    let version = Literal::u32_unsuffixed(*version);
    let run = quote_spanned! { method.span().resolved_at(Span::call_site())=>
        taking.run::<#ty, _, _>(
            |plugin: ::ksi_plugin_api::PluginRef<Self>,
             ctx: ::ksi_plugin_api::Context| async move { Self::#method(&plugin, &ctx).await }
        )
    };
    // SAFETY of what is generated: as for a call; the method borrows both.
    let call = quote!(|taking| unsafe { #run });
    quote!(::ksi_plugin_api::__private::Snapshot { version: #version, call: #call })
}

fn restore(Versioned { method, version, ty }: &Versioned) -> TokenStream {
    let version = Literal::u32_unsuffixed(*version);
    let run = quote_spanned! { method.span().resolved_at(Span::call_site())=>
        restoring.run::<#ty, _, _>(
            |plugin: ::ksi_plugin_api::PluginRef<Self>,
             ctx: ::ksi_plugin_api::Context,
             saved: #ty| async move { Self::#method(&plugin, &ctx, saved).await }
        )
    };
    // SAFETY of what is generated: as for a call; the method borrows both.
    let call = quote!(|restoring| unsafe { #run });
    quote! {
        ::ksi_plugin_api::__private::Restore {
            version: #version,
            call: #call,
            read: ::ksi_plugin_api::__private::read_as::<#ty>
        }
    }
}

fn initialize(plugin: &Plugin) -> TokenStream {
    let ty = &plugin.ty;
    let body = match &plugin.initialize {
        Some(Initialize { function, config }) => {
            quote_spanned! { function.span().resolved_at(Span::call_site())=>
                Self::#function(&ctx, config.decode::<#config>()?).await
            }
        }
        None => quote! {
            let _ = ctx;
            config.expect_empty()?;
            ::core::result::Result::Ok(::ksi_plugin_api::__private::by_default::<#ty>())
        },
    };
    quote! {
        async fn initialize(
            ctx: ::ksi_plugin_api::Context,
            config: ::ksi_plugin_api::__private::RawConfig,
        ) -> ::ksi_plugin_api::Result<Self> {
            #body
        }
    }
}

/// A name that a crate has room for once, wherever its plugin stands: what the compiler says of two
/// is the message. The tests of a crate may hold several plugins.
fn only_plugin() -> TokenStream {
    quote! {
        #[cfg(not(test))]
        #[doc(hidden)]
        #[macro_export]
        #[allow(non_local_definitions)]
        macro_rules! a_crate_has_one_plugin_so_put_the_other_into_a_crate_of_its_own {
            () => {};
        }
    }
}

/// Numbers go as strings here, because the manifest is joined from pieces of text.
fn export(plugin: &Plugin) -> TokenStream {
    let Plugin {
        ty,
        name,
        version,
        crate_name,
        header,
        runtime,
        exclusive,
        isolated,
        trial,
        emits,
        requires,
        handlers,
        state,
        ..
    } = plugin;
    let writes = state.snapshots.iter().map(|snapshot| snapshot.version.to_string());
    let restores = state.restores.iter().map(|restore| restore.version.to_string());
    // A type's event name is asked for once, in `implementation`: a type that has none is one
    // mistake.
    let handlers = handlers.iter().enumerate().map(|(index, handler)| {
        let name = handler.name();
        let subscriptions = subscriptions(ty, index, handler);
        let priority = handler.priority.to_string();
        let timeout_ms = handler.timeout_ms.to_string();
        let blocking = handler.blocking.to_string();
        quote! {
            {
                name = #name,
                subscriptions = [#(#subscriptions),*],
                priority = #priority,
                timeout_ms = #timeout_ms,
                blocking = #blocking
            }
        }
    });
    let emits = listed(ty, &format_ident!("EMITS"), emits.iter());
    let required = requires.iter().map(|required| &required.event);
    let requires = listed(ty, &format_ident!("REQUIRES"), required);
    quote! {
        ::ksi_plugin_api::__private::export_plugin!(
            #ty,
            name = #name,
            version = #version,
            crate_name = #crate_name,
            header = #header,
            runtime = #runtime,
            exclusive = #exclusive,
            isolated = #isolated,
            trial = #trial,
            handlers = [#(#handlers),*],
            emits = [#(#emits),*],
            requires = [#(#requires),*],
            writes = [#(#writes),*],
            restores = [#(#restores),*]
        );
    }
}

/// Literals were compared while the block was read; names that come with types are only known to
/// the compiler.
fn assert_distinct(plugin: &Plugin) -> TokenStream {
    let handlers = plugin.handlers.iter().enumerate();
    let subscriptions =
        handlers.flat_map(|(index, handler)| subscriptions(&plugin.ty, index, handler));
    quote! {
        const _: () = ::ksi_plugin_api::__private::assert_distinct(&[#(#subscriptions),*]);
    }
}

/// The names that the handler at this place subscribes to, by way of the implementation where they
/// come with types.
fn subscriptions(plugin: &Type, index: usize, handler: &Handler) -> Vec<TokenStream> {
    let named = handler.subscriptions.iter().enumerate().map(|(place, event)| match event {
        EventRef::Name(name) => name.to_token_stream(),
        EventRef::Type(_) => quote! {
            <#plugin as ::ksi_plugin_api::Plugin>::HANDLERS[#index].subscriptions[#place]
        },
    });
    named.collect()
}

/// The same for a list of the implementation.
fn listed<'a>(
    plugin: &Type,
    list: &Ident,
    events: impl Iterator<Item = &'a EventRef>,
) -> Vec<TokenStream> {
    let named = events.enumerate().map(|(place, event)| match event {
        EventRef::Name(name) => name.to_token_stream(),
        EventRef::Type(_) => quote!(<#plugin as ::ksi_plugin_api::Plugin>::#list[#place]),
    });
    named.collect()
}

fn signed(number: i32) -> TokenStream {
    let sign = (number < 0).then(|| quote!(-));
    let digits = Literal::u32_unsuffixed(number.unsigned_abs());
    quote!(#sign #digits)
}

impl ToTokens for EventRef {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            EventRef::Name(name) => name.to_tokens(tokens),
            EventRef::Type(ty) => {
                tokens.extend(quote!(<#ty as ::ksi_plugin_api::Event>::NAME));
            }
        }
    }
}
