//! The package that a plugin stands in, which lends it a name and a version.

use proc_macro2::Span;
use syn::{Error, Result};

use crate::name::plugin_name_mistake;

pub(crate) struct Package {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    /// The crate of the package that is compiled; its library is called after it.
    pub(crate) crate_name: Option<String>,
}

impl Package {
    /// What cargo says about the package that is being compiled.
    pub(crate) fn being_built() -> Self {
        Self {
            name: std::env::var("CARGO_PKG_NAME").ok(),
            version: std::env::var("CARGO_PKG_VERSION").ok(),
            crate_name: std::env::var("CARGO_CRATE_NAME").ok(),
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

    /// The crate, or what stands for it where it is not cargo that builds.
    pub(crate) fn crate_name(&self, plugin: &str) -> String {
        self.crate_name.clone().unwrap_or_else(|| plugin.replace('-', "_"))
    }

    /// The symbol of the plugin's root module, which no other crate of a link has.
    pub(crate) fn header(&self, plugin: &str) -> String {
        let package = self.name.as_deref().unwrap_or(plugin);
        let version = self.version.as_deref().unwrap_or_default();
        let text = format!("ksi_plugin_{}_{package}_{version}", self.crate_name(plugin));
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
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
        Package { name: Some(name.into()), version: None, crate_name: None }
    }

    #[test]
    fn the_prefix_of_plugin_packages_is_removed() {
        assert_eq!(package("ksi-plugin-state").plugin_name().unwrap(), "state");
        assert_eq!(package("greeter").plugin_name().unwrap(), "greeter");
        assert_eq!(package("my-ksi-plugin-x").plugin_name().unwrap(), "my-ksi-plugin-x");
    }

    #[test]
    fn the_symbol_is_one_that_no_other_crate_has() {
        let of = |name: &str, version: &str, crate_name: &str| {
            let (name, version) = (Some(name.into()), Some(version.into()));
            Package { name, version, crate_name: Some(crate_name.into()) }.header("greeter")
        };
        assert_eq!(
            of("my-greeter", "0.1.0", "my_greeter"),
            "ksi_plugin_my_greeter_my_greeter_0_1_0"
        );
        let others = [of("a", "1.0.0", "a"), of("a", "1.1.0", "a"), of("b", "1.0.0", "a")];
        assert!(others[0] != others[1] && others[0] != others[2] && others[1] != others[2]);
        let unknown = Package { name: None, version: None, crate_name: None };
        assert_eq!(unknown.crate_name("my-greeter"), "my_greeter");
        assert_eq!(unknown.header("my-greeter"), "ksi_plugin_my_greeter_my_greeter_");
    }

    #[test]
    fn what_is_missing_must_be_written() {
        let nameless = package("ksi-plugin-").plugin_name().unwrap_err().to_string();
        assert!(nameless.ends_with("write `#[plugin(name = \"greeter\")]`"), "{nameless}");
        let versionless = package("a").plugin_version().unwrap_err().to_string();
        assert!(versionless.ends_with("write `#[plugin(version = \"1.0.0\")]`"), "{versionless}");
    }
}
