//! What the signatures of handlers, of `initialize`, and of snapshots and restores have in common.

use quote::ToTokens;
use syn::{
    Attribute, FnArg, GenericArgument, Pat, PatType, Path, PathArguments, PathSegment, Receiver,
    ReceiverKind, ReturnType, Safety, Signature, Type,
};

use crate::errors::Errors;

/// Who a signature belongs to, for messages.
pub(crate) struct Shape {
    /// "a handler"
    pub(crate) what: &'static str,
    /// The whole signature as it should be.
    pub(crate) form: String,
    /// What to call its parameters: "two parameters beside `self`".
    pub(crate) params: &'static str,
    /// What to call the second one: "the payload".
    pub(crate) input: &'static str,
    /// What to call what it gives: "the reply".
    pub(crate) output: &'static str,
    /// What the return type should be.
    pub(crate) returns: &'static str,
}

impl Shape {
    /// Refuses what can be called in no way by the host: functions that are not async, unsafe,
    /// foreign or generic.
    pub(crate) fn check_kind(&self, sig: &Signature, errors: &mut Errors) {
        let Shape { what, form, .. } = self;
        if sig.asyncness.is_none() {
            errors.at(sig.fn_token, format!("{what} is async: write `{form}`"));
        }
        if !matches!(sig.safety, Safety::Default) {
            errors.at(&sig.safety, format!("{what} is a safe function: write `{form}`"));
        }
        if let Some(abi) = &sig.abi {
            errors.at(abi, format!("{what} is a plain Rust function: write `{form}`"));
        }
        if !sig.generics.params.is_empty() {
            let message =
                format!("{what} is not generic, the host calls it with one type: write `{form}`");
            errors.at(&sig.generics, message);
        } else if let Some(condition) = &sig.generics.where_clause {
            errors.at(condition, format!("{what} takes no `where` clause: write `{form}`"));
        }
    }

    /// Refuses a method that cannot be called beside others.
    pub(crate) fn check_receiver(&self, sig: &Signature, errors: &mut Errors) {
        let Shape { what, form, .. } = self;
        match sig.inputs.first() {
            Some(FnArg::Receiver(Receiver {
                kind: ReceiverKind::Reference(_, _, None), ..
            })) => {}
            Some(FnArg::Receiver(receiver)) => errors.at(
                receiver,
                format!(
                    "{what} takes `&self`, because calls run side by side; keep what changes in an \
                     atomic or a mutex and write `{form}`"
                ),
            ),
            Some(first) => errors.at(first, format!("{what} takes `&self` first: write `{form}`")),
            None => errors.at(&sig.ident, format!("{what} takes `&self` first: write `{form}`")),
        }
    }

    /// The manifest is written from the block as it stands here, where conditions are not yet
    /// decided.
    pub(crate) fn check_conditions(&self, attrs: &[Attribute], errors: &mut Errors) {
        let what = self.what;
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("cfg")) {
            let message = format!(
                "{what} is there in every build: put the condition inside the method, or on the \
                 whole #[plugin] block"
            );
            errors.at(attr, message);
        }
    }

    /// Checks the only parameter beside `self`, the context.
    pub(crate) fn check_context(&self, sig: &Signature, errors: &mut Errors) {
        let params: Vec<&PatType> = sig.inputs.iter().filter_map(typed).collect();
        match params.as_slice() {
            [ctx] => self.check_is_context(ctx, errors),
            params => self.refuse_params(sig, params.len(), errors),
        }
    }

    /// The type of the second parameter beside `self`; the first one is the context.
    pub(crate) fn input<'a>(&self, sig: &'a Signature, errors: &mut Errors) -> Option<&'a Type> {
        let input = self.second(sig, errors)?;
        self.check_owned(input, self.input, errors).then_some(input)
    }

    /// The same, for one that may be borrowed.
    pub(crate) fn second<'a>(&self, sig: &'a Signature, errors: &mut Errors) -> Option<&'a Type> {
        let params: Vec<&PatType> = sig.inputs.iter().filter_map(typed).collect();
        let [ctx, data] = params.as_slice() else {
            self.refuse_params(sig, params.len(), errors);
            return None;
        };
        if !is_context(&ctx.ty) && is_context(&data.ty) {
            let message = format!("the context comes before {}: write `{}`", self.input, self.form);
            errors.at(&ctx.ty, message);
            return None;
        }
        self.check_is_context(ctx, errors);
        Some(&*data.ty)
    }

    fn refuse_params(&self, sig: &Signature, found: usize, errors: &mut Errors) {
        let Shape { what, form, params, .. } = self;
        let message = format!("{what} takes {params}, found {found}: write `{form}`");
        // An empty list has no tokens that could be pointed at.
        if sig.inputs.is_empty() {
            errors.at(&sig.ident, message);
        } else {
            errors.at(&sig.inputs, message);
        }
    }

    fn check_is_context(&self, ctx: &PatType, errors: &mut Errors) {
        if !is_context(&ctx.ty) {
            let name = match &*ctx.pat {
                Pat::Ident(pat) => pat.ident.to_string(),
                _ => "ctx".into(),
            };
            let message = format!("the context comes by reference: write `{name}: &Context`");
            // Not that of another crate, such as a task's.
            let named = match bare(&ctx.ty) {
                Type::Reference(reference) => bare(&reference.elem),
                named => named,
            };
            let from = match named {
                Type::Path(path) if path.path.is_ident("Context") => "",
                _ => ", with `Context` from `ksi_plugin_api`",
            };
            errors.at(&ctx.ty, format!("{message}{from}"));
        }
    }

    /// The `T` of the return type `Result<T>`.
    pub(crate) fn reply<'a>(&self, sig: &'a Signature, errors: &mut Errors) -> Option<&'a Type> {
        let Shape { what, returns, output, .. } = self;
        let ReturnType::Type(_, found) = &sig.output else {
            errors.at(&sig.ident, format!("{what} returns `{returns}`: write `-> {returns}`"));
            return None;
        };
        let Some(reply) = result_of(found) else {
            let message = format!(
                "{what} returns `{returns}`, with `Result` from `ksi_plugin_api`: write `-> {returns}`"
            );
            errors.at(found, message);
            return None;
        };
        self.check_owned(reply, output, errors).then_some(reply)
    }

    fn check_owned(&self, ty: &Type, what: &str, errors: &mut Errors) -> bool {
        let problem = match bare(ty) {
            Type::Reference(_) => "is owned, not borrowed",
            Type::ImplTrait(_) => "is one type that can be named, not `impl ..`",
            Type::Infer(_) => "is one type that can be named, not `_`",
            _ => return true,
        };
        errors.at(ty, format!("{what} {problem}: write `{}`", self.form));
        false
    }
}

