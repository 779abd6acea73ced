//! The options of `#[plugin(..)]` and `#[event_handler(..)]`.

use proc_macro2::{Ident, TokenStream};
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, ExprUnary, Lit, LitBool, LitStr, Path, Result, Token, Type, UnOp};

use crate::args::{self, Arg};
use crate::duration::parse_timeout;
use crate::errors::Errors;
use crate::name::{check_event_name, check_subscription, plugin_name_mistake};
use crate::renamed;

const PLUGIN_OPTIONS: [&str; 9] =
    ["name", "version", "runtime", "exclusive", "isolated", "trial", "emits", "requires", "crate"];

const HANDLER_OPTIONS: [&str; 3] = ["priority", "timeout", "blocking"];

const KNOWN_TO_PLUGIN: &str = "#[plugin] knows `name = \"..\"`, `version = \"..\"`, `runtime`, `exclusive`, \
     `isolated`, `trial = false`, `emits(..)`, `requires(..)` and `crate = path`";

const KNOWN_TO_HANDLER: &str = "#[event_handler] knows event names in quotes, \
     `priority = 10`, `timeout = \"5s\"` and `blocking`";

#[derive(Default)]
pub(crate) struct PluginOptions {
    /// What `ksi_plugin_api` is called here.
    pub(crate) api: Option<Path>,
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<LitStr>,
    pub(crate) runtime: bool,
    /// It holds something that two generations cannot hold at a time.
    pub(crate) exclusive: bool,
    /// It asks for a process of its own.
    pub(crate) isolated: bool,
    /// Whether the host may make an instance elsewhere first.
    pub(crate) trial: Option<LitBool>,
    pub(crate) emits: Vec<EventRef>,
    pub(crate) requires: Vec<Required>,
}

/// An event as an author refers to it.
pub(crate) enum EventRef {
    Name(LitStr),
    /// A type that carries the name.
    Type(Box<Type>),
}

/// An event that somebody has to handle.
pub(crate) struct Required {
    pub(crate) event: EventRef,
    /// What the plugin reads of the reply, if it says so.
    pub(crate) reply: Option<Type>,
}

#[derive(Default)]
pub(crate) struct HandlerOptions {
    pub(crate) subscriptions: Vec<LitStr>,
    pub(crate) priority: i32,
    /// 0 leaves it to the host.
    pub(crate) timeout_ms: u64,
    pub(crate) blocking: bool,
}

impl PluginOptions {
    pub(crate) fn read(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        let (mut runtime, mut exclusive, mut isolated) = (None, None, None);
        let (mut emits, mut requires) = (None, None);
        for arg in errors.take(args::of_tokens(tokens)).unwrap_or_default() {
            let read = match arg {
                Arg::Value(option, value) if option == "name" => plugin_name(&option, &value)
                    .and_then(|name| args::set(&mut options.name, &option, name)),
                Arg::Value(option, value) if option == "version" => plugin_version(&option, &value)
                    .and_then(|version| args::set(&mut options.version, &option, version)),
                Arg::Value(option, value) if option == "crate" => renamed::path(&value)
                    .and_then(|path| args::set(&mut options.api, &option, path)),
                Arg::Flag(option) if option == "runtime" => args::set(&mut runtime, &option, ()),
                Arg::Flag(option) if option == "exclusive" => {
                    args::set(&mut exclusive, &option, ())
                }
                Arg::Flag(option) if option == "isolated" => args::set(&mut isolated, &option, ()),
                Arg::Value(option, value) if option == "trial" => {
                    bool(&value).and_then(|value| args::set(&mut options.trial, &option, value))
                }
                Arg::List(option, list) if option == "emits" => {
                    listed(list, errors).and_then(|events| args::set(&mut emits, &option, events))
                }
                Arg::List(option, list) if option == "requires" => required(list, errors)
                    .and_then(|events| args::set(&mut requires, &option, events)),
                other => Err(unknown(&other, &PLUGIN_OPTIONS, KNOWN_TO_PLUGIN)),
            };
            errors.take(read);
        }
        options.runtime = runtime.is_some();
        options.exclusive = exclusive.is_some();
        options.isolated = isolated.is_some();
        options.emits = emits.unwrap_or_default();
        options.requires = requires.unwrap_or_default();
        options
    }
}

impl HandlerOptions {
    pub(crate) fn read(args: Vec<Arg>, errors: &mut Errors) -> Self {
        let mut subscriptions = Vec::new();
        let (mut priority, mut timeout_ms, mut blocking) = (None, None, None);
        for arg in args {
            let read = match arg {
                Arg::Text(name) => {
                    let checked = check_subscription(&name);
                    subscriptions.push(name);
                    checked
                }
                Arg::Value(option, value) if option == "priority" => {
                    integer(&value).and_then(|value| args::set(&mut priority, &option, value))
                }
                Arg::Value(option, value) if option == "timeout" => timeout(&option, &value)
                    .and_then(|value| args::set(&mut timeout_ms, &option, value)),
                Arg::Flag(option) if option == "blocking" => args::set(&mut blocking, &option, ()),
                other => Err(unknown(&other, &HANDLER_OPTIONS, KNOWN_TO_HANDLER)),
            };
            errors.take(read);
        }
        Self {
            subscriptions,
            priority: priority.unwrap_or_default(),
            timeout_ms: timeout_ms.unwrap_or_default(),
            blocking: blocking.is_some(),
        }
    }
}

