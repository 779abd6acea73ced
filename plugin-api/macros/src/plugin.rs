//! `#[plugin]` on an impl block: reads the block, and hands it back without the attributes that it
//! understood, followed by what the host needs or by the mistakes.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Attribute, Error, ImplItem, Item, ItemImpl, LitStr, Path, Result, Type};

use crate::configure;
use crate::errors::Errors;
use crate::generate;
use crate::handler::{self, Handler, Subscribed};
use crate::initialize::{self, Initialize};
use crate::options::{EventRef, PluginOptions, Required};
use crate::package::Package;
use crate::renamed::renamed;
use crate::signature::bare;
use crate::state::{self, Kind, State};

/// Everything that is known of a plugin once its block is read.
pub(crate) struct Plugin {
    pub(crate) ty: Type,
    pub(crate) name: String,
    pub(crate) version: String,
    /// What `ksi_plugin_api` is called here, if not so.
    pub(crate) api: Option<Path>,
    pub(crate) crate_name: String,
    /// The symbol of its root module.
    pub(crate) header: String,
    pub(crate) runtime: bool,
    pub(crate) exclusive: bool,
    /// It asks for a process of its own.
    pub(crate) isolated: bool,
    /// Whether an instance may be made elsewhere first.
    pub(crate) trial: bool,
    pub(crate) emits: Vec<EventRef>,
    pub(crate) requires: Vec<Required>,
    pub(crate) handlers: Vec<Handler>,
    pub(crate) initialize: Option<Initialize>,
    pub(crate) state: State,
}

/// The methods of a block that the host calls.
#[derive(Default)]
struct Methods {
    handlers: Vec<Handler>,
    initialize: Option<Initialize>,
    state: State,
}