/// The type without the invisible groups and parentheses around it.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        other => other,
    }
}

/// Whether two pieces of code are the same tokens.
pub(crate) fn same_tokens(one: &impl ToTokens, other: &impl ToTokens) -> bool {
    one.to_token_stream().to_string() == other.to_token_stream().to_string()
}

fn typed(input: &FnArg) -> Option<&PatType> {
    match input {
        FnArg::Typed(param) => Some(param),
        FnArg::Receiver(_) => None,
    }
}

fn is_context(ty: &Type) -> bool {
    let Type::Reference(reference) = bare(ty) else { return false };
    let Type::Path(path) = bare(&reference.elem) else { return false };
    let plain = path.path.segments.last().is_some_and(|last| last.arguments.is_none());
    reference.mutability.is_none() && plain && last_is(&path.path, "Context")
}

/// Modules and crates with a `Result` of their own, whose error is not this one.
const OTHER_RESULTS: [&str; 6] = ["io", "fmt", "thread", "anyhow", "eyre", "color_eyre"];

fn result_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = bare(ty) else { return None };
    let before = path.path.segments.iter().rev().nth(1);
    let is_other = |module: &PathSegment| OTHER_RESULTS.iter().any(|other| module.ident == other);
    if !last_is(&path.path, "Result") || before.is_some_and(is_other) {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else {
        return None;
    };
    // A second argument would be an error type of the author's own, which the host cannot read.
    match (arguments.args.len(), arguments.args.first()?) {
        (1, GenericArgument::Type(ty)) => Some(ty),
        _ => None,
    }
}

pub(crate) fn last_is(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == name)
}

#[cfg(test)]
mod tests {
    use syn::{parse_quote, parse_str};

    use super::*;

    #[test]
    fn the_context_is_a_shared_reference() {
        for good in ["&Context", "&ksi_plugin_api::Context", "&(Context)", "&'_ Context"] {
            assert!(is_context(&parse_str(good).unwrap()), "{good}");
        }
        for bad in ["Context", "&mut Context", "&Arc<Context>", "&[Context]", "&task::Context<'_>"]
        {
            assert!(!is_context(&parse_str(bad).unwrap()), "{bad}");
        }
    }

    #[test]
    fn the_reply_is_the_only_argument_of_result() {
        let reply: Type = parse_quote!(Option<Greeted>);
        for good in ["Result<Option<Greeted>>", "ksi_plugin_api::Result<Option<Greeted>>"] {
            let ty: Type = parse_str(good).unwrap();
            assert!(same_tokens(result_of(&ty).unwrap(), &reply), "{good}");
        }
        let bad = ["Greeted", "Result", "Result<(), String>", "Option<Result<()>>", "Result<'a>"];
        for bad in bad.into_iter().chain(["io::Result<()>", "anyhow::Result<()>"]) {
            assert!(result_of(&parse_str(bad).unwrap()).is_none(), "{bad}");
        }
    }
}