fn plugin_name(option: &Ident, value: &Expr) -> Result<LitStr> {
    let name = args::text(option, value, "greeter")?;
    match plugin_name_mistake(&name.value()) {
        Some(mistake) => Err(Error::new(name.span(), mistake)),
        None => Ok(name),
    }
}

fn plugin_version(option: &Ident, value: &Expr) -> Result<LitStr> {
    let version = args::text(option, value, "1.0.0")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
    if version.value().is_empty() || !version.value().chars().all(allowed) {
        let message = "a version is made of ASCII letters, digits, `.`, `-`, `+` and `_`, like \
                       \"1.0.0\"";
        return Err(Error::new(version.span(), message));
    }
    Ok(version)
}

/// The events of `emits(..)`.
fn listed(list: TokenStream, errors: &mut Errors) -> Result<Vec<EventRef>> {
    let events = Punctuated::<EventRef, Token![,]>::parse_terminated.parse2(list)?;
    check_names(events.iter(), errors);
    Ok(events.into_iter().collect())
}

/// The events of `requires(..)`.
fn required(list: TokenStream, errors: &mut Errors) -> Result<Vec<Required>> {
    let events = Punctuated::<Required, Token![,]>::parse_terminated.parse2(list)?;
    check_names(events.iter().map(|required| &required.event), errors);
    Ok(events.into_iter().collect())
}

fn check_names<'a>(events: impl Iterator<Item = &'a EventRef>, errors: &mut Errors) {
    let mut named: Vec<String> = Vec::new();
    for event in events {
        let EventRef::Name(name) = event else { continue };
        errors.take(check_event_name(name));
        if named.contains(&name.value()) {
            errors.at(name, format!("`{}` is listed twice: write it once", name.value()));
        }
        named.push(name.value());
    }
}

impl Parse for Required {
    fn parse(input: ParseStream) -> Result<Self> {
        let event = input.parse()?;
        let reply = match input.parse::<Option<Token![->]>>()? {
            Some(arrow) => Some(input.parse().map_err(|_| {
                let message =
                    "expected the type that the reply is read as: write `requires(Get -> Reading)`";
                Error::new_spanned(arrow, message)
            })?),
            None => None,
        };
        Ok(Required { event, reply })
    }
}

impl Parse for EventRef {
    fn parse(input: ParseStream) -> Result<Self> {
        if input.peek(LitStr) {
            return Ok(EventRef::Name(input.parse()?));
        }
        input.parse().map(|ty| EventRef::Type(Box::new(ty))).map_err(|error| {
            let message = "expected an event: its name in quotes, or a type with #[event(..)]";
            Error::new(error.span(), message)
        })
    }
}

fn bool(value: &Expr) -> Result<LitBool> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Bool(value), .. }) => Ok(value.clone()),
        other => Err(Error::new_spanned(other, "`trial` takes `true` or `false`")),
    }
}

fn integer(value: &Expr) -> Result<i32> {
    let (sign, digits) = match value {
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => ("-", &**expr),
        other => ("", other),
    };
    let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = digits else {
        let message = "`priority` takes a whole number: write `priority = 10` or `priority = -10`";
        return Err(Error::new_spanned(value, message));
    };
    format!("{sign}{}", number.base10_digits()).parse().map_err(|_| {
        let message = format!("`priority` must lie between {} and {}", i32::MIN, i32::MAX);
        Error::new_spanned(value, message)
    })
}

fn timeout(option: &Ident, value: &Expr) -> Result<u64> {
    let text = args::text(option, value, "5s")?;
    parse_timeout(&text.value()).map_err(|mistake| Error::new(text.span(), mistake))
}

/// An option that does not exist, or one that is not written in its form.
fn unknown(arg: &Arg, options: &[&str], form: &str) -> Error {
    let option = match arg {
        Arg::Text(text) => {
            return Error::new(text.span(), format!("a string does not belong here: {form}"));
        }
        Arg::Flag(option) | Arg::Value(option, _) | Arg::List(option, _) => option,
    };
    let written = option.to_string();
    let message = match similar(&written, options) {
        Some(known) if known == written => format!("`{option}` is not written like this: {form}"),
        Some(known) => format!("`{option}` is no option, did you mean `{known}`? {form}"),
        None => format!("`{option}` is no option: {form}"),
    };
    Error::new(option.span(), message)
}

/// The option that was meant, if one is like what was written: the beginning of it, or it with a
/// slip or two.
fn similar<'a>(written: &str, options: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &str| match known.starts_with(written) && written.len() > 2 {
        true => 0,
        false => strsim::damerau_levenshtein(written, known),
    };
    let nearest = options.iter().copied().min_by_key(|known| distance(known))?;
    (distance(nearest) <= 2 && written.len() > 2).then_some(nearest)
}

#[cfg(test)]
mod tests;
