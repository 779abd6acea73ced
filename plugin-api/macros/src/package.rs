//! The package that a plugin stands in, which lends it a name and a version.

use proc_macro2::Span;
use syn::{Error, Result};

use crate::name::plugin_name_mistake;

pub(crate) struct Package {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
}

impl Package {
    /// What cargo says about the package that is being compiled.
    pub(crate) fn being_built() -> Self {
        Self {
            name: std::env::var("CARGO_PKG_NAME").ok(),
            version: std::env::var("CARGO_PKG_VERSION").ok(),
        }
    }

    /// The package's name less a leading `ksi-plugin-`.
    pub(crate) fn plugin_name(&self) -> Result<String> {
        let package = self.name.as_deref().unwrap_or_default();
        let name = package.strip_prefix("ksi-plugin-").unwrap_or(package);
        match plugin_name_mistake(name) {
            Some(mistake) => Err(here(&format!(
                "the package's name gives the plugin no name ({mistake}): write \
                 `#[plugin(name = \"greeter\")]`"
            ))),
            None => Ok(name.into()),
        }
    }

    pub(crate) fn plugin_version(&self) -> Result<String> {
        self.version.clone().ok_or_else(|| {
            here("the package has no version: write `#[plugin(version = \"1.0.0\")]`")
        })
    }
}

fn here(message: &str) -> Error {
    Error::new(Span::call_site(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package { name: Some(name.into()), version: None }
    }

    #[test]
    fn the_prefix_of_plugin_packages_is_removed() {
        assert_eq!(package("ksi-plugin-state").plugin_name().unwrap(), "state");
        assert_eq!(package("greeter").plugin_name().unwrap(), "greeter");
        assert_eq!(package("my-ksi-plugin-x").plugin_name().unwrap(), "my-ksi-plugin-x");
    }

    #[test]
    fn what_is_missing_must_be_written() {
        let nameless = package("ksi-plugin-").plugin_name().unwrap_err().to_string();
        assert!(nameless.ends_with("write `#[plugin(name = \"greeter\")]`"), "{nameless}");
        let versionless = package("a").plugin_version().unwrap_err().to_string();
        assert!(versionless.ends_with("write `#[plugin(version = \"1.0.0\")]`"), "{versionless}");
    }
}