/// The whole work of `#[plugin(args)] item`.
pub(crate) fn expand(args: TokenStream, item: TokenStream, package: &Package) -> TokenStream {
    let mut block = match impl_block(item.clone()) {
        Ok(block) => block,
        Err(error) => return with_error(&item, error),
    };
    match read(args, &mut block, package) {
        Ok(plugin) => {
            let generated = renamed(generate::plugin(&plugin), plugin.api.as_ref());
            quote!(#block #generated)
        }
        // Nothing calls the methods then, and warnings of that would bury the message.
        Err(error) => with_error(&quote!(#[allow(unused_variables, dead_code)] #block), error),
    }
}

/// What an inner attribute expands to when no `#[plugin]` consumed it.
pub(crate) fn used_alone(attribute: &str, item: &TokenStream) -> TokenStream {
    let message = format!("#[{attribute}] belongs on a method inside a #[plugin] impl block");
    with_error(item, Error::new(Span::call_site(), message))
}

/// The author's code stays, so that the mistake is not followed by messages about missing names.
pub(crate) fn with_error(item: &TokenStream, error: Error) -> TokenStream {
    let error = error.into_compile_error();
    quote!(#item #error)
}

fn impl_block(item: TokenStream) -> Result<ItemImpl> {
    match syn::parse2(item)? {
        Item::Impl(block) => Ok(block),
        _ => Err(Error::new(
            Span::call_site(),
            "#[plugin] belongs on the impl block with the handlers, as in \
             `#[plugin] impl Greeter { .. }`",
        )),
    }
}

fn read(args: TokenStream, block: &mut ItemImpl, package: &Package) -> Result<Plugin> {
    let mut errors = Errors::default();
    let options = PluginOptions::read(args, &mut errors);
    check_block(block, &mut errors);
    let name = errors.take(or_lent(options.name, || package.plugin_name()));
    let version = errors.take(or_lent(options.version, || package.plugin_version()));
    let Methods { handlers, initialize, state } = read_methods(block, &mut errors);
    errors.finish()?;
    let name = name.unwrap_or_default();
    Ok(Plugin {
        ty: (*block.self_ty).clone(),
        api: options.api,
        crate_name: package.crate_name(&name),
        header: package.header(&name),
        name,
        version: version.unwrap_or_default(),
        runtime: options.runtime,
        exclusive: options.exclusive,
        isolated: options.isolated,
        trial: options.trial.is_none_or(|trial| trial.value),
        emits: options.emits,
        requires: options.requires,
        handlers,
        initialize,
        state,
    })
}

fn check_block(block: &ItemImpl, errors: &mut Errors) {
    if let Some((path, _)) = &block.trait_ {
        let message = "#[plugin] belongs on the struct's own impl block, not on a trait's: write \
                       `impl Greeter { .. }`";
        errors.at(path, message);
    }
    if !block.generics.params.is_empty() || block.generics.where_clause.is_some() {
        let message = "a plugin is one type, so that the host can build it: write an impl block \
                       without generics";
        errors.at(&block.self_ty, message);
    } else if !matches!(bare(&block.self_ty), Type::Path(_)) {
        errors.at(&block.self_ty, "a plugin is a struct or an enum: write `impl Greeter { .. }`");
    }
}

fn read_methods(block: &mut ItemImpl, errors: &mut Errors) -> Methods {
    let mut methods = Methods::default();
    let mut initialize = None;
    let mut versions = state::Versions::default();
    let mut subscribed = Subscribed::default();
    let mut marked = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        let marks = take_marks(&mut method.attrs);
        let Some((mark, attr)) = marks.first() else { continue };
        if let Some((_, second)) = marks.get(1) {
            let message = "one mark on a method is enough: several events go into one \
                           #[event_handler(\"a:b\", \"c:d\")], and a method with another mark \
                           handles none";
            errors.at(second, message);
        }
        let name = method.sig.ident.clone();
        match mark {
            Mark::Handler => {
                if marked.contains(&name) {
                    let message = format!(
                        "two handlers are called `{name}`: the host tells them apart by their \
                         names, so rename one"
                    );
                    errors.at(&name, message);
                }
                methods.handlers.extend(handler::read(method, attr, &mut subscribed, errors));
                marked.push(name);
            }
            Mark::Configure => {
                methods.handlers.extend(configure::read(method, attr, &mut subscribed, errors));
                marked.push(name);
            }
            Mark::Initialize => {
                let read = initialize::read(method, attr, &block.self_ty, errors);
                if let Some(first) = initialize.replace((name.clone(), read)) {
                    let message = format!(
                        "`{}` is marked with #[initialize] already: a plugin is built in one place",
                        first.0
                    );
                    errors.at(&name, message);
                }
            }
            Mark::State(kind) => {
                let read = state::read(*kind, method, attr, &mut versions, errors);
                methods.state.extend(*kind, read);
            }
        }
    }
    versions.check(errors);
    methods.initialize = initialize.and_then(|(_, read)| read);
    methods
}

enum Mark {
    Handler,
    Configure,
    Initialize,
    State(Kind),
}

/// Takes the attributes that this block understands off a method. They are known by their last
/// segment, so that `#[ksi_plugin_api::event_handler]` works too.
fn take_marks(attrs: &mut Vec<Attribute>) -> Vec<(Mark, Attribute)> {
    let mut marks = Vec::new();
    for attr in std::mem::take(attrs) {
        let name = attr.path().segments.last().map(|segment| segment.ident.to_string());
        match name.as_deref() {
            Some("event_handler") => marks.push((Mark::Handler, attr)),
            Some("configure") => marks.push((Mark::Configure, attr)),
            Some("initialize") => marks.push((Mark::Initialize, attr)),
            Some("snapshot") => marks.push((Mark::State(Kind::Snapshot), attr)),
            Some("restore") => marks.push((Mark::State(Kind::Restore), attr)),
            _ => attrs.push(attr),
        }
    }
    marks
}

/// What the options say, or else what the package lends.
fn or_lent(option: Option<LitStr>, lent: impl FnOnce() -> Result<String>) -> Result<String> {
    option.map_or_else(lent, |text| Ok(text.value()))
}

#[cfg(test)]
mod tests;
