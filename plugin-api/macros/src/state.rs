//! The methods that take and restore snapshots, `#[snapshot]` and `#[restore]`.

use proc_macro2::Ident;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Error, Expr, ExprLit, ImplItemFn, Lit, Meta, MetaNameValue, Result, Token, Type,
    parse_quote,
};

use crate::errors::Errors;
use crate::signature::{Shape, bare, same_tokens};

/// What a method does with snapshots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Snapshot,
    Restore,
}

/// The methods of a plugin with state, each list with the highest version first.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) snapshots: Vec<Versioned>,
    pub(crate) restores: Vec<Versioned>,
}

pub(crate) struct Versioned {
    pub(crate) method: Ident,
    pub(crate) version: u32,
    /// What a snapshot of this version is.
    pub(crate) ty: Type,
}

/// The versions of all methods with a mark, also of those that cannot be called: a mistake in the
/// one that restores must not become a second one in the one that takes the snapshot.
#[derive(Default)]
pub(crate) struct Versions {
    known: Vec<(Kind, u32, Ident)>,
    unreadable: bool,
}

impl Kind {
    fn attribute(self) -> &'static str {
        match self {
            Kind::Snapshot => "#[snapshot]",
            Kind::Restore => "#[restore]",
        }
    }

    fn example(self, version: u32) -> String {
        let attribute = self.attribute().trim_end_matches(']');
        format!("{attribute}(version = {version})]")
    }

    fn form(self, method: &str) -> String {
        match self {
            Kind::Snapshot => format!("async fn {method}(&self, ctx: &Context) -> Result<S>"),
            Kind::Restore => {
                format!("async fn {method}(&self, ctx: &Context, saved: S) -> Result<()>")
            }
        }
    }

    fn shape(self, method: &Ident) -> Shape {
        let (params, returns) = match self {
            Kind::Snapshot => ("one parameter beside `self`", "Result<S>"),
            Kind::Restore => ("two parameters beside `self`", "Result<()>"),
        };
        Shape {
            what: self.attribute(),
            form: self.form(&method.to_string()),
            params,
            input: "the snapshot",
            output: "the snapshot",
            returns,
        }
    }
}

impl State {
    pub(crate) fn extend(&mut self, kind: Kind, read: Option<Versioned>) {
        let methods = match kind {
            Kind::Snapshot => &mut self.snapshots,
            Kind::Restore => &mut self.restores,
        };
        methods.extend(read);
        methods.sort_by_key(|method| std::cmp::Reverse(method.version));
    }
}

/// Reads a method with its mark, which is no longer among its own attributes.
///
/// `None` means that the mistakes, now in `errors`, leave nothing that could be called.
pub(crate) fn read(
    kind: Kind,
    method: &ImplItemFn,
    attr: &Attribute,
    versions: &mut Versions,
    errors: &mut Errors,
) -> Option<Versioned> {
    let sig = &method.sig;
    let version = errors.take(version(kind, attr));
    versions.add(kind, version, &sig.ident, errors);

    let shape = kind.shape(&sig.ident);
    shape.check_kind(sig, errors);
    shape.check_receiver(sig, errors);
    shape.check_conditions(&method.attrs, errors);
    let ty = match kind {
        Kind::Snapshot => {
            shape.check_context(sig, errors);
            shape.reply(sig, errors)
        }
        Kind::Restore => {
            let saved = shape.input(sig, errors);
            let nothing: Type = parse_quote!(());
            match shape.reply(sig, errors) {
                Some(given) if !same_tokens(bare(given), &nothing) => {
                    errors.at(given, "#[restore] gives nothing back: write `-> Result<()>`");
                }
                _ => {}
            }
            saved
        }
    };
    Some(Versioned { method: sig.ident.clone(), version: version?, ty: ty?.clone() })
}

/// The version is a literal, because it goes into the manifest.
fn version(kind: Kind, attr: &Attribute) -> Result<u32> {
    if matches!(attr.meta, Meta::Path(_)) {
        return Ok(1);
    }
    let arguments = attr.parse_args_with(Punctuated::<MetaNameValue, Token![,]>::parse_terminated);
    let arguments: Vec<_> = arguments.into_iter().flatten().collect();
    let [MetaNameValue { path, value, .. }] = arguments.as_slice() else {
        return Err(no_version(kind, attr));
    };
    match value {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) if path.is_ident("version") => {
            match number.base10_parse() {
                Ok(version) if version > 0 => Ok(version),
                _ => {
                    let message = format!("a version lies between 1 and {}", u32::MAX);
                    Err(Error::new_spanned(value, message))
                }
            }
        }
        _ => Err(no_version(kind, attr)),
    }
}

fn no_version(kind: Kind, attr: &Attribute) -> Error {
    let message = format!(
        "{} takes one version, a whole number: write `{}`",
        kind.attribute(),
        kind.example(2)
    );
    Error::new_spanned(attr, message)
}

impl Versions {
    fn add(&mut self, kind: Kind, version: Option<u32>, method: &Ident, errors: &mut Errors) {
        let Some(version) = version else {
            self.unreadable = true;
            return;
        };
        if let Some(first) = self.find(kind, version) {
            let does = match kind {
                Kind::Snapshot => "takes",
                Kind::Restore => "restores",
            };
            let message = format!(
                "`{first}` {does} snapshots of version {version} already: give `{method}` a version \
                 of its own, like `{}`",
                kind.example(version.saturating_add(1))
            );
            errors.at(method, message);
        }
        self.known.push((kind, version, method.clone()));
    }

    fn find(&self, kind: Kind, version: u32) -> Option<&Ident> {
        self.known.iter().find(|known| (known.0, known.1) == (kind, version)).map(|known| &known.2)
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (u32, &Ident)> {
        self.known.iter().filter(move |known| known.0 == kind).map(|known| (known.1, &known.2))
    }

    /// Refuses snapshots that nothing restores, and a plugin that only restores.
    pub(crate) fn check(&self, errors: &mut Errors) {
        if self.unreadable {
            return;
        }
        for (version, method) in self.of(Kind::Snapshot) {
            if self.find(Kind::Restore, version).is_none() {
                let message = format!(
                    "nothing restores the snapshots that `{method}` takes, of version {version}: add \
                     `{} {}`",
                    Kind::Restore.example(version),
                    Kind::Restore.form("restore")
                );
                errors.at(method, message);
            }
        }
        if let (None, Some((version, method))) =
            (self.of(Kind::Snapshot).next(), self.of(Kind::Restore).next())
        {
            let message = format!(
                "`{method}` has nothing to restore, because the plugin takes no snapshots: add \
                 `{} {}`",
                Kind::Snapshot.example(version),
                Kind::Snapshot.form("snapshot")
            );
            errors.at(method, message);
        }
    }
}

#[cfg(test)]
mod tests;
